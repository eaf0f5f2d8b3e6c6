//! The properties that a server announces.

use cubesync_protocol::ServerAddress;
use cubesync_relay::metrics::Metrics;

use super::words::Rules;
use crate::bus::Traffic;

/// The properties that do not change.
#[derive(Debug, Clone)]
pub struct ServerProfile {
    /// The rules that all servers must have in common.
    pub rules: Rules,
    /// The addresses at which players reach it.
    pub address: ServerAddress,
}

/// The properties that change.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Load {
    pub(super) players: u32,
    pub(super) rooms: u32,
    pub(super) cubes: u32,
    pub(super) sent_bytes: u64,
    pub(super) received_bytes: u64,
}

impl Load {
    pub(super) fn now(metrics: &Metrics, traffic: Traffic) -> Self {
        let number = |gauge: i64| u32::try_from(gauge).unwrap_or_default();
        Self {
            players: number(metrics.connections.get()),
            rooms: number(metrics.rooms.get()),
            cubes: number(metrics.cubes.get()),
            sent_bytes: traffic.sent_bytes,
            received_bytes: traffic.received_bytes,
        }
    }
}
