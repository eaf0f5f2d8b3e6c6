//! The bus on which servers meet. It carries messages from one of them to those that subscribe, and
//! it knows which server holds the [lease](Leases) of a room.
//!
//! For messages a bus promises little, as core NATS does: a payload arrives once or not at all, the
//! payloads of one sender to one topic arrive in order, and the sender does not learn whether anybody
//! received them. For leases it promises that a room has one holder at a time.

mod address;
mod jetstream;
mod lease;
mod nats;
mod options;
mod subject;
#[cfg(any(test, feature = "testing"))]
mod testing;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::mpsc;

pub use self::address::BusAddress;
pub use self::lease::{
    Holder, LEASE_AGE, LEASE_TIMEOUT, Lease, LeaseError, LeaseFuture, Leases, RENEW_EVERY,
};
pub use self::nats::Nats;
pub use self::options::{BusError, NatsSettings};
pub use self::subject::cluster_name;
#[cfg(any(test, feature = "testing"))]
pub use self::testing::MemoryLeases;

/// The id of a server from its start to its end. It is drawn at random, so that no two are alike
/// although nothing assigns them.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct ServerId(pub u32);

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// The subject of a message, which determines its receivers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Messages to every server.
    Servers,
    /// Messages to every server that has the room.
    Room(String),
    /// Messages to one server about the room.
    RoomAt(String, ServerId),
}

/// A received message.
#[derive(Debug, Clone)]
pub struct Received {
    /// The content of the message.
    pub payload: Bytes,
    /// The time of its arrival.
    pub at: Instant,
}

/// A sender into the queue of received messages. A full queue loses messages, as a network would.
pub type InboxSender = mpsc::Sender<Received>;

/// A subscription, which ends when it is dropped.
pub struct Subscription(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Subscription {
    /// Creates a subscription that calls `end` when it is dropped.
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

/// The traffic of this server on a bus since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Messages that were sent.
    pub sent_messages: u64,
    /// Their bytes, with the names of their topics.
    pub sent_bytes: u64,
    /// Messages that were received.
    pub received_messages: u64,
    /// Their bytes, with the names of their topics.
    pub received_bytes: u64,
    /// Messages that could not be sent.
    pub lost_sent: u64,
    /// Messages that arrived while the queue was full.
    pub lost_received: u64,
}

/// A carrier of messages between servers. Nothing here waits; what cannot be carried now is lost.
pub trait Bus: fmt::Debug + Send + Sync {
    /// Sends a message to all other servers that subscribe to a topic.
    fn publish(&self, topic: &Topic, payload: Bytes);

    /// Subscribes to a topic. A server's own messages do not come back.
    fn subscribe(&self, topic: &Topic, inbox: InboxSender) -> Subscription;

    /// Returns whether other servers can be reached, as far as is known.
    fn is_connected(&self) -> bool;

    /// Returns the traffic so far, if this bus counts it.
    fn traffic(&self) -> Traffic {
        Traffic::default()
    }

    /// Returns the leases of rooms, which the servers of this bus share.
    fn leases(&self) -> Arc<dyn Leases>;
}
