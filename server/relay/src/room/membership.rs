//! Guards that a task holds while a player or an observer is in a room.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use cubesync_protocol::{ClientMessage, CubeId};

use super::answers::PROMPT_PONG_INTERVAL;
use super::audience::ReceiverId;
use super::clock;
use super::handle::{Entered, RoomEnded, RoomEvent, RoomHandle};
use crate::datagram::{DatagramInbox, OpenedPath};
use crate::ending::{Ending, Problem};

/// A player's place in a room. A session that drops it without [ending](Self::end) it has panicked.
#[derive(Debug)]
pub struct Membership {
    room: RoomHandle,
    entered: Entered,
    is_over: bool,
    since: Instant,
    /// The milliseconds since then after which a ping may wake the room's task again.
    wakes_from_ms: AtomicU64,
}

/// The place of a receiver without a cube, which gets everything in the room at every tick. The room
/// removes the receiver when this is dropped. It does not keep a room without players open.
#[derive(Debug)]
pub struct Observer {
    room: RoomHandle,
    id: ReceiverId,
}

impl Membership {
    pub(super) fn new(room: RoomHandle, entered: Entered) -> Self {
        Self {
            room,
            entered,
            is_over: false,
            since: clock::now(),
            wakes_from_ms: AtomicU64::new(0),
        }
    }

    /// Returns the player's own cube, as of when they came in.
    pub fn cube(&self) -> CubeId {
        self.entered.cube
    }

    /// Passes a message of the player's client on to the room.
    ///
    /// # Errors
    /// The room has ended.
    pub async fn message(&self, message: ClientMessage) -> Result<(), RoomEnded> {
        let from = self.entered.id;
        let is_ping = matches!(message, ClientMessage::Ping { .. });
        let event = RoomEvent::Message { from, message };
        match is_ping && !self.may_wake() {
            true => self.room.send_unhurried(event).await,
            false => self.room.send(event).await,
        }
    }

    /// Returns whether a ping may wake the room's task now: a player gets no pong at once more often.
    fn may_wake(&self) -> bool {
        let since = clock::now().saturating_duration_since(self.since);
        let now_ms = since.as_millis() as u64;
        // One task sends a player's messages.
        let may_wake = now_ms >= self.wakes_from_ms.load(Ordering::Relaxed);
        if may_wake {
            let next_ms = now_ms + PROMPT_PONG_INTERVAL.as_millis() as u64;
            self.wakes_from_ms.store(next_ms, Ordering::Relaxed);
        }
        may_wake
    }

    /// Returns an inbox for datagrams of the player.
    pub fn inbox(&self) -> DatagramInbox {
        let (room, from) = (self.room.clone(), self.entered.id);
        DatagramInbox::new(move |uplink| room.deliver(from, uplink))
    }

    /// Answers the player's request for a way for datagrams, and uses it from now on.
    ///
    /// # Errors
    /// The room has ended.
    pub async fn open_datagrams(&self, opened: Option<OpenedPath>) -> Result<(), RoomEnded> {
        let from = self.entered.id;
        let event = RoomEvent::OpenDatagrams { from, opened };
        self.room.send(event).await
    }

    /// Lets the room remove the player, as the operator wishes, and tell them why.
    pub async fn remove(&self, why: Problem) {
        // A room that has ended has no players.
        let _ = self.room.remove(self.entered.cube, why).await;
    }

    /// Takes the player out of the room, which sends the peer the reason if it can. `reason` is `None`
    /// when the room has ended the connection itself.
    pub async fn end(mut self, reason: Option<Ending>) {
        self.is_over = true;
        if let Some(reason) = reason {
            let from = self.entered.id;
            // A room that has ended has sent its peers the reason already.
            let _ = self.room.send(RoomEvent::Leave { from, reason }).await;
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        if !self.is_over {
            self.room.send_later(RoomEvent::Leave {
                from: self.entered.id,
                reason: Ending::Panicked,
            });
        }
    }
}

impl Observer {
    pub(super) fn new(room: RoomHandle, id: ReceiverId) -> Self {
        Self { room, id }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.room.send_later(RoomEvent::EndObserver(self.id));
    }
}
