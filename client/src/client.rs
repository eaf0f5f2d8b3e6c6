//! A client for a game or a bot: socket, session, snapshot buffer and reconnect behind one type.

mod arrivals;
mod datagrams;
mod events;
mod link;
mod reconciliation;
mod rejoin;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;
use cubesync_protocol::interpolation::DrawnPose;
use cubesync_protocol::{CubeId, CubeInfo, CubeKind, Pose, Welcome};

use self::arrivals::Arrivals;
pub use self::arrivals::{ARRIVALS_KEPT, TickArrival, Way};
use self::link::Link;
use self::reconciliation::Reconciliation;
use self::rejoin::Rejoin;
use crate::lab::{Conditions, Lab};
use crate::options::{ClientOptions, bare_address};
use crate::playout::{Display, View};
use crate::reconnect::Servers;
use crate::recorder::Tap;
use crate::report::{ClientEvent, CubeView, Statistics, Status};
use crate::session::{Clock, Session};

/// Silence after which others are shown as stale: one and a half heartbeats.
pub(crate) const STALE_AFTER: Duration = Duration::from_millis(1_500);
/// Time for which the own cube can be moved after a lost connection, so that a player who goes on at
/// another server hardly notices. Then the cube stands, since nobody sees it move.
const MOVABLE_AFTER_LOSS: Duration = Duration::from_secs(2);

/// A client that joins a room, stays in it, and comes back after a lost connection, at the same
/// server or at another one of the same room.
///
/// Times are since an epoch of the caller's choice and must not go backwards.
#[derive(Debug)]
pub struct Client {
    options: ClientOptions,
    link: Link,
    status: Status,
    /// Why the last connection or try ended, until the client has joined again.
    trouble: Option<String>,
    servers: Servers,
    lab: Lab,
    /// Bytes from the socket to the lab, from the lab to the session, and from the lab to the socket.
    arriving: BytesMut,
    incoming: BytesMut,
    departing: BytesMut,
    session: Option<Session>,
    /// The last session that had joined and has ended. It is shown until the next one has joined.
    previous: Option<Session>,
    lost_at: Duration,
    rejoin: Rejoin,
    view: View,
    display: Display,
    reconciliation: Reconciliation,
    arrivals: Arrivals,
    polled_at: Duration,
    tap: Option<Tap>,
    events: VecDeque<ClientEvent>,
    /// The counts of ended sessions, and all bytes.
    total: Statistics,
}

impl Client {
    /// Makes a client that starts to connect at its first poll. `seed` varies the waits between
    /// tries, so that many clients do not come back in the same moment.
    pub fn new(options: ClientOptions, seed: u64) -> Self {
        Self {
            lab: Lab::new(options.lab, options.lab_seed),
            servers: Servers::new(&options.server, seed),
            options,
            link: Link::Down {
                retry_at: Some(Duration::ZERO),
            },
            status: Status::Connecting,
            trouble: None,
            arriving: BytesMut::new(),
            incoming: BytesMut::new(),
            departing: BytesMut::new(),
            session: None,
            previous: None,
            lost_at: Duration::ZERO,
            rejoin: Rejoin::default(),
            view: View::default(),
            display: Display::default(),
            reconciliation: Reconciliation::default(),
            arrivals: Arrivals::default(),
            polled_at: Duration::ZERO,
            tap: None,
            events: VecDeque::new(),
            total: Statistics::default(),
        }
    }

    /// Hands all bytes to a recorder from now on. Call it before the first poll.
    pub fn record(&mut self, tap: Tap) {
        self.tap = Some(tap);
    }

    /// Returns the options, with the newest resume token.
    pub fn options(&self) -> &ClientOptions {
        &self.options
    }

    /// Reads what has arrived and sends what is due. Call it once a frame; it never blocks.
    pub fn poll(&mut self, now: Duration) {
        self.polled_at = now;
        self.connect_when_due(now);
        let bytes_before = self.total.bytes_in;
        self.arrivals.begin(Way::Datagram);
        self.read_datagrams(now);
        self.take_events(now);
        self.arrivals.begin(Way::Stream);
        self.read(now);
        if let Some(session) = &mut self.session {
            session.poll(now);
        }
        self.take_events(now);
        self.give_up_when_late(now);
        self.arrivals.read(self.total.bytes_in - bytes_before);
        self.flush(now);
        if let Some(clock) = self.session.as_ref().and_then(Session::clock) {
            self.view.advance(clock.steady_tick_at(now));
        }
        self.reconciliation.advance(now);
    }

