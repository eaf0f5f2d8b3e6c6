//! A client for a game or a bot: socket, session, snapshot buffer and reconnect behind one type.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;
use cubesync_protocol::{CubeId, CubeInfo, CubeKind, CubePose, Pose, Welcome};

use crate::ahead::Ahead;
use crate::arrivals::Arrivals;
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::interpolation::DrawnPose;
use crate::lab::{Conditions, Lab};
use crate::options::ClientOptions;
use crate::recorder::Tap;
use crate::report::{ClientEvent, CubeView, Statistics, Status};
use crate::session::Session;
use crate::session_event::{Retry, SessionEvent};
use crate::socket::{Socket, SocketState};
use crate::view::{Display, View};
use crate::world::{World, WorldChange, holder_of};

/// Who has not heard from the server for this long, one and a half heartbeats, shows others as
/// stale.
pub(crate) const STALE_AFTER: Duration = Duration::from_millis(1_500);
/// Reads per poll, at most, so that a flood does not hold up a frame: 1 MiB.
const MAX_READS_PER_POLL: usize = 64;

/// A client of one server, connected or about to be.
///
/// Times are since an epoch of the caller's choice and must not go backwards.
#[derive(Debug)]
pub struct Client {
    options: ClientOptions,
    link: Link,
    status: Status,
    backoff: Backoff,
    lab: Lab,
    /// From the socket to the lab, from there to the session, and from the lab to the socket.
    arriving: BytesMut,
    incoming: BytesMut,
    departing: BytesMut,
    session: Option<Session>,
    /// The last session that had joined and is over: shown until the next one has joined.
    previous: Option<Session>,
    view: View,
    display: Display,
    ahead: Ahead,
    arrivals: Arrivals,
    polled_at: Duration,
    tap: Option<Tap>,
    events: VecDeque<ClientEvent>,
    /// Of the sessions that are over, and all bytes.
    total: Statistics,
}

#[derive(Debug)]
enum Link {
    Down { retry_at: Option<Duration> },
    Up(Socket),
}

impl Client {
    /// A client that starts connecting at its first poll. `seed` varies the waits between tries,
    /// so that many clients do not come back in the same moment.
    pub fn new(options: ClientOptions, seed: u64) -> Self {
        Self {
            lab: Lab::new(options.lab, options.lab_seed),
            options,
            link: Link::Down {
                retry_at: Some(Duration::ZERO),
            },
            status: Status::Connecting,
            backoff: Backoff::new(seed),
            arriving: BytesMut::new(),
            incoming: BytesMut::new(),
            departing: BytesMut::new(),
            session: None,
            previous: None,
            view: View::default(),
            display: Display::default(),
            ahead: Ahead::default(),
            arrivals: Arrivals::default(),
            polled_at: Duration::ZERO,
            tap: None,
            events: VecDeque::new(),
            total: Statistics::default(),
        }
    }

    /// Tells a recorder of all bytes that come and go, from now on: best before the first poll.
    pub fn record(&mut self, tap: Tap) {
        self.tap = Some(tap);
    }

    /// What the client was made with.
    pub fn options(&self) -> &ClientOptions {
        &self.options
    }

    /// Reads what has come, sends what is due. Call it once a frame; it never blocks.
    pub fn poll(&mut self, now: Duration) {
        self.polled_at = now;
        self.connect_when_due(now);
        let bytes_before = self.total.bytes_in;
        self.read(now);
        if let Some(session) = &mut self.session {
            session.poll(now);
        }
        self.take_events(now);
        self.arrivals.read(self.total.bytes_in - bytes_before);
        self.flush(now);
        if let Some(clock) = self.session.as_ref().and_then(Session::clock) {
            self.view.advance(clock.tick_at(now));
        }
        self.ahead.advance(now);
    }

    /// The next thing that happened; ask after each poll until there is none.
    pub fn next_event(&mut self) -> Option<ClientEvent> {
        self.events.pop_front()
    }

    /// How far the client is, as of the last poll.
    pub fn status(&self) -> Status {
        self.status.clone()
    }

    /// The own cube, while joined.
    pub fn own_cube(&self) -> Option<CubeId> {
        self.welcome().map(|welcome| welcome.cube)
    }

    /// What the server said at the join, while joined.
    pub fn welcome(&self) -> Option<&Welcome> {
        self.session.as_ref().and_then(Session::welcome)
    }

