//! Tests of rooms on several servers, with a bus whose faults the test decides, tick by tick.

use std::any::Any;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use cubesync_protocol::limits::MAX_CUBES_PER_ROOM;
use cubesync_protocol::motion::MotionState;
use cubesync_protocol::replica::Change;
use cubesync_protocol::{
    ClientMessage, Colour, CubeInfo, CubeKind, Event, Keyframe, Message, Pose, Replica,
    ServerMessage, Snapshot, frame,
};
use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;

use super::message::{Claim, Inventory, Told};
use super::*;
use crate::bus::{Bus, InboxSender, Leases, MemoryLeases};
use cubesync_relay::ending::Ending;
use cubesync_relay::metrics::Metrics;
use cubesync_relay::room::audience::Outlet;
use cubesync_relay::room::speed::SpeedRule;
use cubesync_relay::room::testing::{SampleWriter, pose_at};
use cubesync_relay::room::world::{FREE_CUBE, RoomFull};
use cubesync_relay::room::{Entrance, Membership, Room, RoomHandle, SightRule};

const HZ: u8 = 20;
const METRE: i32 = 512;

/// The subscriptions of all servers, and the faults of the bus.
#[derive(Debug, Default)]
struct Net {
    ears: Mutex<Vec<(u64, usize, Topic, InboxSender)>>,
    next: AtomicU64,
    /// Servers that are cut off from all others. Those in `deaf` do not notice it.
    cut: Mutex<BTreeSet<usize>>,
    deaf: Mutex<BTreeSet<usize>>,
    /// The number of payloads of which one is lost; 0 means that none is.
    lossy: AtomicU64,
    random: Mutex<fastrand::Rng>,
    carried: AtomicU64,
}

/// A server's connection to the others.
#[derive(Debug)]
struct Port {
    net: Arc<Net>,
    number: usize,
}

impl Bus for Port {
    fn publish(&self, topic: &Topic, payload: Bytes) {
        let mut cut = self.net.cut.lock().unwrap().clone();
        cut.extend(self.net.deaf.lock().unwrap().iter());
        let ears = self.net.ears.lock().unwrap();
        let lossy = self.net.lossy.load(Ordering::Relaxed);
        for (_, number, listened, ear) in ears.iter() {
            let is_cut = cut.contains(number) || cut.contains(&self.number);
            let is_lost = lossy > 0 && self.net.random.lock().unwrap().u64(0..lossy) == 0;
            if listened == topic && *number != self.number && !is_cut && !is_lost {
                self.net.carried.fetch_add(1, Ordering::Relaxed);
                let payload = payload.clone();
                let at = Instant::now();
                let _ = ear.try_send(Received { payload, at });
            }
        }
    }

    fn subscribe(&self, topic: &Topic, ear: InboxSender) -> Subscription {
        let id = self.net.next.fetch_add(1, Ordering::Relaxed);
        let heard = (id, self.number, topic.clone(), ear);
        self.net.ears.lock().unwrap().push(heard);
        let net = Arc::clone(&self.net);
        Subscription::new(move || net.ears.lock().unwrap().retain(|ear| ear.0 != id))
    }

    fn is_connected(&self) -> bool {
        !self.net.cut.lock().unwrap().contains(&self.number)
    }

    fn leases(&self) -> Arc<dyn Leases> {
        Arc::new(MemoryLeases::default())
    }
}

/// Servers with a room each, and their players.
struct Stage {
    net: Arc<Net>,
    /// The servers. `None` stands for one that was killed.
    servers: Vec<Option<Server>>,
    tick: u64,
    players: Vec<Player>,
    view_distance: Option<u32>,
    max_cubes: usize,
}

/// A server with its room.
struct Server {
    settings: RoomSettings,
    handle: RoomHandle,
    room: Room,
}

impl Server {
    fn new(settings: RoomSettings) -> Self {
        let (handle, room) = Room::new(settings.clone(), Metrics::default());
        Self {
            settings,
            handle,
            room,
        }
    }

    /// Returns what its room knows of the other servers.
    fn shared(&self) -> &SharedRoom {
        let peers: &dyn Any = self.room.peers();
        peers.downcast_ref().unwrap()
    }

    fn owns(&self, cube: CubeId) -> bool {
        self.room.world().owns(cube)
    }

    fn leave(&self) {
        self.room.peers().leave(self.room.world());
    }
}

