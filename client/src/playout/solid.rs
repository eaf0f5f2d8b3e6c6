//! Cubes as solids in space: how deep two of them overlap, and which way leads out.

use cubesync_protocol::interpolation::DrawnPose;

/// Lowest rise of a way out: loose cubes lie on something, so one that points down leads nowhere.
const LOWEST_RISE: f32 = -0.2;
/// Edges that are nearly parallel have no direction across both.
const PARALLEL: f32 = 1e-3;

/// A cube in space.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Solid {
    half_m: f32,
    centre_m: [f32; 3],
    /// The directions of its edges.
    axes: [[f32; 3]; 3],
}

impl Solid {
    /// Makes a cube of this edge length.
    pub fn new(width_m: f32, pose: &DrawnPose) -> Self {
        let [x, y, z, w] = pose.rotation;
        let axes = [
            [
                1.0 - 2.0 * (y * y + z * z),
                2.0 * (x * y + z * w),
                2.0 * (x * z - y * w),
            ],
            [
                2.0 * (x * y - z * w),
                1.0 - 2.0 * (x * x + z * z),
                2.0 * (y * z + x * w),
            ],
            [
                2.0 * (x * z + y * w),
                2.0 * (y * z - x * w),
                1.0 - 2.0 * (x * x + y * y),
            ],
        ];
        Self {
            half_m: width_m / 2.0,
            centre_m: pose.position,
            axes,
        }
    }

    /// Returns how deep two cubes overlap: by how much one must move until they only touch. What is apart has
    /// a negative depth, the least distance that is certain.
    ///
    /// Method: S. Gottschalk, M. Lin, D. Manocha, "OBBTree" (1996), the separating axes of two boxes.
    pub fn overlap_m(&self, other: &Self) -> f32 {
        let along = |axis| self.overlap_along_m(other, axis);
        let axes = self.separating_axes(other);
        axes.map(along).fold(f32::INFINITY, f32::min)
    }

    /// Returns the shortest way on which another cube leaves this one, and not downwards: its direction and its
    /// length.
    pub(super) fn way_out(&self, other: &Self) -> Option<([f32; 3], f32)> {
        let between = difference(other.centre_m, self.centre_m);
        let ways = self.separating_axes(other).map(|axis| {
            let outwards = 1.0_f32.copysign(dot(axis, between));
            (
                axis.map(|part| part * outwards),
                self.overlap_along_m(other, axis),
            )
        });
        let ways = ways.filter(|([.., rise], _)| *rise > LOWEST_RISE);
        ways.min_by(|(_, a), (_, b)| a.total_cmp(b))
    }

    /// Moves the cube.
    pub(super) fn shift(&mut self, way_m: [f32; 3]) {
        for (part, way) in self.centre_m.iter_mut().zip(way_m) {
            *part += way;
        }
    }

    pub(super) fn centre_m(&self) -> [f32; 3] {
        self.centre_m
    }

    /// Whether two cubes are so near that they may overlap.
    pub(super) fn is_near(&self, other: &Self) -> bool {
        // Half a cube's diagonal is 0.87 of its width.
        let reach_m = 1.74 * (self.half_m + other.half_m);
        let between = difference(other.centre_m, self.centre_m);
        dot(between, between) < reach_m * reach_m
    }

    /// Returns the directions of which one separates two cubes that are apart: across a face of either, or across an
    /// edge of each.
    fn separating_axes(&self, other: &Self) -> impl Iterator<Item = [f32; 3]> {
        let faces = self.axes.into_iter().chain(other.axes);
        let other_axes = other.axes;
        let edges = self.axes.into_iter();
        let edges = edges.flat_map(move |a| other_axes.map(|b| cross(a, b)));
        let edges = edges.filter_map(|across| {
            let length = dot(across, across).sqrt();
            (length > PARALLEL).then(|| across.map(|part| part / length))
        });
        faces.chain(edges)
    }

    fn overlap_along_m(&self, other: &Self, axis: [f32; 3]) -> f32 {
        let radius_m = |of: &Self| {
            let parts = of.axes.map(|edge| dot(edge, axis).abs());
            parts.iter().sum::<f32>() * of.half_m
        };
        let between = difference(other.centre_m, self.centre_m);
        radius_m(self) + radius_m(other) - dot(between, axis).abs()
    }
}

