//! Scenes of loose cubes, and anything that players may do to them.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::collections::BTreeMap;

use cubesync_mechanics::{arrangement, create};
use cubesync_protocol::{CubeId, Pose, Position, Rotation, Width};
use cubesync_relay::mechanics::{LooseCube, Mechanics, Pusher, Step, Velocity};
use proptest::prelude::*;

const HZ: u8 = 30;
/// The end of a seeded scene with rapier3d 0.36.1, on x86-64.
const GOLDEN: u64 = 7_328_905_051_845_657_440;
/// The id of the first player's cube.
const PLAYERS: u64 = 10_000;

/// A room's loose cubes and where they are.
struct Scene {
    mechanics: Box<dyn Mechanics>,
    poses: BTreeMap<CubeId, Pose>,
    widths: BTreeMap<CubeId, Width>,
    is_asleep: bool,
}

impl Scene {
    fn new(cubes: &[LooseCube]) -> Self {
        Self {
            mechanics: create(HZ, cubes),
            poses: cubes.iter().map(|cube| (cube.cube, cube.pose)).collect(),
            widths: cubes.iter().map(|cube| (cube.cube, cube.width)).collect(),
            is_asleep: true,
        }
    }

    /// The cubes of a new room.
    fn room(count: usize) -> Self {
        let cubes = arrangement(count);
        let loose = (0..).zip(&cubes).map(|(id, cube)| LooseCube {
            cube: CubeId(id),
            width: cube.width,
            pose: cube.pose,
            velocity: Velocity::default(),
        });
        Self::new(&loose.collect::<Vec<_>>())
    }

    /// Returns the scene as another server would take it over: poses as they are published, and no more.
    fn taken_over(&self) -> Self {
        let loose = self.poses.iter().map(|(&cube, &pose)| LooseCube {
            cube,
            width: self.widths[&cube],
            pose,
            velocity: Velocity::default(),
        });
        Self::new(&loose.collect::<Vec<_>>())
    }

    /// Steps, and returns how far the fastest cube has moved, in metres.
    fn step(&mut self, pushers: &[Pusher]) -> f32 {
        self.step_with(&Step {
            pushers: pushers.to_vec(),
            ..Step::default()
        })
    }

    fn step_with(&mut self, step: &Step) -> f32 {
        let stepped = self.mechanics.step(step);
        self.is_asleep = stepped.is_asleep;
        let mut farthest = 0_u64;
        for moved in stepped.moved {
            assert!(moved.pose.position.is_in_bounds());
            let before = self.poses.insert(moved.cube, moved.pose).unwrap();
            farthest = farthest.max(before.position.distance(moved.pose.position));
        }
        farthest as f32 / 512.0
    }

    /// Steps until all sleep, and returns the number of ticks.
    fn settle(&mut self, pushers: &[Pusher]) -> usize {
        (1..2_000)
            .find(|_| {
                self.step(pushers);
                self.is_asleep
            })
            .expect("a heap comes to rest")
    }

    fn farthest_from(&self, other: &BTreeMap<CubeId, Pose>) -> f32 {
        let away = |(cube, pose): (&CubeId, &Pose)| pose.position.distance(other[cube].position);
        self.poses.iter().map(away).max().unwrap_or(0) as f32 / 512.0
    }
}

fn at(metres: [f32; 3]) -> Pose {
    Pose {
        position: Position::from_metres(metres),
        rotation: Rotation::IDENTITY,
    }
}

fn player(number: u64, metres: [f32; 3]) -> Pusher {
    Pusher {
        cube: CubeId(PLAYERS + number),
        width: Width::METRE,
        pose: at(metres),
    }
}

fn loose(id: u64, metres: [f32; 3]) -> LooseCube {
    LooseCube {
        cube: CubeId(id),
        width: Width::METRE,
        pose: at(metres),
        velocity: Velocity::default(),
    }
}

/// A heap that came about by falling.
fn heap(count: u64, seed: u64) -> Scene {
    let mut random = fastrand::Rng::with_seed(seed);
    let cubes: Vec<_> = (0..count)
        .map(|id| LooseCube {
            width: Width::from_metres(0.4 + 0.6 * random.f32()),
            velocity: Velocity {
                linear_mps: [random.f32() - 0.5, random.f32() - 0.5, -1.0],
                angular_radps: [random.f32(); 3],
            },
            ..loose(
                id,
                [
                    (id % 5) as f32 * 1.1 + random.f32() * 0.2,
                    (id / 5 % 5) as f32 * 1.1,
                    1.0 + (id / 25) as f32 * 1.2,
                ],
            )
        })
        .collect();
    let mut scene = Scene::new(&cubes);
    scene.settle(&[]);
    scene
}

