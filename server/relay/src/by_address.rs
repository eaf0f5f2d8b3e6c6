//! Limits for each address: whom they count, and a map for it in bounded memory.
//!
//! An IPv4 address counts as one household, and so does an IPv6 network of /64, in which devices choose
//! their addresses as they like. But a provider may give one customer a /56 or a /48, which have 256 and
//! 65,536 such networks. So each limit has [shares](Prefix::times) for these wider networks too.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Interval at which a full map looks for entries to remove. A search takes a millisecond or two, and
/// somebody with many networks could ask for one with each connection.
const CLEAN_EVERY: Duration = Duration::from_secs(1);

/// Interval at which any other map looks for them, so that the memory of a crowd that has gone comes back.
const CLEAN_AT_LEAST_EVERY: Duration = Duration::from_secs(60);

/// A map with fewer entries than this does not look for idle ones.
const FEW: usize = 256;

/// The part of its entries that a full map forgets when none is idle: a quarter.
const FORGOTTEN_PARTS: usize = 4;

/// The widths of IPv6 networks that have a share of each limit, the widest first, and how many times the
/// share of one address it is. Each has half of the next wider one's, so that nobody can use up alone what
/// neighbours have too, and that those who own the widest have four households' worth.
const WIDTHS: [(u32, u32); 3] = [(48, 4), (56, 2), (64, 1)];

/// Bits of an IPv6 address that name a household.
pub(crate) const HOUSEHOLD_BITS: u32 = 64;

/// The address to which something is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    ip: IpAddr,
    /// Whether it is this machine's own, to which no limit applies.
    is_own: bool,
}

impl Address {
    /// Returns an address that another machine or program has told. It is never this machine's own,
    /// whatever it says.
    pub fn told(ip: IpAddr) -> Self {
        Self {
            ip: ip.to_canonical(),
            is_own: false,
        }
    }

    /// Returns the address itself.
    pub fn ip(self) -> IpAddr {
        self.ip
    }

    /// Returns whether it is this machine's own, to which no limit applies.
    pub fn is_own(self) -> bool {
        self.is_own
    }

    /// Returns the same address as one that another machine has told, for limits that apply to this
    /// machine too.
    pub fn limited(self) -> Self {
        Self::told(self.ip)
    }

    /// Returns the part by which people are told apart, without wider networks around it.
    pub fn prefix(self) -> Prefix {
        let network = network(self.ip);
        Prefix { network, times: 1 }
    }

    /// Returns the widest network that has a share of a limit with it, in which all households of a customer
    /// count as one; `None` if it has no limits.
    pub fn widest(self) -> Option<Prefix> {
        self.prefixes().next()
    }

    /// Returns the networks that have a share of a limit with it, the widest first; none if it has no
    /// limits.
    pub fn prefixes(self) -> impl Iterator<Item = Prefix> {
        let network = network(self.ip);
        let widths = match network {
            _ if self.is_own => &[],
            // Customers do not get IPv4 addresses by the block.
            IpAddr::V4(_) => &WIDTHS[WIDTHS.len() - 1..],
            IpAddr::V6(_) => &WIDTHS[..],
        };
        widths.iter().map(move |&(bits, times)| Prefix {
            network: match network {
                IpAddr::V4(_) => network,
                IpAddr::V6(network) => masked(network, bits).into(),
            },
            times,
        })
    }
}

/// The address of a connection's peer. Only this one can be the machine's own.
impl From<IpAddr> for Address {
    fn from(peer: IpAddr) -> Self {
        let ip = peer.to_canonical();
        Self {
            ip,
            is_own: ip.is_loopback(),
        }
    }
}

/// A network that has a share of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    network: IpAddr,
    times: u32,
}

impl Prefix {
    /// Returns how many times one address's share it has.
    pub fn times(self) -> u32 {
        self.times
    }
}

/// A map of a bounded number of networks, that forgets idle ones: those of which it says no more than a
/// new entry would.
#[derive(Debug)]
pub struct ByAddress<Value> {
    entries: HashMap<Prefix, Value>,
    limit: usize,
    when_full: WhenFull,
    /// The number of entries at which idle ones are removed.
    clean_at: usize,
    cleaned: Option<Instant>,
}

/// The policy of a map that is full of entries that are not idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// It takes no more.
    Refuse,
    /// It forgets a quarter: those that would be idle first.
    Forget,
}

