//! One conversation with a server, without a socket and without a clock.
//!
//! Bytes and the time go in, bytes and events come out, as in quinn-proto: the native client,
//! the bots, the tests and any other transport drive the same session. Per poll: append what
//! was read to a buffer, [`receive`](Session::receive) it, [`poll`](Session::poll), take the
//! events, and write the [`outgoing`](Session::outgoing) bytes.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;
use cubesync_protocol::limits::{DEAD_AFTER, PING_INTERVAL, TICK_HZ_RANGE};
use cubesync_protocol::{
    ClientMessage, CubeId, CubePose, DecodeError, FrameError, Hello, Message, Pose, ServerMessage,
    Welcome, frame,
};

use crate::clock::Clock;
use crate::sample::Controlled;
use crate::world::{World, WorldChange, WorldError};

/// How long a server may take to answer the hello and to send the first keyframe.
const JOIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Pings right after the join, to know the clock soon, and the time between them.
const FIRST_PINGS: u32 = 5;
const FIRST_PING_INTERVAL: Duration = Duration::from_millis(200);
/// When in a tick a sample should reach the server, as a part of the tick. Early enough that a little
/// jitter does not carry it into the next tick, which would leave this one without.
const SAMPLE_PHASE: f64 = 0.25;
/// With more bytes than this unsent, samples wait: the newest pose goes out when there is room.
const BACKLOG_BYTES: usize = 1024;
/// With more bytes than this unsent, the connection is as good as dead.
const MAX_OUTGOING_BYTES: usize = 64 * 1024;

/// What came of a session, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEvent {
    /// The server's welcome and first keyframe are there: [`Session::world`] is complete.
    Joined(Welcome),
    /// Something changed in the room.
    World(WorldChange),
    /// The server put one of this client's cubes somewhere else.
    Corrected(CubePose),
    /// A take came too late.
    Refused {
        /// The cube that was asked for.
        cube: CubeId,
        /// Who holds it, if it is held.
        holder: Option<CubeId>,
    },
    /// The session is over; nothing follows.
    Ended {
        /// Why, for a person.
        reason: String,
        /// Whether to try again.
        retry: Retry,
    },
}

/// What to do after a session's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Try again after a wait of the client's choice.
    Backoff,
    /// Try again after the time the server asked for.
    After(Duration),
    /// The same would happen again: leave it to the person.
    Never,
}

/// What went through a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Messages received.
    pub frames_in: u64,
    /// Messages sent.
    pub frames_out: u64,
    /// Poses received in snapshots.
    pub updates_in: u64,
    /// Poses sent in samples.
    pub updates_out: u64,
}

