//! A player's program, which drives the real session, its replica and its view as a client does.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use cubesync_client::playout::View;
use cubesync_client::reconnect::Servers;
use cubesync_client::session::{Retry, Session, SessionEvent};
use cubesync_protocol::replica::Change;
use cubesync_protocol::{
    Colour, CubeId, DatagramAnswer, DatagramRequest, Hello, Pose, Position, ResumeToken, Rotation,
    Welcome,
};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{sleep, timeout};
use turmoil::net::TcpStream;

use crate::datagrams::Client;
use crate::event_log::{Count, EventLog};

pub const PORT: u16 = 14_900;
pub const FREE: CubeId = CubeId(0);
const FRAME: Duration = Duration::from_micros(16_667);
/// The timeout of the client's socket.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const QUANTA_PER_METRE: i32 = 512;
/// Walking speed, a quarter of the top speed.
const WALK_QUANTA_PER_FRAME: i32 = 10 * QUANTA_PER_METRE / 60;

/// The part of a run that all players share.
pub struct Environment {
    /// The host names of the servers.
    pub servers: Vec<String>,
    /// Whether players have stopped moving.
    pub is_calm: Cell<bool>,
    /// Whether players attempt illegal moves.
    pub cheats: bool,
    /// Time until which players leave for good and cheat.
    pub unruly_until: Duration,
    pub log: EventLog,
    pub observer: Box<dyn Observer>,
}

/// Checks of what players receive.
pub trait Observer {
    /// Called when a player has joined.
    fn joined(&self, _player: &PlayerState, _previous: Option<&PreviousSession>) {}

    /// Called when a player goes on at another server with a new cube.
    fn continued_anew(&self, player: &PlayerState, before: CubeId);

    /// Called when a player has received everything up to a tick.
    fn received_tick(&self, player: &PlayerState, tick: u64);

    /// Called when the server has corrected the player's own cube.
    fn corrected(&self, _player: &PlayerState) {}

    /// Returns whether the system of the player's server resets its connections.
    fn is_reset(&self, _player: &PlayerState) -> bool {
        false
    }

    /// Called in every frame.
    fn frame(&self, _player: &PlayerState) {}
}

/// A player's previous session.
pub struct PreviousSession {
    pub cube: CubeId,
    pub server: usize,
    pub joined: Duration,
    pub lost: Duration,
}

/// The state of a player that the checks read.
pub struct PlayerState {
    pub name: String,
    seed: u64,
    /// The number of their current or last server.
    pub server: usize,
    /// The time of the last pause of the program, or the end of its stream's last stall.
    pub paused: Duration,
    /// The time of joining.
    pub joined: Duration,
    /// The number of ticks at which the player's view was last wrong, one after the other.
    pub wrong_ticks: Cell<u32>,
    /// The time of the last second welcome.
    pub continued: Duration,
    pub session: Option<Session>,
    pub view: View,
    /// The time of the last frame, which the view has drawn.
    pub drawn: Duration,
    /// The pose to which the player has moved their cube.
    pub pose: Pose,
}

impl PlayerState {
    pub fn new(name: String, seed: u64) -> Self {
        Self {
            name,
            seed,
            server: 0,
            paused: Duration::ZERO,
            joined: Duration::ZERO,
            wrong_ticks: Cell::new(0),
            continued: Duration::ZERO,
            session: None,
            view: View::default(),
            drawn: Duration::ZERO,
            pose: Pose::default(),
        }
    }
}

/// A player's program.
struct Player {
    state: Rc<RefCell<PlayerState>>,
    environment: Rc<Environment>,
    servers: Servers,
    random: fastrand::Rng,
    resume: Option<ResumeToken>,
    /// The cube's pose at the end of the last session.
    last_pose: Option<Pose>,
    previous: Option<PreviousSession>,
    step: [i32; 2],
    /// Average number of frames between two turns. Frequent turns cause a residual at every tick.
    turns_every: u32,
    /// The player's end of a way for datagrams.
    datagrams: Option<Client>,
    /// The server's answer to the request for one.
    answer: Option<DatagramAnswer>,
    /// Time until which the stream stands still, while datagrams go on.
    stalled_until: Duration,
}

/// The reason why a connection is over.
enum ConnectionEnd {
    Left,
    Ended(Retry),
}

