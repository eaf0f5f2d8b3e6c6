//! How often something may happen for one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::budget::Budget;

/// What may happen in this time may happen at once: a household comes back together after an
/// outage.
const BURST: Duration = Duration::from_secs(16);

/// Addresses that are remembered at the same time: 6 MB. Where there are more, further ones wait
/// until some have been quiet.
const MAX_ADDRESSES: usize = 65_536;

/// How often it is looked which have been quiet: it takes a millisecond, and whoever has an IPv6
/// network of /48 has as many addresses to ask from.
const CLEAN_EVERY: Duration = Duration::from_secs(1);

/// Bits of an IPv6 address that name a household; the rest its devices choose as they like.
const IPV6_NETWORK_BITS: u32 = 64;

/// A rate per address. This machine's own have none.
#[derive(Debug)]
pub(crate) struct Pace {
    per_second: NonZeroU32,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    budgets: HashMap<IpAddr, Budget>,
    cleaned: Instant,
}

impl Pace {
    /// So many a second, and a burst.
    pub(crate) fn new(per_second: NonZeroU32) -> Self {
        Self {
            per_second,
            known: Mutex::new(Known {
                budgets: HashMap::new(),
                cleaned: Instant::now(),
            }),
        }
    }

    /// Counts one more; whether it may happen.
    pub(crate) fn allows(&self, address: IpAddr) -> bool {
        let address = network(address);
        if address.is_loopback() {
            return true;
        }
        let now = Instant::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Known { budgets, cleaned } = &mut *known;
        if budgets.len() >= MAX_ADDRESSES && now - *cleaned >= CLEAN_EVERY {
            budgets.retain(|_, budget| !budget.is_full(now));
            *cleaned = now;
        }
        if budgets.len() >= MAX_ADDRESSES && !budgets.contains_key(&address) {
            return false;
        }
        let budget = budgets.entry(address);
        let budget = budget.or_insert_with(|| Budget::new(self.per_second, BURST));
        budget.take(1, now)
    }
}

/// The part of an address by which people are told apart: all of an IPv4 address, the network of
/// an IPv6 address.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            let mask = u128::MAX << (Ipv6Addr::BITS - IPV6_NETWORK_BITS);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_address_has_a_burst_of_its_own_and_this_machine_has_no_limit() {
        let pace = Pace::new(NonZeroU32::MIN);
        let [here, there, home]: [IpAddr; 3] =
            ["192.0.2.1", "192.0.2.2", "127.0.0.1"].map(|address| address.parse().unwrap());
        assert!((0..16).all(|_| pace.allows(here)));
        assert!(!pace.allows(here));
        assert!(pace.allows(there));
        assert!((0..100).all(|_| pace.allows(home)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(pace.allows(here) && !pace.allows(here));
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_who_was_quiet_makes_place() {
        let pace = Pace::new(NonZeroU32::MIN);
        for number in 0..MAX_ADDRESSES as u32 {
            assert!(pace.allows(std::net::Ipv4Addr::from_bits(number).into()));
        }
        let next = [192, 0, 2, 1].into();
        assert!(!pace.allows(next));
        assert!(pace.allows([0, 0, 0, 1].into()), "who is known goes on");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(pace.allows(next));
        assert_eq!(pace.known.lock().unwrap().budgets.len(), 1);
    }
}
