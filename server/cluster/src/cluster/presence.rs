//! What a server tells the others about itself.

use bytes::Bytes;
use cubesync_protocol::limits::{MAX_ADDRESS_CHARS, TICK_HZ_RANGE};
use cubesync_protocol::{DecodeError, ServerAddress, clean_room, decode_peer, encode_peer, folded};
use cubesync_relay::label::label;
use cubesync_relay::room::Role;
use serde::{Deserialize, Serialize};

use crate::bus::ServerId;

/// The version of the messages between servers, a part of the [`Rules`] that they must have in
/// common.
const MESSAGES_VERSION: u16 = 1;

/// The maximum length of a program version that is shown.
const MAX_VERSION_CHARS: usize = 32;

/// The maximum number of rooms that a server lists: as many as a status page shows. With the longest
/// names they are 3 KB.
pub(super) const MAX_LISTED_ROOMS: usize = 20;

/// The properties of a server that do not change.
#[derive(Debug, Clone)]
pub struct ServerProfile {
    /// The rules that all servers must have in common.
    pub rules: Rules,
    /// The addresses at which players reach it.
    pub address: ServerAddress,
}

/// The rules that the servers of a cluster must have in common, so that their rooms can be the
/// same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// The ticks per second.
    pub tick_hz: u8,
    /// The view distance in quanta, which decides how floors are divided into cells.
    pub view_distance: Option<u32>,
    /// The version of the messages between servers.
    pub messages: u16,
}

/// The announcement of a server, which goes to all others once a second and when it stops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    pub room_count: u32,
    /// The rooms with the most players.
    pub rooms: Vec<RoomPresence>,
    /// The bytes that it sends on the bus per second.
    pub sent_bytes_per_s: u64,
    /// The bytes that it receives from the bus per second.
    pub received_bytes_per_s: u64,
    /// Whether it stops.
    pub is_leaving: bool,
}

/// A room of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomPresence {
    /// The room's name.
    pub name: String,
    /// The number of players who are connected to this server.
    pub players: u32,
    /// The part of this server in the room.
    pub role: RoomRole,
}

label! {
    /// The part of a server in a room.
    #[derive(Serialize, Deserialize)]
    pub enum RoomRole("role") {
        /// It owns the room.
        Owner => "owner",
        /// It shows the room of another server.
        Edge => "edge",
        /// It goes on alone, cut off from the others.
        Island => "island",
    }
}

impl Rules {
    /// Creates the rules of a server of this version.
    pub fn new(tick_hz: u8, view_distance: Option<u32>) -> Self {
        debug_assert!(TICK_HZ_RANGE.contains(&tick_hz));
        Self {
            tick_hz,
            view_distance,
            messages: MESSAGES_VERSION,
        }
    }

    /// Returns the name on the bus of a room that servers with these rules share: its folded name
    /// and four digits. Servers with other rules have a room of their own.
    pub fn shared_name(&self, room: &str) -> String {
        let view_distance = self
            .view_distance
            .map_or(0, |distance| distance.wrapping_add(1));
        let parts = [self.tick_hz.into(), view_distance, self.messages.into()];
        // FNV, whose upper half is the better one.
        let mix = |mixed: u32, part: u32| (mixed ^ part).wrapping_mul(0x0100_0193);
        let room = folded(room);
        format!("{room}-{:04x}", parts.into_iter().fold(0, mix) >> 16)
    }
}

impl From<&Role> for RoomRole {
    fn from(role: &Role) -> Self {
        match role {
            Role::Owner => Self::Owner,
            Role::Edge { .. } => Self::Edge,
            Role::Island => Self::Island,
        }
    }
}

impl Presence {
    /// Decodes an announcement, without anything that must not be shown or passed on to players.
    ///
    /// # Errors
    /// Returns an error if the payload is none.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        Ok(decode_peer::<Self>(payload)?.clean())
    }

    pub(super) fn encode(&self) -> Bytes {
        encode_peer(self)
    }

    fn clean(mut self) -> Self {
        let address = &mut self.address;
        for text in [&mut address.tcp, &mut address.web] {
            *text = host_and_port(text).unwrap_or_default();
        }
        self.version
            .retain(|character| character.is_ascii_graphic());
        self.version.truncate(MAX_VERSION_CHARS);
        let is_name = |room: &RoomPresence| clean_room(&room.name).as_ref() == Ok(&room.name);
        self.rooms.retain(is_name);
        self.rooms.truncate(MAX_LISTED_ROOMS);
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
        // Nobody reaches the address that stands for all addresses.
        Some(host) => host
            .parse()
            .is_ok_and(|ip: std::net::Ipv6Addr| !ip.is_unspecified()),
        None => {
            let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            !host.is_empty() && host != "0.0.0.0" && host.bytes().all(is_of_name)
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
    use super::super::testing::presence;
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
            "0.0.0.0:1",
            "[::]:1",
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
            let mut presence = presence(7);
            presence.address.web = given.to_owned();
            assert_eq!(presence.clean().address.web, expected);
        }
    }

    #[test]
    fn what_cannot_be_shown_is_not_kept() {
        let mut odd = presence(7);
        assert_eq!(Presence::decode(&odd.encode()), Ok(odd.clone()));
        odd.address.tcp = "<script>:1".to_owned();
        odd.version = format!("1.0\n{}", "é2".repeat(99));
        odd.rooms[0].name = "lob\nby".to_owned();
        let clean = Presence::decode(&odd.encode()).unwrap();
        assert!(!clean.is_reachable());
        assert_eq!(clean.version, format!("1.0{}", "2".repeat(29)));
        assert_eq!(clean.rooms, []);
    }

    #[test]
    fn rooms_of_servers_with_other_rules_have_other_names_on_the_bus() {
        let rules = Rules::new(30, None);
        let mut others = vec![Rules::new(60, None), Rules::new(30, Some(0))];
        others.push(Rules::new(30, Some(16_384)));
        others.push(Rules {
            messages: 2,
            ..rules
        });
        let name = rules.shared_name("lobby");
        assert!(name.starts_with("lobby-") && name.len() == 10, "{name}");
        assert_eq!(rules.shared_name("Lobby"), name);
        for other in others {
            assert_ne!(other.shared_name("lobby"), name);
        }
    }

    #[test]
    fn a_long_list_of_rooms_is_cut() {
        let mut long = presence(7);
        long.rooms = vec![long.rooms[0].clone(); MAX_LISTED_ROOMS + 1];
        let cut = Presence::decode(&long.encode()).unwrap();
        assert_eq!(cut.rooms.len(), MAX_LISTED_ROOMS);
    }
}
