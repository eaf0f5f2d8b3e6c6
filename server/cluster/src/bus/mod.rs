//! Where servers meet: something that carries what one of them says to those who listen.
//!
//! What it carries, and why, is the business of `cluster` and of the rooms. A bus
//! promises little, as core NATS does: a payload comes once or not at all, those of one sender to one
//! topic in order, and nobody learns whether anybody heard. So the users of a bus repeat themselves
//! until they agree.

mod address;
mod nats;
mod options;
mod subject;

use std::fmt;
use std::time::Instant;

use bytes::Bytes;
use cubesync_protocol::CellId;
use tokio::sync::mpsc;

pub use self::address::BusAddress;
pub use self::nats::Nats;
pub use self::options::{BusError, NatsSettings};
pub use self::subject::cluster_name;

/// Names a server of a cluster from its start to its end; drawn by lot, so that no two are
/// alike although nobody counts them.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct ServerId(pub u32);

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// What something is said about, and so to whom.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Topic {
    /// To every server.
    Servers,
    /// To one server.
    Server(ServerId),
    /// To every server that has the room.
    Room(String),
    /// To one server that has the room.
    RoomAt(String, ServerId),
    /// To every server whose players see the cell of the room.
    Cell(String, CellId),
}

/// Something that was said.
#[derive(Debug, Clone)]
pub struct Heard {
    /// Its words.
    pub payload: Bytes,
    /// When it came.
    pub at: Instant,
}

/// Where what is heard goes. One that is full loses it, as a network would.
pub type Ear = mpsc::Sender<Heard>;

/// Ends a subscription when it is dropped.
pub struct Subscription(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Subscription {
    /// A subscription that ends with a call.
    pub fn new(end: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(end)))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(end) = self.0.take() {
            end();
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subscription(..)")
    }
}

/// What a bus has carried for this server since its start, and what it has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Messages that were said.
    pub sent_messages: u64,
    /// Their bytes, with the names of their topics.
    pub sent_bytes: u64,
    /// Messages that came to an ear.
    pub received_messages: u64,
    /// Their bytes, with the names of their topics.
    pub received_bytes: u64,
    /// Messages that could not be said.
    pub lost_sent: u64,
    /// Messages that came to a full ear.
    pub lost_received: u64,
}

/// Carries words between servers. Nothing here waits; what cannot be carried now is lost.
pub trait Bus: fmt::Debug + Send + Sync {
    /// Says something to all others that listen to a topic.
    fn publish(&self, topic: &Topic, payload: Bytes);

    /// Listens to a topic. Own words do not come back.
    fn subscribe(&self, topic: &Topic, ear: Ear) -> Subscription;

    /// Whether others can be reached, as far as is known.
    fn is_connected(&self) -> bool;

    /// What was carried, if this bus counts it.
    fn traffic(&self) -> Traffic {
        Traffic::default()
    }
}
