use cubesync_protocol::CubePose;
use cubesync_protocol::uplink::{grace_ticks, heartbeat_ticks};

use super::*;
use crate::room::testing::{SampleWriter, pose_at};

const FREE: CubeId = CubeId(0);
const COLOUR: Colour = Colour {
    red: 1,
    green: 2,
    blue: 3,
};

/// A world, and what its players' clients have said.
struct Stage {
    world: World,
    writers: BTreeMap<CubeId, SampleWriter>,
}

impl Stage {
    /// 30 ticks a second, 40 m/s.
    fn new() -> Self {
        let mut world = World::new(30, Some(40 * 512), Ids::counted());
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
}

#[test]
fn a_cube_goes_on_as_its_player_said_without_another_word() {
    let mut stage = Stage::new();
    let anna = stage.join("Anna");
    stage.tick();
    stage.run(anna, anna, 8);
    let start = stage.pose(anna).position.x;
    for tick in 1..=6 {
        assert_eq!(stage.tick().touched, [anna]);
        let x = stage.pose(anna).position.x;
        assert!((x - start - 100 * tick).abs() <= 8, "{x} at {tick}");
    }
    assert_eq!(stage.world.take_sample_counts().missing, 0);
}

#[test]
fn a_moving_cube_stands_after_half_a_second_of_silence_until_a_heartbeat() {
    let mut stage = Stage::new();
    let anna = stage.join("Anna");
    stage.tick();
    stage.run(anna, anna, 8);
    let said = stage.world.tick;
    while stage.tick().touched.contains(&anna) {}
    let stood = stage.pose(anna);
    assert_eq!(stage.world.tick, said + grace_ticks(30) + 2);
    // It lacked a word for longer than a heartbeat, until it stood.
    let missing = grace_ticks(30) + 1 - heartbeat_ticks(30);
    assert_eq!(stage.world.take_sample_counts().missing, missing);

    let tick = stage.world.tick + 1;
    stage.world.sample(anna, tick, &[], &[]).unwrap();
    stage.tick();
    assert!(stage.pose(anna).position.x > stood.position.x);
}

#[test]
fn a_late_sample_counts_as_where_the_cube_must_be_by_now() {
    let mut stage = Stage::new();
    let anna = stage.join("Anna");
    stage.tick();
    stage.run(anna, anna, 20);
    let tick = stage.world.tick;
    let before = stage.pose(anna);
    stage.tick();
    stage.tick();
    let mut pose = before;
    pose.position.x += 160;
    stage.say(anna, tick + 1, anna, pose);
    stage.tick();
    // By now it has gone on for two more ticks.
    let x = stage.pose(anna).position.x;
    assert!(x >= pose.position.x + 2 * 100, "{x}");
    assert_eq!(stage.world.late_samples(anna), 1);
}

#[test]
fn nonsense_is_an_error_and_changes_nothing() {
    let mut stage = Stage::new();
    let anna = stage.join("Anna");
    stage.tick();
    let before = stage.pose(anna);
    assert!(stage.world.sample(anna, 9, &[], &[0xFF; 9]).is_err());
    stage.tick();
    assert_eq!(stage.pose(anna), before);
    assert!(
        stage.world.sample(CubeId(99), 9, &[], &[0xFF; 9]).is_ok(),
        "nobody said it"
    );
}

#[test]
fn equal_names_get_numbers_and_ids_are_never_used_again() {
    let mut stage = Stage::new();
    let [first, second, third] = [(); 3].map(|()| stage.join("Anna"));
    let name = |stage: &Stage, cube| stage.world.cube(cube).unwrap().name;
    assert_eq!(name(&stage, second), "Anna-2");
    assert_eq!(name(&stage, third), "Anna-3");
    stage.world.leave(first);
    let fourth = stage.join("Anna");
    assert_eq!(name(&stage, fourth), "Anna");
    assert_eq!([first, second, third, fourth].map(|id| id.0), [1, 2, 3, 4]);
}

#[test]
fn the_first_to_take_the_free_cube_holds_it_until_release() {
    let mut stage = Stage::new();
    let (anna, boris) = (stage.join("Anna"), stage.join("Boris"));
    stage.tick();
    let world = &mut stage.world;
    assert_eq!(world.take(anna, FREE), Ok(()));
    assert_eq!(world.take(boris, FREE), Err(Refusal { holder: Some(anna) }));
    assert_eq!(world.take(anna, FREE), Ok(()));
    world.release(boris, FREE);
    // The last place that was said before letting go counts, though its tick is to come.
    let dropped = stage.step(anna, FREE, 30);
    stage.world.release(anna, FREE);
    assert_eq!(stage.pose(FREE), dropped);
    assert_eq!(stage.world.take(boris, FREE), Ok(()));
    let taken = |by| Event::Taken { cube: FREE, by };
    assert_eq!(
        stage.events(),
        [taken(anna), Event::Freed { cube: FREE }, taken(boris)]
    );
    let world = &mut stage.world;
    assert_eq!(world.take(boris, anna), Err(Refusal { holder: None }));
    assert_eq!(world.take(boris, CubeId(99)), Err(Refusal { holder: None }));
}

#[test]
fn a_thrown_cube_stops_where_it_was_let_go() {
    let mut stage = Stage::new();
    let anna = stage.join("Anna");
    stage.tick();
    stage.world.take(anna, FREE).unwrap();
    stage.run(anna, FREE, 8);
    let dropped = stage.step(anna, FREE, 100);
    stage.world.release(anna, FREE);
    for _ in 0..40 {
        stage.tick();
    }
    assert!(stage.pose(FREE).position.distance(dropped.position) <= 2);
}

#[test]
fn a_player_looks_from_their_cube_and_from_what_they_hold() {
    let mut stage = Stage::new();
    let anna = stage.join("Anna");
    let own = stage.pose(anna).position;
    let viewpoints = |stage: &Stage| stage.world.viewpoints(anna).collect::<Vec<_>>();
    assert_eq!(viewpoints(&stage), [own]);
    stage.world.take(anna, FREE).unwrap();
    assert_eq!(viewpoints(&stage), [own, stage.pose(FREE).position]);
    stage.world.release(anna, FREE);
    assert_eq!(viewpoints(&stage), [own]);
}

#[test]
fn the_free_cube_stays_where_its_leaving_holder_put_it() {
    let mut stage = Stage::new();
    let anna = stage.join("Anna");
    stage.tick();
    stage.world.take(anna, FREE).unwrap();
    let put = stage.step(anna, FREE, 700);
    stage.tick();
    stage.world.leave(anna);
    assert_eq!(
        stage.events(),
        [Event::Freed { cube: FREE }, Event::Left { cube: anna }]
    );
    let free = stage.world.cube(FREE).unwrap();
    assert_eq!(
        (free.kind, free.pose),
        (CubeKind::Free { holder: None }, put)
    );
}

#[test]
fn a_ghost_keeps_its_place_and_holds_nothing_until_its_player_is_back() {
    let mut stage = Stage::new();
    let (anna, boris) = (stage.join("Anna"), stage.join("Boris"));
    stage.world.take(anna, FREE).unwrap();
    stage.tick();
    let place = stage.pose(anna);
    stage.world.ghost(anna);
    stage.world.ghost(anna);
    assert_eq!(
        stage.events(),
        [Event::Freed { cube: FREE }, Event::Ghost { cube: anna }]
    );
    assert_eq!(stage.world.cube(anna).unwrap().kind, CubeKind::Ghost);
    stage.step(anna, anna, 1);
    stage.tick();
    assert_eq!(stage.pose(anna), place);

    assert!(stage.world.resume(anna, SpeedRule::TopSpeed));
    assert!(!stage.world.resume(anna, SpeedRule::TopSpeed));
    assert!(!stage.world.resume(boris, SpeedRule::TopSpeed));
    assert_eq!(stage.events(), [Event::Returned { cube: anna }]);
    let info = stage.world.cube(anna).unwrap();
    assert_eq!((info.kind, info.pose), (CubeKind::Player, place));
}

#[test]
fn nobody_moves_a_cube_that_is_not_theirs() {
    let mut stage = Stage::new();
    let (anna, boris) = (stage.join("Anna"), stage.join("Boris"));
    stage.tick();
    for cube in [boris, FREE] {
        let pose = stage.pose(cube);
        stage.step(anna, cube, 100);
        stage.tick();
        assert_eq!(stage.pose(cube), pose);
        let corrections = stage.world.corrections();
        assert_eq!(corrections, [(anna, CubePose { cube, pose })]);
    }
    stage.say(anna, stage.world.tick + 1, CubeId(99), Pose::default());
    stage.tick();
    assert_eq!(stage.world.corrections(), []);
}

#[test]
fn too_fast_a_move_is_corrected_and_the_right_way_on_is_taken() {
    let mut stage = Stage::new();
    let anna = stage.join("Anna");
    stage.tick();
    let near = stage.step(anna, anna, 40 * 512);
    stage.tick();
    assert_eq!(stage.world.corrections(), []);
    let correction = (
        anna,
        CubePose {
            cube: anna,
            pose: near,
        },
    );
    for _ in 0..2 {
        stage.step(anna, anna, 5_000);
        stage.tick();
        assert_eq!(stage.world.corrections(), [correction]);
        assert_eq!(stage.pose(anna), near);
    }
    let on = stage.step(anna, anna, 300);
    stage.tick();
    assert_eq!(stage.world.corrections(), []);
    assert!(stage.pose(anna).position.distance(on.position) <= 4);
}

#[test]
fn a_motion_that_only_predictions_make_too_fast_is_corrected() {
    let mut stage = Stage::new();
    let anna = stage.join("Anna");
    stage.tick();
    // 60 m/s: the burst lasts for two seconds of it.
    let mut x = stage.pose(anna).position.x;
    let mut corrected = None;
    for tick in 0..200 {
        x += 1_024;
        let mut pose = stage.pose(anna);
        pose.position.x = x;
        stage.say(anna, stage.world.tick + 1, anna, pose);
        stage.tick();
        if !stage.world.corrections().is_empty() {
            corrected = corrected.or(Some(tick));
        }
    }
    let corrected = corrected.expect("nobody runs at 60 m/s for ever");
    assert!((30..90).contains(&corrected), "corrected at {corrected}");
}

#[test]
fn typed_coordinates_may_jump_and_count_in_order() {
    let mut stage = Stage::new();
    let typist = stage
        .world
        .join("nc", COLOUR, SpeedRule::Unlimited, None)
        .unwrap();
    stage.world.take(typist, FREE).unwrap();
    stage.tick();
    for cube in [typist, FREE] {
        for x in [100_000, 50_000] {
            let pose = pose_at(x);
            let placed = [CubePose { cube, pose }];
            stage.world.sample(typist, 0, &placed, &[]).unwrap();
        }
    }
    stage.tick();
    assert_eq!(stage.world.corrections(), []);
    for cube in [typist, FREE] {
        assert_eq!(stage.pose(cube), pose_at(50_000));
    }
}

#[test]
fn a_full_room_refuses() {
    let mut stage = Stage::new();
    for number in 1..MAX_CUBES_PER_ROOM {
        stage.join(&format!("p{number}"));
    }
    let late = stage.world.join("late", COLOUR, SpeedRule::TopSpeed, None);
    assert_eq!(late, Err(RoomFull));
}
