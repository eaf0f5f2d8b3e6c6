//! Leases without NATS, for tests.

use std::collections::HashMap;
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::time::Instant;

use super::ServerId;
use super::lease::{Holder, LEASE_AGE, Lease, LeaseError, LeaseFuture, Leases};

/// Leases of several servers in this process. They end by the runtime's time, and every operation
/// takes place at the call.
#[derive(Debug, Clone, Default)]
pub struct MemoryLeases(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    revision: u64,
    entries: HashMap<String, Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    holder: Holder,
    revision: u64,
    ends: Instant,
}

impl MemoryLeases {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("nobody panics with it")
    }
}

impl Inner {
    fn entry(&self, room: &str) -> Option<Entry> {
        let entry = self.entries.get(room).copied();
        entry.filter(|entry| entry.ends > Instant::now())
    }

    fn put(&mut self, room: &str, server: ServerId, term: Option<u64>) -> Lease {
        self.revision += 1;
        let revision = self.revision;
        let term = term.unwrap_or(revision);
        let holder = Holder { server, term };
        let ends = Instant::now() + LEASE_AGE;
        let entry = Entry {
            holder,
            revision,
            ends,
        };
        self.entries.insert(room.to_owned(), entry);
        Lease { term, revision }
    }
}

impl Leases for MemoryLeases {
    fn acquire(&self, room: &str, holder: ServerId) -> LeaseFuture<Lease> {
        let mut inner = self.lock();
        let entry = inner.entry(room);
        let result = match entry.is_none_or(|entry| entry.holder.server == holder) {
            true => Ok(inner.put(room, holder, None)),
            false => Err(LeaseError::Taken),
        };
        Box::pin(ready(result))
    }

    fn renew(&self, room: &str, lease: Lease, holder: ServerId) -> LeaseFuture<Lease> {
        let mut inner = self.lock();
        let result = match inner.entry(room) {
            Some(entry) if entry.revision == lease.revision => {
                Ok(inner.put(room, holder, Some(lease.term)))
            }
            _ => Err(LeaseError::Taken),
        };
        Box::pin(ready(result))
    }

    fn release(&self, room: &str, lease: Lease) -> LeaseFuture<()> {
        let mut inner = self.lock();
        let result = match inner.entry(room) {
            Some(entry) if entry.revision == lease.revision => {
                inner.entries.remove(room);
                Ok(())
            }
            _ => Err(LeaseError::Taken),
        };
        Box::pin(ready(result))
    }

    fn holder(&self, room: &str) -> LeaseFuture<Option<Holder>> {
        let holder = self.lock().entry(room).map(|entry| entry.holder);
        Box::pin(ready(Ok(holder)))
    }
}
