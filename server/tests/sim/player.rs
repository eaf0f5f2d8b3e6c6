//! A player's program: the real session, its replica and its view, as a client drives them.

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
use cubesync_protocol::{Colour, CubeId, Hello, Pose, Position, ResumeToken, Rotation, Welcome};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{sleep, timeout};
use turmoil::net::TcpStream;

use crate::event_log::{Count, Journal};

pub const PORT: u16 = 14_900;
pub const FREE: CubeId = CubeId(0);
const FRAME: Duration = Duration::from_micros(16_667);
/// As the client's socket has it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const QUANTA_PER_METRE: i32 = 512;
/// A quarter of the top speed.
const WALK_QUANTA_PER_FRAME: i32 = 10 * QUANTA_PER_METRE / 60;

/// Where players play.
pub struct Stage {
    /// The hosts of the servers, all of which have the room.
    pub servers: Vec<String>,
    /// Nobody moves any more.
    pub is_calm: Cell<bool>,
    /// Whether players try what they must not.
    pub cheats: bool,
    /// Until then players leave for good and cheat.
    pub unruly_until: Duration,
    pub journal: Journal,
    pub watch: Box<dyn Watch>,
}

/// Who looks at what players are told.
pub trait Watch {
    /// A player is in the room, not for the first time if there was a cube `before`.
    fn joined(&self, _seat: &Seat, _before: Option<&Before>) {}

    /// A player has heard of everything up to a tick.
    fn heard(&self, seat: &Seat, tick: u64);

    /// A player saw this happen.
    fn saw(&self, _seat: &Seat, _change: &Change) {}

    /// A player's own cube was put elsewhere.
    fn corrected(&self, _seat: &Seat) {}

    /// Whether the system of a player's server says that its program is gone.
    fn is_reset(&self, _seat: &Seat) -> bool {
        false
    }

    /// A player looks at the screen.
    fn frame(&self, _seat: &Seat) {}
}

/// What became of a player's last session.
pub struct Before {
    pub cube: CubeId,
    pub server: usize,
    pub joined: Duration,
    pub lost: Duration,
}

/// A player, as far as the judge looks.
pub struct Seat {
    pub name: String,
    seed: u64,
    /// Which of the servers they are at, or were.
    pub server: usize,
    /// When their program was too slow last.
    pub paused: Duration,
    /// When they came into the room.
    pub joined: Duration,
    pub session: Option<Session>,
    pub view: View,
    /// Where the player has put their cube.
    pub pose: Pose,
}

impl Seat {
    pub fn new(name: String, seed: u64) -> Self {
        Self {
            name,
            seed,
            server: 0,
            paused: Duration::ZERO,
            joined: Duration::ZERO,
            session: None,
            view: View::default(),
            pose: Pose::default(),
        }
    }
}

/// What the program keeps from one connection to the next.
struct Player {
    seat: Rc<RefCell<Seat>>,
    stage: Rc<Stage>,
    servers: Servers,
    dice: fastrand::Rng,
    resume: Option<ResumeToken>,
    /// Where the cube was when the last session ended.
    last_pose: Option<Pose>,
    before: Option<Before>,
    step: [i32; 2],
    /// Frames from one turn to the next, about. Who turns all the time surprises at every tick.
    turns_every: u32,
}

/// Why a connection is over.
enum Over {
    Left,
    Ended(Retry),
}

/// Plays until the program is killed.
pub async fn play(seat: Rc<RefCell<Seat>>, stage: Rc<Stage>) -> turmoil::Result {
    // Who was killed remembers nothing.
    let (name, seed) = (seat.borrow().name.clone(), seat.borrow().seed);
    *seat.borrow_mut() = Seat::new(name, seed);
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut player = Player {
        seat,
        servers: given(&stage.servers, &mut dice),
        stage,
        dice,
        resume: None,
        last_pose: None,
        before: None,
        step: [0; 2],
        turns_every: if seed.is_multiple_of(2) { 3 } else { 60 },
    };
    loop {
        let over = player.knock().await;
        let wait = player.choose(over);
        sleep(wait).await;
    }
}

/// A person gives one of the servers.
fn given(servers: &[String], dice: &mut fastrand::Rng) -> Servers {
    Servers::new(servers[dice.usize(..servers.len())].as_str(), dice.u64(..))
}

fn now() -> Duration {
    turmoil::sim_elapsed().unwrap()
}

impl Player {
    fn note(&self, what: impl std::fmt::Debug) {
        self.stage
            .journal
            .note(now(), &self.seat.borrow().name, what);
    }

