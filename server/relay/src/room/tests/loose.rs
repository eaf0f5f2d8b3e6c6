//! Loose cubes in a room, moved by mechanics so simple that a test knows what comes of them.

use std::sync::{Condvar, Mutex};

use cubesync_protocol::{CubePose, Width};
use tokio::sync::watch;

use super::*;
use crate::mechanics::{Create, FieldCube, Kept, LooseCube, Mechanics, Step, Stepped};
use crate::room::loose::steps_at_once;

/// Loose cubes slide east for so many ticks after a pusher was within a metre of them, or after they were let go.
const SLIDE_TICKS: u32 = 10;
/// How far in each tick after a push.
const SLIDE: i32 = 50;

/// Mechanics that know a single axis.
#[derive(Debug)]
struct Sliding(BTreeMap<CubeId, Slider>);

#[derive(Debug)]
struct Slider {
    pose: Pose,
    step: i32,
    ticks: u32,
    is_held: bool,
}

fn create(_: u8, cubes: &[LooseCube]) -> Box<dyn Mechanics> {
    let slider = |cube: &LooseCube| {
        let still = Slider {
            pose: cube.pose,
            step: 0,
            ticks: 0,
            is_held: false,
        };
        (cube.cube, still)
    };
    Box::new(Sliding(cubes.iter().map(slider).collect()))
}

impl Mechanics for Sliding {
    fn step(&mut self, step: &Step) -> Stepped {
        for cube in &step.released {
            let speed = cube.velocity.linear_mps[0] * METRE as f32 / f32::from(HZ);
            let slider = Slider {
                pose: cube.pose,
                step: speed.round() as i32,
                ticks: SLIDE_TICKS,
                is_held: false,
            };
            self.0.insert(cube.cube, slider);
        }
        let mut moved = Vec::new();
        for (&cube, slider) in &mut self.0 {
            slider.is_held = step.pushers.iter().any(|pusher| pusher.cube == cube);
            if slider.is_held {
                continue;
            }
            let is_near = |pusher: &crate::mechanics::Pusher| {
                pusher.pose.position.distance(slider.pose.position) < METRE as u64
            };
            if step.pushers.iter().any(is_near) {
                (slider.step, slider.ticks) = (SLIDE, SLIDE_TICKS);
            }
            if slider.ticks > 0 {
                slider.ticks -= 1;
                slider.pose.position.x += slider.step;
                slider.pose.position = slider.pose.position.clamped();
                let pose = slider.pose;
                moved.push(CubePose { cube, pose });
            }
        }
        let sleeps = |slider: &Slider| slider.is_held || slider.ticks == 0;
        let is_asleep = self.0.values().all(sleeps);
        Stepped { moved, is_asleep }
    }
}

/// Cubes in a row from the origin on, three metres apart.
fn field(count: i32) -> Field {
    let cube = |number: i32| FieldCube {
        width: Width::from_metres(0.5),
        colour: Colour::from([number as u8; 3]),
        pose: pose_at(3 * METRE * number),
    };
    Field {
        cubes: (0..count).map(cube).collect(),
        create: Some(create),
        kept: None,
    }
}

impl TestRoom {
    pub(super) fn with_field(view_distance_m: Option<u32>, seed: u64, cubes: i32) -> Self {
        Self::with(view_distance_m, seed, field(cubes))
    }

    fn with(view_distance_m: Option<u32>, seed: u64, field: Field) -> Self {
        let mut test = Self::new(view_distance_m, seed);
        let mut settings = test.room.connections.settings.clone();
        settings.field = Some(field);
        let (_, connections) = Connections::new(settings, Metrics::default());
        test.room = Room::new(connections);
        test
    }

    fn pose(&self, cube: CubeId) -> Pose {
        self.room.world.pose(cube).unwrap()
    }

    fn x(&self, cube: CubeId) -> i32 {
        self.pose(cube).position.x
    }

    fn ticks(&mut self, ticks: u64) {
        for _ in 0..ticks {
            let before = self.cubes();
            self.end_tick(&before);
        }
    }
}

#[test]
fn clients_see_loose_cubes_that_are_pushed_taken_and_thrown() {
    for (view_distance_m, seed) in [(None, 11), (Some(32), 12), (Some(64), 13)] {
        let mut test = TestRoom::with_field(view_distance_m, seed, 40);
        let before: Vec<_> = (0..40).map(|id| test.pose(CubeId(id))).collect();
        for _ in 0..6 {
            test.enter(None);
        }
        for step in 0..1_500 {
            if step % 100 == 0 {
                for (number, (position, _)) in (0..).zip(test.walks.values_mut()) {
                    *position = pose_at(3 * METRE * number).position;
                }
            }
            test.step();
        }
        let moved = (0..)
            .zip(before)
            .filter(|(id, before)| test.pose(CubeId(*id)) != *before);
        assert!(moved.count() > 5, "somebody has pushed some");
    }
}

