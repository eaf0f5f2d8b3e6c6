//! A player's program: the real session, its world and its view, as a client drives them.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use cubesync_client::Session;
use cubesync_client::backoff::Backoff;
use cubesync_client::session_event::{Retry, SessionEvent};
use cubesync_client::view::View;
use cubesync_client::world::WorldChange;
use cubesync_protocol::{Colour, CubeId, Hello, Pose, Position, ResumeToken, Rotation};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{sleep, timeout};
use turmoil::net::TcpStream;

use crate::faults;
use crate::journal::{Count, Journal};
use crate::scene::SERVER;
use crate::venue::{PORT, Venue};

const FREE: CubeId = CubeId(0);
const FRAME: Duration = Duration::from_micros(16_667);
/// As the client's socket has it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const QUANTA_PER_METRE: i32 = 512;
/// A quarter of the top speed.
const WALK_QUANTA_PER_FRAME: i32 = 10 * QUANTA_PER_METRE / 60;

/// A player, as far as the judge looks.
pub struct Seat {
    pub name: String,
    seed: u64,
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
            session: None,
            view: View::default(),
            pose: Pose::default(),
        }
    }
}

/// What the program keeps from one connection to the next.
struct Player {
    seat: Rc<RefCell<Seat>>,
    venue: Rc<RefCell<Venue>>,
    dice: fastrand::Rng,
    is_calm: Rc<Cell<bool>>,
    journal: Journal,
    resume: Option<ResumeToken>,
    /// Where the cube was when the last session ended.
    last_pose: Option<Pose>,
    last_cube: Option<CubeId>,
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
pub async fn play(
    seat: Rc<RefCell<Seat>>,
    venue: Rc<RefCell<Venue>>,
    is_calm: Rc<Cell<bool>>,
    journal: Journal,
) -> turmoil::Result {
    // Who was killed remembers nothing.
    let (name, seed) = (seat.borrow().name.clone(), seat.borrow().seed);
    *seat.borrow_mut() = Seat::new(name, seed);
    let mut backoff = Backoff::new(seed);
    let mut player = Player {
        seat,
        venue,
        dice: fastrand::Rng::with_seed(seed),
        is_calm,
        journal,
        resume: None,
        last_pose: None,
        last_cube: None,
        step: [0; 2],
        turns_every: if seed.is_multiple_of(2) { 3 } else { 60 },
    };
    loop {
        let connecting = timeout(CONNECT_TIMEOUT, TcpStream::connect((SERVER, PORT)));
        let began = now();
        let (over, lasted) = match connecting.await {
            Ok(Ok(stream)) => player.visit(stream).await,
            Ok(Err(_)) | Err(_) => (Over::Ended(Retry::Backoff), Duration::ZERO),
        };
        let wait = match over {
            Over::Left => Duration::from_secs(1),
            Over::Ended(Retry::Backoff) => backoff.next(lasted),
            Over::Ended(Retry::After(wait)) => {
                player.journal.count(Count::ToldWhen);
                wait
            }
            Over::Ended(Retry::Elsewhere | Retry::Never) => {
                panic!("nobody here has done anything wrong, and was told not to come back")
            }
        };
        player.note(("waits", wait, "after", now() - began));
        sleep(wait).await;
    }
}

fn now() -> Duration {
    turmoil::sim_elapsed().unwrap()
}

impl Player {
    fn note(&self, what: impl std::fmt::Debug) {
        self.journal.note(now(), &self.seat.borrow().name, what);
    }

    /// One connection; why it ended, and how long the player was in the room.
    async fn visit(&mut self, mut stream: TcpStream) -> (Over, Duration) {
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
                }
                return (over, lasted.unwrap_or_default());
            }
            // A program is not always as fast as it would like to be.
            let frames = if self.dice.u32(..2_000) == 0 { 60 } else { 1 };
            sleep(frames * FRAME).await;
        }
    }

    fn hear(&mut self, seat: &mut Seat) -> Option<Over> {
        let Seat {
            name,
            session,
            view,
            pose,
            ..
        } = seat;
        let session = session.as_mut()?;
        let (mut over, mut heard) = (None, None);
        while let Some(event) = session.next_event() {
            let clock_tick = session.clock().map_or(0.0, |clock| clock.tick_at(now()));
            match event {
                SessionEvent::Joined(welcome) => {
                    self.journal
                        .note(now(), name, (welcome.cube, &welcome.name));
                    if let Some(last) = self.last_cube.replace(welcome.cube) {
                        let is_same = last == welcome.cube;
                        self.journal.count(if is_same {
                            Count::Resumed
                        } else {
                            Count::Renewed
                        });
                    }
                    self.resume = Some(welcome.resume);
                    *pose = welcome.pose;
                    *view = View::new(welcome.tick_hz);
                }
                SessionEvent::World(WorldChange::Moved {
                    tick,
                    known_until,
                    states,
                }) => {
                    view.moved(clock_tick, tick, known_until, &states);
                    heard = Some(tick);
                }
                SessionEvent::World(change) => {
                    let own = session.welcome().map(|welcome| welcome.cube);
                    match &change {
                        WorldChange::Left(info) | WorldChange::Disappeared(info) => {
                            view.remove(info.cube);
                        }
                        WorldChange::Taken { by, .. } if Some(*by) == own => {
                            self.journal.count(Count::Held);
                        }
                        _ => {}
                    }
                    if let WorldChange::Appeared(info) | WorldChange::Disappeared(info) = &change {
                        self.journal.count(Count::Sight);
                        self.journal.note(now(), name, ("sight", info.cube));
                    } else {
                        self.journal.note(now(), name, change);
                    }
                }
                SessionEvent::Corrected(corrected) => {
                    self.journal.note(now(), name, corrected);
                    self.journal.count(Count::Corrected);
                    if session.welcome().map(|welcome| welcome.cube) == Some(corrected.cube) {
                        *pose = corrected.pose;
                    }
                }
                SessionEvent::Refused { cube, holder } => {
                    self.journal.note(now(), name, ("refused", cube, holder));
                    self.journal.count(Count::Refused);
                }
                SessionEvent::Ended { reason, retry } => {
                    self.journal.note(now(), name, (&reason, retry));
                    // Coming back would hide it.
                    let is_sense =
                        !reason.contains("impossible") && !reason.contains("no cubesync");
                    assert!(is_sense, "{name}: {reason}");
                    if reason.starts_with("nothing heard") {
                        self.journal.count(Count::Silence);
                    }
                    over = Some(Over::Ended(retry));
                }
            }
        }
        if let Some(tick) = heard {
            self.venue.borrow().check(name, session, tick);
        }
        if let Some(clock) = session.clock() {
            view.advance(clock.tick_at(now()));
        }
        over
    }

    /// Walks, carries, and sometimes cheats or leaves.
    fn act(&mut self, seat: &mut Seat) -> Option<Over> {
        let Seat { session, pose, .. } = seat;
        let session = session.as_mut()?;
        let own = session.welcome()?.cube;
        if !session.is_joined() || self.is_calm.get() {
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
            0 => pose.position.x = -pose.position.x.signum() * 100 * QUANTA_PER_METRE,
            // Who leaves may close with bytes unread: then the leave is lost with the connection, and
            // a ghost stays for a while.
            1 if now() < faults::END => {
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
        self.journal.count(Count::Left);
        (self.resume, self.last_cube, self.last_pose) = (None, None, None);
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
