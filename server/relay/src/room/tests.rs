//! Replicas that read a room's frames, compared with the room's truth over long random runs. In
//! [`machine`], proptest chooses what the same players do.

mod bounds;
mod datagrams;
mod edges;
mod liveness;
mod loose;
mod machine;
mod plain;
mod removal;
mod stalls;
mod takeover;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use cubesync_protocol::cells::Grid;
use cubesync_protocol::limits::{FAR_INTERVAL_TICKS, MAX_CUBES_PER_ROOM, MAX_HORIZONTAL_QUANTA};
use cubesync_protocol::motion::Codec;
use cubesync_protocol::replica::Change;
use cubesync_protocol::{
    CellId, ClientMessage, CloseCode, Colour, CubeId, CubeKind, Message, Pose, Position, Replica,
    ResumeToken, ServerMessage, Snapshot, frame,
};
use cubesync_recording::Scene;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::audience::{Outlet, ReceiverId};
use super::backplane::Alone;
use super::speed::SpeedRule;
use super::testing::{SampleWriter, pose_at};
use super::*;
use crate::metrics::Metrics;

const HZ: u8 = 20;
const FREE: CubeId = CubeId(0);
const FAR: u64 = FAR_INTERVAL_TICKS as u64;
const METRE: i32 = 512;

/// A room whose time the test controls.
struct TestRoom {
    room: Room,
    handle: RoomHandle,
    random: fastrand::Rng,
    view_distance: Option<u32>,
    clients: BTreeMap<CubeId, Client>,
    /// The players' positions, and their steps in quanta per tick.
    walks: BTreeMap<CubeId, (Position, [i32; 2])>,
    /// Tokens of players whose connection is lost.
    tokens: Vec<ResumeToken>,
    /// The ticks at which cubes left the room.
    left: BTreeMap<CubeId, u64>,
    found: Found,
}

/// Counts of what happened in a run, which show that the run tested something.
#[derive(Debug, Default, Clone, Copy)]
struct Found {
    near: u64,
    far: u64,
    unseen: u64,
    appeared: u64,
    disappeared: u64,
    fallen_behind: u64,
    resumed: u64,
}

/// A player, with a replica as a client has it.
struct Client {
    seen: Replica,
    frames: mpsc::Receiver<Bytes>,
    received: BytesMut,
    /// Every message that was read.
    heard: Vec<ServerMessage>,
    writer: SampleWriter,
    /// The number of `Welcome`s that it has read and answered.
    welcomes: u32,
    answered: u32,
    /// The cubes in sight, by the replica's changes.
    present: BTreeSet<CubeId>,
    /// The tick before which the player reads nothing.
    asleep_until: u64,
    /// The tick at which it had read everything that came while it did not read.
    awake_since: u64,
    cells: BTreeSet<CellId>,
    /// Cubes in sight beyond the view distance, with the tick since which they are.
    beyond: BTreeMap<CubeId, u64>,
}

impl Room {
    fn is_up_to_date(&self, receiver: ReceiverId) -> bool {
        let Connections { audience, log, .. } = &self.connections;
        audience.is_up_to_date(receiver, log)
    }
}

impl TestRoom {
    fn new(view_distance_m: Option<u32>, seed: u64) -> Self {
        let view_distance = view_distance_m.map(|metres| metres * METRE as u32);
        let settings = RoomSettings {
            name: "test".into(),
            tick_hz: HZ,
            top_speed: None,
            grid: view_distance.map_or(Grid::WHOLE, Grid::new),
            slow_reader_after: Duration::from_secs(3_600),
            resume_within: Duration::from_secs(1),
            drain: Duration::ZERO,
            max_cubes: MAX_CUBES_PER_ROOM,
            field: None,
            permanent: true,
            backplane: Arc::new(Alone),
        };
        let (handle, connections) = Connections::new(settings, Metrics::default());
        Self {
            room: Room::new(connections),
            handle,
            random: fastrand::Rng::with_seed(seed),
            view_distance,
            clients: BTreeMap::new(),
            walks: BTreeMap::new(),
            tokens: Vec::new(),
            left: BTreeMap::new(),
            found: Found::default(),
        }
    }