/// Returns whether a player is farther from the origin than the cubes of a field were at first.
fn starts_beside(test: &TestRoom, player: CubeId, cubes: i32) -> bool {
    let Position { x, y, .. } = test.pose(player).position;
    f64::from(x).hypot(y.into()) > f64::from(3 * METRE * (cubes - 1))
}

#[test]
fn a_new_room_has_the_cubes_of_its_field_and_players_start_beside_them() {
    let mut test = TestRoom::with_field(None, 1, 8);
    let cubes: Vec<_> = test.room.world.cubes().collect();
    assert_eq!(cubes.len(), 8);
    for (cube, placed) in cubes.iter().zip(&*field(8).cubes) {
        assert_eq!(cube.kind, CubeKind::Free { holder: None });
        assert_eq!((cube.pose, cube.colour), (placed.pose, placed.colour));
        assert_eq!(cube.name, if cube.cube == FREE { "cube" } else { "" });
    }
    let player = test.enter_at(None, None);
    assert_eq!(player, CubeId(8));
    assert!(starts_beside(&test, player, 8));
}

#[test]
fn a_loose_cube_that_is_pushed_moves_a_tick_later_and_the_room_rests_when_it_has_stopped() {
    let mut test = TestRoom::with_field(None, 1, 3);
    let player = test.enter_at(None, None);
    test.ticks(3);
    let before = test.x(CubeId(1));
    let beside = pose_at(before - METRE / 2);
    test.say_pose(player, test.tick() + 1, (player, beside));
    test.ticks(1);
    assert_eq!(test.x(CubeId(1)), before, "the step runs");
    test.ticks(1);
    assert_eq!(test.x(CubeId(1)), before + SLIDE);
    test.ticks(30);
    assert!(test.x(CubeId(1)) >= before + SLIDE * SLIDE_TICKS as i32);
    assert_eq!(test.x(CubeId(2)), 6 * METRE);
    test.leave(player, Ending::Left);
    test.ticks(60);
    assert!(test.room.ticking.is_none());
}

#[test]
fn a_thrown_cube_goes_on_with_the_velocity_of_its_last_samples() {
    let mut test = TestRoom::with_field(None, 1, 3);
    let player = test.enter_at(None, None);
    test.ticks(1);
    let cube = CubeId(2);
    test.say(player, ClientMessage::Take { cube });
    for step in 1..=8 {
        let held = pose_at(6 * METRE + 100 * step);
        test.say_pose(player, test.tick() + 1, (cube, held));
        test.ticks(1);
        assert!(test.pose(cube).position.distance(held.position) <= 2);
    }
    test.say(player, ClientMessage::Release { cube });
    let released = test.x(cube);
    test.ticks(1);
    assert_eq!(test.x(cube), released);
    test.ticks(SLIDE_TICKS as u64 + 5);
    let way = test.x(cube) - released;
    assert!((way - 100 * SLIDE_TICKS as i32).abs() < 20, "{way}");
}

#[test]
fn several_players_hold_a_cube_each_and_nobody_holds_two() {
    let mut test = TestRoom::with_field(None, 1, 3);
    let [anna, boris] = [(); 2].map(|()| test.enter_at(None, None));
    let take = |test: &mut TestRoom, player, cube| {
        test.say(player, ClientMessage::Take { cube: CubeId(cube) });
    };
    take(&mut test, anna, 0);
    take(&mut test, boris, 1);
    take(&mut test, anna, 2);
    test.ticks(2);
    let kind = |id| test.room.world.cube(CubeId(id)).unwrap().kind;
    let held = |holder| CubeKind::Free { holder };
    assert_eq!(
        [0, 1, 2].map(kind),
        [held(Some(anna)), held(Some(boris)), held(None)]
    );
    let refused = ServerMessage::Refused {
        cube: CubeId(2),
        holder: None,
    };
    assert!(test.clients[&anna].heard.contains(&refused));
}

#[test]
fn loose_cubes_go_on_at_another_server_as_they_moved() {
    let mut test = TestRoom::with_field(None, 1, 4);
    let player = test.enter_at(None, None);
    test.ticks(1);
    let near = test.x(CubeId(1)) - METRE / 2;
    test.say_pose(player, test.tick() + 1, (player, pose_at(near)));
    test.ticks(6);
    let places = |test: &TestRoom| [0, 1, 2, 3].map(|id| test.pose(CubeId(id)).position);
    let before = places(&test);
    test.take_over(3);
    for (before, after) in before.into_iter().zip(places(&test)) {
        assert!(before.distance(after) <= 4, "{before:?} {after:?}");
    }
    test.ticks(4);
    let after = places(&test);
    assert!(after[1].x > before[1].x, "{before:?} {after:?}");
    for still in [0, 2, 3] {
        assert_eq!(before[still], after[still]);
    }
    assert_eq!(test.room.world.cube_count(), 5);
    let newcomer = test.enter_at(None, None);
    assert!(starts_beside(&test, newcomer, 4));
}

#[test]
fn loose_cubes_take_one_place_of_a_room_together() {
    let mut test = TestRoom::with_field(None, 1, 30);
    test.room.connections.settings.max_cubes = 3;
    let [_, _] = [(); 2].map(|()| test.enter_at(None, None));
    assert!(test.room.world.is_full(3) && !test.room.world.is_full(4));
}

