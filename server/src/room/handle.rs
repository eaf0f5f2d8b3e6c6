//! What can be said to a room's task, from any other task.

use cubesync_protocol::{ClientMessage, Colour, CubeId, ResumeToken};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::fanout::Outlet;
use super::uplink::SpeedRule;
use super::world::{Cube, RoomFull};
use crate::metrics::Disconnect;

/// Events a room has waiting at most; a session that finds no place waits, and its peer with it.
const EVENT_QUEUE: usize = 4_096;

/// A player who asks to come in.
#[derive(Debug, Clone)]
pub struct Entrance {
    /// The clean name.
    pub name: String,
    /// The colour of their cube.
    pub colour: Colour,
    /// How fast they may move.
    pub rule: SpeedRule,
    /// What they are told of.
    pub sight: SightRule,
    /// What they show to get their cube back.
    pub resume: Option<ResumeToken>,
    /// Where their frames go.
    pub outlet: Outlet,
    /// Cancelled when the room has ended the connection.
    pub ended: CancellationToken,
}

/// What a player is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SightRule {
    /// What is within the view distance of their cubes.
    Surroundings,
    /// The whole room, at every tick.
    Everything,
}

/// What a room is told.
#[derive(Debug)]
pub(super) enum RoomEvent {
    Enter {
        entrance: Entrance,
        reply: oneshot::Sender<Result<CubeId, RoomFull>>,
    },
    Message {
        from: CubeId,
        message: ClientMessage,
    },
    Leave {
        from: CubeId,
        reason: Disconnect,
    },
    View {
        reply: oneshot::Sender<RoomView>,
    },
}

/// A room as a person may look at it.
#[derive(Debug, Clone)]
pub struct RoomView {
    /// The room's name.
    pub name: String,
    /// The tick the room is in.
    pub tick: u64,
    /// Ticks per second.
    pub tick_hz: u8,
    /// Every cube by rising id.
    pub cubes: Vec<Cube>,
}

/// The room's task is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the room has ended")]
pub struct RoomEnded;

/// A way to talk to a room's task.
#[derive(Debug, Clone)]
pub struct RoomHandle {
    events: mpsc::Sender<RoomEvent>,
}

impl RoomHandle {
    /// A handle, and where the room hears what is said through it.
    pub(super) fn new() -> (Self, mpsc::Receiver<RoomEvent>) {
        let (events, receiver) = mpsc::channel(EVENT_QUEUE);
        (Self { events }, receiver)
    }

    /// Brings a player in; `Welcome` and a keyframe then go to their outlet.
    ///
    /// # Errors
    /// Outside: the room has ended, ask for a new one. Inside: it is full.
    pub async fn enter(&self, entrance: Entrance) -> Result<Result<CubeId, RoomFull>, RoomEnded> {
        let (reply, answer) = oneshot::channel();
        self.send(RoomEvent::Enter { entrance, reply }).await?;
        answer.await.map_err(|_| RoomEnded)
    }

    /// Passes on what a player said.
    ///
    /// # Errors
    /// The room has ended.
    pub async fn message(&self, from: CubeId, message: ClientMessage) -> Result<(), RoomEnded> {
        self.send(RoomEvent::Message { from, message }).await
    }

    /// Takes a player out. Where the peer can still be told, it is told the reason.
    ///
    /// # Errors
    /// The room has ended.
    pub async fn leave(&self, from: CubeId, reason: Disconnect) -> Result<(), RoomEnded> {
        self.send(RoomEvent::Leave { from, reason }).await
    }

    /// The room as it is now.
    ///
    /// # Errors
    /// The room has ended.
    pub async fn view(&self) -> Result<RoomView, RoomEnded> {
        let (reply, answer) = oneshot::channel();
        self.send(RoomEvent::View { reply }).await?;
        answer.await.map_err(|_| RoomEnded)
    }

    async fn send(&self, event: RoomEvent) -> Result<(), RoomEnded> {
        self.events.send(event).await.map_err(|_| RoomEnded)
    }
}
