//! What a room sends as datagrams, in any order and number beside the stream, makes the same replica as
//! the stream alone.

use std::sync::Mutex;

use cubesync_protocol::datagram::{Downlink, Gate, LOST_ALL, Uplink};
use cubesync_protocol::limits::MAX_DATAGRAM_BYTES;

use super::*;
use crate::datagram::DatagramPath;

/// A path that keeps what it sends.
#[derive(Debug, Default)]
pub(super) struct Recorded(pub(super) Mutex<Vec<Downlink>>);

impl DatagramPath for Recorded {
    fn send(&self, datagram: &[u8]) -> bool {
        assert!(datagram.len() <= MAX_DATAGRAM_BYTES);
        let downlink = Downlink::decode(datagram).unwrap();
        let is_empty = downlink.snapshots.is_empty();
        assert!(
            downlink.base < downlink.complete || is_empty && downlink.base == downlink.complete
        );
        self.0.lock().unwrap().push(downlink);
        true
    }
}

/// A client's report of this share of lost datagrams.
pub(super) fn report(lost: u8) -> Uplink {
    Uplink {
        lost,
        ..Uplink::default()
    }
}

/// A replica and the cubes in sight, by its changes.
#[derive(Default)]
pub(super) struct Receiver {
    gate: Gate,
    replica: Replica,
    present: BTreeSet<CubeId>,
}

impl Receiver {
    pub(super) fn message(&mut self, message: &ServerMessage) {
        let changes = self.gate.message(message, &mut self.replica).unwrap();
        self.hear(changes);
    }

    /// Returns whether the datagram was of use.
    pub(super) fn datagram(&mut self, downlink: &Downlink) -> bool {
        let changes = self.gate.datagram(downlink, &mut self.replica).unwrap();
        let is_new = changes.is_some();
        self.hear(changes.unwrap_or_default());
        is_new
    }

    fn hear(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Joined(info) | Change::Appeared(info) => {
                    assert!(self.present.insert(info.cube));
                }
                Change::Left(info) | Change::Disappeared(info) => {
                    assert!(self.present.remove(&info.cube));
                }
                _ => {}
            }
        }
    }
}

/// Reads what a stream has, and returns the number of writes and the messages.
fn read(client: &mut Client) -> (usize, Vec<ServerMessage>) {
    let (mut writes, mut messages) = (0, Vec::new());
    while let Ok(frames) = client.frames.try_recv() {
        writes += 1;
        client.received.extend_from_slice(&frames);
    }
    while let Some(payload) =
        frame::split(&mut client.received, ServerMessage::MAX_PAYLOAD_BYTES).unwrap()
    {
        messages.push(ServerMessage::decode(&payload).unwrap());
    }
    (writes, messages)
}

/// Counts of datagrams in all runs.
#[derive(Debug, Default)]
struct Used {
    new: u64,
    useless: u64,
}

/// Returns the tick that a message of the stream is about.
fn tick_of(message: &ServerMessage) -> u64 {
    match message {
        ServerMessage::Keyframe(keyframe) => keyframe.tick,
        ServerMessage::Snapshot(snapshot) => snapshot.tick,
        ServerMessage::Heartbeat { tick } => *tick,
        _ => 0,
    }
}

/// Compares what a client makes of its stream with what it makes of the stream and any datagrams.
fn compare(
    stream: &[ServerMessage],
    datagrams: &[Downlink],
    random: &mut fastrand::Rng,
    used: &mut Used,
) {
    let last = stream.iter().map(tick_of).max().unwrap_or_default();
    let datagrams: Vec<_> = datagrams
        .iter()
        .filter(|datagram| datagram.complete < last)
        .collect();
    let mut alone = Receiver::default();
    let mut both = Receiver::default();
    // Datagrams are up to so many ahead of the stream, and behind it.
    let (ahead, behind) = (random.usize(1..80), random.usize(1..20));
    let often = random.f64();
    let mut newest = 0;
    for message in stream {
        newest = newest.max(tick_of(message));
        while random.f64() < often && !datagrams.is_empty() {
            let now = datagrams.partition_point(|datagram| datagram.complete < newest);
            let from = now.saturating_sub(behind);
            let until = (now + ahead).min(datagrams.len());
            if from == until {
                break;
            }
            match both.datagram(datagrams[random.usize(from..until)]) {
                true => used.new += 1,
                false => used.useless += 1,
            }
        }
        alone.message(message);
        both.message(message);
    }
    let end = ServerMessage::Heartbeat { tick: last };
    alone.message(&end);
    both.message(&end);
    assert!(alone.replica.cubes().eq(both.replica.cubes()));
    assert!(alone.replica.streams().eq(both.replica.streams()));
    for info in alone.replica.cubes() {
        let cube = info.cube;
        assert_eq!(alone.replica.state(cube), both.replica.state(cube));
    }
    assert_eq!(alone.present, both.present);
}