impl<Value> ByAddress<Value> {
    /// Creates a map of at most `limit` networks.
    pub fn new(limit: usize, when_full: WhenFull) -> Self {
        Self {
            entries: HashMap::new(),
            limit,
            when_full,
            clean_at: FEW.min(limit),
            cleaned: None,
        }
    }

    /// Returns what is remembered of a network.
    pub fn get(&self, prefix: Prefix) -> Option<&Value> {
        self.entries.get(&prefix)
    }

    /// Returns the entry of a network, which is made if there is none. `idle_at` returns when an entry will
    /// be idle. `None` if the map is full, and for up to a second after a full map has made place.
    pub fn entry(
        &mut self,
        prefix: Prefix,
        now: Instant,
        idle_at: impl Fn(&Value) -> Instant,
        make: impl FnOnce() -> Value,
    ) -> Option<&mut Value> {
        let has_place = self.has_place(prefix, now, idle_at);
        has_place.then(|| self.entries.entry(prefix).or_insert_with(make))
    }

    /// Returns whether a network has an entry or could get one, and makes place for it where that is
    /// needed.
    pub fn has_place(
        &mut self,
        prefix: Prefix,
        now: Instant,
        idle_at: impl Fn(&Value) -> Instant,
    ) -> bool {
        if self.entries.contains_key(&prefix) {
            return true;
        }
        let since = |cleaned| now.saturating_duration_since(cleaned);
        let waited = self.cleaned.map_or(Duration::MAX, since);
        let is_full = self.entries.len() >= self.limit;
        if is_full && waited >= CLEAN_EVERY
            || !is_full && self.entries.len() >= self.clean_at
            || self.entries.len() > FEW && waited >= CLEAN_AT_LEAST_EVERY
        {
            self.clean(now, idle_at);
        }
        self.entries.len() < self.limit
    }

    fn clean(&mut self, now: Instant, idle_at: impl Fn(&Value) -> Instant) {
        self.entries.retain(|_, value| idle_at(value) > now);
        self.cleaned = Some(now);
        if self.entries.len() >= self.limit && self.when_full == WhenFull::Forget {
            let mut times: Vec<_> = self.entries.values().map(&idle_at).collect();
            let mut to_forget = (times.len() / FORGOTTEN_PARTS).max(1);
            let (_, &mut until, _) = times.select_nth_unstable(to_forget - 1);
            self.entries.retain(|_, value| {
                let is_forgotten = to_forget > 0 && idle_at(value) <= until;
                to_forget -= usize::from(is_forgotten);
                !is_forgotten
            });
        }
        // Each search is paid for by as many new entries, and memory comes back.
        self.clean_at = self.limit.min(FEW.max(2 * self.entries.len()));
        self.entries.shrink_to(self.clean_at);
    }

    /// Changes what is remembered of a network.
    pub fn get_mut(&mut self, prefix: Prefix) -> Option<&mut Value> {
        self.entries.get_mut(&prefix)
    }

    /// Forgets a network.
    pub fn remove(&mut self, prefix: Prefix) {
        self.entries.remove(&prefix);
    }

    /// Counts the networks.
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
        IpAddr::V6(address) if !address.is_loopback() => match embedded(address) {
            Some(address) => address.into(),
            None => masked(address, HOUSEHOLD_BITS).into(),
        },
        address => address,
    }
}

/// Returns the IPv4 address that gets everything that is sent to an address of IPv6. Its owner has whole
/// networks of such addresses, or shares one with everybody else of IPv4.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let bits = address.to_bits();
    let v4_at = |first_bit: u32| Ipv4Addr::from_bits((bits >> (96 - first_bit)) as u32);
    match address.segments() {
        // 6to4 (RFC 3056).
        [0x2002, ..] => Some(v4_at(16)),
        // Teredo (RFC 4380), which inverts the bits.
        [0x2001, 0, ..] => Some(Ipv4Addr::from_bits(!v4_at(96).to_bits())),
        // NAT64 and other translators (RFC 6052).
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => Some(v4_at(96)),
        _ => None,
    }
}

