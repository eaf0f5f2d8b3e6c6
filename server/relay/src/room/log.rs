//! The snapshot log: a room's last ticks as encoded frames, shared by all connections.
//!
//! Each frame is encoded once. A connection is a cursor into the log and the streams it sees, so
//! a room of a thousand has one copy of everything, and a slow reader costs no memory: it falls
//! off the log's end and goes on with keyframes.

use std::collections::VecDeque;

use bytes::Bytes;
use cubesync_protocol::cells::Sight;
use cubesync_protocol::datagram::SNAPSHOT_OFFSET_BYTES;
use cubesync_protocol::{CellId, CubeId};

/// Number of ticks that the log keeps in any case: two seconds at the default rate.
const MIN_TICKS: usize = 64;

/// Largest number of ticks in the log, which it reaches only where they are less than a keyframe: half a minute
/// at the default rate. A peer on a thin line takes that long for the keyframe of a crowd, and what it has missed
/// meanwhile is less than the next one. Otherwise it would get keyframes only.
const MAX_TICKS: usize = 1_024;

/// Approximate size of a cube in a keyframe.
const KEYFRAME_CUBE_BYTES: usize = 40;

/// Largest number of bytes in the log, except that the newest tick always fits. In a crowded room this
/// limit is reached first.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// The same for plain streams, which say the same in up to twenty times the bytes. They are counted apart, so that a
/// client that predicts nothing shortens nobody's log.
const MAX_PLAIN_BYTES: usize = 8 * 1024 * 1024;

/// Largest number of ticks in a datagram that are of no interest to its receiver. The stream has them as
/// well, and is hardly ever further behind.
const MAX_OTHER_TICKS: usize = 6;

/// A cell's stream at one rate, in one encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// A frame of the log: an encoded snapshot.
#[derive(Debug, Clone)]
pub struct LogFrame {
    /// The whole frame.
    pub bytes: Bytes,
    /// The only cube that the snapshot is about, if there is only one and nothing but its motion.
    pub sole: Option<CubeId>,
}

/// The newest ticks of some streams: what a datagram says.
#[derive(Debug)]
pub struct Window<'a> {
    /// The tick after which the frames begin: there is nothing in between.
    pub base: u64,
    /// The frames, by tick and stream.
    pub frames: Vec<&'a Bytes>,
}

/// The frames of the last ticks, within bounds.
#[derive(Debug)]
pub struct SnapshotLog {
    ticks: VecDeque<Tick>,
    len_bytes: usize,
    /// The memory of plain frames.
    plain_bytes: usize,
    /// The room's tick of the newest one that was removed.
    removed_tick: u64,
    /// The number of the first tick in `ticks`.
    first: u64,
    streams: usize,
}

/// The frames of a tick.
#[derive(Debug)]
struct Tick {
    /// The room's number of it.
    tick: u64,
    /// By stream, the position of its frame in `frames` plus one; 0: it has none.
    index: Box<[u16]>,
    frames: Vec<LogFrame>,
    /// The memory that it takes, without plain frames.
    len_bytes: usize,
    /// That of plain frames.
    plain_bytes: usize,
}

impl StreamId {
    /// The number of streams of a cell.
    const OF_A_CELL: u16 = 3;

    /// Returns the stream of a cell for receivers that see it so.
    pub fn new(cell: CellId, sight: Sight) -> Self {
        Self(cell.0 * Self::OF_A_CELL + sight as u16)
    }

    /// Returns the stream's index, which is below the [`count`](Self::count) of the room's cells.
    pub fn index(self) -> usize {
        self.0.into()
    }

    /// Returns the stream of an [`index`](Self::index).
    pub(super) fn at(index: usize) -> Self {
        Self(index as u16)
    }

    /// Returns the cell of the stream, and how its receivers see it.
    pub fn parts(self) -> (CellId, Sight) {
        let sight = match self.0 % Self::OF_A_CELL {
            0 => Sight::Near,
            1 => Sight::Far,
            _ => Sight::Plain,
        };
        (CellId(self.0 / Self::OF_A_CELL), sight)
    }

    /// Returns the number of streams of `cells` cells.
    pub fn count(cells: usize) -> usize {
        cells * usize::from(Self::OF_A_CELL)
    }
}

