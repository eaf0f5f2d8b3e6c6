//! Servers in this process, on a bus in memory, and their players.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cubesync_protocol::cells::Grid;
use cubesync_protocol::motion::MotionState;
use cubesync_protocol::{
    ClientMessage, Colour, CubeId, CubeInfo, CubeKind, CubePose, Event, Keyframe, Message,
    PlainCube, Pose, Position, Replica, ResumeToken, ServerMessage, Snapshot, Welcome, frame,
};
use cubesync_relay::DEFAULT_ROOM;
use cubesync_relay::ending::{Ending, Problem};
use cubesync_relay::metrics::Metrics;
use cubesync_relay::room::audience::Outlet;
use cubesync_relay::room::speed::SpeedRule;
use cubesync_relay::room::testing::SampleWriter;
use cubesync_relay::room::{Entrance, Membership, Role, RoomView, SightRule};
use cubesync_relay::rooms::{Rooms, RoomsSettings};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bus::{
    Bus, Holder, InboxSender, Lease, LeaseError, LeaseFuture, Leases, MemoryLeases, Received,
    ServerId, Subscription, Topic,
};
use crate::cluster::testing::{presence, rules};
use crate::message::Envelope;
use crate::{Cluster, ServerProfile};

pub(super) const METRE: i32 = 512;
pub(super) const FREE: CubeId = CubeId(0);
/// Quanta by which views may differ from the owner's world.
const NEAR_QUANTA: u64 = 8;
/// Time between two looks of a player at what has come.
const FRAME: Duration = Duration::from_millis(10);

/// A bus that delivers at once, except where a test cuts it.
#[derive(Debug, Default)]
pub(super) struct Wire(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    leases: MemoryLeases,
    inboxes: BTreeMap<u64, (u32, Topic, InboxSender)>,
    next: u64,
    cut_off: BTreeSet<u32>,
    /// The number of messages to a server that are lost next.
    lost: BTreeMap<u32, u32>,
}

/// The bus as one server sees it.
#[derive(Debug, Clone)]
struct End {
    wire: Arc<Wire>,
    server: u32,
}

impl Wire {
    /// Cuts a server off from the others and from the leases.
    pub(super) fn cut_off(&self, server: u32) {
        self.lock().cut_off.insert(server);
    }

    /// Connects all servers again.
    pub(super) fn heal(&self) {
        self.lock().cut_off.clear();
    }

    /// Loses the next messages to a server.
    pub(super) fn lose(&self, server: u32, count: u32) {
        self.lock().lost.insert(server, count);
    }

    /// Returns the topic of the lobby at a server.
    pub(super) fn lobby_at(&self, server: u32) -> (String, ServerId) {
        let inner = self.lock();
        let topics = inner.inboxes.values();
        let at = topics.filter(|(of, ..)| *of == server);
        let room_at = |topic: &Topic| match topic {
            Topic::RoomAt(room, id) => Some((room.clone(), *id)),
            _ => None,
        };
        at.filter_map(|(_, topic, _)| room_at(topic))
            .next()
            .unwrap()
    }

    /// Publishes as a program that is no server.
    pub(super) fn intrude(self: &Arc<Self>, topic: &Topic, message: &Envelope) {
        let (wire, server) = (Arc::clone(self), u32::MAX);
        End { wire, server }.publish(topic, message.encode());
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }
}

impl End {
    /// Returns the leases, if they can be reached.
    fn reach(&self) -> Result<MemoryLeases, LeaseError> {
        let inner = self.wire.lock();
        match inner.cut_off.contains(&self.server) {
            true => Err(LeaseError::Unreachable("cut off".into())),
            false => Ok(inner.leases.clone()),
        }
    }

    fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(MemoryLeases) -> LeaseFuture<T>,
    ) -> LeaseFuture<T> {
        match self.reach() {
            Ok(leases) => ask(leases),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }
}

