//! Counts of right, late and wrong states.

use std::ops::AddAssign;

use crate::error::Error;

/// States compared with the truth.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Score {
    /// States that a receiver should have: of every cube in its view, at every tick at which the
    /// cube's cell is sent.
    pub(crate) expected: u64,
    /// States of a newer step than before.
    pub(crate) delivered: u64,
    /// Delivered ones whose step is older than the tick's.
    pub(crate) late: u64,
    /// States that match no recent truth.
    pub(crate) wrong: u64,
    /// Wrong ones whose error from their own tick's truth is at most twice the bound.
    pub(crate) loose: u64,
    /// The largest error from the nearest recent truth.
    pub(crate) largest: Error,
}

impl Score {
    /// Returns the number of states that were right at their own tick.
    pub(crate) fn right(self) -> u64 {
        self.delivered - self.late
    }
}

impl AddAssign for Score {
    fn add_assign(&mut self, other: Self) {
        self.expected += other.expected;
        self.delivered += other.delivered;
        self.late += other.late;
        self.wrong += other.wrong;
        self.loose += other.loose;
        self.largest = self.largest.max(other.largest);
    }
}