/// Runs a player's program until it is killed.
pub async fn play(
    state: Rc<RefCell<PlayerState>>,
    environment: Rc<Environment>,
) -> turmoil::Result {
    // A killed program has lost its state.
    let (name, seed) = (state.borrow().name.clone(), state.borrow().seed);
    *state.borrow_mut() = PlayerState::new(name, seed);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut player = Player {
        state,
        servers: choose_server(&environment.servers, &mut random),
        environment,
        random,
        resume: None,
        last_pose: None,
        previous: None,
        step: [0; 2],
        turns_every: if seed.is_multiple_of(2) { 3 } else { 60 },
        datagrams: None,
        answer: None,
        stalled_until: Duration::ZERO,
    };
    loop {
        let end = player.connect().await;
        let wait = player.plan_retry(end);
        sleep(wait).await;
    }
}

/// Chooses the server that the person names.
fn choose_server(servers: &[String], random: &mut fastrand::Rng) -> Servers {
    Servers::new(
        servers[random.usize(..servers.len())].as_str(),
        random.u64(..),
    )
}

fn now() -> Duration {
    turmoil::sim_elapsed().unwrap()
}

impl Player {
    fn record(&self, what: impl std::fmt::Debug) {
        self.environment
            .log
            .record(now(), &self.state.borrow().name, what);
    }

    /// Connects to the chosen server and plays there. Returns why the connection ended, and how long
    /// the player was in the room.
    async fn connect(&mut self) -> (ConnectionEnd, Option<Duration>) {
        let server = self.servers.at().to_owned();
        let number = self
            .environment
            .servers
            .iter()
            .position(|name| *name == server);
        self.state.borrow_mut().server = number.expect("the player knows no other servers");
        let connect_within = self.servers.connect_within().unwrap_or(CONNECT_TIMEOUT);
        let connecting = timeout(connect_within, TcpStream::connect((server.as_str(), PORT)));
        match connecting.await {
            Ok(Ok(stream)) => self.play_on(stream).await,
            Ok(Err(_)) | Err(_) => (ConnectionEnd::Ended(Retry::Backoff), None),
        }
    }

    /// Returns how long to wait before the next attempt.
    fn plan_retry(&mut self, (end, lasted): (ConnectionEnd, Option<Duration>)) -> Duration {
        let wait = match end {
            ConnectionEnd::Left => {
                self.servers = choose_server(&self.environment.servers, &mut self.random);
                Duration::from_secs(1)
            }
            ConnectionEnd::Ended(retry) => {
                if matches!(retry, Retry::After(_)) {
                    self.environment.log.count(Count::RetryAfter);
                }
                let next = self.servers.next(now(), String::new(), retry, lasted);
                let next = next.expect("a player without a fault may come back");
                next.saturating_sub(now())
            }
        };
        self.record(("waits", wait, "for", self.servers.at()));
        wait
    }

    /// Plays on one connection. Returns why it ended, and how long the player was in the room.
    async fn play_on(&mut self, mut stream: TcpStream) -> (ConnectionEnd, Option<Duration>) {
        let hello = Hello {
            resume: self.resume,
            pose: self.last_pose,
            ..Hello::new(
                "lobby",
                self.state.borrow().name.clone(),
                Colour::from([1, 2, 3]),
            )
        };
        let began = now();
        self.state.borrow_mut().session = Some(Session::new(hello, began));
        let mut incoming = BytesMut::new();
        let state = self.state.clone();
        loop {
            let is_stalled = now() < self.stalled_until;
            let closed = match is_stalled {
                true => None,
                false => read(&mut stream, &mut incoming).await,
            };
            let reset = self.environment.observer.is_reset(&state.borrow());
            let closed = closed.or(reset.then_some("the connection was reset"));
            let end = {
                let state = &mut *state.borrow_mut();
                let session = state.session.as_mut().expect("it was made above");
                session.receive(now(), &mut incoming);
                if let Some(reason) = closed {
                    session.disconnected(reason);
                }
                if let Some(datagrams) = &self.datagrams {
                    datagrams.receive(now(), session);
                }
                session.poll(now());
                let end = self.receive(state).or_else(|| self.act(state));
                if let (Some(datagrams), Some(session)) = (&self.datagrams, &mut state.session) {
                    datagrams.send(session);
                }
                match is_stalled {
                    true => end,
                    false => end.or(write(state, &stream)),
                }
            };
            self.open_datagrams().await;
            if let Some(end) = end {
                let state = state.borrow();
                let session = state.session.as_ref().expect("it was made above");
                let lasted = session.welcome().map(|_| now() - began);
                if matches!(end, ConnectionEnd::Ended(_)) {
                    self.last_pose = session.own_pose().or(self.last_pose);
                    self.resume = session.token().or(self.resume);
                }
                if session.statistics().snapshots_by_datagram > 0 {
                    self.environment.log.count(Count::SnapshotByDatagram);
                }
                self.datagrams = None;
                if let Some(previous) = self.previous.as_mut().filter(|_| lasted.is_some()) {
                    previous.lost = now();
                }
                return (end, lasted);
            }
            // Real programs pause now and then.
            let frames = if self.random.u32(..2_000) == 0 { 60 } else { 1 };
            if frames > 1 {
                let paused = &mut state.borrow_mut().paused;
                *paused = now().max(*paused);
            }
            sleep(frames * FRAME).await;
        }
    }

