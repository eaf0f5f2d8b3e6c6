//! The audience of a room: cursors that write the log to sockets.
//!
//! A [`Source`] fills the log, and gives the audience what the log does not have, keyframes above all.

mod connection;
mod held;
mod path;
mod queue;
mod receiver;
#[cfg(test)]
mod tests;
mod viewers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cubesync_protocol::cells::{Grid, Sight, View};
use cubesync_protocol::datagram::Uplink;
use cubesync_protocol::limits::{
    FAR_INTERVAL_TICKS, HEARTBEAT_INTERVAL, MOVING_HEARTBEAT_INTERVAL,
};
use cubesync_protocol::{CellId, CubeId, Message, Position, ServerMessage};

use self::connection::Flushed;
pub use self::connection::{Outlet, Written};
use self::held::HeldKeyframes;
use self::path::ServedTick;
pub use self::queue::{FrameQueue, Outgoing, QueuedFrames, queue};
pub use self::receiver::Receiver;
use self::viewers::Viewers;
use super::log::SnapshotLog;
use crate::datagram::DatagramPath;
use crate::ending::Ending;

/// Longest time for which the stream waits with what datagrams have brought, so that one packet has it and
/// one acknowledgement answers. It is far less than the log holds.
const STREAM_WAITS: Duration = Duration::from_millis(200);

/// Longest time for which a receiver that needs all keyframes waits until the source has them all.
const VIEW_WAITS: Duration = Duration::from_secs(1);

/// The publisher of an audience's log.
pub trait Source {
    /// Returns which cubes the receivers' predictions move, or have just moved.
    fn moving(&self) -> Moving;

    /// Asks for a stream that a receiver is to see, and returns whether it is there. If not, the receiver's
    /// view leaves it out, and is chosen again at the next tick at which views may change.
    fn provide(&mut self, _: CellId, _: Sight) -> bool {
        true
    }

    /// Begins the stream of a cell that a receiver sees from now on. It is called right after a tick at
    /// which all streams bring their cells up to date.
    fn open(&mut self, cell: CellId, sight: Sight);

    /// Ends a stream that no receiver sees any more.
    fn close(&mut self, cell: CellId, sight: Sight);

    /// Returns the keyframe of an open stream as of the last tick. It is called right after a tick at
    /// which all streams bring their cells up to date.
    fn keyframe(&mut self, cell: CellId, sight: Sight) -> Bytes;

    /// Returns where a player looks from: their own cube, and those they hold.
    fn viewpoints(&self, player: CubeId) -> impl Iterator<Item = Position>;
}

/// The cubes that move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moving {
    /// None.
    Nobody,
    /// This one alone.
    Sole(CubeId),
    /// Several.
    Several,
}

/// One stay of a player in a room. A player who comes back has another id, so that messages that the
/// old connection still had in the queue do not count as the new one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

/// A receiver's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReceiverId {
    /// A player.
    Player(MemberId),
    /// A receiver without a cube, by a number.
    Observer(u64),
}

impl Written {
    /// Returns what counts as sent to clients: what players got. Observers are part of the server.
    fn of(self, receiver: ReceiverId) -> Self {
        match receiver {
            ReceiverId::Player(_) => self,
            ReceiverId::Observer(_) => Self::default(),
        }
    }
}

/// Counts of datagrams that were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SentDatagrams {
    /// The number of datagrams.
    pub count: u64,
    /// Their bytes, before encryption.
    pub bytes: u64,
}

/// All receivers of a room's log.
#[derive(Debug)]
pub struct Audience {
    tick_hz: u8,
    receivers: BTreeMap<ReceiverId, Receiver>,
    viewers: Viewers,
    held: HeldKeyframes,
    written: Written,
    sent: SentDatagrams,
}

impl Audience {
    /// Creates an audience without receivers.
    pub fn new(grid: Grid, tick_hz: u8) -> Self {
        Self {
            tick_hz,
            receivers: BTreeMap::new(),
            viewers: Viewers::new(grid),
            held: HeldKeyframes::default(),
            written: Written::default(),
            sent: SentDatagrams::default(),
        }
    }

    /// Returns whether there are no receivers.
    pub fn is_empty(&self) -> bool {
        self.receivers.is_empty()
    }

    /// Gives memory back while there are no receivers.
    pub(super) fn rest(&mut self) {
        self.held.clear();
    }

    /// Returns the ids of all receivers.
    pub fn ids(&self) -> Vec<ReceiverId> {
        self.receivers.keys().copied().collect()
    }

    /// Adds a receiver, which gets keyframes of what it sees after the next tick.
    pub fn add(&mut self, id: ReceiverId, receiver: Receiver) {
        self.receivers.insert(id, receiver);
    }