    fn tick(&self) -> u64 {
        self.room.clock.tick()
    }

    fn now(&self) -> Instant {
        self.room.clock.begins(self.tick()) + Duration::from_millis(1)
    }

    fn enter(&mut self, resume: Option<ResumeToken>) {
        self.enter_at(resume, None);
    }

    /// Lets a player in, and returns their cube.
    fn let_in(
        &mut self,
        outlet: mpsc::Sender<Bytes>,
        rule: SpeedRule,
        resume: Option<ResumeToken>,
        pose: Option<Pose>,
    ) -> CubeId {
        let entrance = Entrance {
            name: "someone".into(),
            colour: Colour::from([1, 2, 3]),
            rule,
            sight: SightRule::Surroundings,
            resume,
            pose,
            outlet: Outlet::Frames(outlet),
            ended: CancellationToken::new(),
            peer: None,
        };
        let (reply, mut answer) = oneshot::channel();
        let now = self.now();
        self.room.handle(RoomEvent::Enter { entrance, reply }, now);
        answer.try_recv().unwrap().unwrap().cube
    }

    fn enter_at(&mut self, resume: Option<ResumeToken>, pose: Option<Pose>) -> CubeId {
        // As many as a WebSocket has.
        let (outlet, frames) = mpsc::channel(4);
        let cube = self.let_in(outlet, SpeedRule::TopSpeed, resume, pose);
        let start = self.room.world.pose(cube).unwrap().position;
        let walk = self.walks.entry(cube).or_insert((start, [0; 2]));
        // A ghost stands where the server had it.
        walk.0 = start;
        let client = Client {
            seen: Replica::default(),
            frames,
            received: BytesMut::new(),
            heard: Vec::new(),
            writer: SampleWriter::default(),
            welcomes: 0,
            answered: 1,
            present: BTreeSet::new(),
            asleep_until: 0,
            awake_since: self.tick(),
            cells: BTreeSet::new(),
            beyond: BTreeMap::new(),
        };
        if self.clients.insert(cube, client).is_some() {
            panic!("cube {cube} was given twice");
        }
        cube
    }

    /// Returns the token of a player who is connected.
    fn token(&self, player: CubeId) -> ResumeToken {
        let member = self.room.connections.member(self.room.players[&player]);
        member.unwrap().token
    }

    /// Lets another server own the room, to which all players are connected. It misses so many ticks.
    fn take_over(&mut self, missed_ticks: u64) {
        let now = self.now() + Duration::from_millis(missed_ticks * 1_000 / u64::from(HZ));
        let settings = self.room.connections.settings.clone();
        let (_, nothing) = Connections::new(settings, Metrics::default());
        let before = std::mem::replace(&mut self.room, Room::new(nothing));
        let (connections, state) = before.hand_over();
        self.room = Room::take_over(connections, state, now);
        let tick = self.tick();
        for client in self.clients.values_mut() {
            client.awake_since = client.awake_since.max(tick);
        }
    }

    /// Answers the `Welcome`s that clients have read.
    fn answer(&mut self) {
        for player in self.clients.keys().copied().collect::<Vec<_>>() {
            let tick = self.tick();
            let client = self.clients.get_mut(&player).unwrap();
            let unanswered = client.welcomes.saturating_sub(client.answered);
            if unanswered > 0 {
                client.answered = client.welcomes;
                client.writer = SampleWriter::default();
                client.awake_since = tick;
            }
            for _ in 0..unanswered {
                self.say(player, ClientMessage::Continue { releases: 0 });
            }
        }
    }

    fn say(&mut self, from: CubeId, message: ClientMessage) {
        let now = self.now();
        let from = self.room.players[&from];
        self.room.handle(RoomEvent::Message { from, message }, now);
    }

