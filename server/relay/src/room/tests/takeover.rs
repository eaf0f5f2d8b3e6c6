//! A room that goes on at another server: the same cubes, places and holders, and replicas that go on.

use cubesync_protocol::CubeInfo;
use cubesync_protocol::motion::MotionState;

use super::*;

/// Ends ticks at which nobody says anything.
fn idle(test: &mut TestRoom, ticks: u64) {
    for _ in 0..ticks {
        let cubes = test.cubes();
        test.end_tick(&cubes);
    }
}

/// Returns what a world knows of all cubes.
fn cubes(room: &Room) -> Vec<world::Cube> {
    room.world.cubes().collect()
}

/// Lets the member of a player say something, which may end it.
fn tell(test: &mut TestRoom, id: MemberId, message: ClientMessage) {
    let now = test.now();
    let from = id;
    test.room.handle(RoomEvent::Message { from, message }, now);
}

const CONTINUE: ClientMessage = ClientMessage::Continue { releases: 0 };
const TAKE: ClientMessage = ClientMessage::Take { cube: FREE };

#[test]
fn views_match_the_room_through_changes_of_its_owner() {
    for (view_distance_m, seed) in [(None, 1), (Some(32), 2), (Some(100), 3)] {
        let mut test = TestRoom::new(view_distance_m, seed);
        for _ in 0..6 {
            test.enter(None);
        }
        for tick in 0..1_200 {
            if tick % 150 == 149 {
                let missed = test.random.u64(0..3) * u64::from(HZ);
                test.take_over(missed);
            }
            test.step();
        }
        let found = test.found;
        assert!(found.near > 3_000 && found.resumed > 3, "{found:?}");
    }
}

#[test]
fn cubes_stay_with_their_ids_names_places_and_holders() {
    let mut test = TestRoom::new(None, 1);
    let [anna, boris, ghost] = [(); 3].map(|()| test.enter_at(None, None));
    test.say(anna, TAKE);
    test.leave(ghost, Ending::Lost);
    idle(&mut test, 3);
    let (before, tick) = (cubes(&test.room), test.tick());
    test.take_over(0);
    assert!(test.tick() > tick);
    assert_eq!(cubes(&test.room), before);
    assert_eq!(test.room.world.viewpoints(anna).count(), 2, "she holds it");
    idle(&mut test, 2);
    test.say(boris, TAKE);
    idle(&mut test, 1);
    let holder = Some(anna);
    let refused = ServerMessage::Refused { cube: FREE, holder };
    assert_eq!(test.clients[&boris].heard.last(), Some(&refused));
    let next = test.enter_at(None, None);
    assert_eq!(next, CubeId(ghost.0 + 1), "no id is given twice");
}

#[test]
fn a_second_welcome_is_followed_by_keyframes_and_has_a_later_tick() {
    let mut test = TestRoom::new(None, 1);
    let anna = test.enter_at(None, None);
    idle(&mut test, 5);
    let token = test.token(anna);
    let last = test.tick();
    test.clients.get_mut(&anna).unwrap().heard.clear();
    test.take_over(20);
    idle(&mut test, 2);
    let [
        ServerMessage::Welcome(welcome),
        ServerMessage::Keyframe(keyframe),
        ..,
    ] = &test.clients[&anna].heard[..]
    else {
        panic!("{:?}", test.clients[&anna].heard);
    };
    assert!(welcome.tick >= last + 20 && keyframe.tick > welcome.tick);
    assert_eq!((welcome.cube, welcome.resume), (anna, token));
    assert_eq!(welcome.pose, test.room.world.pose(anna).unwrap());
    assert_eq!(test.clients[&anna].welcomes, 2);
}

