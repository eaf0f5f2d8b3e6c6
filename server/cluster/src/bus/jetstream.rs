//! Leases in a key-value bucket of NATS's JetStream.

use std::future::ready;

use super::ServerId;
use super::lease::{Holder, Lease, LeaseError, LeaseFuture, Leases};

/// The leases of one cluster.
#[derive(Debug)]
pub(super) struct JetStream;

fn unreachable<T: Send + 'static>() -> LeaseFuture<T> {
    Box::pin(ready(Err(LeaseError::Unreachable(
        "no bucket is open".to_owned(),
    ))))
}

impl Leases for JetStream {
    fn acquire(&self, _: &str, _: ServerId) -> LeaseFuture<Lease> {
        unreachable()
    }

    fn renew(&self, _: &str, _: Lease, _: ServerId) -> LeaseFuture<Lease> {
        unreachable()
    }

    fn release(&self, _: &str, _: Lease) -> LeaseFuture<()> {
        unreachable()
    }

    fn holder(&self, _: &str) -> LeaseFuture<Option<Holder>> {
        unreachable()
    }
}
