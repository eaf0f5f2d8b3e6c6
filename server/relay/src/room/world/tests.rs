use cubesync_protocol::uplink::{grace_ticks, heartbeat_ticks};
use cubesync_protocol::{CubePose, ServerMessage};
use proptest::prelude::*;

use super::*;
use crate::room::testing::{SampleWriter, pose_at};

const FREE: CubeId = CubeId(0);
const COLOUR: Colour = Colour {
    red: 1,
    green: 2,
    blue: 3,
};

/// A world, and what its players' clients have said.
struct TestWorld {
    world: World,
    writers: BTreeMap<CubeId, SampleWriter>,
}

impl TestWorld {
    /// 30 ticks a second, 40 m/s.
    fn new() -> Self {
        let mut world = World::new(30, Some(40 * 512));
        world.tick(0);
        Self {
            world,
            writers: BTreeMap::new(),
        }
    }

    fn join(&mut self, name: &str) -> CubeId {
        let cube = self
            .world
            .join(name, COLOUR, SpeedRule::TopSpeed, None)
            .unwrap();
        self.writers.insert(cube, SampleWriter::default());
        cube
    }

    fn pose(&self, cube: CubeId) -> Pose {
        self.world.pose(cube).unwrap()
    }

    /// A player says where a cube is at a tick.
    fn say(&mut self, player: CubeId, tick: u64, cube: CubeId, pose: Pose) {
        let writer = self.writers.get_mut(&player).unwrap();
        let (placed, residuals) = writer.sample(tick, cube, pose);
        let said = self.world.sample(player, tick, &placed, &residuals);
        said.unwrap();
    }

    /// Moves a cube from where it is, by a sample of the next tick.
    fn step(&mut self, player: CubeId, cube: CubeId, x: i32) -> Pose {
        let mut pose = self.pose(cube);
        pose.position.x += x;
        self.say(player, self.world.tick + 1, cube, pose);
        pose
    }

    /// A cube runs at 100 quanta a tick, and its player says so at each.
    fn run(&mut self, player: CubeId, cube: CubeId, ticks: u32) {
        for _ in 0..ticks {
            self.step(player, cube, 100);
            self.tick();
        }
    }

    fn tick(&mut self) -> Changes {
        self.world.tick(self.world.tick + 1)
    }

    fn events(&mut self) -> Vec<Event> {
        self.tick().events
    }

    /// Takes the corrections: player, tick of the refused sample, and where the cube is.
    fn corrections(&mut self) -> Vec<(CubeId, u64, CubePose)> {
        let corrections = self.world.corrections().into_iter();
        let told = |(player, message)| match message {
            ServerMessage::Correction { tick, corrected } => (player, tick, corrected),
            other => panic!("{other:?}"),
        };
        corrections.map(told).collect()
    }
}

#[test]
fn a_cube_moves_on_as_predicted_without_further_samples() {
    let mut test = TestWorld::new();
    let anna = test.join("Anna");
    test.tick();
    test.run(anna, anna, 8);
    let start = test.pose(anna).position.x;
    for tick in 1..=6 {
        assert_eq!(test.tick().touched, [anna]);
        let x = test.pose(anna).position.x;
        assert!((x - start - 100 * tick).abs() <= 8, "{x} at {tick}");
    }
    assert_eq!(test.world.take_sample_counts().missing, 0);
}

#[test]
fn a_moving_cube_stands_after_half_a_second_of_silence_until_a_heartbeat() {
    let mut test = TestWorld::new();
    let anna = test.join("Anna");
    test.tick();
    test.run(anna, anna, 8);
    let said = test.world.tick;
    while test.tick().touched.contains(&anna) {}
    let stood = test.pose(anna);
    assert_eq!(test.world.tick, said + grace_ticks(30) + 2);
    // It lacked a word for longer than a heartbeat, until it stood.
    let missing = grace_ticks(30) + 1 - heartbeat_ticks(30);
    assert_eq!(test.world.take_sample_counts().missing, missing);

    let tick = test.world.tick + 1;
    test.world.sample(anna, tick, &[], &[]).unwrap();
    test.tick();
    assert!(test.pose(anna).position.x > stood.position.x);
}

#[test]
fn a_late_sample_puts_the_cube_where_it_must_be_by_now() {
    let mut test = TestWorld::new();
    let anna = test.join("Anna");
    test.tick();
    test.run(anna, anna, 20);
    let tick = test.world.tick;
    let before = test.pose(anna);
    test.tick();
    test.tick();
    let mut pose = before;
    pose.position.x += 160;
    test.say(anna, tick + 1, anna, pose);
    test.tick();
    // By now it has gone on for two more ticks.
    let x = test.pose(anna).position.x;
    assert!(x >= pose.position.x + 2 * 100, "{x}");
    assert_eq!(test.world.late_samples(anna), 1);
}

