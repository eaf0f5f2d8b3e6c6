//! The time of the window's frames. It never goes backwards, and frames do not come faster than a
//! person can see.

use std::time::Duration;

use crate::platform;

/// Measures the time between frames.
#[derive(Debug)]
pub(crate) struct FrameClock {
    last_frame: Duration,
}

/// The time of one frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FrameTime {
    /// The time since the program's start.
    pub(crate) now: Duration,
    /// The time since the frame before. It is long when the window or the tab was stopped.
    pub(crate) elapsed: Duration,
}

impl FrameClock {
    /// Creates a clock that starts now.
    pub(crate) fn new() -> Self {
        Self {
            last_frame: platform::now(),
        }
    }

    /// Begins a frame, and sleeps before it when frames come too fast.
    pub(crate) fn next_frame(&mut self) -> FrameTime {
        platform::pace(platform::now().saturating_sub(self.last_frame));
        let now = platform::now();
        let elapsed = now.saturating_sub(self.last_frame);
        self.last_frame = now;
        FrameTime { now, elapsed }
    }
}

impl FrameTime {
    /// Returns the frame's length for motion and animation, in seconds. It is bounded, so that
    /// nothing jumps after a long pause.
    pub(crate) fn step_s(&self) -> f32 {
        self.elapsed.as_secs_f32().min(0.1)
    }
}
