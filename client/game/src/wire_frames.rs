//! The cubes' newest poses from the server, without the playout delay, as wire frames over the
//! scene.

use cubesync_client::{Client, CubeView};
use macroquad::math::{Quat, Vec2, Vec3};

use crate::camera::CameraView;
use crate::canvas::Canvas;
use crate::theme;

/// Distance beyond which no wire frame is drawn: its lines would run together.
const FARTHEST_M: f32 = 80.0;

/// Draws a wire frame for each cube.
pub(crate) fn show(canvas: &Canvas, view: &CameraView, client: &Client, cubes: &[CubeView<'_>]) {
    for cube in cubes {
        let Some(pose) = client.server_pose(cube.cube) else {
            continue;
        };
        let centre = Vec3::from(pose.position.to_metres());
        if centre.distance(view.eye) > FARTHEST_M {
            continue;
        }
        let rotation = Quat::from_array(pose.rotation.to_quaternion());
        let seen = corners().map(|corner| view.project(centre + rotation * corner));
        for (from, to) in edges() {
            if let (Some(from), Some(to)) = (place(seen[from]), place(seen[to])) {
                canvas.line(from, to, 1.5, theme::faded(theme::TEXT, 0.9));
            }
        }
    }
}

fn place(seen: Option<(Vec2, f32)>) -> Option<Vec2> {
    seen.map(|(place, _)| place)
}

/// Returns a cube's corners. Bits 0, 1 and 2 of a corner's index are its sides in x, y and z.
fn corners() -> [Vec3; 8] {
    let side = |corner: usize, axis: usize| (corner >> axis & 1) as f32 - 0.5;
    std::array::from_fn(|corner| Vec3::from([0, 1, 2].map(|axis| side(corner, axis))))
}

/// Returns a cube's edges, each as the indices of two corners that differ in one axis.
fn edges() -> impl Iterator<Item = (usize, usize)> {
    (0..8).flat_map(|corner| {
        let others = [1, 2, 4].map(|axis| corner | axis);
        let others = others.into_iter().filter(move |&other| other != corner);
        others.map(move |other| (corner, other))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wire_frame_has_twelve_edges_of_one_metre() {
        let corners = corners();
        let lengths: Vec<_> = edges()
            .map(|(from, to)| corners[from].distance(corners[to]))
            .collect();
        assert_eq!(lengths, [1.0; 12]);
    }
}