#[test]
fn what_moves_goes_on_for_half_a_second_without_samples_and_then_stands() {
    for (missed_ticks, goes_on) in [(0, true), (15, false)] {
        let mut test = TestRoom::new(None, 1);
        let anna = test.enter_at(None, None);
        for step in 1..10 {
            let tick = test.tick() + 1;
            test.say_pose(anna, tick, (anna, pose_at(step * METRE / 2)));
            idle(&mut test, 1);
        }
        let x = |test: &TestRoom| test.room.world.pose(anna).unwrap().position.x;
        let before = x(&test);
        test.take_over(missed_ticks);
        test.clients.get_mut(&anna).unwrap().asleep_until = u64::MAX;
        idle(&mut test, 1);
        assert_eq!(x(&test) > before + METRE / 4, goes_on);
        idle(&mut test, 15);
        let stood = x(&test);
        assert!(stood < before + 8 * METRE);
        idle(&mut test, 5);
        assert_eq!(x(&test), stood);
    }
}

#[test]
fn nothing_of_before_the_answer_to_the_last_welcome_counts() {
    let mut test = TestRoom::new(None, 1);
    let anna = test.enter_at(None, None);
    idle(&mut test, 2);
    let id = test.room.players[&anna];
    let place = test.room.world.pose(anna);
    test.take_over(0);
    test.take_over(0);
    assert_eq!(test.room.players[&anna], id, "the connection is the same");
    let sample = ClientMessage::Sample {
        tick: test.tick() + 1,
        placed: vec![cubesync_protocol::CubePose {
            cube: anna,
            pose: pose_at(9 * METRE),
        }],
        residuals: Bytes::new(),
    };
    let is_taken = |test: &TestRoom| test.room.world.viewpoints(anna).count() == 2;
    // An answer to the first of two.
    for message in [sample, TAKE, CONTINUE, TAKE] {
        tell(&mut test, id, message);
        test.room.tick(test.room.clock.begins(test.tick() + 1));
        assert_eq!(test.room.world.pose(anna), place);
        assert!(!is_taken(&test));
    }
    let uplink = datagrams::report(0);
    let now = test.now();
    test.room
        .handle(RoomEvent::Datagram { from: id, uplink }, now);
    tell(&mut test, id, CONTINUE);
    tell(&mut test, id, TAKE);
    assert!(is_taken(&test));
    tell(&mut test, id, CONTINUE);
    assert!(test.room.connections.member(id).is_none(), "nobody asked");
    assert!(test.room.world.cube(anna).is_none());
}

#[test]
fn a_ping_is_answered_before_the_welcome_is() {
    let mut test = TestRoom::new(None, 1);
    let anna = test.enter_at(None, None);
    idle(&mut test, 2);
    test.take_over(0);
    test.say(anna, ClientMessage::Ping { sent_us: 7 });
    test.clients.get_mut(&anna).unwrap().heard.clear();
    idle(&mut test, 1);
    let is_pong = |message: &ServerMessage| matches!(message, ServerMessage::Pong { .. });
    assert!(test.clients[&anna].heard.iter().any(is_pong));
}

/// Returns a state of a room with players of other servers, one second after their last tick.
fn state(players: &[(u64, &str)], tokens: &[TokenDigest]) -> RoomState {
    let info = |&(cube, name): &(u64, &str)| CubeInfo {
        cube: CubeId(cube),
        kind: CubeKind::Player,
        name: name.into(),
        colour: Colour::from([1, 2, 3]),
        width: Default::default(),
        motion: MotionState::at_rest(pose_at(cube as i32 * METRE)),
    };
    let tokens = tokens
        .iter()
        .copied()
        .map(Some)
        .chain(std::iter::repeat(None));
    let cubes = players.iter().map(info).zip(tokens);
    RoomState {
        tick: 700,
        began: Instant::now(),
        last_id: 40,
        cubes: cubes
            .map(|(info, token)| CubeState { info, token })
            .collect(),
    }
}

#[test]
fn a_player_whom_the_state_does_not_know_gets_a_cube_that_is_nobody_elses() {
    let mut test = TestRoom::new(None, 1);
    let anna = test.enter_at(None, None);
    let id = test.room.players[&anna];
    idle(&mut test, 2);
    // On the other side of a split, her id went to another player.
    let state = state(&[(anna.0, "someone else")], &[]);
    let settings = test.room.connections.settings.clone();
    let (_, nothing) = Connections::new(settings, Metrics::default());
    let (connections, _) = std::mem::replace(&mut test.room, Room::new(nothing)).hand_over();
    let began = state.began;
    let room = Room::take_over(connections, state, began + Duration::from_secs(1));
    let member = room.connections.member(id).unwrap();
    assert_eq!((member.cube, &*member.name), (CubeId(41), "someone"));
    assert_eq!(room.players.iter().next(), Some((&CubeId(41), &id)));
    let other = room.world.cube(anna).unwrap();
    assert_eq!(
        (other.kind, &*other.name),
        (CubeKind::Player, "someone else")
    );
    assert!(
        room.world.cube(FREE).is_some(),
        "there is always a free cube"
    );
}