    /// Puts the own cube, a held one or the one that was asked for last somewhere; any other cube
    /// stays where it is. It is shown there at once and sent with the next sample, at most once a
    /// tick.
    pub fn set_pose(&mut self, cube: CubeId, pose: Pose) {
        let sent = self.ahead.sent(cube, pose, self.polled_at);
        if let Some(session) = &mut self.session
            && session.set_pose(cube, sent)
        {
            self.view.set_pose(cube, pose);
        } else {
            self.ahead.set_pose(cube, pose);
        }
    }

    /// Asks to hold a free cube; [`ClientEvent::CubeTaken`] or [`ClientEvent::Refused`] answers.
    /// Until then [`set_pose`](Self::set_pose) moves it for this client alone. If somebody else
    /// has it, it goes back from there within a moment.
    pub fn take(&mut self, cube: CubeId) {
        if let Some(session) = self.session.as_mut().filter(|session| session.is_joined()) {
            session.take(cube);
            if !self.view.is_controlled(cube) {
                self.ahead.ask(cube);
            }
        }
    }

    /// Lets go of a held cube where [`set_pose`](Self::set_pose) put it last.
    pub fn release(&mut self, cube: CubeId) {
        let Some(session) = &mut self.session else {
            return;
        };
        if let Some(pose) = self.ahead.released(cube) {
            session.set_pose(cube, pose);
        }
        session.release(cube);
    }

    /// What the network lab does to the connection.
    pub fn lab(&self) -> Conditions {
        self.lab.conditions()
    }

    /// Makes the network worse than it is, or as good again.
    pub fn set_lab(&mut self, conditions: Conditions) {
        self.lab.set_conditions(conditions);
        if let Some(session) = &mut self.session {
            session.measure_again();
        }
    }

    /// How remote cubes are shown.
    pub fn display(&self) -> Display {
        self.display
    }

    /// From now on remote cubes are shown like this, after reconnects as well.
    pub fn set_display(&mut self, display: Display) {
        self.display = display;
        self.view.set_display(display);
    }

    /// Where the server said last that a cube is: at its own time, without a playout delay.
    pub fn told(&self, cube: CubeId) -> Option<Pose> {
        let world = self.session.as_ref().and_then(Session::world);
        world.and_then(|world| world.pose(cube))
    }

    /// When the recent ticks of this session arrived.
    pub fn arrivals(&self) -> &Arrivals {
        &self.arrivals
    }

    /// The server's tick now and the part of it that has passed, once joined.
    pub fn tick_at(&self, now: Duration) -> Option<f64> {
        let clock = self.session.as_ref().and_then(Session::clock)?;
        Some(clock.tick_at(now))
    }