    /// Opens the way for datagrams that the server has offered.
    async fn open_datagrams(&mut self) {
        let answer = self.answer.take();
        if let Some(DatagramAnswer::Udp { path, .. }) = answer {
            let server = self.servers.at().to_owned();
            let client = Client::open(&server, path, self.random.fork()).await;
            self.datagrams = Some(client.expect("every port is free"));
            self.record("has datagrams");
        }
    }

    /// Processes what the session has received.
    fn receive(&mut self, state: &mut PlayerState) -> Option<ConnectionEnd> {
        let (mut end, mut newest_tick) = (None, None);
        while let Some(event) = state.session.as_mut()?.next_event() {
            match event {
                SessionEvent::Joined(welcome) => self.joined(state, welcome),
                SessionEvent::Continued { welcome, before } => {
                    self.continued(state, &welcome, before);
                }
                SessionEvent::Changed(Change::Moved {
                    tick,
                    known_until,
                    states,
                }) => {
                    let session = state.session.as_ref()?;
                    let clock_tick = session.clock().map_or(0.0, |clock| clock.tick_at(now()));
                    state.view.moved(clock_tick, tick, known_until, &states);
                    newest_tick = Some(tick);
                }
                SessionEvent::Changed(change) => self.changed(state, &change),
                SessionEvent::Corrected(corrected) => {
                    self.environment.log.record(now(), &state.name, corrected);
                    self.environment.log.count(Count::Corrected);
                    let own = state
                        .session
                        .as_ref()?
                        .welcome()
                        .map(|welcome| welcome.cube);
                    if own == Some(corrected.cube) {
                        self.environment.log.record(
                            now(),
                            &state.name,
                            ("was at", state.pose.position),
                        );
                        state.pose = corrected.pose;
                        self.environment.observer.corrected(state);
                    }
                }
                SessionEvent::Refused { cube, holder } => {
                    let refused = ("refused", cube, holder);
                    self.environment.log.record(now(), &state.name, refused);
                    self.environment.log.count(Count::Refused);
                }
                SessionEvent::Datagrams(answer) => self.answer = Some(answer),
                SessionEvent::Ended { reason, retry } => {
                    self.environment
                        .log
                        .record(now(), &state.name, (&reason, retry));
                    // The player would reconnect and hide such an error.
                    let is_expected =
                        !reason.contains("impossible") && !reason.contains("no cubesync");
                    assert!(is_expected, "{}: {reason}", state.name);
                    if reason.starts_with("nothing heard") {
                        self.environment.log.count(Count::Silence);
                    }
                    end = Some(ConnectionEnd::Ended(retry));
                }
            }
        }
        if let Some(tick) = newest_tick {
            self.environment.observer.received_tick(state, tick);
        }
        self.environment.observer.frame(state);
        if let Some(clock) = state.session.as_ref()?.clock() {
            state.view.advance(clock.tick_at(now()));
            state.drawn = now();
        }
        end
    }

    fn joined(&mut self, state: &mut PlayerState, welcome: Welcome) {
        let log = &self.environment.log;
        log.record(now(), &state.name, (welcome.cube, &welcome.name));
        (state.joined, state.pose) = (now(), welcome.pose);
        let others = self.environment.servers.iter();
        let others = others.filter(|server| **server != self.environment.servers[state.server]);
        self.servers.joined(others.cloned().collect());
        state.view = View::new(welcome.tick_hz);
        let previous = self.previous.replace(PreviousSession {
            cube: welcome.cube,
            server: state.server,
            joined: now(),
            lost: now(),
        });
        if let Some(previous) = &previous {
            log.count(match previous.cube == welcome.cube {
                true if previous.server != state.server => Count::ResumedElsewhere,
                true => Count::Resumed,
                false => Count::Rejoined,
            });
        }
        self.resume = Some(welcome.resume);
        if self.random.u32(..4) > 0
            && let Some(session) = &mut state.session
        {
            session.open_datagrams(DatagramRequest::Udp);
        }
        self.environment.observer.joined(state, previous.as_ref());
    }

