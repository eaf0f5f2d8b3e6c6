//! The metrics of a server as one of several.

use std::sync::Arc;

use cubesync_relay::label::{Label, label};
use cubesync_relay::metrics::{CountersBy, MetricSet};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::Cluster;
use crate::bus::Traffic;
use crate::link::LinkEnd;

label! {
    /// What became of a room's lease at this server.
    pub enum LeaseChange("change") {
        /// The server got it.
        Acquired => "acquired",
        /// The server could not renew it.
        Lost => "lost",
        /// The server gave it back.
        Released => "released",
    }
}

/// The metrics that rooms count in.
#[derive(Debug)]
pub struct ClusterMetrics {
    /// Packets of links that were sent again.
    pub resent: Counter,
    /// Links that have ended.
    pub link_ends: CountersBy<LinkEnd>,
    /// Leases that have changed hands.
    pub lease_changes: CountersBy<LeaseChange>,
}

impl ClusterMetrics {
    pub(super) fn new(set: &MetricSet) -> Self {
        Self {
            resent: set.counter(
                "cubesync_link_resent",
                "Packets that were sent to another server again because they were lost",
            ),
            link_ends: set.counters_by(
                "cubesync_link_ends",
                "Ended links between the owner of a room and another server, by reason",
            ),
            lease_changes: set.counters_by(
                "cubesync_lease_changes",
                "Leases of rooms that this server acquired, lost or released",
            ),
        }
    }
}

/// Registers the metrics that are read from the bus and from the servers' presences.
pub(super) fn register(set: &MetricSet, cluster: &Arc<Cluster>) {
    let of_bus = |name, help, count: fn(Traffic) -> u64| {
        let bus = Arc::clone(cluster.bus());
        set.read_counter(name, help, move || count(bus.traffic()));
    };
    of_bus(
        "cubesync_bus_sent_messages",
        "Messages to other servers",
        |traffic| traffic.sent_messages,
    );
    of_bus(
        "cubesync_bus_sent_bytes",
        "Bytes to other servers, names of topics included",
        |traffic| traffic.sent_bytes,
    );
    of_bus(
        "cubesync_bus_received_messages",
        "Messages from other servers",
        |traffic| traffic.received_messages,
    );
    of_bus(
        "cubesync_bus_received_bytes",
        "Bytes from other servers, names of topics included",
        |traffic| traffic.received_bytes,
    );
    let bus = Arc::clone(cluster.bus());
    set.read(
        "cubesync_bus_lost",
        "Messages that could not be sent, or came too fast to be taken in",
        None,
        move || {
            let traffic = bus.traffic();
            let lost = Family::<[(&'static str, &'static str); 1], Counter>::default();
            for (direction, count) in [
                ("sent", traffic.lost_sent),
                ("received", traffic.lost_received),
            ] {
                let counter = lost.get_or_create_owned(&[("direction", direction)]);
                counter.inc_by(count);
            }
            Some(lost)
        },
    );
    let of_cluster = |name, help, count: fn(&Cluster) -> usize| {
        let cluster = Arc::clone(cluster);
        let read = move || Some(i64::try_from(count(&cluster)).unwrap_or(i64::MAX));
        set.read_gauge(name, help, None, read);
    };
    of_cluster(
        "cubesync_bus_connected",
        "Whether the other servers can be reached: 1 or 0",
        |cluster| usize::from(cluster.bus().is_connected()),
    );
    of_cluster(
        "cubesync_cluster_servers",
        "Servers that show the same rooms, this one included",
        |cluster| cluster.servers().len(),
    );
    of_cluster(
        "cubesync_cluster_players",
        "Connections of players on all of them",
        |cluster| {
            cluster
                .servers()
                .iter()
                .map(|server| server.players as usize)
                .sum()
        },
    );
    let roles = Arc::clone(cluster);
    set.read(
        "cubesync_room_roles",
        "Rooms here, by the part of this server in them",
        None,
        move || {
            let rooms = Family::<[(&'static str, &'static str); 1], Gauge>::default();
            for (role, count) in roles.count_roles() {
                rooms
                    .get_or_create_owned(&[("role", role.as_str())])
                    .set(count);
            }
            Some(rooms)
        },
    );
}
