//! A map by address, in bounded memory.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Interval at which a full map looks for entries to remove. A search takes a millisecond, and a peer
/// with an IPv6 network of /48 can ask for one from 65,536 addresses.
const CLEAN_EVERY: Duration = Duration::from_secs(1);

/// Bits of an IPv6 address that name a household; the rest its devices choose as they like.
const IPV6_NETWORK_BITS: u32 = 64;

/// A map of a bounded number of addresses. When it is full, idle entries make place: those that say no
/// more than a new entry would.
#[derive(Debug)]
pub struct ByAddress<Value> {
    entries: HashMap<IpAddr, Value>,
    limit: usize,
    cleaned: Option<Instant>,
}

impl<Value> ByAddress<Value> {
    /// Creates a map of at most `limit` addresses.
    pub fn new(limit: usize) -> Self {
        Self {
            entries: HashMap::new(),
            limit,
            cleaned: None,
        }
    }

    /// Returns what is remembered of an address.
    pub fn get(&self, address: IpAddr) -> Option<&Value> {
        self.entries.get(&address)
    }

    /// Returns the entry of an address, which is made if there is none. `None` if the map is full of
    /// entries that are not idle.
    pub fn entry(
        &mut self,
        address: IpAddr,
        now: Instant,
        is_idle: impl Fn(&Value) -> bool,
        make: impl FnOnce() -> Value,
    ) -> Option<&mut Value> {
        let may_clean = |cleaned| now.saturating_duration_since(cleaned) >= CLEAN_EVERY;
        if self.entries.len() >= self.limit && self.cleaned.is_none_or(may_clean) {
            self.entries.retain(|_, value| !is_idle(value));
            self.cleaned = Some(now);
        }
        if self.entries.len() >= self.limit {
            return self.entries.get_mut(&address);
        }
        Some(self.entries.entry(address).or_insert_with(make))
    }

    /// Forgets an address.
    pub fn remove(&mut self, address: IpAddr) {
        self.entries.remove(&address);
    }

    /// Counts the addresses.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Returns the part of an address by which people are told apart: all of an IPv4 address, the network
/// of an IPv6 address.
pub fn network(address: IpAddr) -> IpAddr {
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

    #[test]
    fn memory_is_bounded_and_idle_entries_make_place() {
        let [a, b, c] = [1, 2, 3].map(|last| IpAddr::from([192, 0, 2, last]));
        let (mut map, start) = (ByAddress::new(2), Instant::now());
        let is_idle = |count: &u32| *count == 0;
        for address in [a, b] {
            *map.entry(address, start, is_idle, || 0).unwrap() += 1;
        }
        assert_eq!(map.entry(c, start, is_idle, || 0), None);
        *map.entry(a, start, is_idle, || 0).unwrap() = 0;
        assert_eq!(map.entry(c, start, is_idle, || 0), None, "cleaned just now");
        let later = start + CLEAN_EVERY;
        assert_eq!(map.entry(c, later, is_idle, || 7), Some(&mut 7));
        assert_eq!((map.len(), map.get(a), map.get(b)), (2, None, Some(&1)));
    }
}