struct Player {
    server: usize,
    membership: Membership,
    token: ResumeToken,
    seen: Replica,
    /// Whether the own cube has been in sight.
    is_known: bool,
    frames: mpsc::Receiver<Bytes>,
    received: BytesMut,
    writer: SampleWriter,
    /// The number of times that a cube deviated from the prediction.
    placed: usize,
    /// The notices about cubes, in order.
    notices: Vec<(CubeId, &'static str)>,
    refused: usize,
    ended: CancellationToken,
}

impl Stage {
    fn new(servers: usize, view_distance_m: Option<u32>) -> Self {
        let net = Arc::new(Net::default());
        *net.random.lock().unwrap() = fastrand::Rng::with_seed(7);
        let mut stage = Self {
            net,
            servers: Vec::new(),
            tick: 0,
            players: Vec::new(),
            view_distance: view_distance_m.map(|metres| metres * METRE as u32),
            max_cubes: MAX_CUBES_PER_ROOM,
        };
        for _ in 0..servers {
            stage.open();
        }
        stage
    }

    /// Starts another server, and returns its number.
    fn open(&mut self) -> usize {
        let number = self.servers.len();
        let net = Arc::clone(&self.net);
        let settings = RoomSettings {
            name: "stage".into(),
            tick_hz: HZ,
            top_speed: None,
            grid: self.view_distance.map_or(Grid::WHOLE, Grid::new),
            slow_reader_after: Duration::from_secs(3_600),
            resume_within: Duration::from_secs(5),
            drain: Duration::ZERO,
            max_cubes: self.max_cubes,
            permanent: true,
            backplane: Cluster::new(Arc::new(Port { net, number })),
        };
        self.servers.push(Some(Server::new(settings)));
        number
    }

    /// Ends a server's room, as happens when nobody has been in it for a while, and opens it again.
    fn reopen(&mut self, number: usize) {
        let server = self.servers[number].take().unwrap();
        server.leave();
        let settings = server.settings.clone();
        drop(server);
        self.run(1);
        self.servers[number] = Some(Server::new(settings));
    }

    fn server(&self, number: usize) -> &Server {
        self.servers[number].as_ref().unwrap()
    }

    fn server_mut(&mut self, number: usize) -> &mut Server {
        self.servers[number].as_mut().unwrap()
    }

    fn kill(&mut self, number: usize) {
        self.servers[number] = None;
    }

    fn now(&self, server: usize) -> Instant {
        self.server(server).room.begins(self.tick) + Duration::from_millis(2)
    }

    /// Delivers a message that no server sent to one server, 10 ms into the tick.
    fn inject(&mut self, to: usize, said: &Said) {
        let net = Arc::clone(&self.net);
        let outsider = Port { net, number: 99 };
        let id = self.server(to).shared().cluster.id();
        outsider.publish(&Topic::RoomAt("stage".into(), id), said.to_payload());
        let at = self.now(to) + Duration::from_millis(10);
        self.server_mut(to).room.apply_received(at);
    }

    fn enter(&mut self, server: usize, x: i32, resume: Option<ResumeToken>) -> usize {
        self.try_enter(server, x, resume).unwrap()
    }

    fn try_enter(
        &mut self,
        server: usize,
        x: i32,
        resume: Option<ResumeToken>,
    ) -> Result<usize, RoomFull> {
        let (outlet, frames) = mpsc::channel(64);
        let ended = CancellationToken::new();
        let entrance = Entrance {
            name: format!("player {}", self.players.len()),
            colour: Colour::from([1, 2, 3]),
            rule: SpeedRule::TopSpeed,
            sight: SightRule::Surroundings,
            resume,
            pose: Some(pose_at(x)),
            outlet: Outlet::Frames(outlet),
            ended: ended.clone(),
        };
        let handle = self.server(server).handle.clone();
        let mut entering = Box::pin(handle.enter(entrance));
        assert!(entering.as_mut().now_or_never().is_none());
        self.take_events(server);
        for _ in 0..HZ {
            if let Some(answer) = entering.as_mut().now_or_never() {
                let membership = answer.unwrap()?;
                let cube = membership.cube();
                self.players.push(Player {
                    server,
                    membership,
                    token: ResumeToken([0; 16]),
                    seen: Replica::default(),
                    is_known: false,
                    frames,
                    received: BytesMut::new(),
                    writer: SampleWriter::default(),
                    placed: 0,
                    notices: Vec::new(),
                    refused: 0,
                    ended,
                });
                let player = self.players.len() - 1;
                self.go(player, cube, x);
                return Ok(player);
            }
            self.step();
        }
        panic!("nobody answers the player");
    }

    fn take_events(&mut self, server: usize) {
        let now = self.now(server);
        self.server_mut(server).room.take_events(now);
    }

    fn say(&mut self, player: usize, message: ClientMessage) {
        let Player {
            server, membership, ..
        } = &self.players[player];
        let said = membership.message(message).now_or_never();
        said.unwrap().unwrap();
        self.take_events(*server);
    }

    fn leave(&mut self, player: usize, reason: Ending) {
        let Player {
            server, membership, ..
        } = self.players.remove(player);
        membership.end(Some(reason)).now_or_never().unwrap();
        self.take_events(server);
    }

