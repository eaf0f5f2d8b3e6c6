//! What can be said to a room's task, from any other task.

use std::sync::Arc;

use cubesync_protocol::{ClientMessage, Colour, CubeId, Pose, ResumeToken};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::audience::{Outlet, ReceiverId};
use super::membership::{MemberId, Membership, Observer};
use super::speed::SpeedRule;
use super::world::{Cube, RoomFull};
use crate::ending::Ending;

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
    /// Where they say that their cube was.
    pub pose: Option<Pose>,
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
        reply: oneshot::Sender<Result<MemberId, RoomFull>>,
    },
    Message {
        from: MemberId,
        message: ClientMessage,
    },
    Leave {
        from: MemberId,
        reason: Ending,
    },
    View {
        reply: oneshot::Sender<RoomView>,
    },
    Observe {
        outlet: Outlet,
        reply: oneshot::Sender<ReceiverId>,
    },
    EndObserver(ReceiverId),
    #[cfg(test)]
    Panic,
}

impl RoomEvent {
    /// Whether the next tick is early enough.
    fn can_wait(&self) -> bool {
        matches!(
            self,
            Self::Message {
                message: ClientMessage::Sample { .. },
                ..
            }
        )
    }
}

/// The truth of a room at one moment.
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
    /// Those of them that this server owns: without a bus all.
    pub owned: Vec<CubeId>,
}

/// The room's task is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the room has ended")]
pub struct RoomEnded;

/// A way to talk to a room's task.
#[derive(Debug, Clone)]
pub struct RoomHandle {
    events: mpsc::Sender<RoomEvent>,
    bell: Arc<Notify>,
}

/// Where a room hears what is said to it.
///
/// Samples ring no bell: they count at a tick, and the room looks for them then. To wake it for
/// each, from another thread, cost as much as all of the writing.
#[derive(Debug)]
pub(super) struct RoomEvents {
    events: mpsc::Receiver<RoomEvent>,
    bell: Arc<Notify>,
}

impl RoomEvents {
    /// Waits until there is something that cannot wait for the next tick.
    pub(super) async fn bell(&self) {
        self.bell.notified().await;
    }

    /// The events that are there now.
    pub(super) fn take(&mut self) -> impl Iterator<Item = RoomEvent> {
        (0..self.events.len()).map_while(|_| self.events.try_recv().ok())
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Hears no more.
    pub(super) fn close(&mut self) {
        self.events.close();
    }
}

impl RoomHandle {
    /// A handle, and where the room hears what is said through it.
    pub(super) fn new() -> (Self, RoomEvents) {
        let (sender, events) = mpsc::channel(EVENT_QUEUE);
        let bell = Arc::new(Notify::new());
        let handle = Self {
            events: sender,
            bell: Arc::clone(&bell),
        };
        (handle, RoomEvents { events, bell })
    }

    /// Brings a player in; `Welcome` and a keyframe then go to their outlet.
    ///
    /// # Errors
    /// Outside: the room has ended, ask for a new one. Inside: it is full.
    pub async fn enter(
        &self,
        entrance: Entrance,
    ) -> Result<Result<Membership, RoomFull>, RoomEnded> {
        let (reply, answer) = oneshot::channel();
        self.send(RoomEvent::Enter { entrance, reply }).await?;
        let entered = answer.await.map_err(|_| RoomEnded)?;
        Ok(entered.map(|id| Membership::new(self.clone(), id)))
    }

    /// Sends an event without waiting, from wherever something is dropped.
    pub(super) fn send_later(&self, event: RoomEvent) {
        match self.events.try_send(event) {
            Ok(()) => self.bell.notify_one(),
            Err(TrySendError::Full(event)) => {
                // Without a runtime the room has ended as well.
                if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                    let handle = self.clone();
                    runtime.spawn(async move { handle.send(event).await });
                }
            }
            // With the room its receivers have ended.
            Err(TrySendError::Closed(_)) => {}
        }
    }

    /// Makes the room's task panic.
    #[cfg(test)]
    pub(crate) async fn panic(&self) {
        self.send(RoomEvent::Panic)
            .await
            .expect("the room is there");
    }

    /// Returns the room's truth as it is now: all cubes of this server, and those of other servers that
    /// somebody here sees.
    ///
    /// # Errors
    /// The room has ended.
    pub async fn view(&self) -> Result<RoomView, RoomEnded> {
        let (reply, answer) = oneshot::channel();
        self.send(RoomEvent::View { reply }).await?;
        answer.await.map_err(|_| RoomEnded)
    }

    /// Sends an outlet everything, at every tick: a `Welcome`, in which the free cube stands for the own
    /// one, then what players get. However slow it is, it is not cut, but goes on with keyframes.
    ///
    /// # Errors
    /// The room has ended.
    pub async fn observe(&self, outlet: Outlet) -> Result<Observer, RoomEnded> {
        let (reply, answer) = oneshot::channel();
        self.send(RoomEvent::Observe { outlet, reply }).await?;
        let id = answer.await.map_err(|_| RoomEnded)?;
        Ok(Observer::new(self.clone(), id))
    }

    pub(super) async fn send(&self, event: RoomEvent) -> Result<(), RoomEnded> {
        let can_wait = event.can_wait();
        match self.events.try_send(event) {
            Ok(()) if can_wait => return Ok(()),
            Ok(()) => {}
            Err(TrySendError::Closed(_)) => return Err(RoomEnded),
            Err(TrySendError::Full(event)) => {
                self.bell.notify_one();
                self.events.send(event).await.map_err(|_| RoomEnded)?;
            }
        }
        self.bell.notify_one();
        Ok(())
    }
}
