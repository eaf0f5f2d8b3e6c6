//! One conversation with a server, without a socket and without a clock.
//!
//! Bytes and the time go in, bytes and events come out, as in quinn-proto. The client, simulations,
//! benchmarks and fuzz targets drive the same session. In each poll append what
//! was read to a buffer, [`receive`](Session::receive) it, [`poll`](Session::poll), take the
//! events, and write the [`outgoing`](Session::outgoing) bytes.

mod addresses;
mod clock;
mod event;
mod lead;
#[cfg(test)]
mod phase_lock;
mod room;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;
use cubesync_protocol::limits::{DEAD_AFTER, MAX_TICK};
use cubesync_protocol::replica::{Change, ReplicaError};
use cubesync_protocol::uplink::Sample;
use cubesync_protocol::{
    ClientMessage, CubeId, DecodeError, FrameError, Hello, Keyframe, Message, Pose, Replica,
    ResumeToken, ServerMessage, Snapshot, Welcome, frame,
};

use self::room::{Room, RoomError};
use crate::report::Statistics;

pub use addresses::usable;
pub use clock::Clock;
pub use event::{Retry, SessionEvent};

/// How long a server may be silent where there are others to go on at: it has missed its heartbeat
/// twice or more. Where there are none, the client waits for [`DEAD_AFTER`].
const MOVE_ON_AFTER: Duration = Duration::from_secs(3);
/// How long a server may take to answer the hello and to show the own cube.
const JOIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Unsent bytes above which samples wait; the newest pose is sent when there is room.
const BACKLOG_BYTES: usize = 1024;
/// Unsent bytes above which the connection counts as dead.
const MAX_OUTGOING_BYTES: usize = 64 * 1024;
/// Longest reason of a server that is shown: a few sentences.
const MAX_REASON_CHARS: usize = 300;

/// Why a session ended because of what the server sent.
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

/// A session with a server, from the hello on.
#[derive(Debug)]
pub struct Session {
    started: Duration,
    heard: Duration,
    room: Option<Room>,
    /// [`SessionEvent::Joined`] has been reported.
    has_joined: bool,
    is_over: bool,
    outgoing: BytesMut,
    events: VecDeque<SessionEvent>,
    total: Statistics,
}

impl Session {
    /// Starts a session on a connection that has just been made: the hello is the first of its
    /// outgoing bytes.
    pub fn new(hello: Hello, now: Duration) -> Self {
        let mut session = Self {
            started: now,
            heard: now,
            room: None,
            has_joined: false,
            is_over: false,
            outgoing: BytesMut::new(),
            events: VecDeque::new(),
            total: Statistics::default(),
        };
        session.send(&ClientMessage::Hello(hello));
        session
    }

