//! Places of which there are only so many, in all and for each address.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::by_address::{Address, Prefix};

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

    /// Takes a place for an address.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn take(self: &Arc<Self>, address: Address) -> Result<Place, Full> {
        let mut held = self.lock();
        self.check(&held, address)?;
        held.total += 1;
        for prefix in address.prefixes() {
            *held.by_prefix.entry(prefix).or_default() += 1;
        }
        Ok(Place {
            places: Arc::clone(self),
            address,
        })
    }

    /// Checks whether an address could take a place now.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn has_room(&self, address: Address) -> Result<(), Full> {
        self.check(&self.lock(), address)
    }

    /// Counts the places that are taken.
    pub fn taken(&self) -> usize {
        self.lock().total
    }

    fn check(&self, held: &Held, address: Address) -> Result<(), Full> {
        if held.total >= self.limit {
            return Err(Full::Whole);
        }
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

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.places.lock();
        held.total -= 1;
        for prefix in self.address.prefixes() {
            if let Some(taken) = held.by_prefix.get_mut(&prefix) {
                *taken -= 1;
                if *taken == 0 {
                    held.by_prefix.remove(&prefix);
                }
            }
        }
        // The memory of a crowd that has gone comes back.
        if held.by_prefix.capacity() > 8 * held.by_prefix.len() {
            let twice = 2 * held.by_prefix.len();
            held.by_prefix.shrink_to(twice);
        }
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
        assert_eq!(places.has_room(here), Err(Full::Address));
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