    /// Goes to the server that was chosen; why it is over, and how long the player was in.
    async fn knock(&mut self) -> (Over, Option<Duration>) {
        let server = self.servers.at().to_owned();
        let number = self.stage.servers.iter().position(|name| *name == server);
        self.seat.borrow_mut().server = number.expect("the player knows only these");
        let patience = self.servers.connect_within().unwrap_or(CONNECT_TIMEOUT);
        let connecting = timeout(patience, TcpStream::connect((server.as_str(), PORT)));
        match connecting.await {
            Ok(Ok(stream)) => self.visit(stream).await,
            Ok(Err(_)) | Err(_) => (Over::Ended(Retry::Backoff), None),
        }
    }

    /// How long to wait before the next try.
    fn choose(&mut self, (over, lasted): (Over, Option<Duration>)) -> Duration {
        let wait = match over {
            Over::Left => {
                self.servers = given(&self.stage.servers, &mut self.dice);
                Duration::from_secs(1)
            }
            Over::Ended(retry) => {
                if matches!(retry, Retry::After(_)) {
                    self.stage.journal.count(Count::ToldWhen);
                }
                let next = self.servers.next(now(), String::new(), retry, lasted);
                let next = next.expect("nobody has done anything wrong, and may come back");
                next.saturating_sub(now())
            }
        };
        self.note(("waits", wait, "for", self.servers.at()));
        wait
    }

    /// One connection; why it ended, and how long the player was in the room.
    async fn visit(&mut self, mut stream: TcpStream) -> (Over, Option<Duration>) {
        let hello = Hello {
            resume: self.resume,
            pose: self.last_pose,
            ..Hello::new(
                "lobby",
                self.seat.borrow().name.clone(),
                Colour::from([1, 2, 3]),
            )
        };
        let began = now();
        self.seat.borrow_mut().session = Some(Session::new(hello, began));
        let mut incoming = BytesMut::new();
        let seat = self.seat.clone();
        loop {
            let closed = read(&mut stream, &mut incoming).await;
            let reset = self.stage.watch.is_reset(&seat.borrow());
            let closed = closed.or(reset.then_some("the connection was reset"));
            let over = {
                let seat = &mut *seat.borrow_mut();
                let session = seat.session.as_mut().expect("it was made above");
                session.receive(now(), &mut incoming);
                if let Some(reason) = closed {
                    session.disconnected(reason);
                }
                session.poll(now());
                let over = self.hear(seat).or_else(|| self.act(seat));
                over.or(write(seat, &stream))
            };
            if let Some(over) = over {
                let seat = seat.borrow();
                let session = seat.session.as_ref().expect("it was made above");
                let lasted = session.welcome().map(|_| now() - began);
                if matches!(over, Over::Ended(_)) {
                    self.last_pose = session.own_pose().or(self.last_pose);
                    self.resume = session.token().or(self.resume);
                }
                if let Some(before) = self.before.as_mut().filter(|_| lasted.is_some()) {
                    before.lost = now();
                }
                return (over, lasted);
            }
            // A program is not always as fast as it would like to be.
            let frames = if self.dice.u32(..2_000) == 0 { 60 } else { 1 };
            if frames > 1 {
                seat.borrow_mut().paused = now();
            }
            sleep(frames * FRAME).await;
        }
    }

    fn hear(&mut self, seat: &mut Seat) -> Option<Over> {
        let (mut over, mut heard) = (None, None);
        while let Some(event) = seat.session.as_mut()?.next_event() {
            match event {
                SessionEvent::Joined(welcome) => self.joined(seat, welcome),
                SessionEvent::Changed(Change::Moved {
                    tick,
                    known_until,
                    states,
                }) => {
                    let session = seat.session.as_ref()?;
                    let clock_tick = session.clock().map_or(0.0, |clock| clock.tick_at(now()));
                    seat.view.moved(clock_tick, tick, known_until, &states);
                    heard = Some(tick);
                }
                SessionEvent::Changed(change) => self.saw(seat, &change),
                SessionEvent::Corrected(corrected) => {
                    self.stage.journal.note(now(), &seat.name, corrected);
                    self.stage.journal.count(Count::Corrected);
                    let own = seat.session.as_ref()?.welcome().map(|welcome| welcome.cube);
                    if own == Some(corrected.cube) {
                        self.stage
                            .journal
                            .note(now(), &seat.name, ("was at", seat.pose.position));
                        seat.pose = corrected.pose;
                        self.stage.watch.corrected(seat);
                    }
                }
                SessionEvent::Refused { cube, holder } => {
                    let refused = ("refused", cube, holder);
                    self.stage.journal.note(now(), &seat.name, refused);
                    self.stage.journal.count(Count::Refused);
                }
                SessionEvent::Ended { reason, retry } => {
                    self.stage.journal.note(now(), &seat.name, (&reason, retry));
                    // Coming back would hide it.
                    let is_sense =
                        !reason.contains("impossible") && !reason.contains("no cubesync");
                    assert!(is_sense, "{}: {reason}", seat.name);
                    if reason.starts_with("nothing heard") {
                        self.stage.journal.count(Count::Silence);
                    }
                    over = Some(Over::Ended(retry));
                }
            }
        }
        if let Some(tick) = heard {
            self.stage.watch.heard(seat, tick);
        }
        self.stage.watch.frame(seat);
        if let Some(clock) = seat.session.as_ref()?.clock() {
            seat.view.advance(clock.tick_at(now()));
        }
        over
    }

