//! The lead: the time by which a sample is taken before its tick, so that it arrives just before
//! the tick begins.
//!
//! The lead is the sum of a frame, since a sample lies between the poses of two frames and is taken
//! when the second one is set, the way to the server, and a margin for its jitter. Samples that
//! leave only with the next poll need another frame.
//!
//! An answered ping tells the server's time when the ping arrived. That minus the client's time at
//! which it left is the length of the way to the server, plus the difference of two clocks. The
//! difference stays the same, so the lead needs neither the way back nor the [`Clock`], whose
//! errors would move it. Quantiles of these lengths tell jitter, which most pings show, from stalls,
//! in which TCP waits for a lost packet: a lead that hides a rare stall delays everything.

use std::collections::VecDeque;
use std::time::Duration;

use super::clock::{Clock, server_s};

/// Margin on a network without jitter, since the server's timer and threads are not exact either.
const LEAST_MARGIN_S: f64 = 0.002;
/// Number of ways that are compared: those of the first pings and of the two minutes after them.
const RECENT_WAYS: usize = 24;
/// Quantiles of the ways between which the middle half lies. Another quarter is expected above the
/// upper one, half as wide as the middle when jitter is even. Ways in stalls, up to a quarter, do not
/// count.
const LOWER: f64 = 0.25;
const UPPER: f64 = 0.75;
const ABOVE_UPPER: f64 = 0.5;
/// Two pings that arrive closer together than this share of the time between them arrived together.
const TOGETHER: f64 = 0.25;
/// Longest jitter that is bought off: a longer lead would be worse than late samples.
const LONGEST_JITTER_S: f64 = 0.15;
/// Longest frame that counts: a longer one is a hitch and says nothing about the frame rate.
const LONGEST_FRAME_S: f64 = 0.05;
/// The quantile of the frames' lengths that counts, and the share of it by which the estimate moves in
/// each frame.
const FRAME_QUANTILE: f64 = 0.9;
const FRAME_STEP: f64 = 0.01;
/// Number of samples of which one may be late without a longer margin.
const LATE_ONE_OF: u32 = 50;
/// Growth of the margin with each report of late samples, in seconds, its shrinkage without late
/// samples, in seconds per second, and the most that it reaches. So it learns of jitter that pings
/// have not shown, and it stays short when stalls make samples late.
const MARGIN_GROWS_S: f64 = 0.002;
const MARGIN_SHRINKS: f64 = 0.000_2;
const LONGEST_LEARNT_S: f64 = 0.01;
/// Number of answered pings from which on late samples count. Before that the way is not known well.
const ANSWERS_BEFORE_LEARNING: usize = 5;
/// Share of an error of the lead that is corrected in a second, and the largest correction, in seconds
/// per second. Meanwhile the own motion looks that much slower or faster to everybody else.
const CORRECTION_PER_S: f64 = 1.0;
const LARGEST_CHANGE: f64 = 0.02;
/// Error of the lead from which on it jumps: the network or the server's clock has changed.
const JUMP_S: f64 = 0.1;
/// Largest drift between two recent ways, in seconds.
const DRIFT_S: f64 = 0.01;

/// The lead, learnt from the ways of pings to the server, the frames and the server's reports of late
/// samples.
#[derive(Debug, Clone)]
pub struct Lead {
    tick_hz: f64,
    /// The server's time at which a sample arrives, minus the client's time of its instant.
    offset_s: f64,
    /// The recent ways to the server, plus the difference of the clocks.
    ways: VecDeque<WayUp>,
    /// The way that samples need, jitter included.
    longest_way_s: f64,
    /// The length of nearly all frames.
    frame_s: f64,
    /// The part of the margin that late samples have added.
    learnt_s: f64,
    /// When the last ping was answered.
    answered: Duration,
    /// The number of late samples of which the server has told.
    late_samples: u32,
    /// The number of samples that were sent since the last answer.
    sent: u32,
    /// Whether any sample was sent.
    has_sent: bool,
}

#[derive(Debug, Clone, Copy)]
struct WayUp {
    sent_s: f64,
    way_s: f64,
    round_trip_s: f64,
}

