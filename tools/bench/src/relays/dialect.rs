//! The interface of the generator to a system: the messages that the system's clients send and receive.

use std::time::Duration;

use anyhow::Result;

use crate::progress::Timeline;
use crate::tally::Tally;
use crate::workload::Workload;

/// The client side of one system, for all clients of one generator thread.
pub(crate) trait Dialect {
    /// The state of one client.
    type Client;

    /// Returns the state of a client that has just connected, and appends its first message to `out`.
    fn connected(&mut self, client: usize, out: &mut Vec<u8>) -> Self::Client;

    /// Returns whether a client may begin to send.
    fn is_ready(&self, state: &Self::Client) -> bool;

    /// Returns when the samples are due: none before the timeline's start. Called once, when all clients
    /// are ready.
    fn schedule(&mut self, timeline: &Timeline) -> Schedule;

    /// Returns how much earlier than scheduled the samples for a server are due at `now_us`, in
    /// microseconds: a system with ticks learns how long samples need to arrive.
    fn lead_us(&mut self, _server: usize, _now_us: u64) -> u64 {
        0
    }

    /// Appends the message for a client's step, if there is one.
    fn sample(&mut self, client: usize, state: &mut Self::Client, step: usize, out: &mut Vec<u8>);

    /// Handles the complete messages at the front of `received` and returns their length; appends answers
    /// to `out`.
    ///
    /// # Errors
    ///
    /// A message is invalid or closes the connection; the connection is lost.
    fn receive(
        &mut self,
        state: &mut Self::Client,
        received: &[u8],
        now_us: u64,
        tally: &mut Tally,
        out: &mut Vec<u8>,
    ) -> Result<usize>;

    /// Counts, at the end of the run, the ticks that had no message of their own.
    fn finish(&mut self, _state: &mut Self::Client, _tally: &mut Tally) {}
}

/// The times at which the clients' samples are due.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    /// The time of the first client's step 0, in the workload's microseconds.
    pub(crate) start_us: u64,
    /// The length of a step.
    pub(crate) period: Duration,
    /// The time from the first to the last client's sample of a step.
    pub(crate) spread: Duration,
    /// Number of clients of all threads.
    pub(crate) clients: usize,
}

impl Schedule {
    /// Returns the times of clients that know nothing of each other: spread over the whole step.
    pub(crate) fn even(workload: &Workload, timeline: &Timeline) -> Self {
        let period = workload.period();
        Self {
            start_us: timeline.start_us,
            period,
            spread: period,
            clients: workload.clients,
        }
    }

    /// Returns the time at which a client's step is due, in the workload's microseconds.
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
