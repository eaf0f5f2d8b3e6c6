//! A handle to a room's task, and the events that it sends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use cubesync_protocol::datagram::Uplink;
use cubesync_protocol::{ClientMessage, Colour, CubeId, CubePose, Pose, ResumeToken};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::audience::{MemberId, Outlet, ReceiverId};
use super::membership::{Membership, Observer};
use super::speed::SpeedRule;
use super::summary::RoomSummary;
use super::world::{Cube, RoomFull};
use crate::datagram::OpenedPath;
use crate::ending::{Ending, Problem};
use crate::peer::Peer;

/// Largest number of events that wait for a room. A session that finds no place waits, and its peer
/// with it.
const EVENT_QUEUE: usize = 4_096;

/// A player's request to come into a room.
#[derive(Debug, Clone)]
pub struct Entrance {
    /// The player's name, which is clean.
    pub name: String,
    /// The colour of the player's cube.
    pub colour: Colour,
    /// The limit of the player's speed.
    pub rule: SpeedRule,
    /// The part of the room that the player receives.
    pub sight: SightRule,
    /// The token of the cube that the player wants back.
    pub resume: Option<ResumeToken>,
    /// The pose of the player's cube, by their client.
    pub pose: Option<Pose>,
    /// The destination of the player's frames.
    pub outlet: Outlet,
    /// Cancelled when the room has ended the connection.
    pub ended: CancellationToken,
    /// The other end of the player's connection, if there is one.
    pub peer: Option<Peer>,
}

/// The part of a room that a player receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SightRule {
    /// Everything within the view distance of the player's cubes.
    Surroundings,
    /// The whole room, at every tick.
    Everything,
}

/// A player's place in a room, and their own cube.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entered {
    /// The stay.
    pub id: MemberId,
    /// The player's own cube.
    pub cube: CubeId,
}

/// An event for a room's task.
#[derive(Debug)]
pub enum RoomEvent {
    /// A player wants to come in.
    Enter {
        /// The player, and the destination of their frames.
        entrance: Entrance,
        /// Where the answer goes. The session may have stopped waiting for it.
        reply: oneshot::Sender<Result<Entered, RoomFull>>,
    },
    /// A player's client has sent a message.
    Message {
        /// The player.
        from: MemberId,
        /// The message.
        message: ClientMessage,
    },
    /// A player's connection has ended.
    Leave {
        /// The player.
        from: MemberId,
        /// Why it ended.
        reason: Ending,
    },
    /// A player has asked for a way for datagrams.
    OpenDatagrams {
        /// The player.
        from: MemberId,
        /// `None`: there is none.
        opened: Option<OpenedPath>,
    },
    /// A datagram of a player has come.
    Datagram {
        /// The player.
        from: MemberId,
        /// Its content.
        uplink: Uplink,
    },
    /// A page asks what to say of the room in a line.
    Summary {
        /// Where the answer goes.
        reply: oneshot::Sender<RoomSummary>,
    },
    /// A test asks for the room as it is now.
    View {
        /// Where the answer goes.
        reply: oneshot::Sender<RoomView>,
    },
    /// The operator asks who is in the room.
    Players {
        /// Where the answer goes.
        reply: oneshot::Sender<RoomPlayers>,
    },
    /// The operator removes a player.
    Remove {
        /// The player's own cube.
        cube: CubeId,
        /// What the player is told.
        why: Problem,
        /// Receives whether the player was there.
        reply: oneshot::Sender<bool>,
    },
    /// A receiver without a cube comes.
    Observe {
        /// The destination of its frames.
        outlet: Outlet,
        /// Where its id goes.
        reply: oneshot::Sender<ReceiverId>,
    },
    /// A recording has free cubes there that nobody holds.
    Place(Vec<CubePose>),
    /// A receiver without a cube goes.
    EndObserver(ReceiverId),
    /// The room's task is to panic.
    #[cfg(test)]
    Panic,
}

