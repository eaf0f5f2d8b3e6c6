//! What other servers' requests may make this one send.
//!
//! A request of a few bytes draws a room's roster, its keyframes, or megabytes that were sent before. Each link
//! has a budget for that, and the server has one for all links, so that neither one peer nor a program that
//! invents peers draws more. A request over the budget waits, or is asked again by its sender.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cubesync_relay::label::label;
use cubesync_relay::metrics::{CountersBy, MetricSet};
use cubesync_relay::token_bucket::TokenBucket;

/// The budget of one link in KiB a second. A burst is all that the largest room has for an edge, twice.
const PER_LINK_KIB: NonZeroU32 = NonZeroU32::new(1_024).expect("not zero");
const BURST_PER_LINK: Duration = Duration::from_secs(8);

/// The budget of all links of a server in KiB a second. A burst serves the edges of the largest room when
/// its owner has changed, and those of hundreds of usual ones.
const IN_ALL_KIB: NonZeroU32 = NonZeroU32::new(16 * 1_024).expect("not zero");
const BURST_IN_ALL: Duration = Duration::from_secs(4);

label! {
    /// A request that has to wait.
    pub enum Request("request") {
        /// To show a room: the answer is its roster.
        Attach => "attach",
        /// To see other cells: the answer is their keyframes.
        View => "view",
        /// To send again what was lost.
        Resend => "resend",
    }
}

/// The budget of all links of a server.
#[derive(Debug)]
pub struct AnswerBudget {
    bucket: Mutex<TokenBucket>,
    /// Requests that had to wait.
    delayed: CountersBy<Request>,
}

/// The budget of one link.
#[derive(Debug)]
pub struct Answers {
    link: TokenBucket,
    in_all: Arc<AnswerBudget>,
}

impl AnswerBudget {
    /// Creates a full budget, and registers the counter of requests that had to wait.
    pub fn new(set: &MetricSet, now: Instant) -> Arc<Self> {
        Arc::new(Self {
            bucket: Mutex::new(TokenBucket::per_second(IN_ALL_KIB, BURST_IN_ALL, now)),
            delayed: set.counters_by(
                "cubesync_link_delays",
                "Requests of other servers that had to wait because answers are limited",
            ),
        })
    }

    /// Returns the budget of a new link.
    pub fn of_link(self: &Arc<Self>, now: Instant) -> Answers {
        Answers {
            link: TokenBucket::per_second(PER_LINK_KIB, BURST_PER_LINK, now),
            in_all: Arc::clone(self),
        }
    }
}

impl Answers {
    /// Returns whether a request may be answered now, and counts it if not.
    pub fn may_answer(&self, request: Request, now: Instant) -> bool {
        let bucket = self.in_all.bucket.lock();
        let bucket = bucket.unwrap_or_else(PoisonError::into_inner);
        let may_answer = self.link.holds(1, now) && bucket.holds(1, now);
        if !may_answer {
            self.in_all.delayed.count(request);
        }
        may_answer
    }

    /// Notes the bytes of an answer. The budget may be overdrawn by one.
    pub fn spend(&mut self, len_bytes: usize, now: Instant) {
        let kib = u32::try_from(len_bytes.div_ceil(1_024)).unwrap_or(u32::MAX);
        let bucket = self.in_all.bucket.lock();
        let mut bucket = bucket.unwrap_or_else(PoisonError::into_inner);
        self.link.overdraw(kib, now);
        bucket.overdraw(kib, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_one_link_nor_invented_ones_draw_more_than_the_budget() {
        let start = Instant::now();
        let budget = AnswerBudget::new(&MetricSet::default(), start);
        let drawn = |answers: &mut Answers, now| {
            let draws = std::iter::from_fn(|| {
                answers
                    .may_answer(Request::Attach, now)
                    .then(|| answers.spend(1 << 20, now))
            });
            draws.count()
        };
        let mut one = budget.of_link(start);
        assert_eq!(drawn(&mut one, start), 8);
        assert_eq!(drawn(&mut one, start + Duration::from_secs(2)), 2);
        let now = start + Duration::from_secs(60);
        let invented = (0..100).map(|_| drawn(&mut budget.of_link(now), now));
        assert_eq!(invented.sum::<usize>(), 64);
        assert_eq!(drawn(&mut one, now), 0);
        let delayed: Vec<_> = budget.delayed.counts().collect();
        assert_eq!(delayed, [(Request::Attach, 103)]);
    }
}
