//! The pace of one thread's clients: how long before its tick a sample is sent.

use std::time::Duration;

use cubesync_client::session::{Clock, Lead};
use cubesync_protocol::Welcome;

/// The shortest frame. Waits for sockets are rounded up to milliseconds, so clients look at what is due
/// about this often.
pub(crate) const FRAME: Duration = Duration::from_millis(1);

/// The client library's lead, as one of the thread's clients of a server learns it. That client sends last.
/// The others follow its lead, since they share a machine, a network and a thread.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    clock: Clock,
    lead: Lead,
    frame_began: Duration,
}

impl Pace {
    /// Creates the pace of a client that has just been welcomed.
    pub(crate) fn new(welcome: &Welcome, now_us: u64) -> Self {
        let now = Duration::from_micros(now_us);
        let Welcome {
            tick_hz,
            tick,
            since_tick_us,
            ..
        } = *welcome;
        Self {
            clock: Clock::new(tick_hz, tick, since_tick_us, now),
            lead: Lead::new(tick_hz, tick, since_tick_us, now),
            frame_began: now,
        }
    }

    /// Begins the first frame. The time before it says nothing about the length of frames.
    pub(crate) fn start(&mut self, now_us: u64) {
        self.frame_began = Duration::from_micros(now_us);
    }

    /// Returns the lead, in microseconds, after a new frame if the last one is over.
    pub(crate) fn lead_us(&mut self, now_us: u64) -> u64 {
        let now = Duration::from_micros(now_us);
        let frame = now.saturating_sub(self.frame_began);
        if frame >= FRAME {
            self.frame_began = now;
            self.lead.advance(frame, true, false);
        }
        self.lead.duration(now, &self.clock).as_micros() as u64
    }

    /// Notes that the client has sent a sample.
    pub(crate) fn sample_sent(&mut self) {
        self.lead.sample_sent();
    }

    /// Notes that the client's ping of `sent_us` was answered: with the time since a tick, and the number
    /// of its samples that came after their tick.
    pub(crate) fn ping_answered(
        &mut self,
        now_us: u64,
        sent_us: u64,
        (tick, since_tick_us): (u64, u32),
        late_samples: u32,
    ) {
        let [now, sent] = [now_us, sent_us].map(Duration::from_micros);
        self.clock.ping_answered(sent, now, tick, since_tick_us);
        self.lead
            .ping_answered(sent, now, (tick, since_tick_us), late_samples);
    }
}