/// Plays in a room, and returns how much of the datagrams was of use.
fn play(view_distance_m: Option<u32>, seed: u64, changes_owner: bool, used: &mut Used) {
    let mut test = TestRoom::new(view_distance_m, seed);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut paths: BTreeMap<CubeId, (MemberId, Arc<Recorded>)> = BTreeMap::new();
    for _ in 0..random.usize(2..7) {
        test.enter(None);
    }
    for step in 0..220 {
        let is_last = step >= 200;
        for client in test.clients.values_mut().filter(|_| is_last) {
            client.asleep_until = 0;
        }
        if changes_owner && step % 50 == 30 {
            test.take_over(random.u64(..3) * 10);
        }
        for (cube, id) in test.room.players.clone() {
            let receiver = ReceiverId::Player(id);
            let tick = test.tick();
            if random.u8(..10) == 0 && paths.get(&cube).is_none_or(|(known, _)| *known != id) {
                let path = Arc::new(Recorded::default());
                paths.insert(cube, (id, path.clone()));
                test.room
                    .connections
                    .audience
                    .open_path(receiver, path, tick);
            }
            if random.u8(..20) == 0 {
                let lost = [0, 1, 8, LOST_ALL][random.usize(..4)];
                test.room
                    .connections
                    .audience
                    .heard(receiver, &report(lost), tick);
            }
        }
        match is_last {
            true => test.end_tick(&test.cubes()),
            false => test.step(),
        }
    }
    for (cube, client) in &test.clients {
        let member = test.room.players[cube];
        let path = paths.get(cube).filter(|(id, _)| *id == member);
        let Some((_, path)) = path else {
            continue;
        };
        let datagrams = path.0.lock().unwrap();
        for _ in 0..8 {
            compare(&client.heard, &datagrams, &mut random, used);
        }
    }
}

#[test]
fn any_interleaving_of_stream_and_datagrams_makes_the_replica_of_the_stream() {
    let mut used = Used::default();
    for seed in 0..16 {
        let view_distance_m = [None, Some(20), Some(32), Some(64)][seed as usize % 4];
        play(view_distance_m, seed, false, &mut used);
    }
    assert!(used.new > 3_000 && used.useless > 3_000, "{used:?}");
}

#[test]
fn datagrams_change_nothing_either_when_the_rooms_owner_changes() {
    let mut used = Used::default();
    for seed in 0..8 {
        let view_distance_m = [None, Some(32)][seed as usize % 2];
        play(view_distance_m, seed, true, &mut used);
    }
    assert!(used.new > 1_000 && used.useless > 1_000, "{used:?}");
}

#[test]
fn a_player_gets_no_datagram_about_their_own_motion_alone_but_one_that_completes_it() {
    let mut test = TestRoom::new(None, 3);
    let [walker, viewer] = [(); 2].map(|()| test.enter_at(None, None));
    let paths = [walker, viewer].map(|player| {
        let path = Arc::new(Recorded::default());
        let receiver = ReceiverId::Player(test.room.players[&player]);
        let tick = test.tick();
        test.room
            .connections
            .audience
            .open_path(receiver, path.clone(), tick);
        test.room
            .connections
            .audience
            .heard(receiver, &report(0), tick);
        path
    });
    let mut x = 0;
    let mut step = |test: &mut TestRoom, player: CubeId| {
        let tick = test.tick() + 1;
        x += tick as i32 % 7 * METRE / 4;
        test.say_pose(player, tick, (player, pose_at(x)));
        let begins = test.room.clock.begins(tick);
        test.room.tick(begins);
    };
    for _ in 0..20 {
        step(&mut test, walker);
    }
    let counts = paths.each_ref().map(|path| path.0.lock().unwrap().len());
    // A heartbeat comes every second.
    assert!(counts[0] <= 2 && counts[1] >= 15, "{counts:?}");
    step(&mut test, viewer);
    let sent = paths[0].0.lock().unwrap();
    let newest = sent.last().unwrap();
    assert_eq!(newest.complete, test.tick());
    assert_eq!(newest.snapshots.len(), 7, "{newest:?}");
}