    /// Sends a player's sample of a cube for a tick.
    fn say_pose(&mut self, player: CubeId, tick: u64, (cube, pose): (CubeId, Pose)) {
        let writer = &mut self.clients.get_mut(&player).unwrap().writer;
        let (placed, residuals) = writer.sample(tick, cube, pose);
        let residuals = residuals.into();
        let sample = ClientMessage::Sample {
            tick,
            placed,
            residuals,
        };
        self.say(player, sample);
    }

    fn leave(&mut self, from: CubeId, reason: Ending) {
        let now = self.now();
        self.clients.remove(&from);
        let from = self.room.players[&from];
        self.room.handle(RoomEvent::Leave { from, reason }, now);
    }

    fn some_client(&mut self) -> Option<CubeId> {
        let clients: Vec<_> = self.clients.keys().copied().collect();
        self.random.choice(clients)
    }

    /// Does something that players do now and then.
    fn happen(&mut self) {
        let client = self.some_client();
        match (self.random.u8(0..100), client) {
            (0..2, _) if self.clients.len() < 14 => self.enter(None),
            (2..4, _) if !self.tokens.is_empty() => {
                let token = self
                    .tokens
                    .swap_remove(self.random.usize(0..self.tokens.len()));
                let cube = self.room.resumption.cube(TokenDigest::of(&token));
                self.found.resumed += u64::from(cube.is_some());
                self.enter(Some(token));
            }
            (4, Some(client)) => self.leave(client, Ending::Left),
            (5, Some(client)) => {
                self.tokens.push(self.token(client));
                self.leave(client, Ending::Closed);
            }
            (6..10, Some(cube)) => self.say(cube, ClientMessage::Take { cube: FREE }),
            (10..12, Some(client)) => {
                self.clients.get_mut(&client).unwrap().writer.release(FREE);
                self.say(client, ClientMessage::Release { cube: FREE });
            }
            (12, Some(client)) => {
                let ticks = self.random.u64(1..150);
                let tick = self.tick();
                self.clients.get_mut(&client).unwrap().asleep_until = tick + ticks;
            }
            (13, Some(client)) => {
                let world = -MAX_HORIZONTAL_QUANTA..=MAX_HORIZONTAL_QUANTA;
                let mut place = || self.random.i32(world.clone());
                let walk = self.walks.get_mut(&client).unwrap();
                (walk.0.x, walk.0.y) = (place(), place());
            }
            _ => {}
        }
    }

    /// Moves every player by a step and sends samples, some of them too late.
    fn walk(&mut self) {
        let clients: Vec<_> = self.clients.keys().copied().collect();
        for client in clients {
            let (position, step) = self.walks.get_mut(&client).unwrap();
            if self.random.u8(0..20) == 0 {
                // Up to 20 m/s.
                let mut along = || self.random.i32(-METRE..=METRE);
                *step = [along(), along()];
            } else if self.random.u8(0..20) == 0 {
                *step = [0; 2];
            }
            position.x += step[0];
            position.y += step[1];
            *position = position.clamped();
            let pose = Pose {
                position: *position,
                ..Pose::default()
            };
            if self.random.u8(0..30) == 0 {
                // The message is lost with the next ones, as on a network that stalls.
                continue;
            }
            let late = if self.random.u8(0..10) == 0 { 1 } else { 0 };
            let tick = self.tick() + 1 - late;
            if self.clients[&client].writer.tick() >= tick {
                continue;
            }
            self.say_pose(client, tick, (client, pose));
            let holds = self.room.world.cube(FREE).unwrap().kind
                == (CubeKind::Free {
                    holder: Some(client),
                });
            if holds && self.random.bool() {
                let mut held = pose;
                held.position.x += 2 * METRE;
                held.position = held.position.clamped();
                self.say_pose(client, tick + 1, (FREE, held));
            }
        }
    }