#[test]
fn a_new_room_stays_as_it_is_arranged() {
    for count in [1, 60, 300] {
        let mut scene = Scene::room(count);
        let before = scene.poses.clone();
        for _ in 0..90 {
            scene.step(&[player(0, [100.0, 0.0, 0.5])]);
        }
        assert!(scene.is_asleep);
        assert_eq!(scene.farthest_from(&before), 0.0);
    }
}

#[test]
fn a_cube_in_the_air_falls_and_comes_to_rest_on_the_floor() {
    let moving = LooseCube {
        velocity: Velocity {
            linear_mps: [3.0, 0.0, 1.0],
            ..Velocity::default()
        },
        ..loose(0, [0.0, 0.0, 4.0])
    };
    let mut scene = Scene::new(&[moving]);
    let ticks = scene.settle(&[]);
    let [x, _, z] = scene.poses[&CubeId(0)].position.to_metres();
    assert!((z - 0.5).abs() < 0.01 && x > 1.0, "{x} {z} after {ticks}");
}

#[test]
fn a_player_who_walks_into_a_wall_knocks_it_over() {
    let mut scene = Scene::room(60);
    let before = scene.poses.clone();
    for tick in 0..90 {
        let y = 12.0 - tick as f32 * 0.2;
        scene.step(&[player(0, [0.0, y, 0.5])]);
    }
    scene.settle(&[player(0, [0.0, -6.0, 0.5])]);
    let fallen = scene
        .poses
        .iter()
        .filter(|(cube, pose)| pose.position.distance(before[cube].position) > 512 / 4);
    let fallen = fallen.count();
    assert!(fallen >= 15, "{fallen}");
}

#[test]
fn a_pushed_cube_keeps_clear_of_its_pusher() {
    let mut scene = Scene::new(&[loose(0, [2.0, 0.0, 0.5])]);
    for tick in 0..60 {
        let x = tick as f32 * 0.2;
        scene.step(&[player(0, [x, 0.0, 0.5])]);
        let [cube, ..] = scene.poses[&CubeId(0)].position.to_metres();
        // A cube that sleeps is touched in one step and moves in the next.
        let least = if tick < 10 { 0.88 } else { 0.97 };
        assert!(cube - x > least, "{cube} {x} at {tick}");
    }
}

#[test]
fn a_player_does_not_run_through_what_is_in_the_way_while_steps_are_late() {
    let mut scene = Scene::new(&[loose(0, [4.0, 0.0, 0.5])]);
    for step in 0..15 {
        // A run of 8 m/s, of which each third tick is seen.
        let x = step as f32 * 0.8;
        scene.step_with(&Step {
            pushers: vec![player(0, [x, 0.0, 0.5])],
            late_ticks: 2,
            ..Step::default()
        });
        let [cube, ..] = scene.poses[&CubeId(0)].position.to_metres();
        assert!(cube - x > 0.4, "{cube} {x} at {step}");
    }
    let [cube, ..] = scene.poses[&CubeId(0)].position.to_metres();
    assert!(cube > 14.0 * 0.8 + 0.9, "{cube}");
}

#[test]
fn a_player_who_lifts_the_lowest_cube_away_brings_the_others_down() {
    let tower: Vec<_> = (0..4)
        .map(|id| loose(id, [0.0, 0.0, 0.5 + id as f32]))
        .collect();
    let mut scene = Scene::new(&tower);
    let held = |tick: i32| Pusher {
        cube: CubeId(0),
        ..player(0, [tick as f32 * 0.2, 0.0, 0.5])
    };
    for tick in 0..30 {
        scene.step(&[held(tick)]);
    }
    scene.settle(&[held(30)]);
    let highest = scene.poses.values().map(|pose| pose.position.z).max();
    assert!(highest < Some(512 * 3), "{highest:?}");
}

