//! A client for a game or a bot: socket, session, snapshot buffer and reconnect behind one type.

mod ahead;
mod arrivals;
mod events;
mod link;
mod reunion;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;
use cubesync_protocol::interpolation::DrawnPose;
use cubesync_protocol::{CubeId, CubeInfo, CubeKind, Pose, Welcome};

use self::ahead::Ahead;
use self::arrivals::Arrivals;
pub use self::arrivals::{ARRIVALS_KEPT, Arrival};
use self::link::Link;
use self::reunion::Reunion;
use crate::lab::{Conditions, Lab};
use crate::options::{ClientOptions, bare_address};
use crate::playout::{Display, View};
use crate::reconnect::Servers;
use crate::recorder::Tap;
use crate::report::{ClientEvent, CubeView, Statistics, Status};
use crate::session::Session;

/// Who has not heard from the server for this long, one and a half heartbeats, shows others as
/// stale.
pub(crate) const STALE_AFTER: Duration = Duration::from_millis(1_500);
/// After a lost connection the own cube can be moved on for this long: who plays on at another
/// server hardly notices. Then it stands, since nobody sees it.
const GLIDE: Duration = Duration::from_secs(2);

/// A client of one server, or of one after the other, connected or about to be.
///
/// Times are since an epoch of the caller's choice and must not go backwards.
#[derive(Debug)]
pub struct Client {
    options: ClientOptions,
    link: Link,
    status: Status,
    servers: Servers,
    lab: Lab,
    /// From the socket to the lab, from there to the session, and from the lab to the socket.
    arriving: BytesMut,
    incoming: BytesMut,
    departing: BytesMut,
    session: Option<Session>,
    /// The last session that had joined and is over: shown until the next one has joined.
    previous: Option<Session>,
    lost_at: Duration,
    reunion: Reunion,
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

impl Client {
    /// A client that starts connecting at its first poll. `seed` varies the waits between tries,
    /// so that many clients do not come back in the same moment.
    pub fn new(options: ClientOptions, seed: u64) -> Self {
        Self {
            lab: Lab::new(options.lab, options.lab_seed),
            servers: Servers::new(&options.server, seed),
            options,
            link: Link::Down {
                retry_at: Some(Duration::ZERO),
            },
            status: Status::Connecting,
            arriving: BytesMut::new(),
            incoming: BytesMut::new(),
            departing: BytesMut::new(),
            session: None,
            previous: None,
            lost_at: Duration::ZERO,
            reunion: Reunion::default(),
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
        self.give_up_when_late(now);
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

    /// The server that the client is at or tries to reach: the one in its options, or another one
    /// of the same rooms.
    pub fn server(&self) -> &str {
        bare_address(self.servers.at())
    }

    /// The own cube, while joined and for two seconds after a lost connection: meanwhile it can be
    /// moved on, and goes on from there at the next server.
    pub fn own_cube(&self) -> Option<CubeId> {
        let joined = self.session.as_ref().filter(|session| session.is_joined());
        let glides = || {
            let lost = self.previous.as_ref();
            lost.filter(|_| self.polled_at.saturating_sub(self.lost_at) < GLIDE)
        };
        let welcome = joined.or_else(glides)?.welcome()?;
        Some(welcome.cube)
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
        let joined = self.session.as_mut().filter(|session| session.is_joined());
        if let Some(session) = joined.or(self.previous.as_mut())
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
        let replica = self.session.as_ref().and_then(Session::replica);
        replica.and_then(|replica| replica.pose(cube))
    }

    /// Returns how the ticks of the last [`ARRIVALS_KEPT`] arrived, by rising tick, for a net graph.
    pub fn arrivals(&self) -> impl DoubleEndedIterator<Item = &Arrival> {
        self.arrivals.recent()
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
        let (Some(welcome), Some(replica), Some(clock)) =
            (session.welcome(), session.replica(), session.clock())
        else {
            return Vec::new();
        };
        let clock_tick = clock.tick_at(now);
        let is_silent = now.saturating_sub(session.heard()) >= STALE_AFTER;
        let view = |info| self.view_of(info, now, clock_tick, welcome.cube, is_silent);
        replica.cubes().map(view).collect()
    }

    /// What the connection did so far.
    pub fn statistics(&self) -> Statistics {
        let mut statistics = self.total;
        if let Some(session) = &self.session {
            let now = session.statistics();
            statistics.add(&now);
            statistics.round_trip = now.round_trip;
            statistics.lead = now.lead;
            statistics.players = now.players;
            statistics.late_ticks = self.arrivals.late_ticks();
            statistics.missing_ticks = self.arrivals.missing_ticks();
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
            self.total.add(&session.statistics());
        }
        self.previous = None;
        self.link = Link::Down { retry_at: None };
        self.status = Status::Failed {
            reason: "left the room".to_owned(),
        };
    }

    /// The session whose room is shown.
    fn shown(&self) -> Option<&Session> {
        let joined = self.session.as_ref().filter(|session| session.is_joined());
        joined.or(self.previous.as_ref())
    }

    /// Where a cube is shown.
    fn place_m(&self, cube: CubeId, now: Duration) -> Option<[f32; 3]> {
        let session = self.shown()?;
        let info = session.replica()?.cube(cube)?;
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