impl Bus for End {
    fn publish(&self, topic: &Topic, payload: Bytes) {
        let inner = &mut *self.wire.lock();
        if inner.cut_off.contains(&self.server) {
            return;
        }
        for (server, of, inbox) in inner.inboxes.values() {
            if *server == self.server || of != topic || inner.cut_off.contains(server) {
                continue;
            }
            if let Some(left) = inner.lost.get_mut(server).filter(|left| **left > 0) {
                *left -= 1;
                continue;
            }
            let (payload, at) = (payload.clone(), Instant::now().into_std());
            inbox.try_send(Received { payload, at }).unwrap();
        }
    }

    fn subscribe(&self, topic: &Topic, inbox: InboxSender) -> Subscription {
        let mut inner = self.wire.lock();
        inner.next += 1;
        let id = inner.next;
        let subscription = (self.server, topic.clone(), inbox);
        inner.inboxes.insert(id, subscription);
        let wire = Arc::clone(&self.wire);
        Subscription::new(move || {
            wire.lock().inboxes.remove(&id);
        })
    }

    fn is_connected(&self) -> bool {
        self.reach().is_ok()
    }

    fn leases(&self) -> Arc<dyn Leases> {
        Arc::new(self.clone())
    }
}

impl Leases for End {
    fn acquire(&self, room: &str, holder: ServerId) -> LeaseFuture<Lease> {
        self.ask(|leases| leases.acquire(room, holder))
    }

    fn renew(&self, room: &str, lease: Lease, holder: ServerId) -> LeaseFuture<Lease> {
        self.ask(|leases| leases.renew(room, lease, holder))
    }

    fn release(&self, room: &str, lease: Lease) -> LeaseFuture<()> {
        self.ask(|leases| leases.release(room, lease))
    }

    fn holder(&self, room: &str) -> LeaseFuture<Option<Holder>> {
        self.ask(|leases| leases.holder(room))
    }
}

/// A server with its rooms.
pub(super) struct Server {
    rooms: Arc<Rooms>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Starts a server, whose lobby opens at once.
    pub(super) fn start(wire: &Arc<Wire>, number: u32, grid: Grid) -> Self {
        let wire = Arc::clone(wire);
        let end = End {
            wire,
            server: number,
        };
        let profile = ServerProfile {
            rules: rules(),
            address: presence(number).address,
        };
        let metrics = Metrics::default();
        let cluster = Cluster::new(Arc::new(end), profile, &metrics);
        let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(Arc::clone(&cluster).run(shutdown.clone()));
        let settings = RoomsSettings {
            tick_hz: rules().tick_hz,
            top_speed: None,
            grid,
            slow_reader_after: Duration::from_secs(5),
            resume_within: Duration::from_secs(15),
            drain: Duration::from_millis(100),
            max_cubes: 100,
            field: None,
            default_field: None,
            max_rooms: 10,
            max_rooms_per_address: 10,
        };
        let of_rooms = (shutdown.clone(), tasks.clone());
        let rooms = Rooms::new(settings, metrics, cluster, of_rooms.0, of_rooms.1);
        Self {
            rooms,
            shutdown,
            tasks,
        }
    }