impl Lead {
    /// Creates the lead of a client that has just read its welcome. Until the first ping is answered,
    /// samples are late by the time that the welcome took and by their own way.
    pub fn new(tick_hz: u8, tick: u64, since_tick_us: u32, now: Duration) -> Self {
        let tick_hz = f64::from(tick_hz);
        let way_s = server_s(tick_hz, tick, since_tick_us) - now.as_secs_f64();
        Self {
            tick_hz,
            offset_s: way_s + LEAST_MARGIN_S,
            ways: VecDeque::with_capacity(RECENT_WAYS),
            longest_way_s: way_s,
            frame_s: 0.0,
            learnt_s: 0.0,
            answered: now,
            late_samples: 0,
            sent: 0,
            has_sent: false,
        }
    }

    /// Returns the tick, with its fraction, just before which a sample of this instant arrives.
    pub fn tick_at(&self, instant: Duration) -> f64 {
        ((instant.as_secs_f64() + self.offset_s) * self.tick_hz).max(0.0)
    }

    /// Returns the lead by a clock of the server's ticks.
    pub fn duration(&self, now: Duration, clock: &Clock) -> Duration {
        let lead_ticks = self.tick_at(now) - clock.tick_at(now);
        Duration::try_from_secs_f64(lead_ticks / self.tick_hz).unwrap_or_default()
    }

    /// Moves the lead towards its target, after a frame of this length. `is_prompt` tells whether the
    /// frame's poses were sampled in it, and `is_still` whether the client's cubes stand: then nobody
    /// sees the lead jump.
    pub fn advance(&mut self, frame: Duration, is_prompt: bool, is_still: bool) {
        let elapsed_s = frame.as_secs_f64();
        self.measure_frame(elapsed_s.min(LONGEST_FRAME_S));
        let frames = if is_prompt { 1.0 } else { 2.0 };
        let wanted_s = self.longest_way_s + frames * self.frame_s + LEAST_MARGIN_S + self.learnt_s;
        let off_s = wanted_s - self.offset_s;
        if is_still || !self.has_sent || off_s.abs() > JUMP_S {
            self.offset_s = wanted_s;
            return;
        }
        let change_s = elapsed_s * LARGEST_CHANGE;
        let correction_s = off_s * (elapsed_s * CORRECTION_PER_S).min(1.0);
        self.offset_s += correction_s.clamp(-change_s, change_s);
    }

    /// Notes that a sample was sent.
    pub fn sample_sent(&mut self) {
        self.sent = self.sent.saturating_add(1);
        self.has_sent = true;
    }

    /// Notes that a ping of `sent` was answered with the time since a tick at which it arrived, and how
    /// many samples were late in the whole session. Returns whether those have made the margin longer.
    pub fn ping_answered(
        &mut self,
        sent: Duration,
        now: Duration,
        (tick, since_tick_us): (u64, u32),
        late_samples: u32,
    ) -> bool {
        let sent_s = sent.as_secs_f64();
        let new = WayUp {
            sent_s,
            way_s: server_s(self.tick_hz, tick, since_tick_us) - sent_s,
            round_trip_s: now.saturating_sub(sent).as_secs_f64(),
        };
        // Two ways differ by no more than the longer round trip, unless the server's clock was set.
        self.ways.retain(|way| {
            let most_s = way.round_trip_s.max(new.round_trip_s) + DRIFT_S;
            (way.way_s - new.way_s).abs() <= most_s
        });
        // A ping that arrived together with the next one has waited for a lost packet.
        let arrived_together = self.ways.back().is_some_and(|before| {
            let apart_s = new.sent_s - before.sent_s;
            apart_s + new.way_s - before.way_s < apart_s * TOGETHER
        });
        if arrived_together {
            self.ways.pop_back();
        }
        if self.ways.len() == RECENT_WAYS {
            self.ways.pop_front();
        }
        self.ways.push_back(new);
        self.measure_ways();
        self.learn(now, late_samples)
    }

    /// Forgets all ways, because the network or the server's clock has changed. Until the next ping
    /// is answered, the newest known tick tells the server's time; `None` if that was not wrong.
    pub(super) fn forget(&mut self, began: Option<(u64, Duration)>) {
        self.ways.clear();
        if let Some((tick, now)) = began {
            self.longest_way_s = server_s(self.tick_hz, tick, 0) - now.as_secs_f64();
        }
    }

    /// Follows the clock of another server, to which it was set by `step_s`. The ways until now do not count
    /// any more; until the next ping is answered, the new one is taken to be as long.
    pub(super) fn welcomed(&mut self, step_s: f64) {
        self.ways.clear();
        self.offset_s += step_s;
        self.longest_way_s += step_s;
        self.late_samples = 0;
    }