#[test]
fn a_sample_that_cannot_be_decoded_is_an_error_and_changes_nothing() {
    let mut test = TestWorld::new();
    let anna = test.join("Anna");
    test.tick();
    let before = test.pose(anna);
    assert!(test.world.sample(anna, 9, &[], &[0xFF; 9]).is_err());
    test.tick();
    assert_eq!(test.pose(anna), before);
    assert!(
        test.world.sample(CubeId(99), 9, &[], &[0xFF; 9]).is_ok(),
        "nobody said it"
    );
}

#[test]
fn equal_names_get_numbers_and_ids_are_never_used_again() {
    let mut test = TestWorld::new();
    let [first, second, third] = [(); 3].map(|()| test.join("Anna"));
    let name = |test: &TestWorld, cube| test.world.cube(cube).unwrap().name;
    assert_eq!(name(&test, second), "Anna-2");
    assert_eq!(name(&test, third), "Anna-3");
    test.world.leave(first);
    let fourth = test.join("Anna");
    assert_eq!(name(&test, fourth), "Anna");
    assert_eq!([first, second, third, fourth].map(|id| id.0), [1, 2, 3, 4]);
}

#[test]
fn the_first_to_take_the_free_cube_holds_it_until_release() {
    let mut test = TestWorld::new();
    let (anna, boris) = (test.join("Anna"), test.join("Boris"));
    test.tick();
    let world = &mut test.world;
    assert_eq!(world.take(anna, FREE), Ok(()));
    assert_eq!(world.take(boris, FREE), Err(Refusal { holder: Some(anna) }));
    assert_eq!(world.take(anna, FREE), Ok(()));
    world.release(boris, FREE);
    // The last place that was said before letting go counts, though its tick is to come.
    let dropped = test.step(anna, FREE, 30);
    test.world.release(anna, FREE);
    assert_eq!(test.pose(FREE), dropped);
    assert_eq!(test.world.take(boris, FREE), Ok(()));
    let taken = |by| Event::Taken { cube: FREE, by };
    assert_eq!(test.events(), [taken(boris)], "the outcome of the tick");
    let world = &mut test.world;
    assert_eq!(world.take(boris, anna), Err(Refusal { holder: None }));
    assert_eq!(world.take(boris, CubeId(99)), Err(Refusal { holder: None }));
}

#[test]
fn a_thrown_cube_stops_where_it_was_let_go() {
    let mut test = TestWorld::new();
    let anna = test.join("Anna");
    test.tick();
    test.world.take(anna, FREE).unwrap();
    test.run(anna, FREE, 8);
    let dropped = test.step(anna, FREE, 100);
    test.world.release(anna, FREE);
    for _ in 0..40 {
        test.tick();
    }
    assert!(test.pose(FREE).position.distance(dropped.position) <= 2);
}

#[test]
fn a_player_looks_from_their_cube_and_from_what_they_hold() {
    let mut test = TestWorld::new();
    let anna = test.join("Anna");
    let own = test.pose(anna).position;
    let viewpoints = |test: &TestWorld| test.world.viewpoints(anna).collect::<Vec<_>>();
    assert_eq!(viewpoints(&test), [own]);
    test.world.take(anna, FREE).unwrap();
    assert_eq!(viewpoints(&test), [own, test.pose(FREE).position]);
    test.world.release(anna, FREE);
    assert_eq!(viewpoints(&test), [own]);
}

#[test]
fn the_free_cube_stays_where_its_leaving_holder_put_it() {
    let mut test = TestWorld::new();
    let anna = test.join("Anna");
    test.tick();
    test.world.take(anna, FREE).unwrap();
    let put = test.step(anna, FREE, 700);
    test.tick();
    test.world.leave(anna);
    assert_eq!(
        test.events(),
        [Event::Freed { cube: FREE }, Event::Left { cube: anna }]
    );
    let free = test.world.cube(FREE).unwrap();
    assert_eq!(
        (free.kind, free.pose),
        (CubeKind::Free { holder: None }, put)
    );
}