    fn step(&mut self) {
        let before = self.cubes();
        for _ in 0..3 {
            self.happen();
        }
        self.walk();
        self.end_tick(&before);
    }

    fn cubes(&self) -> BTreeSet<CubeId> {
        self.room.world.cubes().map(|cube| cube.cube).collect()
    }

    /// Ends a tick, and compares all replicas with the truth. `before` are the cubes that were in the room
    /// since the last tick.
    fn end_tick(&mut self, before: &BTreeSet<CubeId>) {
        let begins = self.room.clock.begins(self.tick() + 1);
        self.room.tick(begins);
        let after = self.cubes();
        let tick = self.tick();
        self.left
            .extend(before.difference(&after).map(|&cube| (cube, tick)));
        for (&own, client) in &mut self.clients {
            if client.asleep_until <= tick {
                client.read(own, tick, &self.room, &mut self.found);
            }
        }
        self.answer();
        let clients: Vec<_> = self.clients.keys().copied().collect();
        for client in clients {
            self.check(client);
        }
    }

    /// Compares a client's replica with the truth.
    fn check(&mut self, own: CubeId) {
        let tick = self.tick();
        let client = self.clients.get_mut(&own).unwrap();
        let beyond = std::mem::take(&mut client.beyond);
        let world = &self.room.world;
        assert!(
            client
                .seen
                .cubes()
                .map(|cube| cube.cube)
                .eq(client.present.iter().copied())
        );
        // It does not read, has no keyframes yet, or has unread frames.
        if client.asleep_until > tick
            || tick < client.awake_since + 3 * FAR
            || client.present.is_empty()
            || !self
                .room
                .is_up_to_date(ReceiverId::Player(self.room.players[&own]))
        {
            return;
        }
        // News of a far cell come late, and a replica keeps a lost cube for a while. Silence means that
        // all predictions are right.
        let mut seen = client.seen.clone();
        seen.heartbeat(tick).unwrap();
        for cube in seen.cubes() {
            let known = world.cube(cube.cube).is_some();
            let left = self.left.get(&cube.cube);
            assert!(
                known || left.is_some_and(|left| left + 2 * FAR >= tick),
                "tick {tick}: {own} still sees {cube:?}, gone at {left:?}"
            );
        }
        let is_far_tick = tick.is_multiple_of(FAR);
        let viewpoints: Vec<_> = world.viewpoints(own).collect();
        for cube in world.cubes() {
            let distance = |from: &Position| from.distance(cube.pose.position);
            let distance = viewpoints.iter().map(distance).min().unwrap();
            let reach = self.view_distance.map_or(u64::MAX, u64::from);
            // Cells are as wide or 16 m, and the hystereses less.
            let most = reach.saturating_add(reach.max(16 * METRE as u64).saturating_mul(2));
            if distance > most && seen.cube(cube.cube).is_some() {
                let since = *beyond.get(&cube.cube).unwrap_or(&tick);
                client.beyond.insert(cube.cube, since);
                assert!(tick - since <= 2 * FAR + 1, "{own} keeps {cube:?}");
            }
            // The cells in sight are chosen at far ticks.
            if distance > reach || !is_far_tick {
                self.found.unseen += u64::from(seen.cube(cube.cube).is_none());
                continue;
            }
            let known = seen.cube(cube.cube);
            let known = known.unwrap_or_else(|| panic!("{own} does not see {cube:?} at {tick}"));
            assert_eq!(
                (known.kind, &known.name),
                (cube.kind, &cube.name),
                "tick {tick}"
            );
            let predicted = seen.pose(cube.cube).unwrap().position;
            let truth = cube.pose.position;
            // A near receiver predicts what the cube's own client predicts, and adds no error.
            let in_step = distance <= reach / 2 && world.motion(cube.cube).is_some();
            let bound = if in_step {
                0
            } else {
                Codec::LIVE.position_bound as u32
            };
            for (predicted, truth) in [(predicted.x, truth.x), (predicted.y, truth.y)] {
                assert!(
                    predicted.abs_diff(truth) <= bound,
                    "{own} sees {} at {predicted} instead of {truth} at {tick}",
                    cube.cube
                );
            }
            if distance <= reach / 2 {
                self.found.near += 1;
            } else {
                self.found.far += 1;
            }
        }
    }
}