    /// Moves a player's cube, or the one that they hold, at the next tick.
    fn go(&mut self, player: usize, cube: CubeId, x: i32) {
        let tick = self.tick + 1;
        let writer = &mut self.players[player].writer;
        let (placed, residuals) = writer.sample(tick, cube, pose_at(x));
        let residuals = residuals.into();
        self.say(
            player,
            ClientMessage::Sample {
                tick,
                placed,
                residuals,
            },
        );
    }

    fn cube(&self, player: usize) -> CubeId {
        self.players[player].membership.cube()
    }

    /// Runs one tick on all servers.
    fn step(&mut self) {
        self.tick += 1;
        let running: Vec<_> = (0..self.servers.len())
            .filter(|&server| self.servers[server].is_some())
            .collect();
        for &server in &running {
            let now = self.now(server);
            self.server_mut(server).room.tick(now);
        }
        for &server in &running {
            let now = self.now(server) + Duration::from_millis(5);
            let room = &mut self.server_mut(server).room;
            room.apply_received(now);
            room.end_tick(now);
        }
        for player in &mut self.players {
            player.read();
        }
    }

    fn run(&mut self, seconds: u32) {
        for _ in 0..seconds * u32::from(HZ) {
            self.step();
        }
    }

    /// Returns the true state: every cube as its owner has it.
    fn truth(&self) -> BTreeMap<CubeId, (CubeKind, Pose)> {
        let mut truth = BTreeMap::new();
        for server in self.servers.iter().flatten() {
            for cube in server.room.world().cubes() {
                if server.owns(cube.cube) {
                    let twin = truth.insert(cube.cube, (cube.kind, cube.pose));
                    assert_eq!(twin, None, "cube {} has two homes", cube.cube);
                }
            }
        }
        truth
    }

    /// Checks that everybody sees the true state.
    fn check(&self) {
        let truth = self.truth();
        for (number, player) in self.players.iter().enumerate() {
            // Silence means that the prediction is right.
            let mut known = player.seen.clone();
            known.heartbeat(self.tick).unwrap();
            let seen: Vec<_> = known.cubes().map(|cube| (cube.cube, cube.kind)).collect();
            let expected = truth.iter().map(|(&cube, &(kind, _))| (cube, kind));
            assert_eq!(
                seen,
                expected.collect::<Vec<_>>(),
                "player {number} at tick {}",
                self.tick
            );
            for (&cube, &(_, pose)) in &truth {
                let seen = known.pose(cube).unwrap();
                let off = seen.position.distance(pose.position);
                let there = self.server(player.server).room.world();
                assert!(
                    off <= 8,
                    "player {number} sees cube {cube} at {:?}, their server at {:?}, its home at \
                     {:?}, tick {}",
                    seen.position,
                    there.pose(cube).map(|pose| pose.position),
                    pose.position,
                    self.tick
                );
            }
        }
    }
}

impl Player {
    fn read(&mut self) {
        while let Ok(bytes) = self.frames.try_recv() {
            self.received.extend_from_slice(&bytes);
        }
        while let Some(payload) =
            frame::split(&mut self.received, ServerMessage::MAX_PAYLOAD_BYTES).unwrap()
        {
            let message = ServerMessage::decode(&payload).unwrap();
            match &message {
                ServerMessage::Welcome(welcome) => self.token = welcome.resume,
                ServerMessage::Snapshot(snapshot) => {
                    let events = snapshot.events.iter();
                    let placed = events.filter(|event| matches!(event, Event::Placed { .. }));
                    self.placed += placed.count();
                }
                ServerMessage::Refused { .. } => self.refused += 1,
                _ => {}
            }
            let changes = self.seen.take_in(&message).unwrap();
            if !self.is_known {
                self.is_known = self.seen.cube(self.membership.cube()).is_some();
                continue;
            }
            for change in changes {
                let notice = match change {
                    Change::Joined(info) => (info.cube, "joined"),
                    Change::Left(info) => (info.cube, "left"),
                    Change::Appeared(info) => (info.cube, "appeared"),
                    Change::Disappeared(info) => (info.cube, "disappeared"),
                    Change::Taken { cube, .. } => (cube, "taken"),
                    Change::Freed { cube } => (cube, "freed"),
                    Change::Moved { .. } => continue,
                };
                self.notices.push(notice);
            }
        }
    }

    fn notices_of(&self, cube: CubeId) -> Vec<&'static str> {
        let of = self.notices.iter().filter(|(of, _)| *of == cube);
        of.map(|(_, notice)| *notice).collect()
    }
}

