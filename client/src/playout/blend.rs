//! Hides jumps of cubes that were shown at a wrong place.
//!
//! An update that arrives after its tick was shown would make the cube jump. The cube keeps the
//! difference instead and loses it within a moment, quickly at first and gently at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use cubesync_protocol::CubeId;

/// How long a large difference lasts, and the length from which on it is large. Measured with `cargo
/// bench-motion` at 2 % loss: in half the time there are a third more jumps, in half as much again
/// errors are a twentieth larger.
const BLEND: Duration = Duration::from_millis(200);
const LARGE_M: f32 = 0.5;
/// Share of that time in which a very small difference is lost, which nobody sees: with a short playout
/// delay there are many.
const SHORTEST: f32 = 0.3;
/// A larger difference is not blended out: the cube would run through walls.
const SNAP_M: f32 = 1.0;
/// The same after a room went on at another server, where each cube has moved on during the pause: a large
/// difference lasts as long as half a second, and one is as large as two seconds of running.
const GLIDE: Duration = Duration::from_millis(500);
const GLIDE_SNAPS_M: f32 = 25.0;

/// The differences between where cubes are shown and where they should be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Blends {
    tick_hz: f64,
    cubes: BTreeMap<CubeId, Blend>,
}

#[derive(Debug, Clone, Copy)]
struct Blend {
    offset_m: [f32; 3],
    /// The server's clock when the difference was this.
    clock_tick: f64,
    /// How long it lasts.
    ticks: f64,
    /// Whether it is one after a room went on at another server.
    glides: bool,
}

impl Blends {
    /// Makes an empty set for a room of this tick rate.
    pub(crate) fn new(tick_hz: u8) -> Self {
        Self {
            tick_hz: f64::from(tick_hz),
            cubes: BTreeMap::new(),
        }
    }

    /// Starts to blend a cube that was shown at `shown_m` when the server's clock was at `clock_tick`
    /// and should have been at `predicted_m`. `glides` tells that the room has gone on at another server.
    pub(crate) fn start(
        &mut self,
        cube: CubeId,
        [shown_m, predicted_m]: [[f32; 3]; 2],
        clock_tick: f64,
        glides: bool,
    ) {
        let offset_m: [f32; 3] = std::array::from_fn(|axis| shown_m[axis] - predicted_m[axis]);
        let distance_m = offset_m.iter().map(|off| off * off).sum::<f32>().sqrt();
        let share = SHORTEST + (1.0 - SHORTEST) * (distance_m / LARGE_M).min(1.0);
        let ticks = |longest: Duration| longest.as_secs_f64() * self.tick_hz * f64::from(share);
        // A cube that glides goes on to do so.
        let running = self.cubes.get(&cube).filter(|blend| blend.glides);
        let left_ticks = running.map_or(0.0, |blend| blend.left_ticks(clock_tick));
        let is_new = glides && running.is_none();
        let glides = is_new || left_ticks > 0.0;
        let snaps_m = if glides { GLIDE_SNAPS_M } else { SNAP_M };
        let blend = Blend {
            offset_m,
            clock_tick,
            ticks: ticks(if is_new { GLIDE } else { BLEND }).max(left_ticks),
            glides,
        };
        if distance_m > 0.0 && distance_m <= snaps_m {
            self.cubes.insert(cube, blend);
        } else {
            self.cubes.remove(&cube);
        }
    }

    /// Forgets a cube's difference, so that it is shown where it should be.
    pub(crate) fn remove(&mut self, cube: CubeId) {
        self.cubes.remove(&cube);
    }

    /// Forgets differences that are over.
    pub(crate) fn advance(&mut self, clock_tick: f64) {
        self.cubes.retain(|_, blend| blend.share(clock_tick) > 0.0);
    }

    /// Returns how far from its place a cube is to be shown.
    pub(crate) fn offset_m(&self, cube: CubeId, clock_tick: f64) -> [f32; 3] {
        self.cubes.get(&cube).map_or([0.0; 3], |blend| {
            let share = blend.share(clock_tick) as f32;
            blend.offset_m.map(|off| off * share)
        })
    }
}

impl Blend {
    /// Returns the share of the difference that is left.
    fn share(&self, clock_tick: f64) -> f64 {
        let rest = (self.left_ticks(clock_tick) / self.ticks).clamp(0.0, 1.0);
        rest * rest
    }

    fn left_ticks(&self, clock_tick: f64) -> f64 {
        self.ticks - (clock_tick - self.clock_tick)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUBE: CubeId = CubeId(7);

    /// Returns blends at 20 Hz, where a difference lasts four ticks. At tick 10 the cube is shown
    /// `off_m` from its true place.
    fn blends(off_m: f32) -> Blends {
        let mut blends = Blends::new(20);
        blends.start(
            CUBE,
            [[3.0 + off_m, 1.0, 0.5], [3.0, 1.0, 0.5]],
            10.0,
            false,
        );
        blends
    }

    fn offset_m(blends: &Blends, clock_tick: f64) -> f32 {
        blends.offset_m(CUBE, clock_tick)[0]
    }

    #[test]
    fn a_difference_is_lost_more_and_more_gently_and_then_forgotten() {
        let mut blends = blends(0.5);
        for (clock_tick, expected_m) in [(10.0, 0.5), (11.0, 0.28125), (12.0, 0.125), (14.0, 0.0)] {
            assert_eq!(offset_m(&blends, clock_tick), expected_m);
        }
        assert_eq!(blends.offset_m(CubeId(8), 10.0), [0.0; 3]);
        blends.advance(13.9);
        assert_eq!(blends.cubes.len(), 1);
        blends.advance(14.0);
        assert!(blends.cubes.is_empty());
    }

    #[test]
    fn a_large_difference_snaps() {
        assert_eq!(offset_m(&blends(1.0), 10.0), 1.0);
        assert_eq!(offset_m(&blends(1.1), 10.0), 0.0);
    }

    #[test]
    fn the_newest_difference_counts() {
        let mut blends = blends(0.5);
        blends.start(CUBE, [[3.25, 1.0, 0.5], [3.0, 1.0, 0.5]], 11.0, false);
        // It is half as large and lasts 2.6 ticks.
        assert!((offset_m(&blends, 12.3) - 0.0625).abs() < 1e-6);
        blends.start(CUBE, [[3.0, 1.0, 0.5], [9.0, 1.0, 0.5]], 11.0, false);
        assert_eq!(offset_m(&blends, 11.0), 0.0);
    }
}
