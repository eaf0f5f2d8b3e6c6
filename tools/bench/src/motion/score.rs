//! The quality of a display. `docs/MOTION.md` defines every figure.

use crate::play::{FRAME_S, Shown};
use crate::trace::Trace;

/// The time before which nothing is scored: clocks and buffers settle first.
pub(crate) const WARM_UP_S: f64 = 5.0;
/// The way in a frame from which on the truth counts as moving: 0.6 m/s.
const MOVES_M: f64 = 0.01;
/// A cube that moves by less than this share of the truth's way counts as standing.
const STANDS: f64 = 0.1;
/// The time around the shown moment in which the longest way of the truth in a frame is searched.
const AROUND_S: f64 = 0.5;
/// The way of a jump in a frame: this many times the way of the truth in any frame around, and a length
/// besides.
const JUMP_TIMES: f64 = 2.0;
const JUMP_M: f64 = 0.05;
/// The way of a fast-forward in a frame: this many times the way of the truth.
const FAST_TIMES: f64 = 1.25;
/// The error below which motion is smooth again after an outage: no error on a LAN exceeds it.
const SMOOTH_M: f64 = 0.2;
/// The largest delay that is tried, and the steps in which the best one is searched.
const LONGEST_DELAY_S: f64 = 1.2;
const DELAY_STEPS_S: [f64; 3] = [0.04, 0.005, 0.000_5];
/// One of this many frames is enough to find the best delay.
const FRAMES_PER_TRIAL: usize = 4;
/// The time after an outage in which recovery is measured.
const RECOVERY_S: f64 = 2.0;

/// The samples of one or more runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples {
    errors_m: Vec<f64>,
    turns_degrees: Vec<f64>,
    delays_s: Vec<f64>,
    jerks: Vec<f64>,
    true_jerks: Vec<f64>,
    frozen_s: f64,
    snaps: u32,
    recoveries_s: Vec<f64>,
    scored_s: f64,
}

/// The figures of a case.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Score {
    pub(crate) delay_ms: f64,
    pub(crate) rms_cm: f64,
    pub(crate) p99_cm: f64,
    pub(crate) max_cm: f64,
    pub(crate) turn_degrees: f64,
    pub(crate) jerk: f64,
    pub(crate) frozen_ms: f64,
    pub(crate) snaps: f64,
    /// The longest recovery of all outages; 0 without outages.
    pub(crate) recovery_ms: f64,
}

impl Samples {
    /// Returns the samples of a run whose outages end at these times.
    pub(crate) fn new(shown: &[Shown], trace: &Trace, outage_ends_s: &[f64]) -> Self {
        let shown = &shown[shown.partition_point(|shown| shown.time_s < WARM_UP_S)..];
        let mut samples = Self::default();
        let delay_s = best_delay_s(shown, trace);
        let mut is_late = true;
        let mut rough_s = Vec::new();
        for pair in shown.windows(2) {
            let [before, now] = [pair[0], pair[1]];
            let truth = trace.at(now.time_s - delay_s);
            let error_m = distance(now.placed.position, truth.position);
            samples.errors_m.push(error_m);
            let turned = degrees(now.placed.rotation, truth.rotation);
            samples.turns_degrees.push(turned);
            samples.delays_s.push(delay_s);

            let truth = trace.at(now.truth_s);

            let way_m = distance(before.placed.position, now.placed.position);
            let true_way_m = distance(trace.at(before.truth_s).position, truth.position);
            let stands = way_m < STANDS * true_way_m.max(MOVES_M);
            let moves = true_way_m >= MOVES_M;
            // Who has not started yet is late, which the error says, but not frozen.
            is_late = stands && (is_late || !moves);
            if stands && moves && !is_late {
                samples.frozen_s += FRAME_S;
            }
            let most_m = longest_way_m(trace, now.truth_s);
            if way_m > most_m * JUMP_TIMES + JUMP_M {
                samples.snaps += 1;
            }
            let own_error_m = distance(now.placed.position, truth.position);
            if own_error_m > SMOOTH_M || way_m > most_m * FAST_TIMES + MOVES_M {
                rough_s.push(now.time_s);
            }
        }
        for &end_s in outage_ends_s {
            let after = rough_s.iter().map(|rough_s| rough_s - end_s);
            let rough = after.filter(|after| (0.0..RECOVERY_S).contains(after));
            samples.recoveries_s.push(rough.fold(0.0, f64::max));
        }
        samples.jerks = jerks(shown.iter().map(|shown| shown.placed.position));
        let truths = shown.iter().map(|shown| trace.at(shown.time_s).position);
        samples.true_jerks = jerks(truths);
        samples.scored_s = samples.errors_m.len() as f64 * FRAME_S;
        samples
    }
}

impl Samples {
    /// Adds the samples of another run.
    pub(crate) fn add(&mut self, other: &Self) {
        self.errors_m.extend(&other.errors_m);
        self.turns_degrees.extend(&other.turns_degrees);
        self.delays_s.extend(&other.delays_s);
        self.jerks.extend(&other.jerks);
        self.true_jerks.extend(&other.true_jerks);
        self.frozen_s += other.frozen_s;
        self.snaps += other.snaps;
        self.recoveries_s.extend(&other.recoveries_s);
        self.scored_s += other.scored_s;
    }

    /// Returns the figures.
    pub(crate) fn score(&self) -> Score {
        let minutes = self.scored_s / 60.0;
        let longest_s = self.recoveries_s.iter().copied().fold(0.0, f64::max);
        Score {
            delay_ms: self.delays_s.iter().sum::<f64>() / self.delays_s.len() as f64 * 1e3,
            rms_cm: rms(&self.errors_m) * 100.0,
            p99_cm: percentile(&self.errors_m, 0.99) * 100.0,
            max_cm: percentile(&self.errors_m, 1.0) * 100.0,
            turn_degrees: rms(&self.turns_degrees),
            jerk: percentile(&self.jerks, 0.99) / percentile(&self.true_jerks, 0.99),
            frozen_ms: self.frozen_s / minutes * 1e3,
            snaps: f64::from(self.snaps) / minutes,
            recovery_ms: longest_s * 1e3,
        }
    }
}

