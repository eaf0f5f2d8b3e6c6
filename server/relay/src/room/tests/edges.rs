//! Servers that show the room to players of their own.

use cubesync_protocol::cells::Sight;
use cubesync_protocol::limits::FRAME_HEADER_BYTES;
use cubesync_protocol::{CubePose, Welcome};

use super::audience::Source;
use super::*;

const TAKE: ClientMessage = ClientMessage::Take { cube: FREE };
const RELEASE: ClientMessage = ClientMessage::Release { cube: FREE };
const CONTINUE: ClientMessage = ClientMessage::Continue { releases: 0 };

/// An edge's replicas, with what they must have.
struct TestEdge {
    id: EdgeId,
    near: Replica,
    far: Replica,
    view: BTreeSet<(CellId, Sight)>,
}

impl TestEdge {
    fn new(test: &mut TestRoom) -> Self {
        Self {
            id: test.room.attach_edge(),
            near: Replica::default(),
            far: Replica::default(),
            view: BTreeSet::new(),
        }
    }

    fn see(&mut self, test: &mut TestRoom, view: impl IntoIterator<Item = (CellId, Sight)>) {
        self.view = view.into_iter().collect();
        test.room
            .set_edge_view(self.id, self.view.iter().copied().collect());
    }

    /// Takes in what was encoded for the edge, and returns the number of keyframes.
    fn read(&mut self, test: &mut TestRoom) -> usize {
        let mut keyframes = 0;
        let frames = test.room.take_edge_frames(self.id);
        for (replica, frames) in [(&mut self.near, frames.near), (&mut self.far, frames.far)] {
            for frame in frames {
                let message = ServerMessage::decode(&frame[FRAME_HEADER_BYTES..]).unwrap();
                keyframes += usize::from(matches!(message, ServerMessage::Keyframe(_)));
                replica.take_in(&message).unwrap();
            }
            replica.heartbeat(test.tick()).unwrap();
        }
        keyframes
    }

    /// Compares the replicas with what a receiver would get that begins now, at a tick at which views
    /// may change.
    fn check(&self, test: &mut TestRoom) {
        let tick = test.tick();
        let Room {
            publisher, world, ..
        } = &mut test.room;
        let mut source = publisher.with(world);
        for &(cell, sight) in &self.view {
            let replica = match sight {
                Sight::Near | Sight::Plain => &self.near,
                Sight::Far => &self.far,
            };
            let frame = source.keyframe(cell, sight);
            let keyframe = ServerMessage::decode(&frame[FRAME_HEADER_BYTES..]).unwrap();
            let known = replica.keyframe_of(cell, tick).map(ServerMessage::Keyframe);
            assert_eq!(known, Some(keyframe), "{sight:?}");
        }
        for (sight, replica) in [(Sight::Near, &self.near), (Sight::Far, &self.far)] {
            let cells = replica.streams().map(|(cell, _)| (cell, sight));
            assert!(cells.eq(self.view.iter().copied().filter(|seen| seen.1 == sight)));
        }
    }
}

/// Ends a tick at which nobody says anything.
fn idle(test: &mut TestRoom) {
    let begins = test.room.clock.begins(test.tick() + 1);
    test.room.tick(begins);
}

fn entrance(goes_on: bool, tokens: &[TokenDigest]) -> RemoteEntrance {
    RemoteEntrance {
        name: "afar".into(),
        colour: Colour::from([4, 5, 6]),
        rule: SpeedRule::TopSpeed,
        tokens: tokens.to_vec(),
        next_token: TokenDigest(fastrand::u128(..).to_le_bytes()),
        pose: None,
        goes_on,
    }
}

fn enter(test: &mut TestRoom, edge: EdgeId, entrance: RemoteEntrance) -> (MemberId, Welcome) {
    let now = test.now();
    let id = test.room.enter_remote(edge, entrance, now).unwrap();
    let mut outbox = test.room.take_outbox();
    match outbox.pop() {
        Some((of, player, ForPlayer::Message(ServerMessage::Welcome(welcome)))) => {
            assert_eq!((of, player), (edge, id));
            (id, welcome)
        }
        other => panic!("{other:?}"),
    }
}