pub(super) fn dot(a: [f32; 3], b: [f32; 3]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

pub(super) fn difference(to: [f32; 3], from: [f32; 3]) -> [f32; 3] {
    std::array::from_fn(|axis| to[axis] - from[axis])
}

fn cross([ax, ay, az]: [f32; 3], [bx, by, bz]: [f32; 3]) -> [f32; 3] {
    [ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn solid(width_m: f32, position: [f32; 3], yaw_rad: f32) -> Solid {
        let (sine, cosine) = (yaw_rad / 2.0).sin_cos();
        let rotation = [0.0, 0.0, sine, cosine];
        Solid::new(width_m, &DrawnPose { position, rotation })
    }

    #[test]
    fn cubes_overlap_along_the_shortest_way() {
        let own = solid(1.0, [0.0, 0.0, 0.5], 0.0);
        for (other, overlap_m) in [
            (solid(1.0, [0.9, 0.2, 0.5], 0.0), 0.1),
            (solid(1.0, [1.5, 0.0, 0.5], 0.0), -0.5),
            (solid(2.0, [0.0, 1.25, 1.0], 0.0), 0.25),
            // On a corner.
            (
                solid(1.0, [1.1, 0.0, 0.5], std::f32::consts::FRAC_PI_4),
                0.1071,
            ),
        ] {
            assert!(
                (own.overlap_m(&other) - overlap_m).abs() < 1e-4,
                "{other:?}"
            );
        }
    }

    #[test]
    fn no_way_out_leads_down() {
        let own = solid(1.0, [0.0, 0.0, 1.4], 0.0);
        let (direction, length_m) = own.way_out(&solid(1.0, [0.3, 0.0, 0.5], 0.0)).unwrap();
        assert_eq!(direction, [1.0, 0.0, 0.0]);
        assert!((length_m - 0.7).abs() < 1e-6);
    }

    #[test]
    fn edges_that_cross_part_across_both() {
        let on_edge = |position, axis: usize| {
            let (sine, cosine) = std::f32::consts::FRAC_PI_8.sin_cos();
            let mut rotation = [0.0, 0.0, 0.0, cosine];
            rotation[axis] = sine;
            Solid::new(1.0, &DrawnPose { position, rotation })
        };
        let other = on_edge([0.0, 0.0, 1.35], 1);
        let (direction, length_m) = on_edge([0.0; 3], 0).way_out(&other).unwrap();
        assert!((direction[2] - 1.0).abs() < 1e-4, "{direction:?}");
        assert!(
            (length_m - (2.0_f32.sqrt() - 1.35)).abs() < 1e-4,
            "{length_m}"
        );
    }

    fn any_solid() -> impl Strategy<Value = Solid> {
        let rotation = prop::array::uniform4(-1.0_f32..1.0).prop_filter_map("a length", |parts| {
            let length = parts.iter().map(|part| part * part).sum::<f32>().sqrt();
            (length > 0.1).then(|| parts.map(|part| part / length))
        });
        (
            0.125_f32..4.0,
            prop::array::uniform3(-2.0_f32..2.0),
            rotation,
        )
            .prop_map(|(width_m, position, rotation)| {
                Solid::new(width_m, &DrawnPose { position, rotation })
            })
    }

    proptest! {
        #[test]
        fn the_way_out_leads_out(own in any_solid(), mut other in any_solid()) {
            prop_assert!((own.overlap_m(&other) - other.overlap_m(&own)).abs() < 1e-4);
            if !own.is_near(&other) {
                prop_assert!(own.overlap_m(&other) < 0.0);
            }
            if let Some((direction, length_m)) = own.way_out(&other) {
                prop_assert!(length_m >= own.overlap_m(&other) - 1e-4);
                other.shift(direction.map(|part| part * length_m));
                prop_assert!(own.overlap_m(&other) < 1e-4);
            }
        }

        /// A point inside both cubes is the proof that they overlap.
        #[test]
        fn cubes_with_a_common_point_overlap(
            own in any_solid(), other in any_solid(), inside in prop::array::uniform3(-1.0_f32..1.0),
        ) {
            let mut point = own.centre_m;
            for (axis, share) in own.axes.iter().zip(inside) {
                for (part, along) in point.iter_mut().zip(axis) {
                    *part += along * share * own.half_m;
                }
            }
            let from = difference(point, other.centre_m);
            if other.axes.iter().all(|axis| dot(*axis, from).abs() < other.half_m) {
                prop_assert!(own.overlap_m(&other) > -1e-5);
            }
        }
    }
}
