//! Rooms on several servers.
//!
//! Servers meet on a [`bus`], which is NATS. A [`Cluster`] knows the other servers; the relay uses it as a
//! [`Backplane`](cubesync_relay::room::backplane::Backplane).

pub mod answers;
pub mod bus;
mod clock;
mod cluster;
mod edge;
pub mod link;
pub mod message;
mod owner;
mod role;
pub mod roster;
mod task;
mod tenure;

#[cfg(any(test, feature = "testing"))]
pub use cluster::testing;
pub use cluster::{
    Cluster, ClusterMetrics, LeaseChange, Presence, RoomPresence, RoomRole, Rules, ServerProfile,
    host_and_port,
};
