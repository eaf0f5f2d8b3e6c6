//! Plays a trace through a network to a display, frame by frame, in simulated time.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;
use cubesync_client::playout::View;
use cubesync_client::session::{Session, SessionEvent};
use cubesync_protocol::limits::{HEARTBEAT_INTERVAL, MOVING_HEARTBEAT_INTERVAL, PROTOCOL_VERSION};
use cubesync_protocol::motion::{Codec, MotionSet, MotionState};
use cubesync_protocol::replica::Change;
use cubesync_protocol::{
    CellId, ClientMessage, Colour, CubeId, CubeInfo, CubeKind, Hello, Keyframe, Message, Pose,
    ResumeToken, ServerMessage, Snapshot, Welcome, frame,
};

use crate::network::{Network, Path};
use crate::rivals::{self, Rival};
use crate::trace::{Placed, Trace};

/// Ticks per second.
pub(crate) const TICK_HZ: u8 = 30;
/// The time between two frames: 59.94 per second, so that they meet the ticks at every phase.
pub(crate) const FRAME_S: f64 = 1.001 / 60.0;
/// The client's clock at the server's time 0, and the factor by which it runs faster.
const CLOCK_AHEAD_S: f64 = 17.25;
const CLOCK_SKEW: f64 = 30e-6;

const OWN: CubeId = CubeId(0);
const SHOWN: CubeId = CubeId(1);
/// The colour of all players.
pub(crate) const COLOUR: Colour = Colour {
    red: 224,
    green: 128,
    blue: 32,
};

/// A cube as it was drawn in a frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown {
    /// The time of the frame.
    pub(crate) time_s: f64,
    /// The time of the truth that the frame shows.
    pub(crate) truth_s: f64,
    pub(crate) placed: Placed,
}

/// Plays a trace to a rival and returns the frames.
pub(crate) fn rival(
    rival: &mut dyn Rival,
    trace: &Trace,
    network: &Network,
    seed: u64,
    seconds: f64,
) -> Vec<Shown> {
    let mut path = Path::new(network, seed, seconds);
    let mut on_the_way = VecDeque::new();
    let mut tick = 0;
    let mut shown = Vec::new();
    for now_s in frames(seconds) {
        while tick_s(tick) <= now_s {
            let time_s = tick_s(tick);
            let placed = trace.at(time_s);
            let snapshot = rivals::Snapshot { time_s, placed };
            on_the_way.push_back((path.arrival_s(time_s), snapshot));
            tick += 1;
        }
        while let Some(snapshot) = next_arrived(&mut on_the_way, now_s) {
            rival.hear(now_s, snapshot);
        }
        shown.extend(rival.show(now_s).map(|drawn| Shown {
            time_s: now_s,
            truth_s: drawn.time_s,
            placed: drawn.placed,
        }));
    }
    shown
}

/// Plays a trace to the client library, with the messages of a server, and returns the frames.
pub(crate) fn ours(trace: &Trace, network: &Network, seed: u64, seconds: f64) -> Vec<Shown> {
    let mut server = Server::new(trace, network, seed, seconds);
    let hello = Hello::new("lobby", "Anna", COLOUR);
    let mut client = Viewer::new(Session::new(hello, client_time(0.0)));
    let mut shown = Vec::new();
    for now_s in frames(seconds) {
        server.go_to(now_s);
        let incoming = server.take_arrived(now_s);
        let outgoing = client.frame(client_time(now_s), incoming);
        server.hear(now_s, outgoing);
        shown.extend(
            client
                .draw(client_time(now_s))
                .map(|(truth_s, placed)| Shown {
                    time_s: now_s,
                    truth_s,
                    placed,
                }),
        );
    }
    shown
}

/// Returns the next item that has arrived by now.
fn next_arrived<T>(on_the_way: &mut VecDeque<(f64, T)>, now_s: f64) -> Option<T> {
    let &(at_s, _) = on_the_way.front()?;
    let next = if at_s <= now_s {
        on_the_way.pop_front()
    } else {
        None
    };
    next.map(|(_, next)| next)
}

fn frames(seconds: f64) -> impl Iterator<Item = f64> {
    let count = (seconds / FRAME_S) as u32;
    (1..count).map(|frame| f64::from(frame) * FRAME_S)
}