    /// Ends a receiver's connection.
    pub fn remove(&mut self, id: ReceiverId, reason: Ending, source: &mut impl Source) {
        if let Some(receiver) = self.receivers.remove(&id) {
            receiver.end(reason);
            self.viewers.leave(receiver.connection.view(), source);
        }
    }

    /// Ends the connection of a receiver of a room that is over.
    pub(super) fn end(&mut self, id: ReceiverId, reason: Ending) {
        if let Some(receiver) = self.receivers.remove(&id) {
            receiver.end(reason);
        }
    }

    /// Writes nothing more of the log to players until each is [restarted](Self::restart).
    pub(super) fn suspend_players(&mut self) {
        for (id, receiver) in &mut self.receivers {
            if let ReceiverId::Player(_) = id {
                receiver.is_suspended = true;
                receiver.connection.restart();
            }
        }
    }

    /// Sends a receiver keyframes of everything that it sees, with `own` as its player's cube.
    pub(super) fn restart(&mut self, id: ReceiverId, own: Option<CubeId>) {
        if let Some(receiver) = self.receivers.get_mut(&id) {
            receiver.own = own;
            receiver.is_suspended = false;
            receiver.connection.restart();
        }
    }

    /// Sends keyframes of everything that they see to the receivers of a stream that the source has lost.
    pub(super) fn restart_seeing(&mut self, cell: CellId, sight: Sight) {
        for receiver in self.receivers.values_mut() {
            if receiver
                .connection
                .view()
                .binary_search(&(cell, sight))
                .is_ok()
            {
                receiver.connection.restart();
            }
        }
    }

    /// Begins all streams that receivers see, at another source.
    pub(super) fn open_streams(&self, source: &mut impl Source) {
        for (cell, sight) in self.viewers.seen() {
            source.open(cell, sight);
        }
    }

    /// Counts a receiver outside of the audience that sees the streams of a view from now on, which is
    /// right after a tick at which views [may change](Self::may_change_views).
    pub(super) fn enter(&mut self, view: &View, source: &mut impl Source) {
        self.viewers.enter(view, source);
    }

    /// Stops counting a receiver outside of the audience.
    pub(super) fn leave(&mut self, view: &View, source: &mut impl Source) {
        self.viewers.leave(view, source);
    }

    /// Sends datagrams on a path to a receiver from the next tick on. `tick` is that of now.
    pub fn open_path(&mut self, id: ReceiverId, path: Arc<dyn DatagramPath>, tick: u64) {
        if let Some(receiver) = self.receivers.get_mut(&id) {
            receiver.connection.open_path(path, tick, self.tick_hz);
        }
    }

    /// Notes that a datagram of a receiver has come in a tick.
    pub fn heard(&mut self, id: ReceiverId, uplink: &Uplink, tick: u64) {
        if let Some(receiver) = self.receivers.get_mut(&id) {
            receiver.connection.heard(uplink, tick);
        }
    }

    /// Returns the streams that receivers see.
    pub fn seen(&self) -> impl Iterator<Item = (CellId, Sight)> {
        self.viewers.seen()
    }

    /// Sends a message to one receiver, at once where its outlet takes it. A broken connection is
    /// noticed when the next tick is [served](Self::serve).
    pub fn send(
        &mut self,
        id: ReceiverId,
        message: &ServerMessage,
        log: &SnapshotLog,
        now: Instant,
    ) {
        let Some(receiver) = self.receivers.get_mut(&id) else {
            return;
        };
        receiver.connection.push_personal(message);
        // An error comes again at the next tick, which removes the receiver.
        let _ = receiver.connection.flush(log, now);
        self.written += receiver.connection.take_written().of(id);
    }

    /// Sends a message to one receiver when the next tick is [served](Self::serve).
    pub(super) fn send_with_tick(&mut self, id: ReceiverId, message: &ServerMessage) {
        if let Some(receiver) = self.receivers.get_mut(&id) {
            receiver.connection.push_personal(message);
        }
    }

