//! The places for pages' connections and viewers. When all are taken, the address that holds the most gives one
//! to a newcomer that holds fewer, so that no number of greedy addresses keeps the others out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::meter::Meter;
use cubesync_relay::admission::{Admission, Admitted, Count};
use cubesync_relay::bans::Bans;
use cubesync_relay::by_address::{Address, Prefix};
use cubesync_relay::ending::Ending;
use cubesync_relay::pace::Pace;

/// A number of places, in all and for each address.
#[derive(Debug)]
pub(super) struct PagePlaces {
    /// The limits of each address.
    admission: Arc<Admission>,
    limit: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    total: usize,
    /// The number of the next place.
    next: u64,
    /// The holders of at least one place, by their [widest](Address::widest) networks.
    by_address: HashMap<Option<Prefix>, Vec<Holder>>,
}

#[derive(Debug)]
struct Holder {
    number: u64,
    meter: Meter,
    gives_way: CancellationToken,
}

/// A place that is held. Dropping it makes room for another.
#[derive(Debug)]
pub(super) struct PagePlace {
    places: Arc<PagePlaces>,
    admitted: Admitted,
    number: u64,
    gives_way: CancellationToken,
}

impl PagePlaces {
    /// Makes so many places in all and for each address, to which newcomers may come at the pace of
    /// `arrivals`. This machine's own addresses have only the limit in all.
    pub(super) fn new(
        limit: usize,
        per_address: usize,
        arrivals: Option<Pace>,
        bans: Arc<Bans>,
    ) -> Arc<Self> {
        let at_most = |open| Count {
            open,
            pending: usize::MAX,
        };
        Arc::new(Self {
            admission: Admission::new(at_most(usize::MAX), at_most(per_address), arrivals, bans),
            limit,
            held: Mutex::default(),
        })
    }

    /// Takes a place for an address. `meter` shows what its connection moves: of the address that has to
    /// give a place away, the connection goes that has moved nothing for the longest.
    ///
    /// # Errors
    /// The limit that is reached.
    pub(super) fn take(
        self: &Arc<Self>,
        address: Address,
        meter: &Meter,
    ) -> Result<PagePlace, Ending> {
        let admitted = self.admission.admit(address)?;
        let address = address.widest();
        let mut held = self.lock();
        if held.total >= self.limit {
            let (greedy, number) = held.giver_to(address).ok_or(Ending::ServerFull)?;
            if let Some(giver) = held.remove(greedy, number) {
                giver.gives_way.cancel();
            }
        }
        let number = held.next;
        held.next += 1;
        held.total += 1;
        let gives_way = CancellationToken::new();
        held.by_address.entry(address).or_default().push(Holder {
            number,
            meter: meter.clone(),
            gives_way: gives_way.clone(),
        });
        Ok(PagePlace {
            places: Arc::clone(self),
            admitted,
            number,
            gives_way,
        })
    }

    /// Returns the number of places that are taken.
    pub(super) fn taken(&self) -> usize {
        self.lock().total
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Returns the place that is given to a newcomer: of the addresses that hold the most, and more than the
    /// newcomer's own. This machine's own addresses come before all others, and so do its proxies.
    fn giver_to(&self, newcomer: Option<Prefix>) -> Option<(Option<Prefix>, u64)> {
        let own = match self.by_address.get(&newcomer) {
            Some(holders) if newcomer.is_some() => holders.len(),
            _ => 0,
        };
        let strangers = || {
            let addresses = self.by_address.iter();
            addresses.filter(|(address, _)| address.is_some())
        };
        let most = strangers().map(|(_, holders)| holders.len()).max()?;
        let greedy = strangers().filter(|(_, holders)| holders.len() == most && most > own);
        let places =
            greedy.flat_map(|(address, holders)| holders.iter().map(move |it| (address, it)));
        let stillest = places.max_by_key(|(_, holder)| holder.meter.rested());
        stillest.map(|(address, holder)| (*address, holder.number))
    }

    fn remove(&mut self, address: Option<Prefix>, number: u64) -> Option<Holder> {
        let holders = self.by_address.get_mut(&address)?;
        let index = holders.iter().position(|holder| holder.number == number)?;
        let holder = holders.swap_remove(index);
        if holders.is_empty() {
            self.by_address.remove(&address);
        }
        self.total -= 1;
        Some(holder)
    }
}

impl PagePlace {
    /// Completes when the place has been given to another address.
    pub(super) fn given_away(&self) -> impl Future<Output = ()> + Send + 'static {
        self.gives_way.clone().cancelled_owned()
    }

    /// Returns the places of which this is one.
    #[cfg(test)]
    pub(super) fn places(&self) -> &Arc<PagePlaces> {
        &self.places
    }

