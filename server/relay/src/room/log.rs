//! The snapshot log: a room's last ticks as encoded frames, shared by all connections.
//!
//! Each frame is encoded once. A connection is a cursor into the log and the streams it sees, so
//! a room of a thousand has one copy of everything, and a slow reader costs no memory: it falls
//! off the log's end and goes on with keyframes.

use std::collections::VecDeque;

use bytes::Bytes;
use cubesync_protocol::CellId;
use cubesync_protocol::cells::Sight;

/// Largest number of ticks in the log: two seconds at the default rate. A reader that is further behind
/// is served better by keyframes.
const MAX_TICKS: usize = 64;

/// Largest number of bytes in the log, except that the newest tick always fits. In a crowded room this
/// limit is reached first.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// A cell's stream at one rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamId(u16);

/// A place in the log: before the next frame of a connection's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The number of a tick in the log, from 1.
    sequence: u64,
    /// The position of the next stream in the connection's list.
    stream: usize,
}

impl Cursor {
    /// The place of a new connection: before the log, so that it begins with keyframes.
    pub const BEFORE_LOG: Self = Self {
        sequence: 0,
        stream: 0,
    };
}

/// The frames of the last ticks, within bounds.
#[derive(Debug)]
pub struct SnapshotLog {
    ticks: VecDeque<Tick>,
    len_bytes: usize,
    /// The number of the first tick in `ticks`.
    first: u64,
    streams: usize,
}

/// The frames of a tick.
#[derive(Debug)]
struct Tick {
    /// By stream, the position of its frame in `frames` plus one; 0: it has none.
    index: Box<[u16]>,
    frames: Vec<Bytes>,
    len_bytes: usize,
}

impl StreamId {
    /// Returns the stream of a cell for receivers that see it so.
    pub fn new(cell: CellId, sight: Sight) -> Self {
        Self(cell.0 * 2 + u16::from(sight == Sight::Far))
    }

    /// Returns the stream's index, which is below the [`count`](Self::count) of the room's cells.
    pub fn index(self) -> usize {
        self.0.into()
    }

    /// Returns the number of streams of `cells` cells.
    pub fn count(cells: usize) -> usize {
        cells * 2
    }
}

impl SnapshotLog {
    /// Creates an empty log, for stream indices below `streams`.
    pub fn new(streams: usize) -> Self {
        Self {
            ticks: VecDeque::new(),
            len_bytes: 0,
            first: 1,
            streams,
        }
    }

    /// Returns the place of the next tick.
    pub fn end(&self) -> Cursor {
        Cursor {
            sequence: self.first + self.ticks.len() as u64,
            stream: 0,
        }
    }

    /// Returns whether a cursor's next tick is no longer in the log.
    pub fn has_lost(&self, cursor: Cursor) -> bool {
        cursor.sequence < self.first
    }

    /// Appends a tick's frames, and removes the oldest ticks while the log is over its bounds.
    pub fn push(&mut self, frames: Vec<(StreamId, Bytes)>) {
        let mut tick = Tick {
            index: vec![0; self.streams].into_boxed_slice(),
            frames: Vec::with_capacity(frames.len()),
            len_bytes: 0,
        };
        for (stream, frame) in frames {
            tick.len_bytes += frame.len();
            tick.frames.push(frame);
            tick.index[stream.index()] = tick.frames.len() as u16;
        }
        self.len_bytes += tick.len_bytes;
        self.ticks.push_back(tick);
        while self.ticks.len() > MAX_TICKS || (self.len_bytes > MAX_BYTES && self.ticks.len() > 1) {
            let oldest = self.ticks.pop_front().expect("the log is over its bound");
            self.len_bytes -= oldest.len_bytes;
            self.first += 1;
        }
    }

    /// Returns the next frame of `streams` at or after the cursor, and moves the cursor behind it. Returns
    /// `None` at the log's end, and for a cursor that the log has lost.
    pub fn next(&self, streams: &[StreamId], cursor: &mut Cursor) -> Option<&Bytes> {
        loop {
            let place = usize::try_from(cursor.sequence.checked_sub(self.first)?).ok()?;
            let tick = self.ticks.get(place)?;
            while let Some(stream) = streams.get(cursor.stream) {
                cursor.stream += 1;
                let index = usize::from(tick.index[stream.index()]);
                if let Some(index) = index.checked_sub(1) {
                    return Some(&tick.frames[index]);
                }
            }
            *cursor = Cursor {
                sequence: cursor.sequence + 1,
                stream: 0,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEAR: [StreamId; 3] = [StreamId(0), StreamId(2), StreamId(4)];

    fn frame(number: usize) -> Bytes {
        Bytes::from(number.to_string())
    }

    /// All frames from a cursor on.
    fn read(log: &SnapshotLog, streams: &[StreamId], mut cursor: Cursor) -> Vec<Bytes> {
        std::iter::from_fn(|| log.next(streams, &mut cursor).cloned()).collect()
    }

    fn frames(range: std::ops::Range<usize>) -> Vec<Bytes> {
        range.map(frame).collect()
    }

    #[test]
    fn a_cursor_reads_every_tick_once_until_it_falls_off() {
        let mut log = SnapshotLog::new(2);
        assert!(log.has_lost(Cursor::BEFORE_LOG));
        let mut cursor = log.end();
        for number in 0..MAX_TICKS {
            log.push(vec![(NEAR[0], frame(number))]);
        }
        assert!(!log.has_lost(cursor));
        assert_eq!(read(&log, &NEAR[..1], cursor), frames(0..MAX_TICKS));
        assert!(read(&log, &NEAR[..1], log.end()).is_empty());

        log.push(vec![(NEAR[0], frame(MAX_TICKS))]);
        assert!(log.has_lost(cursor));
        assert!(read(&log, &NEAR[..1], cursor).is_empty());
        assert_eq!(log.next(&NEAR[..1], &mut cursor), None);
        assert!(log.has_lost(cursor), "a lost cursor stays lost");
    }

    #[test]
    fn a_cursor_reads_only_its_streams_and_may_stop_anywhere() {
        let mut log = SnapshotLog::new(6);
        let mut cursor = log.end();
        log.push(vec![
            (NEAR[0], frame(0)),
            (StreamId(1), frame(9)),
            (NEAR[2], frame(1)),
        ]);
        log.push(vec![(StreamId(3), frame(9))]);
        log.push(vec![(NEAR[1], frame(2)), (NEAR[2], frame(3))]);
        assert_eq!(read(&log, &NEAR, cursor), frames(0..4));
        assert_eq!(read(&log, &NEAR[1..2], cursor), frames(2..3));
        for number in 0..4 {
            assert_eq!(read(&log, &NEAR, cursor), frames(number..4));
            assert_eq!(log.next(&NEAR, &mut cursor), Some(&frame(number)));
        }
        assert_eq!(log.next(&NEAR, &mut cursor), None);
        assert_eq!(cursor, log.end());
    }

    #[test]
    fn the_log_is_bounded_in_bytes_but_keeps_the_newest() {
        let mut log = SnapshotLog::new(2);
        let large = Bytes::from(vec![0; MAX_BYTES / 2]);
        let start = log.end();
        for _ in 0..3 {
            log.push(vec![(NEAR[0], large.clone())]);
        }
        assert!(log.has_lost(start));
        assert_eq!(log.ticks.len(), 2);
        log.push(vec![(NEAR[0], Bytes::from(vec![0; MAX_BYTES + 1]))]);
        assert_eq!(log.ticks.len(), 1);
    }
}
