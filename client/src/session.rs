//! One conversation with a server, without a socket and without a clock.
//!
//! Bytes and the time go in, bytes and events come out, as in quinn-proto. The client, simulations,
//! benchmarks and fuzz targets drive the same session. The caller repeats these steps: it appends
//! the bytes that it has read to a buffer and passes them to [`receive`](Session::receive), calls
//! [`poll`](Session::poll), takes the events, sets its cubes' poses, calls [`send`](Session::send), and
//! writes the [`outgoing`](Session::outgoing) bytes.

mod addresses;
mod clock;
mod datagrams;
mod event;
mod lead;
#[cfg(test)]
mod phase_lock;
mod room;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cubesync_protocol::datagram::Downlink;
use cubesync_protocol::limits::{DEAD_AFTER, MAX_TICK};
use cubesync_protocol::replica::{Change, ReplicaError};
use cubesync_protocol::uplink::Sample;
use cubesync_protocol::{
    ClientMessage, CubeId, CubePose, DatagramAnswer, DatagramRequest, DecodeError, FrameError,
    Hello, Keyframe, Message, Pose, Replica, ResumeToken, ServerMessage, Snapshot, Welcome, frame,
};

use self::datagrams::Datagrams;
use self::room::{RoomError, RoomState};
use crate::report::Statistics;

pub use addresses::usable;
pub use clock::Clock;
pub use event::{Retry, SessionEvent};
pub use lead::Lead;
pub(crate) use room::can_go_on_from;

/// Longest silence of a server when the client knows other servers to go on at: more than two
/// heartbeats were missed. Without other servers the client waits for [`DEAD_AFTER`].
const MOVE_ON_AFTER: Duration = Duration::from_secs(3);
/// Longest silence of a server that has not shown the own cube yet.
const JOIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time until a server has shown the own cube, although bytes keep coming. The keyframe of a room with
/// 5,000 cubes has 170 kB, and servers cut clients that take less than 2 KiB a second.
const LONGEST_JOIN: Duration = Duration::from_secs(120);
/// Unsent bytes above which samples wait. The newest pose is sent when there is room again.
const BACKLOG_BYTES: usize = 1024;
/// Unsent bytes above which the connection counts as dead.
const MAX_OUTGOING_BYTES: usize = 64 * 1024;
/// Longest time for which samples wait that a datagram has brought, so that one packet of the stream has
/// them and one acknowledgement answers.
const STREAM_WAITS: Duration = Duration::from_millis(200);
/// Longest part of a server's text that is shown: a few sentences.
const MAX_REASON_CHARS: usize = 300;