#[test]
fn in_a_full_room_a_player_whom_the_state_does_not_know_has_no_place() {
    let mut test = TestRoom::new(None, 1);
    let anna = test.enter_at(None, None);
    let id = test.room.players[&anna];
    test.room.connections.settings.max_cubes = 3;
    let settings = test.room.connections.settings.clone();
    let (_, nothing) = Connections::new(settings, Metrics::default());
    let (connections, _) = std::mem::replace(&mut test.room, Room::new(nothing)).hand_over();
    let state = state(&[(anna.0, "b"), (2, "c")], &[]);
    let began = state.began;
    let room = Room::take_over(connections, state, began);
    assert!(room.connections.member(id).is_none());
    assert_eq!(room.world.cube_count(), 3, "the others stay");
}

#[test]
fn players_of_a_server_that_is_gone_are_awaited_for_three_seconds_with_what_they_hold() {
    let mut test = TestRoom::new(None, 1);
    let [anna, boris] = [(); 2].map(|()| test.enter_at(None, None));
    test.say(anna, TAKE);
    idle(&mut test, 2);
    let token = test.token(anna);
    for player in [anna, boris] {
        let receiver = ReceiverId::Player(test.room.players[&player]);
        test.room.connections.end(receiver, Ending::Lost);
        test.clients.remove(&player);
    }
    test.take_over(0);
    idle(&mut test, 3 * u64::from(HZ) - 2);
    assert_eq!(test.room.world.viewpoints(anna).count(), 2);
    // She comes back by herself, as after any other loss.
    assert_eq!(test.enter_at(Some(token), None), anna);
    assert_eq!(test.room.world.viewpoints(anna).count(), 1);
    idle(&mut test, 3);
    let kind = |cube| test.room.world.kind(cube);
    assert_eq!(kind(anna), Some(CubeKind::Player));
    assert_eq!(kind(boris), Some(CubeKind::Ghost));
    idle(&mut test, u64::from(HZ));
    assert!(test.room.world.cube(boris).is_none());
}

#[test]
fn ticks_go_on_after_all_that_receivers_have_had_even_if_the_state_is_of_lower_ones() {
    let mut test = TestRoom::new(None, 1);
    let (outlet, mut frames) = mpsc::channel(64);
    let outlet = Outlet::Frames(outlet);
    let (reply, _answer) = oneshot::channel();
    let now = test.now();
    // Kept alive: otherwise the observer would be removed at once.
    test.room.handle(RoomEvent::Observe { outlet, reply }, now);
    for _ in 0..800 {
        test.room.tick(test.room.clock.begins(test.tick() + 1));
    }
    while frames.try_recv().is_ok() {}
    let settings = test.room.connections.settings.clone();
    let (_, nothing) = Connections::new(settings, Metrics::default());
    let (connections, _) = std::mem::replace(&mut test.room, Room::new(nothing)).hand_over();
    let state = state(&[(1, "b")], &[]);
    let began = state.began;
    test.room = Room::take_over(connections, state, began);
    assert_eq!(test.tick(), 801);
    for _ in 0..20 {
        test.room.tick(test.room.clock.begins(test.tick() + 1));
    }
    let mut received = BytesMut::new();
    while let Ok(frames) = frames.try_recv() {
        received.extend_from_slice(&frames);
    }
    let payload = frame::split(&mut received, ServerMessage::MAX_PAYLOAD_BYTES);
    let first = ServerMessage::decode(&payload.unwrap().unwrap()).unwrap();
    assert!(matches!(first, ServerMessage::Keyframe(keyframe) if keyframe.tick == 802));
}