    /// Every cube as it is to be drawn now, by rising id. After a lost connection: as it was
    /// last, until the client has joined again.
    pub fn cubes(&self, now: Duration) -> Vec<CubeView<'_>> {
        let Some(session) = self.shown() else {
            return Vec::new();
        };
        let (Some(welcome), Some(world), Some(clock)) =
            (session.welcome(), session.world(), session.clock())
        else {
            return Vec::new();
        };
        let clock_tick = clock.tick_at(now);
        let is_silent = !session.is_joined() || now.saturating_sub(session.heard()) >= STALE_AFTER;
        let view = |info| self.view_of(info, now, clock_tick, welcome.cube, is_silent);
        world.cubes().map(view).collect()
    }

    /// What the connection did so far.
    pub fn statistics(&self) -> Statistics {
        let mut statistics = self.total;
        if let Some(session) = &self.session {
            statistics.add(session.counters());
            statistics.round_trip = session.clock().and_then(Clock::round_trip);
            statistics.lead = session.lead().unwrap_or_default();
            statistics.players = session.world().map_or(0, World::players);
            let delay_s = session.welcome().map_or(0.0, |welcome| {
                self.view.delay_ticks().max(0.0) / f64::from(welcome.tick_hz)
            });
            // A server that lies about its ticks can make it longer than a duration can be.
            let delay = Duration::try_from_secs_f64(delay_s);
            statistics.playout_delay = delay.unwrap_or(Duration::MAX);
        }
        statistics
    }

    /// Leaves for good; flushes what it can without blocking.
    pub fn close(&mut self) {
        if let Some(session) = &mut self.session {
            session.leave();
        }
        // Nobody waits for the lab any more.
        self.flush(self.polled_at);
        self.flush(Duration::MAX);
        if let Some(session) = self.session.take() {
            self.total.add(session.counters());
        }
        self.previous = None;
        self.link = Link::Down { retry_at: None };
        self.status = Status::Failed {
            reason: "left the room".to_owned(),
        };
    }

    fn connect_when_due(&mut self, now: Duration) {
        let Link::Down {
            retry_at: Some(retry_at),
        } = self.link
        else {
            return;
        };
        if now < retry_at {
            if let Status::Waiting { retry_in, .. } = &mut self.status {
                *retry_in = retry_at - now;
            }
            return;
        }
        if let Err(reason) = self.options.check_address() {
            return self.disconnect(now, reason, Retry::Never);
        }
        self.status = Status::Connecting;
        self.link = Link::Up(Socket::connect(&self.options.server, now));
    }

    fn read(&mut self, now: Duration) {
        let Link::Up(socket) = &mut self.link else {
            return;
        };
        let session = match (socket.poll(now), &mut self.session) {
            (SocketState::Connecting, _) => return,
            (SocketState::Closed { reason }, None) => {
                let reason = reason.to_owned();
                return self.disconnect(now, reason, Retry::Backoff);
            }
            (_, Some(session)) => session,
            (SocketState::Open, none) => {
                self.status = Status::Joining;
                let mut hello = self.options.hello();
                hello.pose = self.previous.as_ref().and_then(Session::own_pose);
                if let Some(tap) = &mut self.tap {
                    tap.connected();
                }
                none.insert(Session::new(hello, now))
            }
        };
        for _ in 0..MAX_READS_PER_POLL {
            let line = &mut self.lab.down;
            let has_read = line.has_room() && socket.receive(&mut self.arriving) > 0;
            line.send(now, &mut self.arriving);
            let arrived = line.receive(now, &mut self.incoming);
            if arrived > 0 {
                self.total.bytes_in += arrived as u64;
                if let Some(tap) = &mut self.tap {
                    tap.received(now, &self.incoming[self.incoming.len() - arrived..]);
                }
                session.receive(now, &mut self.incoming);
            }
            if !has_read {
                break;
            }
        }
        if let SocketState::Closed { reason } = socket.poll(now)
            && self.lab.down.is_empty()
        {
            session.disconnected(reason);
        }
    }

    fn flush(&mut self, now: Duration) {
        if let (Link::Up(socket), Some(session)) = (&mut self.link, &mut self.session) {
            let line = &mut self.lab.up;
            // What the socket does not take stays with the session, which then sends less.
            if self.departing.is_empty() && line.has_room() {
                if let Some(tap) = self.tap.as_mut().filter(|_| !session.outgoing().is_empty()) {
                    tap.sent(now, session.outgoing());
                }
                line.send(now, session.outgoing());
            }
            line.receive(now, &mut self.departing);
            self.total.bytes_out += socket.send(&mut self.departing) as u64;
        }
    }

    fn take_events(&mut self, now: Duration) {
        while let Some(event) = self.session.as_mut().and_then(Session::next_event) {
            match event {
                SessionEvent::Joined(welcome) => self.joined(welcome),
                SessionEvent::World(change) => self.changed(now, change),
                SessionEvent::Corrected(corrected) => {
                    self.correct(corrected, now);
                    self.events.push_back(ClientEvent::Corrected(corrected));
                }
                SessionEvent::Refused { cube, holder } => {
                    self.give_back(cube, now);
                    let refused = ClientEvent::Refused { cube, holder };
                    self.events.push_back(refused);
                }
                SessionEvent::Ended { reason, retry } => self.disconnect(now, reason, retry),
            }
        }
    }

    fn joined(&mut self, welcome: Welcome) {
        self.previous = None;
        self.view = View::new(welcome.tick_hz);
        self.view.set_display(self.display);
        self.view.gain(welcome.cube, welcome.pose);
        self.ahead = Ahead::default();
        self.arrivals = Arrivals::default();
        self.status = Status::Joined;
        self.options.resume = Some(welcome.resume);
        self.events.push_back(ClientEvent::Joined(welcome));
    }

    fn changed(&mut self, now: Duration, change: WorldChange) {
        let own = self.own_cube();
        let event = match change {
            WorldChange::Moved {
                tick,
                known_until,
                states,
            } => {
                if let Some(clock_tick) = self.tick_at(now) {
                    let delay_ticks = self.view.delay_ticks();
                    self.view.moved(clock_tick, tick, known_until, &states);
                    let tick_hz = self.welcome().map_or(0, |welcome| welcome.tick_hz);
                    self.arrivals
                        .arrived(tick, clock_tick, delay_ticks, tick_hz);
                }
                return;
            }
            WorldChange::Joined(info) if Some(info.cube) == own => return,
            WorldChange::Joined(info) => ClientEvent::CubeJoined(info),
            WorldChange::Left(info) => {
                self.view.remove(info.cube);
                self.ahead.forget(info.cube);
                ClientEvent::CubeLeft(info)
            }
            WorldChange::Appeared(info) => match holder_of(&info).filter(|&by| Some(by) == own) {
                Some(by) => self.taken(info.cube, by, now),
                None => return,
            },
            WorldChange::Disappeared(info) if Some(info.cube) == own => return,
            WorldChange::Disappeared(info) => {
                let was_held = self.view.is_controlled(info.cube);
                self.view.remove(info.cube);
                self.ahead.forget(info.cube);
                if !was_held {
                    return;
                }
                ClientEvent::CubeFreed { cube: info.cube }
            }
            WorldChange::Taken { cube, by } => self.taken(cube, by, now),
            WorldChange::Freed { cube } => {
                self.view.lose(cube);
                ClientEvent::CubeFreed { cube }
            }
        };
        self.events.push_back(event);
    }

    fn taken(&mut self, cube: CubeId, by: CubeId, now: Duration) -> ClientEvent {
        self.view.lose(cube);
        if Some(by) == self.own_cube() {
            let from = self.told(cube).unwrap_or_default();
            let shown = self.ahead.granted(cube, from, now);
            self.view.gain(cube, shown);
        } else {
            self.give_back(cube, now);
        }
        ClientEvent::CubeTaken { cube, by }
    }

    /// The server put a cube of this client somewhere else.
    fn correct(&mut self, corrected: CubePose, now: Duration) {
        let CubePose { cube, pose } = corrected;
        let shown_m = self.place_m(cube, now);
        self.view.set_pose(cube, pose);
        if let Some(shown_m) = shown_m {
            let to_m = pose.position.to_metres();
            self.ahead.corrected(cube, shown_m, to_m, now);
        }
    }

    /// Somebody else has the cube that was asked for.
    fn give_back(&mut self, cube: CubeId, now: Duration) {
        if let Some(shown) = self.ahead.refused(cube)
            && let Some(to_m) = self.place_m(cube, now)
        {
            let shown_m = shown.position.to_metres();
            self.ahead.go_back(cube, shown_m, to_m, now);
        }
    }

    fn disconnect(&mut self, now: Duration, reason: String, retry: Retry) {
        let mut lasted = Duration::ZERO;
        if let Some(session) = self.session.take() {
            self.total.add(session.counters());
            if session.welcome().is_some() {
                lasted = now.saturating_sub(session.started());
                self.previous = Some(session);
                let reason = reason.clone();
                self.events.push_back(ClientEvent::Disconnected { reason });
            }
        }
        for buffer in [&mut self.arriving, &mut self.incoming, &mut self.departing] {
            buffer.clear();
        }
        self.lab.clear();
        self.ahead = Ahead::default();
        let wait = match retry {
            Retry::Backoff => Some(self.backoff.next(lasted)),
            Retry::After(wait) => Some(wait),
            Retry::Never => None,
        };
        let retry_at = wait.map(|wait| now + wait);
        self.link = Link::Down { retry_at };
        self.status = match wait {
            Some(retry_in) => Status::Waiting { retry_in, reason },
            None => Status::Failed { reason },
        };
    }

    /// The session whose room is shown.
    fn shown(&self) -> Option<&Session> {
        let joined = self.session.as_ref().filter(|session| session.is_joined());
        joined.or(self.previous.as_ref())
    }

    /// Where a cube is shown.
    fn place_m(&self, cube: CubeId, now: Duration) -> Option<[f32; 3]> {
        let session = self.session.as_ref()?;
        let info = session.world()?.cube(cube)?;
        let clock_tick = session.clock()?.tick_at(now);
        Some(self.drawn(info, now, clock_tick).position)
    }

    fn drawn(&self, info: &CubeInfo, now: Duration, clock_tick: f64) -> DrawnPose {
        if let Some(pose) = self.ahead.pose(info.cube) {
            return pose.into();
        }
        let drawn = self.view.pose_at(info, clock_tick);
        DrawnPose {
            position: self.ahead.shown_m(info.cube, drawn.position, now),
            ..drawn
        }
    }

    fn view_of<'a>(
        &self,
        info: &'a CubeInfo,
        now: Duration,
        clock_tick: f64,
        own: CubeId,
        is_silent: bool,
    ) -> CubeView<'a> {
        let drawn = self.drawn(info, now, clock_tick);
        CubeView {
            cube: info.cube,
            kind: info.kind,
            name: &info.name,
            colour: info.colour,
            position: drawn.position,
            rotation: drawn.rotation,
            own: info.cube == own,
            stale: info.kind == CubeKind::Ghost
                || (is_silent && !self.view.is_controlled(info.cube)),
        }
    }
}