#[test]
fn everybody_sees_the_players_of_all_servers_join_walk_and_leave_once() {
    let mut stage = Stage::new(3, None);
    stage.run(2);
    let [a, b] = [0, 1].map(|server| {
        let player = stage.enter(server, server as i32 * METRE, None);
        stage.run(1);
        player
    });
    stage.check();
    let c = stage.enter(2, 5 * METRE, None);
    stage.run(1);
    stage.check();
    for step in 0..100 {
        for player in [a, b, c] {
            let x = (player as i32 * 10 + step) * METRE / 2 + (step % 7) * 30;
            let cube = stage.cube(player);
            stage.go(player, cube, x);
        }
        stage.step();
        // The room does not wait for a server whose cubes have been still.
        if step > 0 {
            stage.check();
        }
    }
    let third = stage.cube(c);
    stage.leave(c, Ending::Left);
    stage.run(1);
    stage.check();
    for player in [a, b] {
        assert_eq!(stage.players[player].notices_of(third), ["joined", "left"]);
    }
}

#[test]
fn the_free_cube_has_one_holder_in_all_and_goes_home_with_them() {
    let mut stage = Stage::new(3, None);
    stage.run(2);
    let players = [0, 1, 2].map(|server| stage.enter(server, 4 * METRE, None));
    stage.run(1);
    for round in 0..4 {
        for player in players {
            let cube = FREE_CUBE;
            stage.say(player, ClientMessage::Take { cube });
        }
        stage.run(2);
        stage.check();
        let (kind, _) = stage.truth()[&FREE_CUBE];
        let CubeKind::Free {
            holder: Some(holder),
        } = kind
        else {
            panic!("nobody got it in round {round}: {kind:?}");
        };
        let refused = players.map(|player| stage.players[player].refused);
        assert_eq!(
            refused.iter().sum::<usize>(),
            2 * (round + 1),
            "{refused:?}"
        );
        let holder = players
            .into_iter()
            .find(|&player| stage.cube(player) == holder);
        let holder = holder.unwrap();
        assert!(stage.server(stage.players[holder].server).owns(FREE_CUBE));
        for step in 0..20 {
            stage.go(holder, FREE_CUBE, 1_000 * (round as i32 + 1) + step * 40);
            stage.step();
            if step > 0 {
                stage.check();
            }
        }
        stage.players[holder].writer.release(FREE_CUBE);
        stage.say(holder, ClientMessage::Release { cube: FREE_CUBE });
        stage.run(1);
        stage.check();
    }
}

#[test]
fn who_takes_over_the_free_cube_and_hears_of_another_home_at_once_yields() {
    let mut stage = Stage::new(3, None);
    stage.run(2);
    let home_of_it = |stage: &Stage| {
        let mut servers = stage.servers.iter();
        servers.position(|server| server.as_ref().is_some_and(|server| server.owns(FREE_CUBE)))
    };
    let dead = home_of_it(&stage).unwrap();
    stage.kill(dead);
    let heir = loop {
        stage.step();
        if let Some(heir) = home_of_it(&stage) {
            break heir;
        }
        assert!(stage.tick < 10 * u64::from(HZ), "it stays without a home");
    };
    let other = (0..3)
        .find(|server| ![dead, heir].contains(server))
        .unwrap();
    let other = stage.server(other).shared().cluster.id();
    let claim = Claim {
        term: 99,
        is_firm: true,
        server: other,
    };
    let word = Word::Roster {
        version: 99,
        changes: None,
        seats: vec![message::Seat {
            cube: FREE_CUBE,
            claim,
            token: None,
        }],
        gone: Vec::new(),
    };
    // This comes before the tick in which the heir would have announced that it has the cube.
    stage.inject(heir, &Said { from: other, word });
    stage.tick += 1;
    let now = stage.now(heir);
    stage.server_mut(heir).room.tick(now);
    let server = stage.server(heir);
    assert!(!server.owns(FREE_CUBE));
    let claims = &server.shared().claims;
    assert_eq!(claims.get(&FREE_CUBE).map(|seat| seat.claim), Some(claim));
}

#[test]
fn a_free_cube_that_is_given_to_a_server_which_hears_nothing_of_it_is_not_lost() {
    let mut stage = Stage::new(2, None);
    stage.run(2);
    let players = [0, 1].map(|server| stage.enter(server, 4 * METRE, None));
    stage.run(1);
    // Each of the two servers gives it away.
    for to in [0, 1, 0, 1] {
        let cube = FREE_CUBE;
        if stage.server(to).owns(cube) {
            continue;
        }
        stage.say(players[to], ClientMessage::Take { cube });
        stage.net.cut.lock().unwrap().insert(to);
        stage.step();
        assert!(!stage.truth().contains_key(&cube), "it is given away");
        stage.step();
        stage.net.cut.lock().unwrap().clear();
        stage.run(2);
        stage.check();
        assert!(stage.truth().contains_key(&cube), "it has a home");
    }
}

