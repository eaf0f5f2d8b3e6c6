//! Limits on connections: in all and from one address, and on those that have not introduced
//! themselves yet.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use crate::bans::Bans;
use crate::budget::{Budget, Budgets};
use crate::by_address::Address;
use crate::ending::Ending;
use crate::metrics::MetricSet;
use crate::pace::Pace;
use crate::places::{Place, Places};

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
    limit: usize,
    open: Arc<Places>,
    pending: Arc<Places>,
    arrivals: Option<Pace>,
    bans: Arc<Bans>,
}

/// One admitted connection; dropping it makes room for another.
#[derive(Debug)]
pub struct Admitted {
    admission: Arc<Admission>,
    address: Address,
    _open: Place,
    pending: Mutex<Option<Place>>,
    budget: Option<Budget>,
}

impl Admission {
    /// Registers how many connections are pending, and how many there may be.
    pub fn register_metrics(self: &Arc<Self>, set: &MetricSet) {
        let number = |value: usize| Some(i64::try_from(value).unwrap_or(i64::MAX));
        let pending = Arc::clone(&self.pending);
        set.read_gauge(
            "cubesync_pending_connections",
            "Connections that have not introduced themselves yet",
            None,
            move || number(pending.taken()),
        );
        let limit = self.limit;
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
        Arc::new(Self {
            limit: limit.open,
            open: Places::new(limit.open, limit_per_address.open),
            pending: Places::new(limit.pending, limit_per_address.pending),
            arrivals,
            bans,
        })
    }

    /// Admits a connection from an address. It is pending until it [has
    /// joined](Admitted::has_joined).
    ///
    /// # Errors
    /// The limit that is reached, or that the address is banned.
    pub fn admit(self: &Arc<Self>, address: impl Into<Address>) -> Result<Admitted, Ending> {
        self.admit_by(self.arrivals.as_ref(), address.into())
    }

    /// Admits a connection to a port with a limit on arrivals of its own.
    ///
    /// # Errors
    /// The limit that is reached, or that the address is banned.
    pub fn admit_by(
        self: &Arc<Self>,
        arrivals: Option<&Pace>,
        address: Address,
    ) -> Result<Admitted, Ending> {
        self.check_arrival(arrivals, address)?;
        let open = self.open.take(address)?;
        let arrived = Instant::now();
        let pending = self.pending.claim(address, move || arrived.elapsed());
        let pending = pending.map_err(|_| Ending::PendingFull)?;
        Ok(Admitted {
            admission: Arc::clone(self),
            address,
            _open: open,
            pending: Mutex::new(Some(pending)),
            budget: None,
        })
    }

    /// Checks whether an address may come at all, and whether it may now by a limit on arrivals, to which this
    /// counts.
    ///
    /// # Errors
    /// That the address is banned, or comes too fast.
    pub fn check_arrival(&self, arrivals: Option<&Pace>, address: Address) -> Result<(), Ending> {
        if self.bans.has(address.ip()) {
            return Err(Ending::Banned);
        }
        match arrivals.is_none_or(|pace| pace.allows(address)) {
            true => Ok(()),
            false => Err(Ending::TooManyArrivals),
        }
    }
}

impl Admitted {
    /// Completes when a connection that has not introduced itself must make place for one of another address.
    pub fn made_place(&self) -> impl Future<Output = ()> + Send + use<> {
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let given_away = pending.as_ref().map(Place::given_away);
        async move {
            match given_away {
                Some(given_away) => given_away.await,
                None => std::future::pending().await,
            }
        }
    }

