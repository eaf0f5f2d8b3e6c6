//! Plays a trace the whole way: from a walker's client through a room to a viewer's client, in
//! simulated time.
//!
//! The clients and the room are the real ones. A room is not run as a task but stepped, and its time is
//! the paused clock of a runtime.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cubesync_client::session::Session;
use cubesync_protocol::cells::Grid;
use cubesync_protocol::{
    ClientMessage, DatagramAnswer, DatagramKey, Hello, Message, PathId, Pose, frame,
};
use cubesync_relay::datagram::{DatagramInbox, DatagramPath, OpenedPath};
use cubesync_relay::mechanics::Field;
use cubesync_relay::metrics::Metrics;
use cubesync_relay::room::audience::Outlet;
use cubesync_relay::room::backplane::Alone;
use cubesync_relay::room::speed::SpeedRule;
use cubesync_relay::room::{
    Connections, Entrance, Membership, Room, RoomHandle, RoomSettings, SightRule,
};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::network::{Datagrams, Network, Stream};
use crate::play::{COLOUR, FRAME_S, Shown, TICK_HZ, tick_s};
use crate::player::Player;
use crate::timeline::Timeline;
use crate::trace::{Placed, Trace};

/// Frames that wait for the network: it is asked after each tick.
const OUTLET_FRAMES: usize = 64;
/// The time between two frames of the walker, whose screen is another than the viewer's.
const WALKER_FRAME_S: f64 = 1.0 / 60.13;

/// The factor by which the clients' clocks run faster than the server's.
const CLOCK_SKEW: f64 = 30e-6;

/// The players who are behind the bad network. The others are on a LAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behind {
    Viewer,
    Walker,
    Both,
}

/// What a player's network lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    /// TCP, and datagrams beside it.
    Datagrams,
}

/// Plays a trace to a viewer and returns the frames.
pub(crate) fn play(
    trace: &Trace,
    network: &Network,
    (behind, transport): (Behind, Transport),
    seed: u64,
    seconds: f64,
) -> Vec<Shown> {
    let network_of = |is_behind: bool| if is_behind { network } else { &Network::LAN };
    let walker = network_of(behind != Behind::Viewer);
    let viewer = network_of(behind != Behind::Walker);
    simulate(async {
        let mut server = Server::new(transport, seconds, None);
        // The viewer's way down is the one over which the other methods send.
        let viewer = Seat::new(&mut server, viewer, FRAME_S, [!seed, seed]).await;
        let seeds = [seed.rotate_left(32), !seed.rotate_left(32)];
        let walker = Seat::new(&mut server, walker, WALKER_FRAME_S, seeds).await;
        let run = Run {
            trace,
            server,
            walker,
            viewer,
        };
        run.play().await
    })
}

/// Runs something in simulated time.
pub(crate) fn simulate<T>(run: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing");
    runtime.block_on(run)
}

struct Run<'a> {
    trace: &'a Trace,
    server: Server,
    walker: Seat,
    viewer: Seat,
}

impl Run<'_> {
    async fn play(mut self) -> Vec<Shown> {
        let cube = self.walker.membership.cube();
        let mut timeline = Timeline::default();
        let mut drawn: Vec<(f64, f64, Placed)> = Vec::new();
        loop {
            let seats = [&self.walker, &self.viewer];
            let next_s = seats.map(|seat| seat.next_arrival_s().min(seat.next_frame_s()));
            let tick_s = self.server.next_tick_s();
            let now_s = next_s.into_iter().fold(tick_s, f64::min);
            if now_s >= self.server.seconds {
                break;
            }
            self.server.go_to(now_s).await;
            for seat in [&mut self.walker, &mut self.viewer] {
                seat.pass_on(now_s).await;
            }
            self.server.work(now_s);
            for seat in [&mut self.walker, &mut self.viewer] {
                seat.send_down(now_s);
            }
            if self.walker.next_frame_s() <= now_s {
                let pose = self.trace.at(now_s).pose();
                let now = self.walker.frame(now_s, Some(pose));
                if let Some((clock_tick, lead_s)) = self.walker.player.clock(now) {
                    timeline.add(now_s, clock_tick, lead_s);
                }
            }
            if self.viewer.next_frame_s() <= now_s {
                let now = self.viewer.frame(now_s, None);
                let shown = self.viewer.player.draw(now, cube);
                drawn.extend(shown.map(|(tick, placed)| (now_s, tick, placed)));
            }
        }
        let shown = drawn.into_iter().filter_map(|(time_s, tick, placed)| {
            let truth_s = timeline.sampled_at(tick)?;
            Some(Shown {
                time_s,
                truth_s,
                placed,
            })
        });
        shown.collect()
    }
}

