//! The work that one address may give the server with all of its connections: messages and bytes a second.
//!
//! Nobody is ended for it, since the connections of an address may belong to many people. Beyond the budget
//! they are read later, each after its own turn, so that all of them get equal parts of it.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::by_address::{Address, ByAddress, WhenFull};
use crate::label::label;
use crate::metrics::{CountersBy, MetricSet};

/// A burst is what may come in this time, of messages and of bytes.
const BURST: Duration = Duration::from_secs(2);

/// Bytes that a connection pays for at once. It pays for more in turns, so that the short messages of others
/// do not wait until the long ones of a neighbour are paid.
const PIECE_BYTES: u32 = 256;

/// Largest number of networks that have budgets. Those without connections are forgotten when theirs are
/// full again.
const MAX_NETWORKS: usize = 57_000;

/// An entry that must not be forgotten is idle after this time.
const LONG: Duration = Duration::from_secs(365 * 24 * 60 * 60);

label! {
    /// What was beyond the budget of an address: the label of `cubesync_over_budget_total`.
    pub enum OverBudget("what") {
        /// Messages: their connection was read later.
        Messages => "messages",
        /// Bytes: their connection was read later.
        Bytes => "bytes",
        /// A datagram, which was dropped.
        Datagram => "datagram",
    }
}

/// The work that all connections of one address may bring in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkLimits {
    /// Messages.
    pub messages: NonZeroU32,
    /// Bytes.
    pub bytes: NonZeroU32,
}

/// The budgets of all addresses.
#[derive(Debug)]
pub struct Budgets {
    limits: WorkLimits,
    epoch: Instant,
    over: CountersBy<OverBudget>,
    by_prefix: Mutex<ByAddress<Arc<Level>>>,
}

/// The budget of an address, as one of its connections holds it.
#[derive(Debug, Clone)]
pub struct Budget {
    level: Arc<Level>,
    over: CountersBy<OverBudget>,
}

/// The budget of one network, within that of the next wider one.
#[derive(Debug)]
struct Level {
    messages: Bucket,
    bytes: Bucket,
    epoch: Instant,
    wider: Option<Arc<Level>>,
}

/// A token bucket that many threads use without a lock. As a [`TokenBucket`](crate::token_bucket), it
/// remembers when it will be full; in nanoseconds since the epoch of the budgets.
#[derive(Debug)]
struct Bucket {
    each_ns: u64,
    full_at_ns: AtomicU64,
}

impl Bucket {
    fn per_second(count: NonZeroU32, times: u32) -> Self {
        let count = u64::from(count.get()) * u64::from(times);
        Self {
            each_ns: 1_000_000_000 / count,
            full_at_ns: AtomicU64::new(0),
        }
    }

    /// Takes tokens, also those that are not there yet. Returns for how long they are not.
    fn take(&self, count: u32, now_ns: u64) -> Duration {
        let cost_ns = self.each_ns.saturating_mul(count.into());
        let after = |full_at_ns: u64| full_at_ns.max(now_ns).saturating_add(cost_ns);
        let taken =
            self.full_at_ns
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at_ns| {
                    Some(after(full_at_ns))
                });
        let (Ok(before) | Err(before)) = taken;
        let missing_ns = after(before).saturating_sub(now_ns);
        Duration::from_nanos(missing_ns).saturating_sub(BURST)
    }

    /// Returns whether it holds so many tokens.
    fn holds(&self, count: u32, now_ns: u64) -> bool {
        let cost_ns = self.each_ns.saturating_mul(count.into());
        let full_at_ns = self.full_at_ns.load(Ordering::Relaxed).max(now_ns);
        let missing_ns = full_at_ns.saturating_add(cost_ns) - now_ns;
        Duration::from_nanos(missing_ns) <= BURST
    }
}

impl Level {
    fn now_ns(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.epoch).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX)
    }

    /// Returns this network and the wider ones around it.
    fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |level| level.wider.as_deref())
    }

    fn full_at(&self) -> std::time::Instant {
        let full_at_ns = |bucket: &Bucket| bucket.full_at_ns.load(Ordering::Relaxed);
        let full_at_ns = full_at_ns(&self.messages).max(full_at_ns(&self.bytes));
        (self.epoch + Duration::from_nanos(full_at_ns)).into_std()
    }
}

