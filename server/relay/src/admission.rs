//! Limits on connections: in all and from one address, and on those that have not introduced
//! themselves yet.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::bans::Bans;
use crate::by_address::{ByAddress, network};
use crate::ending::Ending;
use crate::metrics::MetricSet;
use crate::pace::Pace;

/// Numbers of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// All of them.
    pub open: usize,
    /// Those that have not introduced themselves yet.
    pub pending: usize,
}

/// Counts the open connections.
#[derive(Debug)]
pub struct Admission {
    limit: Count,
    limit_per_address: Count,
    arrivals: Option<Pace>,
    bans: Arc<Bans>,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    total: Count,
    /// Addresses with at least one connection, so never more than there are connections; loopback is
    /// not counted.
    by_address: ByAddress<Count>,
}

/// One admitted connection; dropping it makes room for another.
#[derive(Debug)]
pub struct Admitted {
    admission: Arc<Admission>,
    address: IpAddr,
    is_pending: AtomicBool,
}

impl Admission {
    /// Registers how many connections are pending, and how many there may be.
    pub fn register_metrics(self: &Arc<Self>, set: &MetricSet) {
        let number = |value: usize| Some(i64::try_from(value).unwrap_or(i64::MAX));
        let admission = Arc::clone(self);
        set.read_gauge(
            "cubesync_pending_connections",
            "Connections that have not introduced themselves yet",
            None,
            move || number(admission.lock().total.pending),
        );
        let limit = self.limit.open;
        set.read_gauge(
            "cubesync_connections_limit",
            "Connections at most",
            None,
            move || number(limit),
        );
    }

    /// Sets limits in all, for each address but this machine's own, and on how fast connections may
    /// come. Nobody comes in from an address that is among the `bans`.
    pub fn new(
        limit: Count,
        limit_per_address: Count,
        arrivals: Option<Pace>,
        bans: Arc<Bans>,
    ) -> Arc<Self> {
        let held = Held {
            total: Count::default(),
            by_address: ByAddress::new(limit.open),
        };
        Arc::new(Self {
            limit,
            limit_per_address,
            arrivals,
            bans,
            held: Mutex::new(held),
        })
    }

