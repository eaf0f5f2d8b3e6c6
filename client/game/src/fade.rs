//! Fades cubes in and out as they come into sight and go out of it.

use std::collections::BTreeMap;

use cubesync_client::protocol::CubeId;

use crate::renderer::SceneCube;

/// Time that a cube takes to appear or disappear.
const FADE_S: f32 = 0.2;

/// The cubes that were drawn last, and the share of each cube's opacity.
#[derive(Debug, Default)]
pub(crate) struct Fades {
    cubes: BTreeMap<CubeId, (SceneCube, f32)>,
}

impl Fades {
    /// Advances by `dt_s` with these cubes in sight, and returns the cubes to draw.
    pub(crate) fn step(
        &mut self,
        in_sight: impl Iterator<Item = (CubeId, SceneCube)>,
        dt_s: f32,
    ) -> Vec<SceneCube> {
        let change = dt_s / FADE_S;
        for (_, share) in self.cubes.values_mut() {
            *share -= change;
        }
        for (cube, seen) in in_sight {
            let (drawn, share) = self.cubes.entry(cube).or_insert((seen, -change));
            *drawn = seen;
            *share = (*share + 2.0 * change).min(1.0);
        }
        self.cubes.retain(|_, (_, share)| *share > 0.0);
        let faded = |&(cube, share): &(SceneCube, f32)| SceneCube {
            opacity: cube.opacity * share,
            ..cube
        };
        self.cubes.values().map(faded).collect()
    }
}

#[cfg(test)]
mod tests {
    use macroquad::math::{Quat, Vec3};

    use super::*;

    #[test]
    fn a_cube_fades_in_stays_and_fades_out() {
        let cube = SceneCube {
            position: Vec3::ZERO,
            rotation: Quat::IDENTITY,
            width_m: 1.0,
            colour: Vec3::ONE,
            glow: 0.0,
            ring: 0.0,
            opacity: 0.5,
            blink: None,
        };
        let mut fades = Fades::default();
        let mut opacities = |is_in_sight: bool| {
            let in_sight = is_in_sight.then_some((CubeId(7), cube)).into_iter();
            let drawn = fades.step(in_sight, FADE_S / 4.0);
            drawn.iter().map(|cube| cube.opacity).collect::<Vec<_>>()
        };
        for expected in [0.125, 0.25, 0.375, 0.5, 0.5, 0.5] {
            assert_eq!(opacities(true), [expected]);
        }
        for expected in [0.375, 0.25, 0.125] {
            assert_eq!(opacities(false), [expected]);
        }
        assert_eq!(opacities(false), []);
    }
}
