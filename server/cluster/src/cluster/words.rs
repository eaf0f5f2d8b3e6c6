//! The messages that servers send each other about themselves. Rooms have messages of their own.

use bytes::Bytes;
use cubesync_protocol::limits::MAX_ADDRESS_CHARS;
use cubesync_protocol::{DecodeError, ServerAddress, decode_peer, encode_peer};
use serde::{Deserialize, Serialize};

use crate::bus::ServerId;

/// The maximum length of a program version that is shown.
const MAX_VERSION_CHARS: usize = 32;

/// A message to all servers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Word {
    /// The announcement of a server, sent to all once a second.
    Here(Box<Presence>),
    /// The goodbye of a server that stops, sent to all.
    Gone(ServerId),
}

/// A server, as it describes itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Presence {
    /// Its id.
    pub id: ServerId,
    /// The rules that the servers of a cluster must have in common.
    pub rules: Rules,
    /// The addresses at which players reach it.
    pub address: ServerAddress,
    /// The program's version.
    pub version: String,
    /// The number of players' connections.
    pub players: u32,
    /// The number of rooms.
    pub rooms: u32,
    /// The number of cubes in them, including those of other servers.
    pub cubes: u32,
    /// The bytes that it sends on the bus per second.
    pub sent_bytes_per_s: u64,
    /// The bytes that it receives from the bus per second.
    pub received_bytes_per_s: u64,
}

/// The rules that the servers of a cluster must have in common, so that their rooms can be the
/// same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// The ticks per second.
    pub tick_hz: u8,
    /// The view distance in quanta, which decides how floors are divided into cells.
    pub view_distance: Option<u32>,
}

impl Word {
    pub(super) fn encode(&self) -> Bytes {
        encode_peer(self)
    }

    /// Decodes a message.
    ///
    /// # Errors
    /// Returns an error if the payload is no such message.
    pub(super) fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        decode_peer(payload)
    }
}

impl Presence {
    /// Returns the presence without anything that must not be shown or passed on to players.
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

    /// Returns whether it says where players can reach it.
    pub(super) fn is_reachable(&self) -> bool {
        !self.address.tcp.is_empty() && !self.address.web.is_empty()
    }
}

/// Returns an address in the form that other servers should use: the name of a host or an IP
/// address, and a port, in lower case as browsers write the origin of a page.
///
/// # Errors
/// Returns an error if the text is no address, or longer than players may be told.
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