    /// Takes the whole frames off the front of the received bytes. The rest is the beginning of the
    /// next frame.
    pub fn receive(&mut self, now: Duration, incoming: &mut BytesMut) {
        if !incoming.is_empty() {
            self.heard = now;
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

    /// Sends the sample and the ping that are due, and checks deadlines. Receive first, or a pause of
    /// the caller looks like a silence of the server.
    pub fn poll(&mut self, now: Duration) {
        if self.is_over {
            return;
        }
        let is_alone = self
            .known()
            .is_none_or(|room| room.welcome.servers.is_empty());
        let patience = if is_alone { DEAD_AFTER } else { MOVE_ON_AFTER };
        if now.saturating_sub(self.heard) >= patience {
            let seconds = patience.as_secs();
            return self.end(format!("nothing heard for {seconds} s"), Retry::OthersFirst);
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
            self.send_what_is_due(now);
        }
    }

    /// Returns the next event.
    pub fn next_event(&mut self) -> Option<SessionEvent> {
        self.events.pop_front()
    }

    /// Returns the bytes to be sent. Remove from the front what was sent.
    pub fn outgoing(&mut self) -> &mut BytesMut {
        &mut self.outgoing
    }

    /// Ends the session because its connection ended.
    pub fn disconnected(&mut self, reason: &str) {
        self.end(reason.to_owned(), Retry::Backoff);
    }

    /// Moves the own cube or a held one, and returns whether it is one of these. The next sample has
    /// the newest pose.
    pub fn set_pose(&mut self, cube: CubeId, pose: Pose) -> bool {
        let room = self.room.as_mut();
        room.is_some_and(|room| room.set_pose(cube, pose))
    }

    /// Returns where the own cube was put last, even after the end.
    pub fn own_pose(&self) -> Option<Pose> {
        let room = self.known()?;
        room.controlled.pose(room.welcome.cube)
    }

    /// Asks to hold a free cube.
    pub fn take(&mut self, cube: CubeId) {
        if self.is_joined() {
            self.send(&ClientMessage::Take { cube });
        }
    }

    /// Releases a held cube where it was put last.
    pub fn release(&mut self, cube: CubeId) {
        let room = self.room.as_mut();
        if let Some(last) = room.and_then(|room| room.release(cube)) {
            if let Some(sample) = last {
                self.send_sample(sample);
            }
            self.send(&ClientMessage::Release { cube });
        }
    }

    /// Measures the round trip anew, because the way to the server has changed.
    pub fn measure_again(&mut self) {
        if let Some(room) = &mut self.room {
            room.measure_again();
        }
    }

    /// Tells the server that the player leaves for good, so that no ghost stays behind.
    pub fn leave(&mut self) {
        if self.is_joined() {
            self.send(&ClientMessage::Leave);
        }
    }

    /// Whether the client is in the room and the session is not over.
    pub fn is_joined(&self) -> bool {
        !self.is_over && self.known().is_some()
    }

    /// Returns the server's welcome.
    pub fn welcome(&self) -> Option<&Welcome> {
        self.known().map(|room| &room.welcome)
    }

    /// Returns the token with which a server gives the same cube back, even after the end.
    pub fn token(&self) -> Option<ResumeToken> {
        self.room.as_ref().map(|room| room.welcome.resume)
    }

    /// Returns the cubes in sight as of the newest tick, even after the end.
    pub fn replica(&self) -> Option<&Replica> {
        self.known().map(|room| &room.replica)
    }

    /// Returns the server's clock, even after the end.
    pub fn clock(&self) -> Option<&Clock> {
        self.known().map(|room| &room.clock)
    }

    /// Returns when the session began.
    pub fn started(&self) -> Duration {
        self.started
    }

    /// Returns when bytes were received last.
    pub fn heard(&self) -> Duration {
        self.heard
    }

    /// Returns what the session has sent and received so far. The bytes and the playout delay are
    /// known to its client only.
    pub fn statistics(&self) -> Statistics {
        let room = self.known();
        Statistics {
            round_trip: room.and_then(|room| room.clock.round_trip()),
            players: room.map_or(0, |room| room.replica.players()),
            lead: room.map_or(Duration::ZERO, |room| room.lead.duration()),
            ..self.total
        }
    }

    /// Returns the room, once the own cube is in sight.
    fn known(&self) -> Option<&Room> {
        self.room.as_ref().filter(|room| room.is_known)
    }

    fn handle(&mut self, now: Duration, message: ServerMessage) -> Result<(), SessionError> {
        if tick_of(&message).is_some_and(|tick| tick > MAX_TICK) {
            return Err(SessionError::Order("a tick that no room reaches"));
        }
        let Some(room) = &mut self.room else {
            return self.handle_first(now, message);
        };
        if let Some(tick) = tick_of(&message) {
            room.heard(tick, now);
        }
        match message {
            ServerMessage::Keyframe(_)
            | ServerMessage::Snapshot(_)
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
                self.total.late_samples = late_samples.into();
            }
            ServerMessage::Correction(corrected) => {
                room.controlled.correct(corrected);
                self.events.push_back(SessionEvent::Corrected(corrected));
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
            ServerMessage::Welcome(_) | ServerMessage::Reject { .. } => {
                return Err(SessionError::Order("a second welcome or a late reject"));
            }
        }
        Ok(())
    }

    fn handle_first(&mut self, now: Duration, message: ServerMessage) -> Result<(), SessionError> {
        match message {
            ServerMessage::Welcome(mut welcome) => {
                welcome.servers = usable(welcome.servers);
                self.room = Some(Room::new(welcome, now)?);
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
        if room.is_known && !std::mem::replace(&mut self.has_joined, true) {
            let joined = SessionEvent::Joined(room.welcome.clone());
            self.events.push_back(joined);
        }
        self.events
            .extend(changes.into_iter().map(SessionEvent::Changed));
    }

    fn send_what_is_due(&mut self, now: Duration) {
        let can_be_sent = self.outgoing.len() <= BACKLOG_BYTES;
        let Some(room) = &mut self.room else {
            return;
        };
        let sample = room.sample_when_due(now, can_be_sent);
        let ping = room.ping_when_due(now);
        if let Some(sample) = sample {
            self.send_sample(sample);
        }
        if let Some(sent_us) = ping {
            self.send(&ClientMessage::Ping { sent_us });
        }
    }

    fn send_sample(&mut self, sample: Sample) {
        self.total.updates_out += sample.updates as u64;
        self.send(&ClientMessage::Sample {
            tick: sample.tick,
            placed: sample.placed,
            residuals: sample.residuals,
        });
    }

    fn send(&mut self, message: &ClientMessage) {
        if !self.is_over {
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

/// Returns the tick that a message names.
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

/// Returns a server's text without control characters, which could write anywhere on a terminal.
fn printable(text: &str) -> String {
    let characters = text.chars().filter(|character| !character.is_control());
    characters.take(MAX_REASON_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use cubesync_protocol::limits::PROTOCOL_VERSION;
    use cubesync_protocol::motion::{Codec, MotionSet, MotionState};
    use cubesync_protocol::{
        CellId, CloseCode, Colour, CubeInfo, CubeKind, CubePose, Event, RejectCode, ServerAddress,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::testing::pose;

    const OWN: CubeId = CubeId(7);
    const FREE: CubeId = CubeId(0);
    const COLOUR: Colour = Colour {
        red: 1,
        green: 2,
        blue: 3,
    };

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn info(cube: CubeId, kind: CubeKind) -> CubeInfo {
        CubeInfo {
            cube,
            kind,
            name: "name".into(),
            colour: COLOUR,
            motion: MotionState::at_rest(pose(0.0)),
        }
    }

    fn welcome() -> Welcome {
        Welcome {
            version: PROTOCOL_VERSION,
            room: "lobby".into(),
            name: "Anna".into(),
            cube: OWN,
            pose: pose(0.0),
            tick_hz: 20,
            tick: 100,
            since_tick_us: 0,
            max_speed: 0,
            resume: ResumeToken([7; 16]),
            servers: Vec::new(),
        }
    }

    fn keyframe(tick: u64) -> ServerMessage {
        ServerMessage::Keyframe(Keyframe {
            cell: CellId(0),
            interval_ticks: 1,
            tick,
            cubes: vec![
                info(FREE, CubeKind::Free { holder: None }),
                info(OWN, CubeKind::Player),
            ],
        })
    }

    fn snapshot(tick: u64, events: Vec<Event>) -> ServerMessage {
        ServerMessage::Snapshot(Snapshot {
            tick,
            events,
            ..Snapshot::default()
        })
    }

    fn sample(tick: u64, placed: Vec<CubePose>, residuals: Bytes) -> ClientMessage {
        ClientMessage::Sample {
            tick,
            placed,
            residuals,
        }
    }

    /// The surprise of the own cube, which stood for some ticks and is elsewhere then.
    fn jump(from: Pose, to: Pose, ticks: u64) -> Bytes {
        let mut believed = MotionSet::new(&Codec::LIVE);
        believed.insert(OWN, MotionState::at_rest(from));
        believed.advance_to(ticks);
        let mut residuals = Vec::new();
        assert_eq!(believed.encode_tick(|_| to, &mut residuals), 1);
        residuals.into()
    }

    fn hear(session: &mut Session, now: Duration, messages: &[ServerMessage]) {
        let mut incoming = BytesMut::new();
        for message in messages {
            message.append_frame(&mut incoming);
        }
        session.receive(now, &mut incoming);
        assert!(incoming.is_empty());
    }

    /// What the session wants to say, as the server reads it.
    fn said(session: &mut Session) -> Vec<ClientMessage> {
        let mut messages = Vec::new();
        let outgoing = session.outgoing();
        while let Some(payload) = frame::split(outgoing, ClientMessage::MAX_PAYLOAD_BYTES).unwrap()
        {
            messages.push(ClientMessage::decode(&payload).unwrap());
        }
        messages
    }

    fn events(session: &mut Session) -> Vec<SessionEvent> {
        std::iter::from_fn(|| session.next_event()).collect()
    }

    fn new() -> Session {
        Session::new(Hello::new("lobby", "Anna", COLOUR), Duration::ZERO)
    }

    /// In the room, everything until then read and said.
    fn joined() -> Session {
        let mut session = new();
        hear(
            &mut session,
            Duration::ZERO,
            &[ServerMessage::Welcome(welcome()), keyframe(100)],
        );
        session.poll(Duration::ZERO);
        assert!(session.is_joined());
        events(&mut session);
        said(&mut session);
        session
    }

    /// The one event of a session that has just ended.
    fn ended(session: &mut Session) -> (String, Retry) {
        let mut events = events(session);
        assert!(!session.is_joined());
        match (events.pop(), events.is_empty()) {
            (Some(SessionEvent::Ended { reason, retry }), true) => (reason, retry),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn says_hello_first_and_is_joined_with_the_first_keyframe() {
        let mut session = new();
        let hello = Hello::new("lobby", "Anna", COLOUR);
        assert_eq!(said(&mut session), [ClientMessage::Hello(hello)]);
        let welcomed = ServerMessage::Welcome(welcome());
        hear(&mut session, ms(10), &[welcomed]);
        assert!(!session.is_joined());
        assert_eq!(events(&mut session), []);
        hear(&mut session, ms(20), &[keyframe(100)]);
        assert!(session.is_joined());
        let events = events(&mut session);
        assert_eq!(events[0], SessionEvent::Joined(welcome()));
        assert!(matches!(
            events[1..],
            [SessionEvent::Changed(Change::Moved { tick: 100, .. })]
        ));
        session.poll(ms(20));
        let sent_us = 20_000;
        assert_eq!(said(&mut session), [ClientMessage::Ping { sent_us }]);
    }

    #[test]
    fn a_reject_is_final_unless_it_is_temporary() {
        for (code, expected) in [
            (RejectCode::JoinKey, Retry::Elsewhere),
            (RejectCode::Version, Retry::Elsewhere),
            (RejectCode::Full, Retry::Backoff),
            // The hello was right, so it was late.
            (RejectCode::NotHello, Retry::Backoff),
        ] {
            let mut session = new();
            let message = "a \u{1b}\nreason".to_owned();
            hear(
                &mut session,
                ms(1),
                &[ServerMessage::Reject { code, message }],
            );
            assert_eq!(ended(&mut session), ("a reason".to_owned(), expected));
        }
    }

    #[test]
    fn closing_says_when_to_come_back() {
        let after = Retry::After(ms(1_500));
        for (retry_after_ms, expected) in [(Some(1_500), after), (None, Retry::Never)] {
            let mut session = joined();
            let closing = ServerMessage::Closing {
                code: CloseCode::ShuttingDown,
                message: "bye".into(),
                retry_after_ms,
            };
            hear(&mut session, ms(1), &[closing]);
            session.disconnected("the server closed the connection");
            assert_eq!(ended(&mut session), ("bye".to_owned(), expected));
        }
    }

    #[test]
    fn nonsense_ends_the_session_and_is_named() {
        let mut session = new();
        let http = &mut BytesMut::from(&b"HTTP/1.1 400 Bad Request\r\n"[..]);
        session.receive(ms(1), http);
        let (reason, retry) = ended(&mut session);
        assert!(
            reason.starts_with("this is no cubesync server: "),
            "{reason}"
        );
        assert_eq!(retry, Retry::Backoff);

        let mut session = new();
        hear(&mut session, ms(1), &[keyframe(100)]);
        let (reason, _) = ended(&mut session);
        assert!(
            reason.contains("neither a welcome nor a reject"),
            "{reason}"
        );

        for (message, named) in [
            (snapshot(99, vec![]), "tick 99 came after tick 100"),
            (ServerMessage::Welcome(welcome()), "second welcome"),
            (
                ServerMessage::OutOfSight {
                    cells: vec![CellId(9)],
                },
                "cell 9",
            ),
            (ServerMessage::Heartbeat { tick: 99 }, "tick 99 came"),
            (
                ServerMessage::Heartbeat { tick: MAX_TICK + 1 },
                "a tick that no room reaches",
            ),
        ] {
            let mut session = joined();
            hear(&mut session, ms(1), &[message, keyframe(200)]);
            let (reason, _) = ended(&mut session);
            assert!(reason.contains(named), "{reason}");
            session.poll(ms(2));
            assert_eq!(said(&mut session), []);
        }
    }

    #[test]
    fn who_is_not_let_in_or_hears_nothing_gives_up() {
        let mut session = new();
        session.poll(JOIN_TIMEOUT - ms(1));
        assert_eq!(events(&mut session), []);
        session.poll(JOIN_TIMEOUT);
        assert!(ended(&mut session).0.contains("not let in"));

        let mut session = joined();
        hear(&mut session, ms(1_000), &[snapshot(101, vec![])]);
        events(&mut session);
        session.poll(ms(1_000) + DEAD_AFTER - ms(1));
        assert_eq!(events(&mut session), []);
        session.poll(ms(1_000) + DEAD_AFTER);
        assert_eq!(ended(&mut session).0, "nothing heard for 15 s");
    }

    #[test]
    fn who_can_go_on_elsewhere_waits_less_for_a_silent_server() {
        let address = |tcp: &str| ServerAddress {
            tcp: tcp.into(),
            web: "b.example:8080".into(),
        };
        for (servers, used) in [
            (vec![address("b.example:14900")], 1),
            (vec![address("b")], 0),
        ] {
            let mut session = new();
            let welcome = ServerMessage::Welcome(Welcome {
                servers,
                ..welcome()
            });
            hear(&mut session, ms(0), &[welcome, keyframe(100)]);
            events(&mut session);
            assert_eq!(session.welcome().unwrap().servers.len(), used);
            session.poll(MOVE_ON_AFTER - ms(1));
            assert_eq!(events(&mut session), []);
            session.poll(MOVE_ON_AFTER);
            assert_eq!(session.is_joined(), used == 0);
        }
    }

    #[test]
    fn a_held_cube_is_sent_and_its_last_pose_goes_before_the_release() {
        let mut session = joined();
        assert!(!session.set_pose(FREE, pose(1.0)));
        session.take(FREE);
        assert_eq!(said(&mut session), [ClientMessage::Take { cube: FREE }]);
        let taken = Event::Taken {
            cube: FREE,
            by: OWN,
        };
        hear(&mut session, ms(50), &[snapshot(101, vec![taken])]);
        assert!(session.set_pose(FREE, pose(1.0)));
        assert!(session.set_pose(OWN, pose(2.0)));
        session.release(FREE);
        let moved = |cube, x_m| CubePose {
            cube,
            pose: pose(x_m),
        };
        let placed = vec![moved(OWN, 2.0), moved(FREE, 1.0)];
        let expected = [
            sample(101, placed, Bytes::new()),
            ClientMessage::Release { cube: FREE },
        ];
        assert_eq!(said(&mut session), expected);
        assert_eq!(session.statistics().updates_out, 2);
        session.release(OWN);
        session.release(FREE);
        assert_eq!(said(&mut session), []);
        session.set_pose(OWN, pose(3.0));
        session.poll(ms(100));
        session.poll(ms(150));
        let surprise = jump(pose(2.0), pose(3.0), 1);
        assert!(said(&mut session).contains(&sample(102, vec![], surprise)));
    }

    #[test]
    fn a_corrected_cube_goes_on_from_there() {
        let mut session = joined();
        session.set_pose(OWN, pose(90.0));
        session.poll(ms(60));
        let corrected = CubePose {
            cube: OWN,
            pose: pose(3.0),
        };
        let placed = CubePose {
            cube: OWN,
            pose: pose(90.0),
        };
        assert_eq!(
            said(&mut session),
            [sample(102, vec![placed], Bytes::new())]
        );
        hear(
            &mut session,
            ms(70),
            &[ServerMessage::Correction(corrected)],
        );
        assert_eq!(events(&mut session), [SessionEvent::Corrected(corrected)]);
        session.poll(ms(110));
        let surprise = jump(pose(90.0), pose(3.0), 1);
        assert_eq!(said(&mut session), [sample(103, vec![], surprise)]);
    }

    #[test]
    fn samples_wait_while_nothing_can_be_sent() {
        let mut session = joined();
        for _ in 0..=BACKLOG_BYTES {
            session.take(FREE);
        }
        session.set_pose(OWN, pose(1.0));
        session.poll(ms(100));
        session.set_pose(OWN, pose(2.0));
        assert_eq!(session.statistics().updates_out, 0);
        session.outgoing().clear();
        session.poll(ms(116));
        assert_eq!(session.statistics().updates_out, 1);
        for _ in 0..MAX_OUTGOING_BYTES {
            session.take(FREE);
        }
        session.poll(ms(133));
        assert!(ended(&mut session).0.contains("does not take"));
    }

    /// A conversation with every kind of message, then nonsense.
    fn conversation() -> Vec<u8> {
        let mut bytes = BytesMut::new();
        let by = OWN;
        for message in [
            ServerMessage::Welcome(welcome()),
            keyframe(100),
            snapshot(101, vec![Event::Taken { cube: FREE, by }]),
            ServerMessage::Pong {
                sent_us: 0,
                tick: 101,
                since_tick_us: 9,
                late_samples: 1,
            },
            ServerMessage::Refused {
                cube: FREE,
                holder: Some(OWN),
            },
            ServerMessage::Correction(CubePose {
                cube: OWN,
                pose: pose(1.0),
            }),
            snapshot(102, vec![Event::Left { cube: FREE }]),
            keyframe(110),
            snapshot(109, vec![]),
        ] {
            message.append_frame(&mut bytes);
        }
        bytes.to_vec()
    }

    fn events_of(pieces: &[&[u8]]) -> Vec<SessionEvent> {
        let mut session = new();
        let mut incoming = BytesMut::new();
        for piece in pieces {
            incoming.extend_from_slice(piece);
            session.receive(Duration::ZERO, &mut incoming);
        }
        events(&mut session)
    }

    proptest! {
        #[test]
        fn any_split_of_the_stream_gives_the_same_events(
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        ) {
            let bytes = conversation();
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            let whole = events_of(&[&bytes]);
            prop_assert_eq!(whole.len(), 11);
            prop_assert_eq!(events_of(&pieces), whole);
        }

        #[test]
        fn damaged_bytes_never_panic(
            at: prop::sample::Index, damage in prop::collection::vec(any::<u8>(), 1..20),
        ) {
            let mut bytes = conversation();
            let at = at.index(bytes.len());
            for (byte, damage) in bytes[at..].iter_mut().zip(damage) {
                *byte = damage;
            }
            let mut session = new();
            session.receive(Duration::ZERO, &mut BytesMut::from(&bytes[..]));
            session.poll(ms(100));
            session.poll(ms(6_000));
        }
    }
}
