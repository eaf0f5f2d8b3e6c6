//! The client's end of the way for datagrams: what it sends there, and what it knows of the way.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use cubesync_protocol::datagram::{self, Downlink, LOST_ALL, LossMeter, Redundancy, Uplink};
use cubesync_protocol::limits::{DATAGRAM_INTERVAL, MAX_DATAGRAM_BYTES};
use cubesync_protocol::uplink::Sample;

/// Largest number of samples that are kept for the next datagrams.
const MAX_RECENT: usize = 4;

/// Silence of the server's datagrams after which they do not come through any more: it sends one every
/// second at least.
const SILENT_AFTER: Duration = Duration::from_secs(3);

/// Time between two datagrams while none of the server's come.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// The client's end of the way for datagrams.
#[derive(Debug)]
pub(super) struct Datagrams {
    is_open: bool,
    /// The newest samples since the last release, and the tick of the sample before them.
    recent: VecDeque<datagram::Sample>,
    base: u64,
    releases: u32,
    /// The number of the next datagram, modulo 256.
    number: u8,
    /// The number of ticks in which the newest sample is sent once more.
    repeats: u8,
    sent_at: Duration,
    received_at: Option<Duration>,
    /// What the server's datagrams tell of their loss.
    arrived: LossMeter,
    /// The share of this client's datagrams that were lost, by the server's report, in 1/255.
    lost: u8,
    /// The datagram that is to be sent.
    outgoing: Option<Bytes>,
}

impl Datagrams {
    /// Creates the end of a way that is not open.
    pub(super) fn new() -> Self {
        Self {
            is_open: false,
            recent: VecDeque::new(),
            base: 0,
            releases: 0,
            number: 0,
            repeats: 0,
            sent_at: Duration::ZERO,
            received_at: None,
            arrived: LossMeter::default(),
            lost: 0,
            outgoing: None,
        }
    }

    /// Opens the way. The first datagram is due.
    pub(super) fn open(&mut self, now: Duration) {
        self.is_open = true;
        self.send(now);
    }

    /// Returns whether datagrams come through, in both directions.
    pub(super) fn works(&self, now: Duration) -> bool {
        self.hears(now) && self.lost < LOST_ALL
    }

    /// Returns whether the server's datagrams come through.
    fn hears(&self, now: Duration) -> bool {
        let received = self.received_at;
        received.is_some_and(|received| now.saturating_sub(received) < SILENT_AFTER)
    }

    /// Returns the share of the server's datagrams that were lost lately, in 1/255; `None` before the
    /// first one.
    pub(super) fn loss(&self) -> Option<u8> {
        self.received_at.map(|_| self.arrived.share())
    }

    /// Notes that a datagram of the server has come. The first one, and the first after a silence, are
    /// reported at once.
    pub(super) fn received(&mut self, downlink: &Downlink, now: Duration) {
        let was_silent = !self.hears(now);
        if was_silent {
            // The numbers of the datagrams may have wrapped around since.
            self.arrived = LossMeter::default();
        }
        self.received_at = Some(now);
        self.arrived.received(downlink.number);
        self.lost = downlink.lost;
        if was_silent {
            self.send(now);
        }
    }

    /// Keeps a sample that goes out on the stream.
    pub(super) fn keep(&mut self, sample: &Sample) {
        if self.recent.len() == MAX_RECENT {
            self.base = self.recent.pop_front().map_or(0, |oldest| oldest.tick);
        }
        self.recent.push_back(datagram::Sample {
            tick: sample.tick,
            placed: sample.placed.clone(),
            residuals: sample.residuals.clone(),
        });
    }

    /// Sends the newest sample here as well, and repeats it if it `has_updates`.
    pub(super) fn sampled(&mut self, has_updates: bool, now: Duration) {
        if self.works(now) {
            if has_updates {
                self.repeats = Redundancy::at_loss(self.lost).repeats;
            }
            self.send(now);
        }
    }

    /// Notes that a release goes out on the stream, after all samples so far.
    pub(super) fn released(&mut self) {
        self.base = self.recent.back().map_or(self.base, |newest| newest.tick);
        self.recent.clear();
        self.releases = self.releases.wrapping_add(1);
        self.outgoing = None;
    }