    fn continued(&mut self, state: &mut PlayerState, welcome: &Welcome, before: CubeId) {
        let log = &self.environment.log;
        log.record(now(), &state.name, ("goes on", welcome.cube, welcome.tick));
        log.count(Count::Continued);
        state.view.go_on(welcome.tick);
        state.continued = now();
        self.resume = Some(welcome.resume);
        if let Some(previous) = &mut self.previous {
            previous.cube = welcome.cube;
        }
        if welcome.cube != before {
            log.count(Count::ContinuedAnew);
            self.environment.observer.continued_anew(state, before);
        }
    }

    fn changed(&mut self, state: &mut PlayerState, change: &Change) {
        let log = &self.environment.log;
        let session = state.session.as_ref();
        let own = session
            .and_then(Session::welcome)
            .map(|welcome| welcome.cube);
        match change {
            Change::Left(info) | Change::Disappeared(info) => {
                state.view.remove(info.cube);
            }
            Change::Taken { by, .. } if Some(*by) == own => log.count(Count::Held),
            _ => {}
        }
        if let Change::Appeared(info) | Change::Disappeared(info) = change {
            log.count(Count::Sight);
            log.record(now(), &state.name, ("sight", info.cube));
        } else {
            log.record(now(), &state.name, change);
        }
    }

    /// Walks, carries, and sometimes cheats or leaves.
    fn act(&mut self, state: &mut PlayerState) -> Option<ConnectionEnd> {
        let PlayerState {
            session,
            pose,
            paused,
            ..
        } = state;
        let session = session.as_mut()?;
        let own = session.welcome()?.cube;
        if !session.is_joined() {
            return None;
        }
        if self.environment.is_calm.get() {
            session.set_pose(own, *pose);
            session.send(now());
            return None;
        }
        let random = &mut self.random;
        if self.datagrams.is_some() && random.u32(..600) == 0 {
            self.stalled_until = now() + Duration::from_millis(random.u64(100..2_500));
            *paused = self.stalled_until;
        }
        if random.u32(..self.turns_every) == 0 {
            let step = || random.i32(-1..=1) * WALK_QUANTA_PER_FRAME;
            self.step = [(); 2].map({
                let mut step = step;
                move |()| step()
            });
            let turn = [0.0, 0.0, random.f32(), 1.0];
            pose.rotation = Rotation::from_quaternion(turn);
        }
        let Position { x, y, z } = pose.position;
        let [x, y] = [x + self.step[0], y + self.step[1]];
        pose.position = Position { x, y, z }.clamped();
        match random.u32(..3_000) {
            0 if self.environment.cheats && now() < self.environment.unruly_until => {
                pose.position.x = -pose.position.x.signum() * 100 * QUANTA_PER_METRE;
            }
            // A close with unread bytes resets the connection. Then the leave is lost, and a ghost
            // stays for a while.
            1 if now() < self.environment.unruly_until => {
                session.leave();
                return Some(self.leave());
            }
            2..20 => session.take(FREE),
            20..30 => session.release(FREE),
            _ => {}
        }
        session.set_pose(own, *pose);
        let mut above = *pose;
        above.position.z += QUANTA_PER_METRE;
        session.set_pose(FREE, above);
        session.send(now());
        None
    }

    fn leave(&mut self) -> ConnectionEnd {
        self.environment.log.count(Count::Left);
        (self.resume, self.previous, self.last_pose) = (None, None, None);
        ConnectionEnd::Left
    }
}

/// Reads everything that has arrived. Returns the reason if the connection has ended.
async fn read(stream: &mut TcpStream, incoming: &mut BytesMut) -> Option<&'static str> {
    let mut chunk = [0; 4_096];
    loop {
        let mut buffer = ReadBuf::new(&mut chunk);
        let read = poll_fn(|context| {
            Poll::Ready(
                match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
                    Poll::Ready(outcome) => Some(outcome),
                    Poll::Pending => None,
                },
            )
        });
        match read.await {
            None => return None,
            Some(Err(_)) => return Some("the connection was lost"),
            Some(Ok(())) if buffer.filled().is_empty() => {
                return Some("the server closed the connection");
            }
            Some(Ok(())) => incoming.extend_from_slice(buffer.filled()),
        }
    }
}

/// Writes as much as the socket accepts.
fn write(state: &mut PlayerState, stream: &TcpStream) -> Option<ConnectionEnd> {
    let outgoing = state.session.as_mut()?.outgoing();
    while !outgoing.is_empty() {
        match stream.try_write(outgoing) {
            Ok(written) => outgoing.advance(written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(_) => return Some(ConnectionEnd::Ended(Retry::Backoff)),
        }
    }
    None
}