fn masked(address: Ipv6Addr, bits: u32) -> Ipv6Addr {
    let mask = u128::MAX << (Ipv6Addr::BITS - bits);
    Ipv6Addr::from_bits(address.to_bits() & mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn prefix(last: u8) -> Prefix {
        let address = Address::from(IpAddr::from([192, 0, 2, last]));
        address.widest().unwrap()
    }

    #[test]
    fn an_ipv4_address_has_one_share_and_an_ipv6_network_is_within_wider_ones() {
        for (text, expected) in [
            ("192.0.2.1", &["192.0.2.1 1"][..]),
            ("::ffff:192.0.2.1", &["192.0.2.1 1"]),
            (
                "2001:db8:1:2233::7",
                &[
                    "2001:db8:1:: 4",
                    "2001:db8:1:2200:: 2",
                    "2001:db8:1:2233:: 1",
                ],
            ),
            // Where the wider networks have the same first address, they are still different ones.
            (
                "2001:db8::7",
                &["2001:db8:: 4", "2001:db8:: 2", "2001:db8:: 1"],
            ),
            ("127.0.0.1", &[]),
            ("::1", &[]),
            ("::ffff:127.0.0.1", &[]),
        ] {
            let prefixes = address(text).prefixes();
            let named = prefixes.map(|prefix| format!("{} {}", prefix.network, prefix.times()));
            assert_eq!(named.collect::<Vec<_>>(), expected, "{text}");
        }
        let same: std::collections::HashSet<_> = address("2001:db8::7").prefixes().collect();
        assert_eq!(same.len(), 3);
    }

    #[test]
    fn an_ipv4_address_within_ipv6_counts_as_itself_and_never_as_this_machine() {
        for (text, expected) in [
            ("2002:c000:201::1", "192.0.2.1"),
            ("2002:c000:201:ffff::1", "192.0.2.1"),
            ("2001:0:5387:1::3fff:fdfe", "192.0.2.1"),
            ("64:ff9b::c000:201", "192.0.2.1"),
            ("2002:7f00:1::1", "127.0.0.1"),
            ("64:ff9b::7f00:1", "127.0.0.1"),
            ("64:ff9b:1::c000:201", "64:ff9b:1::"),
            ("::127.0.0.1", "::"),
        ] {
            let address = address(text);
            assert_eq!(network(address.ip()).to_string(), expected, "{text}");
            assert!(!address.is_own());
            assert!(address.widest().is_some());
        }
    }

    #[test]
    fn an_address_that_was_told_is_not_this_machines() {
        for text in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            let told = Address::told(text.parse().unwrap());
            assert!(!told.is_own() && told.widest().is_some(), "{text}");
        }
    }

    #[test]
    fn memory_is_bounded_and_idle_entries_make_place() {
        let [a, b, c] = [1, 2, 3].map(prefix);
        let start = Instant::now();
        let mut map = ByAddress::new(2, WhenFull::Refuse);
        let (idle, busy) = (start, start + CLEAN_EVERY * 9);
        let idle_at = |until: &Instant| *until;
        for prefix in [a, b] {
            assert!(map.entry(prefix, start, idle_at, || busy).is_some());
        }
        assert_eq!(map.entry(c, start, idle_at, || busy), None);
        *map.entry(a, start, idle_at, || busy).unwrap() = idle;
        let at_once = map.entry(c, start, idle_at, || busy);
        assert_eq!(at_once, None, "cleaned just now");
        let later = start + CLEAN_EVERY;
        assert!(map.entry(c, later, idle_at, || busy).is_some());
        assert_eq!((map.len(), map.get(a), map.get(b)), (2, None, Some(&busy)));
    }

    #[test]
    fn a_full_map_may_forget_those_that_would_be_idle_first() {
        let start = Instant::now();
        let mut map = ByAddress::new(8, WhenFull::Forget);
        let idle_at = |until: &Instant| *until;
        let after = |seconds: u8| start + Duration::from_secs(seconds.into());
        for last in 1..=8 {
            let until = || after(last);
            assert!(map.entry(prefix(last), start, idle_at, until).is_some());
        }
        let until = || after(9);
        assert!(map.entry(prefix(9), start, idle_at, until).is_some());
        let kept: Vec<_> = (1..=9).filter(|&n| map.get(prefix(n)).is_some()).collect();
        assert_eq!(kept, [3, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn what_was_idle_takes_no_memory_long_before_the_map_is_full() {
        let mut map = ByAddress::new(1_000_000, WhenFull::Refuse);
        let mut now = Instant::now();
        let idle_at = |until: &Instant| *until;
        for number in 0..100_000 {
            now += Duration::from_millis(1);
            let address = Address::from(IpAddr::from(Ipv4Addr::from_bits(number)));
            let prefix = address.widest().unwrap();
            let until = || now + Duration::from_millis(10);
            assert!(map.entry(prefix, now, idle_at, until).is_some());
        }
        assert!(map.len() <= FEW, "{}", map.len());
        assert!(map.entries.capacity() <= 4 * FEW);
    }
}