/// An invalid message of the server, which ends the session.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum SessionError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Message(#[from] DecodeError),
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    #[error("{0}")]
    Order(&'static str),
    #[error(transparent)]
    Room(#[from] RoomError),
}

/// A session with a server, which begins with the hello.
#[derive(Debug)]
pub struct Session {
    started: Duration,
    /// When bytes of the stream were received last, and when anything was.
    stream_received: Duration,
    last_received: Duration,
    /// The room, once the server has welcomed the client.
    room: Option<RoomState>,
    /// Whether [`SessionEvent::Joined`] has been reported.
    has_joined: bool,
    is_over: bool,
    /// Whether a way for datagrams was asked for.
    has_asked: bool,
    datagrams: Datagrams,
    /// Samples that datagrams bring as well, and since when they wait for others on the stream.
    waiting: BytesMut,
    waits_since: Duration,
    outgoing: BytesMut,
    events: VecDeque<SessionEvent>,
    total: Statistics,
    /// The number of late samples at servers that had the room before.
    late_before: u64,
}

impl Session {
    /// Starts a session on a new connection. The hello is at the front of its outgoing bytes.
    pub fn new(hello: Hello, now: Duration) -> Self {
        let mut session = Self {
            started: now,
            stream_received: now,
            last_received: now,
            room: None,
            has_joined: false,
            is_over: false,
            has_asked: false,
            datagrams: Datagrams::new(),
            waiting: BytesMut::new(),
            waits_since: now,
            outgoing: BytesMut::new(),
            events: VecDeque::new(),
            total: Statistics::default(),
            late_before: 0,
        };
        session.queue(&ClientMessage::Hello(hello));
        session
    }

    /// Takes all whole frames off the front of the received bytes. The rest is the beginning of
    /// the next frame.
    pub fn receive(&mut self, now: Duration, incoming: &mut BytesMut) {
        if !incoming.is_empty() {
            self.stream_received = now;
            self.last_received = now;
        }
        while !self.is_over {
            match frame::split(incoming, ServerMessage::MAX_PAYLOAD_BYTES) {
                Ok(None) => return,
                Ok(Some(payload)) => {
                    self.total.frames_in += 1;
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

    /// Sends the sample and the ping that are due, and checks deadlines. The caller receives first,
    /// because a pause of its own would look like a silence of the server.
    pub fn poll(&mut self, now: Duration) {
        if self.is_over {
            return;
        }
        let is_alone = self
            .joined_room()
            .is_none_or(|room| room.welcome.servers.is_empty());
        let patience = if is_alone { DEAD_AFTER } else { MOVE_ON_AFTER };
        // Datagrams tell that the server lives; but without a stream nobody can play for long.
        let silence = now.saturating_sub(self.last_received);
        let stream_silence = now.saturating_sub(self.stream_received);
        if silence >= patience {
            let seconds = patience.as_secs();
            return self.end(format!("nothing heard for {seconds} s"), Retry::OthersFirst);
        }
        if stream_silence >= DEAD_AFTER {
            let seconds = DEAD_AFTER.as_secs();
            let reason = format!("nothing heard on the connection for {seconds} s, only datagrams");
            return self.end(reason, Retry::OthersFirst);
        }
        let joining = now.saturating_sub(self.started);
        let is_late = stream_silence >= JOIN_TIMEOUT || joining >= LONGEST_JOIN;
        if !self.is_joined() && is_late {
            let seconds = joining.as_secs();
            let reason = format!("connected, but not let in within {seconds} s");
            return self.end(reason, Retry::Backoff);
        }
        if self.outgoing.len() > MAX_OUTGOING_BYTES {
            let reason = "the server does not take what it is sent";
            return self.end(reason.to_owned(), Retry::Backoff);
        }
        if self.is_joined() {
            self.send_what_is_due(now);
        } else if let Some(room) = &mut self.room
            && let Some(sent_us) = room.sign_of_life_when_due(now)
        {
            self.queue(&ClientMessage::Ping { sent_us });
        }
    }

    /// Sends the poses that were set since the poll, when a sample is due. Without this call the next
    /// poll sends them, a frame later.
    pub fn send(&mut self, now: Duration) {
        let can_be_sent = self.outgoing.len() <= BACKLOG_BYTES;
        if self.is_joined()
            && let Some(room) = &mut self.room
            && let Some(sample) = room.sample_at_once(now, can_be_sent)
        {
            self.send_twice(sample, now);
        }
    }

    /// Asks the server for a way for datagrams, at most once in a session.
    /// [`SessionEvent::Datagrams`] has the answer.
    pub fn open_datagrams(&mut self, request: DatagramRequest) {
        if self.is_joined() && !self.has_asked {
            self.has_asked = true;
            self.queue(&ClientMessage::OpenDatagrams(request));
        }
    }

    /// Takes in the plaintext of a datagram of the server.
    pub fn receive_datagram(&mut self, now: Duration, datagram: &[u8]) {
        let joined = self.room.as_mut().filter(|room| room.shows_own_cube);
        let Some(room) = joined.filter(|_| !self.is_over) else {
            return;
        };
        let Ok(downlink) = Downlink::decode(datagram) else {
            return;
        };
        if downlink.complete > MAX_TICK {
            return;
        }
        self.last_received = now;
        self.total.datagrams_in += 1;
        self.datagrams.received(&downlink, now);
        room.tick_began(downlink.complete, now);
        match room.take_in_datagram(&downlink) {
            Ok(None) => {}
            Ok(Some(changes)) => {
                self.total.updates_in = room.replica.updates();
                let moved = changes
                    .iter()
                    .filter(|change| matches!(change, Change::Moved { .. }));
                // The last one says up to which tick all is known.
                self.total.snapshots_by_datagram += moved.count().saturating_sub(1) as u64;
                self.report(changes);
            }
            Err(error) => self.end_by(&error.into()),
        }
    }

    /// Returns the plaintext of the next datagram to send. A newer one replaces one that was not taken.
    pub fn next_datagram(&mut self) -> Option<Bytes> {
        let datagram = self.datagrams.next();
        self.total.datagrams_out += u64::from(datagram.is_some());
        datagram
    }

    /// Returns whether datagrams come through, in both directions.
    pub fn datagrams_work(&self, now: Duration) -> bool {
        self.datagrams.works(now)
    }

    /// Returns the next event.
    pub fn next_event(&mut self) -> Option<SessionEvent> {
        self.events.pop_front()
    }

    /// Returns the bytes to be sent. The caller removes from the front what it has sent.
    pub fn outgoing(&mut self) -> &mut BytesMut {
        &mut self.outgoing
    }

    /// Ends the session because its connection has ended.
    pub fn disconnected(&mut self, reason: &str) {
        self.end(reason.to_owned(), Retry::Backoff);
    }

    /// Moves the own cube or a held one, and returns whether the cube is one of these and this client has
    /// joined. The next sample has the newest pose.
    pub fn set_pose(&mut self, cube: CubeId, pose: Pose) -> bool {
        let room = self.room.as_mut().filter(|room| room.shows_own_cube);
        room.is_some_and(|room| room.set_pose(cube, pose))
    }

    /// Returns the newest pose of the own cube, even after the end.
    pub fn own_pose(&self) -> Option<Pose> {
        self.joined_room()?.own_pose()
    }

    /// Asks to hold a free cube.
    pub fn take(&mut self, cube: CubeId) {
        if self.is_joined() {
            self.queue(&ClientMessage::Take { cube });
        }
    }

    /// Releases a held cube at its newest pose.
    pub fn release(&mut self, cube: CubeId) {
        let room = self.room.as_mut();
        if let Some(last) = room.and_then(|room| room.release(cube)) {
            if let Some(sample) = last {
                self.send_sample(sample);
            }
            self.send_release(cube);
        }
    }

    /// Measures the round trip again, because the network to the server has changed.
    pub fn measure_again(&mut self) {
        if let Some(room) = &mut self.room {
            room.measure_again();
        }
    }

    /// Tells the server that the player leaves for good, so that no ghost of the cube remains.
    pub fn leave(&mut self) {
        if self.is_joined() {
            self.queue(&ClientMessage::Leave);
        }
    }

    /// Whether the client is in the room and the session is not over.
    pub fn is_joined(&self) -> bool {
        !self.is_over && self.joined_room().is_some()
    }

    /// Returns the server's welcome.
    pub fn welcome(&self) -> Option<&Welcome> {
        self.joined_room().map(|room| &room.welcome)
    }

    /// Returns the token for which a server gives the same cube back, even after the end.
    pub fn token(&self) -> Option<ResumeToken> {
        self.room.as_ref().map(|room| room.welcome.resume)
    }

    /// Returns the cubes in sight as of the newest tick, even after the end.
    pub fn replica(&self) -> Option<&Replica> {
        self.joined_room().map(|room| &room.replica)
    }

    /// Returns the server's clock, even after the end.
    pub fn clock(&self) -> Option<&Clock> {
        self.joined_room().map(|room| &room.clock)
    }

    /// Returns when the session began.
    pub fn started(&self) -> Duration {
        self.started
    }

    /// Returns when bytes were received last.
    pub fn last_received(&self) -> Duration {
        self.last_received
    }

    /// Returns the session's counts and measurements so far. The client adds the bytes and the
    /// playout delay, which the session does not know.
    pub fn statistics(&self) -> Statistics {
        let room = self.joined_room();
        Statistics {
            round_trip: room.and_then(|room| room.clock.round_trip()),
            players: room.map_or(0, |room| room.replica.players()),
            lead: room.map_or(Duration::ZERO, RoomState::lead),
            datagram_loss: self.datagrams.loss(),
            ..self.total
        }
    }

    /// Returns the room if the own cube has been in sight.
    fn joined_room(&self) -> Option<&RoomState> {
        self.room.as_ref().filter(|room| room.shows_own_cube)
    }

    fn handle(&mut self, now: Duration, message: ServerMessage) -> Result<(), SessionError> {
        if tick_of(&message).is_some_and(|tick| tick > MAX_TICK) {
            return Err(SessionError::Order("a tick that no room reaches"));
        }
        let Some(room) = &mut self.room else {
            return self.handle_first(now, message);
        };
        // A welcome sets the clock itself.
        if !matches!(message, ServerMessage::Welcome(_))
            && let Some(tick) = tick_of(&message)
        {
            room.tick_began(tick, now);
        }
        match message {
            ServerMessage::Snapshot(_) => {
                let changes = room.take_in(&message)?;
                self.total.updates_in = room.replica.updates();
                self.total.snapshots_by_stream += u64::from(!changes.is_empty());
                self.report(changes);
            }
            ServerMessage::Keyframe(_)
            | ServerMessage::Heartbeat { .. }
            | ServerMessage::OutOfSight { .. } => {
                let changes = room.take_in(&message)?;
                self.total.updates_in = room.replica.updates();
                self.report(changes);
            }
            ServerMessage::Pong {
                sent_us,
                tick,
                since_tick_us,
                late_samples,
            } => {
                room.pong(now, sent_us, tick, since_tick_us, late_samples)?;
                self.total.late_samples = self.late_before + u64::from(late_samples);
            }
            ServerMessage::Correction { tick, corrected } => {
                if room.uplink.correct(tick, corrected) {
                    self.events.push_back(SessionEvent::Corrected(corrected));
                }
            }
            ServerMessage::Refused { cube, holder } => {
                let refused = SessionEvent::Refused { cube, holder };
                self.events.push_back(refused);
            }
            ServerMessage::Closing {
                message,
                retry_after_ms,
                ..
            } => self.close(message, retry_after_ms),
            ServerMessage::Datagrams(_) if !self.has_asked => {
                return Err(SessionError::Order("an answer that nobody asked for"));
            }
            ServerMessage::Datagrams(answer) => {
                if answer != DatagramAnswer::Unavailable {
                    self.datagrams.open(now);
                }
                self.events.push_back(SessionEvent::Datagrams(answer));
            }
            ServerMessage::Welcome(mut welcome) => {
                welcome.servers = usable(welcome.servers);
                let before = (room.welcome.cube, room.own_pose());
                let let_go = room.go_on(welcome, now)?;
                self.continued(before, let_go);
            }
            ServerMessage::Reject { .. } => {
                return Err(SessionError::Order("a reject after the welcome"));
            }
            ServerMessage::PlainSnapshot(_) => {
                return Err(SessionError::Order(
                    "a plain snapshot, which nobody asked for",
                ));
            }
        }
        Ok(())
    }

    /// Answers a second welcome, by which the room has gone on at another server. What the old one has not
    /// heard is lost, so it is said again.
    fn continued(&mut self, (before, shown): (CubeId, Option<Pose>), let_go: Vec<CubeId>) {
        self.waiting.clear();
        self.late_before = self.total.late_samples;
        let releases = self.datagrams.welcomed();
        self.queue(&ClientMessage::Continue { releases });
        for cube in let_go {
            self.send_release(cube);
        }
        let Some(welcome) = self.welcome().filter(|_| self.has_joined).cloned() else {
            return;
        };
        let Welcome { cube, pose, .. } = welcome;
        let is_corrected = self.own_pose() != shown;
        let event = SessionEvent::Continued { welcome, before };
        self.events.push_back(event);
        if is_corrected {
            let corrected = CubePose { cube, pose };
            self.events.push_back(SessionEvent::Corrected(corrected));
        }
    }

    fn handle_first(&mut self, now: Duration, message: ServerMessage) -> Result<(), SessionError> {
        match message {
            ServerMessage::Welcome(mut welcome) => {
                welcome.servers = usable(welcome.servers);
                self.room = Some(RoomState::new(welcome, now)?);
            }
            ServerMessage::Reject { code, message } => {
                let retry = if code.is_temporary() {
                    Retry::Backoff
                } else {
                    Retry::Elsewhere
                };
                self.end(printable(&message), retry);
            }
            ServerMessage::Closing {
                message,
                retry_after_ms,
                ..
            } => self.close(message, retry_after_ms),
            _ => {
                let first = "the first message is neither a welcome nor a reject";
                return Err(SessionError::Order(first));
            }
        }
        Ok(())
    }

    fn close(&mut self, message: String, retry_after_ms: Option<u32>) {
        let after = |ms: u32| Retry::After(Duration::from_millis(ms.into()));
        self.end(
            printable(&message),
            retry_after_ms.map_or(Retry::Never, after),
        );
    }

    fn report(&mut self, changes: Vec<Change>) {
        let Some(room) = &self.room else {
            return;
        };
        if room.shows_own_cube && !std::mem::replace(&mut self.has_joined, true) {
            let joined = SessionEvent::Joined(room.welcome.clone());
            self.events.push_back(joined);
        }
        self.events
            .extend(changes.into_iter().map(SessionEvent::Changed));
    }

    fn send_what_is_due(&mut self, now: Duration) {
        if now.saturating_sub(self.waits_since) >= STREAM_WAITS {
            self.outgoing.extend_from_slice(&self.waiting);
            self.waiting.clear();
        }
        let can_be_sent = self.outgoing.len() <= BACKLOG_BYTES;
        let Some(room) = &mut self.room else {
            return;
        };
        room.sends_tail = !self.datagrams.works(now);
        let sample = room.begin_frame(now, can_be_sent);
        let ping = room.ping_when_due(now);
        let tick = Duration::from_secs(1) / u32::from(room.welcome.tick_hz);
        if let Some(sample) = sample {
            self.send_twice(sample, now);
        }
        self.datagrams.poll(now, tick);
        if let Some(sent_us) = ping {
            self.queue(&ClientMessage::Ping { sent_us });
        }
    }

    /// Sends a sample on the stream, with what waits there.
    fn send_sample(&mut self, sample: Sample) {
        let message = self.keep_sample(sample);
        self.queue(&message);
    }

    /// Sends a sample by datagram, where that works, and on the stream, where it then may wait.
    fn send_twice(&mut self, sample: Sample, now: Duration) {
        let has_updates = sample.updates > 0;
        let message = self.keep_sample(sample);
        if self.datagrams.works(now) {
            if self.waiting.is_empty() {
                self.waits_since = now;
            }
            message.append_frame(&mut self.waiting);
            self.total.frames_out += 1;
        } else {
            self.queue(&message);
        }
        self.datagrams.sampled(has_updates, now);
    }

    fn send_release(&mut self, cube: CubeId) {
        self.datagrams.released();
        self.queue(&ClientMessage::Release { cube });
    }

    fn keep_sample(&mut self, sample: Sample) -> ClientMessage {
        self.total.updates_out += sample.updates as u64;
        self.datagrams.keep(&sample);
        ClientMessage::Sample {
            tick: sample.tick,
            placed: sample.placed,
            residuals: sample.residuals,
        }
    }

    fn queue(&mut self, message: &ClientMessage) {
        if !self.is_over {
            self.outgoing.extend_from_slice(&self.waiting);
            self.waiting.clear();
            message.append_frame(&mut self.outgoing);
            self.total.frames_out += 1;
        }
    }

    fn end_by(&mut self, error: &SessionError) {
        let reason = if self.room.is_some() {
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

/// Returns the tick that a message is about.
fn tick_of(message: &ServerMessage) -> Option<u64> {
    match message {
        ServerMessage::Welcome(Welcome { tick, .. })
        | ServerMessage::Keyframe(Keyframe { tick, .. })
        | ServerMessage::Snapshot(Snapshot { tick, .. })
        | ServerMessage::Heartbeat { tick }
        | ServerMessage::Pong { tick, .. } => Some(*tick),
        _ => None,
    }
}

/// Returns a server's text without control characters, which could write anywhere on a terminal,
/// and not longer than is shown.
fn printable(text: &str) -> String {
    let characters = text.chars().filter(|character| !character.is_control());
    characters.take(MAX_REASON_CHARS).collect()
}