impl SnapshotLog {
    /// Creates an empty log, for stream indices below `streams`.
    pub fn new(streams: usize) -> Self {
        Self {
            ticks: VecDeque::new(),
            len_bytes: 0,
            plain_bytes: 0,
            removed_tick: 0,
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

    /// Removes all ticks, so that every cursor is lost: those that follow are of another stream.
    pub(super) fn restart(&mut self) {
        self.first += self.ticks.len() as u64 + 1;
        self.ticks.clear();
        (self.len_bytes, self.plain_bytes) = (0, 0);
        self.removed_tick = 0;
    }

    /// Gives the memory of all ticks back, since nobody reads them.
    pub(super) fn clear(&mut self) {
        if let Some(last) = self.ticks.back() {
            self.removed_tick = last.tick;
            self.first += self.ticks.len() as u64;
            self.ticks = VecDeque::new();
            (self.len_bytes, self.plain_bytes) = (0, 0);
        }
    }

    /// Appends the frames of a tick of the room, which has so many cubes, and removes the oldest ticks while the
    /// log is over its bounds.
    pub fn push(&mut self, tick: u64, frames: Vec<(StreamId, LogFrame)>, cubes: usize) {
        let index_bytes = self.streams * size_of::<u16>() + size_of::<Tick>();
        let mut tick = Tick {
            tick,
            index: vec![0; self.streams].into_boxed_slice(),
            len_bytes: index_bytes + frames.len() * size_of::<LogFrame>(),
            plain_bytes: 0,
            frames: Vec::with_capacity(frames.len()),
        };
        for (stream, frame) in frames {
            *match stream.parts().1 {
                Sight::Near | Sight::Far => &mut tick.len_bytes,
                Sight::Plain => &mut tick.plain_bytes,
            } += frame.bytes.len();
            tick.frames.push(frame);
            tick.index[stream.index()] = tick.frames.len() as u16;
        }
        self.len_bytes += tick.len_bytes;
        self.plain_bytes += tick.plain_bytes;
        self.ticks.push_back(tick);
        while self.is_too_long(cubes * KEYFRAME_CUBE_BYTES) {
            let oldest = self.ticks.pop_front().expect("the log is over its bound");
            self.len_bytes -= oldest.len_bytes;
            self.plain_bytes -= oldest.plain_bytes;
            self.removed_tick = oldest.tick;
            self.first += 1;
        }
    }

    /// Returns whether the oldest tick must go. A keyframe of everything has about so many bytes.
    fn is_too_long(&self, keyframe_bytes: usize) -> bool {
        let ticks = self.ticks.len();
        let limit_bytes = match ticks > MIN_TICKS {
            true => keyframe_bytes.min(MAX_BYTES),
            false => MAX_BYTES,
        };
        let is_over = self.len_bytes > limit_bytes || self.plain_bytes > MAX_PLAIN_BYTES;
        ticks > 1 && (ticks > MAX_TICKS || is_over)
    }

    /// Returns the next frame of `streams` at or after the cursor, and moves the cursor behind it. Returns
    /// `None` at the log's end, and for a cursor that the log has lost.
    pub fn next(&self, streams: &[StreamId], cursor: &mut Cursor) -> Option<&Bytes> {
        loop {
            let place = usize::try_from(cursor.sequence.checked_sub(self.first)?).ok()?;
            let tick = self.ticks.get(place)?;
            while let Some(stream) = streams.get(cursor.stream) {
                cursor.stream += 1;
                if let Some(frame) = tick.frame(*stream) {
                    return Some(&frame.bytes);
                }
            }
            *cursor = Cursor {
                sequence: cursor.sequence + 1,
                stream: 0,
            };
        }
    }

    /// Returns whether `streams` have something at the log's last tick, if that is `tick`, that is not
    /// only about the motion of `except`.
    pub fn has_news(&self, tick: u64, streams: &[StreamId], except: CubeId) -> bool {
        let last = self.ticks.back().filter(|last| last.tick == tick);
        last.is_some_and(|last| last.has_news(streams, except))
    }

    /// Returns the newest `count` ticks after `floor` at which `streams` have something that is not only
    /// about the motion of `except`, with all that is between them, in at most `max_bytes`. Up to
    /// `MAX_OTHER_TICKS` at which they have nothing else do not count.
    pub fn window(
        &self,
        streams: &[StreamId],
        except: CubeId,
        floor: u64,
        count: usize,
        max_bytes: usize,
    ) -> Window<'_> {
        let mut base = self.removed_tick.max(floor);
        let (mut left_bytes, mut left_ticks) = (max_bytes, count);
        let mut left_others = MAX_OTHER_TICKS;
        // From the newest tick and stream back.
        let mut frames = Vec::new();
        let newest_first = self.ticks.iter().rev();
        for (age, tick) in newest_first
            .take_while(|tick| tick.tick > floor)
            .enumerate()
        {
            if age == MIN_TICKS {
                base = tick.tick;
                break;
            }
            let here = frames.len();
            let of_streams = streams.iter().rev();
            frames.extend(of_streams.filter_map(|stream| Some(&tick.frame(*stream)?.bytes)));
            if frames.len() == here {
                continue;
            }
            let len_bytes: usize = frames[here..].iter().map(|frame| frame.len()).sum();
            let len_bytes = len_bytes - (frames.len() - here) * SNAPSHOT_OFFSET_BYTES;
            let left_here = match tick.has_news(streams, except) {
                true => &mut left_ticks,
                false => &mut left_others,
            };
            if len_bytes > left_bytes || *left_here == 0 {
                frames.truncate(here);
                base = tick.tick;
                break;
            }
            left_bytes -= len_bytes;
            *left_here -= 1;
        }
        frames.reverse();
        Window { base, frames }
    }
}

impl Tick {
    fn frame(&self, stream: StreamId) -> Option<&LogFrame> {
        let index = usize::from(self.index[stream.index()]).checked_sub(1)?;
        Some(&self.frames[index])
    }