    /// Starts anew for the receiver of another server, and returns its number of releases.
    pub(super) fn welcomed(&mut self) -> u32 {
        self.released();
        self.base = 0;
        self.repeats = 0;
        self.releases
    }

    /// Sends what is due besides new samples. `tick` is the duration of a tick.
    pub(super) fn poll(&mut self, now: Duration, tick: Duration) {
        if !self.is_open {
            return;
        }
        let since = now.saturating_sub(self.sent_at);
        let is_due = match self.works(now) {
            false => since >= PROBE_INTERVAL,
            true if self.repeats > 0 => since >= tick,
            true => since >= DATAGRAM_INTERVAL,
        };
        if is_due {
            self.repeats = self.repeats.saturating_sub(1);
            self.send(now);
        }
    }

    /// Takes the datagram that is to be sent.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        self.outgoing.take()
    }

    fn send(&mut self, now: Duration) {
        if !self.is_open {
            return;
        }
        let lost = match self.hears(now) {
            true => self.arrived.share(),
            false => LOST_ALL,
        };
        let ticks = Redundancy::at_loss(self.lost).ticks.min(self.recent.len());
        for left_out in self.recent.len() - ticks..=self.recent.len() {
            let before = left_out
                .checked_sub(1)
                .and_then(|index| self.recent.get(index));
            let uplink = Uplink {
                releases: self.releases,
                base: before.map_or(self.base, |before| before.tick),
                number: self.number,
                lost,
                samples: self.recent.iter().skip(left_out).cloned().collect(),
            };
            let datagram = uplink.encode();
            if datagram.len() <= MAX_DATAGRAM_BYTES {
                self.outgoing = Some(datagram);
                break;
            }
        }
        self.number = self.number.wrapping_add(1);
        self.sent_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn downlink(number: u8, lost: u8) -> Downlink {
        Downlink {
            complete: 0,
            base: 0,
            number,
            lost,
            snapshots: Vec::new(),
        }
    }

    /// Takes what the next datagram reports.
    fn reported(datagrams: &mut Datagrams) -> Option<u8> {
        let datagram = datagrams.next()?;
        Some(Uplink::decode(&datagram).unwrap().lost)
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_client_reports_that_nothing_comes_until_something_has_come_and_then_at_once() {
        let mut datagrams = Datagrams::new();
        datagrams.open(seconds(0));
        assert_eq!(reported(&mut datagrams), Some(LOST_ALL));
        for at in 1..3 {
            datagrams.poll(seconds(at), seconds(1));
            assert_eq!(reported(&mut datagrams), Some(LOST_ALL));
        }
        datagrams.received(&downlink(0, 0), seconds(3));
        assert_eq!(reported(&mut datagrams), Some(0));
        datagrams.received(&downlink(1, 0), seconds(3));
        assert_eq!(reported(&mut datagrams), None);
        assert!(datagrams.works(seconds(5)));
        datagrams.poll(seconds(6), seconds(1));
        assert_eq!(reported(&mut datagrams), Some(LOST_ALL));
        assert!(!datagrams.works(seconds(6)));
    }

    #[test]
    fn datagrams_do_not_work_while_the_server_hears_none() {
        let mut datagrams = Datagrams::new();
        datagrams.open(seconds(0));
        datagrams.received(&downlink(0, LOST_ALL), seconds(1));
        assert!(!datagrams.works(seconds(1)));
        // The server's come through, so the client does not report the opposite.
        assert_eq!(reported(&mut datagrams), Some(0));
        datagrams.received(&downlink(1, 0), seconds(2));
        assert!(datagrams.works(seconds(2)));
    }

    #[test]
    fn a_silence_is_not_counted_as_late_datagrams() {
        let mut datagrams = Datagrams::new();
        datagrams.open(seconds(0));
        datagrams.received(&downlink(0, 0), seconds(1));
        // So many that the numbers look like old ones.
        let after = 0..=100;
        for number in after.map(|number| number * 2 + 200u16) {
            datagrams.received(&downlink(number as u8, 0), seconds(200));
        }
        assert!(datagrams.loss().is_some_and(|lost| lost > 60));
    }
}
