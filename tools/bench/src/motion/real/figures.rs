//! The figures of a run. `docs/MOTION.md` defines them.

use anyhow::{Result, ensure};
use serde::Serialize;

use super::player::Frame;
use crate::play::TICK_HZ;
use crate::score::{distance, percentile, rms};
use crate::timeline::Timeline;

/// The speed from which on the truth counts as moving.
const MOVES_MPS: f64 = 0.5;
/// A cube that moves by less in a frame counts as standing.
const STANDS_M: f64 = 0.001;
/// A cube that moves by this much more than the truth in a frame jumps.
const JUMP_M: f64 = 0.5;
/// A longer time between two frames is a pause of the client.
const LONGEST_FRAME_S: f64 = 0.1;

/// The figures of a run, or medians of several.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Figures {
    /// The constant delay from the walker's pose to the viewer's screen at which the error is smallest.
    pub(super) delay_ms: f64,
    /// The error at that delay.
    pub(super) rms_cm: f64,
    pub(super) p99_cm: f64,
    pub(super) max_cm: f64,
    /// The error at the moment that the viewer means to show.
    pub(super) own_rms_cm: f64,
    pub(super) own_p99_cm: f64,
    pub(super) frozen_ms_per_min: f64,
    pub(super) snaps_per_min: f64,
    /// Of the walker and the viewer, both directions, IP headers and all.
    pub(super) wire_bytes_per_s: f64,
    /// Of the viewer alone, from the server.
    pub(super) down_bytes_per_s: f64,
    /// The viewer's snapshots that a datagram brought first.
    pub(super) by_datagram_percent: f64,
    /// The walker's samples that came after their tick.
    pub(super) late_samples_per_min: f64,
    pub(super) lead_ms: f64,
    pub(super) playout_delay_ms: f64,
    /// The error of the witness, at its best delay.
    pub(super) witness_rms_cm: f64,
    /// The longest time between two frames of a player: on a machine that is too busy to measure, it is
    /// long.
    pub(super) longest_frame_ms: f64,
}

/// The bytes of the game on the wires of the walker and of the viewer: to the server and from it.
#[derive(Debug, Clone, Copy)]
pub(super) struct WireBytes {
    pub(super) walker: [u64; 2],
    pub(super) viewer: [u64; 2],
}

impl WireBytes {
    /// Returns the bytes since an earlier moment.
    pub(super) fn since(self, before: Self) -> Self {
        let since = |now: [u64; 2], before: [u64; 2]| [now[0] - before[0], now[1] - before[1]];
        Self {
            walker: since(self.walker, before.walker),
            viewer: since(self.viewer, before.viewer),
        }
    }

    fn sum(self) -> u64 {
        self.walker.iter().chain(&self.viewer).sum()
    }
}

/// A cube in a frame.
#[derive(Debug, Clone, Copy)]
struct Shown {
    /// The time of the frame.
    time_s: f64,
    position: [f64; 3],
    /// The moment of the truth that the frame means to show, but for a constant.
    meant_s: f64,
}

