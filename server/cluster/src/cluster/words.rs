//! What servers say to each other of themselves and of the time; of the rooms' cubes, rooms talk.

use bytes::Bytes;
use cubesync_protocol::limits::MAX_ADDRESS_CHARS;
use cubesync_protocol::{DecodeError, ServerAddress, decode_peer, encode_peer};
use serde::{Deserialize, Serialize};

use crate::bus::ServerId;

/// Longest version of a program that is shown.
const MAX_VERSION_CHARS: usize = 32;

/// Something said to all servers or to one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Word {
    /// To all, once a second: who is there.
    Here(Box<Presence>),
    /// To all: a server ends.
    Gone(ServerId),
    /// To the server that others take the time from.
    Ping(Ping),
    /// Back from it.
    Pong(Pong),
}

/// A server, as it tells of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Presence {
    /// Which one.
    pub id: ServerId,
    /// Its time of the cluster.
    pub time_ns: u64,
    /// When it came into the cluster, in that time. `None`: it does not know it yet.
    pub joined_ns: Option<u64>,
    /// What the servers of a cluster must have in common.
    pub rules: Rules,
    /// Where players reach it.
    pub address: ServerAddress,
    /// The program's version.
    pub version: String,
    /// Connections of players.
    pub players: u32,
    /// Rooms.
    pub rooms: u32,
    /// Cubes in them, those of other servers included.
    pub cubes: u32,
    /// Bytes a second that it says on the bus.
    pub sent_bytes_per_s: u64,
    /// Bytes a second that it hears there.
    pub received_bytes_per_s: u64,
    /// By how much its time is off, as it measured, in microseconds; the time of the one that the
    /// others follow is never off.
    pub clock_offset_us: i64,
}

/// What the servers of a cluster must have in common, or their rooms cannot be the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Ticks per second.
    pub tick_hz: u8,
    /// The view distance, which decides how floors are divided into cells, in quanta.
    pub view_distance: Option<u32>,
}

/// A question for the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ping {
    /// Who asks.
    pub(super) from: ServerId,
    /// When, on a clock of its own.
    pub(super) sent_ns: u64,
    /// Its time of the cluster then.
    pub(super) time_ns: u64,
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pong {
    /// Who answers.
    pub(super) from: ServerId,
    /// Of the question.
    pub(super) sent_ns: u64,
    /// The answering server's time of the cluster when the question came.
    pub(super) received_ns: u64,
    /// The same when the answer went.
    pub(super) answered_ns: u64,
    /// Whether it knows that time, or is still to learn it.
    pub(super) is_settled: bool,
}

impl Word {
    pub(super) fn encode(&self) -> Bytes {
        encode_peer(self)
    }

    /// # Errors
    /// It is none.
    pub(super) fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        decode_peer(payload)
    }
}

impl Presence {
    /// The same, with nothing in it that could not be shown or handed on to players.
    pub(super) fn clean(mut self) -> Self {
        let address = &mut self.address;
        for text in [&mut address.tcp, &mut address.web] {
            *text = host_and_port(text).unwrap_or_default();
        }
        let is_plain = |character: &char| character.is_ascii_graphic();
        self.version = self
            .version
            .chars()
            .filter(is_plain)
            .take(MAX_VERSION_CHARS)
            .collect();
        self
    }

    /// Whether it says where players find it.
    pub(super) fn is_reachable(&self) -> bool {
        !self.address.tcp.is_empty() && !self.address.web.is_empty()
    }
}

/// An address as others are to write it: the name of a host or an IP address, and a port, in small
/// letters as browsers name the origin of a page.
///
/// # Errors
/// It is none, or longer than players are told.
pub fn host_and_port(text: &str) -> Result<String, String> {
    let wrong = || "expected HOST:PORT, such as eu1.game.example:14900".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let host = match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(host) => host.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            !host.is_empty() && host.bytes().all(is_of_name)
        }
    };
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    match host && is_port && text.len() <= MAX_ADDRESS_CHARS {
        true => Ok(text.to_ascii_lowercase()),
        false => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_names_or_numbers_with_a_port() {
        for good in [
            "game.example:1",
            "10.0.0.7:14900",
            "[2001:db8::1]:8080",
            "a_b-c:9",
        ] {
            assert_eq!(host_and_port(good).as_deref(), Ok(good));
        }
        let long = format!("{}:1", "a".repeat(MAX_ADDRESS_CHARS));
        for wrong in [
            "",
            "game.example",
            ":1",
            "a:0",
            "a:x",
            "a b:1",
            "<a>:1",
            "[a]:1",
            "::1:1",
            &long,
        ] {
            assert!(host_and_port(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_are_in_small_letters() {
        for (given, expected) in [
            ("EU1.Game.Example:8080", "eu1.game.example:8080"),
            ("[2001:DB8::1]:8080", "[2001:db8::1]:8080"),
        ] {
            assert_eq!(host_and_port(given).as_deref(), Ok(expected));
            let mut presence = super::super::testing::presence(7);
            presence.address.web = given.to_owned();
            assert_eq!(presence.clean().address.web, expected);
        }
    }

    #[test]
    fn what_cannot_be_shown_is_not_kept() {
        let presence = super::super::testing::presence(7);
        assert_eq!(presence.clone().clean(), presence);
        let mut odd = presence;
        odd.address.tcp = "<script>:1".to_owned();
        odd.version = format!("1.0\n{}", "é2".repeat(99));
        let clean = odd.clean();
        assert!(!clean.is_reachable());
        assert_eq!(clean.version, format!("1.0{}", "2".repeat(29)));
    }
}
