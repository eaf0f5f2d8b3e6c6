//! Which way datagrams come through, as both sides know it, and what the stream does meanwhile.

use cubesync_protocol::datagram::{Downlink, LOST_ALL};
use cubesync_protocol::limits::MAX_DATAGRAM_BYTES;
use cubesync_protocol::{DatagramAnswer, Rotation};

use super::datagrams::{Receiver, Recorded, report};
use super::*;
use crate::datagram::OpenedPath;

/// Opens a path for a player as a session does.
fn open(test: &mut TestRoom, player: CubeId) -> Arc<Recorded> {
    let path = Arc::new(Recorded::default());
    let opened = Some(OpenedPath {
        answer: DatagramAnswer::Unavailable,
        path: path.clone(),
    });
    let (from, now) = (test.room.players[&player], test.now());
    let event = RoomEvent::OpenDatagrams { from, opened };
    test.room.handle(event, now);
    path
}

/// Delivers a datagram of a player that reports this share of losses.
fn hear(test: &mut TestRoom, player: CubeId, lost: u8) {
    let (from, now) = (test.room.players[&player], test.now());
    let uplink = report(lost);
    test.room.handle(RoomEvent::Datagram { from, uplink }, now);
}

/// Ends the next tick, at which players have these poses.
fn step(test: &mut TestRoom, poses: &[(CubeId, Pose)]) {
    let tick = test.tick() + 1;
    for &(player, pose) in poses {
        test.say_pose(player, tick, (player, pose));
    }
    let begins = test.room.clock.begins(tick);
    test.room.tick(begins);
    for (&own, client) in &mut test.clients {
        client.read(own, tick, &test.room, &mut test.found);
    }
}

/// Moves a player for so many ticks at one speed. Returns the ticks of what the stream brings another one.
fn walk_straight(test: &mut TestRoom, walker: CubeId, viewer: CubeId, ticks: u64) -> Vec<u64> {
    test.clients.get_mut(&viewer).unwrap().heard.clear();
    for _ in 0..ticks {
        let pose = pose_at(test.tick() as i32 * METRE / 8);
        step(test, &[(walker, pose)]);
    }
    let heard = &test.clients[&viewer].heard;
    let tick_of = |message: &ServerMessage| match message {
        ServerMessage::Snapshot(snapshot) => Some(snapshot.tick),
        ServerMessage::Heartbeat { tick } => Some(*tick),
        _ => None,
    };
    heard.iter().filter_map(tick_of).collect()
}

fn take(path: &Recorded) -> Vec<Downlink> {
    std::mem::take(&mut path.0.lock().unwrap())
}

#[test]
fn in_a_crowd_whose_ticks_are_too_long_the_way_stays_alive_and_the_stream_has_its_tail() {
    let mut test = TestRoom::new(None, 5);
    let players: Vec<_> = (0..120).map(|_| test.enter_at(None, None)).collect();
    step(&mut test, &[]);
    let viewer = players[0];
    let path = open(&mut test, viewer);
    step(&mut test, &[]);
    for round in 0..100 {
        if round % 20 == 0 {
            hear(&mut test, viewer, 0);
        }
        let mut pose = || {
            let mut random = || test.random.f32() - 0.5;
            let rotation = Rotation::from_quaternion([random(), random(), random(), random()]);
            let mut pose = pose_at((random() * 32_000.0) as i32);
            pose.position.y = (random() * 32_000.0) as i32;
            Pose { rotation, ..pose }
        };
        // At three of four ticks, nothing unpredicted happens.
        let poses: Vec<_> = match round % 4 {
            0 => players[1..]
                .iter()
                .map(|&player| (player, pose()))
                .collect(),
            _ => Vec::new(),
        };
        test.clients.get_mut(&viewer).unwrap().heard.clear();
        step(&mut test, &poses);
        let heard = &test.clients[&viewer].heard;
        let of_room = heard.iter().filter(|message| {
            matches!(
                message,
                ServerMessage::Snapshot(_) | ServerMessage::Heartbeat { .. }
            )
        });
        match (round % 4, &of_room.collect::<Vec<_>>()[..]) {
            (0, [snapshot]) => assert!(snapshot.to_frame().len() > MAX_DATAGRAM_BYTES),
            (1, [ServerMessage::Heartbeat { tick }]) => assert_eq!(*tick, test.tick()),
            (2 | 3, []) => {}
            (_, other) => panic!("{} messages in round {round}", other.len()),
        }
    }
    let sent = take(&path);
    assert!(sent.iter().all(|downlink| downlink.snapshots.is_empty()));
    let ticks: Vec<_> = sent.iter().map(|downlink| downlink.complete).collect();
    assert!(ticks.len() >= 5, "{ticks:?}");
    assert!(
        ticks.windows(2).all(|ticks| ticks[1] - ticks[0] <= 20),
        "{ticks:?}"
    );
}

