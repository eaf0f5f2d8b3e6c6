//! The write floor's client: it counts bytes.

use std::sync::Arc;

use anyhow::Result;

use crate::dialect::{Dialect, Schedule};
use crate::progress::Timeline;
use crate::tally::Tally;
use crate::workload::Workload;

/// Clients that only read. A tick is a fixed number of bytes, which deliver a fixed number of updates.
pub(crate) struct Floor {
    workload: Arc<Workload>,
    tick_bytes: usize,
    tick_updates: usize,
}

impl Floor {
    /// Returns the clients of one thread.
    pub(crate) fn new(workload: Arc<Workload>, tick_bytes: usize, tick_updates: usize) -> Self {
        Self {
            workload,
            tick_bytes,
            tick_updates,
        }
    }
}

impl Dialect for Floor {
    type Client = ();

    fn connected(&mut self, _client: usize, _out: &mut Vec<u8>) {}

    fn is_ready(&self, (): &()) -> bool {
        true
    }

    fn schedule(&mut self, timeline: &Timeline) -> Schedule {
        Schedule::even(&self.workload, timeline)
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
            tally.score.delivered += (ticks * self.tick_updates) as u64;
        }
        Ok(ticks * self.tick_bytes)
    }
}