impl Client {
    /// Reads all frames that have come.
    fn read(&mut self, own: CubeId, tick: u64, room: &Room, found: &mut Found) {
        let mut count = 0;
        while let Ok(frames) = self.frames.try_recv() {
            self.received.extend_from_slice(&frames);
            count += 1;
        }
        if count == 4 {
            // The channel was full, and may have more behind it.
            self.awake_since = tick;
        }
        while let Some(payload) =
            frame::split(&mut self.received, ServerMessage::MAX_PAYLOAD_BYTES).unwrap()
        {
            let message = ServerMessage::decode(&payload).unwrap();
            match &message {
                ServerMessage::Keyframe(keyframe) => {
                    found.fallen_behind += u64::from(!self.cells.insert(keyframe.cell));
                }
                ServerMessage::Welcome(_) => self.welcomes += 1,
                ServerMessage::Snapshot(snapshot) => check_events(snapshot, room),
                ServerMessage::OutOfSight { cells } => {
                    self.cells.retain(|cell| !cells.contains(cell));
                }
                _ => {}
            }
            let changes = self.seen.take_in(&message).unwrap();
            if !self.present.is_empty() {
                for change in changes {
                    self.hear(change, found);
                }
            } else if self.seen.cube(own).is_some() {
                self.present = self.seen.cubes().map(|cube| cube.cube).collect();
            }
            self.heard.push(message);
        }
        assert!(self.received.is_empty(), "{own} has half a frame");
        assert!(room.players.contains_key(&own));
    }

    /// Each cube comes once and goes once.
    fn hear(&mut self, change: Change, found: &mut Found) {
        match change {
            Change::Joined(info) => assert!(self.present.insert(info.cube)),
            Change::Left(info) => assert!(self.present.remove(&info.cube)),
            Change::Appeared(info) => {
                assert!(self.present.insert(info.cube));
                found.appeared += 1;
            }
            Change::Disappeared(info) => {
                assert!(self.present.remove(&info.cube));
                found.disappeared += 1;
            }
            _ => {}
        }
    }
}

/// Checks that a tick has one outcome of each cube at most. A far cell's snapshot has several ticks.
fn check_events(snapshot: &Snapshot, room: &Room) {
    let ticks = match room.connections.settings.grid == Grid::WHOLE {
        true => 1,
        false => usize::from(FAR_INTERVAL_TICKS),
    };
    let mut counts = BTreeMap::<(CubeId, u8), usize>::new();
    for event in &snapshot.events {
        let kind = match event {
            Event::Entered(_) => 1,
            Event::Exited { .. } => 2,
            Event::Placed { .. } => 3,
            _ => 0,
        };
        *counts.entry((event.cube(), kind)).or_default() += 1;
    }
    let is_coalesced = counts.values().all(|count| *count <= ticks);
    assert!(is_coalesced, "{:?}", snapshot.events);
    // The bytes that SECURITY.md promises.
    for event in &snapshot.events {
        let most = match event {
            Event::Joined(_) | Event::Entered(_) => 250,
            Event::Placed { .. } => 100,
            _ => 20,
        };
        let alone = |events| {
            let (cell, tick, residuals) = (CellId(0), 0, Bytes::new());
            let snapshot = Snapshot {
                cell,
                tick,
                events,
                residuals,
            };
            ServerMessage::Snapshot(snapshot).to_frame().len()
        };
        let len_bytes = alone(vec![event.clone()]) - alone(Vec::new());
        assert!(len_bytes <= most, "{event:?} has {len_bytes} bytes");
    }
    let most = 40 * room.world.cube_count();
    assert!(snapshot.residuals.len() <= most, "{snapshot:?}");
}