    /// Moves the estimate of the length that most frames do not exceed.
    fn measure_frame(&mut self, frame_s: f64) {
        if self.frame_s == 0.0 {
            self.frame_s = frame_s;
        }
        let step_s = self.frame_s * FRAME_STEP;
        let off_s = frame_s - self.frame_s;
        self.frame_s += off_s.clamp(-step_s * (1.0 - FRAME_QUANTILE), step_s * FRAME_QUANTILE);
    }

    fn measure_ways(&mut self) {
        let mut ways: Vec<f64> = self.ways.iter().map(|way| way.way_s).collect();
        ways.sort_unstable_by(f64::total_cmp);
        let (lower_s, upper_s) = (quantile(&ways, LOWER), quantile(&ways, UPPER));
        let longest_s = upper_s + (upper_s - lower_s) * ABOVE_UPPER;
        self.longest_way_s = longest_s.min(ways[0] + LONGEST_JITTER_S);
    }

    fn learn(&mut self, now: Duration, late_samples: u32) -> bool {
        let late = late_samples.saturating_sub(self.late_samples);
        let sent = std::mem::take(&mut self.sent);
        let since = now.saturating_sub(std::mem::replace(&mut self.answered, now));
        self.late_samples = late_samples;
        let is_late =
            self.ways.len() >= ANSWERS_BEFORE_LEARNING && late.saturating_mul(LATE_ONE_OF) > sent;
        let before_s = self.learnt_s;
        if is_late {
            self.learnt_s = (self.learnt_s + MARGIN_GROWS_S).min(LONGEST_LEARNT_S);
        } else if sent > 0 {
            self.learnt_s = (self.learnt_s - since.as_secs_f64() * MARGIN_SHRINKS).max(0.0);
        }
        self.learnt_s > before_s
    }
}

