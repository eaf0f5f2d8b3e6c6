//! What a fault has to do with: a server, its bystanders, and how thorough it is to be.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use cubesync_protocol::{Hello, Welcome};

use super::bystanders::Bystanders;
use super::peer::{Peer, RED};
use super::server::Server;

/// A server that has something to say says it in this time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Where a fault happens.
pub(crate) struct Scene<'a> {
    /// Whom it is done to.
    pub(crate) server: &'a mut Server,
    /// Who should not notice.
    pub(crate) bystanders: &'a Bystanders,
    /// Whether fewer repeats will do.
    pub(crate) is_quick: bool,
    /// The server's program.
    pub(crate) binary: &'a Path,
}

impl Scene<'_> {
    /// One of two numbers: for a quick run, or a thorough one.
    pub(crate) fn pick<T>(&self, quick: T, thorough: T) -> T {
        if self.is_quick { quick } else { thorough }
    }

    /// A connection that has said nothing yet.
    pub(crate) fn peer(&self) -> Result<Peer> {
        Peer::connect(self.server.tcp)
    }

    /// A WebSocket that has said nothing yet.
    pub(crate) fn websocket(&self) -> Result<Peer> {
        Peer::websocket(self.server.http)
    }

    /// A player in the lobby.
    pub(crate) fn player(&self, name: &str) -> Result<(Peer, Welcome)> {
        let mut peer = self.peer()?;
        let welcome = peer.join(hello(name))?;
        Ok((peer, welcome))
    }
}

/// A right greeting for the lobby.
pub(crate) fn hello(name: &str) -> Hello {
    Hello::new("lobby", name, RED)
}