impl Budgets {
    /// Creates budgets with the same limits for each address.
    pub fn new(limits: WorkLimits, set: &MetricSet) -> Self {
        Self {
            limits,
            epoch: Instant::now(),
            over: set.counters_by(
                "cubesync_over_budget",
                "Reads that waited, and datagrams that were dropped, beyond the budget of an address",
            ),
            by_prefix: Mutex::new(ByAddress::new(MAX_NETWORKS, WhenFull::Forget)),
        }
    }

    /// Returns the budget of an address; `None`: it has no limits.
    pub fn of(&self, address: Address) -> Option<Budget> {
        let now = Instant::now().into_std();
        let idle_at = |level: &Arc<Level>| match Arc::strong_count(level) {
            1 => level.full_at(),
            // Somebody has it.
            _ => now + LONG,
        };
        let mut by_prefix = self
            .by_prefix
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut found = None;
        for prefix in address.prefixes() {
            let wider = found.take();
            let make = || {
                Arc::new(Level {
                    messages: Bucket::per_second(self.limits.messages, prefix.times()),
                    bytes: Bucket::per_second(self.limits.bytes, prefix.times()),
                    epoch: self.epoch,
                    wider: wider.clone(),
                })
            };
            let level = by_prefix.entry(prefix, now, idle_at, make);
            // Without a place, it is the wider network's alone.
            found = level.map(|level| Arc::clone(level)).or(wider);
        }
        let level = found?;
        let over = self.over.clone();
        Some(Budget { level, over })
    }
}

impl Budget {
    /// Charges for a message, and returns until when the next one must wait.
    pub fn take_message(&self, now: Instant) -> Option<Instant> {
        let bucket = |level: &'_ Level, now_ns| level.messages.take(1, now_ns);
        self.take(bucket, now, OverBudget::Messages)
    }

    /// Charges for some of the bytes that are `left` to pay. Returns until when the next ones must wait.
    pub fn take_bytes(&self, left: &mut u32, now: Instant) -> Option<Instant> {
        let piece = PIECE_BYTES.min(*left);
        *left -= piece;
        let bucket = |level: &'_ Level, now_ns| level.bytes.take(piece, now_ns);
        self.take(bucket, now, OverBudget::Bytes)
    }

    /// Charges for all bytes that are `left` to pay, in turns. Cancelling it forgets one turn at most.
    pub async fn pay_bytes(&self, left: &mut u32) {
        while *left > 0 {
            if let Some(until) = self.take_bytes(left, Instant::now()) {
                tokio::time::sleep_until(until).await;
            }
        }
    }

    /// Charges for a datagram if it is within the budget, and returns whether it is.
    pub fn allows_datagram(&self, len_bytes: usize) -> bool {
        let len_bytes = u32::try_from(len_bytes).unwrap_or(u32::MAX);
        let now = Instant::now();
        let is_allowed = self.level.all().all(|level| {
            let now_ns = level.now_ns(now);
            level.messages.holds(1, now_ns) && level.bytes.holds(len_bytes, now_ns)
        });
        if is_allowed {
            for level in self.level.all() {
                let now_ns = level.now_ns(now);
                level.messages.take(1, now_ns);
                level.bytes.take(len_bytes, now_ns);
            }
        } else {
            self.over.count(OverBudget::Datagram);
        }
        is_allowed
    }

