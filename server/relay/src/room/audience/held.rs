//! The keyframes that receivers have not taken yet.
//!
//! All receivers share a tick's keyframe, but each tick has another one. Peers that come one a tick, and
//! take theirs slowly, would together hold as many as there are peers.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::room::log::StreamId;

/// Size of all that are held from which on keyframes are given only now and then.
const BUSY_BYTES: usize = 8 * 1024 * 1024;

/// Number of ticks between keyframes then: half a second at the default rate, and four times the interval at
/// which views may change.
const BUSY_INTERVAL_TICKS: u64 = 16;

/// Largest size of all that are held: those of a minute and more, of 5,000 cubes. The slowest peers are not
/// waited for when they would be more.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// Approximate memory that a keyframe takes besides its bytes.
const OVERHEAD_BYTES: usize = 96;

/// The keyframes that were given to receivers and that some of them still hold.
#[derive(Debug, Default)]
pub(super) struct HeldKeyframes {
    keyframes: BTreeMap<(Turn, StreamId), Bytes>,
    len_bytes: usize,
    now: Turn,
    /// When receivers got all keyframes last.
    begun: Turn,
    /// Receivers of earlier keyframes are not waited for.
    oldest: Turn,
}

/// The number of a tick that the audience was served, whatever the room's number of it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Turn(u64);

impl HeldKeyframes {
    /// Begins the next turn, and lets go of what no receiver holds any more.
    pub(super) fn begin_turn(&mut self) {
        self.now.0 += 1;
        while let Some(first) = self.keyframes.first_entry()
            && first.get().is_unique()
        {
            self.len_bytes -= size_bytes(&first.remove());
        }
        if self.len_bytes > MAX_BYTES || self.now.0.is_multiple_of(BUSY_INTERVAL_TICKS) {
            self.keyframes.retain(|_, keyframe| !keyframe.is_unique());
            self.len_bytes = self.keyframes.values().map(size_bytes).sum();
        }
        while self.len_bytes > MAX_BYTES
            && let Some(((turn, _), keyframe)) = self.keyframes.pop_first()
        {
            self.len_bytes -= size_bytes(&keyframe);
            self.oldest = Turn(turn.0 + 1);
        }
    }

    /// Lets go of everything, since there are no receivers.
    pub(super) fn clear(&mut self) {
        self.keyframes.clear();
        self.len_bytes = 0;
    }

    /// Returns whether a receiver that needs all keyframes may get them in this turn. Then all others may too.
    pub(super) fn may_begin(&mut self) -> bool {
        let may_begin = self.len_bytes < BUSY_BYTES
            || self.now == self.begun
            || self.now.0 - self.begun.0 >= BUSY_INTERVAL_TICKS;
        if may_begin {
            self.begun = self.now;
        }
        may_begin
    }

    /// Notes that a receiver gets a keyframe, and returns the turn.
    pub(super) fn give(&mut self, stream: StreamId, keyframe: &Bytes) -> Turn {
        self.keyframes.entry((self.now, stream)).or_insert_with(|| {
            self.len_bytes += size_bytes(keyframe);
            keyframe.clone()
        });
        self.now
    }

    /// Returns whether receivers that still hold keyframes of a turn are not waited for.
    pub(super) fn gives_up(&self, turn: Turn) -> bool {
        turn < self.oldest
    }
}

fn size_bytes(keyframe: &Bytes) -> usize {
    keyframe.len() + OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: usize = 0;

    #[test]
    fn what_slow_peers_hold_is_bounded_whatever_their_number() {
        let mut held = HeldKeyframes::default();
        let mut peers = Vec::new();
        for _ in 0..10_000 {
            held.begin_turn();
            if held.may_begin() {
                let keyframe = Bytes::from(vec![0; 200_000]);
                let turn = held.give(StreamId::at(STREAM), &keyframe);
                peers.push((turn, keyframe));
            }
            peers.retain(|(turn, _)| !held.gives_up(*turn));
            let bytes: usize = peers.iter().map(|(_, keyframe)| keyframe.len()).sum();
            assert!(bytes <= MAX_BYTES + 200_000, "{bytes}");
        }
        let slowest = held.now.0 - peers[0].0.0;
        assert!(slowest >= 60 * 30, "{slowest} ticks for a keyframe");
        peers.clear();
        for _ in 0..=BUSY_INTERVAL_TICKS {
            held.begin_turn();
        }
        assert_eq!((held.len_bytes, held.keyframes.len()), (0, 0));
    }

    #[test]
    fn a_keyframe_is_counted_once_for_all_that_share_it() {
        let mut held = HeldKeyframes::default();
        held.begin_turn();
        let keyframe = Bytes::from(vec![0; 200_000]);
        for _ in 0..1_000 {
            assert!(held.may_begin());
            held.give(StreamId::at(STREAM), &keyframe.clone());
        }
        assert_eq!(held.len_bytes, size_bytes(&keyframe));
    }
}
