//! The window's time: never backwards, and not more frames than anybody sees.

use std::time::Duration;

use crate::platform;

/// Measures frames.
#[derive(Debug)]
pub(crate) struct Clock {
    frame: Duration,
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
        Self {
            frame: platform::now(),
        }
    }

    /// Begins a frame, after a rest when frames come too fast.
    pub(crate) fn next_frame(&mut self) -> FrameTime {
        platform::pace(platform::now().saturating_sub(self.frame));
        let now = platform::now();
        let elapsed = now.saturating_sub(self.frame);
        self.frame = now;
        FrameTime { now, elapsed }
    }
}

impl FrameTime {
    /// The frame's length for motion and animation, in seconds: a long pause is no motion.
    pub(crate) fn step_s(&self) -> f32 {
        self.elapsed.as_secs_f32().min(0.1)
    }
}
