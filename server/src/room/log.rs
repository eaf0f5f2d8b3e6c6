//! The snapshot log: a room's last ticks as encoded frames, shared by all connections.
//!
//! Each frame is encoded once. A connection is a cursor into the log, so a room of a thousand
//! has one copy of everything, and a slow reader costs no memory: it falls off the log's end and
//! goes on with a keyframe.

use std::collections::VecDeque;

use bytes::Bytes;

/// Frames the log holds at most: two seconds at the default tick rate. A reader that is further
/// behind is better served by a keyframe.
const MAX_FRAMES: usize = 64;

/// Bytes the log holds at most, the newest frame excepted; in a crowded room this ends the log first.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// The number of a frame in its log, from 1.
pub type Sequence = u64;

/// Where a new connection's cursor stands: before everything, so it begins with a keyframe.
pub const BEFORE_LOG: Sequence = 0;

/// A bounded run of shared frames.
#[derive(Debug)]
pub struct SnapshotLog {
    frames: VecDeque<Bytes>,
    len_bytes: usize,
    /// The number of the first frame in `frames`.
    first: Sequence,
    /// The state after the frames before the number.
    keyframe: Option<(Sequence, Bytes)>,
}

impl SnapshotLog {
    /// The number the next frame will have.
    pub fn next(&self) -> Sequence {
        self.first + self.frames.len() as Sequence
    }

    /// Whether a cursor's next frame is no longer here.
    pub fn has_lost(&self, cursor: Sequence) -> bool {
        cursor < self.first
    }

    /// Appends a frame and forgets the oldest ones over the bound.
    pub fn push(&mut self, frame: Bytes) {
        self.len_bytes += frame.len();
        self.frames.push_back(frame);
        while self.frames.len() > MAX_FRAMES
            || (self.len_bytes > MAX_BYTES && self.frames.len() > 1)
        {
            let oldest = self.frames.pop_front().expect("the log is over its bound");
            self.len_bytes -= oldest.len();
            self.first += 1;
        }
    }

    /// The frames from a cursor on; none for a cursor that fell off.
    pub fn from(&self, cursor: Sequence) -> impl Iterator<Item = &Bytes> {
        let skip = cursor
            .checked_sub(self.first)
            .unwrap_or(self.frames.len() as Sequence);
        let skip = usize::try_from(skip)
            .unwrap_or(usize::MAX)
            .min(self.frames.len());
        self.frames.range(skip..)
    }

    /// The keyframe of the log's end. Built at most once between two pushes, however many
    /// connections need it.
    pub fn keyframe(&mut self, build: impl FnOnce() -> Bytes) -> Bytes {
        let next = self.next();
        match &self.keyframe {
            Some((sequence, frame)) if *sequence == next => frame.clone(),
            _ => {
                let frame = build();
                self.keyframe = Some((next, frame.clone()));
                frame
            }
        }
    }
}

impl Default for SnapshotLog {
    /// An empty log.
    fn default() -> Self {
        Self {
            frames: VecDeque::new(),
            len_bytes: 0,
            first: BEFORE_LOG + 1,
            keyframe: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(number: usize) -> Bytes {
        Bytes::from(number.to_string())
    }

    #[test]
    fn a_cursor_reads_every_frame_once_until_it_falls_off() {
        let mut log = SnapshotLog::default();
        assert!(log.has_lost(BEFORE_LOG));
        let cursor = log.next();
        for number in 0..MAX_FRAMES {
            log.push(frame(number));
        }
        assert!(!log.has_lost(cursor));
        assert!(
            log.from(cursor)
                .eq((0..MAX_FRAMES).map(frame).collect::<Vec<_>>().iter())
        );
        assert!(
            log.from(cursor + 60)
                .eq((60..MAX_FRAMES).map(frame).collect::<Vec<_>>().iter())
        );
        assert_eq!(log.from(log.next()).count(), 0);

        log.push(frame(MAX_FRAMES));
        assert!(log.has_lost(cursor));
        assert_eq!(log.from(cursor).count(), 0);
        assert!(!log.has_lost(cursor + 1));
    }

    #[test]
    fn the_log_is_bounded_in_bytes_but_keeps_the_newest() {
        let mut log = SnapshotLog::default();
        let large = Bytes::from(vec![0; MAX_BYTES / 2]);
        for _ in 0..3 {
            log.push(large.clone());
        }
        assert_eq!(log.from(log.next() - 2).count(), 2);
        assert!(log.has_lost(log.next() - 3));
        log.push(Bytes::from(vec![0; MAX_BYTES + 1]));
        assert_eq!(log.from(log.next() - 1).count(), 1);
        assert!(log.has_lost(log.next() - 2));
    }

    #[test]
    fn a_keyframe_is_built_once_for_all_who_need_it() {
        let mut log = SnapshotLog::default();
        assert_eq!(log.keyframe(|| frame(1)), frame(1));
        assert_eq!(
            log.keyframe(|| unreachable!("it is built already")),
            frame(1)
        );
        log.push(frame(2));
        assert_eq!(log.keyframe(|| frame(3)), frame(3));
    }
}
