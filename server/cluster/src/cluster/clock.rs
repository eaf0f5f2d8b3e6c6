//! The time of the cluster: the time of one server, which the others follow.
//!
//! Followers ask that server as NTP does (RFC 5905, section 8). Each of the last eight answers
//! shows by how much a follower is off, with an error of at most half its round trip plus the drift
//! of the clocks since then; the answer with the smallest error bound counts. Followers correct the
//! difference slowly. A server that is far behind any other steps forward; none ever steps back.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::timeline::{MAX_TIME_NS, Timeline, nanoseconds};
use super::words::{Ping, Pong};
use crate::bus::ServerId;

/// The number of answers that are compared.
const SAMPLES: usize = 8;

/// The number of answers that are enough to begin with.
const FIRST_SAMPLES: usize = 4;

/// The intervals between questions: first while a server does not know the time yet; then until
/// there are enough answers, and while their round trips vary much; and last the normal one.
const ASK_EVERY: [Duration; 3] = [
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_secs(1),
];

/// The maximum round trip of a useful answer.
const MAX_ROUND_TRIP_NS: u64 = 1_000_000_000;

/// The difference above which a clock steps: to correct it gradually would take longer than 12 s.
const STEP_NS: i64 = 250_000_000;

/// The variation of round trips above which some or all of the answers must have been held up.
const UNEVEN_NS: u64 = 5_000_000;

/// The error bound of an answer above which only the certain part of the difference is believed.
const VAGUE_NS: u64 = 50_000_000;

/// The reciprocal of the rate at which bad clocks drift apart: 200 parts in a million, or one in
/// 5,000.
const DRIFT: u64 = 5_000;

/// The maximum difference between answers of one clock beyond what their round trips explain. It
/// includes the drift meanwhile, with room to spare. If they differ by more, the clock has been
/// set.
const MAX_DIFFERENCE_NS: u64 = 10_000_000;

/// A server's estimate of the time.
#[derive(Debug)]
pub(super) struct ClusterClock {
    /// The zero of its own clock.
    epoch: Instant,
    timeline: Timeline,
    /// The time since which it has known the time.
    joined_ns: Option<u64>,
    /// The server that it asks. `None` means that it is the one that is asked.
    reference: Option<ServerId>,
    samples: VecDeque<Sample>,
    ask_at: Instant,
    /// Whether the time was learnt from another server.
    has_learnt: bool,
    /// The amount by which it was behind at the last measurement.
    found_ns: i64,
}

/// The content of an answer.
#[derive(Debug, Clone, Copy)]
struct Sample {
    /// The time of its arrival, on the own clock.
    came_ns: u64,
    round_trip_ns: u64,
    /// The reference's time at this clock's zero.
    offset_ns: i64,
}