/// Returns a quantile of values in rising order, of which there is at least one.
fn quantile(values: &[f64], quantile: f64) -> f64 {
    let place = (values.len() - 1) as f64 * quantile;
    let index = place as usize;
    let (below, above) = (values[index], values[(index + 1).min(values.len() - 1)]);
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Duration = Duration::from_micros(16_667);
    /// The server's time at the client's time 0.
    const AHEAD_S: f64 = 100.0;

    /// A client whose pings take some ways to the server and 30 ms back.
    struct Client {
        lead: Lead,
        now: Duration,
        late_samples: u32,
    }

    impl Client {
        fn new() -> Self {
            Self {
                lead: Lead::new(30, 3_000, 0, Duration::ZERO),
                now: Duration::ZERO,
                late_samples: 0,
            }
        }

        /// Pings the server, which takes this long, and plays frames for `seconds`. Returns the largest
        /// change of the lead, in seconds per second.
        fn ping(&mut self, way_ms: f64, seconds: f64, is_still: bool) -> f64 {
            let way_s = way_ms / 1e3;
            let server_s = AHEAD_S + self.now.as_secs_f64() + way_s;
            let tick = (server_s * 30.0).floor();
            let since_tick_us = ((server_s - tick / 30.0) * 1e6) as u32;
            let answered = self.now + Duration::from_secs_f64(way_s + 0.03);
            self.lead.ping_answered(
                self.now,
                answered,
                (tick as u64, since_tick_us),
                self.late_samples,
            );
            let mut largest = 0.0;
            let end = self.now + Duration::from_secs_f64(seconds);
            while self.now < end {
                let before_s = self.lead.offset_s;
                self.lead.advance(FRAME, true, is_still);
                self.lead.sample_sent();
                self.now += FRAME;
                let change_s = (self.lead.offset_s - before_s).abs();
                largest = f64::max(largest, change_s / FRAME.as_secs_f64());
            }
            largest
        }

        /// Pings as a session does: often at first, then every five seconds, up to four minutes. Between
        /// them the cube moves.
        fn play(&mut self, mut way_ms: impl FnMut(u32) -> f64) -> f64 {
            for ping in 0..16 {
                self.ping(way_ms(ping), 0.2, true);
            }
            let later = 16..64;
            later.fold(0.0, |largest, ping| {
                self.ping(way_ms(ping), 5.0, false).max(largest)
            })
        }

        fn lead_ms(&self) -> f64 {
            (self.lead.offset_s - AHEAD_S) * 1e3
        }
    }

    #[test]
    fn on_a_lan_the_lead_is_a_frame_the_way_and_2_ms() {
        let mut client = Client::new();
        let largest = client.play(|ping| 0.2 + f64::from(ping % 3) * 0.1);
        let lead_ms = client.lead_ms();
        assert!((18.8..19.3).contains(&lead_ms), "{lead_ms}");
        assert!(largest <= LARGEST_CHANGE);
        for _ in 0..1_000 {
            client.lead.advance(FRAME, false, false);
        }
        assert!(
            client.lead_ms() > lead_ms + 15.0,
            "samples wait for the next poll"
        );
    }

    #[test]
    fn jitter_is_bought_off_and_stalls_are_not() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut jitter = Client::new();
        jitter.play(|_| 40.0 + random.f64() * 40.0);
        let lead_ms = jitter.lead_ms();
        assert!((90.0..110.0).contains(&lead_ms), "{lead_ms}");

        let mut random = fastrand::Rng::with_seed(1);
        let mut stalls = Client::new();
        stalls.play(|ping| match ping % 7 {
            6 => 250.0,
            _ => 40.0 + random.f64() * 40.0,
        });
        let lead_ms = stalls.lead_ms();
        assert!((90.0..125.0).contains(&lead_ms), "{lead_ms}");
    }

    #[test]
    fn a_stall_among_the_first_pings_counts_once() {
        let mut client = Client::new();
        // The fifth ping is lost and sent again after 500 ms, and the next two wait for it.
        client.play(|ping| match ping {
            4..7 => 510.0 - f64::from(ping - 4) * 200.0,
            _ => 10.0,
        });
        let lead_ms = client.lead_ms();
        assert!((28.5..29.5).contains(&lead_ms), "{lead_ms}");
        assert_eq!(client.lead.ways.len(), RECENT_WAYS);
    }

    #[test]
    fn a_lead_changes_by_2_percent_of_time_while_cubes_move_and_at_once_while_they_stand() {
        let mut client = Client::new();
        client.play(|_| 10.0);
        let before_ms = client.lead_ms();
        let mut largest = 0.0;
        for _ in 0..24 {
            largest = client.ping(70.0, 5.0, false).max(largest);
        }
        assert!(
            (0.015..=LARGEST_CHANGE + 1e-9).contains(&largest),
            "{largest}"
        );
        assert!((client.lead_ms() - before_ms - 60.0).abs() < 1.0);
        for _ in 0..24 {
            client.ping(10.0, 0.02, true);
        }
        assert!((client.lead_ms() - before_ms).abs() < 1.0);
    }

    #[test]
    fn late_samples_lengthen_the_lead_within_a_bound() {
        let mut client = Client::new();
        client.play(|_| 10.0);
        let before_ms = client.lead_ms();
        for _ in 0..50 {
            client.late_samples += 30;
            client.ping(10.0, 5.0, false);
        }
        let learnt_ms = client.lead_ms() - before_ms;
        assert!((9.0..=10.1).contains(&learnt_ms), "{learnt_ms}");
        for _ in 0..50 {
            client.ping(10.0, 5.0, false);
        }
        assert!((client.lead_ms() - before_ms).abs() < 1.0);
    }

    #[test]
    fn the_jitter_that_is_bought_off_is_bounded() {
        let mut client = Client::new();
        client.play(|ping| f64::from(ping % 2) * 2_000.0);
        let lead_ms = client.lead_ms();
        assert!(lead_ms < 17.0 + 2.0 + 150.0 + 11.0, "{lead_ms}");
    }

    #[test]
    fn a_server_whose_clock_is_set_is_followed_at_once() {
        let mut client = Client::new();
        client.play(|_| 10.0);
        let before_ms = client.lead_ms();
        let at = (3_000 + 600 * 30, client.now);
        client.lead.forget(Some(at));
        client.lead.advance(FRAME, true, false);
        // The tick took no time to arrive, as far as is known.
        let expected_s = 600.0 - client.now.as_secs_f64() + (before_ms - 10.0) / 1e3;
        let lead_s = client.lead_ms() / 1e3;
        assert!((lead_s - expected_s).abs() < 1e-3, "{lead_s} {expected_s}");
    }
}
