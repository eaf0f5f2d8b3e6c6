//! Places of which there are only so many, in all and for each address. When all are taken and a newcomer claims
//! one, the address that has claimed the most gives one away, so that no number of greedy addresses keeps the
//! others out.

use std::collections::HashMap;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::by_address::{Address, Prefix};
use crate::ending::Ending;
use crate::holders::Holders;

/// A limit on how many of something there may be at once.
#[derive(Debug)]
pub struct Places {
    limit: usize,
    limit_per_address: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    total: usize,
    /// How many each network has, one at least.
    by_prefix: HashMap<Prefix, usize>,
    /// Those that may have to be given away.
    claims: Holders<Claim>,
    next_claim: u64,
}

/// A place that may have to be given away.
struct Claim {
    number: u64,
    address: Address,
    rested: Box<dyn Fn() -> Duration + Send + Sync>,
    gives_way: CancellationToken,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// All are taken.
    Whole,
    /// The address, or a network around it, has its share.
    Address,
}

/// One place; dropping it makes room for another.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    address: Address,
    claim: Option<(u64, CancellationToken)>,
}

impl Places {
    /// Allows so many in all, and so many for each address but this machine's own.
    pub fn new(limit: usize, limit_per_address: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            limit_per_address,
            held: Mutex::default(),
        })
    }

    /// Takes a place for an address, which keeps it.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn take(self: &Arc<Self>, address: Address) -> Result<Place, Full> {
        let mut held = self.lock();
        self.check_whole(&held)?;
        self.check_share(&held, address)?;
        held.add(address);
        Ok(Place {
            places: Arc::clone(self),
            address,
            claim: None,
        })
    }

    /// Takes a place for an address, which may have to [give it away](Place::given_away) when all are taken and an
    /// address that has fewer comes. Of those that have the most, the place goes that has `rested` for the longest.
    ///
    /// # Errors
    /// The limit that is reached, and nobody has to give a place away.
    pub fn claim(
        self: &Arc<Self>,
        address: Address,
        rested: impl Fn() -> Duration + Send + Sync + 'static,
    ) -> Result<Place, Full> {
        let mut held = self.lock();
        self.check_share(&held, address)?;
        if let Err(full) = self.check_whole(&held) {
            let (giver, number) = held.giver_to(address).ok_or(full)?;
            if let Some(given) = held.remove_claim(giver, number) {
                given.gives_way.cancel();
            }
        }
        held.add(address);
        let number = held.next_claim;
        held.next_claim += 1;
        let gives_way = CancellationToken::new();
        let claim = Claim {
            number,
            address,
            rested: Box::new(rested),
            gives_way: gives_way.clone(),
        };
        held.claims.add(address.widest(), claim);
        Ok(Place {
            places: Arc::clone(self),
            address,
            claim: Some((number, gives_way)),
        })
    }

    /// Counts the places that are taken.
    pub fn taken(&self) -> usize {
        self.lock().total
    }

    fn check_whole(&self, held: &Held) -> Result<(), Full> {
        match held.total < self.limit {
            true => Ok(()),
            false => Err(Full::Whole),
        }
    }

    fn check_share(&self, held: &Held, address: Address) -> Result<(), Full> {
        let is_spent = |prefix: Prefix| {
            let taken = held.by_prefix.get(&prefix).copied().unwrap_or_default();
            taken
                >= self
                    .limit_per_address
                    .saturating_mul(prefix.times() as usize)
        };
        match address.prefixes().any(is_spent) {
            true => Err(Full::Address),
            false => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn add(&mut self, address: Address) {
        self.total += 1;
        for prefix in address.prefixes() {
            *self.by_prefix.entry(prefix).or_default() += 1;
        }
    }

    fn remove(&mut self, address: Address) {
        self.total -= 1;
        for prefix in address.prefixes() {
            if let Some(taken) = self.by_prefix.get_mut(&prefix) {
                *taken -= 1;
                if *taken == 0 {
                    self.by_prefix.remove(&prefix);
                }
            }
        }
        // The memory of a crowd that has gone comes back.
        if self.by_prefix.capacity() > 8 * self.by_prefix.len() {
            let twice = 2 * self.by_prefix.len();
            self.by_prefix.shrink_to(twice);
        }
    }

    /// Returns the claim that makes place for a newcomer: of the addresses that have the most, and more than the
    /// newcomer's own. This machine's own addresses come before all others, and so do its proxies.
    fn giver_to(&self, newcomer: Address) -> Option<(Address, u64)> {
        let own = match newcomer.widest() {
            Some(network) => self.claims.count(Some(network)),
            None => 0,
        };
        let claims = self.claims.of_the_most(own);
        let stillest = claims.max_by_key(|claim| (claim.rested)());
        stillest.map(|claim| (claim.address, claim.number))
    }

    fn remove_claim(&mut self, of: Address, number: u64) -> Option<Claim> {
        let is_meant = |claim: &Claim| claim.number == number;
        let claim = self.claims.remove(of.widest(), is_meant)?;
        self.remove(of);
        Some(claim)
    }
}

impl Place {
    /// Returns the address that has it.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Completes when the place has been given to another address.
    pub fn given_away(&self) -> impl Future<Output = ()> + Send + use<> {
        let gives_way = self.claim.as_ref().map(|(_, gives_way)| gives_way.clone());
        async move {
            match gives_way {
                Some(gives_way) => gives_way.cancelled().await,
                None => pending().await,
            }
        }
    }

    /// Checks whether the same address could claim another place now.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn makes_room_for_another(&self) -> Result<(), Full> {
        let held = self.places.lock();
        self.places.check_share(&held, self.address)?;
        let whole = self.places.check_whole(&held);
        whole.or_else(|full| held.giver_to(self.address).map(drop).ok_or(full))
    }
}

