//! Receivers whose source does not have every stream yet, and receivers that begin anew.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use cubesync_protocol::{Keyframe, frame};
use futures_util::FutureExt;
use tokio::sync::mpsc;

use super::*;
use crate::room::log::{LogFrame, StreamId};

const HZ: u8 = 20;
const OWN: CubeId = CubeId(7);
const PLAYER: ReceiverId = ReceiverId::Player(MemberId(1));
const OBSERVER: ReceiverId = ReceiverId::Observer(1);
/// Half of a second's ticks.
const WHILE: u64 = HZ as u64 / 2;

/// A source that has some streams.
struct Parts {
    tick: u64,
    here: BTreeSet<(CellId, Sight)>,
    asked: BTreeSet<(CellId, Sight)>,
    opened: BTreeSet<(CellId, Sight)>,
    viewpoint: Position,
}

impl Source for Parts {
    fn moving(&self) -> Moving {
        Moving::Nobody
    }

    fn provide(&mut self, cell: CellId, sight: Sight) -> bool {
        self.asked.insert((cell, sight));
        self.here.contains(&(cell, sight))
    }

    fn open(&mut self, cell: CellId, sight: Sight) {
        assert!(self.opened.insert((cell, sight)));
    }

    fn close(&mut self, cell: CellId, sight: Sight) {
        assert!(self.opened.remove(&(cell, sight)));
    }

    fn keyframe(&mut self, cell: CellId, sight: Sight) -> Bytes {
        assert!(self.here.contains(&(cell, sight)));
        let keyframe = Keyframe {
            cell,
            interval_ticks: if sight == Sight::Near {
                1
            } else {
                FAR_INTERVAL_TICKS
            },
            tick: self.tick,
            cubes: Vec::new(),
        };
        ServerMessage::Keyframe(keyframe).to_frame()
    }

    fn viewpoints(&self, player: CubeId) -> impl Iterator<Item = Position> {
        assert_eq!(player, OWN);
        std::iter::once(self.viewpoint)
    }
}

/// An audience of one receiver, and its source.
struct Test {
    audience: Audience,
    log: SnapshotLog,
    source: Parts,
    frames: mpsc::Receiver<Bytes>,
    cells: usize,
}

impl Test {
    fn new(grid: Grid, id: ReceiverId) -> Self {
        let (outlet, frames) = mpsc::channel(64);
        let receiver = Receiver::new(Outlet::Frames(outlet));
        let mut audience = Audience::new(grid, HZ);
        audience.add(
            id,
            match id {
                ReceiverId::Player(_) => receiver.of_player(OWN).with_surroundings(),
                ReceiverId::Observer(_) => receiver,
            },
        );
        Self {
            audience,
            log: SnapshotLog::new(StreamId::count(grid.cells())),
            source: Parts {
                tick: 0,
                here: BTreeSet::new(),
                asked: BTreeSet::new(),
                opened: BTreeSet::new(),
                viewpoint: Position { x: 0, y: 0, z: 0 },
            },
            frames,
            cells: grid.cells(),
        }
    }

    /// Ends ticks, and returns what the receiver is sent.
    fn ticks(&mut self, count: u64) -> Vec<ServerMessage> {
        let mut received = Vec::new();
        for _ in 0..count {
            self.serve();
            while let Ok(frames) = self.frames.try_recv() {
                received.extend_from_slice(&frames);
            }
        }
        decode(&received)
    }

    /// Ends a tick.
    fn serve(&mut self) {
        self.source.tick += 1;
        let (tick, now) = (self.source.tick, Instant::now());
        let over = self.audience.serve(tick, &self.log, &mut self.source, now);
        assert_eq!(over, []);
    }

    /// Lets the source have all streams with a sight.
    fn have(&mut self, sight: Sight) {
        let cells = (0..self.cells).map(|cell| (CellId(cell as u16), sight));
        self.source.here.extend(cells);
    }
}

/// Returns the messages in some frames.
fn decode(frames: &[u8]) -> Vec<ServerMessage> {
    let mut frames = BytesMut::from(frames);
    let payload = || frame::split(&mut frames, ServerMessage::MAX_PAYLOAD_BYTES).unwrap();
    std::iter::from_fn(payload)
        .map(|payload| ServerMessage::decode(&payload).unwrap())
        .collect()
}

