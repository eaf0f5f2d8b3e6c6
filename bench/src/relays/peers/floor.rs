//! The write floor's client: it counts bytes.

use std::sync::Arc;

use anyhow::Result;

use crate::dialect::{Dialect, Schedule};
use crate::tally::Tally;
use crate::workload::Workload;

/// Clients that only read. So many bytes are a tick, which delivers everybody's update.
pub(crate) struct Floor {
    workload: Arc<Workload>,
    tick_bytes: usize,
}

impl Floor {
    /// The clients of one thread.
    pub(crate) fn new(workload: Arc<Workload>, tick_bytes: usize) -> Self {
        Self {
            workload,
            tick_bytes,
        }
    }
}

impl Dialect for Floor {
    type Client = ();

    fn connected(&mut self, _client: usize, _out: &mut Vec<u8>) {}

    fn is_ready(&self, (): &()) -> bool {
        true
    }

    fn schedule(&mut self, earliest_us: u64) -> Schedule {
        let period = self.workload.period();
        Schedule {
            start_us: earliest_us,
            period,
            spread: period,
            clients: self.workload.clients,
        }
    }

    fn sample(&mut self, _client: usize, (): &mut (), _step: usize, _out: &mut Vec<u8>) {}

    fn receive(
        &mut self,
        (): &mut (),
        received: &[u8],
        now_us: u64,
        tally: &mut Tally,
        _out: &mut Vec<u8>,
    ) -> Result<usize> {
        let ticks = received.len() / self.tick_bytes;
        if tally.window_us.contains(&now_us) {
            tally.delivered += (ticks * self.workload.clients) as u64;
        }
        Ok(ticks * self.tick_bytes)
    }
}