#[test]
fn a_thrown_cube_flies_on_with_its_velocity_but_not_without_bound() {
    for (speed_mps, bound_m) in [(8.0, 8.0), (1e9, 30.0), (f32::NAN, 0.5)] {
        let mut scene = Scene::new(&[loose(0, [0.0, 0.0, 0.5])]);
        let pusher = Pusher {
            cube: CubeId(0),
            ..player(0, [0.0, 0.0, 2.0])
        };
        scene.step(&[pusher]);
        let thrown = LooseCube {
            velocity: Velocity {
                linear_mps: [speed_mps, 0.0, 0.0],
                angular_radps: [speed_mps; 3],
            },
            ..loose(0, [0.0, 0.0, 2.0])
        };
        let farthest = scene.step_with(&Step {
            released: vec![thrown],
            ..Step::default()
        });
        assert!(farthest <= bound_m / f32::from(HZ) + 2.1, "{farthest}");
        for _ in 0..10 {
            let farthest = scene.step(&[]);
            assert!(
                farthest <= bound_m / f32::from(HZ) * 1.2 + 0.1,
                "{farthest}"
            );
        }
    }
}

#[test]
fn a_resting_heap_stays_as_it_is_when_another_server_takes_it_over() {
    let first = heap(100, 7);
    let mut second = first.taken_over();
    for _ in 0..60 {
        second.step(&[player(0, [50.0, 0.0, 0.5])]);
    }
    assert_eq!(second.farthest_from(&first.poses), 0.0);

    // Nor does it burst when somebody touches it: it only gives way where it was touched.
    let mut first = first;
    let touch = [player(0, [-0.9, 0.0, 0.5])];
    first.settle(&touch);
    second.settle(&touch);
    let away = second.farthest_from(&first.poses);
    assert!(away < 0.5, "{away}");
}

#[test]
fn the_same_scene_ends_the_same_way() {
    let play = || {
        let mut scene = Scene::room(120);
        for tick in 0..150 {
            let way = tick as f32 * 0.2;
            scene.step(&[
                player(0, [0.0, 15.0 - way, 0.5]),
                player(1, [way - 15.0, 0.2, 0.5]),
            ]);
        }
        scene.poses
    };
    let poses = play();
    assert_eq!(poses, play());
    // Another number means that another engine, or another arrangement, makes other scenes of the same play.
    if cfg!(target_arch = "x86_64") {
        assert_eq!(digest(&poses), GOLDEN);
    }
}

/// FNV-1a over the numbers of all poses.
fn digest(poses: &BTreeMap<CubeId, Pose>) -> u64 {
    let numbers = poses.values().flat_map(|pose| {
        let Position { x, y, z } = pose.position;
        let rotation = u32::from_le_bytes(pose.rotation.into());
        [x as u32, y as u32, z as u32, rotation]
    });
    numbers.fold(0xCBF2_9CE4_8422_2325, |digest, number| {
        (digest ^ u64::from(number)).wrapping_mul(0x100_0000_01B3)
    })
}

#[test]
fn a_cube_between_a_player_and_the_edge_of_the_world_does_not_burst_out() {
    let mut scene = Scene::new(&[loose(0, [255.0, 0.0, 0.5])]);
    for tick in 0..120 {
        let x = (250.0 + tick as f32 * 0.2).min(255.5);
        let farthest = scene.step(&[player(0, [x, 0.0, 0.5])]);
        assert!(farthest < 0.5, "{farthest} at {tick}");
    }
}

/// Hostile players at the pile of a new room.
#[derive(Debug, Clone, Copy)]
enum Attack {
    /// The widest cubes are elsewhere at each tick.
    Teleport,
    /// They all stand in each other, inside the pile.
    Crowd,
    /// They move in the edge of the world, and out of it through the pile.
    Edge,
    /// They take cubes and throw them at each other tick.
    Juggle,
}

impl Attack {
    fn step(self, tick: u64, random: &mut fastrand::Rng) -> Step {
        let mut step = Step::default();
        for number in 0..30 {
            let anywhere = [0, 0].map(|_| 30.0 * (random.f32() - 0.5));
            let wide = |metres| Pusher {
                width: Width::from(u8::MAX),
                ..player(number, metres)
            };
            let pusher = match self {
                Self::Teleport => wide([anywhere[0], anywhere[1], 2.0]),
                Self::Crowd => player(number, [0.1, 7.0, 0.4]),
                Self::Edge => player(number, [256.0 - (tick % 3) as f32 * 128.0, 7.0, 0.0]),
                Self::Juggle if tick.is_multiple_of(2) => Pusher {
                    cube: CubeId(number),
                    ..player(number, [anywhere[0], anywhere[1], 4.0])
                },
                Self::Juggle => {
                    let thrown = LooseCube {
                        velocity: Velocity {
                            linear_mps: [1e9, -1e9, f32::MAX],
                            angular_radps: [f32::NEG_INFINITY; 3],
                        },
                        ..loose(number, [anywhere[0], anywhere[1], 4.0])
                    };
                    step.released.push(thrown);
                    continue;
                }
            };
            step.pushers.push(pusher);
        }
        step
    }
}

