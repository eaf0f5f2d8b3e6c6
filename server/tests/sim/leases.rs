//! Simulated leases of rooms. They are beside the bus and suffer from its faults. A call takes up to half a
//! second, or it times out; then what it asked for may have been done, or is done later.

use std::collections::BTreeMap;
use std::future::pending;
use std::time::Duration;

use cubesync_cluster::bus::{
    Holder, LEASE_AGE, LEASE_TIMEOUT, Lease, LeaseError, LeaseFuture, Leases, ServerId,
};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::bus::{Connection, Inner};

/// Longest way of a call to the leases, and longest way back.
const SLOWEST: Duration = Duration::from_millis(400);
/// Longest time by which a lease may outlive its age, as NATS does not look at every moment.
const EXPIRES_WITHIN: Duration = Duration::from_millis(250);

/// The leases by room.
#[derive(Debug, Default)]
pub struct Store {
    leases: BTreeMap<String, Entry>,
    /// The leases that were lost or followed by another server's.
    former: BTreeMap<String, Entry>,
    last_revision: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    node: usize,
    holder: Holder,
    revision: u64,
    ends: Duration,
}

impl Store {
    /// Loses all leases. Revisions go on, as terms do when a bucket of NATS begins anew.
    pub fn clear(&mut self) {
        self.former.append(&mut self.leases);
    }

    /// Returns whether a server may take itself for the holder of the lease of the only room.
    pub fn is_valid(&self, node: usize, now: Duration) -> bool {
        let mut entries = self.leases.values().chain(self.former.values());
        entries.any(|entry| entry.node == node && now < entry.ends)
    }

    /// Returns the server that holds the lease of the only room.
    pub fn node(&self, now: Duration) -> Option<usize> {
        let mut entries = self.leases.values();
        let entry = entries.find(|entry| now < entry.ends);
        entry.map(|entry| entry.node)
    }

    fn entry(&self, room: &str, now: Duration) -> Option<Entry> {
        let entry = self.leases.get(room).copied();
        entry.filter(|entry| now < entry.ends)
    }

    fn put(
        &mut self,
        room: &str,
        node: usize,
        server: ServerId,
        term: Option<u64>,
        ends: Duration,
    ) -> Lease {
        self.last_revision += 1;
        let revision = self.last_revision;
        let term = term.unwrap_or(revision);
        let holder = Holder { server, term };
        let entry = Entry {
            node,
            holder,
            revision,
            ends,
        };
        let former = self.leases.insert(room.to_owned(), entry);
        if let Some(former) = former.filter(|former| former.node != node) {
            self.former.insert(room.to_owned(), former);
        }
        Lease { term, revision }
    }
}

/// Returns when a lease ends that begins now.
fn ends(inner: &mut Inner, now: Duration) -> Duration {
    let late_us = inner.random.u64(..EXPIRES_WITHIN.as_micros() as u64);
    now + LEASE_AGE + Duration::from_micros(late_us)
}

impl Connection {
    /// Calls the store. The call goes on when the caller has given it up.
    fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Inner, Duration) -> Result<T, LeaseError> + Send + 'static,
    ) -> LeaseFuture<T> {
        let connection = self.clone();
        let (sender, answer) = oneshot::channel();
        Box::pin(async move {
            tokio::spawn(async move {
                connection.travel().await?;
                let result = work(&mut connection.lock(), turmoil::sim_elapsed()?);
                connection.travel().await?;
                sender.send(result).ok()
            });
            let answer = async {
                match answer.await {
                    Ok(result) => result,
                    // The call or its answer is lost.
                    Err(_) => pending().await,
                }
            };
            let in_time = timeout(LEASE_TIMEOUT, answer).await;
            in_time.unwrap_or_else(|_| Err(LeaseError::Unreachable("no answer".to_owned())))
        })
    }

    /// Waits for as long as a call travels to the store or back. Returns `None` if it is lost.
    async fn travel(&self) -> Option<()> {
        let latency = self.lock().latency(SLOWEST);
        sleep(latency).await;
        while self.lock().is_held(self.node) {
            sleep(Duration::from_millis(5)).await;
        }
        (!self.lock().is_lost(self.node, None)).then_some(())
    }
}

