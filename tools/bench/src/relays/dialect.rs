//! What the generator needs to know about a system: how its clients speak.

use std::time::Duration;

use anyhow::Result;

use crate::progress::Timeline;
use crate::tally::Tally;

/// The client side of one system, for all clients of one generator thread.
pub(crate) trait Dialect {
    /// What one client remembers.
    type Client;

    /// A client that has just connected; appends its first words to `out`.
    fn connected(&mut self, client: usize, out: &mut Vec<u8>) -> Self::Client;

    /// Whether a client may begin to send.
    fn is_ready(&self, state: &Self::Client) -> bool;

    /// When the samples are due, none before the timeline's start. Called once, when all are
    /// ready.
    fn schedule(&mut self, timeline: &Timeline) -> Schedule;

    /// How much earlier than scheduled samples are due by now, in microseconds: a system with
    /// ticks learns how long they need.
    fn lead_us(&self) -> u64 {
        0
    }

    /// A client's step is due: appends what it has to send, if anything.
    fn sample(&mut self, client: usize, state: &mut Self::Client, step: usize, out: &mut Vec<u8>);

    /// Takes the whole messages off the front of `received` and returns their bytes; appends
    /// answers to `out`.
    ///
    /// # Errors
    /// What came makes no sense, or is a goodbye; the connection is lost.
    fn receive(
        &mut self,
        state: &mut Self::Client,
        received: &[u8],
        now_us: u64,
        tally: &mut Tally,
        out: &mut Vec<u8>,
    ) -> Result<usize>;

    /// The run is over: counts what did not come in a message of its own.
    fn finish(&mut self, _state: &mut Self::Client, _tally: &mut Tally) {}
}

/// When the clients' samples are due.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    /// When the first client's step 0 is due, in the workload's microseconds.
    pub(crate) start_us: u64,
    /// One step.
    pub(crate) period: Duration,
    /// From the first to the last client's samples of a step.
    pub(crate) spread: Duration,
    /// All clients, those of other threads too.
    pub(crate) clients: usize,
}

impl Schedule {
    /// When a client's step is due, in the workload's microseconds.
    pub(crate) fn due_us(&self, client: usize, step: usize) -> u64 {
        let steps = self.period.as_nanos() as u64 * step as u64;
        let spread = self.spread.as_nanos() as u64 * client as u64 / self.clients as u64;
        self.start_us + (steps + spread) / 1_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_do_not_drift_and_clients_are_spread() {
        let schedule = Schedule {
            start_us: 7,
            period: Duration::from_nanos(33_333_333),
            spread: Duration::from_millis(10),
            clients: 10,
        };
        assert_eq!(schedule.due_us(0, 0), 7);
        assert_eq!(schedule.due_us(5, 0), 5_007);
        assert_eq!(schedule.due_us(0, 3_000), 7 + 99_999_999);
    }
}