/// A room, and the time since it began.
pub(crate) struct Server {
    room: Room,
    handle: RoomHandle,
    began: Instant,
    tick: u64,
    transport: Transport,
    /// The length of the run.
    seconds: f64,
}

impl Server {
    /// Creates a room, with loose cubes if there is a field of them.
    pub(crate) fn new(transport: Transport, seconds: f64, field: Option<Field>) -> Self {
        let settings = RoomSettings {
            name: "lobby".into(),
            tick_hz: TICK_HZ,
            top_speed: None,
            grid: Grid::WHOLE,
            slow_reader_after: Duration::MAX,
            resume_within: Duration::ZERO,
            drain: Duration::ZERO,
            max_cubes: 3,
            field,
            permanent: true,
            backplane: Arc::new(Alone),
        };
        let began = Instant::now();
        let (handle, connections) = Connections::new(settings, Metrics::default());
        Self {
            room: Room::new(connections),
            handle,
            began,
            tick: 0,
            transport,
            seconds,
        }
    }

    pub(crate) fn next_tick_s(&self) -> f64 {
        tick_s(self.tick + 1)
    }

    /// Lets time pass.
    pub(crate) async fn go_to(&self, now_s: f64) {
        let then = self.began + Duration::from_secs_f64(now_s);
        tokio::time::advance(then.saturating_duration_since(Instant::now())).await;
    }

    /// Handles what has come, and the tick that has begun.
    pub(crate) fn work(&mut self, now_s: f64) {
        let now = Instant::now().into_std();
        self.room.take_events(now);
        if self.next_tick_s() <= now_s {
            self.tick += 1;
            self.room.tick(now);
        }
    }
}

/// A player's client, its network, and its place in the room.
pub(crate) struct Seat {
    pub(crate) player: Player,
    /// The client's clock when the room began.
    clock_ahead_s: f64,
    frame_s: f64,
    frames: u32,
    up: Stream<BytesMut>,
    down: Stream<Bytes>,
    datagrams_up: Datagrams<Bytes>,
    datagrams_down: Datagrams<Bytes>,
    outlet: mpsc::Receiver<Bytes>,
    path: Arc<Path>,
    inbox: DatagramInbox,
    membership: Membership,
}

/// The datagrams that the room has sent to a player.
#[derive(Debug, Default)]
struct Path(Mutex<Vec<Bytes>>);

impl DatagramPath for Path {
    fn send(&self, datagram: &[u8]) -> bool {
        let mut sent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sent.push(Bytes::copy_from_slice(datagram));
        true
    }
}

impl Seat {
    /// Brings a player in. The seeds are those of the ways up and down.
    pub(crate) async fn new(
        server: &mut Server,
        network: &Network,
        frame_s: f64,
        seeds: [u64; 2],
    ) -> Self {
        let (frames, outlet) = mpsc::channel(OUTLET_FRAMES);
        let entrance = Entrance {
            name: "player".into(),
            colour: COLOUR,
            rule: SpeedRule::TopSpeed,
            sight: SightRule::Everything,
            resume: None,
            pose: None,
            outlet: Outlet::Frames(frames),
            ended: CancellationToken::new(),
            peer: None,
        };
        let enter = server.handle.enter(entrance);
        let room = &mut server.room;
        let work = async { room.take_events(Instant::now().into_std()) };
        let (entered, ()) = tokio::join!(enter, work);
        let membership = entered.expect("the room runs");
        let membership = membership.expect("the room has places");
        // No clock shows the same time as another.
        let clock_ahead_s = frame_s * 1e3;
        let now = Duration::from_secs_f64(clock_ahead_s);
        let mut session = Session::new(Hello::new("lobby", "player", COLOUR), now);
        // The entrance has said as much.
        session.outgoing().clear();
        let [up, down] = seeds;
        Self {
            player: Player::new(session, server.transport == Transport::Datagrams),
            clock_ahead_s,
            frame_s,
            frames: 0,
            up: Stream::new(network, up, server.seconds),
            down: Stream::new(network, down, server.seconds),
            datagrams_up: Datagrams::new(network, up, server.seconds),
            datagrams_down: Datagrams::new(network, down, server.seconds),
            outlet,
            path: Arc::default(),
            inbox: membership.inbox(),
            membership,
        }
    }

    /// Returns when something may arrive at the server.
    pub(crate) fn next_arrival_s(&self) -> f64 {
        self.up.next_s().min(self.datagrams_up.next_s())
    }