    /// Admits a connection from an address. It is pending until it [has
    /// joined](Admitted::has_joined).
    ///
    /// # Errors
    /// The limit that is reached, or that the address is banned.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Admitted, Ending> {
        let address = network(address);
        if self.bans.has(address) {
            return Err(Ending::Banned);
        }
        let is_slow = |pace: &Pace| pace.allows(address);
        if !self.arrivals.as_ref().is_none_or(is_slow) {
            return Err(Ending::TooManyArrivals);
        }
        let mut held = self.lock();
        self.check(&held, address)?;
        held.change(address, |count| {
            count.open += 1;
            count.pending += 1;
        });
        Ok(Admitted {
            admission: Arc::clone(self),
            address,
            is_pending: AtomicBool::new(true),
        })
    }

    fn check(&self, held: &Held, address: IpAddr) -> Result<(), Ending> {
        if held.total.open >= self.limit.open {
            return Err(Ending::ServerFull);
        }
        if held.total.pending >= self.limit.pending {
            return Err(Ending::PendingFull);
        }
        if !address.is_loopback() {
            let count = held.by_address.get(address).copied().unwrap_or_default();
            if count.open >= self.limit_per_address.open {
                return Err(Ending::AddressFull);
            }
            if count.pending >= self.limit_per_address.pending {
                return Err(Ending::PendingFull);
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn change(&mut self, address: IpAddr, change: impl Fn(&mut Count)) {
        change(&mut self.total);
        if !address.is_loopback() {
            let is_idle = |count: &Count| *count == Count::default();
            let now = Instant::now();
            let count = self.by_address.entry(address, now, is_idle, Count::default);
            let is_over = count.is_some_and(|count| {
                change(count);
                is_idle(count)
            });
            if is_over {
                self.by_address.remove(address);
            }
        }
    }
}

impl Admitted {
    /// Notes that the connection has introduced itself.
    pub fn has_joined(&self) {
        if self.is_pending.swap(false, Ordering::Relaxed) {
            let mut held = self.admission.lock();
            held.change(self.address, |count| count.pending -= 1);
        }
    }

    /// Checks whether another connection from the same address could be admitted now.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn has_room_for_another(&self) -> Result<(), Ending> {
        self.admission.check(&self.admission.lock(), self.address)
    }

    /// Returns the address of the peer, as far as it tells people apart.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Checks whether the operator has banned the peer's address since.
    ///
    /// # Errors
    /// [`Ending::Banned`]
    pub fn check_ban(&self) -> Result<(), Ending> {
        match self.admission.bans.has(self.address) {
            true => Err(Ending::Banned),
            false => Ok(()),
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.has_joined();
        let mut held = self.admission.lock();
        held.change(self.address, |count| count.open -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::SystemTime;

    use super::*;
    use crate::bans::Ban;

    const NO_LIMIT: usize = usize::MAX;

    fn count(open: usize, pending: usize) -> Count {
        Count { open, pending }
    }

    fn admission(open: Count, per_address: Count) -> Arc<Admission> {
        Admission::new(open, per_address, None, Arc::default())
    }

    fn addresses<const N: usize>(texts: [&str; N]) -> [IpAddr; N] {
        texts.map(|text| text.parse().unwrap())
    }

    #[test]
    fn limits_hold_and_a_closed_connection_makes_room() {
        let admission = admission(count(3, NO_LIMIT), count(2, NO_LIMIT));
        let [here, there] = addresses(["192.0.2.1", "192.0.2.2"]);
        let first = admission.admit(here).unwrap();
        assert_eq!(first.has_room_for_another(), Ok(()));
        let _second = admission.admit(here).unwrap();
        assert_eq!(first.has_room_for_another(), Err(Ending::AddressFull));
        assert_eq!(admission.admit(here).unwrap_err(), Ending::AddressFull);
        let _third = admission.admit(there).unwrap();
        assert_eq!(admission.admit(there).unwrap_err(), Ending::ServerFull);
        drop(first);
        assert!(admission.admit(here).is_ok());
    }

    #[test]
    fn who_has_joined_makes_room_for_the_next_newcomer() {
        let admission = admission(count(9, 2), count(9, 1));
        let [here, there, elsewhere] = addresses(["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
        let first = admission.admit(here).unwrap();
        assert_eq!(admission.admit(here).unwrap_err(), Ending::PendingFull);
        let second = admission.admit(there).unwrap();
        assert_eq!(admission.admit(elsewhere).unwrap_err(), Ending::PendingFull);
        first.has_joined();
        first.has_joined();
        assert_eq!(admission.lock().total, count(2, 1));
        let third = admission.admit(here).unwrap();
        drop((first, second, third));
        assert_eq!(admission.lock().total, count(0, 0));
    }

    #[test]
    fn loopback_counts_only_towards_the_whole() {
        let admission = admission(count(3, 3), count(1, 1));
        let addresses = addresses(["127.0.0.1", "::1", "::ffff:127.0.0.1"]);
        let admitted = addresses.map(|address| admission.admit(address).unwrap());
        assert!(admission.admit(addresses[0]).is_err());
        drop(admitted);
        assert!(admission.held.lock().unwrap().by_address.is_empty());
    }

    #[test]
    fn a_household_with_many_ipv6_addresses_is_one() {
        let admission = admission(count(9, 9), count(1, 9));
        let [one, another, elsewhere] =
            addresses(["2001:db8:0:7::1", "2001:db8:0:7:ffff::2", "2001:db8:0:8::1"]);
        let _first = admission.admit(one).unwrap();
        assert_eq!(admission.admit(another).unwrap_err(), Ending::AddressFull);
        assert!(admission.admit(elsewhere).is_ok());
    }

    #[test]
    fn a_banned_address_is_refused_before_anything_is_counted() {
        let bans = Arc::<Bans>::default();
        let paced = Pace::new(NonZeroU32::MIN);
        let limit = count(3, 3);
        let admission = Admission::new(limit, limit, Some(paced), Arc::clone(&bans));
        let [here, there] = addresses(["192.0.2.1", "192.0.2.2"]);
        let earlier = admission.admit(here).unwrap();
        assert_eq!(earlier.check_ban(), Ok(()));
        let ban = Ban {
            network: here.into(),
            until: None,
            reason: None,
        };
        bans.add(ban, SystemTime::now()).unwrap();
        assert_eq!(earlier.check_ban(), Err(Ending::Banned));
        for _ in 0..1_000 {
            assert_eq!(admission.admit(here).unwrap_err(), Ending::Banned);
        }
        assert_eq!(admission.lock().total, count(1, 1));
        assert!(admission.admit(there).is_ok());
    }

    #[test]
    fn a_refused_address_leaves_no_trace() {
        let admission = admission(count(3, 3), count(0, 0));
        let [address] = addresses(["192.0.2.1"]);
        assert_eq!(admission.admit(address).unwrap_err(), Ending::AddressFull);
        assert_eq!(admission.lock().total, Count::default());
        assert!(admission.held.lock().unwrap().by_address.is_empty());
    }
}
