//! A client for a game or a bot: socket, session, snapshot buffer and reconnect behind one type.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;
use cubesync_protocol::{CubeId, CubeInfo, CubeKind, Pose, Welcome};

use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::options::ClientOptions;
use crate::report::{ClientEvent, CubeView, Statistics, Status};
use crate::session::Session;
use crate::session_event::{Retry, SessionEvent};
use crate::socket::{Socket, SocketState};
use crate::view::View;
use crate::world::{World, WorldChange, holder_of};

/// Who has not heard from the server for this long, one and a half heartbeats, shows others as
/// stale.
const STALE_AFTER: Duration = Duration::from_millis(1_500);
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
    incoming: BytesMut,
    session: Option<Session>,
    /// The last session that had joined and is over: shown until the next one has joined.
    previous: Option<Session>,
    view: View,
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
            options,
            link: Link::Down {
                retry_at: Some(Duration::ZERO),
            },
            status: Status::Connecting,
            backoff: Backoff::new(seed),
            incoming: BytesMut::new(),
            session: None,
            previous: None,
            view: View::default(),
            events: VecDeque::new(),
            total: Statistics::default(),
        }
    }

    /// What the client was made with.
    pub fn options(&self) -> &ClientOptions {
        &self.options
    }

    /// Reads what has come, sends what is due. Call it once a frame; it never blocks.
    pub fn poll(&mut self, now: Duration) {
        self.connect_when_due(now);
        self.read(now);
        if let Some(session) = &mut self.session {
            session.poll(now);
        }
        self.take_events(now);
        self.flush();
        if let Some(clock) = self.session.as_ref().and_then(Session::clock) {
            self.view.advance(clock.tick_at(now));
        }
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

    /// Puts the own cube or a held one somewhere; any other cube stays where it is. It is shown
    /// there at once and sent with the next sample, at most once a tick.
    pub fn set_pose(&mut self, cube: CubeId, pose: Pose) {
        if let Some(session) = &mut self.session
            && session.set_pose(cube, pose)
        {
            self.view.set_pose(cube, pose);
        }
    }

    /// Asks to hold a free cube; [`ClientEvent::CubeTaken`] or [`ClientEvent::Refused`] answers.
    pub fn take(&mut self, cube: CubeId) {
        if let Some(session) = &mut self.session {
            session.take(cube);
        }
    }

    /// Lets go of a held cube where [`set_pose`](Self::set_pose) put it last.
    pub fn release(&mut self, cube: CubeId) {
        if let Some(session) = &mut self.session {
            session.release(cube);
        }
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
        let view = |info| self.view_of(info, clock_tick, welcome.cube, is_silent);
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
        self.flush();
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
                none.insert(Session::new(hello, now))
            }
        };
        for _ in 0..MAX_READS_PER_POLL {
            let count = socket.receive(&mut self.incoming);
            if count == 0 {
                break;
            }
            self.total.bytes_in += count as u64;
            session.receive(now, &mut self.incoming);
        }
        if let SocketState::Closed { reason } = socket.poll(now) {
            session.disconnected(reason);
        }
    }

    fn flush(&mut self) {
        if let (Link::Up(socket), Some(session)) = (&mut self.link, &mut self.session) {
            self.total.bytes_out += socket.send(session.outgoing()) as u64;
        }
    }

    fn take_events(&mut self, now: Duration) {
        while let Some(event) = self.session.as_mut().and_then(Session::next_event) {
            match event {
                SessionEvent::Joined(welcome) => self.joined(welcome),
                SessionEvent::World(change) => self.changed(now, change),
                SessionEvent::Corrected(corrected) => {
                    self.view.set_pose(corrected.cube, corrected.pose);
                    self.events.push_back(ClientEvent::Corrected(corrected));
                }
                SessionEvent::Refused { cube, holder } => {
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
        self.view.gain(welcome.cube, welcome.pose);
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
                if let Some(clock) = self.session.as_ref().and_then(Session::clock) {
                    let clock_tick = clock.tick_at(now);
                    self.view.moved(clock_tick, tick, known_until, &states);
                }
                return;
            }
            WorldChange::Joined(info) if Some(info.cube) == own => return,
            WorldChange::Joined(info) => ClientEvent::CubeJoined(info),
            WorldChange::Left(info) => {
                self.view.remove(info.cube);
                ClientEvent::CubeLeft(info)
            }
            WorldChange::Appeared(info) => match holder_of(&info).filter(|&by| Some(by) == own) {
                Some(by) => self.taken(info.cube, by),
                None => return,
            },
            WorldChange::Disappeared(info) if Some(info.cube) == own => return,
            WorldChange::Disappeared(info) => {
                let was_held = self.view.is_controlled(info.cube);
                self.view.remove(info.cube);
                if !was_held {
                    return;
                }
                ClientEvent::CubeFreed { cube: info.cube }
            }
            WorldChange::Taken { cube, by } => self.taken(cube, by),
            WorldChange::Freed { cube } => {
                self.view.lose(cube);
                ClientEvent::CubeFreed { cube }
            }
        };
        self.events.push_back(event);
    }

    fn taken(&mut self, cube: CubeId, by: CubeId) -> ClientEvent {
        self.view.lose(cube);
        if Some(by) == self.own_cube() {
            let world = self.session.as_ref().and_then(Session::world);
            let pose = world.and_then(|world| world.pose(cube));
            self.view.gain(cube, pose.unwrap_or_default());
        }
        ClientEvent::CubeTaken { cube, by }
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
        self.incoming.clear();
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

    fn view_of<'a>(
        &self,
        info: &'a CubeInfo,
        clock_tick: f64,
        own: CubeId,
        is_silent: bool,
    ) -> CubeView<'a> {
        let drawn = self.view.pose_at(info, clock_tick);
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
