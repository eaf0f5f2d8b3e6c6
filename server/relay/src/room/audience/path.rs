//! A connection's way for datagrams.

use std::sync::Arc;

use cubesync_protocol::CubeId;
use cubesync_protocol::datagram::{Downlink, LOST_ALL, LossMeter, Redundancy, Uplink};
use cubesync_protocol::limits::{DATAGRAM_INTERVAL, MAX_DATAGRAM_BYTES};

use super::Moving;
use crate::datagram::DatagramPath;
use crate::room::log::{SnapshotLog, StreamId};

/// Largest size of a datagram without its snapshots, in bytes.
const MAX_HEADER_BYTES: usize = 24;

/// Number of datagram intervals of silence after which a client counts as unreachable.
const MAX_MISSED: u32 = 3;

/// A connection's way for datagrams, and what is known of it.
#[derive(Debug)]
pub(super) struct Path {
    path: Arc<dyn DatagramPath>,
    tick_hz: u8,
    /// The tick of the newest change of the connection's view, or of the path's opening. Datagrams begin
    /// after it, so that a receiver that can use them has had all keyframes.
    floor: u64,
    /// The number of the next datagram, modulo 256.
    number: u8,
    /// The tick of the newest datagram.
    sent_tick: u64,
    /// The number of ticks in which the newest content is sent once more.
    repeats: u8,
    /// The newest tick of which the stream alone has something.
    left_tick: u64,
    /// The newest tick of which the client knows that nothing is missing, if nothing was lost. It can use no
    /// datagram that begins after a later one.
    complete_tick: u64,
    /// Whether a heartbeat on the stream must complete the tick that is served.
    wants_heartbeat: bool,
    /// Whether the client's first datagram, or its first after a silence, is still to be answered.
    must_answer: bool,
    /// The tick in which a datagram of the client came last.
    heard_tick: Option<u64>,
    /// What the client's datagrams tell of their loss.
    arrived: LossMeter,
    /// The share of this path's datagrams that were lost, by the client's report, in 1/255.
    lost: u8,
}

/// What receivers need to know of a tick that is served.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServedTick<'a> {
    pub(super) tick: u64,
    pub(super) log: &'a SnapshotLog,
    pub(super) moving: Moving,
    /// The interval of heartbeats, and that while nothing moves.
    pub(super) heartbeat_ticks: u64,
    pub(super) rest_ticks: u64,
    /// Longest time for which a stream that waits has nothing.
    pub(super) wait_ticks: u64,
    /// Longest time for which a receiver waits for the streams of its first view.
    pub(super) view_wait_ticks: u64,
}

impl ServedTick<'_> {
    /// Returns the interval of heartbeats for a player where datagrams come through. A client knows how its
    /// own cube moves.
    pub(super) fn heartbeat_ticks_for(&self, own: CubeId) -> u64 {
        match self.moving == Moving::Sole(own) {
            true => self.rest_ticks,
            false => self.heartbeat_ticks,
        }
    }
}

/// What was sent after a tick.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sent {
    /// The length of the datagram, if there was one.
    pub(super) len_bytes: Option<usize>,
    /// Whether datagrams come through and the client needs nothing of the tick from the stream soon.
    pub(super) covers_tick: bool,
}

impl Path {
    /// Creates a path that was opened in a tick.
    pub(super) fn new(path: Arc<dyn DatagramPath>, tick: u64, tick_hz: u8) -> Self {
        Self {
            path,
            tick_hz,
            floor: tick,
            number: 0,
            sent_tick: tick,
            repeats: 0,
            left_tick: tick,
            complete_tick: tick,
            wants_heartbeat: false,
            must_answer: false,
            heard_tick: None,
            arrived: LossMeter::default(),
            lost: 0,
        }
    }

    /// Notes that a datagram of the client has come in a tick.
    pub(super) fn heard(&mut self, uplink: &Uplink, tick: u64) {
        if !self.hears(tick) {
            self.must_answer = true;
            // The numbers of the datagrams may have wrapped around since.
            self.arrived = LossMeter::default();
        }
        self.heard_tick = Some(tick);
        self.arrived.received(uplink.number);
        self.lost = uplink.lost;
    }

    /// Notes that the connection's view has changed at a tick, which a heartbeat makes complete.
    pub(super) fn view_changed(&mut self, tick: u64) {
        self.floor = tick;
        self.left_tick = tick;
        self.complete_tick = tick;
    }