/// Computes the figures of the frames in a window of time.
pub(super) fn figures(
    walker: &[Frame],
    viewer: &[Frame],
    witness: &[Frame],
    truth: &dyn Fn(f64) -> [f64; 3],
    window_s: std::ops::Range<f64>,
    wire: WireBytes,
) -> Result<Figures> {
    let seconds = window_s.end - window_s.start;
    let timeline = timeline(walker);
    let [walker, viewer, witness] = [walker, viewer, witness].map(|frames| {
        let is_inside = |frame: &&Frame| window_s.contains(&frame.time_s);
        frames.iter().filter(is_inside).copied().collect::<Vec<_>>()
    });
    let shown = |frames: &[Frame]| -> Vec<Shown> {
        let shown = frames.iter().filter_map(|frame| {
            let meant_tick = frame.clock_tick - frame.playout_delay_s * f64::from(TICK_HZ);
            Some(Shown {
                time_s: frame.time_s,
                position: frame.shown?,
                meant_s: timeline.sampled_at(meant_tick)?,
            })
        });
        shown.collect()
    };
    let counted = |frames: &[Frame], count: fn(&Frame) -> u64| {
        let ends = frames.first().zip(frames.last());
        ends.map_or(0, |(first, last)| count(last) - count(first)) as f64
    };
    let witnessed = shown(&witness);
    let viewed = shown(&viewer);
    let seen = viewed.len() as f64 / seconds;
    ensure!(
        seen > 30.0,
        "the viewer saw the walker in {seen:.0} frames a second"
    );
    ensure!(!witnessed.is_empty(), "the witness saw nothing");

    let (delay_s, errors_m) = best_delay(&viewed, truth);
    let (_, own_m) = best_constant(-0.3, 0.6, |constant_s| {
        let error = |shown: &Shown| distance(shown.position, truth(shown.meant_s - constant_s));
        viewed.iter().map(error).collect()
    });
    let (frozen_s, snaps) = frozen_and_snaps(&viewed, delay_s, truth);
    let mean = |frames: &[Frame], value: fn(&Frame) -> f64| {
        frames.iter().map(value).sum::<f64>() / frames.len() as f64
    };
    let players = [&walker, &viewer, &witness].into_iter();
    let frames_s = players.flat_map(|frames| {
        let pairs = frames.windows(2);
        pairs.map(|pair| pair[1].time_s - pair[0].time_s)
    });
    let by_datagram = counted(&viewer, |frame| frame.snapshots_by_datagram);
    let by_stream = counted(&viewer, |frame| frame.snapshots_by_stream);
    let minutes = seconds / 60.0;
    Ok(Figures {
        delay_ms: delay_s * 1e3,
        rms_cm: rms(&errors_m) * 100.0,
        p99_cm: percentile(&errors_m, 0.99) * 100.0,
        max_cm: percentile(&errors_m, 1.0) * 100.0,
        own_rms_cm: rms(&own_m) * 100.0,
        own_p99_cm: percentile(&own_m, 0.99) * 100.0,
        frozen_ms_per_min: frozen_s / minutes * 1e3,
        snaps_per_min: f64::from(snaps) / minutes,
        wire_bytes_per_s: wire.sum() as f64 / seconds,
        down_bytes_per_s: wire.viewer[1] as f64 / seconds,
        by_datagram_percent: by_datagram / (by_datagram + by_stream).max(1.0) * 100.0,
        late_samples_per_min: counted(&walker, |frame| frame.late_samples) / minutes,
        lead_ms: mean(&walker, |frame| frame.lead_s) * 1e3,
        playout_delay_ms: mean(&viewer, |frame| frame.playout_delay_s) * 1e3,
        witness_rms_cm: rms(&best_delay(&witnessed, truth).1) * 100.0,
        longest_frame_ms: frames_s.fold(0.0, f64::max) * 1e3,
    })
}

/// Returns the moments of the samples of a walker with these frames.
fn timeline(walker: &[Frame]) -> Timeline {
    let mut timeline = Timeline::default();
    for frame in walker {
        timeline.add(frame.time_s, frame.clock_tick, frame.lead_s);
    }
    timeline
}

/// Returns the constant delay at which the error is smallest, in seconds, and the errors at it.
fn best_delay(shown: &[Shown], truth: &dyn Fn(f64) -> [f64; 3]) -> (f64, Vec<f64>) {
    best_constant(0.0, 2.0, |delay_s| {
        let error = |shown: &Shown| distance(shown.position, truth(shown.time_s - delay_s));
        shown.iter().map(error).collect()
    })
}

/// Returns the constant with the smallest root mean square, to a tenth of a millisecond, and the errors.
fn best_constant(from_s: f64, to_s: f64, errors: impl Fn(f64) -> Vec<f64>) -> (f64, Vec<f64>) {
    const STEP_S: f64 = 0.005;
    const FINE_STEP_S: f64 = 0.0001;
    let best = |candidates: &mut dyn Iterator<Item = f64>| {
        let scored = candidates.map(|constant_s| (rms(&errors(constant_s)), constant_s));
        let best = scored.min_by(|a, b| a.0.total_cmp(&b.0));
        best.expect("there are candidates").1
    };
    let steps = ((to_s - from_s) / STEP_S) as i32;
    let near_s = best(&mut (0..=steps).map(|step| from_s + f64::from(step) * STEP_S));
    let best_s = best(&mut (-50..=50).map(|step| near_s + f64::from(step) * FINE_STEP_S));
    (best_s, errors(best_s))
}