    /// Notes that the connection has introduced itself.
    pub fn has_joined(&self) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.take();
    }

    /// Lets the connection share the budget of its address.
    pub(crate) fn with_budget(self, budgets: &Budgets) -> Self {
        let budget = budgets.of(self.address);
        Self { budget, ..self }
    }

    /// Returns the budget of the peer's address, if it has one.
    pub fn budget(&self) -> Option<&Budget> {
        self.budget.as_ref()
    }

    /// Returns the address of the peer.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Checks whether the operator has banned the peer's address since.
    ///
    /// # Errors
    /// [`Ending::Banned`]
    pub fn check_ban(&self) -> Result<(), Ending> {
        match self.admission.bans.has(self.address.ip()) {
            true => Err(Ending::Banned),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};
    use std::num::NonZeroU32;
    use std::time::SystemTime;

    use futures_util::FutureExt;

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

    fn counted(admission: &Admission) -> Count {
        count(admission.open.taken(), admission.pending.taken())
    }

    #[test]
    fn limits_hold_and_a_closed_connection_makes_room() {
        let admission = admission(count(3, NO_LIMIT), count(2, NO_LIMIT));
        let [here, there] = addresses(["192.0.2.1", "192.0.2.2"]);
        let first = admission.admit(here).unwrap();
        let _second = admission.admit(here).unwrap();
        assert_eq!(admission.admit(here).unwrap_err(), Ending::AddressFull);
        let _third = admission.admit(there).unwrap();
        assert_eq!(admission.admit(there).unwrap_err(), Ending::ServerFull);
        drop(first);
        assert!(admission.admit(here).is_ok());
    }

    #[test]
    fn who_has_joined_makes_room_for_the_next_newcomer() {
        let admission = admission(count(9, 2), count(9, 1));
        let [here, there] = addresses(["192.0.2.1", "192.0.2.2"]);
        let first = admission.admit(here).unwrap();
        assert_eq!(admission.admit(here).unwrap_err(), Ending::PendingFull);
        let second = admission.admit(there).unwrap();
        assert_eq!(admission.admit(there).unwrap_err(), Ending::PendingFull);
        first.has_joined();
        first.has_joined();
        assert_eq!(counted(&admission), count(2, 1));
        let third = admission.admit(here).unwrap();
        drop((first, second, third));
        assert_eq!(counted(&admission), count(0, 0));
    }

    #[test]
    fn thirty_networks_of_strangers_who_say_nothing_keep_no_newcomer_out() {
        let (limit, per_address) = (count(10_000, 2_048), count(64, 32));
        let admission = admission(limit, per_address);
        let of_networks = (0..30).flat_map(|network| (0..256).map(move |home| (network, home)));
        let strangers = of_networks.map(|(network, home)| {
            let ip = Ipv6Addr::new(0x2001, 0xdb8, network, home << 8, 0, 0, 0, 1);
            admission.admit(IpAddr::from(ip))
        });
        let held: Vec<_> = strangers.flatten().collect();
        assert!(held.len() > 2_048);
        assert_eq!(counted(&admission).pending, 2_048);
        let newcomers = addresses(["192.0.2.1", "2001:db8:fff::1"]);
        let newcomers = newcomers.map(|newcomer| admission.admit(newcomer).unwrap());
        assert_eq!(counted(&admission).pending, 2_048);
        let made_place = |admitted: &Admitted| admitted.made_place().now_or_never().is_some();
        assert!(!newcomers.iter().any(made_place));
        let made_place = held.iter().filter(|stranger| made_place(stranger));
        assert_eq!(made_place.count(), held.len() + 2 - 2_048);
    }

    #[test]
    fn loopback_counts_only_towards_the_whole() {
        let admission = admission(count(3, 3), count(1, 1));
        let addresses = addresses(["127.0.0.1", "::1", "::ffff:127.0.0.1"]);
        let admitted = addresses.map(|address| admission.admit(address).unwrap());
        assert!(admission.admit(addresses[0]).is_err());
        let told = || Address::told(addresses[0]);
        drop(admitted);
        let _first = admission.admit(told()).unwrap();
        assert_eq!(admission.admit(told()).unwrap_err(), Ending::AddressFull);
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
        assert_eq!(counted(&admission), count(1, 1));
        assert!(admission.admit(there).is_ok());
    }

    #[test]
    fn a_refused_address_leaves_no_trace() {
        let admission = admission(count(3, 3), count(0, 0));
        let [address] = addresses(["192.0.2.1"]);
        assert_eq!(admission.admit(address).unwrap_err(), Ending::AddressFull);
        assert_eq!(counted(&admission), Count::default());
    }
}