/// Returns the time of a tick.
pub(crate) fn tick_s(tick: u64) -> f64 {
    tick as f64 / f64::from(TICK_HZ)
}

fn client_time(server_s: f64) -> Duration {
    Duration::from_secs_f64(CLOCK_AHEAD_S + server_s * (1.0 + CLOCK_SKEW))
}

/// The server of one client that watches one cube. It publishes by itself, because the
/// relay's publisher needs a world of players who send samples, and the trace is to come unchanged.
struct Server<'a> {
    trace: &'a Trace,
    predicted: MotionSet,
    tick: u64,
    /// The tick of the last snapshot or heartbeat.
    sent_tick: u64,
    down: Path,
    up: Path,
    /// Messages and the times at which they arrive.
    on_the_way: VecDeque<(f64, BytesMut)>,
    /// The arrival times of pings, and the times in them.
    pings: VecDeque<(f64, u64)>,
}

impl<'a> Server<'a> {
    fn new(trace: &'a Trace, network: &Network, seed: u64, seconds: f64) -> Self {
        let mut predicted = MotionSet::new(&Codec::LIVE);
        let at_rest = MotionState::at_rest(trace.at(0.0).pose());
        predicted.insert(OWN, MotionState::at_rest(Pose::default()));
        predicted.insert(SHOWN, at_rest);
        let cubes = predicted.iter().map(|(cube, &state)| info(cube, state));
        let keyframe = keyframe(cubes.collect());
        let mut server = Self {
            trace,
            predicted,
            tick: 0,
            sent_tick: 0,
            down: Path::new(network, seed, seconds),
            // Other trouble than on the way down.
            up: Path::new(network, !seed, seconds),
            on_the_way: VecDeque::new(),
            pings: VecDeque::new(),
        };
        server.send(0.0, &ServerMessage::Welcome(welcome()));
        server.send(0.0, &ServerMessage::Keyframe(keyframe));
        server
    }

    /// Does everything that is due up to a time, in order.
    fn go_to(&mut self, now_s: f64) {
        loop {
            let tick_s = tick_s(self.tick + 1);
            let ping = self.pings.front().copied();
            match ping.filter(|&(at_s, _)| at_s <= now_s && at_s < tick_s) {
                Some((at_s, sent_us)) => {
                    self.pings.pop_front();
                    self.answer(at_s, sent_us);
                }
                None if tick_s <= now_s => self.next_tick(),
                None => return,
            }
        }
    }

    fn next_tick(&mut self) {
        self.tick += 1;
        self.predicted.advance_to(self.tick);
        let truth = self.trace.at(tick_s(self.tick)).pose();
        let truth = |cube| match cube {
            SHOWN => truth,
            _ => Pose::default(),
        };
        let mut residuals = Vec::new();
        let tick = self.tick;
        if self.predicted.encode_tick(truth, &mut residuals) > 0 {
            return self.publish(&ServerMessage::Snapshot(Snapshot {
                cell: CellId(0),
                tick,
                events: Vec::new(),
                residuals: residuals.into(),
            }));
        }
        let is_still = self.predicted.get(SHOWN).is_some_and(MotionState::is_still);
        let interval = match is_still {
            true => HEARTBEAT_INTERVAL,
            false => MOVING_HEARTBEAT_INTERVAL,
        };
        if tick_s(tick - self.sent_tick) >= interval.as_secs_f64() - 1e-6 {
            self.publish(&ServerMessage::Heartbeat { tick });
        }
    }

    fn publish(&mut self, message: &ServerMessage) {
        self.sent_tick = self.tick;
        self.send(tick_s(self.tick), message);
    }

    fn answer(&mut self, at_s: f64, sent_us: u64) {
        let since_tick_us = ((at_s - tick_s(self.tick)) * 1e6) as u32;
        let pong = ServerMessage::Pong {
            sent_us,
            tick: self.tick,
            since_tick_us,
            late_samples: 0,
        };
        self.send(at_s, &pong);
    }

    fn send(&mut self, now_s: f64, message: &ServerMessage) {
        let mut bytes = BytesMut::new();
        message.append_frame(&mut bytes);
        self.on_the_way
            .push_back((self.down.arrival_s(now_s), bytes));
    }