/// Returns the cells that a receiver sees, and how.
fn view(test: &Test, receiver: ReceiverId) -> BTreeSet<(CellId, Sight)> {
    let view = test.audience.receivers[&receiver].connection.view();
    view.iter().copied().collect()
}

/// Returns the cells of keyframes, and how they are seen.
fn keyframes(messages: &[ServerMessage]) -> BTreeSet<(CellId, Sight)> {
    let seen = |message: &ServerMessage| match message {
        ServerMessage::Keyframe(keyframe) => Some(match keyframe.interval_ticks {
            1 => (keyframe.cell, Sight::Near),
            _ => (keyframe.cell, Sight::Far),
        }),
        _ => None,
    };
    messages.iter().filter_map(seen).collect()
}

fn has_lost_sight(messages: &[ServerMessage]) -> bool {
    let is_loss = |message: &ServerMessage| matches!(message, ServerMessage::OutOfSight { .. });
    messages.iter().any(is_loss)
}

#[test]
fn a_new_receiver_waits_until_the_source_has_all_that_it_sees() {
    let mut test = Test::new(Grid::WHOLE, OBSERVER);
    assert_eq!(test.ticks(WHILE), []);
    let all = BTreeSet::from([(CellId(0), Sight::Near)]);
    assert_eq!(test.source.asked, all, "it was asked for");
    assert_eq!(test.source.opened, BTreeSet::new());
    test.have(Sight::Near);
    assert_eq!(keyframes(&test.ticks(1)), all);
    assert_eq!(test.source.opened, all);
}

#[test]
fn after_a_second_it_begins_with_what_there_is_and_the_rest_follows() {
    let mut test = Test::new(Grid::new(100 * 512), PLAYER);
    let far = |seen: &(CellId, Sight)| seen.1 == Sight::Far;
    test.have(Sight::Far);
    assert_eq!(test.ticks(2 * WHILE - 4), []);
    let first = keyframes(&test.ticks(8));
    assert!(!first.is_empty() && first.iter().all(far));
    // A receiver that lacks something gets heartbeats all the same.
    let meanwhile = test.ticks(4 * u64::from(HZ));
    assert!(!meanwhile.is_empty() && keyframes(&meanwhile).is_empty());
    test.have(Sight::Near);
    let rest = keyframes(&test.ticks(4));
    assert!(!rest.is_empty() && !rest.iter().any(far));
    let whole = first.union(&rest).copied().collect();
    assert_eq!(test.source.opened, whole);
    let asked = test.source.asked.clone();
    test.source.asked.clear();
    assert_eq!(keyframes(&test.ticks(8)), BTreeSet::new());
    assert!(asked.is_superset(&whole) && test.source.asked.is_empty());
}

#[test]
fn what_a_receiver_saw_of_a_cell_stays_until_the_nearer_stream_is_there() {
    let mut test = Test::new(Grid::new(100 * 512), PLAYER);
    test.have(Sight::Far);
    test.have(Sight::Near);
    let before = keyframes(&test.ticks(4));
    test.source
        .here
        .retain(|seen| before.contains(seen) || seen.1 == Sight::Far);
    test.source.asked.clear();
    test.source.viewpoint.x += 100 * 512;
    let moved = test.ticks(8);
    let is_new_near = |seen: &&(CellId, Sight)| seen.1 == Sight::Near;
    assert_eq!(keyframes(&moved).iter().find(is_new_near), None);
    let is_nearer = |cell: &CellId| test.source.asked.contains(&(*cell, Sight::Near));
    let was_far = before.iter().filter(|seen| seen.1 == Sight::Far);
    assert!(was_far.filter(|(cell, _)| is_nearer(cell)).count() > 0);
    for message in &moved {
        if let ServerMessage::OutOfSight { cells } = message {
            assert!(!cells.iter().any(is_nearer), "{cells:?}");
        }
    }
    test.have(Sight::Near);
    let now = test.ticks(4);
    assert!(keyframes(&now).iter().any(|seen| is_new_near(&seen)) && !has_lost_sight(&now));
}

