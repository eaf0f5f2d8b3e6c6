//! What there is to count where a server is one of several.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};

use super::labels::LostLabels;
use crate::cluster::Cluster;

/// Reads everything now.
pub(super) fn register(registry: &mut Registry, cluster: &Cluster) {
    let peers = &cluster.peer_metrics;
    for (name, help, counter) in [
        (
            "cluster_questions",
            "Questions of rooms to other servers, after what was lost or is new to them",
            &peers.questions,
        ),
        (
            "cluster_silences",
            "Servers of rooms that were silent for so long that their cubes became ghosts",
            &peers.silences,
        ),
        (
            "cluster_late_ticks",
            "Ticks of rooms that were told before another server's news of them had come",
            &peers.late_ticks,
        ),
    ] {
        registry.register(name, help, counter.clone());
    }
    let traffic = cluster.bus().traffic();
    registry.register(
        "bus_connected",
        "Whether the other servers can be reached: 1 or 0",
        ConstGauge::new(i64::from(cluster.bus().is_connected())),
    );
    let counters = [
        (
            "bus_sent_messages",
            "Messages to other servers",
            traffic.sent_messages,
        ),
        (
            "bus_sent_bytes",
            "Bytes to other servers, names of topics included",
            traffic.sent_bytes,
        ),
        (
            "bus_received_messages",
            "Messages from other servers",
            traffic.received_messages,
        ),
        (
            "bus_received_bytes",
            "Bytes from other servers, names of topics included",
            traffic.received_bytes,
        ),
    ];
    for (name, help, count) in counters {
        registry.register(name, help, ConstCounter::new(count));
    }
    let lost = Family::<LostLabels, Counter>::default();
    for (direction, count) in [
        ("sent", traffic.lost_sent),
        ("received", traffic.lost_received),
    ] {
        let counter = lost.get_or_create_owned(&LostLabels { direction });
        counter.inc_by(count);
    }
    registry.register(
        "bus_lost",
        "Messages that could not be sent, or came too fast to be taken in",
        lost,
    );
    let servers = cluster.servers();
    let players = servers.iter().map(|server| i64::from(server.players)).sum();
    let number = |value: usize| ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    registry.register(
        "cluster_servers",
        "Servers that show the same rooms, this one included",
        number(servers.len()),
    );
    registry.register(
        "cluster_players",
        "Connections of players on all of them",
        ConstGauge::<i64>::new(players),
    );
    let offset = Gauge::<f64, AtomicU64>::default();
    offset.set(cluster.clock_offset_s());
    registry.register_with_unit(
        "cluster_clock_offset",
        "By how much the clock was behind the cluster's when it was last compared",
        Unit::Seconds,
        offset,
    );
}