    fn take(
        &self,
        take: impl Fn(&Level, u64) -> Duration,
        now: Instant,
        what: OverBudget,
    ) -> Option<Instant> {
        let waits = self.level.all().map(|level| take(level, level.now_ns(now)));
        let wait = waits.max().unwrap_or_default();
        if wait.is_zero() {
            return None;
        }
        self.over.count(what);
        Some(now + wait)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use super::*;

    fn budgets(messages: u32, bytes: u32) -> Budgets {
        let [messages, bytes] = [messages, bytes].map(|count| NonZeroU32::new(count).unwrap());
        Budgets::new(WorkLimits { messages, bytes }, &MetricSet::default())
    }

    fn address(text: &str) -> Address {
        text.parse::<IpAddr>().unwrap().into()
    }

    /// Charges for a message, and waits for its turn.
    async fn pay_message(budget: &Budget) {
        if let Some(until) = budget.take_message(Instant::now()) {
            tokio::time::sleep_until(until).await;
        }
    }

    /// Sends without pause over so many connections for ten seconds, and returns the messages of each.
    async fn flood(budgets: &Budgets, addresses: &[Address], len_bytes: u32) -> Vec<u32> {
        let end = Instant::now() + Duration::from_secs(10);
        let floods = addresses.iter().map(|&address| {
            let budget = budgets.of(address).unwrap();
            tokio::spawn(async move {
                let mut count = 0;
                while Instant::now() < end {
                    pay_message(&budget).await;
                    budget.pay_bytes(&mut len_bytes.clone()).await;
                    count += 1;
                }
                count
            })
        });
        let mut counts = Vec::new();
        for flood in floods.collect::<Vec<_>>() {
            counts.push(flood.await.unwrap());
        }
        counts
    }

    #[tokio::test(start_paused = true)]
    async fn the_connections_of_an_address_share_one_budget_evenly() {
        let budgets = budgets(100, 1_000_000);
        let here = address("192.0.2.1");
        let warm = flood(&budgets, &[here], 1).await;
        // The burst was two seconds'.
        assert!((1_199..=1_202).contains(&warm[0]), "{warm:?}");
        let counts = flood(&budgets, &[here; 20], 1).await;
        assert!(
            counts.iter().all(|count| (49..=52).contains(count)),
            "{counts:?}"
        );
        let there = flood(&budgets, &[address("192.0.2.2")], 1).await;
        assert!((1_199..=1_202).contains(&there[0]));
    }

    #[tokio::test(start_paused = true)]
    async fn short_messages_do_not_wait_for_a_neighbours_long_ones() {
        let budgets = budgets(1_000_000, 10_000);
        let here = address("192.0.2.1");
        flood(&budgets, &[here; 8], 4_096).await;
        let budget = budgets.of(here).unwrap();
        let neighbours = tokio::spawn(async move { flood(&budgets, &[here; 8], 4_096).await });
        tokio::time::sleep(Duration::from_secs(5)).await;
        let asked = Instant::now();
        pay_message(&budget).await;
        budget.pay_bytes(&mut 30).await;
        // Each of eight neighbours comes with a piece before it.
        assert!(asked.elapsed() < Duration::from_millis(250));
        neighbours.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn all_networks_of_a_customer_of_ipv6_have_the_budget_of_a_few_households() {
        let budgets = budgets(100, 1_000_000);
        let network = |number: u16| {
            let ip = Ipv6Addr::new(0x2001, 0xdb8, 7, number, 0, 0, 0, 1);
            Address::from(IpAddr::from(ip))
        };
        let of_56: Vec<_> = (0..32).map(network).collect();
        let counts = flood(&budgets, &of_56, 1).await;
        let total: u32 = counts.iter().sum();
        assert!((2_400..=2_440).contains(&total), "{total}");
        let of_48: Vec<_> = (0..32).map(|number| network(number << 8)).collect();
        let total: u32 = flood(&budgets, &of_48, 1).await.iter().sum();
        assert!((4_000..=4_840).contains(&total), "{total}");
    }

    #[tokio::test(start_paused = true)]
    async fn datagrams_beyond_the_budget_are_dropped_and_counted() {
        let budgets = budgets(100, 1_000_000);
        let budget = budgets.of(address("192.0.2.1")).unwrap();
        let allowed = (0..1_000).filter(|_| budget.allows_datagram(40)).count();
        assert_eq!(allowed, 200);
        let counted: Vec<_> = budgets.over.counts().collect();
        assert_eq!(counted, [(OverBudget::Datagram, 800)]);
        assert!(budgets.of(address("127.0.0.1")).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_comes_back_finds_its_budget_as_it_left_it() {
        let budgets = budgets(100, 1_000_000);
        let take = || {
            let budget = budgets.of(address("192.0.2.1")).unwrap();
            budget.allows_datagram(1)
        };
        assert_eq!((0..1_000).filter(|_| take()).count(), 200);
    }
}