fn tell(test: &mut TestRoom, id: MemberId, message: ClientMessage) {
    let now = test.now();
    test.room.message(id, message, now);
}

fn place(test: &TestRoom, cube: CubeId, x: i32) -> ClientMessage {
    let pose = pose_at(x);
    ClientMessage::Sample {
        tick: test.tick() + 1,
        placed: vec![CubePose { cube, pose }],
        residuals: Bytes::new(),
    }
}

fn kind(test: &TestRoom, cube: CubeId) -> Option<CubeKind> {
    test.room.world.kind(cube)
}

fn holder(test: &TestRoom) -> Option<CubeId> {
    match kind(test, FREE) {
        Some(CubeKind::Free { holder }) => holder,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_edge_gets_all_of_its_view_and_nothing_else() {
    for seed in 0..4 {
        let mut test = TestRoom::new(Some(32), seed);
        for _ in 0..6 {
            test.enter(None);
        }
        let mut edges = [(); 2].map(|()| TestEdge::new(&mut test));
        let (mut keyframes, mut changes) = (0, 0);
        for _ in 0..600 {
            test.step();
            for edge in &mut edges {
                keyframes += edge.read(&mut test);
                if test.tick().is_multiple_of(FAR) {
                    edge.check(&mut test);
                    if test.random.u8(0..8) == 0 {
                        let cells = test.room.connections.settings.grid.cells() as u16;
                        let from = test.random.u16(0..cells);
                        let sights = [Sight::Near, Sight::Far];
                        let any = (from..cells.min(from + 40))
                            .flat_map(|cell| sights.map(|sight| (CellId(cell), sight)));
                        let mut random = test.random.clone();
                        let view: Vec<_> = any.filter(|_| random.bool()).collect();
                        edge.see(&mut test, view);
                        changes += 1;
                    }
                }
            }
        }
        assert!(keyframes > 100 && changes > 10, "{keyframes} {changes}");
        for edge in edges {
            let now = test.now();
            test.room.detach_edge(edge.id, now);
        }
        for client in test.clients.keys().copied().collect::<Vec<_>>() {
            test.leave(client, Ending::Left);
        }
        assert!(!test.room.publisher.is_seen_from_afar());
    }
}

#[test]
fn cells_that_the_room_does_not_have_are_no_part_of_a_view() {
    let mut test = TestRoom::new(None, 1);
    let mut edge = TestEdge::new(&mut test);
    let view = [(CellId(0), Sight::Near), (CellId(1), Sight::Near)];
    edge.see(
        &mut test,
        view.into_iter().chain([(CellId(u16::MAX), Sight::Far)]),
    );
    idle(&mut test);
    assert_eq!(edge.read(&mut test), 1);
}

#[test]
fn a_player_at_an_edge_is_a_player() {
    let mut test = TestRoom::new(None, 1);
    let here = test.enter_at(None, None);
    let edge = TestEdge::new(&mut test);
    idle(&mut test);
    let (id, welcome) = enter(&mut test, edge.id, entrance(false, &[]));
    let cube = welcome.cube;
    assert_eq!(
        (&*welcome.name, welcome.resume),
        ("afar", ResumeToken([0; 16]))
    );
    assert_eq!(welcome.pose, test.room.world.pose(cube).unwrap());
    let sample = place(&test, cube, 7 * METRE);
    tell(&mut test, id, sample);
    tell(&mut test, id, TAKE);
    idle(&mut test);
    assert_eq!(test.room.world.pose(cube), Some(pose_at(7 * METRE)));
    assert_eq!(holder(&test), Some(cube));

    // What is not theirs is corrected, and pings are answered, through the edge.
    let sample = place(&test, here, METRE);
    tell(&mut test, id, sample);
    tell(&mut test, id, ClientMessage::Ping { sent_us: 7 });
    idle(&mut test);
    let outbox = test.room.take_outbox();
    let [
        (_, _, ForPlayer::Message(pong)),
        (_, _, ForPlayer::Message(correction)),
    ] = &outbox[..]
    else {
        panic!("{outbox:?}");
    };
    assert!(matches!(pong, ServerMessage::Pong { sent_us: 7, .. }));
    assert!(
        matches!(correction, ServerMessage::Correction { corrected, .. } if corrected.cube == here)
    );

    tell(&mut test, id, RELEASE);
    let now = test.now();
    test.room.leave(id, Ending::Left, now);
    idle(&mut test);
    assert_eq!((kind(&test, cube), holder(&test)), (None, None));
    assert_eq!(test.room.take_outbox(), [], "the edge knows");
    tell(&mut test, id, TAKE);
    assert_eq!(holder(&test), None, "nobody says it");
}

#[test]
fn the_room_ends_a_player_at_an_edge_who_sends_nonsense() {
    let mut test = TestRoom::new(None, 1);
    let edge = TestEdge::new(&mut test);
    for nonsense in [
        CONTINUE,
        ClientMessage::Sample {
            tick: 9,
            placed: Vec::new(),
            residuals: Bytes::from_static(&[0xFF; 9]),
        },
    ] {
        let (id, welcome) = enter(&mut test, edge.id, entrance(false, &[]));
        tell(&mut test, id, nonsense);
        let ended = ForPlayer::Ended(Ending::BadMessage);
        assert_eq!(test.room.take_outbox(), [(edge.id, id, ended)]);
        assert_eq!(kind(&test, welcome.cube), None);
    }
}

#[test]
fn a_player_who_goes_on_keeps_what_they_hold_and_is_heard_after_their_answer() {
    let mut test = TestRoom::new(None, 1);
    let first = TestEdge::new(&mut test);
    let known = entrance(false, &[]);
    let token = known.next_token;
    let (id, welcome) = enter(&mut test, first.id, known);
    let cube = welcome.cube;
    tell(&mut test, id, TAKE);
    idle(&mut test);
    let now = test.now();
    test.room.detach_edge(first.id, now);
    assert_eq!(
        (kind(&test, cube), holder(&test)),
        (Some(CubeKind::Player), Some(cube))
    );

    let second = TestEdge::new(&mut test);
    let earlier = [TokenDigest([9; 16]), token];
    let (again, welcome) = enter(&mut test, second.id, entrance(true, &earlier));
    assert_eq!(welcome.cube, cube);
    assert_ne!(again, id);
    for message in [place(&test, cube, 7 * METRE), RELEASE] {
        tell(&mut test, again, message);
    }
    idle(&mut test);
    assert_eq!(holder(&test), Some(cube));
    assert_ne!(test.room.world.pose(cube), Some(pose_at(7 * METRE)));
    tell(&mut test, again, CONTINUE);
    for message in [place(&test, cube, 7 * METRE), RELEASE] {
        tell(&mut test, again, message);
    }
    idle(&mut test);
    assert_eq!(holder(&test), None);
    assert_eq!(test.room.world.pose(cube), Some(pose_at(7 * METRE)));
    for _ in 0..4 * HZ {
        idle(&mut test);
    }
    assert_eq!(kind(&test, cube), Some(CubeKind::Player), "they are back");
}

#[test]
fn a_player_of_an_unknown_token_goes_on_with_a_new_cube_where_the_edge_saw_them() {
    let mut test = TestRoom::new(None, 1);
    let edge = TestEdge::new(&mut test);
    let unknown = RemoteEntrance {
        pose: Some(pose_at(50 * METRE)),
        ..entrance(true, &[TokenDigest([9; 16])])
    };
    let (_, welcome) = enter(&mut test, edge.id, unknown);
    assert_eq!(
        (welcome.cube, welcome.pose),
        (CubeId(1), pose_at(50 * METRE))
    );
}

#[test]
fn a_player_who_walked_while_cut_off_goes_on_where_they_are_now() {
    let mut test = TestRoom::new(None, 1);
    let edge = TestEdge::new(&mut test);
    let known = entrance(false, &[]);
    let token = known.next_token;
    let (id, welcome) = enter(&mut test, edge.id, known);
    idle(&mut test);
    for (x, is_moved) in [(0, false), (60 * METRE, true)] {
        let now = test.now();
        test.room.leave(id, Ending::Lost, now);
        let before = test.room.world.pose(welcome.cube).unwrap();
        let mut pose = before;
        pose.position.x += x;
        let pose = Some(pose);
        let next_token = token;
        let again = RemoteEntrance {
            pose,
            next_token,
            ..entrance(true, &[token])
        };
        let (_, back) = enter(&mut test, edge.id, again);
        assert_eq!(back.cube, welcome.cube);
        assert_eq!(back.pose != before, is_moved);
        idle(&mut test);
        assert_eq!(test.room.world.pose(back.cube), Some(back.pose));
    }
}

#[test]
fn the_newest_connection_of_a_player_has_the_cube() {
    let mut test = TestRoom::new(None, 1);
    let edge = TestEdge::new(&mut test);
    let here = test.enter_at(None, None);
    let token = test.token(here);
    let digest = TokenDigest::of(&token);
    test.clients.clear();
    let member = test.room.players[&here];
    let next_token = digest;
    let entrance = RemoteEntrance {
        next_token,
        ..entrance(false, &[digest])
    };
    let (id, welcome) = enter(&mut test, edge.id, entrance);
    assert_eq!(welcome.cube, here);
    assert!(test.room.connections.member(member).is_none());
    // And back by an own connection.
    assert_eq!(test.enter_at(Some(token), None), here);
    let replaced = ForPlayer::Ended(Ending::Replaced);
    assert_eq!(test.room.take_outbox(), [(edge.id, id, replaced)]);
    let now = test.now();
    test.room.leave(id, Ending::Lost, now);
    assert_eq!(kind(&test, here), Some(CubeKind::Player));
}

#[test]
fn players_of_an_edge_that_detaches_are_awaited_and_then_become_ghosts() {
    let mut test = TestRoom::new(None, 1);
    let edge = TestEdge::new(&mut test);
    let (_, welcome) = enter(&mut test, edge.id, entrance(false, &[]));
    let now = test.now();
    // One comes in at the very end, and the edge never learns of it.
    let late = test
        .room
        .enter_remote(edge.id, entrance(false, &[]), now)
        .unwrap();
    let late_cube = CubeId(welcome.cube.0 + 1);
    test.room.detach_edge(edge.id, now);
    assert_eq!(test.room.take_outbox(), []);
    tell(&mut test, late, TAKE);
    assert_eq!(holder(&test), None, "nobody says it");
    for _ in 0..3 * HZ {
        idle(&mut test);
    }
    for cube in [welcome.cube, late_cube] {
        assert_eq!(kind(&test, cube), Some(CubeKind::Player));
    }
    idle(&mut test);
    for cube in [welcome.cube, late_cube] {
        assert_eq!(kind(&test, cube), Some(CubeKind::Ghost));
    }
    for _ in 0..=HZ {
        idle(&mut test);
    }
    assert_eq!(test.cubes().len(), 1);
}

#[test]
fn an_entrance_of_an_edge_that_is_gone_leads_nowhere() {
    let mut test = TestRoom::new(None, 1);
    let edge = TestEdge::new(&mut test);
    let now = test.now();
    test.room.detach_edge(edge.id, now);
    assert!(
        test.room
            .enter_remote(edge.id, entrance(false, &[]), now)
            .is_err()
    );
    assert_eq!(test.cubes().len(), 1);
}

#[test]
fn in_a_full_room_a_ghost_makes_place_for_a_player_at_an_edge() {
    let mut test = TestRoom::new(None, 1);
    test.room.connections.settings.max_cubes = 3;
    let edge = TestEdge::new(&mut test);
    let (id, welcome) = enter(&mut test, edge.id, entrance(false, &[]));
    enter(&mut test, edge.id, entrance(false, &[]));
    let now = test.now();
    let full = test.room.enter_remote(edge.id, entrance(false, &[]), now);
    assert_eq!(full, Err(Ending::RoomFull));
    test.room.leave(id, Ending::Lost, now);
    let (_, next) = enter(&mut test, edge.id, entrance(false, &[]));
    assert_ne!(next.cube, welcome.cube);
    assert_eq!(kind(&test, welcome.cube), None);
}

#[test]
fn the_roster_tells_what_a_new_owner_must_know_and_not_how_cubes_move() {
    let mut test = TestRoom::new(None, 1);
    let anna = test.enter_at(None, None);
    idle(&mut test);
    let edge = TestEdge::new(&mut test);
    assert_eq!(
        test.room.roster_changes(),
        RosterChanges {
            last_id: 1,
            ..Default::default()
        }
    );
    let changed = |test: &mut TestRoom| {
        let changes = test.room.roster_changes();
        let changed = changes.changed.iter().map(|state| state.info.cube);
        (changed.collect::<Vec<_>>(), changes)
    };
    let afar = entrance(false, &[]);
    let token = afar.next_token;
    let (id, welcome) = enter(&mut test, edge.id, afar);
    tell(&mut test, id, TAKE);
    idle(&mut test);
    let (cubes, changes) = changed(&mut test);
    assert_eq!((cubes, changes.last_id), (vec![FREE, welcome.cube], 2));
    assert_eq!(changes.changed[1].token, Some(token));
    let holder = Some(welcome.cube);
    assert_eq!(changes.changed[0].info.kind, CubeKind::Free { holder });

    let sample = place(&test, welcome.cube, 7 * METRE);
    tell(&mut test, id, sample);
    idle(&mut test);
    assert_eq!(changed(&mut test).0, [], "that is what the streams are for");

    let now = test.now();
    test.room.leave(id, Ending::Lost, now);
    test.leave(anna, Ending::Left);
    idle(&mut test);
    let (cubes, changes) = changed(&mut test);
    assert_eq!(
        (cubes, changes.removed),
        (vec![FREE, welcome.cube], vec![anna])
    );
    let ghost = &changes.changed[1].info;
    assert_eq!(ghost.kind, CubeKind::Ghost);
    assert_eq!(ghost.motion.pose(&Codec::LIVE), pose_at(7 * METRE));

    // The whole of it is the state.
    let state = test.room.state();
    assert_eq!((state.tick, state.last_id), (test.tick(), 2));
    assert_eq!(state.cubes, changes.changed);
}

#[test]
fn a_room_whose_players_are_all_elsewhere_goes_on() {
    let mut test = TestRoom::new(None, 1);
    test.room.connections.settings.permanent = false;
    let edge = TestEdge::new(&mut test);
    let (id, _) = enter(&mut test, edge.id, entrance(false, &[]));
    for _ in 0..70 * u64::from(HZ) {
        idle(&mut test);
    }
    let now = test.now();
    assert!(!test.room.is_abandoned(now));
    test.room.leave(id, Ending::Left, now);
    assert!(!test.room.is_abandoned(now));
    assert!(test.room.is_abandoned(now + Duration::from_secs(61)));
}

#[test]
fn a_player_who_types_coordinates_goes_on_without_an_answer() {
    let mut test = TestRoom::new(None, 1);
    let edge = TestEdge::new(&mut test);
    let rule = SpeedRule::Unlimited;
    let typist = RemoteEntrance {
        rule,
        ..entrance(true, &[])
    };
    let (id, welcome) = enter(&mut test, edge.id, typist);
    let sample = place(&test, welcome.cube, 7 * METRE);
    tell(&mut test, id, sample);
    idle(&mut test);
    assert_eq!(test.room.world.pose(welcome.cube), Some(pose_at(7 * METRE)));
}

#[test]
fn a_connection_that_another_one_has_replaced_gets_no_second_cube() {
    let mut test = TestRoom::new(None, 1);
    let edge = TestEdge::new(&mut test);
    let known = entrance(false, &[]);
    let first = known.next_token;
    let (_, welcome) = enter(&mut test, edge.id, known);
    let back = entrance(false, &[first]);
    let second = back.next_token;
    let (_, again) = enter(&mut test, edge.id, back);
    assert_eq!(again.cube, welcome.cube);
    // The edge that was cut off heals, and enters the connection that it believes to be alive.
    let late = TestEdge::new(&mut test);
    let now = test.now();
    let entered = test
        .room
        .enter_remote(late.id, entrance(true, &[first]), now);
    assert_eq!(entered, Err(Ending::Replaced));
    assert_eq!(test.cubes().len(), 2);
    // One that has both tokens goes on.
    let (_, on) = enter(&mut test, late.id, entrance(true, &[second, first]));
    assert_eq!(on.cube, welcome.cube);
}