    fn take_arrived(&mut self, now_s: f64) -> BytesMut {
        let mut arrived = BytesMut::new();
        while let Some(bytes) = next_arrived(&mut self.on_the_way, now_s) {
            arrived.extend_from_slice(&bytes);
        }
        arrived
    }

    /// Handles the messages that the client sends now.
    fn hear(&mut self, now_s: f64, mut sent: BytesMut) {
        while let Some(payload) = frame::split(&mut sent, ClientMessage::MAX_PAYLOAD_BYTES)
            .expect("the client writes whole frames")
        {
            let message = ClientMessage::decode(&payload).expect("the client speaks our version");
            if let ClientMessage::Ping { sent_us } = message {
                self.pings.push_back((self.up.arrival_s(now_s), sent_us));
            }
        }
    }
}

pub(crate) fn welcome() -> Welcome {
    Welcome {
        version: PROTOCOL_VERSION,
        room: "lobby".into(),
        name: "Anna".into(),
        cube: OWN,
        pose: Pose::default(),
        tick_hz: TICK_HZ,
        tick: 0,
        since_tick_us: 0,
        max_speed: 0,
        resume: ResumeToken([0; 16]),
        servers: Vec::new(),
    }
}

/// Returns the first keyframe.
pub(crate) fn keyframe(cubes: Vec<CubeInfo>) -> Keyframe {
    Keyframe {
        cell: CellId(0),
        interval_ticks: 1,
        tick: 0,
        cubes,
    }
}

pub(crate) fn info(cube: CubeId, motion: MotionState) -> CubeInfo {
    CubeInfo {
        cube,
        kind: CubeKind::Player,
        name: "cube".into(),
        colour: COLOUR,
        motion,
    }
}

/// A client without a socket, as [`cubesync_client::Client`] ties it together.
pub(crate) struct Viewer {
    session: Session,
    view: View,
}

impl Viewer {
    pub(crate) fn new(session: Session) -> Self {
        Self {
            session,
            view: View::default(),
        }
    }

    /// Handles received messages and everything that is due, and returns the bytes to send.
    pub(crate) fn frame(&mut self, now: Duration, mut incoming: BytesMut) -> BytesMut {
        self.session.receive(now, &mut incoming);
        self.session.poll(now);
        while let Some(event) = self.session.next_event() {
            match event {
                SessionEvent::Joined(welcome) => {
                    self.view = View::new(welcome.tick_hz);
                    self.view.gain(welcome.cube, welcome.pose);
                }
                SessionEvent::Changed(Change::Moved {
                    tick,
                    known_until,
                    states,
                }) => {
                    if let Some(clock) = self.session.clock() {
                        let clock_tick = clock.tick_at(now);
                        self.view.moved(clock_tick, tick, known_until, &states);
                    }
                }
                SessionEvent::Ended { reason, .. } => panic!("the session ended: {reason}"),
                _ => {}
            }
        }
        if let Some(clock) = self.session.clock() {
            self.view.advance(clock.tick_at(now));
        }
        self.session.outgoing().split()
    }

    /// Returns the pose in which the cube is drawn, and its time.
    fn draw(&self, now: Duration) -> Option<(f64, Placed)> {
        let info = self.session.replica()?.cube(SHOWN)?;
        let clock_tick = self.session.clock()?.tick_at(now);
        let drawn = self.view.pose_at(info, clock_tick);
        let shown_s = (clock_tick - self.view.delay_ticks()) / f64::from(TICK_HZ);
        let placed = Placed {
            position: drawn.position.map(f64::from),
            rotation: drawn.rotation.map(f64::from),
        };
        Some((shown_s, placed))
    }

    /// Computes the poses of all cubes and returns their number.
    pub(crate) fn draw_all(&self, now: Duration) -> usize {
        let (Some(replica), Some(clock)) = (self.session.replica(), self.session.clock()) else {
            return 0;
        };
        let clock_tick = clock.tick_at(now);
        let drawn = replica
            .cubes()
            .map(|info| self.view.pose_at(info, clock_tick));
        drawn.map(std::hint::black_box).count()
    }
}