#[test]
fn hostile_players_scatter_a_pile_but_burst_nothing() {
    for attack in [
        Attack::Teleport,
        Attack::Crowd,
        Attack::Edge,
        Attack::Juggle,
    ] {
        let mut scene = Scene::room(120);
        let mut random = fastrand::Rng::with_seed(1);
        let before = scene.poses.clone();
        for tick in 0..90 {
            let step = attack.step(tick, &mut random);
            for thrown in &step.released {
                scene.poses.insert(thrown.cube, thrown.pose);
            }
            let farthest = scene.step_with(&step);
            // What a player has put somewhere at this tick moves from there.
            assert!(farthest <= 31.0 / f32::from(HZ), "{attack:?}: {farthest} m");
        }
        assert!(scene.farthest_from(&before) > 0.5, "{attack:?} did nothing");
        scene.settle(&[]);
        let sunk = scene.poses.values().filter(|pose| pose.position.z < 0);
        assert_eq!(sunk.count(), 0, "{attack:?}");
    }
}

fn pose() -> impl Strategy<Value = Pose> {
    let near = prop::array::uniform3(-8.0f32..8.0);
    let anywhere = prop::array::uniform3(-1e6f32..1e6);
    let quaternion = prop::array::uniform4(-1.0f32..1.0);
    (prop_oneof![4 => near, 1 => anywhere], quaternion).prop_map(|(metres, quaternion)| Pose {
        position: Position::from_metres(metres),
        rotation: Rotation::from_quaternion(quaternion),
    })
}

fn number() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => -20.0f32..20.0,
        1 => -1e9f32..1e9,
        1 => Just(f32::NAN),
        1 => Just(f32::INFINITY),
        1 => Just(f32::MIN),
    ]
}

fn velocity() -> impl Strategy<Value = Velocity> {
    let vector = || prop::array::uniform3(number());
    (vector(), vector()).prop_map(|(linear_mps, angular_radps)| Velocity {
        linear_mps,
        angular_radps,
    })
}

fn width() -> impl Strategy<Value = Width> {
    any::<u8>().prop_map(Width::from)
}

fn any_step() -> impl Strategy<Value = Step> {
    let late_ticks = prop_oneof![4 => Just(0), 1 => 0..10_u32, 1 => Just(u32::MAX)];
    let pusher = (
        prop_oneof![0..12_u64, PLAYERS..PLAYERS + 3],
        width(),
        pose(),
    );
    let released = (0..14_u64, width(), pose(), velocity());
    let pushers = prop::collection::vec(pusher, 0..5);
    let released = prop::collection::vec(released, 0..2);
    (pushers, released, late_ticks).prop_map(|(pushers, released, late_ticks)| Step {
        late_ticks,
        pushers: pushers
            .into_iter()
            .map(|(id, width, pose)| Pusher {
                cube: CubeId(id),
                width,
                pose,
            })
            .collect(),
        released: released
            .into_iter()
            .map(|(id, width, pose, velocity)| LooseCube {
                cube: CubeId(id),
                width,
                pose,
                velocity,
            })
            .collect(),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_players_do_cubes_stay_in_the_world_and_below_their_top_speed(
        cubes in prop::collection::vec((width(), pose(), velocity()), 0..12),
        steps in prop::collection::vec(any_step(), 1..40),
        hz in prop_oneof![Just(1_u8), Just(30), Just(128)],
    ) {
        let cubes: Vec<_> = (0..).zip(cubes).map(|(id, (width, pose, velocity))| LooseCube {
            cube: CubeId(id),
            width,
            pose,
            velocity,
        }).collect();
        let mut mechanics = create(hz, &cubes);
        let mut poses: BTreeMap<_, _> = cubes.iter().map(|cube| (cube.cube, cube.pose)).collect();
        for step in steps {
            let stepped = mechanics.step(&step);
            // Nobody asks how fast players put cubes somewhere.
            poses.retain(|&cube, _| step.released.iter().all(|placed| placed.cube != cube));
            for moved in stepped.moved {
                prop_assert!(moved.pose.position.is_in_bounds());
                if let Some(before) = poses.insert(moved.cube, moved.pose) {
                    let way_m = before.position.distance(moved.pose.position) as f32 / 512.0;
                    prop_assert!(way_m <= 31.0 / f32::from(hz) + 0.01, "{way_m} m in a tick");
                }
            }
            poses.retain(|&cube, _| step.pushers.iter().all(|placed| placed.cube != cube));
        }
    }
}