    /// Notes that the client knows that a tick is complete.
    pub(super) fn completed(&mut self, tick: u64) {
        self.complete_tick = self.complete_tick.max(tick);
    }

    /// Returns, once, whether the client can use later datagrams only after a heartbeat of the tick that is
    /// served. A snapshot of that tick completes only the one before, and may come after its datagram.
    pub(super) fn wants_heartbeat(&mut self) -> bool {
        std::mem::take(&mut self.wants_heartbeat)
    }

    /// Returns whether the stream alone has a tick, as far as it is known.
    pub(super) fn has_left(&self, tick: u64) -> bool {
        self.left_tick == tick
    }

    /// Returns whether datagrams come through, in both directions.
    pub(super) fn works(&self, tick: u64) -> bool {
        self.hears(tick) && self.lost < LOST_ALL
    }

    /// Returns whether the client's datagrams come through.
    fn hears(&self, tick: u64) -> bool {
        let silence_s = (MAX_MISSED * DATAGRAM_INTERVAL).as_secs();
        let silence_ticks = silence_s * u64::from(self.tick_hz);
        let heard = self.heard_tick;
        heard.is_some_and(|heard| tick - heard < silence_ticks)
    }

    /// Sends what is due after a tick: the newest ticks when the last one has something new for the
    /// player, who has moved their `own` cube before, a few times again where datagrams are lost, and as
    /// a heartbeat.
    pub(super) fn serve(
        &mut self,
        served: ServedTick<'_>,
        streams: &[StreamId],
        own: CubeId,
    ) -> Sent {
        self.wants_heartbeat = false;
        let len_bytes = self.send_when_due(served, streams, own);
        let is_covered = || len_bytes.is_some() || !served.log.has_news(served.tick, streams, own);
        Sent {
            len_bytes,
            covers_tick: self.works(served.tick)
                && !self.has_left(served.tick)
                && !self.wants_heartbeat
                && is_covered(),
        }
    }

    /// Returns the length of the datagram.
    fn send_when_due(
        &mut self,
        served: ServedTick<'_>,
        streams: &[StreamId],
        own: CubeId,
    ) -> Option<usize> {
        let ServedTick { tick, log, .. } = served;
        if tick <= self.floor || self.heard_tick.is_none() {
            return None;
        }
        let Redundancy { ticks, repeats } = Redundancy::at_loss(self.lost);
        if !self.is_due(served, streams, own, repeats) {
            return None;
        }
        let max_bytes = MAX_DATAGRAM_BYTES - MAX_HEADER_BYTES;
        let window = log.window(streams, own, self.floor, ticks, max_bytes);
        let is_too_long = window.base == tick;
        if is_too_long {
            self.left_tick = tick;
        }
        // The tick before was too long for a datagram, and the stream has not said yet that it is complete.
        self.wants_heartbeat = !is_too_long && window.base > self.complete_tick;
        if is_too_long || self.wants_heartbeat {
            // The tick comes on the stream. A datagram that nobody needs for the room tells the client now and
            // then that datagrams come through.
            if !self.must_answer && tick - self.sent_tick < u64::from(self.tick_hz) {
                return None;
            }
        }
        let lost = match self.hears(tick) {
            true => self.arrived.share(),
            false => LOST_ALL,
        };
        let number = self.number;
        let frames = window.frames.into_iter();
        let datagram = Downlink::assemble((tick, window.base), (number, lost), frames);
        if !self.path.send(&datagram) {
            self.left_tick = tick;
            return None;
        }
        if window.base <= self.complete_tick {
            self.completed(tick);
        }
        self.number = number.wrapping_add(1);
        self.sent_tick = tick;
        self.must_answer = false;
        Some(datagram.len())
    }

    fn is_due(
        &mut self,
        served: ServedTick<'_>,
        streams: &[StreamId],
        own: CubeId,
        repeats: u8,
    ) -> bool {
        let tick = served.tick;
        if !self.works(tick) {
            // Probes, by which a client notices that datagrams come through again.
            return self.must_answer || tick - self.sent_tick >= u64::from(self.tick_hz);
        }
        if served.log.has_news(tick, streams, own) {
            self.repeats = repeats;
            return true;
        }
        if self.repeats > 0 {
            self.repeats -= 1;
            return true;
        }
        self.must_answer || tick - self.sent_tick >= served.heartbeat_ticks_for(own)
    }
}