/// Why a session broke off.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum SessionError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Message(#[from] DecodeError),
    #[error(transparent)]
    World(#[from] WorldError),
    #[error("{0}")]
    Order(&'static str),
    #[error("{0} ticks per second are outside of 1 to 128")]
    TickRate(u8),
    #[error("a ping was answered that was never sent")]
    Pong,
}

/// A session with a server, from the hello on.
#[derive(Debug)]
pub struct Session {
    started: Duration,
    heard: Duration,
    joined: Option<Room>,
    is_over: bool,
    outgoing: BytesMut,
    events: VecDeque<SessionEvent>,
    counters: Counters,
}

/// What there is from the welcome on.
#[derive(Debug)]
struct Room {
    welcome: Welcome,
    world: World,
    clock: Clock,
    controlled: Controlled,
    sampled_tick: f64,
    pings: u32,
    ping_at: Duration,
}

impl Session {
    /// Starts a session on a connection that has just been made: the hello is the first of its
    /// outgoing bytes.
    pub fn new(hello: Hello, now: Duration) -> Self {
        let mut session = Self {
            started: now,
            heard: now,
            joined: None,
            is_over: false,
            outgoing: BytesMut::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
        };
        session.send(&ClientMessage::Hello(hello));
        session
    }

    /// Takes the whole frames off the front of what was received; what is left there is the
    /// beginning of the next.
    pub fn receive(&mut self, now: Duration, incoming: &mut BytesMut) {
        if !incoming.is_empty() {
            self.heard = now;
        }
        while !self.is_over {
            match frame::split(incoming, ServerMessage::MAX_PAYLOAD_BYTES) {
                Ok(None) => return,
                Ok(Some(payload)) => {
                    self.counters.frames_in += 1;
                    let message = ServerMessage::decode(&payload).map_err(SessionError::from);
                    if let Err(error) = message.and_then(|message| self.handle(now, message)) {
                        self.end_by(&error);
                    }
                }
                Err(error) => self.end_by(&error.into()),
            }
        }
        incoming.clear();
    }

    /// Does what is due by now: sample, ping, deadlines. Receive first, so that a silence is the
    /// server's and not the caller's.
    pub fn poll(&mut self, now: Duration) {
        if self.is_over {
            return;
        }
        if now.saturating_sub(self.heard) >= DEAD_AFTER {
            let seconds = DEAD_AFTER.as_secs();
            return self.end(format!("nothing heard for {seconds} s"), Retry::Backoff);
        }
        if !self.is_joined() && now.saturating_sub(self.started) >= JOIN_TIMEOUT {
            let seconds = JOIN_TIMEOUT.as_secs();
            let reason = format!("connected, but not let in within {seconds} s");
            return self.end(reason, Retry::Backoff);
        }
        if self.outgoing.len() > MAX_OUTGOING_BYTES {
            let reason = "the server does not take what it is sent";
            return self.end(reason.to_owned(), Retry::Backoff);
        }
        if self.is_joined() {
            self.send_sample_when_due(now);
            self.send_ping_when_due(now);
        }
    }

    /// The next thing that happened.
    pub fn next_event(&mut self) -> Option<SessionEvent> {
        self.events.pop_front()
    }

    /// What is to be written; take off the front what was.
    pub fn outgoing(&mut self) -> &mut BytesMut {
        &mut self.outgoing
    }

    /// The connection under the session ended.
    pub fn disconnected(&mut self, reason: &str) {
        self.end(reason.to_owned(), Retry::Backoff);
    }

    /// Moves the own cube or a held one; whether it is one of these. The newest pose at the time
    /// of the next sample is sent.
    pub fn set_pose(&mut self, cube: CubeId, pose: Pose) -> bool {
        let room = self.joined.as_mut();
        room.is_some_and(|room| room.controlled.set_pose(cube, pose))
    }

    /// Asks to hold a free cube.
    pub fn take(&mut self, cube: CubeId) {
        if self.is_joined() {
            self.send(&ClientMessage::Take { cube });
        }
    }

    /// Lets go of a held cube, where it was put last.
    pub fn release(&mut self, cube: CubeId) {
        self.send_sample();
        let room = self.joined.as_mut();
        if room.is_some_and(|room| cube != room.welcome.cube && room.controlled.release(cube)) {
            self.send(&ClientMessage::Release { cube });
        }
    }

    /// Whether the client is in the room and the session is not over.
    pub fn is_joined(&self) -> bool {
        !self.is_over && self.room().is_some()
    }

    /// What the server said at the join.
    pub fn welcome(&self) -> Option<&Welcome> {
        self.room().map(|room| &room.welcome)
    }

    /// The room as of the newest tick; stays after the end.
    pub fn world(&self) -> Option<&World> {
        self.room().map(|room| &room.world)
    }

    /// The server's clock; stays after the end.
    pub fn clock(&self) -> Option<&Clock> {
        self.room().map(|room| &room.clock)
    }

    /// When the session began.
    pub fn started(&self) -> Duration {
        self.started
    }

    /// When bytes came last.
    pub fn heard(&self) -> Duration {
        self.heard
    }

    /// What went through so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn room(&self) -> Option<&Room> {
        self.joined.as_ref().filter(|room| room.world.is_known())
    }

    fn handle(&mut self, now: Duration, message: ServerMessage) -> Result<(), SessionError> {
        match message {
            ServerMessage::Reject { code, message } if self.joined.is_none() => {
                let retry = if code.is_temporary() {
                    Retry::Backoff
                } else {
                    Retry::Never
                };
                self.end(message, retry);
                return Ok(());
            }
            ServerMessage::Closing {
                message,
                retry_after_ms,
                ..
            } => {
                let after = |ms: u32| Retry::After(Duration::from_millis(ms.into()));
                self.end(message, retry_after_ms.map_or(Retry::Never, after));
                return Ok(());
            }
            ServerMessage::Welcome(welcome) if self.joined.is_none() => {
                self.joined = Some(Room::new(welcome, now)?);
                return Ok(());
            }
            _ => {}
        }
        let Some(room) = &mut self.joined else {
            let first = "the first message is neither a welcome nor a reject";
            return Err(SessionError::Order(first));
        };
        match message {
            ServerMessage::Keyframe(keyframe) => {
                let is_first = !room.world.is_known();
                let changes = room.world.keyframe(keyframe)?;
                if is_first {
                    room.ping_at = now;
                    let joined = SessionEvent::Joined(room.welcome.clone());
                    self.events.push_back(joined);
                }
                self.tell(changes);
            }
            ServerMessage::Snapshot(snapshot) => {
                self.counters.updates_in += snapshot.cubes.len() as u64;
                let changes = room.world.snapshot(snapshot)?;
                self.tell(changes);
            }
            ServerMessage::Pong {
                sent_us,
                tick,
                since_tick_us,
            } => {
                let sent = Duration::from_micros(sent_us);
                if sent < self.started || sent > now {
                    return Err(SessionError::Pong);
                }
                room.clock.measured(sent, now, tick, since_tick_us);
            }
            ServerMessage::Correction(corrected) => {
                room.controlled.correct(corrected);
                self.events.push_back(SessionEvent::Corrected(corrected));
            }
            ServerMessage::Refused { cube, holder } => {
                let refused = SessionEvent::Refused { cube, holder };
                self.events.push_back(refused);
            }
            ServerMessage::Welcome(_) | ServerMessage::Reject { .. } => {
                return Err(SessionError::Order("a second welcome or a late reject"));
            }
            ServerMessage::Closing { .. } => {}
        }
        Ok(())
    }

    /// Passes changes on, after taking in who controls what.
    fn tell(&mut self, changes: Vec<WorldChange>) {
        let Some(room) = &mut self.joined else {
            return;
        };
        for change in changes {
            match change {
                WorldChange::Taken { cube, by } if by == room.welcome.cube => {
                    let known = room.world.cube(cube).map(|known| known.pose);
                    room.controlled.gain(cube, known.unwrap_or_default());
                }
                WorldChange::Taken { cube, .. } | WorldChange::Freed { cube } => {
                    room.controlled.lose(cube);
                }
                _ => {}
            }
            self.events.push_back(SessionEvent::World(change));
        }
    }

    fn send_sample_when_due(&mut self, now: Duration) {
        if self.outgoing.len() > BACKLOG_BYTES {
            return;
        }
        let Some(room) = &mut self.joined else {
            return;
        };
        let way = room.clock.round_trip().unwrap_or_default() / 2;
        let tick = (room.clock.tick_at(now + way) - SAMPLE_PHASE).floor();
        if tick > room.sampled_tick {
            room.sampled_tick = tick;
            self.send_sample();
        }
    }

    fn send_sample(&mut self) {
        let room = self.joined.as_mut();
        let cubes = room.map(|room| room.controlled.take_sample());
        let cubes = cubes.unwrap_or_default();
        if !cubes.is_empty() {
            self.counters.updates_out += cubes.len() as u64;
            self.send(&ClientMessage::Sample { cubes });
        }
    }

    fn send_ping_when_due(&mut self, now: Duration) {
        let Some(room) = self.joined.as_mut().filter(|room| now >= room.ping_at) else {
            return;
        };
        room.pings = room.pings.saturating_add(1);
        room.ping_at = now
            + if room.pings < FIRST_PINGS {
                FIRST_PING_INTERVAL
            } else {
                PING_INTERVAL
            };
        let sent_us = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        self.send(&ClientMessage::Ping { sent_us });
    }

    fn send(&mut self, message: &ClientMessage) {
        if !self.is_over {
            message.append_frame(&mut self.outgoing);
            self.counters.frames_out += 1;
        }
    }

    fn end_by(&mut self, error: &SessionError) {
        let reason = if self.joined.is_some() {
            format!("the server sent something impossible: {error}")
        } else {
            format!("this is no cubesync server: {error}")
        };
        self.end(reason, Retry::Backoff);
    }

    fn end(&mut self, reason: String, retry: Retry) {
        if !self.is_over {
            self.is_over = true;
            self.events.push_back(SessionEvent::Ended { reason, retry });
        }
    }
}

impl Room {
    fn new(welcome: Welcome, now: Duration) -> Result<Self, SessionError> {
        if !TICK_HZ_RANGE.contains(&welcome.tick_hz) {
            return Err(SessionError::TickRate(welcome.tick_hz));
        }
        let mut controlled = Controlled::default();
        controlled.gain(welcome.cube, welcome.pose);
        Ok(Self {
            clock: Clock::new(welcome.tick_hz, welcome.tick, welcome.since_tick_us, now),
            world: World::default(),
            controlled,
            sampled_tick: f64::MIN,
            pings: 0,
            ping_at: now,
            welcome,
        })
    }
}