/// Returns the constant delay at which the error is smallest.
fn best_delay_s(shown: &[Shown], trace: &Trace) -> f64 {
    let trials: Vec<_> = shown.iter().step_by(FRAMES_PER_TRIAL).collect();
    let squares = |delay_s: f64| {
        let square = |shown: &&Shown| {
            let truth = trace.at(shown.time_s - delay_s);
            distance(shown.placed.position, truth.position).powi(2)
        };
        trials.iter().map(square).sum::<f64>()
    };
    let (mut from_s, mut to_s) = (0.0, LONGEST_DELAY_S);
    let mut best_s = 0.0;
    for step_s in DELAY_STEPS_S {
        let steps = ((to_s - from_s) / step_s).round() as i32;
        let delays_s = (0..=steps).map(|step| from_s + f64::from(step) * step_s);
        let scored = delays_s.map(|delay_s| (squares(delay_s), delay_s));
        let best = scored.min_by(|a, b| a.0.total_cmp(&b.0));
        best_s = best.map_or(0.0, |(_, delay_s)| delay_s);
        (from_s, to_s) = (f64::max(best_s - step_s, 0.0), best_s + step_s);
    }
    best_s
}

/// Returns the longest way of the truth in a frame around a moment.
fn longest_way_m(trace: &Trace, truth_s: f64) -> f64 {
    let frames = (AROUND_S / FRAME_S) as i32;
    let at = |frame: i32| trace.at(truth_s + f64::from(frame) * FRAME_S).position;
    let way_m = |frame| distance(at(frame), at(frame + 1));
    (-frames..frames).map(way_m).fold(0.0, f64::max)
}

/// Returns the jerk from frame to frame, in m/s³.
fn jerks(positions: impl Iterator<Item = [f64; 3]>) -> Vec<f64> {
    let positions: Vec<_> = positions.collect();
    let jerk = |four: &[[f64; 3]]| {
        let third =
            |axis: usize| four[3][axis] - 3.0 * four[2][axis] + 3.0 * four[1][axis] - four[0][axis];
        distance([third(0), third(1), third(2)], [0.0; 3]) / FRAME_S.powi(3)
    };
    positions.windows(4).map(jerk).collect()
}

pub(crate) fn distance(a: [f64; 3], b: [f64; 3]) -> f64 {
    let square = |axis: usize| (a[axis] - b[axis]) * (a[axis] - b[axis]);
    (square(0) + square(1) + square(2)).sqrt()
}

fn degrees(a: [f64; 4], b: [f64; 4]) -> f64 {
    // The chord, not the cosine, which hides small angles.
    let chord = |sign: f64| {
        let square = |i: usize| (a[i] - sign * b[i]) * (a[i] - sign * b[i]);
        (square(0) + square(1) + square(2) + square(3)).sqrt()
    };
    let half = (chord(1.0).min(chord(-1.0)) / 2.0).min(1.0);
    4.0 * half.asin().to_degrees()
}

pub(crate) fn rms(values: &[f64]) -> f64 {
    let squares: f64 = values.iter().map(|value| value * value).sum();
    (squares / values.len() as f64).sqrt()
}

pub(crate) fn percentile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let index = ((sorted.len() - 1) as f64 * part).round() as usize;
    sorted[index]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{Motion, Placed};

    const SECONDS: f64 = 30.0;

    /// Returns a display of the trace, 100 ms late, changed by `change`.
    fn score(motion: Motion, change: impl Fn(f64, Placed) -> Placed) -> Score {
        let trace = Trace::new(motion, 1, SECONDS);
        let shown = |frame: u32| {
            let time_s = f64::from(frame) * FRAME_S;
            let truth_s = time_s - 0.1;
            let placed = change(truth_s, trace.at(truth_s));
            Shown {
                time_s,
                truth_s,
                placed,
            }
        };
        let shown: Vec<_> = (0..1_700).map(shown).collect();
        Samples::new(&shown, &trace, &[10.0]).score()
    }

    #[test]
    fn the_truth_scores_perfectly() {
        for motion in Motion::ALL {
            let score = score(motion, |_, truth| truth);
            assert!(score.max_cm < 1e-9 && score.turn_degrees < 1e-5);
            assert!((score.delay_ms - 100.0).abs() < 1e-6);
            assert!((score.jerk - 1.0).abs() < 0.1, "{score:?}");
            let trouble = (score.frozen_ms, score.snaps, score.recovery_ms);
            assert_eq!(trouble, (0.0, 0.0, 0.0), "{motion:?}");
        }
    }

    #[test]
    fn a_cube_that_stops_and_jumps_after_it_is_caught() {
        let trace = Trace::new(Motion::Circling, 1, SECONDS);
        let score = score(Motion::Circling, |truth_s, truth| match truth_s {
            10.1..10.3 => trace.at(10.1),
            _ => truth,
        });
        let minutes = (1_700.0 * FRAME_S - WARM_UP_S) / 60.0;
        assert!(
            (score.frozen_ms * minutes - 200.0).abs() < 20.0,
            "{score:?}"
        );
        assert_eq!((score.snaps * minutes).round(), 1.0);
        assert!((100.0..120.0).contains(&score.max_cm), "{score:?}");
        // Shown 100 ms later, 400 ms after the outage at 10 s.
        assert!((380.0..420.0).contains(&score.recovery_ms), "{score:?}");
    }
}