#[test]
fn a_free_cube_that_is_given_away_unheard_by_all_has_one_home_again() {
    let mut stage = Stage::new(3, None);
    stage.run(2);
    let players = [0, 1, 2].map(|server| stage.enter(server, 4 * METRE, None));
    stage.run(1);
    for to in [0, 1, 2, 0, 1, 2, 1, 0] {
        let cube = FREE_CUBE;
        if stage.server(to).owns(cube) {
            continue;
        }
        stage.say(players[to], ClientMessage::Take { cube });
        let others = (0..3).filter(|&server| !stage.server(server).owns(cube));
        *stage.net.deaf.lock().unwrap() = others.collect();
        stage.step();
        assert!(!stage.truth().contains_key(&cube), "it is given away");
        stage.net.deaf.lock().unwrap().clear();
        stage.run(4);
        stage.check();
        assert!(stage.truth().contains_key(&cube), "it has a home");
    }
}

#[test]
fn who_was_a_stranger_by_mistake_is_not_for_long() {
    let mut stage = Stage::new(2, None);
    stage.run(2);
    for server in [0, 1] {
        stage.enter(server, 4 * METRE, None);
    }
    stage.run(1);
    // It is now half-way between two inventories.
    for _ in 0..HZ / 2 {
        stage.step();
    }
    let peers = stage.server(1).shared();
    let (from, version) = (peers.cluster.id(), peers.roster.version);
    let word = Word::Beat {
        tick: stage.tick,
        cells: Vec::new(),
        is_steady: true,
        inventory: Some(Inventory {
            tick_hz: HZ + 1,
            cell_count: 1,
            roster: version,
            free_cube: None,
            cells: Vec::new(),
        }),
    };
    stage.inject(0, &Said { from, word });
    stage.step();
    stage.step();
    let peers = |stage: &Stage| stage.server(0).shared().peers.len();
    assert_eq!(peers(&stage), 0, "it was not believed");
    stage.run(3);
    assert_eq!(peers(&stage), 1);
    stage.check();
}

#[test]
fn what_is_lost_on_the_bus_heals() {
    let mut stage = Stage::new(3, None);
    stage.run(2);
    for server in [0, 1, 2] {
        for _ in 0..3 {
            stage.enter(server, 4 * METRE, None);
        }
    }
    stage.run(1);
    stage.net.lossy.store(3, Ordering::Relaxed);
    for step in 0..200 {
        for player in 0..stage.players.len() {
            let cube = stage.cube(player);
            stage.go(player, cube, step * 300 + player as i32 * 1_000);
        }
        if step % 20 == 10 {
            let player = (step as usize / 20) % 9;
            stage.say(player, ClientMessage::Take { cube: FREE_CUBE });
        }
        if step % 20 == 19 {
            let player = (step as usize / 20) % 9;
            stage.players[player].writer.release(FREE_CUBE);
            stage.say(player, ClientMessage::Release { cube: FREE_CUBE });
        }
        if step == 150 {
            stage.leave(4, Ending::Left);
            stage.enter(1, 0, None);
        }
        stage.step();
    }
    stage.net.lossy.store(0, Ordering::Relaxed);
    stage.run(2);
    stage.check();
}

#[test]
fn a_server_that_is_cut_off_has_ghosts_elsewhere_that_leave_and_come_again() {
    let mut stage = Stage::new(3, None);
    stage.run(2);
    let players = [0, 1, 2].map(|server| stage.enter(server, 4 * METRE, None));
    stage.run(2);
    stage.check();
    let cubes = players.map(|player| stage.cube(player));
    for outage_seconds in [3, 9] {
        stage.net.cut.lock().unwrap().insert(1);
        stage.run(2);
        let kind = |player: usize, cube| stage.players[player].seen.cube(cube).map(|c| c.kind);
        assert_eq!(kind(players[0], cubes[1]), Some(CubeKind::Ghost));
        assert_eq!(kind(players[1], cubes[0]), Some(CubeKind::Ghost));
        assert_eq!(kind(players[0], cubes[2]), Some(CubeKind::Player));
        // A player on either side can take it.
        for player in [players[0], players[1]] {
            let cube = FREE_CUBE;
            stage.say(player, ClientMessage::Take { cube });
        }
        stage.run(outage_seconds - 2);
        let is_gone = stage.players[players[0]].seen.cube(cubes[1]).is_none();
        assert_eq!(is_gone, outage_seconds > 6);
        stage.net.cut.lock().unwrap().clear();
        stage.run(2);
        stage.check();
        for player in players {
            stage.players[player].writer.release(FREE_CUBE);
            stage.say(player, ClientMessage::Release { cube: FREE_CUBE });
        }
        stage.run(1);
        stage.check();
        let (kind, _) = stage.truth()[&FREE_CUBE];
        assert_eq!(kind, CubeKind::Free { holder: None });
    }
}