    /// Returns the address of the peer.
    pub(super) fn address(&self) -> Address {
        self.admitted.address()
    }

    fn prefix(&self) -> Option<Prefix> {
        self.admitted.address().widest()
    }

    /// Checks whether the same address could take another place now.
    ///
    /// # Errors
    /// The limit that is reached.
    pub(super) fn has_room_for_another(&self) -> Result<(), Ending> {
        self.admitted.has_room_for_another()?;
        let held = self.places.lock();
        let is_possible = held.total < self.places.limit || held.giver_to(self.prefix()).is_some();
        is_possible.then_some(()).ok_or(Ending::ServerFull)
    }
}

impl Drop for PagePlace {
    fn drop(&mut self) {
        // One that was given away is no longer there.
        self.places.lock().remove(self.prefix(), self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::{Duration, Instant};

    use super::*;

    const FULL: Result<(), Ending> = Err(Ending::ServerFull);

    fn places(
        limit: usize,
        per_address: usize,
    ) -> (Arc<PagePlaces>, impl Fn(&str) -> Result<PagePlace, Ending>) {
        let places = PagePlaces::new(limit, per_address, None, Arc::default());
        let taker = Arc::clone(&places);
        let take = move |address: &str| {
            let address = address.parse::<IpAddr>().unwrap();
            taker.take(address.into(), &Meter::new())
        };
        (places, take)
    }

    fn is_given(place: &PagePlace) -> bool {
        place.gives_way.is_cancelled()
    }

    #[test]
    fn the_greediest_address_gives_way_to_a_newcomer_until_both_hold_as_many() {
        let (places, take) = places(6, 6);
        let greedy: Vec<_> = (0..6).map(|_| take("192.0.2.1").unwrap()).collect();
        assert_eq!(take("192.0.2.1").map(drop), Err(Ending::AddressFull));
        let newcomer: Vec<_> = (0..3).map(|_| take("192.0.2.2").unwrap()).collect();
        assert_eq!(greedy.iter().filter(|place| is_given(place)).count(), 3);
        assert_eq!(take("192.0.2.2").map(drop), FULL);
        assert!(!newcomer.iter().any(is_given));
        assert_eq!(places.taken(), 6);
        // A place that was given away makes no room for a second one.
        drop(greedy);
        assert_eq!(places.taken(), 3);
        drop(newcomer);
        assert_eq!(places.taken(), 0);
        assert!(places.lock().by_address.is_empty());
    }

    #[test]
    fn many_greedy_addresses_keep_nobody_out() {
        let (_, take) = places(512, 64);
        let mut greedy = Vec::new();
        for _ in 0..64 {
            for last in 1..64 {
                greedy.push(take(&format!("192.0.2.{last}")));
            }
        }
        // A browser opens six connections.
        let browser: Vec<_> = (0..6).map(|_| take("198.51.100.1").unwrap()).collect();
        for last in 1..64 {
            greedy.push(take(&format!("192.0.2.{last}")));
        }
        assert!(!browser.iter().any(is_given));
    }

    #[test]
    fn this_machine_always_finds_a_place_among_strangers_and_gives_none() {
        let (_, take) = places(2, 2);
        let strangers = [take("192.0.2.1").unwrap(), take("192.0.2.2").unwrap()];
        let own = [take("127.0.0.1").unwrap(), take("::1").unwrap()];
        assert!(strangers.iter().all(is_given));
        assert_eq!(take("127.0.0.1").map(drop), FULL);
        assert_eq!(take("192.0.2.3").map(drop), FULL);
        assert!(!own.iter().any(is_given));
    }

    #[test]
    fn the_connection_that_has_moved_nothing_for_the_longest_goes() {
        let places = PagePlaces::new(3, 3, None, Arc::default());
        let address = |last: u8| IpAddr::from([192, 0, 2, last]).into();
        let now = Instant::now();
        let held = [1, 3, 2].map(|seconds| {
            let meter = Meter::since(now - Duration::from_secs(seconds));
            places.take(address(1), &meter).unwrap()
        });
        let _newcomer = places.take(address(2), &Meter::new()).unwrap();
        assert_eq!(held.each_ref().map(is_given), [false, true, false]);
    }

    #[test]
    fn one_more_is_possible_while_another_address_would_give_way() {
        let (_, take) = places(3, 3);
        let first = take("192.0.2.1").unwrap();
        assert_eq!(first.has_room_for_another(), Ok(()));
        let _others = [take("192.0.2.2").unwrap(), take("192.0.2.2").unwrap()];
        assert_eq!(first.has_room_for_another(), Ok(()));
        let _second = take("192.0.2.1").unwrap();
        assert_eq!(first.has_room_for_another(), FULL);
    }
}