    /// Stops the server, and waits until it has.
    pub(super) async fn stop(&self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    pub(super) async fn view(&self) -> RoomView {
        let lobby = self.rooms.find(DEFAULT_ROOM).unwrap();
        lobby.view().await.unwrap()
    }

    pub(super) async fn owns(&self) -> bool {
        self.view().await.role == Role::Owner
    }

    /// Removes a player as this server's operator. Returns whether the server could.
    pub(super) async fn kick(&self, cube: CubeId) -> bool {
        let lobby = self.rooms.find(DEFAULT_ROOM).unwrap();
        let why = Problem::removal(Ending::Kicked, Some("too loud"));
        lobby.remove(cube, why).await.unwrap()
    }

    pub(super) async fn join(&self, name: &str) -> Player {
        self.join_with(name, None).await
    }

    pub(super) async fn join_with(&self, name: &str, resume: Option<ResumeToken>) -> Player {
        self.enter(name, resume, SpeedRule::TopSpeed).await
    }

    /// Lets a player join whose client predicts nothing.
    pub(super) async fn join_plain(&self, name: &str) -> Player {
        self.enter(name, None, SpeedRule::Plain).await
    }

    async fn enter(&self, name: &str, resume: Option<ResumeToken>, rule: SpeedRule) -> Player {
        let (outlet, frames) = mpsc::channel(256);
        let entrance = Entrance {
            name: name.into(),
            colour: Colour::from([1, 2, 3]),
            rule,
            sight: SightRule::Surroundings,
            resume,
            pose: None,
            outlet: Outlet::Frames(outlet),
            ended: CancellationToken::new(),
            peer: None,
        };
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let entered = self.rooms.enter(DEFAULT_ROOM, entrance, address).await;
        let mut player = Player {
            membership: entered.unwrap(),
            rule,
            frames,
            received: BytesMut::new(),
            replica: Replica::default(),
            welcomes: Vec::new(),
            heard: Vec::new(),
            writer: SampleWriter::default(),
            tick: 0,
            pose: Pose::default(),
        };
        player.turn().await;
        player.pose = player.welcome().pose;
        player
    }
}

/// A player with a client as small as can be.
pub(super) struct Player {
    membership: Membership,
    rule: SpeedRule,
    frames: mpsc::Receiver<Bytes>,
    received: BytesMut,
    pub(super) replica: Replica,
    pub(super) welcomes: Vec<Welcome>,
    /// Messages besides those of the streams.
    pub(super) heard: Vec<ServerMessage>,
    writer: SampleWriter,
    tick: u64,
    /// Where the player is.
    pub(super) pose: Pose,
}

impl Player {
    pub(super) fn welcome(&self) -> &Welcome {
        self.welcomes.last().unwrap()
    }

    pub(super) fn cube(&self) -> CubeId {
        self.welcome().cube
    }

    pub(super) async fn say(&self, message: ClientMessage) {
        self.membership.message(message).await.unwrap();
    }

    /// Takes in what has come, and says where the player is.
    async fn turn(&mut self) {
        while let Ok(frames) = self.frames.try_recv() {
            self.received.extend_from_slice(&frames);
        }
        let before = self.tick;
        while let Some(payload) =
            frame::split(&mut self.received, ServerMessage::MAX_PAYLOAD_BYTES).unwrap()
        {
            let message = ServerMessage::decode(&payload).unwrap();
            self.take_in(self.as_predicted(message)).await;
        }
        let sample_tick = self.tick + 2;
        if self.tick > before && sample_tick > self.writer.tick() {
            let own = self.cube();
            let (mut placed, mut residuals) = self.writer.sample(sample_tick, own, self.pose);
            if self.rule == SpeedRule::Plain {
                let pose = self.pose;
                (placed, residuals) = (vec![CubePose { cube: own, pose }], Vec::new());
            }
            let sample = ClientMessage::Sample {
                tick: sample_tick,
                placed,
                residuals: residuals.into(),
            };
            // The room may have ended.
            let _ = self.membership.message(sample).await;
        }
    }

    /// Returns a plain snapshot as one that says the same to a replica, and any other message as it is.
    fn as_predicted(&self, message: ServerMessage) -> ServerMessage {
        let is_stream = matches!(
            message,
            ServerMessage::Keyframe(_) | ServerMessage::Snapshot(_)
        );
        assert!(!is_stream || self.rule != SpeedRule::Plain, "{message:?}");
        let ServerMessage::PlainSnapshot(plain) = message else {
            return message;
        };
        let (cell, tick) = (plain.cell, plain.tick);
        let info = |cube: PlainCube| CubeInfo {
            cube: cube.cube,
            kind: cube.kind,
            name: cube.name,
            colour: cube.colour,
            width: cube.width,
            motion: MotionState::at_rest(cube.pose),
        };
        let cubes = plain.cubes.into_iter().map(info);
        if plain.is_whole {
            return ServerMessage::Keyframe(Keyframe {
                cell,
                interval_ticks: 1,
                tick,
                cubes: cubes.collect(),
            });
        }
        let gone = plain.gone.into_iter();
        let moved = plain.moved.into_iter().map(|moved| Event::Placed {
            cube: moved.cube,
            motion: MotionState::at_rest(moved.pose),
        });
        let events = cubes.map(Event::Entered);
        let events = events.chain(gone.map(|cube| Event::Exited { cube }));
        ServerMessage::Snapshot(Snapshot {
            cell,
            tick,
            events: events.chain(moved).collect(),
            residuals: Bytes::new(),
        })
    }