impl ClusterClock {
    /// Creates a clock whose time is 0 until other servers say otherwise.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            epoch: now,
            timeline: Timeline::new(now, 0),
            joined_ns: None,
            reference: None,
            samples: VecDeque::new(),
            ask_at: now,
            has_learnt: false,
            found_ns: 0,
        }
    }

    pub(super) fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// Returns the time at which it began to know the time.
    pub(super) fn joined_ns(&self) -> Option<u64> {
        self.joined_ns
    }

    /// Declares the time known, whether or not another server has sent it. If none has, this server
    /// is the first.
    pub(super) fn settle(&mut self, now: Instant) {
        let learnt = || self.timeline.time_ns(now);
        if self.joined_ns.is_none() {
            self.joined_ns = Some(if self.has_learnt { learnt() } else { 0 });
        }
    }

    /// Selects the server whose time counts. `None` means this one.
    pub(super) fn follow(&mut self, reference: Option<ServerId>, now: Instant) {
        if self.reference != reference {
            self.reference = reference;
            self.samples.clear();
            self.ask_at = now;
            self.found_ns = 0;
            // A correction in progress was relative to the old reference.
            if self.joined_ns.is_some() {
                self.timeline.slew(now, 0);
            }
        }
    }

    /// Returns the question that is due, and the server that it is for.
    pub(super) fn ask(&mut self, from: ServerId, now: Instant) -> Option<(ServerId, Ping)> {
        let reference = self.reference.filter(|_| now >= self.ask_at)?;
        self.ask_at = now + self.ask_every();
        let ping = Ping {
            from,
            sent_ns: self.own_ns(now),
            time_ns: self.timeline.time_ns(now),
        };
        Some((reference, ping))
    }

    /// Returns when the next question is due.
    pub(super) fn ask_at(&self) -> Option<Instant> {
        self.reference.map(|_| self.ask_at)
    }

    /// Answers a question that arrived at `came`.
    pub(super) fn answer(&self, from: ServerId, ping: Ping, came: Instant, now: Instant) -> Pong {
        Pong {
            from,
            sent_ns: ping.sent_ns,
            received_ns: self.timeline.time_ns(came),
            answered_ns: self.timeline.time_ns(now),
            is_settled: self.joined_ns.is_some(),
        }
    }

    /// Processes an answer that arrived at `came`.
    pub(super) fn learn(&mut self, pong: Pong, came: Instant, now: Instant) {
        if self.reference != Some(pong.from) {
            return;
        }
        let Some(sample) = Sample::new(pong, self.own_ns(came)) else {
            return;
        };
        self.samples.retain(|other| other.agrees_with(sample));
        self.samples.push_front(sample);
        self.samples.truncate(SAMPLES);
        let (missing_ns, bound_ns) = self.missing_ns(now).unwrap_or_default();
        // This is the certain part of the difference. It is small for answers that were held up on
        // their way.
        let surely_ns = match missing_ns.unsigned_abs().saturating_sub(bound_ns) {
            far_ns if missing_ns < 0 => 0_i64.saturating_sub_unsigned(far_ns),
            far_ns => 0_i64.saturating_add_unsigned(far_ns),
        };
        self.found_ns = missing_ns;
        let are_enough = self.samples.len() >= FIRST_SAMPLES;
        let is_vague = bound_ns > VAGUE_NS;
        if self.joined_ns.is_none() {
            // Nobody has read the time yet. If it were too late, all other servers would step.
            let is_believed = !is_vague || are_enough && self.uneven_ns() < UNEVEN_NS;
            let earliest_ns = missing_ns.saturating_sub_unsigned(bound_ns);
            let first_ns = if is_believed { missing_ns } else { earliest_ns };
            let time_ns = self.timeline.time_ns(now).saturating_add_signed(first_ns);
            self.timeline = Timeline::new(now, time_ns);
            self.has_learnt = true;
            if pong.is_settled && are_enough && is_believed {
                self.settle(now);
            }
        } else if !are_enough {
            // A single unlucky answer must not move the time.
        } else if surely_ns > STEP_NS {
            let time_ns = self.timeline.time_ns(now).saturating_add_signed(surely_ns);
            self.timeline.step(now, time_ns);
        } else if surely_ns >= -STEP_NS {
            let likely_ns = if is_vague { surely_ns } else { missing_ns };
            self.timeline.slew(now, likely_ns);
        }
        // Otherwise the reference is behind: it learns so from the next question, and steps.
    }

    /// Processes the time of any other server.
    pub(super) fn hear(&mut self, time_ns: u64, now: Instant) {
        let own_ns = self.timeline.time_ns(now);
        let is_far_behind = time_ns > own_ns.saturating_add(STEP_NS.unsigned_abs());
        if is_far_behind && time_ns <= MAX_TIME_NS {
            self.timeline.step(now, time_ns);
            self.has_learnt = true;
        }
    }

    /// Returns by how much this clock was behind when the last answer arrived, according to the
    /// best of the last answers. Corrections since then are not included. The server that is asked
    /// is never behind.
    pub(super) fn found_ns(&self) -> i64 {
        self.found_ns
    }

    /// Returns how far this clock is behind according to the best answer, and the error bound of
    /// that. Returns `None` if there is no answer.
    fn missing_ns(&self, now: Instant) -> Option<(i64, u64)> {
        let own_ns = self.own_ns(now);
        let bound_ns = |sample: &&Sample| sample.bound_ns(own_ns);
        let best = self.samples.iter().min_by_key(bound_ns)?;
        let right_ns = i128::from(own_ns) + i128::from(best.offset_ns);
        let missing_ns = right_ns - i128::from(self.timeline.time_ns(now));
        Some((clamped(missing_ns), best.bound_ns(own_ns)))
    }

    fn ask_every(&self) -> Duration {
        let is_clear = self.samples.len() >= SAMPLES && self.uneven_ns() < UNEVEN_NS;
        ASK_EVERY[match (self.joined_ns, is_clear) {
            (None, _) => 0,
            (Some(_), false) => 1,
            (Some(_), true) => 2,
        }]
    }

    /// Returns by how much the round trips of the answers differ.
    fn uneven_ns(&self) -> u64 {
        let ways = self.samples.iter().map(|sample| sample.round_trip_ns);
        ways.clone().max().unwrap_or(0) - ways.min().unwrap_or(0)
    }

    /// Returns the time of its own clock.
    fn own_ns(&self, now: Instant) -> u64 {
        nanoseconds(now.saturating_duration_since(self.epoch))
    }
}

impl Sample {
    /// Creates a sample from an answer. Returns `None` if the answer makes no sense.
    fn new(pong: Pong, came_ns: u64) -> Option<Self> {
        let away_ns = came_ns.checked_sub(pong.sent_ns)?;
        let there_ns = pong.answered_ns.checked_sub(pong.received_ns)?;
        let round_trip_ns = away_ns.checked_sub(there_ns)?;
        if round_trip_ns > MAX_ROUND_TRIP_NS || pong.answered_ns > MAX_TIME_NS {
            return None;
        }
        let there = i128::from(pong.received_ns) - i128::from(pong.sent_ns);
        let back = i128::from(pong.answered_ns) - i128::from(came_ns);
        Some(Self {
            came_ns,
            round_trip_ns,
            offset_ns: clamped((there + back) / 2),
        })
    }

    /// Returns the bound of its error.
    fn bound_ns(&self, own_ns: u64) -> u64 {
        self.round_trip_ns / 2 + own_ns.saturating_sub(self.came_ns) / DRIFT
    }

    /// Returns whether both samples can be of the same clock.
    fn agrees_with(&self, other: Self) -> bool {
        let ways_ns = self.round_trip_ns + other.round_trip_ns;
        self.offset_ns.abs_diff(other.offset_ns) <= ways_ns / 2 + MAX_DIFFERENCE_NS
    }
}

fn clamped(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}