#[test]
fn after_a_restart_there_is_no_datagram_until_the_keyframes() {
    let mut test = TestRoom::new(Some(20), 3);
    let [walker, viewer] = [(); 2].map(|()| test.enter_at(None, None));
    let path = Arc::new(Recorded::default());
    let receiver = ReceiverId::Player(test.room.players[&viewer]);
    let mut since = None;
    for step in 0..24 {
        let tick = test.tick();
        let audience = &mut test.room.connections.audience;
        if step == 0 {
            audience.open_path(receiver, path.clone(), tick);
        }
        audience.heard(receiver, &report(0), tick);
        if step >= 12 && since.is_none() && tick.is_multiple_of(4) {
            audience.restart(receiver, Some(viewer));
            path.0.lock().unwrap().clear();
            since = Some(tick);
        }
        test.say_pose(walker, tick + 1, (walker, pose_at(METRE * (step % 7))));
        let begins = test.room.clock.begins(tick + 1);
        test.room.tick(begins);
    }
    // Views change at every fourth tick.
    let keyframes = since.unwrap() + 4;
    let sent = path.0.lock().unwrap();
    assert!(sent.len() > 4);
    for datagram in sent.iter() {
        assert!(datagram.base >= keyframes, "{datagram:?}");
    }
}

#[test]
fn the_stream_waits_a_moment_with_what_datagrams_bring_and_not_when_they_do_not() {
    for works in [true, false] {
        let mut test = TestRoom::new(None, 3);
        let [walker, viewer] = [(); 2].map(|()| test.enter_at(None, None));
        let receiver = ReceiverId::Player(test.room.players[&viewer]);
        let path = Arc::new(Recorded::default());
        let tick = test.tick();
        test.room
            .connections
            .audience
            .open_path(receiver, path.clone(), tick);
        let (mut writes, mut snapshots) = (0, 0);
        for step in 0..40 {
            let lost = if works { 0 } else { LOST_ALL };
            let tick = test.tick();
            test.room
                .connections
                .audience
                .heard(receiver, &report(lost), tick);
            let tick = tick + 1;
            test.say_pose(walker, tick, (walker, pose_at(METRE * (step * step % 7))));
            let begins = test.room.clock.begins(tick);
            test.room.tick(begins);
            let (new_writes, messages) = read(test.clients.get_mut(&viewer).unwrap());
            writes += new_writes;
            let is_snapshot = |message: &&_| matches!(message, ServerMessage::Snapshot(_));
            snapshots += messages.iter().filter(is_snapshot).count();
        }
        assert!(snapshots >= 25, "{snapshots}");
        if works {
            assert!(writes <= 12, "{writes}");
        } else {
            assert!(writes >= snapshots, "{writes}");
        }
    }
}

#[test]
fn no_tick_comes_late_while_so_many_join_that_a_datagram_has_one_tick_at_most() {
    let mut test = TestRoom::new(None, 3);
    let [walker, viewer] = [(); 2].map(|()| test.enter_at(None, None));
    let id = ReceiverId::Player(test.room.players[&viewer]);
    let path = Arc::new(Recorded::default());
    let tick = test.tick();
    let audience = &mut test.room.connections.audience;
    audience.open_path(id, path.clone(), tick);
    let (mut receiver, mut waited, mut useless) = (Receiver::default(), 0, 0);
    for step in 0..40 {
        let tick = test.tick();
        test.room.connections.audience.heard(id, &report(0), tick);
        // Now and then a datagram is too short for those who join, and always for those of two ticks.
        let joins = if step % 9 == 4 { 60 } else { 25 };
        for _ in 0..joins {
            test.enter_at(None, None);
        }
        let tick = tick + 1;
        test.say_pose(walker, tick, (walker, pose_at(METRE * (step * step % 7))));
        let begins = test.room.clock.begins(tick);
        test.room.tick(begins);
        let mut has_tick = false;
        // An encrypted stream comes later than datagrams of the same tick.
        for datagram in path.0.lock().unwrap().drain(..) {
            let is_of_use = receiver.datagram(&datagram);
            has_tick |= is_of_use && datagram.complete == tick;
            useless += u32::from(!is_of_use);
        }
        let (writes, messages) = read(test.clients.get_mut(&viewer).unwrap());
        waited += u32::from(writes == 0);
        for message in &messages {
            receiver.message(message);
            has_tick |= tick_of(message) == tick;
        }
        assert!(has_tick, "step {step}");
    }
    assert!(waited >= 20, "the stream waited in {waited} ticks");
    assert!(useless <= 2, "{useless} datagrams");
}