    /// Writes the log to all receivers after a tick, and keyframes to those that are new, have fallen
    /// behind or see other cells than before. Returns the receivers to remove, with the reason.
    pub fn serve(
        &mut self,
        tick: u64,
        log: &SnapshotLog,
        source: &mut impl Source,
        now: Instant,
    ) -> Vec<(ReceiverId, Ending)> {
        let heartbeat = ServerMessage::Heartbeat { tick }.to_frame();
        let moving = source.moving();
        let heartbeat_ticks = self.heartbeat_ticks(moving != Moving::Nobody);
        let rest_ticks = self.ticks_in(HEARTBEAT_INTERVAL);
        let may_change_views = self.may_change_views(tick);
        let served = ServedTick {
            tick,
            log,
            moving,
            heartbeat_ticks,
            rest_ticks,
            wait_ticks: self.ticks_in(STREAM_WAITS),
            view_wait_ticks: self.ticks_in(VIEW_WAITS),
        };
        self.held.begin_turn();
        let mut over = Vec::new();
        for (&id, receiver) in &mut self.receivers {
            if receiver.is_suspended {
                let flushed = receiver.connection.flush_tick(log, tick, now);
                let ending = receiver.end_after(flushed, &self.held, now);
                over.extend(ending.map(|reason| (id, reason)));
                continue;
            }
            let needs_all = may_change_views && receiver.connection.needs_keyframes(log);
            if needs_all && self.held.may_begin() {
                receiver.choose_view(served, source, &mut self.viewers, &mut self.held);
            }
            // What it has missed of the cells that it sees would be skipped with another view.
            let may_move = may_change_views && !receiver.connection.has_fallen_behind(log);
            let has_moved = may_move && receiver.has_moved(source, self.viewers.grid());
            let connection = &mut receiver.connection;
            // A tick at which the view may change has no datagram.
            let is_steady = !has_moved && connection.is_flowing(log);
            let own = receiver.own;
            let mut sent = is_steady.then(|| connection.serve_datagram(served, own));
            let mut flushed = Ok(Flushed::All);
            if !(sent.is_some_and(|sent| sent.covers_tick) && connection.may_wait(served)) {
                flushed = connection.flush_tick(log, tick, now);
                if matches!(flushed, Ok(Flushed::All)) {
                    // What waited for it alone may have gone only now.
                    let needs_all =
                        !needs_all && may_change_views && connection.needs_keyframes(log);
                    if has_moved || needs_all && self.held.may_begin() {
                        receiver.choose_view(served, source, &mut self.viewers, &mut self.held);
                    }
                    let connection = &mut receiver.connection;
                    // Datagrams are heartbeats too, but each of them may be lost.
                    let interval_ticks = match own {
                        Some(own) if connection.datagrams_work(tick) => {
                            served.heartbeat_ticks_for(own)
                        }
                        _ => heartbeat_ticks,
                    };
                    connection.keep_alive(log, tick, interval_ticks, &heartbeat);
                    if !connection.is_up_to_date(log) {
                        flushed = connection.flush(log, now);
                    }
                }
            }
            let connection = &mut receiver.connection;
            let sent = sent.get_or_insert_with(|| connection.serve_datagram(served, own));
            self.sent.count += u64::from(sent.len_bytes.is_some());
            self.sent.bytes += sent.len_bytes.unwrap_or_default() as u64;
            let ending = receiver.end_after(flushed, &self.held, now);
            over.extend(ending.map(|reason| (id, reason)));
            self.written += receiver.connection.take_written().of(id);
        }
        over
    }

    /// Writes the remaining bytes before the room ends. Returns the receivers that have taken theirs.
    pub fn drain(&mut self, log: &SnapshotLog, now: Instant) -> Vec<ReceiverId> {
        let mut done = Vec::new();
        for (&id, receiver) in &mut self.receivers {
            if receiver.connection.flush(log, now).ok() != Some(Flushed::Blocked) {
                done.push(id);
            }
        }
        done
    }

    /// Takes the counts of what was written to players since the last call.
    pub fn take_written(&mut self) -> Written {
        std::mem::take(&mut self.written)
    }

    /// Returns whether views may change right after a tick: all streams bring their cells up to date at
    /// that tick.
    pub fn may_change_views(&self, tick: u64) -> bool {
        self.viewers.grid() == Grid::WHOLE || tick.is_multiple_of(FAR_INTERVAL_TICKS.into())
    }

    /// Takes the counts of the datagrams that were sent since the last call.
    pub fn take_sent(&mut self) -> SentDatagrams {
        std::mem::take(&mut self.sent)
    }

    fn heartbeat_ticks(&self, is_moving: bool) -> u64 {
        self.ticks_in(if is_moving {
            MOVING_HEARTBEAT_INTERVAL
        } else {
            HEARTBEAT_INTERVAL
        })
    }

    fn ticks_in(&self, interval: Duration) -> u64 {
        let ticks = interval.as_millis() as u64 * u64::from(self.tick_hz);
        ticks.div_ceil(1_000).max(1)
    }

    /// Returns whether a receiver has been sent everything up to the log's end.
    pub fn is_up_to_date(&self, id: ReceiverId, log: &SnapshotLog) -> bool {
        let receiver = self.receivers.get(&id);
        receiver.is_some_and(|receiver| receiver.connection.is_up_to_date(log))
    }
}