    /// Sends the poses that were set in this frame, when a sample is due, and lets loose cubes give way to them. Call
    /// it after [`set_pose`](Self::set_pose) and before drawing. Without this call the next poll sends them,
    /// everybody else sees this client's cubes a frame later, and what they touch moves a round trip later.
    pub fn send(&mut self, now: Duration) {
        self.touch(now);
        if let Some(session) = &mut self.session {
            session.send(now);
            self.flush(now);
        }
    }

    /// Returns the next event. Call it after each poll until there is none.
    pub fn next_event(&mut self) -> Option<ClientEvent> {
        self.events.pop_front()
    }

    /// Returns the state of the connection, as of the last poll.
    pub fn status(&self) -> Status {
        self.status.clone()
    }

    /// Returns why the last connection or try ended, for a person, until the client has joined again. It
    /// stays while the next try is under way, which may take longer than the wait before.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Returns the server that the client is at or tries to reach: the one in its options, or
    /// another one of the same rooms.
    pub fn server(&self) -> &str {
        bare_address(self.servers.at())
    }

    /// Returns the own cube while joined, and for two seconds after a lost connection: meanwhile it
    /// can be moved, and it goes on from there at the next server.
    pub fn own_cube(&self) -> Option<CubeId> {
        let joined = self.session.as_ref().filter(|session| session.is_joined());
        let recent = || {
            let lost = self.previous.as_ref();
            lost.filter(|_| self.polled_at.saturating_sub(self.lost_at) < MOVABLE_AFTER_LOSS)
        };
        let welcome = joined.or_else(recent)?.welcome()?;
        Some(welcome.cube)
    }

    /// Returns the server's welcome, while joined.
    pub fn welcome(&self) -> Option<&Welcome> {
        self.session.as_ref().and_then(Session::welcome)
    }

    /// Moves the own cube, a held one, or the one that was asked for last; any other cube stays where
    /// it is. The cube is shown there at once, and sent with the next sample, at most once a tick; see
    /// [`send`](Self::send).
    pub fn set_pose(&mut self, cube: CubeId, pose: Pose) {
        let sent = self.reconciliation.sent(cube, pose, self.polled_at);
        let joined = self.session.as_mut().filter(|session| session.is_joined());
        if let Some(session) = joined.or(self.previous.as_mut())
            && session.set_pose(cube, sent)
        {
            self.view.set_pose(cube, pose);
        } else {
            self.reconciliation.set_pose(cube, pose);
        }
    }

    /// Asks to hold a free cube; [`ClientEvent::CubeTaken`] or [`ClientEvent::Refused`] answers.
    /// Until then [`set_pose`](Self::set_pose) moves it for this client alone. If somebody else got
    /// it, it goes back within a moment.
    pub fn take(&mut self, cube: CubeId) {
        if let Some(session) = self.session.as_mut().filter(|session| session.is_joined()) {
            session.take(cube);
            if !self.view.is_controlled(cube) {
                self.reconciliation.ask(cube);
            }
        }
    }

    /// Releases a held cube where [`set_pose`](Self::set_pose) put it last. In a room with physics it flies on from
    /// there, with the speed that it has.
    pub fn release(&mut self, cube: CubeId) {
        let Some(session) = &mut self.session else {
            return;
        };
        if let Some(pose) = self.reconciliation.released(cube) {
            session.set_pose(cube, pose);
        }
        session.release(cube);
        if session.welcome().is_some_and(|welcome| welcome.physics) {
            self.view.let_go(cube);
        }
    }

    /// Returns what the network lab does to the connection.
    pub fn lab(&self) -> Conditions {
        self.lab.conditions()
    }

    /// Makes the network worse than it is, or as good as it is again.
    pub fn set_lab(&mut self, conditions: Conditions) {
        self.lab.set_conditions(conditions);
        if let Some(session) = &mut self.session {
            session.measure_again();
        }
    }

    /// Returns how remote cubes are shown.
    pub fn display(&self) -> Display {
        self.display
    }

    /// Sets how remote cubes are shown from now on, after reconnects as well.
    pub fn set_display(&mut self, display: Display) {
        self.display = display;
        self.view.set_display(display);
    }

    /// Returns a cube's pose at the newest tick of the server, without a playout delay.
    pub fn server_pose(&self, cube: CubeId) -> Option<Pose> {
        let replica = self.session.as_ref().and_then(Session::replica);
        replica.and_then(|replica| replica.pose(cube))
    }

    /// Returns how the ticks of the last [`ARRIVALS_KEPT`] arrived, by rising tick, for a net graph.
    pub fn arrivals(&self) -> impl DoubleEndedIterator<Item = &TickArrival> {
        self.arrivals.recent()
    }

    /// Returns the server's tick now and the part of it that has passed, once joined.
    pub fn tick_at(&self, now: Duration) -> Option<f64> {
        let clock = self.session.as_ref().and_then(Session::clock)?;
        Some(clock.tick_at(now))
    }