#[test]
fn players_of_a_dead_server_keep_their_cubes_at_another() {
    let mut stage = Stage::new(3, None);
    stage.run(2);
    let players = [0, 1, 2].map(|server| {
        let player = stage.enter(server, 4 * METRE, None);
        stage.run(1);
        player
    });
    let (cube, token) = (stage.cube(1), stage.players[1].token);
    stage.kill(1);
    stage.players.remove(1);
    stage.step();
    let back = stage.enter(2, 40 * METRE, Some(token));
    assert_eq!(stage.cube(back), cube);
    stage.run(2);
    stage.check();
    assert_eq!(stage.players[players[0]].notices_of(cube), ["joined"]);

    // The token was valid once.
    let other = stage.enter(0, 0, Some(token));
    assert_ne!(stage.cube(other), cube);
    stage.run(1);
    stage.check();
}

#[test]
fn who_came_a_moment_before_their_server_stops_keeps_the_cube() {
    let mut stage = Stage::new(3, None);
    stage.run(2);
    let player = stage.enter(0, 4 * METRE, None);
    stage.run(1);
    let (cube, token) = (stage.cube(player), stage.players[player].token);
    let moved = stage.enter(1, 4 * METRE, Some(token));
    stage.players[moved].read();
    let token = stage.players[moved].token;
    // The server leaves within the same tick, and another one has just started.
    let late = stage.open();
    stage.server(1).leave();
    stage.kill(1);
    stage.players.clear();
    stage.step();
    let back = stage.enter(late, 4 * METRE, Some(token));
    assert_eq!(stage.cube(back), cube);
    stage.run(1);
    let token = stage.players[back].token;
    let back = stage.enter(2, 4 * METRE, Some(token));
    assert_eq!(stage.cube(back), cube);
    stage.players.remove(0);
    stage.run(2);
    stage.check();
}

#[test]
fn who_hears_nobody_for_a_moment_takes_the_free_cube_from_nobody() {
    let mut stage = Stage::new(3, None);
    stage.run(2);
    let players = [0, 1, 2].map(|server| stage.enter(server, 4 * METRE, None));
    for holder in [0, 1] {
        let cube = FREE_CUBE;
        stage.say(players[holder], ClientMessage::Take { cube });
        stage.run(2);
        let held = CubeKind::Free {
            holder: Some(stage.cube(holder)),
        };
        assert_eq!(stage.truth()[&cube].0, held);
        for deaf in (0..3).filter(|&server| server != holder) {
            stage.net.deaf.lock().unwrap().insert(deaf);
            stage.run(3);
            stage.net.deaf.lock().unwrap().clear();
            stage.run(2);
            stage.check();
            assert_eq!(stage.truth()[&cube].0, held);
        }
        stage.players[holder].writer.release(cube);
        stage.say(players[holder], ClientMessage::Release { cube });
        stage.run(1);
    }
}

#[test]
fn who_is_alone_for_good_keeps_the_free_cube_and_shares_it_later() {
    let mut stage = Stage::new(2, None);
    stage.run(2);
    for server in [0, 1] {
        stage.enter(server, 4 * METRE, None);
    }
    for (dead, alone) in [(0, 1), (1, 2)] {
        stage.kill(dead);
        stage.players.retain(|player| player.server != dead);
        stage.run(8);
        stage.check();
        assert!(stage.server(alone).owns(FREE_CUBE));
        let new = stage.open();
        stage.run(2);
        stage.check();
        let player = stage.enter(new, 4 * METRE, None);
        let cube = FREE_CUBE;
        stage.say(player, ClientMessage::Take { cube });
        stage.run(1);
        stage.check();
        let holder = Some(stage.cube(player));
        assert_eq!(stage.truth()[&cube].0, CubeKind::Free { holder });
        stage.say(player, ClientMessage::Release { cube });
        stage.run(1);
    }
}

#[test]
fn a_dead_server_is_forgotten_by_all_though_they_tell_each_other_of_it() {
    let mut stage = Stage::new(3, None);
    stage.run(2);
    stage.enter(0, 4 * METRE, None);
    let lost = stage.enter(1, 4 * METRE, None);
    stage.run(1);
    let (cube, dead) = (stage.cube(lost), stage.server(1).shared());
    let dead = dead.cluster.id();
    stage.kill(1);
    stage.players.remove(lost);
    stage.run(4);
    // It learns of the dead server's cubes when the others have nearly forgotten it.
    stage.open();
    stage.run(12);
    stage.check();
    for server in stage.servers.iter().flatten() {
        let peers = server.shared();
        assert!(!peers.peers.contains_key(&dead));
        assert!(!peers.claims.contains_key(&cube));
    }
}