impl RoomEvent {
    /// Returns whether the room may handle the event as late as at the next tick: what players say counts
    /// then anyway, except that a ping wants an answer.
    fn can_wait(&self) -> bool {
        match self {
            Self::Message { message, .. } => !matches!(message, ClientMessage::Ping { .. }),
            event => matches!(event, Self::Datagram { .. }),
        }
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
    /// The part of this server in the room.
    pub role: Role,
}

/// The players in a room, as the operator of a server sees them.
#[derive(Debug, Clone)]
pub struct RoomPlayers {
    /// The room's name.
    pub room: String,
    /// The part of the server in the room.
    pub role: Role,
    /// The players by the id of their own cube.
    pub players: Vec<PlayerSeen>,
}

/// A player in a room.
#[derive(Debug, Clone)]
pub struct PlayerSeen {
    /// The player's own cube.
    pub cube: CubeId,
    /// The name above it.
    pub name: String,
    /// Where the player is connected.
    pub place: PlayerPlace,
}

/// Where a player is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlayerPlace {
    /// To this server.
    Here {
        /// The other end; `None`: a player of a recording.
        peer: Option<Peer>,
        /// When the player connected.
        since: Instant,
    },
    /// To another server that shows the room.
    Elsewhere,
    /// Nowhere: the connection is lost, and the player may come back.
    Nowhere,
}

/// The part of a server in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// It owns the room: without a bus always.
    Owner,
    /// It shows the room of another server.
    Edge {
        /// The owner, by the address of its pages or by its id; empty while it is being looked for.
        owner: String,
    },
    /// It goes on with the room alone, cut off from the owner.
    Island,
}

/// Returned when the room's task has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the room has ended")]
pub struct RoomEnded;

/// A handle to a room's task. Clones are handles to the same room.
#[derive(Debug, Clone)]
pub struct RoomHandle {
    events: mpsc::Sender<RoomEvent>,
    urgent: Arc<Notify>,
    /// Whether the next event is urgent, whatever it is.
    all_urgent: Arc<AtomicBool>,
}

/// The room's end of its handles.
///
/// Samples do not wake the room's task: they count at a tick, and the room takes them then. Waking it
/// for each, from another thread, cost as much CPU time as all of the writing. Only a queue that is half full
/// does, so that nobody can fill it and let others wait.
#[derive(Debug)]
pub(super) struct RoomEvents {
    events: mpsc::Receiver<RoomEvent>,
    urgent: Arc<Notify>,
    /// Whether the next event is urgent, whatever it is.
    all_urgent: Arc<AtomicBool>,
}

impl RoomEvents {
    /// Waits until there is an event that cannot wait for the next tick.
    pub(super) async fn urgent(&self) {
        self.urgent.notified().await;
    }

    /// Makes the next event urgent, whatever it is.
    pub(super) fn wake_for_next(&self) {
        self.all_urgent.store(true, Ordering::SeqCst);
    }

    /// Takes the events that are there now.
    pub(super) fn take(&mut self) -> impl Iterator<Item = RoomEvent> {
        (0..self.events.len()).map_while(|_| self.events.try_recv().ok())
    }

    /// Returns whether there are no events.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Accepts no more events.
    pub(super) fn close(&mut self) {
        self.events.close();
    }
}

impl RoomHandle {
    /// Creates a handle and the room's end of it.
    pub(super) fn new() -> (Self, RoomEvents) {
        let (sender, events) = mpsc::channel(EVENT_QUEUE);
        let urgent = Arc::new(Notify::new());
        let all_urgent = Arc::default();
        let handle = Self {
            events: sender,
            urgent: Arc::clone(&urgent),
            all_urgent: Arc::clone(&all_urgent),
        };
        let events = RoomEvents {
            events,
            urgent,
            all_urgent,
        };
        (handle, events)
    }

    /// Brings a player in. `Welcome`, and keyframes after the next tick, go to the player's outlet.
    ///
    /// # Errors
    /// The outer error: the room has ended, and a new one must be opened. The inner one: it is full.
    pub async fn enter(
        &self,
        entrance: Entrance,
    ) -> Result<Result<Membership, RoomFull>, RoomEnded> {
        let (reply, answer) = oneshot::channel();
        self.send(RoomEvent::Enter { entrance, reply }).await?;
        let entered = answer.await.map_err(|_| RoomEnded)?;
        Ok(entered.map(|entered| Membership::new(self.clone(), entered)))
    }