/// Returns for how long the cube stood while the truth moved, and how often it jumped.
fn frozen_and_snaps(shown: &[Shown], delay_s: f64, truth: &dyn Fn(f64) -> [f64; 3]) -> (f64, u32) {
    let (mut frozen_s, mut snaps) = (0.0, 0);
    for pair in shown.windows(2) {
        let [before, now] = [pair[0], pair[1]];
        let frame_s = now.time_s - before.time_s;
        if frame_s > LONGEST_FRAME_S {
            continue;
        }
        let way_m = distance(before.position, now.position);
        let was = truth(before.time_s - delay_s);
        let true_way_m = distance(was, truth(now.time_s - delay_s));
        if true_way_m > MOVES_MPS * frame_s && way_m < STANDS_M {
            frozen_s += frame_s;
        }
        if way_m > true_way_m + JUMP_M {
            snaps += 1;
        }
    }
    (frozen_s, snaps)
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;

    const SECONDS: f64 = 20.0;

    /// A circle of 3 m at 6 m/s.
    fn truth(time_s: f64) -> [f64; 3] {
        let angle_rad = 2.0 * time_s;
        [3.0 * angle_rad.cos(), 3.0 * angle_rad.sin(), 0.5]
    }

    fn frames(shown: impl Fn(f64) -> [f64; 3], late_samples: fn(f64) -> u64) -> Vec<Frame> {
        let frame = |number: u32| {
            let time_s = f64::from(number) / 60.0;
            Frame {
                time_s,
                shown: Some(shown(time_s)),
                // The clock began 2 s before the walk.
                clock_tick: (time_s + 2.0) * f64::from(TICK_HZ),
                playout_delay_s: 0.06,
                lead_s: 0.04,
                late_samples: late_samples(time_s),
                snapshots_by_datagram: (30.0 * time_s) as u64,
                snapshots_by_stream: (10.0 * time_s) as u64,
            }
        };
        (0..(SECONDS * 60.0) as u32).map(frame).collect()
    }

    fn of(shown: impl Fn(f64) -> [f64; 3]) -> Figures {
        let walker = frames(truth, |time_s| time_s as u64);
        let viewer = frames(shown, |_| 0);
        let witness = frames(|time_s| truth(time_s - 0.05), |_| 0);
        let wire = WireBytes {
            walker: [1_000, 2_000],
            viewer: [3_000, 4_000],
        };
        figures(&walker, &viewer, &witness, &truth, 5.0..15.0, wire).unwrap()
    }

    #[test]
    fn a_display_that_is_only_late_has_no_error() {
        let figures = of(|time_s| truth(time_s - 0.15));
        assert!((figures.delay_ms - 150.0).abs() < 0.06, "{figures:?}");
        assert!(
            figures.max_cm < 0.1 && figures.own_p99_cm < 0.1,
            "{figures:?}"
        );
        assert!(figures.witness_rms_cm < 0.1, "{figures:?}");
        let trouble = (figures.frozen_ms_per_min, figures.snaps_per_min);
        assert_eq!(trouble, (0.0, 0.0));
        let bytes = (figures.wire_bytes_per_s, figures.down_bytes_per_s);
        assert_eq!(bytes, (1_000.0, 400.0));
        assert!((figures.lead_ms - 40.0).abs() < 1e-6);
        assert!((figures.playout_delay_ms - 60.0).abs() < 1e-6);
        assert!(
            (48.0..=60.0).contains(&figures.late_samples_per_min),
            "{figures:?}"
        );
        assert!((figures.by_datagram_percent - 75.0).abs() < 0.5);
        assert!((figures.longest_frame_ms - 16.7).abs() < 0.1);
    }

    #[test]
    fn a_cube_that_stands_and_jumps_after_it_is_frozen_once_and_snaps_once() {
        let figures = of(|time_s| match time_s {
            10.0..10.5 => truth(9.85),
            _ => truth(time_s - 0.15),
        });
        // 10 s were scored.
        assert!(
            (figures.frozen_ms_per_min / 6.0 - 500.0).abs() < 35.0,
            "{figures:?}"
        );
        assert_eq!(figures.snaps_per_min, 6.0);
        assert!((figures.delay_ms - 150.0).abs() < 20.0, "{figures:?}");
        assert!(figures.max_cm > 100.0, "{figures:?}");
    }

    #[test]
    fn a_display_whose_delay_wanders_is_wrong_but_not_on_its_own_timeline() {
        // The lead wanders, and so does the moment that the viewer means to show.
        let lead_s = |time_s: f64| 0.04 + 0.03 * (time_s * TAU / 5.0).sin();
        let mut walker = frames(truth, |_| 0);
        for frame in &mut walker {
            frame.lead_s = lead_s(frame.time_s);
        }
        let timeline = timeline(&walker);
        let viewer = frames(
            |time_s| {
                let tick = (time_s + 2.0 - 0.06) * f64::from(TICK_HZ);
                timeline.sampled_at(tick).map_or([0.0; 3], truth)
            },
            |_| 0,
        );
        let wire = WireBytes {
            walker: [0; 2],
            viewer: [0; 2],
        };
        let figures = figures(&walker, &viewer, &viewer, &truth, 5.0..15.0, wire).unwrap();
        assert!((95.0..105.0).contains(&figures.delay_ms), "{figures:?}");
        assert!(
            figures.rms_cm > 8.0 && figures.own_rms_cm < 0.1,
            "{figures:?}"
        );
    }

    #[test]
    fn nobody_seen_is_no_figure() {
        let walker = frames(truth, |_| 0);
        let wire = WireBytes {
            walker: [0; 2],
            viewer: [0; 2],
        };
        assert!(figures(&walker, &[], &walker, &truth, 5.0..15.0, wire).is_err());
    }
}
