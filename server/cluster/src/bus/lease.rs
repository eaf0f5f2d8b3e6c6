//! The lease of a room, which decides which server owns it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use super::ServerId;

/// The time from the last renewal of a lease until it ends by itself and another server can get it.
/// Its holder counts it from the moment before the call, so its lease is over for itself first: on
/// loopback nats-server 2.9.10 ends it 1,001 to 1,020 ms after the call (1,160 ms on a busy machine).
pub const LEASE_AGE: Duration = Duration::from_secs(1);

/// The time between two renewals: of three in a row, one has to be answered. That takes 0.3 ms on
/// loopback, and 8 ms in one of a hundred cases on a busy machine.
pub const RENEW_EVERY: Duration = Duration::from_millis(250);

/// The maximum time of an operation; after it the operation counts as failed, although it may still
/// be carried out.
pub const LEASE_TIMEOUT: Duration = Duration::from_millis(500);

/// The result of an operation on leases, later.
pub type LeaseFuture<T> = Pin<Box<dyn Future<Output = Result<T, LeaseError>> + Send>>;

/// The right to own a room, for [`LEASE_AGE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The number of this ownership. A room's next owner has a higher one.
    pub term: u64,
    /// The revision of the last renewal, which the next one must name.
    pub revision: u64,
}

/// The holder of a room's lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The server that owns the room.
    pub server: ServerId,
    /// The term of its lease.
    pub term: u64,
}

/// A failed operation on leases.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// Another server holds the lease, or nobody holds the one that was to be renewed.
    #[error("the lease is not this server's")]
    Taken,
    /// Nobody who could decide answered in time. The text says why.
    #[error("leases cannot be had: {0}")]
    Unreachable(String),
}

/// The leases of all rooms of a cluster. The futures do not borrow. They end within
/// [`LEASE_TIMEOUT`], or twice of it just after a start.
pub trait Leases: fmt::Debug + Send + Sync {
    /// Takes a room's lease if no other server holds it. A lease that `holder` itself still has
    /// from before is replaced by one with a new term.
    fn acquire(&self, room: &str, holder: ServerId) -> LeaseFuture<Lease>;

    /// Makes a lease last for another [`LEASE_AGE`]. If it is [`Taken`](LeaseError::Taken), nobody may
    /// hold it yet; acquiring tells.
    fn renew(&self, room: &str, lease: Lease, holder: ServerId) -> LeaseFuture<Lease>;

    /// Ends a lease at once.
    fn release(&self, room: &str, lease: Lease) -> LeaseFuture<()>;

    /// Returns the holder of a room's lease, if there is one.
    fn holder(&self, room: &str) -> LeaseFuture<Option<Holder>>;
}