#[test]
fn after_a_tick_that_is_too_long_the_stream_brings_the_next_one_at_once_too() {
    let mut test = TestRoom::new(None, 7);
    let [walker, viewer] = [(); 2].map(|()| test.enter_at(None, None));
    step(&mut test, &[]);
    open(&mut test, viewer);
    step(&mut test, &[]);
    hear(&mut test, viewer, 0);
    // Each step is another way than predicted, so every tick has something.
    let mut restless = |ticks: u64, newcomers: usize| {
        for _ in 0..newcomers {
            test.enter_at(None, None);
        }
        test.clients.get_mut(&viewer).unwrap().heard.clear();
        for _ in 0..ticks {
            let pose = pose_at((test.tick() % 2) as i32 * METRE / 4);
            step(&mut test, &[(walker, pose)]);
        }
        let heard = &test.clients[&viewer].heard;
        let is_snapshot = |message: &&ServerMessage| matches!(message, ServerMessage::Snapshot(_));
        heard.iter().filter(is_snapshot).count()
    };
    restless(10, 0);
    assert_eq!(restless(1, 0), 0, "datagrams have it");
    restless(1, 100);
    assert_eq!(restless(1, 0), 1, "the client cannot use the datagram");
    assert_eq!(restless(1, 0), 0, "datagrams have it again");
}

#[test]
fn a_server_that_hears_nothing_says_so_and_answers_the_first_datagram_after_that() {
    let mut test = TestRoom::new(None, 6);
    let [walker, viewer] = [(); 2].map(|()| test.enter_at(None, None));
    step(&mut test, &[]);
    let path = open(&mut test, viewer);
    hear(&mut test, viewer, LOST_ALL);
    step(&mut test, &[]);
    assert_eq!(take(&path).len(), 1, "the first datagram is answered");
    hear(&mut test, viewer, 0);
    walk_straight(&mut test, walker, viewer, 59);
    assert!(take(&path).iter().all(|downlink| downlink.lost == 0));
    walk_straight(&mut test, walker, viewer, 60);
    let lost: Vec<_> = take(&path).iter().map(|downlink| downlink.lost).collect();
    assert!((2..=4).contains(&lost.len()), "{lost:?}");
    assert!(lost[1..].iter().all(|lost| *lost == LOST_ALL), "{lost:?}");
    walk_straight(&mut test, walker, viewer, 5);
    take(&path);
    hear(&mut test, viewer, 0);
    walk_straight(&mut test, walker, viewer, 1);
    let lost: Vec<_> = take(&path).iter().map(|downlink| downlink.lost).collect();
    assert_eq!(lost, [0]);
}

#[test]
fn the_streams_heartbeats_stay_and_its_tail_goes_on_until_datagrams_are_confirmed() {
    let mut test = TestRoom::new(None, 7);
    let [walker, viewer] = [(); 2].map(|()| test.enter_at(None, None));
    let _path = open(&mut test, viewer);
    for lost in [LOST_ALL, 0] {
        hear(&mut test, viewer, lost);
        walk_straight(&mut test, walker, viewer, 20);
        hear(&mut test, viewer, lost);
        let ticks = walk_straight(&mut test, walker, viewer, 40);
        // Every 200 ms.
        assert!(
            ticks.windows(2).all(|ticks| ticks[1] - ticks[0] <= 4),
            "{ticks:?}"
        );
        // A turn is content, which has a tail unless a datagram has it as well.
        test.clients.get_mut(&viewer).unwrap().heard.clear();
        step(&mut test, &[(walker, pose_at(-9 * METRE))]);
        let turned = test.tick();
        step(&mut test, &[]);
        let tail = ServerMessage::Heartbeat { tick: turned + 1 };
        let heard = &test.clients[&viewer].heard;
        assert_eq!(heard.contains(&tail), lost == LOST_ALL, "{heard:?}");
    }
}

#[test]
fn a_client_can_use_the_first_datagram_in_a_room_where_nothing_moves() {
    let mut test = TestRoom::new(None, 8);
    let player = test.enter_at(None, None);
    for _ in 0..30 {
        step(&mut test, &[]);
    }
    let path = open(&mut test, player);
    let now = test.tick();
    hear(&mut test, player, LOST_ALL);
    step(&mut test, &[]);
    let mut receiver = Receiver::default();
    for message in &test.clients[&player].heard {
        receiver.message(message);
    }
    let sent = take(&path);
    assert_eq!(sent.len(), 1);
    assert!(receiver.datagram(&sent[0]));
    assert_eq!(sent[0].complete, now + 1);
}