    fn joined(&mut self, seat: &mut Seat, welcome: Welcome) {
        let journal = &self.stage.journal;
        journal.note(now(), &seat.name, (welcome.cube, &welcome.name));
        (seat.joined, seat.pose) = (now(), welcome.pose);
        let others = self.stage.servers.iter();
        let others = others.filter(|server| **server != self.stage.servers[seat.server]);
        self.servers.joined(others.cloned().collect());
        seat.view = View::new(welcome.tick_hz);
        let before = self.before.replace(Before {
            cube: welcome.cube,
            server: seat.server,
            joined: now(),
            lost: now(),
        });
        if let Some(before) = &before {
            journal.count(match before.cube == welcome.cube {
                true if before.server != seat.server => Count::Moved,
                true => Count::Resumed,
                false => Count::Renewed,
            });
        }
        self.resume = Some(welcome.resume);
        self.stage.watch.joined(seat, before.as_ref());
    }

    fn saw(&mut self, seat: &mut Seat, change: &Change) {
        let journal = &self.stage.journal;
        let session = seat.session.as_ref();
        let own = session
            .and_then(Session::welcome)
            .map(|welcome| welcome.cube);
        match change {
            Change::Left(info) | Change::Disappeared(info) => {
                seat.view.remove(info.cube);
            }
            Change::Taken { by, .. } if Some(*by) == own => journal.count(Count::Held),
            _ => {}
        }
        if let Change::Appeared(info) | Change::Disappeared(info) = change {
            journal.count(Count::Sight);
            journal.note(now(), &seat.name, ("sight", info.cube));
        } else {
            journal.note(now(), &seat.name, change);
        }
        self.stage.watch.saw(seat, change);
    }

    /// Walks, carries, and sometimes cheats or leaves.
    fn act(&mut self, seat: &mut Seat) -> Option<Over> {
        let Seat { session, pose, .. } = seat;
        let session = session.as_mut()?;
        let own = session.welcome()?.cube;
        if !session.is_joined() || self.stage.is_calm.get() {
            return None;
        }
        let dice = &mut self.dice;
        if dice.u32(..self.turns_every) == 0 {
            let step = || dice.i32(-1..=1) * WALK_QUANTA_PER_FRAME;
            self.step = [(); 2].map({
                let mut step = step;
                move |()| step()
            });
            let turn = [0.0, 0.0, dice.f32(), 1.0];
            pose.rotation = Rotation::from_quaternion(turn);
        }
        let Position { x, y, z } = pose.position;
        let [x, y] = [x + self.step[0], y + self.step[1]];
        pose.position = Position { x, y, z }.clamped();
        match dice.u32(..3_000) {
            0 if self.stage.cheats && now() < self.stage.unruly_until => {
                pose.position.x = -pose.position.x.signum() * 100 * QUANTA_PER_METRE;
            }
            // Who leaves may close with bytes unread: then the leave is lost with the connection, and
            // a ghost stays for a while.
            1 if now() < self.stage.unruly_until => {
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
        None
    }

    fn leave(&mut self) -> Over {
        self.stage.journal.count(Count::Left);
        (self.resume, self.before, self.last_pose) = (None, None, None);
        Over::Left
    }
}

/// Reads what is there; why there will be no more.
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

/// Writes what the socket takes.
fn write(seat: &mut Seat, stream: &TcpStream) -> Option<Over> {
    let outgoing = seat.session.as_mut()?.outgoing();
    while !outgoing.is_empty() {
        match stream.try_write(outgoing) {
            Ok(written) => outgoing.advance(written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(_) => return Some(Over::Ended(Retry::Backoff)),
        }
    }
    None
}