#[test]
fn a_suspended_player_is_sent_nothing_of_the_log_until_the_restart() {
    let mut test = Test::new(Grid::WHOLE, PLAYER);
    test.have(Sight::Near);
    assert_eq!(test.ticks(1).len(), 1);
    test.audience.suspend_players();
    let frame = LogFrame {
        bytes: ServerMessage::Heartbeat { tick: 0 }.to_frame(),
        sole: None,
    };
    let stream = StreamId::new(CellId(0), Sight::Near);
    let later = 5 * u64::from(HZ);
    for tick in 2..later {
        test.log.push(tick, vec![(stream, frame.clone())], 1);
        assert_eq!(test.ticks(1), []);
    }
    // What is for them alone goes out at once.
    let pong = ServerMessage::Heartbeat { tick: 7 };
    test.audience.send(PLAYER, &pong, &test.log, Instant::now());
    assert_eq!(test.ticks(1), [pong]);
    test.audience.restart(PLAYER, Some(OWN));
    let all = BTreeSet::from([(CellId(0), Sight::Near)]);
    assert_eq!(keyframes(&test.ticks(1)), all);
    test.log.push(later + 2, vec![(stream, frame)], 1);
    assert_eq!(test.ticks(1), [ServerMessage::Heartbeat { tick: 0 }]);
}

#[test]
fn receivers_of_a_stream_that_the_source_has_lost_begin_again_when_it_is_back() {
    let mut test = Test::new(Grid::WHOLE, PLAYER);
    test.have(Sight::Near);
    let all = keyframes(&test.ticks(1));
    test.source.here.clear();
    let (cell, sight) = (CellId(0), Sight::Near);
    test.audience.restart_seeing(CellId(0), Sight::Far);
    assert_eq!(
        keyframes(&test.ticks(1)),
        BTreeSet::new(),
        "nobody sees that one"
    );
    test.audience.restart_seeing(cell, sight);
    assert_eq!(test.ticks(WHILE), []);
    test.have(Sight::Near);
    assert_eq!(keyframes(&test.ticks(1)), all);
    assert_eq!(test.source.opened, all);
}

/// Takes what waits in a queue.
fn take_all(queue: &mut QueuedFrames) -> Vec<u8> {
    let mut taken = Vec::new();
    while let Some(Some(outgoing)) = queue.next().now_or_never() {
        let written = outgoing.write_to(&mut taken, &[]).now_or_never();
        written.expect("memory takes everything").unwrap();
    }
    taken
}

#[test]
fn a_reader_that_has_fallen_behind_and_moved_gets_all_that_it_sees_when_it_reads_again() {
    const READER: ReceiverId = ReceiverId::Player(MemberId(2));
    let mut test = Test::new(Grid::new(100 * 512), PLAYER);
    test.have(Sight::Near);
    test.have(Sight::Far);
    let (outlet, mut queued) = queue();
    let reader = Receiver::new(Outlet::Session(outlet)).of_player(OWN);
    test.audience.add(READER, reader.with_surroundings());
    test.ticks(4);
    assert_eq!(
        keyframes(&decode(&take_all(&mut queued))),
        view(&test, READER)
    );

    // Its queue is full, and the log goes on without it.
    let (cell, sight) = *view(&test, READER).first().unwrap();
    let frame = LogFrame {
        bytes: Bytes::from(vec![0; FrameQueue::MAX_SHARED_BYTES]),
        sole: None,
    };
    let has_lost = |test: &Test| {
        let receiver = &test.audience.receivers[&READER];
        receiver.connection.has_fallen_behind(&test.log)
    };
    while !has_lost(&test) {
        let frames = vec![(StreamId::new(cell, sight), frame.clone())];
        test.log.push(test.source.tick + 1, frames, 1);
        test.serve();
    }
    test.source.viewpoint.x += 100 * 512;
    for _ in 0..8 {
        test.serve();
    }
    assert!(
        has_lost(&test),
        "it has had nothing that it could go on with"
    );
    take_all(&mut queued);
    for _ in 0..4 {
        test.serve();
    }
    assert_eq!(
        keyframes(&decode(&take_all(&mut queued))),
        view(&test, READER)
    );
}
