//! Where a person wants to go: a server's address, or an invite link.

#[cfg(not(target_arch = "wasm32"))]
mod link;

#[cfg(not(target_arch = "wasm32"))]
use cubesync_protocol::folded;

#[cfg(not(target_arch = "wasm32"))]
use crate::socket::full_address;

/// The server that a person chose, and the room and the name if an invite link says more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The game's address, as [`ClientOptions::server`](crate::ClientOptions::server) has it.
    pub server: String,
    /// The room.
    pub room: Option<String>,
    /// The player's name.
    pub name: Option<String>,
}

impl Target {
    /// Creates a target that is only a server.
    pub fn server(server: String) -> Self {
        Self {
            server,
            room: None,
            name: None,
        }
    }

    /// Reads a server as a person gives it: its address, or an invite link.
    ///
    /// # Errors
    /// Says what is wrong with it.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn read(text: &str) -> Result<Self, String> {
        link::read(text).unwrap_or_else(|| full_address(text).map(Self::server))
    }

    /// Returns the room to join: the one that was `chosen` beside the server, or else the link's.
    ///
    /// # Errors
    /// They are two different rooms; says so to a person.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn room(&self, chosen: Option<String>) -> Result<Option<String>, String> {
        match (chosen, &self.room) {
            (Some(chosen), Some(invited)) if folded(&chosen) != folded(invited) => Err(format!(
                "the link leads to the room \"{invited}\", not to \"{chosen}\": give only one of them"
            )),
            (Some(chosen), _) => Ok(Some(chosen)),
            (None, invited) => Ok(invited.clone()),
        }
    }
}
