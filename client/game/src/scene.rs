//! Turns the client library's cubes into cubes to draw.

use std::f32::consts::TAU;

use cubesync_client::CubeView;
use cubesync_client::protocol::{Colour, CubeKind};
use macroquad::math::{Quat, Vec2, Vec3, vec3};

use crate::renderer::SceneCube;
use crate::theme::PALETTE;

/// Colour of a free cube that nobody holds.
const GOLD: Vec3 = vec3(1.0, 0.72, 0.22);
/// Share of the holder's colour in the colour of a held cube.
const HOLDERS_SHARE: f32 = 0.75;
/// The light of the cube that would be taken.
const MARKED_GLOW: f32 = 0.35;
const STALE_OPACITY: f32 = 0.35;

/// Returns the cubes of a room as they are to be drawn.
pub(crate) fn scene(cubes: &[CubeView<'_>]) -> Vec<SceneCube> {
    cubes.iter().map(|cube| scene_cube(cube, cubes)).collect()
}

fn scene_cube(view: &CubeView<'_>, cubes: &[CubeView<'_>]) -> SceneCube {
    let cube = SceneCube {
        position: view.position.into(),
        rotation: Quat::from_array(view.rotation),
        width_m: view.width_m,
        colour: rgb(view.colour),
        glow: 0.0,
        ring: 0.0,
        opacity: if view.stale { STALE_OPACITY } else { 1.0 },
        blink: (view.kind == CubeKind::Player).then(|| blink(view.cube.0)),
    };
    match view.kind {
        CubeKind::Player | CubeKind::Ghost => cube,
        // One of many loose ones. The one with a name is "the cube".
        CubeKind::Free { holder: None } if view.name.is_empty() => cube,
        CubeKind::Free { holder: None } => SceneCube {
            colour: GOLD,
            glow: 0.55,
            ring: 1.0,
            ..cube
        },
        CubeKind::Free { holder } => {
            let by = cubes.iter().find(|cube| Some(cube.cube) == holder);
            let own = if view.name.is_empty() {
                cube.colour
            } else {
                GOLD
            };
            let tint = by.map_or(own, |by| rgb(by.colour));
            SceneCube {
                colour: own.lerp(tint, HOLDERS_SHARE),
                glow: 0.40,
                ring: 0.35,
                ..cube
            }
        }
    }
}

/// Returns a cube so that a person sees that it is the one to take.
pub(crate) fn marked(cube: SceneCube) -> SceneCube {
    SceneCube {
        glow: cube.glow.max(MARKED_GLOW),
        ring: 1.0,
        ..cube
    }
}

/// Returns the playing cubes behind the join screen.
pub(crate) fn showcase(time_s: f32) -> Vec<SceneCube> {
    let player = |(index, &colour): (usize, &Colour)| {
        let place = index as f32 / PALETTE.len() as f32;
        let angle = place * TAU + time_s * 0.22;
        let radius = 5.2 + 1.6 * (time_s * 0.31 + place * 19.0).sin();
        let hop = (time_s * 2.3 + place * 37.0).sin().max(0.0) * ((index * 7) % 3) as f32 * 0.8;
        SceneCube {
            position: (Vec2::from_angle(angle) * radius).extend(0.5 + hop),
            rotation: Quat::from_rotation_z(angle + TAU / 4.0),
            width_m: 1.0,
            colour: rgb(colour),
            glow: 0.0,
            ring: 0.0,
            opacity: 1.0,
            blink: Some(blink(index as u64)),
        }
    };
    let free = SceneCube {
        position: vec3(0.0, 0.0, 0.5),
        rotation: Quat::from_rotation_z(0.5),
        width_m: 1.0,
        colour: GOLD,
        glow: 0.55,
        ring: 1.0,
        opacity: 1.0,
        blink: None,
    };
    PALETTE
        .iter()
        .enumerate()
        .map(player)
        .chain([free])
        .collect()
}

/// Returns when in its period a cube blinks, so that no two neighbours blink together. Only the
/// low part of the id counts, because a large number would lose it as `f32`.
fn blink(id: u64) -> f32 {
    ((id % 1_024) as f32 * 0.618).fract()
}

fn rgb(colour: Colour) -> Vec3 {
    <[u8; 3]>::from(colour)
        .map(|part| f32::from(part) / 255.0)
        .into()
}

#[cfg(test)]
mod tests {
    use cubesync_client::protocol::CubeId;

    use super::*;

    fn view(id: u64, kind: CubeKind, stale: bool) -> CubeView<'static> {
        CubeView {
            cube: CubeId(id),
            kind,
            name: "",
            colour: Colour::from([0, 0, 255]),
            width_m: 1.0,
            position: [1.0, 2.0, 3.0],
            rotation: [0.0, 0.0, 0.0, 1.0],
            own: false,
            stale,
        }
    }

    #[test]
    fn the_cube_glows_a_held_one_takes_its_holders_colour_and_a_loose_one_does_neither() {
        let free = CubeView {
            name: "the cube",
            ..view(0, CubeKind::Free { holder: None }, false)
        };
        let held = view(
            1,
            CubeKind::Free {
                holder: Some(CubeId(2)),
            },
            false,
        );
        let holder = view(2, CubeKind::Player, false);
        let loose = view(3, CubeKind::Free { holder: None }, false);
        let scene = scene(&[free, held, holder, loose]);
        assert!(scene[0].glow > scene[1].glow && scene[1].glow > scene[2].glow);
        assert!(scene[1].colour.z > scene[1].colour.x && scene[0].colour.x > scene[0].colour.z);
        assert!(scene[2].blink.is_some() && scene[0].blink.is_none());
        assert_eq!((scene[3].glow, scene[3].colour), (0.0, vec3(0.0, 0.0, 1.0)));
    }

    #[test]
    fn a_stale_cube_is_faint() {
        let scene = scene(&[
            view(1, CubeKind::Player, true),
            view(2, CubeKind::Player, false),
        ]);
        assert!(scene[0].opacity < scene[1].opacity);
    }
}