    async fn take_in(&mut self, message: ServerMessage) {
        let of_stream = match &message {
            ServerMessage::Welcome(welcome) => {
                let is_first = self.welcomes.is_empty();
                assert!(is_first || welcome.tick > self.tick, "time goes on");
                self.welcomes.push(welcome.clone());
                if !is_first {
                    self.writer = SampleWriter::default();
                    self.say(ClientMessage::Continue { releases: 0 }).await;
                }
                return;
            }
            ServerMessage::Keyframe(keyframe) => Some(keyframe.tick),
            ServerMessage::Snapshot(snapshot) => Some(snapshot.tick),
            ServerMessage::Heartbeat { tick } => Some(*tick),
            ServerMessage::OutOfSight { .. } => Some(0),
            _ => None,
        };
        match of_stream {
            Some(tick) => {
                self.replica.take_in(&message).unwrap();
                self.tick = self.tick.max(tick);
            }
            None => self.heard.push(message),
        }
    }

    /// Goes somewhere at once.
    pub(super) fn go(&mut self, x_metres: i32, y_metres: i32) {
        let (x, y) = (x_metres * METRE, y_metres * METRE);
        self.pose.position = Position { x, y, z: 256 };
    }

    /// Returns the names and kinds of the cubes in sight, by name.
    pub(super) fn sees(&self) -> Vec<(String, CubeKind)> {
        let cubes = self.replica.cubes();
        let mut seen: Vec<_> = cubes.map(|cube| (cube.name.clone(), cube.kind)).collect();
        seen.sort_by(|a, b| a.0.cmp(&b.0));
        seen
    }

    /// Returns whether the player sees a cube of this name near a place.
    pub(super) fn sees_at(&self, name: &str, position: Position) -> bool {
        let mut cubes = self.replica.cubes().filter(|cube| cube.name == name);
        let seen = cubes.next().and_then(|cube| self.replica.pose(cube.cube));
        seen.is_some_and(|pose| pose.position.distance(position) <= NEAR_QUANTA)
            && cubes.next().is_none()
    }
}

/// Lets players play for a while.
pub(super) async fn play(players: &mut [&mut Player], time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        sleep(FRAME).await;
        for player in &mut *players {
            player.turn().await;
        }
    }
}

/// Lets players play until a condition holds, and returns how long that took.
pub(super) async fn until(
    players: &mut [&mut Player],
    most: Duration,
    is_reached: impl Fn(&[&mut Player]) -> bool,
) -> Duration {
    let begun = Instant::now();
    while !is_reached(players) {
        let sees: Vec<_> = players.iter().map(|player| player.sees()).collect();
        assert!(begun.elapsed() < most, "{sees:#?}");
        play(players, FRAME).await;
    }
    begun.elapsed()
}

/// Returns whether all players see each other where they are, and nobody else.
pub(super) fn all_see_all(players: &[&mut Player]) -> bool {
    let name = |player: &Player| player.welcome().name.clone();
    let others = |viewer: &Player| {
        let are_seen = |other: &&mut Player| viewer.sees_at(&name(other), other.pose.position);
        players.iter().all(are_seen) && viewer.replica.cubes().count() == players.len() + 1
    };
    players.iter().all(|viewer| others(viewer))
}
