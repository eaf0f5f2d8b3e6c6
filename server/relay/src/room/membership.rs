//! Guards that a task holds while a player or an observer is in a room.

use cubesync_protocol::{ClientMessage, CubeId};

use super::audience::ReceiverId;
use super::handle::{RoomEnded, RoomEvent, RoomHandle};
use crate::datagram::{DatagramInbox, OpenedPath};
use crate::ending::Ending;

/// One stay of a player in a room. A player who comes back to the same cube has another id, so that
/// messages that the old connection still had in the queue do not count as the new one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MemberId {
    /// The player's own cube.
    pub(super) cube: CubeId,
    /// The number of the stay, which no other stay in the room has.
    pub(super) stay: u64,
}

/// A player's place in a room. A session that drops it without [ending](Self::end) it has panicked.
#[derive(Debug)]
pub struct Membership {
    room: RoomHandle,
    id: MemberId,
    is_over: bool,
}

/// The place of a receiver without a cube, which gets everything in the room at every tick. The room
/// removes the receiver when this is dropped. It does not keep a room without players open.
#[derive(Debug)]
pub struct Observer {
    room: RoomHandle,
    id: ReceiverId,
}

impl Membership {
    pub(super) fn new(room: RoomHandle, id: MemberId) -> Self {
        Self {
            room,
            id,
            is_over: false,
        }
    }

    /// Returns the player's own cube.
    pub fn cube(&self) -> CubeId {
        self.id.cube
    }

    /// Passes a message of the player's client on to the room.
    ///
    /// # Errors
    /// The room has ended.
    pub async fn message(&self, message: ClientMessage) -> Result<(), RoomEnded> {
        let from = self.id;
        self.room.send(RoomEvent::Message { from, message }).await
    }

    /// Returns an inbox for datagrams of the player.
    pub fn inbox(&self) -> DatagramInbox {
        let (room, from) = (self.room.clone(), self.id);
        DatagramInbox::new(move |uplink| room.deliver(from, uplink))
    }

    /// Answers the player's request for a way for datagrams, and uses it from now on.
    ///
    /// # Errors
    /// The room has ended.
    pub async fn open_datagrams(&self, opened: Option<OpenedPath>) -> Result<(), RoomEnded> {
        let from = self.id;
        let event = RoomEvent::OpenDatagrams { from, opened };
        self.room.send(event).await
    }

    /// Takes the player out of the room, which sends the peer the reason if it can. `reason` is `None`
    /// when the room has ended the connection itself.
    pub async fn end(mut self, reason: Option<Ending>) {
        self.is_over = true;
        if let Some(reason) = reason {
            let from = self.id;
            // A room that has ended has sent its peers the reason already.
            let _ = self.room.send(RoomEvent::Leave { from, reason }).await;
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        if !self.is_over {
            self.room.send_later(RoomEvent::Leave {
                from: self.id,
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