    /// Sends an event without waiting, for a `Drop`.
    pub(super) fn send_later(&self, event: RoomEvent) {
        match self.events.try_send(event) {
            Ok(()) => self.urgent.notify_one(),
            Err(TrySendError::Full(event)) => {
                // Without a runtime the room has ended as well.
                if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                    let handle = self.clone();
                    runtime.spawn(async move { handle.send(event).await });
                }
            }
            // The room has ended, and its receivers with it.
            Err(TrySendError::Closed(_)) => {}
        }
    }

    /// Sends a player's datagram, unless events wait that must not be lost. The room takes it at the next
    /// tick. Returns whether it was sent.
    pub(super) fn deliver(&self, from: MemberId, uplink: Uplink) -> bool {
        let event = RoomEvent::Datagram { from, uplink };
        let is_sent =
            self.events.capacity() > EVENT_QUEUE / 4 && self.events.try_send(event).is_ok();
        self.wake_if_needed();
        is_sent
    }

    /// Makes the room's task panic.
    #[cfg(test)]
    pub(crate) async fn panic(&self) {
        self.send(RoomEvent::Panic)
            .await
            .expect("the room is there");
    }

    /// Returns what pages say of the room in a line.
    ///
    /// # Errors
    /// The room has ended.
    pub async fn summary(&self) -> Result<RoomSummary, RoomEnded> {
        let (reply, answer) = oneshot::channel();
        self.send(RoomEvent::Summary { reply }).await?;
        answer.await.map_err(|_| RoomEnded)
    }

    /// Returns the room's truth as it is now, as far as this server knows it.
    ///
    /// # Errors
    /// The room has ended.
    pub async fn view(&self) -> Result<RoomView, RoomEnded> {
        let (reply, answer) = oneshot::channel();
        self.send(RoomEvent::View { reply }).await?;
        answer.await.map_err(|_| RoomEnded)
    }

    /// Returns the players in the room, as far as this server knows them.
    ///
    /// # Errors
    /// The room has ended.
    pub async fn players(&self) -> Result<RoomPlayers, RoomEnded> {
        let (reply, answer) = oneshot::channel();
        self.send(RoomEvent::Players { reply }).await?;
        answer.await.map_err(|_| RoomEnded)
    }

    /// Removes a player, who is told why and cannot come back to their cube. False where the room has no
    /// such player, or where this server shows the room of another one and the player is not here.
    ///
    /// # Errors
    /// The room has ended.
    pub async fn remove(&self, cube: CubeId, why: Problem) -> Result<bool, RoomEnded> {
        let (reply, answer) = oneshot::channel();
        self.send(RoomEvent::Remove { cube, why, reply }).await?;
        answer.await.map_err(|_| RoomEnded)
    }

    /// Adds a receiver of everything in the room at every tick. It gets a `Welcome` that names the free
    /// cube as its own, then what players get. It is never cut for being slow, but gets keyframes.
    ///
    /// # Errors
    /// The room has ended.
    pub async fn observe(&self, outlet: Outlet) -> Result<Observer, RoomEnded> {
        let (reply, answer) = oneshot::channel();
        self.send(RoomEvent::Observe { outlet, reply }).await?;
        let id = answer.await.map_err(|_| RoomEnded)?;
        Ok(Observer::new(self.clone(), id))
    }

    /// Puts free cubes somewhere at the next tick, unless somebody holds them.
    ///
    /// # Errors
    /// The room has ended.
    pub async fn place(&self, cubes: Vec<CubePose>) -> Result<(), RoomEnded> {
        self.send_unhurried(RoomEvent::Place(cubes)).await
    }

    /// Sends an event, and waits while the queue is full.
    ///
    /// # Errors
    /// The room has ended.
    pub(super) async fn send(&self, event: RoomEvent) -> Result<(), RoomEnded> {
        let can_wait = event.can_wait();
        self.send_event(event, can_wait).await
    }

    /// Sends an event that the room may handle as late as at the next tick.
    ///
    /// # Errors
    /// The room has ended.
    pub(super) async fn send_unhurried(&self, event: RoomEvent) -> Result<(), RoomEnded> {
        self.send_event(event, true).await
    }

    async fn send_event(&self, event: RoomEvent, can_wait: bool) -> Result<(), RoomEnded> {
        match self.events.try_send(event) {
            Ok(()) if can_wait => {
                self.wake_if_needed();
                return Ok(());
            }
            Ok(()) => {}
            Err(TrySendError::Closed(_)) => return Err(RoomEnded),
            Err(TrySendError::Full(event)) => {
                self.urgent.notify_one();
                self.events.send(event).await.map_err(|_| RoomEnded)?;
            }
        }
        self.urgent.notify_one();
        Ok(())
    }

    fn wake_if_needed(&self) {
        if self.events.capacity() < EVENT_QUEUE / 2 {
            self.urgent.notify_one();
        }
        // Hardly ever true: a look costs less than a swap.
        if self.all_urgent.load(Ordering::SeqCst) && self.all_urgent.swap(false, Ordering::SeqCst) {
            self.urgent.notify_one();
        }
    }
}