fn run(view_distance_m: Option<u32>, seed: u64, ticks: u64) -> Found {
    let mut test = TestRoom::new(view_distance_m, seed);
    for _ in 0..6 {
        test.enter(None);
    }
    for _ in 0..ticks {
        test.step();
    }
    for client in test.clients.keys().copied().collect::<Vec<_>>() {
        test.leave(client, Ending::Left);
    }
    assert!(
        !test.room.publisher.is_seen_from_afar(),
        "nobody looks any more"
    );
    test.found
}

#[test]
fn with_a_view_distance_clients_see_near_cubes_exactly_and_forget_those_out_of_sight() {
    for (view_distance_m, seed) in [
        (32, 8),
        (32, 25),
        (20, 1),
        (32, 2),
        (64, 3),
        (150, 4),
        (250, 5),
    ] {
        let found = run(Some(view_distance_m), seed, 2_000);
        assert!(found.near > 5_000 && found.far > 500, "{found:?}");
        assert!(found.appeared > 200 && found.disappeared > 25, "{found:?}");
        assert!(
            found.unseen > 2_000 && found.fallen_behind > 100,
            "{found:?}"
        );
        assert!(found.resumed > 3, "{found:?}");
    }
}

#[test]
fn without_a_view_distance_clients_see_the_whole_room_at_every_tick() {
    let found = run(None, 6, 3_000);
    assert!(found.near > 50_000, "{found:?}");
    assert_eq!((found.far, found.unseen), (0, 0));
}

#[test]
fn returning_players_choose_their_pose_only_in_a_rooms_first_minute() {
    let mut test = TestRoom::new(None, 7);
    let far = pose_at(100_000);
    let starts_at = |test: &mut TestRoom| {
        let token = ResumeToken([7; 16]);
        let cube = test.enter_at(Some(token), Some(far));
        test.room.world.pose(cube).unwrap()
    };
    assert_eq!(starts_at(&mut test), far);
    for _ in 0..60 * u64::from(HZ) {
        let begins = test.room.clock.begins(test.tick() + 1);
        test.room.tick(begins);
    }
    assert_ne!(starts_at(&mut test), far);
}

#[test]
fn an_observer_receives_everything_and_catches_up_after_it_was_slow() {
    let mut test = TestRoom::new(Some(32), 9);
    let (outlet, mut frames) = mpsc::channel(4);
    let outlet = Outlet::Frames(outlet);
    let now = test.now();
    let (reply, mut answer) = oneshot::channel();
    test.room.handle(RoomEvent::Observe { outlet, reply }, now);
    let observer = answer.try_recv().unwrap();
    for _ in 0..6 {
        test.enter(None);
    }
    let (mut scene, mut received) = (Scene::default(), BytesMut::new());
    let (mut compared, mut slow_tick) = (0, 0);
    for step in 0..2_300 {
        test.step();
        if step % 1_000 > 300 {
            // For longer than the channel and the log last.
            slow_tick = test.tick();
            continue;
        }
        while let Ok(frames) = frames.try_recv() {
            received.extend_from_slice(&frames);
        }
        while let Ok(Some(payload)) = frame::split(&mut received, ServerMessage::MAX_PAYLOAD_BYTES)
        {
            scene.hear(Duration::ZERO, &ServerMessage::decode(&payload).unwrap());
        }
        if !test.room.is_up_to_date(observer) {
            slow_tick = test.tick();
        }
        // The keyframes come in the next tick. A cube that is in none of them, because it has left,
        // might be in a cell whose news come later.
        if test.tick() <= slow_tick + 1 + FAR {
            continue;
        }
        let mut seen = scene.cubes(test.tick());
        for cube in test.room.world.cubes() {
            let (info, pose) = seen.next().unwrap();
            let known = (info.cube, info.kind, &info.name);
            assert_eq!(known, (cube.cube, cube.kind, &cube.name));
            let apart = pose.position.distance(cube.pose.position);
            assert!(apart <= 4, "{} quanta", apart);
            compared += 1;
        }
        assert!(seen.next().is_none());
    }
    assert!(compared > 5_000, "{compared}");
    assert!(scene.gaps() > 1, "{}", scene.gaps());

    let cubes = test.room.world.cube_count();
    let now = test.now();
    test.room.handle(RoomEvent::EndObserver(observer), now);
    assert!(!test.room.connections.audience.ids().contains(&observer));
    assert_eq!(test.room.world.cube_count(), cubes);
}

