//! What a server says of itself.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use cubesync_protocol::ServerAddress;

use super::words::Rules;
use crate::bus::Traffic;
use crate::config::Config;
use crate::doctor::own_addresses;
use crate::metrics::Metrics;
use crate::room::quanta;

/// What does not change.
#[derive(Debug, Clone)]
pub(crate) struct Card {
    /// What must be alike.
    pub(crate) rules: Rules,
    /// Where players reach it.
    pub(crate) address: ServerAddress,
}

/// What changes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Load {
    pub(super) players: u32,
    pub(super) rooms: u32,
    pub(super) cubes: u32,
    pub(super) sent_bytes: u64,
    pub(super) received_bytes: u64,
}

impl Card {
    /// Of a server that listens to clients and for pages at `tcp` and `web`: that is where players find
    /// it, unless the configuration says otherwise.
    pub(crate) fn new(config: &Config, tcp: SocketAddr, web: SocketAddr) -> Self {
        let outside = own_addresses().into_iter().next();
        let public = |given: &Option<String>, bound| {
            given
                .clone()
                .unwrap_or_else(|| reachable(bound, outside).to_string())
        };
        Self {
            rules: Rules {
                tick_hz: config.tick,
                view_distance: config.view_distance.map(quanta),
            },
            address: ServerAddress {
                tcp: public(&config.public_address, tcp),
                web: public(&config.public_http, web),
            },
        }
    }
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

/// Where others find who listens at an address.
fn reachable(bound: SocketAddr, outside: Option<IpAddr>) -> SocketAddr {
    let here = Ipv4Addr::LOCALHOST.into();
    match bound.ip().is_unspecified() {
        true => SocketAddr::new(outside.unwrap_or(here), bound.port()),
        false => bound,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn players_find_a_server_where_it_listens_or_where_it_says() {
        let lan = Some([192, 168, 1, 5].into());
        let everywhere = "0.0.0.0:1".parse().unwrap();
        assert_eq!(reachable(everywhere, lan).to_string(), "192.168.1.5:1");
        assert_eq!(reachable(everywhere, None).to_string(), "127.0.0.1:1");
        let one = "[::1]:1".parse().unwrap();
        assert_eq!(reachable(one, lan), one);
        let flags = [
            "cubesync-server",
            "--public-address",
            "eu1.game.example:443",
        ];
        let card = Card::new(&Config::parse_from(flags), one, one);
        assert_eq!(card.address.tcp, "eu1.game.example:443");
        assert_eq!(card.address.web, "[::1]:1");
    }
}