impl Leases for Connection {
    fn acquire(&self, room: &str, holder: ServerId) -> LeaseFuture<Lease> {
        let (room, node) = (room.to_owned(), self.node);
        let called = turmoil::sim_elapsed();
        self.call(move |inner, now| {
            // A holder's own lease is replaced in a second step, which a late call does not reach.
            let is_late = called.is_none_or(|called| now > called + LEASE_TIMEOUT);
            let is_taken = |entry: Entry| is_late || entry.holder.server != holder;
            if inner.store.entry(&room, now).is_some_and(is_taken) {
                return Err(LeaseError::Taken);
            }
            let ends = ends(inner, now);
            Ok(inner.store.put(&room, node, holder, None, ends))
        })
    }

    fn renew(&self, room: &str, lease: Lease, holder: ServerId) -> LeaseFuture<Lease> {
        let (room, node) = (room.to_owned(), self.node);
        self.call(move |inner, now| {
            let entry = inner.store.entry(&room, now);
            if entry.map(|entry| entry.revision) != Some(lease.revision) {
                return Err(LeaseError::Taken);
            }
            let ends = ends(inner, now);
            Ok(inner.store.put(&room, node, holder, Some(lease.term), ends))
        })
    }

    fn release(&self, room: &str, lease: Lease) -> LeaseFuture<()> {
        let room = room.to_owned();
        self.call(move |inner, now| {
            let entry = inner.store.entry(&room, now);
            if entry.map(|entry| entry.revision) != Some(lease.revision) {
                return Err(LeaseError::Taken);
            }
            inner.store.leases.remove(&room);
            Ok(())
        })
    }

    fn holder(&self, room: &str) -> LeaseFuture<Option<Holder>> {
        let room = room.to_owned();
        self.call(move |inner, now| Ok(inner.store.entry(&room, now).map(|entry| entry.holder)))
    }
}

#[cfg(test)]
mod tests {
    use cubesync_cluster::bus::Bus;

    use super::*;
    use crate::bus::{BusFault, tests::simulate};

    #[test]
    fn a_lease_has_one_holder_until_it_ends() {
        simulate(|bus| async move {
            let leases = [0, 1].map(|node| bus.join(node).leases());
            let [a, b] = [ServerId(7), ServerId(8)];
            let lease = leases[0].acquire("room", a).await.unwrap();
            assert_eq!(leases[1].acquire("room", b).await, Err(LeaseError::Taken));
            sleep(LEASE_AGE * 2 / 3).await;
            let renewed = leases[0].renew("room", lease, a).await.unwrap();
            assert_eq!(renewed.term, lease.term);
            sleep(LEASE_AGE * 2 / 3).await;
            let term = lease.term;
            let holder = Holder { server: a, term };
            assert_eq!(leases[1].holder("room").await, Ok(Some(holder)));
            assert_eq!(
                leases[0].renew("room", lease, a).await,
                Err(LeaseError::Taken)
            );
            sleep(LEASE_AGE).await;
            let next = leases[1].acquire("room", b).await.unwrap();
            assert!(next.term > term);
            assert_eq!(
                leases[0].renew("room", renewed, a).await,
                Err(LeaseError::Taken)
            );
            leases[1].release("room", next).await.unwrap();
            assert_eq!(leases[0].holder("room").await, Ok(None));
        });
    }

    #[test]
    fn a_call_of_a_server_that_is_cut_off_times_out_and_may_be_done_later() {
        simulate(|bus| async move {
            let leases = [0, 1].map(|node| bus.join(node).leases());
            let timed_out = Err(LeaseError::Unreachable("no answer".to_owned()));
            bus.begin(0, BusFault::Cut(vec![0]));
            assert_eq!(leases[0].acquire("room", ServerId(7)).await, timed_out);
            assert_eq!(leases[1].holder("room").await, Ok(None));
            bus.end(0);
            bus.begin(1, BusFault::Held(0));
            assert_eq!(leases[0].acquire("room", ServerId(7)).await, timed_out);
            assert_eq!(leases[1].holder("room").await, Ok(None));
            bus.end(1);
            sleep(Duration::from_millis(20)).await;
            let holder = leases[1].holder("room").await.unwrap();
            assert_eq!(holder.map(|holder| holder.server), Some(ServerId(7)));
        });
    }
}