#[test]
fn a_ghost_keeps_its_place_and_holds_nothing_until_its_player_is_back() {
    let mut test = TestWorld::new();
    let (anna, boris) = (test.join("Anna"), test.join("Boris"));
    test.world.take(anna, FREE).unwrap();
    test.tick();
    let place = test.pose(anna);
    test.world.ghost(anna);
    test.world.ghost(anna);
    assert_eq!(
        test.events(),
        [Event::Freed { cube: FREE }, Event::Ghost { cube: anna }]
    );
    assert_eq!(test.world.cube(anna).unwrap().kind, CubeKind::Ghost);
    test.step(anna, anna, 1);
    test.tick();
    assert_eq!(test.pose(anna), place);

    assert!(test.world.resume(anna, SpeedRule::TopSpeed));
    assert!(!test.world.resume(anna, SpeedRule::TopSpeed));
    assert!(!test.world.resume(boris, SpeedRule::TopSpeed));
    assert_eq!(test.events(), [Event::Returned { cube: anna }]);
    let info = test.world.cube(anna).unwrap();
    assert_eq!((info.kind, info.pose), (CubeKind::Player, place));
}

#[test]
fn nobody_moves_a_cube_that_is_not_theirs() {
    let mut test = TestWorld::new();
    let (anna, boris) = (test.join("Anna"), test.join("Boris"));
    test.tick();
    for cube in [boris, FREE] {
        let pose = test.pose(cube);
        test.step(anna, cube, 100);
        test.tick();
        assert_eq!(test.pose(cube), pose);
        let refused = test.world.tick;
        let corrections = test.corrections();
        assert_eq!(corrections, [(anna, refused, CubePose { cube, pose })]);
    }
    test.say(anna, test.world.tick + 1, CubeId(99), Pose::default());
    test.tick();
    assert_eq!(test.corrections(), []);
}

#[test]
fn a_player_is_corrected_about_a_cube_once_a_tick_whatever_they_send() {
    let mut test = TestWorld::new();
    let others: Vec<_> = (0..20)
        .map(|number| test.join(&format!("p{number}")))
        .collect();
    let anna = test.join("Anna");
    test.tick();
    let placed = |cubes: &[CubeId]| -> Vec<_> {
        let place = |&cube| CubePose {
            cube,
            pose: pose_at(77),
        };
        cubes.iter().map(place).collect()
    };
    for tick in 0..400 {
        let cubes = &others[tick % 13..][..7];
        test.world
            .sample(anna, 100 + tick as u64, &placed(cubes), &[])
            .unwrap();
        cubes
            .iter()
            .for_each(|cube| test.world.release(anna, *cube));
    }
    // Nothing of others' cubes is kept until its tick.
    assert!(!test.world.players[&anna].uplink.has_pending());
    test.tick();
    let corrections = test.corrections();
    assert_eq!(corrections.len(), 8);
    let corrected: BTreeSet<_> = corrections.iter().map(|(_, _, told)| told.cube).collect();
    assert_eq!(corrected.len(), 8);
    assert!(
        corrections.iter().all(|(_, tick, _)| *tick > 480),
        "the newest of each"
    );
    assert_eq!(test.world.take_sample_counts().not_theirs, 8);
    // A place of one's own is corrected all the same.
    let mut all = placed(&others[..7]);
    let (cube, pose) = (anna, pose_at(100_000));
    all.push(CubePose { cube, pose });
    test.world.sample(anna, 1_000, &all, &[]).unwrap();
    (0..40).for_each(|_| drop(test.tick()));
    let corrections = test.corrections();
    assert!(corrections.iter().any(|(_, _, told)| told.cube == anna));
}

/// Changes what a receiver knows of the cubes, and checks that the event says something new.
fn learn(seen: &mut BTreeMap<CubeId, CubeKind>, event: Event) {
    let is_free = |kind| matches!(kind, Some(CubeKind::Free { .. }));
    let cube = event.cube();
    let holder = |holder| CubeKind::Free { holder };
    match event {
        Event::Joined(info) => assert_eq!(seen.insert(cube, info.kind), None),
        Event::Left { .. } => assert!(seen.remove(&cube).is_some()),
        Event::Taken { by, .. } => assert!(is_free(seen.insert(cube, holder(Some(by))))),
        Event::Freed { .. } => assert!(is_free(seen.insert(cube, holder(None)))),
        Event::Ghost { .. } => {
            assert_eq!(seen.insert(cube, CubeKind::Ghost), Some(CubeKind::Player));
        }
        Event::Returned { .. } => {
            assert_eq!(seen.insert(cube, CubeKind::Player), Some(CubeKind::Ghost));
        }
        other => panic!("the world has no {other:?}"),
    }
}

/// Something that changes who moves a cube, and of which of three players.
#[derive(Debug, Clone, Copy)]
enum Change {
    Join,
    Leave(usize),
    Ghost(usize),
    Resume(usize),
    Take(usize),
    Release(usize),
    Tick,
}

