//! The metrics of a server as one of several.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use cubesync_relay::metrics::MetricSet;

use super::Cluster;
use crate::bus::Traffic;

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
    let bus = Arc::clone(cluster.bus());
    set.read_gauge(
        "cubesync_bus_connected",
        "Whether the other servers can be reached: 1 or 0",
        None,
        move || Some(i64::from(bus.is_connected())),
    );
    let of_all = Arc::clone(cluster);
    set.read_gauge(
        "cubesync_cluster_servers",
        "Servers that show the same rooms, this one included",
        None,
        move || Some(i64::try_from(of_all.servers().len()).unwrap_or(i64::MAX)),
    );
    let of_all = Arc::clone(cluster);
    set.read_gauge(
        "cubesync_cluster_players",
        "Connections of players on all of them",
        None,
        move || {
            let servers = of_all.servers();
            let players = servers.iter().map(|server| i64::from(server.players));
            Some(players.sum::<i64>())
        },
    );
}