#[test]
fn the_free_cube_lies_where_it_was_though_its_heir_sees_nothing() {
    for says_goodbye in [true, false] {
        let mut stage = Stage::new(2, None);
        stage.run(2);
        let player = stage.enter(0, 4 * METRE, None);
        let cube = FREE_CUBE;
        stage.say(player, ClientMessage::Take { cube });
        for step in 0..60 {
            stage.go(player, cube, step * 80);
            stage.step();
        }
        let (_, lies) = stage.truth()[&cube];
        stage.run(2 * u32::from(!says_goodbye));
        assert!(stage.server(0).owns(cube));
        if says_goodbye {
            stage.server(0).leave();
        }
        stage.kill(0);
        stage.players.clear();
        stage.run(2);
        let (kind, pose) = stage.truth()[&cube];
        assert_eq!(kind, CubeKind::Free { holder: None });
        let off = pose.position.distance(lies.position);
        assert!(off <= 8, "{pose:?} instead of {lies:?}");
    }
}

#[test]
fn a_cube_is_where_the_latest_tick_has_it_whatever_comes_first() {
    let info = CubeInfo {
        cube: CubeId(7),
        kind: CubeKind::Player,
        name: "two\nlines".into(),
        colour: Colour::from([1, 2, 3]),
        motion: MotionState::at_rest(pose_at(METRE)),
    };
    let keyframe = |cell, tick, cubes: &[&CubeInfo]| Told {
        news: tick,
        keyframe: Keyframe {
            cell: CellId(cell),
            interval_ticks: 1,
            tick,
            cubes: cubes.iter().map(|&info| info.clone()).collect(),
        },
    };
    let entered = |cell, tick| Snapshot {
        cell: CellId(cell),
        tick,
        events: vec![Event::Entered(info.clone())],
        residuals: Bytes::new(),
    };
    let mut peer = Peer::new(Instant::now());
    let touched = &mut BTreeMap::new();
    // The cube went from the first cell to the second one at tick 11.
    peer.news(0, &entered(2, 11), touched);
    peer.keyframe(keyframe(1, 10, &[&info]), touched);
    peer.keyframe(keyframe(1, 12, &[]), touched);
    let sighting = peer.sighting(info.cube).unwrap();
    assert_eq!(sighting.tick, 11);
    assert_eq!(sighting.name, "?", "nobody is to be shown that");
    // The cube went out of the second cell.
    peer.keyframe(keyframe(2, 13, &[]), touched);
    assert!(peer.sighting(info.cube).is_none());
}

#[test]
fn a_room_is_full_when_it_is_on_all_servers_together() {
    let mut stage = Stage::new(0, Some(32));
    stage.max_cubes = 5;
    stage.open();
    stage.open();
    stage.run(2);
    for x in [0, METRE] {
        stage.enter(0, x, None);
    }
    stage.enter(1, 200 * METRE, None);
    stage.run(1);
    for expected in [true, false] {
        let known = stage.server(1).room.world().cube_count();
        assert!(known < 4, "it does not see them all");
        let entered = stage.try_enter(1, 200 * METRE, None);
        assert_eq!(entered.is_ok(), expected);
        stage.run(1);
    }
}

#[test]
fn a_room_that_is_opened_again_gives_no_number_that_lives_on_elsewhere() {
    let mut stage = Stage::new(2, None);
    stage.run(2);
    let player = stage.enter(0, 4 * METRE, None);
    stage.run(1);
    let (cube, token) = (stage.cube(player), stage.players[player].token);
    stage.enter(1, 4 * METRE, Some(token));
    stage.players.remove(player);
    stage.run(1);
    stage.reopen(0);
    let other = stage.enter(0, 8 * METRE, None);
    assert_ne!(stage.cube(other), cube);
    stage.run(2);
    assert!(!stage.players[other].ended.is_cancelled());
    stage.check();
}

#[test]
fn who_shows_their_token_at_another_server_moves_there_and_the_old_connection_ends() {
    let mut stage = Stage::new(2, None);
    stage.run(2);
    stage.enter(0, 4 * METRE, None);
    let moved = stage.enter(1, 4 * METRE, None);
    stage.run(1);
    let (cube, token) = (stage.cube(moved), stage.players[moved].token);
    let again = stage.enter(0, 4 * METRE, Some(token));
    assert_eq!(stage.cube(again), cube);
    stage.run(1);
    assert!(stage.players[moved].ended.is_cancelled());
    stage.players.remove(moved);
    stage.check();
    assert!(stage.server(0).owns(cube));
    assert!(!stage.server(1).owns(cube));
}

#[test]
fn a_server_that_was_asleep_agrees_again() {
    let mut stage = Stage::new(2, None);
    stage.run(2);
    let [a, b] = [0, 1].map(|server| stage.enter(server, 4 * METRE, None));
    stage.run(1);
    let sleeper = stage.servers[1].take();
    stage.run(3);
    let seen = stage.players[a].seen.cube(stage.cube(b));
    assert_eq!(seen.map(|cube| cube.kind), Some(CubeKind::Ghost));
    stage.servers[1] = sleeper;
    stage.run(2);
    stage.check();
}

