//! The room's top speed, as a distance that each cube may cover over time.

use serde::{Deserialize, Serialize};

/// Time whose distance at top speed a cube may cover at once, because a connection that stalled
/// delivers several samples together.
const BURST_SECONDS: u64 = 1;

/// The limit for a player's cubes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpeedRule {
    /// At most the room's top speed, each sample at its tick.
    TopSpeed,
    /// Anywhere at once, at any tick: for people who type coordinates.
    Unlimited,
    /// At most the room's top speed, for a client that predicts nothing: its cubes stay where the last sample put them,
    /// and it gets plain streams.
    Plain,
}

/// A room's top speed, and its ticks.
#[derive(Debug, Clone, Copy)]
pub(super) struct TopSpeed {
    pub(super) quanta_per_second: u64,
    pub(super) tick_hz: u64,
}

/// The distance that a cube may cover now. It grows with time, at top speed, up to the burst.
#[derive(Debug, Clone, Copy)]
pub(super) struct SpeedBudget {
    /// In units of 1/tick rate of a quantum, so that a tick's share is a whole number.
    left: u64,
    tick: u64,
}

impl TopSpeed {
    fn burst(self) -> u64 {
        self.quanta_per_second * BURST_SECONDS * self.tick_hz
    }
}

impl SpeedBudget {
    /// Creates a full budget.
    pub(super) fn new(top_speed: TopSpeed, tick: u64) -> Self {
        Self {
            left: top_speed.burst(),
            tick,
        }
    }

    /// Takes `distance_quanta` out of the budget. Returns false, and takes nothing, if less is left.
    pub(super) fn spend(&mut self, distance_quanta: u64, top_speed: TopSpeed, tick: u64) -> bool {
        let elapsed = tick.saturating_sub(self.tick);
        let grown = elapsed.saturating_mul(top_speed.quanta_per_second);
        self.left = self.left.saturating_add(grown).min(top_speed.burst());
        self.tick = self.tick.max(tick);
        match self
            .left
            .checked_sub(distance_quanta.saturating_mul(top_speed.tick_hz))
        {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_speed_holds_over_time_and_a_second_of_it_may_come_at_once() {
        let top_speed = TopSpeed {
            quanta_per_second: 600,
            tick_hz: 30,
        };
        let mut budget = SpeedBudget::new(top_speed, 0);
        assert!(budget.spend(600, top_speed, 0));
        assert!(!budget.spend(1, top_speed, 0));
        for tick in 1..=100 {
            assert!(budget.spend(20, top_speed, tick), "tick {tick}");
            assert!(!budget.spend(1, top_speed, tick), "tick {tick}");
        }
        assert!(!budget.spend(601, top_speed, 10_000));
        assert!(budget.spend(600, top_speed, 10_000));
        assert!(!budget.spend(u64::MAX, top_speed, u64::MAX));
    }
}
