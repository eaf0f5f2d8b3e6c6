//! The window's time: never backwards, and not more frames than anybody sees.

use std::thread;
use std::time::{Duration, Instant};

/// Frames faster than this are not held back by a screen: there is no vsync, as on a virtual
/// display or behind some drivers, and the loop would take a whole core.
const UNPACED: Duration = Duration::from_micros(1_000_000 / 160);
/// What such frames are slowed down to.
const PACE: Duration = Duration::from_micros(1_000_000 / 120);

/// Measures frames.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    frame: Instant,
}

/// One frame's place in time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FrameTime {
    /// Since the program's start.
    pub(crate) now: Duration,
    /// Since the frame before; it may be long after the window was stopped.
    pub(crate) elapsed: Duration,
}

impl Clock {
    /// A clock that starts now.
    pub(crate) fn new() -> Self {
        let start = Instant::now();
        Self {
            start,
            frame: start,
        }
    }

    /// Begins a frame, after a rest when frames come too fast.
    pub(crate) fn next_frame(&mut self) -> FrameTime {
        if let Some(rest) = rest(self.frame.elapsed()) {
            thread::sleep(rest);
        }
        let now = Instant::now();
        let elapsed = now - self.frame;
        self.frame = now;
        FrameTime {
            now: now - self.start,
            elapsed,
        }
    }
}

impl FrameTime {
    /// The frame's length for motion and animation, in seconds: a long pause is no motion.
    pub(crate) fn step_s(&self) -> f32 {
        self.elapsed.as_secs_f32().min(0.1)
    }
}

fn rest(elapsed: Duration) -> Option<Duration> {
    (elapsed < UNPACED).then(|| PACE - elapsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_frames_without_vsync_rest() {
        assert_eq!(
            rest(Duration::from_millis(2)),
            Some(PACE - Duration::from_millis(2))
        );
        for hertz in [60, 75, 120, 144] {
            assert_eq!(rest(Duration::from_secs(1) / hertz), None, "{hertz} Hz");
        }
    }
}
