//! The servers of a cluster, as the status page shows them.

use serde::Serialize;

use cubesync_cluster::{Cluster, Presence};

/// The maximum number of servers listed. With about 200 bytes each, they stay a small part of an
/// event.
const MAX_SERVERS: usize = 50;

/// The current state of the cluster.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct ClusterNow {
    /// Whether this server reaches the bus.
    is_connected: bool,
    /// The number of servers.
    count: usize,
    /// The number of players' connections on all of them.
    players: u64,
    /// The traffic of all of them on the bus.
    sent_bytes_per_s: u64,
    /// The servers, this one first.
    servers: Vec<ServerNow>,
}

/// One server of the cluster.
#[derive(Debug, PartialEq, Serialize)]
struct ServerNow {
    /// The address of its pages; empty if unknown.
    web: String,
    version: String,
    players: u32,
    rooms: u32,
    sent_bytes_per_s: u64,
    received_bytes_per_s: u64,
}

impl ClusterNow {
    pub(super) fn of(cluster: &Cluster) -> Self {
        Self::new(cluster.servers(), cluster.bus().is_connected())
    }

    fn new(servers: Vec<Presence>, is_connected: bool) -> Self {
        Self {
            is_connected,
            count: servers.len(),
            players: servers.iter().map(|server| u64::from(server.players)).sum(),
            sent_bytes_per_s: servers
                .iter()
                .map(|server| server.sent_bytes_per_s)
                .fold(0, u64::saturating_add),
            servers: servers
                .into_iter()
                .take(MAX_SERVERS)
                .map(ServerNow::from)
                .collect(),
        }
    }
}

impl From<Presence> for ServerNow {
    fn from(server: Presence) -> Self {
        Self {
            web: server.address.web,
            version: server.version,
            players: server.players,
            rooms: server.rooms,
            sent_bytes_per_s: server.sent_bytes_per_s,
            received_bytes_per_s: server.received_bytes_per_s,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cubesync_cluster::testing::presence;

    #[test]
    fn all_servers_are_summed_up_and_the_first_ones_listed() {
        let server = |id| {
            let mut server = presence(id);
            (server.players, server.sent_bytes_per_s) = (2, 10);
            server
        };
        let now = ClusterNow::new((0..60).map(server).collect(), true);
        assert_eq!(
            (now.count, now.players, now.sent_bytes_per_s),
            (60, 120, 600)
        );
        assert_eq!(now.servers.len(), MAX_SERVERS);
        assert_eq!(now.servers[0].web, presence(0).address.web);
    }
}
