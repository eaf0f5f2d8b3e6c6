//! The options of a client: the server and the player.

use cubesync_protocol::{Colour, Hello, ResumeToken};

use crate::lab::Conditions;
#[cfg(not(target_arch = "wasm32"))]
use crate::trust::Trust;

/// The server to connect to, and the player to join as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientOptions {
    /// The server's `host:port`; the host is a name or an address, of IPv6 in brackets and with its
    /// zone if it needs one: `[fe80::1%eth0]:14900`. With `tls://` in front the connection is
    /// encrypted. A browser's page decides that itself.
    pub server: String,
    /// Which certificates to accept, when the connection is encrypted.
    #[cfg(not(target_arch = "wasm32"))]
    pub trust: Trust,
    /// The room to join.
    pub room: String,
    /// The player's name; the server may add a number to it.
    pub name: String,
    /// The colour of the player's cube.
    pub colour: Colour,
    /// The server's join key, where it asks for one.
    pub join_key: Option<String>,
    /// The token of an earlier [`Welcome`](cubesync_protocol::Welcome) in this room, with which the
    /// server gives the same cube back. A client that reconnects by itself uses the newest one.
    pub resume: Option<ResumeToken>,
    /// Whether to ask the server for a way for datagrams beside the connection.
    pub datagrams: bool,
    /// The network lab's conditions at first.
    pub lab: Conditions,
    /// Seed of the lab's losses and jitter.
    pub lab_seed: u64,
}

impl ClientOptions {
    /// The scheme in front of the address of a server to which the connection is encrypted.
    pub const TLS: &str = "tls://";

    /// Makes options for the lobby of a server, with an orange cube and no join key.
    pub fn new(server: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            server: server.into(),
            #[cfg(not(target_arch = "wasm32"))]
            trust: Trust::default(),
            room: "lobby".to_owned(),
            name: name.into(),
            colour: Colour::from([0xE0, 0x80, 0x20]),
            join_key: None,
            resume: None,
            datagrams: true,
            lab: Conditions::default(),
            lab_seed: 1,
        }
    }

    /// Returns the first message to the server.
    pub(crate) fn hello(&self) -> Hello {
        Hello {
            join_key: self.join_key.clone(),
            resume: self.resume,
            ..Hello::new(&self.room, &self.name, self.colour)
        }
    }
}

/// Returns a server's `host:port` without what stands in front of it.
pub(crate) fn bare_address(server: &str) -> &str {
    server.strip_prefix(ClientOptions::TLS).unwrap_or(server)
}