/// Mechanics that fail.
#[derive(Debug)]
struct Failing;

impl Mechanics for Failing {
    fn step(&mut self, _: &Step) -> Stepped {
        panic!("the test asked for it");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_room_outlives_its_mechanics() {
    let mut settings = TestRoom::new(None, 1).room.connections.settings.clone();
    settings.field = Some(Field {
        create: Some(|_, _| Box::new(Failing)),
        ..field(2)
    });
    let mut test = TestRoom::new(None, 1);
    let (_, connections) = Connections::new(settings, Metrics::default());
    test.room = Room::new(connections);
    test.enter(None);
    let engine = |test: &TestRoom| test.room.loose.as_ref().unwrap().is_at_rest();
    test.ticks(1);
    assert!(!engine(&test), "a step runs");
    while !engine(&test) {
        let before = test.cubes();
        test.end_tick(&before);
        tokio::task::yield_now().await;
    }
    assert_eq!(test.room.world.cube_count(), 3);
}

/// Mechanics whose steps wait until the test opens the gate.
#[derive(Debug)]
struct Waiting;

/// Steps that run now, the most that ever ran at once, and whether they may end.
static GATE: (Mutex<(usize, usize, bool)>, Condvar) = (Mutex::new((0, 0, false)), Condvar::new());

impl Mechanics for Waiting {
    fn step(&mut self, _: &Step) -> Stepped {
        let mut steps = GATE.0.lock().unwrap();
        steps.0 += 1;
        steps.1 = steps.1.max(steps.0);
        let mut steps = GATE
            .1
            .wait_while(steps, |(_, _, is_open)| !*is_open)
            .unwrap();
        steps.0 -= 1;
        Stepped {
            moved: Vec::new(),
            is_asleep: true,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn rooms_have_no_more_steps_at_once_than_the_machine_has_processors() {
    let most = steps_at_once();
    let mut rooms: Vec<_> = (0..most + 4)
        .map(|seed| {
            let create: Option<Create> = Some(|_, _| Box::new(Waiting));
            TestRoom::with(None, seed as u64, Field { create, ..field(2) })
        })
        .collect();
    for room in &mut rooms {
        room.enter(None);
    }
    while GATE.0.lock().unwrap().0 < most {
        // A step begins at a tick, as soon as the mechanics are made.
        rooms.iter_mut().for_each(|room| room.ticks(1));
        tokio::task::yield_now().await;
    }
    GATE.0.lock().unwrap().2 = true;
    GATE.1.notify_all();
    for room in &mut rooms {
        while !room.room.loose.as_ref().unwrap().is_at_rest() {
            room.ticks(1);
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(GATE.0.lock().unwrap().1, most);
}

#[test]
fn a_room_notes_how_its_loose_cubes_are_and_the_next_one_begins_with_that() {
    let (kept, _) = watch::channel(Vec::new());
    let room = |kept: &Kept, seed| {
        let kept = Some(kept.clone());
        TestRoom::with(None, seed, Field { kept, ..field(3) })
    };
    let mut test = room(&kept, 1);
    let [pushed, held, untouched] = [0, 1, 2].map(CubeId);
    let began = [0, 1, 2].map(|id| test.pose(CubeId(id)));
    let player = test.enter_at(None, None);
    test.say(player, ClientMessage::Take { cube: held });
    test.say_pose(player, test.tick() + 1, (player, pose_at(-METRE / 2)));
    test.ticks(30 * u64::from(HZ) - 1);
    assert!(kept.borrow().is_empty(), "half a minute is not over");
    test.ticks(1);
    let noted = kept.borrow().clone();
    assert_eq!(noted.len(), 3);
    assert_ne!(noted[0].pose, began[0]);
    let poses = |test: &TestRoom| [pushed, held, untouched].map(|cube| test.pose(cube));
    assert_eq!(poses(&test), [0, 1, 2].map(|id| noted[id].pose));
    assert!(noted[1].velocity.is_some() && noted[2].velocity.is_none());

    // What changes later is noted at the end.
    test.say(player, ClientMessage::Release { cube: held });
    test.ticks(2);
    let mut next = room(&kept, 2);
    assert_eq!(poses(&next), [0, 1, 2].map(|id| noted[id].pose));
    let last = poses(&test);
    test.room.hand_over();
    assert_eq!(kept.borrow()[0].pose, last[0]);
    assert!(
        kept.borrow()[1].velocity.is_some(),
        "it may have begun to fall"
    );
    next = room(&kept, 2);
    assert_eq!(poses(&next), last);
    let player = next.enter_at(None, None);
    next.ticks(20);
    assert_eq!(poses(&next)[0], last[0]);

    // So is what a room comes to rest with.
    next.leave(player, Ending::Left);
    next.ticks(60);
    assert!(next.room.ticking.is_none());
    let noted: Vec<_> = kept.borrow().iter().map(|cube| cube.pose).collect();
    assert_eq!(noted, poses(&next));
}
