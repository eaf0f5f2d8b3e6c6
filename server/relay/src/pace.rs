//! A limit on how often something may happen for one address.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::by_address::{ByAddress, network};
use crate::token_bucket::TokenBucket;

/// The events that are allowed within this time may come at once: a household comes back together after
/// an outage.
const BURST: Duration = Duration::from_secs(16);

/// Largest number of addresses that are remembered, which take 6 MB. When it is reached, a further address
/// is refused until another one has been quiet.
const MAX_ADDRESSES: usize = 65_536;

/// A limit on the rate of each address. The machine's own addresses have none.
#[derive(Debug)]
pub struct Pace {
    per_second: NonZeroU32,
    buckets: Mutex<ByAddress<TokenBucket>>,
}

impl Pace {
    /// Allows each address so many a second, and a burst.
    pub fn new(per_second: NonZeroU32) -> Self {
        Self {
            per_second,
            buckets: Mutex::new(ByAddress::new(MAX_ADDRESSES)),
        }
    }

    /// Counts one more, and returns whether it may happen.
    pub fn allows(&self, address: IpAddr) -> bool {
        let address = network(address);
        if address.is_loopback() {
            return true;
        }
        let now = Instant::now().into_std();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let is_idle = |bucket: &TokenBucket| bucket.is_full(now);
        let make = || TokenBucket::per_second(self.per_second, BURST, now);
        let bucket = buckets.entry(address, now, is_idle, make);
        bucket.is_some_and(|bucket| bucket.take(1, now))
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
        assert_eq!(pace.buckets.lock().unwrap().len(), 1);
    }
}