    /// Returns every cube as it is to be drawn now, by rising id. After a lost connection these are
    /// the last known ones, until the client has joined again.
    pub fn cubes(&self, now: Duration) -> Vec<CubeView<'_>> {
        let Some(session) = self.shown() else {
            return Vec::new();
        };
        let (Some(welcome), Some(replica), Some(clock)) =
            (session.welcome(), session.replica(), session.clock())
        else {
            return Vec::new();
        };
        let clock_tick = self.view_tick(clock, now);
        let is_silent = now.saturating_sub(session.last_received()) >= STALE_AFTER;
        let view = |info| self.view_of(info, now, clock_tick, welcome.cube, is_silent);
        replica.cubes().map(view).collect()
    }

    /// Returns what the client has sent and received so far, and how its connection is.
    pub fn statistics(&self) -> Statistics {
        let mut statistics = self.total;
        // They stay until the next join: a lost connection is when one wants to read them.
        statistics.late_ticks = self.arrivals.late_ticks();
        statistics.missing_ticks = self.arrivals.missing_ticks();
        if let Some(session) = &self.session {
            let now = session.statistics();
            statistics.add(&now);
            statistics.round_trip = now.round_trip;
            statistics.lead = now.lead;
            statistics.datagram_loss = now.datagram_loss;
            statistics.players = now.players;
            let delay_ticks = self.playout_delay_ticks(self.polled_at).unwrap_or_default();
            let delay_s = session.welcome().map_or(0.0, |welcome| {
                delay_ticks.max(0.0) / f64::from(welcome.tick_hz)
            });
            // A server with impossible ticks could make it longer than a duration can be.
            let delay = Duration::try_from_secs_f64(delay_s);
            statistics.playout_delay = delay.unwrap_or(Duration::MAX);
        }
        statistics
    }

    /// Leaves the room for good, and sends what can be sent without blocking.
    pub fn close(&mut self) {
        if let Some(session) = &mut self.session {
            session.leave();
        }
        // The lab's delays do not matter any more.
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

    /// Shows at once that loose cubes give way to the own cube and a held one, and that they come back, though the
    /// connection is lost.
    fn touch(&mut self, now: Duration) {
        let joined = self.session.as_ref().filter(|session| session.is_joined());
        let Some(session) = joined.or(self.previous.as_ref()) else {
            return;
        };
        // The room may go on at a server without mechanics.
        if session.welcome().is_some_and(|welcome| !welcome.physics) {
            self.view.forget_touches();
            return;
        }
        if let (Some(clock), Some(replica)) = (session.clock(), session.replica()) {
            let clock_tick = self.view_tick(clock, now);
            let asked = self.reconciliation.asked();
            let others = |cube| replica.cube(cube).filter(|_| asked != Some(cube));
            self.view.touch(clock_tick, others);
        }
    }

    /// Returns the session whose room is shown.
    fn shown(&self) -> Option<&Session> {
        let joined = self.session.as_ref().filter(|session| session.is_joined());
        joined.or(self.previous.as_ref())
    }

    /// Returns where a cube is shown, in metres.
    fn place_m(&self, cube: CubeId, now: Duration) -> Option<[f32; 3]> {
        let session = self.shown()?;
        let info = session.replica()?.cube(cube)?;
        let clock_tick = self.view_tick(session.clock()?, now);
        Some(self.drawn(info, now, clock_tick).position)
    }

    /// Returns the tick on the clock that the view follows: a steady one, unless cubes are shown in the
    /// present.
    fn view_tick(&self, clock: &Clock, now: Duration) -> f64 {
        match self.display {
            Display::Extrapolated => clock.tick_at(now),
            Display::Smooth | Display::Raw => clock.steady_tick_at(now),
        }
    }

    /// Returns the time by which remote cubes are shown behind the server's clock, in ticks.
    fn playout_delay_ticks(&self, now: Duration) -> Option<f64> {
        let clock = self.session.as_ref().and_then(Session::clock)?;
        let shown_tick = clock.steady_tick_at(now) - self.view.delay_ticks();
        Some(clock.tick_at(now) - shown_tick)
    }

    fn drawn(&self, info: &CubeInfo, now: Duration, clock_tick: f64) -> DrawnPose {
        if let Some(pose) = self.reconciliation.pose(info.cube) {
            return pose.into();
        }
        let drawn = self.view.pose_at(info, clock_tick);
        DrawnPose {
            position: self.reconciliation.shown_m(info.cube, drawn.position, now),
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
            width_m: info.width.to_metres(),
            position: drawn.position,
            rotation: drawn.rotation,
            own: info.cube == own,
            stale: info.kind == CubeKind::Ghost
                || (is_silent && !self.view.is_controlled(info.cube)),
        }
    }
}
