//! The lead: the time by which a sample is taken before its tick, so that it arrives just before
//! the tick begins.
//!
//! The lead is the sum of a frame, since a sample lies between the poses of two frames and is taken
//! when the second one is set, the way through the network, and a margin for its jitter. The margin
//! grows when the server reports late samples. Samples that leave only with the next poll need
//! another frame.

use std::time::Duration;

use super::clock::Clock;

/// Margin on a network without jitter, since the server's timer and threads are not exact either.
const LEAST_MARGIN_S: f64 = 0.002;
/// Longest lead: a longer one would be worse than late samples.
const LONGEST_LEAD_S: f64 = 0.25;
/// Longest frame that counts: a longer one is a hitch and says nothing about the frame rate.
const LONGEST_FRAME_S: f64 = 0.05;
/// Share by which the longest frame approaches the newest one in each frame.
const FRAME_FORGET: f64 = 0.01;
/// Number of samples of which one may be late without a longer margin.
const LATE_ONE_OF: u32 = 50;
/// Growth of the margin with each report of late samples, in seconds, and its shrinkage without
/// late samples, in seconds per second.
const MARGIN_GROWS_S: f64 = 0.004;
const MARGIN_SHRINKS: f64 = 0.000_2;
/// Longest time that late samples add to the margin.
const LONGEST_LEARNT_S: f64 = 0.1;
/// Number of answered pings from which on late samples count. Before that the clock is not known
/// well.
const ANSWERS_BEFORE_LEARNING: u32 = 5;
/// Largest error of the lead that is corrected gently, in seconds.
const SMALL_ERROR_S: f64 = 0.03;
/// Change of the lead for a small error, in seconds per second. Meanwhile the own motion looks
/// that much slower or faster to everybody else.
const GENTLE_CHANGE: f64 = 0.05;
/// Change of the lead for a large error, in seconds per second. It is below 1, so that the instants
/// of samples never go backwards.
const FAST_CHANGE: f64 = 0.5;

/// The lead, learnt from the round trips, the frames and the server's reports of late samples.
#[derive(Debug, Clone)]
pub struct Lead {
    current_s: f64,
    /// The longest recent frame.
    frame_s: f64,
    /// Whether samples leave in the frame that sets their poses.
    is_prompt: bool,
    /// The part of the margin that late samples have added.
    learnt_s: f64,
    /// The number of answered pings.
    answers: u32,
    /// When the last ping was answered.
    answered: Duration,
    /// The number of late samples of which the server has told.
    late_samples: u32,
    /// The number of samples that were sent since the last answer.
    sent: u32,
    /// Whether any sample was sent.
    has_sent: bool,
}

impl Lead {
    /// Creates the lead of a session that has just been welcomed.
    pub fn new(now: Duration) -> Self {
        Self {
            current_s: LEAST_MARGIN_S,
            frame_s: 0.0,
            is_prompt: false,
            learnt_s: 0.0,
            answers: 0,
            answered: now,
            late_samples: 0,
            sent: 0,
            has_sent: false,
        }
    }

    /// Returns the lead.
    pub fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.current_s)
    }

    /// Moves the lead towards its target, after a frame of this length. `is_prompt` tells whether the
    /// frame's poses were sampled in it.
    pub fn advance(&mut self, frame: Duration, is_prompt: bool, clock: &Clock) {
        self.is_prompt = is_prompt;
        let elapsed_s = frame.as_secs_f64();
        let frame_s = elapsed_s.min(LONGEST_FRAME_S);
        let forgotten_s = (self.frame_s - frame_s) * FRAME_FORGET;
        self.frame_s = frame_s.max(self.frame_s - forgotten_s);
        let wanted_s = self.wanted_s(clock);
        if !self.has_sent {
            // Nobody has seen a motion yet, so the lead may jump.
            self.current_s = wanted_s;
            return;
        }
        let off_s = wanted_s - self.current_s;
        let change = if off_s.abs() < SMALL_ERROR_S {
            GENTLE_CHANGE
        } else {
            FAST_CHANGE
        };
        let change_s = elapsed_s * change;
        self.current_s += off_s.clamp(-change_s, change_s);
    }

    /// Notes that a sample was sent.
    pub fn sample_sent(&mut self) {
        self.sent = self.sent.saturating_add(1);
        self.has_sent = true;
    }

    /// Notes that a ping was answered, and how many samples were late in the whole session. Returns
    /// whether that has made the margin longer.
    pub fn ping_answered(&mut self, now: Duration, late_samples: u32) -> bool {
        let late = late_samples.saturating_sub(self.late_samples);
        let sent = std::mem::take(&mut self.sent);
        let since = now.saturating_sub(std::mem::replace(&mut self.answered, now));
        self.late_samples = late_samples;
        self.answers = self.answers.saturating_add(1);
        let is_longer =
            self.answers >= ANSWERS_BEFORE_LEARNING && late.saturating_mul(LATE_ONE_OF) > sent;
        if is_longer {
            self.learnt_s = (self.learnt_s + MARGIN_GROWS_S).min(LONGEST_LEARNT_S);
        } else if sent > 0 {
            self.learnt_s = (self.learnt_s - since.as_secs_f64() * MARGIN_SHRINKS).max(0.0);
        }
        is_longer
    }

    /// Returns the target of the lead.
    fn wanted_s(&self, clock: &Clock) -> f64 {
        let fastest_s = clock.fastest_round_trip().unwrap_or_default().as_secs_f64();
        let usual_s = clock.round_trip().unwrap_or_default().as_secs_f64();
        // The fastest round trip has set the clock, so half of it is the way to the server by that
        // clock, even if the way back takes longer. The others differ from it by the jitter, and by
        // the wait for the frame that read them.
        let jitter_s = (2.0 * (usual_s - fastest_s) - self.frame_s).max(0.0);
        let margin_s = LEAST_MARGIN_S + jitter_s + self.learnt_s;
        let frames = if self.is_prompt { 1.0 } else { 2.0 };
        (fastest_s / 2.0 + frames * self.frame_s + margin_s).min(LONGEST_LEAD_S)
    }
}
