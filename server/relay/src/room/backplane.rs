//! Who runs a room: this server alone, or one of several that share it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use cubesync_protocol::ServerAddress;
use tokio_util::sync::CancellationToken;

use super::{Connections, Room};

/// The task of a room.
pub type RoomFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The server's connection with other servers that have rooms of the same names.
pub trait Backplane: fmt::Debug + Send + Sync {
    /// Runs a room to its end. `retire` is dropped before the connections are.
    fn run(
        self: Arc<Self>,
        connections: Connections,
        shutdown: CancellationToken,
        retire: Retire,
    ) -> RoomFuture;

    /// Returns the addresses of other servers that show a room, for its players.
    fn servers(&self, room: &str) -> Vec<ServerAddress>;
}

/// Takes a room off the server's list when it is dropped, which is before the room stops listening.
pub struct Retire(Option<Box<dyn FnOnce() + Send>>);

/// The backplane of a server that is alone.
#[derive(Debug, Clone, Copy)]
pub struct Alone;

impl Backplane for Alone {
    fn run(
        self: Arc<Self>,
        connections: Connections,
        shutdown: CancellationToken,
        retire: Retire,
    ) -> RoomFuture {
        // Made in its own task, since others wait for whoever opens a room.
        Box::pin(async move { Room::new(connections).run(shutdown, retire).await })
    }

    fn servers(&self, _: &str) -> Vec<ServerAddress> {
        Vec::new()
    }
}

impl Retire {
    /// Creates one that calls a function when it is dropped.
    pub fn new(retire: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(retire)))
    }
}

impl Drop for Retire {
    fn drop(&mut self) {
        if let Some(retire) = self.0.take() {
            retire();
        }
    }
}

impl fmt::Debug for Retire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Retire(..)")
    }
}
