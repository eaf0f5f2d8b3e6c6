//! How loose cubes move while a step of their mechanics takes longer than a tick: its outcome is spread over as many
//! ticks as it took, so that they move slowly but evenly instead of by leaps.

use std::collections::BTreeMap;

use cubesync_protocol::interpolation::line;
use cubesync_protocol::{CubeId, CubePose, Pose, Position, Rotation};

use super::world::World;

/// Part of its time by which a step is shown faster than the one before it, after one that took longer. The time that
/// steps take varies, and a cube that is where its step has put it waits for the next one.
const CATCH_UP: f32 = 0.02;
/// Longest time over which a step is spread, as a part of a second: the machine may have stood still.
const LONGEST: f32 = 0.25;

/// The ways of loose cubes to where the mechanics have put them.
#[derive(Debug)]
pub(super) struct Glide {
    longest_ticks: f32,
    /// Ticks over which a step is spread; 1 while steps keep up.
    step_ticks: f32,
    /// Ticks until all cubes have arrived.
    left_ticks: f32,
    /// Where cubes go that have not arrived, and the tick after which the step began that has put them there.
    targets: BTreeMap<CubeId, (u64, Pose)>,
}

impl Glide {
    pub(super) fn new(tick_hz: u8) -> Self {
        Self {
            longest_ticks: (f32::from(tick_hz) * LONGEST).max(1.0),
            step_ticks: 1.0,
            left_ticks: 0.0,
            targets: BTreeMap::new(),
        }
    }

    /// Begins the ways to the outcome of a step, which began after a tick and took so many.
    pub(super) fn begin(&mut self, began: u64, took_ticks: u32, moved: &[CubePose]) {
        let took_ticks = (took_ticks as f32).clamp(1.0, self.longest_ticks);
        self.step_ticks = match self.is_over() {
            true => took_ticks,
            false => took_ticks.max(self.step_ticks * (1.0 - CATCH_UP)),
        };
        self.left_ticks = self.step_ticks;
        let moved = moved.iter().map(|it| (it.cube, (began, it.pose)));
        self.targets.extend(moved);
    }

    /// Moves cubes on by a tick.
    pub(super) fn tick(&mut self, world: &mut World) {
        let is_last = self.left_ticks <= 1.0;
        for (&cube, &(began, target)) in &self.targets {
            let pose = match world.pose(cube) {
                Some(shown) if !is_last => between(shown, target, self.left_ticks),
                _ => target,
            };
            world.settle(began, &[CubePose { cube, pose }]);
        }
        self.left_ticks -= 1.0;
        if is_last {
            self.targets.clear();
        }
    }

    /// Returns whether all cubes have arrived.
    pub(super) fn is_over(&self) -> bool {
        self.targets.is_empty()
    }
}

/// Returns where a cube is after a tick of the way that is left.
fn between(shown: Pose, target: Pose, left_ticks: f32) -> Pose {
    let drawn = line([shown.into(), target.into()], left_ticks, 1.0 / left_ticks);
    Pose {
        position: Position::from_metres(drawn.position),
        rotation: Rotation::from_quaternion(drawn.rotation),
    }
}

#[cfg(test)]
mod tests {
    use cubesync_protocol::{Colour, Width};

    use super::*;
    use crate::mechanics::FieldCube;
    use crate::room::speed::SpeedRule;
    use crate::room::testing::pose_at;

    const CUBE: CubeId = CubeId(0);
    /// The way of a cube in a step.
    const STEP: i32 = 600;

    fn world() -> World {
        let mut world = World::new(30, None);
        world.scatter(&[FieldCube {
            width: Width::METRE,
            colour: Colour::from([1, 2, 3]),
            pose: pose_at(0),
        }]);
        world
    }

    /// Returns how far a cube gets in each tick, if one step after the other takes so many ticks.
    fn ways(steps: impl IntoIterator<Item = u32>) -> Vec<i32> {
        let (mut world, mut glide) = (world(), Glide::new(30));
        let (mut x, mut ways) = (0, Vec::new());
        for step_ticks in steps {
            x += STEP;
            for tick in 1..=step_ticks {
                if tick == step_ticks {
                    let moved = [CubePose {
                        cube: CUBE,
                        pose: pose_at(x),
                    }];
                    glide.begin(1, step_ticks, &moved);
                }
                let before = world.pose(CUBE).unwrap().position.x;
                glide.tick(&mut world);
                ways.push(world.pose(CUBE).unwrap().position.x - before);
            }
        }
        ways
    }

    #[test]
    fn a_step_that_is_in_time_is_shown_at_once() {
        assert_eq!(ways([1; 5]), [STEP; 5]);
    }

    #[test]
    fn steps_of_several_ticks_are_spread_over_them() {
        let ways = ways([4; 10]);
        assert_eq!(ways[..3], [0; 3]);
        assert_eq!(ways[3..], [STEP / 4; 37]);
    }

    #[test]
    fn no_cube_stops_or_leaps_while_steps_take_now_more_ticks_and_now_fewer() {
        let steps = [3, 4, 3, 3, 4, 2, 3, 4, 3, 2, 3, 3, 4, 3];
        let even = STEP / 6..STEP / 2;
        for way in &ways(steps)[8..] {
            assert!(even.contains(way), "{way}");
        }
    }

    #[test]
    fn cubes_catch_up_after_a_late_step_without_a_leap() {
        for late in [2, 5, 900] {
            let steps = [1, 1, late].into_iter().chain([1; 140]);
            let after = ways(steps).split_off(2 + late as usize);
            assert!(after.iter().all(|way| *way < STEP * 5 / 4), "{after:?}");
            assert_eq!(after[120..], [STEP; 20]);
        }
    }

    #[test]
    fn a_cube_that_somebody_takes_on_its_way_is_theirs() {
        let (mut world, mut glide) = (world(), Glide::new(30));
        let colour = Colour::from([1, 2, 3]);
        let player = world
            .join("Anna", colour, SpeedRule::TopSpeed, None)
            .unwrap();
        let moved = [CubePose {
            cube: CUBE,
            pose: pose_at(STEP),
        }];
        glide.begin(1, 4, &moved);
        glide.tick(&mut world);
        world.tick(2);
        world.take(player, CUBE).unwrap();
        let taken = world.pose(CUBE);
        glide.tick(&mut world);
        assert_eq!(world.pose(CUBE), taken);
        // Where its holder lets it go, it stays until a step says otherwise that knows of it.
        world.release(player, CUBE);
        glide.tick(&mut world);
        glide.tick(&mut world);
        assert_eq!(world.pose(CUBE), taken);
        assert!(glide.is_over());
    }
}
