//! A server that has no others: the same names as in `several`.

use std::net::SocketAddr;
use std::sync::Arc;

use cubesync_relay::metrics::Metrics;
use cubesync_relay::room::Role;
use cubesync_relay::room::backplane::{Alone, Backplane};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;

/// Why there is no connection to the bus: nothing in this build.
#[derive(Debug, thiserror::Error)]
pub enum BusError {}

/// The connection to a bus, which this build does not have.
#[derive(Debug)]
pub(crate) struct BusConnection;

impl BusConnection {
    pub(crate) async fn start(_: &Config) -> Result<Self, BusError> {
        Ok(Self)
    }

    pub(crate) fn join(
        &self,
        _: &Config,
        _: [SocketAddr; 2],
        _: &Metrics,
        _: &TaskTracker,
        _: &CancellationToken,
    ) -> Neighbours {
        Neighbours
    }

    pub(crate) async fn flush(&self) {}
}

/// No other servers.
#[derive(Debug)]
pub(crate) struct Neighbours;

impl Neighbours {
    pub(crate) fn backplane(&self) -> Arc<dyn Backplane> {
        Arc::new(Alone)
    }

    pub(crate) fn pages(&self) -> Vec<String> {
        Vec::new()
    }

    pub(crate) fn has_page(&self, _: &str) -> bool {
        false
    }

    pub(crate) fn now(&self) -> Option<ClusterNow> {
        None
    }

    pub(crate) fn room(&self, _: &str, _: &Role) -> Option<RoomServers> {
        None
    }
}

/// The status page's view of several servers. In this build there is none.
#[derive(Debug, Serialize)]
pub(crate) enum ClusterNow {}

/// The status page's view of a room's servers. In this build there is none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) enum RoomServers {}
