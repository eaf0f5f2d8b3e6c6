//! Helpers for the tests of several files.

use cubesync_protocol::ServerAddress;

use super::presence::{Presence, RoomPresence, RoomRole, Rules};
use crate::bus::ServerId;

/// Returns a plausible presence of a server.
pub fn presence(id: u32) -> Presence {
    let room = RoomPresence {
        name: "lobby".to_owned(),
        players: 0,
        role: RoomRole::Owner,
    };
    Presence {
        id: ServerId(id),
        rules: rules(),
        address: address(id),
        version: "0.1.0".to_owned(),
        players: 0,
        room_count: 1,
        rooms: vec![room],
        sent_bytes_per_s: 0,
        received_bytes_per_s: 0,
        is_leaving: false,
    }
}

/// Returns the rules that all test servers have in common.
pub fn rules() -> Rules {
    Rules::new(30, None)
}

/// Returns a server's address, which has a port of its own.
pub(super) fn address(id: u32) -> ServerAddress {
    ServerAddress {
        tcp: format!("game.example:{}", 10_000 + id),
        web: format!("game.example:{}", 20_000 + id),
    }
}
