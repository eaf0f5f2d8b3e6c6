//! Other methods of displaying remote cubes, written from public descriptions. Each receives the exact pose
//! of each tick and the true time.

use std::collections::VecDeque;

use crate::trace::{Placed, between};

/// Number of snapshots that are kept.
const MOST_SNAPSHOTS: usize = 64;

/// The pose of a cube at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Snapshot {
    pub(crate) time_s: f64,
    pub(crate) placed: Placed,
}

/// A method of displaying a cube.
pub(crate) trait Rival {
    /// Handles a snapshot.
    fn hear(&mut self, now_s: f64, snapshot: Snapshot);

    /// Returns the pose to draw in this frame, and its time; `None` before the first snapshot.
    fn show(&mut self, now_s: f64) -> Option<Snapshot>;
}

/// Linear interpolation between the two snapshots around 100 ms ago, or the newest one if there is no later
/// one.
///
/// Y.-S. Bernier, "Latency Compensating Methods" (Valve, 2001); G. Fiedler, "Snapshot
/// Interpolation" (2014). The 100 ms count from the fastest arrival so far.
#[derive(Debug, Default)]
pub(crate) struct Fixed {
    snapshots: VecDeque<Snapshot>,
    least_lag_s: Option<f64>,
}

impl Fixed {
    const DELAY_S: f64 = 0.1;
}

impl Rival for Fixed {
    fn hear(&mut self, now_s: f64, snapshot: Snapshot) {
        let lag_s = now_s - snapshot.time_s;
        self.least_lag_s = Some(self.least_lag_s.map_or(lag_s, |least| least.min(lag_s)));
        keep(&mut self.snapshots, snapshot);
    }

    fn show(&mut self, now_s: f64) -> Option<Snapshot> {
        let time_s = now_s - self.least_lag_s? - Self::DELAY_S;
        straight(&self.snapshots, time_s)
    }
}

/// Interpolation on a timeline that speeds up and slows down to stay behind the newest snapshot by a buffer,
/// which is the longer the less evenly snapshots arrive.
///
/// Mirror's documentation of Snapshot Interpolation, with its defaults.
#[derive(Debug, Default)]
pub(crate) struct Dynamic {
    snapshots: VecDeque<Snapshot>,
    shown_s: Option<f64>,
    stepped_s: f64,
    scale: f64,
    arrived_s: Option<f64>,
    drift: Average,
    interval: Average,
}

impl Dynamic {
    const SEND_S: f64 = 1.0 / 30.0;
    /// Sends in the second and the two seconds that are averaged over.
    const DRIFT_COUNT: f64 = 30.0;
    const INTERVAL_COUNT: f64 = 60.0;
    const TOLERANCE: f64 = 1.0;
    const MOST_SENDS: f64 = 5.0;
    const CATCH_UP: f64 = 0.02;
    const SLOW_DOWN: f64 = 0.04;
}

impl Rival for Dynamic {
    fn hear(&mut self, now_s: f64, snapshot: Snapshot) {
        if let Some(before_s) = self.arrived_s.replace(now_s) {
            self.interval.add(now_s - before_s, Self::INTERVAL_COUNT);
        }
        let sends = (Self::SEND_S + self.interval.deviation()) / Self::SEND_S + Self::TOLERANCE;
        let buffer_s = Self::SEND_S * sends.clamp(0.0, Self::MOST_SENDS);
        keep(&mut self.snapshots, snapshot);
        let target_s = snapshot.time_s - buffer_s;
        let shown_s = self.shown_s.unwrap_or(target_s);
        let shown_s = shown_s.clamp(target_s - buffer_s, target_s + buffer_s);
        self.shown_s = Some(shown_s);
        self.drift.add(snapshot.time_s - shown_s, Self::DRIFT_COUNT);
        let drift_s = self.drift.mean - buffer_s;
        self.scale = if drift_s > Self::SEND_S {
            1.0 + Self::CATCH_UP
        } else if drift_s < -Self::SEND_S {
            1.0 - Self::SLOW_DOWN
        } else {
            1.0
        };
    }

    fn show(&mut self, now_s: f64) -> Option<Snapshot> {
        let since_s = now_s - std::mem::replace(&mut self.stepped_s, now_s);
        let shown_s = self.shown_s.as_mut()?;
        *shown_s += since_s * self.scale;
        straight(&self.snapshots, *shown_s)
    }
}

/// An exponential moving average and its deviation.
#[derive(Debug, Default)]
struct Average {
    mean: f64,
    variance: f64,
    is_begun: bool,
}

impl Average {
    fn add(&mut self, value: f64, count: f64) {
        if !std::mem::replace(&mut self.is_begun, true) {
            self.mean = value;
            return;
        }
        let share = 2.0 / (count + 1.0);
        let off = value - self.mean;
        self.mean += share * off;
        self.variance = (1.0 - share) * (self.variance + share * off * off);
    }

    fn deviation(&self) -> f64 {
        self.variance.sqrt()
    }
}

/// The newest snapshot. It has no clock; its time follows from the mean lag of the run.
#[derive(Debug, Default)]
pub(crate) struct Latest {
    newest: Option<Snapshot>,
}

impl Rival for Latest {
    fn hear(&mut self, _now_s: f64, snapshot: Snapshot) {
        self.newest = Some(snapshot);
    }

    fn show(&mut self, _now_s: f64) -> Option<Snapshot> {
        self.newest
    }
}

/// Extrapolation of the last two snapshots to the present.
///
/// J. Murphy, "Believable Dead Reckoning for Networked Games" (2011), without its blending.
#[derive(Debug, Default)]
pub(crate) struct DeadReckoning {
    snapshots: VecDeque<Snapshot>,
}

impl Rival for DeadReckoning {
    fn hear(&mut self, _now_s: f64, snapshot: Snapshot) {
        keep(&mut self.snapshots, snapshot);
    }

    fn show(&mut self, now_s: f64) -> Option<Snapshot> {
        let newest = self.snapshots.back()?;
        let before = &self.snapshots[self.snapshots.len().saturating_sub(2)];
        let tick_s = (newest.time_s - before.time_s).max(1e-3);
        let ticks = (now_s - newest.time_s) / tick_s;
        let [from, to] = [before, newest].map(|snapshot| snapshot.placed.position);
        Some(Snapshot {
            time_s: now_s,
            placed: Placed {
                position: std::array::from_fn(|axis| to[axis] + (to[axis] - from[axis]) * ticks),
                rotation: newest.placed.rotation,
            },
        })
    }
}

fn keep(snapshots: &mut VecDeque<Snapshot>, new: Snapshot) {
    if snapshots.len() == MOST_SNAPSHOTS {
        snapshots.pop_front();
    }
    snapshots.push_back(new);
}

/// Interpolates between the snapshots around a time. Returns the first or the last one outside of them.
fn straight(snapshots: &VecDeque<Snapshot>, time_s: f64) -> Option<Snapshot> {
    let next = snapshots.partition_point(|snapshot| snapshot.time_s <= time_s);
    let placed = match (next.checked_sub(1), snapshots.get(next)) {
        (Some(from), Some(to)) => {
            let from = &snapshots[from];
            let share = (time_s - from.time_s) / (to.time_s - from.time_s);
            between(&from.placed, &to.placed, share)
        }
        (Some(last), None) => snapshots[last].placed,
        (None, first) => first?.placed,
    };
    Some(Snapshot { time_s, placed })
}
