//! How long before its tick a sample is taken, so that it arrives just before the tick begins.
//!
//! On its way are: the frame in which the poses are set, the frame until the poll that sends
//! them, the network, and a margin for its jitter, which grows when the server says that samples
//! came late.

use std::time::Duration;

use super::clock::Clock;

/// The margin of a network without jitter: the server's timer and threads are not exact either.
const LEAST_MARGIN_S: f64 = 0.002;
/// More is worse than samples that come late.
const LONGEST_LEAD_S: f64 = 0.25;
/// A frame that took longer was a hitch, not the rate.
const LONGEST_FRAME_S: f64 = 0.05;
/// How quickly a long frame is forgotten, per frame.
const FRAME_FORGET: f64 = 0.01;
/// One late sample of so many is no reason for a longer margin.
const LATE_ONE_OF: u32 = 50;
/// What late samples add to the margin each time they are told of, and how quickly it shrinks
/// when there are none, per second.
const MARGIN_GROWS_S: f64 = 0.004;
const MARGIN_SHRINKS: f64 = 0.000_2;
const LONGEST_LEARNT_S: f64 = 0.1;
/// Late samples count from this answered ping on: before, the clock was not yet known.
const ANSWERS_BEFORE_LEARNING: u32 = 5;
/// A lead that is wrong by more than this follows quickly, in seconds.
const SMALL_ERROR_S: f64 = 0.03;
/// How quickly the lead changes, in seconds per second: a motion seems that much slower or
/// faster to everybody else meanwhile.
const GENTLE_CHANGE: f64 = 0.05;
/// The same for large errors. Below 1, or the instants of samples would go backwards.
const FAST_CHANGE: f64 = 0.5;

/// The lead, from the round trips, the frames and what the server says.
#[derive(Debug, Clone)]
pub(crate) struct Lead {
    current_s: f64,
    /// The longest recent frame.
    frame_s: f64,
    /// What late samples have added to the margin.
    learnt_s: f64,
    answers: u32,
    answered: Duration,
    late_samples: u32,
    /// Since the last answer.
    sent: u32,
    has_sent: bool,
}

impl Lead {
    /// Of a session that has just been welcomed.
    pub(crate) fn new(now: Duration) -> Self {
        Self {
            current_s: LEAST_MARGIN_S,
            frame_s: 0.0,
            learnt_s: 0.0,
            answers: 0,
            answered: now,
            late_samples: 0,
            sent: 0,
            has_sent: false,
        }
    }

    /// The lead.
    pub(crate) fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.current_s)
    }

    /// Lets the lead follow, a frame after it was asked last.
    pub(crate) fn advance(&mut self, frame: Duration, clock: &Clock) {
        let elapsed_s = frame.as_secs_f64();
        let frame_s = elapsed_s.min(LONGEST_FRAME_S);
        let forgotten_s = (self.frame_s - frame_s) * FRAME_FORGET;
        self.frame_s = frame_s.max(self.frame_s - forgotten_s);
        let wanted_s = self.wanted_s(clock);
        if !self.has_sent {
            // Nobody has seen a motion yet.
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

    /// A sample was sent.
    pub(crate) fn sent(&mut self) {
        self.sent = self.sent.saturating_add(1);
        self.has_sent = true;
    }

    /// A ping was answered, and so many samples have been late in all; whether that makes the
    /// margin longer.
    pub(crate) fn answered(&mut self, now: Duration, late_samples: u32) -> bool {
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

    fn wanted_s(&self, clock: &Clock) -> f64 {
        let fastest_s = clock.fastest_round_trip().unwrap_or_default().as_secs_f64();
        let usual_s = clock.round_trip().unwrap_or_default().as_secs_f64();
        // The fastest set the clock, so half of it is the way, whatever the way back takes. The
        // others differ by the jitter, and by the wait for the frame that read them.
        let jitter_s = (2.0 * (usual_s - fastest_s) - self.frame_s).max(0.0);
        let margin_s = LEAST_MARGIN_S + jitter_s + self.learnt_s;
        (fastest_s / 2.0 + 2.0 * self.frame_s + margin_s).min(LONGEST_LEAD_S)
    }
}