proptest! {
    /// Receivers that only read events know who is there and who holds what, and a tick costs them one event
    /// for each cube.
    #[test]
    fn a_tick_has_at_most_one_event_of_a_cube_and_receivers_know_the_outcome(
        changes in prop::collection::vec(prop_oneof![
            Just(Change::Join),
            (0..3_usize).prop_map(Change::Leave),
            (0..3_usize).prop_map(Change::Ghost),
            (0..3_usize).prop_map(Change::Resume),
            (0..3_usize).prop_map(Change::Take),
            (0..3_usize).prop_map(Change::Release),
            Just(Change::Tick),
        ], 1..100)
    ) {
        let mut test = TestWorld::new();
        let mut players = Vec::new();
        let mut seen = BTreeMap::from([(FREE, CubeKind::Free { holder: None })]);
        let mut asked = BTreeSet::new();
        test.tick();
        for change in changes.into_iter().chain([Change::Tick]) {
            if let Change::Join = change {
                players.insert(0, test.join("someone"));
                continue;
            }
            let player = |number: usize| players.get(number).copied().unwrap_or(CubeId(99));
            match change {
                Change::Leave(number) => test.world.leave(player(number)),
                Change::Ghost(number) => test.world.ghost(player(number)),
                Change::Resume(number) => drop(test.world.resume(player(number), SpeedRule::TopSpeed)),
                Change::Release(number) => test.world.release(player(number), FREE),
                Change::Take(number) => {
                    let before = test.world.cube(FREE).unwrap().kind;
                    let taken = test.world.take(player(number), FREE);
                    if taken.is_ok() && before == (CubeKind::Free { holder: None }) {
                        asked.insert(FREE);
                    }
                }
                Change::Join | Change::Tick => {
                    let events = test.events();
                    let cubes: BTreeSet<_> = events.iter().map(Event::cube).collect();
                    prop_assert_eq!(cubes.len(), events.len(), "{:?}", events);
                    prop_assert!(cubes.is_superset(&asked), "a taker gets an answer: {:?}", events);
                    asked.clear();
                    events.into_iter().for_each(|event| learn(&mut seen, event));
                    let truth = test.world.cubes().map(|cube| (cube.cube, cube.kind)).collect();
                    prop_assert_eq!(&seen, &truth);
                }
            }
        }
    }
}

#[test]
fn a_move_that_is_too_fast_is_corrected_and_a_legal_one_after_it_counts() {
    let mut test = TestWorld::new();
    let anna = test.join("Anna");
    test.tick();
    let near = test.step(anna, anna, 40 * 512);
    test.tick();
    assert_eq!(test.corrections(), []);
    let truth = CubePose {
        cube: anna,
        pose: near,
    };
    for _ in 0..2 {
        test.step(anna, anna, 5_000);
        test.tick();
        let refused = test.world.tick;
        assert_eq!(test.corrections(), [(anna, refused, truth)]);
        assert_eq!(test.pose(anna), near);
    }
    let on = test.step(anna, anna, 300);
    test.tick();
    assert_eq!(test.corrections(), []);
    assert!(test.pose(anna).position.distance(on.position) <= 4);
}

#[test]
fn a_motion_that_only_predictions_make_too_fast_is_corrected() {
    let mut test = TestWorld::new();
    let anna = test.join("Anna");
    test.tick();
    // 60 m/s: the burst lasts for two seconds of it.
    let mut x = test.pose(anna).position.x;
    let mut corrected = None;
    for tick in 0..200 {
        x += 1_024;
        let mut pose = test.pose(anna);
        pose.position.x = x;
        test.say(anna, test.world.tick + 1, anna, pose);
        test.tick();
        if !test.corrections().is_empty() {
            corrected = corrected.or(Some(tick));
        }
    }
    let corrected = corrected.expect("nobody runs at 60 m/s for ever");
    assert!((30..90).contains(&corrected), "corrected at {corrected}");
}

#[test]
fn typed_coordinates_may_jump_and_count_in_order() {
    let mut test = TestWorld::new();
    let typist = test
        .world
        .join("nc", COLOUR, SpeedRule::Unlimited, None)
        .unwrap();
    test.world.take(typist, FREE).unwrap();
    test.tick();
    for cube in [typist, FREE] {
        for x in [100_000, 50_000] {
            let pose = pose_at(x);
            let placed = [CubePose { cube, pose }];
            test.world.sample(typist, 0, &placed, &[]).unwrap();
        }
    }
    test.tick();
    assert_eq!(test.corrections(), []);
    for cube in [typist, FREE] {
        assert_eq!(test.pose(cube), pose_at(50_000));
    }
}

#[test]
fn a_full_room_refuses() {
    let mut test = TestWorld::new();
    for number in 1..MAX_CUBES_PER_ROOM {
        test.join(&format!("p{number}"));
    }
    let late = test.world.join("late", COLOUR, SpeedRule::TopSpeed, None);
    assert_eq!(late, Err(RoomFull));
}
