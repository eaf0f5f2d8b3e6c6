//! A server as one of several that show the same rooms.

use std::sync::Arc;
use std::time::Instant;

use crate::bus::{Bus, ServerId};

/// A server's place among others.
#[derive(Debug)]
pub struct Cluster {
    id: ServerId,
    bus: Arc<dyn Bus>,
    epoch: Instant,
}

impl Cluster {
    /// The place of a server that has just started.
    pub fn new(bus: Arc<dyn Bus>) -> Arc<Self> {
        Arc::new(Self {
            id: ServerId(fastrand::u32(1..)),
            bus,
            epoch: tokio::time::Instant::now().into_std(),
        })
    }

    /// Who this server is.
    pub fn id(&self) -> ServerId {
        self.id
    }

    /// How others are reached.
    pub fn bus(&self) -> &Arc<dyn Bus> {
        &self.bus
    }

    /// The time of the cluster in nanoseconds: the same on all of its servers, within a few
    /// milliseconds.
    pub fn time_ns(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.epoch);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    /// When it is that time of the cluster.
    pub fn instant(&self, time_ns: u64) -> Instant {
        self.epoch + std::time::Duration::from_nanos(time_ns)
    }
}
