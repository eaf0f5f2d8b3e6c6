//! A server that may be one of several: if the configuration says so, they share rooms over NATS.

use std::net::SocketAddr;
use std::sync::Arc;

use cubesync_cluster::bus::{Bus, BusError, Nats};
use cubesync_cluster::{Cluster, Rules, ServerProfile};
use cubesync_protocol::ServerAddress;
use cubesync_relay::contain::contain;
use cubesync_relay::metrics::{Metrics, Task};
use cubesync_relay::room::Role;
use cubesync_relay::room::backplane::{Alone, Backplane};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{ClusterNow, RoomServers};
use crate::config::Config;
use cubesync_network::Network;

/// The connection to the bus, if the configuration names one.
#[derive(Debug)]
pub(crate) struct BusConnection(Option<Arc<Nats>>);

impl BusConnection {
    /// Begins to connect, in the background.
    ///
    /// # Errors
    /// Returns [`BusError`] if the configuration makes no sense.
    pub(crate) async fn start(config: &Config) -> Result<Self, BusError> {
        Ok(Self(match config.cluster.nats() {
            Some(settings) => Some(Nats::start(settings).await?),
            None => None,
        }))
    }

    /// Makes the server one of several, if there is a bus. It listens to clients and for pages at
    /// `listening`.
    pub(crate) fn join(
        &self,
        config: &Config,
        listening: [SocketAddr; 2],
        metrics: &Metrics,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> Neighbours {
        let bus = self.0.clone().map(|nats| nats as Arc<dyn Bus>);
        bus.map_or(Neighbours(None), |bus| {
            Neighbours::join(bus, config, listening, metrics, tasks, shutdown)
        })
    }

    /// Waits until the last messages have been written, for a moment at most.
    pub(crate) async fn flush(&self) {
        if let Some(nats) = &self.0 {
            nats.flush().await;
        }
    }
}

/// The other servers that show the same rooms, if there can be any.
#[derive(Debug)]
pub(crate) struct Neighbours(Option<Arc<Cluster>>);

impl Neighbours {
    /// Makes the server one of several that meet on a bus.
    pub(crate) fn join(
        bus: Arc<dyn Bus>,
        config: &Config,
        listening: [SocketAddr; 2],
        metrics: &Metrics,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> Self {
        let cluster = Cluster::new(bus, profile(config, listening), metrics);
        let running = Arc::clone(&cluster).run(shutdown.clone());
        tasks.spawn(contain(metrics, Task::Other, running));
        Self(Some(cluster))
    }

    /// Returns the backplane that connects the rooms with those of the other servers.
    pub(crate) fn backplane(&self) -> Arc<dyn Backplane> {
        match &self.0 {
            Some(cluster) => Arc::clone(cluster) as _,
            None => Arc::new(Alone),
        }
    }

    /// Returns where the servers' pages are, as `host:port`, this one's first.
    pub(crate) fn pages(&self) -> Vec<String> {
        self.0
            .as_ref()
            .map_or_else(Vec::new, |cluster| cluster.pages())
    }

    /// Returns whether another server has its pages there, or had them there until lately.
    pub(crate) fn has_page(&self, authority: &str) -> bool {
        self.0
            .as_ref()
            .is_some_and(|cluster| cluster.has_page(authority))
    }

    /// Returns what the status page shows of the servers.
    pub(crate) fn now(&self) -> Option<ClusterNow> {
        self.0.as_deref().map(ClusterNow::of)
    }

    /// Returns what the status page shows of a room's servers.
    pub(crate) fn room(&self, name: &str, role: &Role) -> Option<RoomServers> {
        let cluster = self.0.as_deref()?;
        Some(RoomServers::new(name, role, &cluster.servers()))
    }
}

/// Returns the profile of a server that listens to clients and for pages at these addresses:
/// players reach it there, unless the configuration says otherwise.
pub(crate) fn profile(config: &Config, listening: [SocketAddr; 2]) -> ServerProfile {
    let around = Network::now();
    let [tcp, web] = listening.map(|bound| {
        let outside = around.likeliest(bound.ip());
        cubesync_network::reachable(bound, outside).to_string()
    });
    let given = &config.cluster;
    ServerProfile {
        rules: Rules::new(config.tick, config.view_distance_quanta()),
        address: ServerAddress {
            tcp: given.public_address.clone().unwrap_or(tcp),
            web: given.public_http.clone().unwrap_or(web),
        },
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn players_find_a_server_where_it_listens_or_where_it_says() {
        let one = "[::1]:1".parse().unwrap();
        let flags = [
            "cubesync-server",
            "--public-address",
            "eu1.game.example:443",
        ];
        let profile = profile(&Config::parse_from(flags), [one, one]);
        assert_eq!(profile.address.tcp, "eu1.game.example:443");
        assert_eq!(profile.address.web, "[::1]:1");
    }
}