#[test]
fn only_what_somebody_sees_is_listened_to() {
    let mut stage = Stage::new(2, Some(32));
    stage.run(2);
    let a = stage.enter(0, 0, None);
    let b = stage.enter(1, 200 * METRE, None);
    stage.run(1);
    let listened = |stage: &Stage, server: usize| -> usize {
        let ears = stage.net.ears.lock().unwrap();
        let cells = ears
            .iter()
            .filter(|(_, of, topic, _)| *of == server && matches!(topic, Topic::Cell(..)));
        cells.count()
    };
    assert!(listened(&stage, 0) > 0 && listened(&stage, 0) < Grid::new(32 * METRE as u32).cells());
    let (own, other) = (stage.cube(a), stage.cube(b));
    assert!(stage.players[a].seen.cube(other).is_none());
    assert!(stage.server(0).room.world().cube(other).is_none());
    // The cube moves at twenty metres a second.
    for step in 0..200 {
        stage.go(a, own, step * METRE);
        stage.step();
    }
    stage.run(1);
    assert_eq!(stage.players[a].notices_of(other), ["appeared"]);
    stage.leave(b, Ending::Left);
    stage.run(1);
    assert_eq!(stage.players[a].notices_of(other), ["appeared", "left"]);
    stage.leave(a, Ending::Left);
    stage.run(4);
    assert_eq!(listened(&stage, 0), 0);

    // An observer, such as a page, sees all cells as long as it is there.
    let far = stage.enter(1, 200 * METRE, None);
    let far = stage.cube(far);
    let handle = stage.server(0).handle.clone();
    let (outlet, _frames) = mpsc::channel(64);
    let mut observing = Box::pin(handle.observe(Outlet::Frames(outlet)));
    assert!(observing.as_mut().now_or_never().is_none());
    stage.take_events(0);
    let observer = observing.now_or_never().unwrap().unwrap();
    // Views change every few ticks.
    stage.run(1);
    let cells = Grid::new(32 * METRE as u32).cells();
    assert_eq!(listened(&stage, 0), cells);
    assert!(stage.server(0).room.world().cube(far).is_some());
    drop(observer);
    stage.take_events(0);
    stage.run(4);
    assert_eq!(listened(&stage, 0), 0);
}

#[test]
fn nonsense_on_the_bus_changes_nothing() {
    let mut stage = Stage::new(2, None);
    stage.run(2);
    for server in [0, 1] {
        stage.enter(server, 4 * METRE, None);
    }
    stage.run(1);
    let port = Port {
        net: Arc::clone(&stage.net),
        number: 99,
    };
    let topic = Topic::Room("stage".into());
    let mut random = fastrand::Rng::with_seed(1);
    for length in 0..300 {
        let payload: Vec<_> = (0..length).map(|_| random.u8(..)).collect();
        port.publish(&topic, payload.into());
    }
    stage.run(2);
    stage.check();
}

#[test]
fn who_is_told_in_time_is_told_once() {
    let mut stage = Stage::new(2, None);
    stage.run(2);
    let players = [0, 1].map(|server| stage.enter(server, 4 * METRE, None));
    let mut random = fastrand::Rng::with_seed(3);
    let mut step = [0; 2];
    let mut x = [4 * METRE; 2];
    let mut placed = 0;
    for tick in 0..400 {
        for player in players {
            if random.u8(0..10) == 0 {
                step[player] = random.i32(-100..100);
            }
            x[player] += step[player];
            let cube = stage.cube(player);
            stage.go(player, cube, x[player]);
        }
        stage.step();
        if tick == 20 {
            placed = stage.players[0].placed;
        }
    }
    assert_eq!(stage.players[0].placed, placed);
}

#[test]
fn a_room_of_one_cell_is_told_in_one_message_a_tick() {
    let mut stage = Stage::new(3, None);
    stage.run(2);
    let players = [0, 1].map(|server| stage.enter(server, 4 * METRE, None));
    stage.run(1);
    let before = stage.net.carried.load(Ordering::Relaxed);
    let ticks = 10 * i32::from(HZ);
    for tick in 0..ticks {
        for player in players {
            let cube = stage.cube(player);
            stage.go(player, cube, 4 * METRE + tick % 2 * 150);
        }
        stage.step();
    }
    let carried = stage.net.carried.load(Ordering::Relaxed) - before;
    // The third server sees nothing, and receives only the beats of the others.
    let news = 2 * ticks as u64;
    let beats = 3 * 2 * 10 * 5;
    assert!((news..news + beats).contains(&carried), "{carried}");
    let late_ticks = &stage.server(0).shared().metrics.late_ticks;
    assert_eq!(late_ticks.get(), 0);
    stage.run(1);
    stage.check();
}