    /// Returns whether some of the streams have something that is not only about a cube.
    fn has_news(&self, streams: &[StreamId], except: CubeId) -> bool {
        let mut frames = streams.iter().filter_map(|stream| self.frame(*stream));
        frames.any(|frame| frame.sole != Some(except))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEAR: [StreamId; 3] = [StreamId(0), StreamId(3), StreamId(6)];
    const PLAIN: StreamId = StreamId(2);

    fn frame(number: usize) -> Bytes {
        Bytes::from(number.to_string())
    }

    fn logged(bytes: Bytes) -> LogFrame {
        LogFrame { bytes, sole: None }
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
        let mut log = SnapshotLog::new(StreamId::count(1));
        assert!(log.has_lost(Cursor::BEFORE_LOG));
        let mut cursor = log.end();
        for number in 0..MIN_TICKS {
            log.push(number as u64, vec![(NEAR[0], logged(frame(number)))], 1);
        }
        assert!(!log.has_lost(cursor));
        assert_eq!(read(&log, &NEAR[..1], cursor), frames(0..MIN_TICKS));
        assert!(read(&log, &NEAR[..1], log.end()).is_empty());

        log.push(
            MIN_TICKS as u64,
            vec![(NEAR[0], logged(frame(MIN_TICKS)))],
            1,
        );
        assert!(log.has_lost(cursor));
        assert!(read(&log, &NEAR[..1], cursor).is_empty());
        assert_eq!(log.next(&NEAR[..1], &mut cursor), None);
        assert!(log.has_lost(cursor), "a lost cursor stays lost");
    }

    #[test]
    fn a_cursor_reads_only_its_streams_and_may_stop_anywhere() {
        let mut log = SnapshotLog::new(StreamId::count(3));
        let mut cursor = log.end();
        let tick = |frames: &[(StreamId, usize)]| {
            let frames = frames.iter();
            frames
                .map(|&(stream, number)| (stream, logged(frame(number))))
                .collect()
        };
        log.push(1, tick(&[(NEAR[0], 0), (StreamId(1), 9), (NEAR[2], 1)]), 1);
        log.push(2, tick(&[(StreamId(4), 9)]), 1);
        log.push(3, tick(&[(NEAR[1], 2), (NEAR[2], 3)]), 1);
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
        let mut log = SnapshotLog::new(StreamId::count(1));
        let large = Bytes::from(vec![0; MAX_BYTES / 2 - 1_000]);
        let start = log.end();
        for tick in 0..3 {
            log.push(tick, vec![(NEAR[0], logged(large.clone()))], 100_000);
        }
        assert!(log.has_lost(start));
        assert_eq!(log.ticks.len(), 2);
        let largest = Bytes::from(vec![0; MAX_BYTES + 1]);
        log.push(3, vec![(NEAR[0], logged(largest))], 100_000);
        assert_eq!(log.ticks.len(), 1);
    }

    #[test]
    fn plain_frames_shorten_nobodys_log_and_are_bounded_themselves() {
        let mut log = SnapshotLog::new(StreamId::count(1));
        let start = log.end();
        let large = Bytes::from(vec![0; MAX_PLAIN_BYTES / 500]);
        for tick in 0..400 {
            let frames = vec![
                (NEAR[0], logged(frame(tick))),
                (PLAIN, logged(large.clone())),
            ];
            log.push(tick as u64, frames, 5_000);
        }
        assert_eq!(read(&log, &NEAR[..1], start), frames(0..400));
        for tick in 400..800 {
            log.push(tick, vec![(PLAIN, logged(large.clone()))], 5_000);
        }
        assert!(log.plain_bytes <= MAX_PLAIN_BYTES && log.has_lost(start));
    }

    #[test]
    fn a_reader_of_a_large_keyframe_goes_on_with_what_it_missed_while_that_is_less() {
        let quiet = |cubes, ticks| {
            let mut log = SnapshotLog::new(StreamId::count(1));
            for tick in 0..ticks {
                log.push(tick, vec![(NEAR[0], logged(frame(1_000)))], cubes);
            }
            log
        };
        let crowd = quiet(5_000, 900);
        assert!(crowd.ticks.len() > 10 * MIN_TICKS, "{}", crowd.ticks.len());
        assert!(crowd.len_bytes <= 5_000 * KEYFRAME_CUBE_BYTES);
        assert_eq!(quiet(100_000, 5_000).ticks.len(), MAX_TICKS);
        assert_eq!(
            quiet(2, 900).ticks.len(),
            MIN_TICKS,
            "a small room stays small"
        );
    }
}
