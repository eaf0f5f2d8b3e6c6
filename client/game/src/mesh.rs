//! The scene's two shapes: a cube with bevelled edges, and a flat square.

/// Half of the cube's side, in metres.
const HALF_M: f32 = 0.5;
/// Width of the bevel on either side of an edge.
const BEVEL_M: f32 = 0.055;

/// Vertices as plain numbers, and triangles between them.
pub(crate) struct Geometry {
    /// Count of numbers in a vertex: 6 for a position and a normal, 2 for a flat position.
    pub(crate) numbers_per_vertex: usize,
    /// The numbers of one vertex after the other.
    pub(crate) vertices: Vec<f32>,
    /// The vertices' indices, three for each triangle.
    pub(crate) indices: Vec<u16>,
}

/// Builds a cube of 1 m with six numbers a vertex: position and normal.
///
/// Each face has four vertices of its own with the face's normal. Bevels and corners connect the
/// faces, so that the normals between them blend and the edges look round.
pub(crate) fn bevelled_cube() -> Geometry {
    let mut geometry = Geometry {
        numbers_per_vertex: 6,
        vertices: Vec::new(),
        indices: Vec::new(),
    };
    // The index of the vertex that the face across `axis` has at a corner. Bits 0, 1 and 2 of the
    // corner's index are its sides in x, y and z.
    let vertex = |axis: usize, corner: usize| (axis * 8 + corner) as u16;
    let side = |corner: usize, axis: usize| if corner >> axis & 1 == 1 { 1.0 } else { -1.0 };
    for axis in 0..3 {
        for corner in 0..8 {
            let reach = |other| {
                if other == axis {
                    HALF_M
                } else {
                    HALF_M - BEVEL_M
                }
            };
            let position = [0, 1, 2].map(|other| side(corner, other) * reach(other));
            let normal = [0, 1, 2].map(|other| {
                if other == axis {
                    side(corner, axis)
                } else {
                    0.0
                }
            });
            geometry.vertices.extend(position.into_iter().chain(normal));
        }
    }
    for axis in 0..3 {
        let (next, last) = ((axis + 1) % 3, (axis + 2) % 3);
        let corner = |a: usize, b: usize, c: usize| a << axis | b << next | c << last;
        for a in 0..2 {
            // The face across this axis on side a.
            let face = [(0, 0), (1, 0), (1, 1), (0, 1)].map(|(b, c)| vertex(axis, corner(a, b, c)));
            geometry.quad(face);
            for b in 0..2 {
                // The edge along the last axis, between the faces across this axis and the next.
                let edge = [(axis, 0), (next, 0), (next, 1), (axis, 1)];
                geometry.quad(edge.map(|(face, c)| vertex(face, corner(a, b, c))));
            }
        }
    }
    for corner in 0..8 {
        geometry
            .indices
            .extend([0, 1, 2].map(|axis| vertex(axis, corner)));
    }
    geometry
}

/// Builds a square from -1 to 1 with two numbers a vertex.
pub(crate) fn square() -> Geometry {
    Geometry {
        numbers_per_vertex: 2,
        vertices: vec![-1.0, -1.0, 1.0, -1.0, 1.0, 1.0, -1.0, 1.0],
        indices: vec![0, 1, 2, 0, 2, 3],
    }
}

impl Geometry {
    fn quad(&mut self, [a, b, c, d]: [u16; 4]) {
        self.indices.extend([a, b, c, a, c, d]);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn the_cube_is_closed_and_one_metre_wide() {
        let geometry = bevelled_cube();
        let mut edges: HashMap<[u16; 2], u32> = HashMap::new();
        for triangle in geometry.indices.chunks(3) {
            for (from, to) in [(0, 1), (1, 2), (2, 0)] {
                let mut edge = [triangle[from], triangle[to]];
                edge.sort_unstable();
                *edges.entry(edge).or_default() += 1;
            }
        }
        assert!(edges.values().all(|&triangles| triangles == 2), "{edges:?}");
        let widest = geometry
            .vertices
            .chunks(6)
            .map(|vertex| vertex[0].abs())
            .fold(0.0, f32::max);
        assert_eq!(widest, HALF_M);
    }
}