#[test]
fn metres_become_quanta() {
    assert_eq!(quanta(40.0), 20_480);
    assert_eq!(quanta(f32::INFINITY), u32::MAX);
}

#[test]
fn messages_of_a_replaced_connection_are_ignored() {
    let mut test = TestRoom::new(None, 7);
    let cube = test.enter_at(None, None);
    let old = test.room.players[&cube];
    let token = test.token(cube);
    test.clients.clear();
    assert_eq!(test.enter_at(Some(token), None), cube);
    let now = test.now();
    let reason = Ending::Lost;
    test.room
        .handle(RoomEvent::Leave { from: old, reason }, now);
    let message = ClientMessage::Take { cube: CubeId(0) };
    test.room
        .handle(RoomEvent::Message { from: old, message }, now);
    let new = test.room.players[&cube];
    assert_ne!(new, old);
    let is_held = |kind| kind != CubeKind::Free { holder: None };
    assert!(
        !test
            .room
            .world
            .cubes()
            .any(|free| free.cube == CubeId(0) && is_held(free.kind))
    );
}

#[test]
fn whatever_players_ask_within_a_tick_others_get_one_event_and_they_one_answer_of_a_kind() {
    let mut test = TestRoom::new(None, 8);
    let [anna, boris, carla] = [(); 3].map(|()| test.enter_at(None, None));
    let before = test.cubes();
    test.end_tick(&before);
    for _ in 0..3 {
        test.end_tick(&before);
        for client in test.clients.values_mut() {
            client.heard.clear();
        }
        test.say(boris, ClientMessage::Take { cube: FREE });
        for sent_us in 0..200 {
            test.say(anna, ClientMessage::Ping { sent_us });
            test.say(anna, ClientMessage::Take { cube: FREE });
            test.say(boris, ClientMessage::Release { cube: FREE });
            test.say(boris, ClientMessage::Take { cube: FREE });
        }
        test.end_tick(&before);
        test.end_tick(&before);
        let heard = |player| &test.clients[&player].heard;
        let events = heard(carla).iter().map(|message| match message {
            ServerMessage::Snapshot(snapshot) => snapshot.events.len(),
            _ => 0,
        });
        assert_eq!(events.sum::<usize>(), 1);
        let pongs = |message: &ServerMessage| match message {
            ServerMessage::Pong { sent_us, .. } => Some(*sent_us),
            _ => None,
        };
        let pongs: Vec<_> = heard(anna).iter().filter_map(pongs).collect();
        let at_once = 0..u64::from(answers::PROMPT_PONGS);
        let expected: Vec<_> = at_once.chain(200 - 64..200).collect();
        assert_eq!(pongs, expected, "some at once, the newest with a tick");
        let refused = |message: &&ServerMessage| matches!(message, ServerMessage::Refused { .. });
        assert_eq!(heard(anna).iter().filter(refused).count(), 1);
        assert_eq!(heard(boris).iter().filter(refused).count(), 0);
        // Nobody has more bytes of it than a frame with an event.
        let len_bytes = |message: &ServerMessage| message.to_frame().len();
        let bytes: usize = heard(carla).iter().map(len_bytes).sum();
        assert!(bytes <= 64, "{bytes}");
    }
}