impl From<Full> for Ending {
    fn from(full: Full) -> Self {
        match full {
            Full::Whole => Self::ServerFull,
            Full::Address => Self::AddressFull,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.places.lock();
        match &self.claim {
            // One that was given away is no longer there.
            Some((number, _)) => drop(held.remove_claim(self.address, *number)),
            None => held.remove(self.address),
        }
    }
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Claim({}, {:?})", self.number, self.address)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use super::*;

    fn address(text: &str) -> Address {
        text.parse::<IpAddr>().unwrap().into()
    }

    /// Returns the /64 network of a number within a /48.
    fn network(number: u16) -> Address {
        let ip = Ipv6Addr::new(0x2001, 0xdb8, 7, number, 0, 0, 0, 1);
        IpAddr::from(ip).into()
    }

    #[test]
    fn the_limits_hold_and_a_place_that_is_left_is_free() {
        let places = Places::new(3, 2);
        let [here, there] = ["192.0.2.1", "192.0.2.2"].map(address);
        let first = places.take(here).unwrap();
        let _second = places.take(here).unwrap();
        assert_eq!(places.take(here).unwrap_err(), Full::Address);
        let _third = places.take(there).unwrap();
        assert_eq!(places.take(there).unwrap_err(), Full::Whole);
        drop(first);
        assert!(places.take(here).is_ok());
    }

    #[test]
    fn all_networks_of_a_customer_of_ipv6_have_no_more_than_a_few_households() {
        let places = Places::new(100_000, 64);
        let take = |numbers: std::ops::Range<u32>| {
            let networks = numbers.map(|number| network(number as u16));
            let tries = networks.flat_map(|network| [network; 3]);
            tries
                .filter_map(|network| places.take(network).ok())
                .collect::<Vec<_>>()
        };
        let of_56 = take(0..256);
        assert_eq!(of_56.len(), 128);
        let others_of_48 = take(256..65_536);
        assert_eq!(of_56.len() + others_of_48.len(), 256);
        assert!(places.take(address("2001:db8:8::1")).is_ok());
        assert!(places.held.lock().unwrap().by_prefix.len() <= 2 * 256);
        drop((of_56, others_of_48));
        let held = places.held.lock().unwrap();
        assert_eq!((held.total, held.by_prefix.len()), (0, 0));
        assert!(held.by_prefix.capacity() < 8);
    }

    /// Claims places for connections that never move anything.
    fn claims(
        limit: usize,
        per_address: usize,
    ) -> (Arc<Places>, impl Fn(&str) -> Result<Place, Full>) {
        let places = Places::new(limit, per_address);
        let claimed = Arc::clone(&places);
        (places, move |text: &str| {
            claimed.claim(address(text), || Duration::ZERO)
        })
    }

    fn is_given(place: &Place) -> bool {
        let claim = place.claim.as_ref();
        claim.is_some_and(|(_, gives_way)| gives_way.is_cancelled())
    }

    #[test]
    fn the_greediest_address_gives_way_to_a_newcomer_until_both_hold_as_many() {
        let (places, claim) = claims(6, 6);
        let greedy: Vec<_> = (0..6).map(|_| claim("192.0.2.1").unwrap()).collect();
        assert_eq!(claim("192.0.2.1").unwrap_err(), Full::Address);
        let newcomer: Vec<_> = (0..3).map(|_| claim("192.0.2.2").unwrap()).collect();
        assert_eq!(greedy.iter().filter(|place| is_given(place)).count(), 3);
        assert_eq!(claim("192.0.2.2").unwrap_err(), Full::Whole);
        assert!(!newcomer.iter().any(is_given));
        assert_eq!(places.taken(), 6);
        // A place that was given away makes no room for a second one.
        drop(greedy);
        assert_eq!(places.taken(), 3);
        drop(newcomer);
        let held = places.lock();
        assert_eq!(
            (held.total, held.claims.total(), held.by_prefix.len()),
            (0, 0, 0)
        );
    }

    #[test]
    fn many_greedy_addresses_keep_nobody_out() {
        let one = |last: u16| format!("192.0.2.{last}");
        let of_48 = |last: u16| format!("2001:db8:{last}:{last}00::1");
        for name in [one as fn(u16) -> String, of_48] {
            let (_, claim) = claims(512, 64);
            let all = || (1..64).map(|last| claim(&name(last)));
            let mut greedy: Vec<_> = (0..64).flat_map(|_| all()).collect();
            // A browser opens six connections.
            let browser: Vec<_> = (0..6).map(|_| claim("198.51.100.1").unwrap()).collect();
            greedy.extend(all());
            assert!(!browser.iter().any(is_given));
        }
    }

    #[test]
    fn this_machine_always_finds_a_place_among_strangers_and_gives_none() {
        let (_, claim) = claims(2, 2);
        let strangers = [claim("192.0.2.1").unwrap(), claim("192.0.2.2").unwrap()];
        let own = [claim("127.0.0.1").unwrap(), claim("::1").unwrap()];
        assert!(strangers.iter().all(is_given));
        assert_eq!(claim("127.0.0.1").unwrap_err(), Full::Whole);
        assert_eq!(claim("192.0.2.3").unwrap_err(), Full::Whole);
        assert!(!own.iter().any(is_given));
    }

    #[test]
    fn the_one_that_has_rested_for_the_longest_is_given_away() {
        let places = Places::new(3, 3);
        let here = address("192.0.2.1");
        let held = [1, 3, 2].map(|seconds| {
            let rested = move || Duration::from_secs(seconds);
            places.claim(here, rested).unwrap()
        });
        let _newcomer = places.claim(address("192.0.2.2"), || Duration::ZERO);
        assert_eq!(held.each_ref().map(is_given), [false, true, false]);
    }

    #[test]
    fn one_more_is_possible_while_another_address_would_give_way() {
        let (_, claim) = claims(3, 3);
        let first = claim("192.0.2.1").unwrap();
        assert_eq!(first.makes_room_for_another(), Ok(()));
        let _others = [claim("192.0.2.2").unwrap(), claim("192.0.2.2").unwrap()];
        assert_eq!(first.makes_room_for_another(), Ok(()));
        let _second = claim("192.0.2.1").unwrap();
        assert_eq!(first.makes_room_for_another(), Err(Full::Whole));
    }

    #[test]
    fn a_place_that_was_taken_for_good_is_never_given_away() {
        let places = Places::new(2, 2);
        let here = address("192.0.2.1");
        let _taken = [places.take(here).unwrap(), places.take(here).unwrap()];
        let claimed = places.claim(address("192.0.2.2"), || Duration::ZERO);
        assert_eq!(claimed.unwrap_err(), Full::Whole);
    }

    #[test]
    fn this_machine_counts_only_towards_the_whole() {
        let places = Places::new(3, 1);
        let own = ["127.0.0.1", "::1", "::ffff:127.0.0.1"].map(address);
        let taken = own.map(|own| places.take(own).unwrap());
        assert_eq!(places.take(own[0]).unwrap_err(), Full::Whole);
        assert!(places.held.lock().unwrap().by_prefix.is_empty());
        drop(taken);
        let told = || Address::told([127, 0, 0, 1].into());
        let _first = places.take(told()).unwrap();
        assert_eq!(places.take(told()).unwrap_err(), Full::Address);
    }
}
