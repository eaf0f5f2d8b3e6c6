//! A limit on how often something may happen for one address.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::by_address::{Address, ByAddress, WhenFull};
use crate::token_bucket::TokenBucket;

/// The events that are allowed within this time may come at once: a household comes back together after
/// an outage.
const BURST: Duration = Duration::from_secs(16);

/// Largest number of networks that are remembered, which take 5 MB. When it is reached, those are forgotten
/// that have taken the least. They gain no more than what they had taken; to refuse all others instead would
/// lock out everybody who comes now. A wide network cannot reach it alone, because its own share ends first.
const MAX_NETWORKS: usize = 57_000;

/// A limit on the rate of each address. The machine's own addresses have none.
#[derive(Debug)]
pub struct Pace {
    per_second: NonZeroU32,
    burst: Duration,
    buckets: Mutex<ByAddress<TokenBucket>>,
}

impl Pace {
    /// Allows each address so many a second, and a burst.
    pub fn new(per_second: NonZeroU32) -> Self {
        Self::remembering(MAX_NETWORKS, per_second, BURST)
    }

    /// Allows each address so many a second, and at once as many as in `burst`.
    pub fn with_burst(per_second: NonZeroU32, burst: Duration) -> Self {
        Self::remembering(MAX_NETWORKS, per_second, burst)
    }

    fn remembering(networks: usize, per_second: NonZeroU32, burst: Duration) -> Self {
        Self {
            per_second,
            burst,
            buckets: Mutex::new(ByAddress::new(networks, WhenFull::Forget)),
        }
    }

    /// Counts one more, and returns whether it may happen.
    pub fn allows(&self, address: impl Into<Address>) -> bool {
        self.allows_whole(address, 1)
    }

    /// Counts so many more that only happen together, and returns whether they may. They may while one may:
    /// what is overdrawn has to be earned before the next. With none, it only says whether one may.
    pub fn allows_whole(&self, address: impl Into<Address>, count: u32) -> bool {
        let (address, now) = (address.into(), Instant::now().into_std());
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        // The widest network comes first: where its share is spent, its other networks take no memory.
        for prefix in address.prefixes() {
            let make = || {
                let rate = self.per_second.get().saturating_mul(prefix.times());
                let rate = NonZeroU32::new(rate).unwrap_or(self.per_second);
                TokenBucket::per_second(rate, self.burst, now)
            };
            let bucket = buckets.entry(prefix, now, TokenBucket::full_at, make);
            if !bucket.is_some_and(|bucket| bucket.holds(1, now)) {
                return false;
            }
        }
        // What is refused takes nothing, so that nobody can spend what neighbours may.
        for prefix in address.prefixes() {
            if let Some(bucket) = buckets.get_mut(prefix) {
                bucket.overdraw(count, now);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

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
    async fn what_happens_whole_may_overdraw_and_is_earned_before_the_next() {
        let pace = Pace::new(NonZeroU32::new(100).unwrap());
        let network = |number| in_network(7, number);
        assert!(pace.allows_whole(network(0), 1_599));
        assert!(pace.allows_whole(network(0), 401));
        assert!(!pace.allows(network(0)));
        assert!(pace.allows_whole(network(1), 1_200), "the rest of a /56");
        assert!(!pace.allows(network(2)));
        tokio::time::advance(Duration::from_secs(4)).await;
        assert!(!pace.allows(network(0)), "what was overdrawn is paid back");
        assert!(pace.allows(network(2)));
        tokio::time::advance(Duration::from_millis(10)).await;
        assert!(pace.allows_whole(network(0), 1) && !pace.allows_whole(network(0), 1));
    }

    /// Returns an address in a /64 of its own.
    fn in_network(site: u16, number: u16) -> IpAddr {
        std::net::Ipv6Addr::new(0x2001, 0xdb8, site, number, 0, 0, 0, 1).into()
    }

    #[tokio::test(start_paused = true)]
    async fn all_networks_of_a_customer_of_ipv6_have_no_more_than_a_few_households() {
        let pace = Pace::new(NonZeroU32::MIN);
        let allowed = |numbers: std::ops::RangeInclusive<u16>| {
            let tries = numbers.step_by(5).flat_map(|number| [number; 20]);
            tries.filter(|&number| pace.allows(in_network(7, number)))
        };
        assert_eq!(allowed(0..=0).count(), 16);
        assert_eq!(allowed(1..=0xff).count(), 16, "the rest of a /56");
        assert_eq!(allowed(0x100..=0xffff).count(), 32, "the rest of a /48");
        assert!(pace.allows(in_network(8, 0)));
        let known = pace.buckets.lock().unwrap().len();
        assert!(known < 300, "{known}");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(allowed(0x100..=0xffff).count(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_the_least_busy_are_forgotten() {
        const MANY: usize = 1_000;
        let pace = Pace::remembering(MANY, NonZeroU32::MIN, BURST);
        let address = |number: usize| IpAddr::from(std::net::Ipv4Addr::from_bits(number as u32));
        let busy = address(0);
        assert!((0..16).all(|_| pace.allows(busy)));
        for number in (1..MANY).flat_map(|number| [number; 3]) {
            assert!(pace.allows(address(number)));
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        for newcomer in 0..MANY / 4 {
            assert!(pace.allows(address(MANY + newcomer)), "{newcomer}");
        }
        assert!(!pace.allows(address(0x1000_0000)), "a quarter a second");
        assert!(pace.allows(busy), "a second's worth");
        assert!(
            !pace.allows(busy),
            "it would begin anew if it had been forgotten"
        );
        assert_eq!(pace.buckets.lock().unwrap().len(), MANY);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(pace.allows(address(2 * MANY)));
        assert_eq!(pace.buckets.lock().unwrap().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn asking_for_none_takes_nothing_and_says_whether_one_may() {
        let pace = Pace::with_burst(NonZeroU32::new(100).unwrap(), Duration::from_secs(2));
        let address = IpAddr::from([192, 0, 2, 7]);
        for _ in 0..1_000 {
            assert!(pace.allows_whole(address, 0));
        }
        assert!(pace.allows_whole(address, 300));
        assert!(!pace.allows_whole(address, 0));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!pace.allows_whole(address, 0), "100 are overdrawn");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(pace.allows_whole(address, 0));
    }
}