    pub(crate) fn next_frame_s(&self) -> f64 {
        f64::from(self.frames + 1) * self.frame_s
    }

    /// Passes on to the room what has arrived there.
    pub(crate) async fn pass_on(&mut self, now_s: f64) {
        while let Some(mut bytes) = self.up.next_arrived(now_s) {
            while let Some(payload) = frame::split(&mut bytes, ClientMessage::MAX_PAYLOAD_BYTES)
                .expect("the client writes whole frames")
            {
                let message = ClientMessage::decode(&payload);
                let message = message.expect("the client is of this version");
                let passed_on = match message {
                    ClientMessage::OpenDatagrams(_) => {
                        let path = Arc::clone(&self.path) as Arc<dyn DatagramPath>;
                        let answer = DatagramAnswer::Udp {
                            port: 0,
                            path: PathId(0),
                            key: DatagramKey([0; 32]),
                        };
                        let opened = OpenedPath { answer, path };
                        self.membership.open_datagrams(Some(opened)).await
                    }
                    message => self.membership.message(message).await,
                };
                passed_on.expect("the room runs");
            }
        }
        while let Some(datagram) = self.datagrams_up.next_arrived(now_s) {
            self.inbox.deliver(&datagram);
        }
    }

    /// Sends what the room has written.
    pub(crate) fn send_down(&mut self, now_s: f64) {
        while let Ok(frames) = self.outlet.try_recv() {
            self.down.send(now_s, frames);
        }
        let mut datagrams = self.path.0.lock().unwrap_or_else(PoisonError::into_inner);
        for datagram in datagrams.drain(..) {
            self.datagrams_down.send(now_s, datagram);
        }
    }

    /// Does what a game does in a frame, and returns its time by the client's clock.
    fn frame(&mut self, now_s: f64, own_pose: Option<Pose>) -> Duration {
        let now = self.begin_frame(now_s);
        let own = self.membership.cube();
        if let Some(pose) = own_pose {
            self.player.put(own, pose);
        }
        self.end_frame(now_s, now);
        now
    }

    /// Reads what has arrived, and returns the time by the client's clock.
    pub(crate) fn begin_frame(&mut self, now_s: f64) -> Duration {
        self.frames += 1;
        let now = Duration::from_secs_f64(self.clock_ahead_s + now_s * (1.0 + CLOCK_SKEW));
        let mut incoming = BytesMut::new();
        while let Some(frames) = self.down.next_arrived(now_s) {
            incoming.extend_from_slice(&frames);
        }
        while let Some(datagram) = self.datagrams_down.next_arrived(now_s) {
            self.player.receive_datagram(now, &datagram);
        }
        self.player.receive(now, incoming);
        now
    }

    /// Sends what is due.
    pub(crate) fn end_frame(&mut self, now_s: f64, now: Duration) {
        let outgoing = self.player.send(now);
        if !outgoing.is_empty() {
            self.up.send(now_s, outgoing);
        }
        while let Some(datagram) = self.player.next_datagram() {
            self.datagrams_up.send(now_s, datagram);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::{Samples, Score};
    use crate::trace::Motion;

    const SECONDS: f64 = 30.0;

    fn score(network: &Network, behind: Behind, transport: Transport) -> Score {
        let trace = Trace::new(Motion::People, 1, SECONDS);
        let shown = play(&trace, network, (behind, transport), 1, SECONDS);
        Samples::new(&shown, &trace, &[]).score()
    }

    #[test]
    fn a_walker_and_a_viewer_on_a_lan_see_the_same() {
        let score = score(&Network::LAN, Behind::Both, Transport::Tcp);
        assert!((50.0..120.0).contains(&score.delay_ms), "{score:?}");
        assert!(score.rms_cm < 3.0, "{score:?}");
        assert_eq!((score.frozen_ms, score.snaps), (0.0, 0.0), "{score:?}");
    }

    #[test]
    fn every_way_that_loses_packets_costs_delay_and_datagrams_take_the_error_away() {
        let network = &Network::ALL[2];
        let [viewer, walker, both] = [Behind::Viewer, Behind::Walker, Behind::Both]
            .map(|behind| score(network, behind, Transport::Tcp));
        assert!(both.delay_ms > viewer.delay_ms.max(walker.delay_ms) + 40.0);
        let datagrams = score(network, Behind::Both, Transport::Datagrams);
        assert!(
            datagrams.rms_cm < both.rms_cm && datagrams.p99_cm < both.p99_cm / 2.0,
            "{datagrams:?} {both:?}"
        );
    }
}
