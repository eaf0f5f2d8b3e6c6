//! One trial of a fault: a server, two bystanders, and how thorough the run is.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use cubesync_protocol::{Hello, Welcome};

use super::bystanders::Bystanders;
use super::peer::{Peer, RED};
use super::server::Server;

/// A server that sends something does so in this time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// One trial of a fault.
pub(crate) struct Trial<'a> {
    /// The server that the fault is tried on.
    pub(crate) server: &'a mut Server,
    /// The clients that should not notice it.
    pub(crate) bystanders: &'a Bystanders,
    /// Whether the run does fewer repeats.
    pub(crate) is_quick: bool,
    /// The server's program.
    pub(crate) binary: &'a Path,
}

impl Trial<'_> {
    /// Returns the value for a quick run or the one for a thorough run.
    pub(crate) fn pick<T>(&self, quick: T, thorough: T) -> T {
        if self.is_quick { quick } else { thorough }
    }

    /// Opens a connection that has sent nothing yet.
    pub(crate) fn peer(&self) -> Result<Peer> {
        Peer::connect(self.server.tcp)
    }

    /// Opens a WebSocket that has sent nothing yet.
    pub(crate) fn websocket(&self) -> Result<Peer> {
        Peer::websocket(self.server.http)
    }

    /// Lets a player join the lobby.
    pub(crate) fn player(&self, name: &str) -> Result<(Peer, Welcome)> {
        let mut peer = self.peer()?;
        let welcome = peer.join(hello(name))?;
        Ok((peer, welcome))
    }
}

/// Returns a valid `Hello` for the lobby.
pub(crate) fn hello(name: &str) -> Hello {
    Hello::new("lobby", name, RED)
}
