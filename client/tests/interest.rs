//! What a client has in sight is what the server has there, whatever happens.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use cubesync_client::protocol::limits::FAR_INTERVAL_TICKS;
use cubesync_client::protocol::motion::{Codec, MotionSet, MotionState};
use cubesync_client::protocol::{
    CellId, Colour, CubeId, CubeInfo, CubeKind, Event, Keyframe, Pose, Position, ServerMessage,
    Snapshot,
};
use cubesync_client::world::{World, WorldChange, WorldError};
use proptest::prelude::*;

const OWN: CubeId = CubeId(0);
const CELLS: u16 = 5;
const FAR_INTERVAL: u64 = FAR_INTERVAL_TICKS as u64;

fn at(x: i32) -> Pose {
    let position = Position { x, y: 0, z: 256 };
    Pose {
        position,
        ..Pose::default()
    }
}

fn info(cube: CubeId, kind: CubeKind, x: i32) -> CubeInfo {
    CubeInfo {
        cube,
        kind,
        name: String::new(),
        colour: Colour::from([1, 2, 3]),
        motion: MotionState::at_rest(at(x)),
    }
}

/// A client's world, and which cubes it has told of.
struct Receiver {
    world: World,
    told: BTreeSet<CubeId>,
    joined: BTreeSet<CubeId>,
    left: BTreeSet<CubeId>,
}

impl Receiver {
    fn new() -> Self {
        Self {
            world: World::new(OWN),
            told: BTreeSet::new(),
            joined: BTreeSet::new(),
            left: BTreeSet::new(),
        }
    }

    /// Takes in a message; what is told must fit what was told before and what is known now.
    fn hear(&mut self, message: ServerMessage) -> Result<(), WorldError> {
        let was_known = self.world.is_known();
        let changes = match message {
            ServerMessage::Keyframe(keyframe) => self.world.keyframe(keyframe)?,
            ServerMessage::Snapshot(snapshot) => self.world.snapshot(snapshot)?,
            ServerMessage::Heartbeat { tick } => self.world.heartbeat(tick)?,
            ServerMessage::OutOfSight { cells } => {
                self.world.out_of_sight(&cells)?;
                Vec::new()
            }
            other => panic!("{other:?}"),
        };
        for change in changes {
            match change {
                WorldChange::Joined(info) => {
                    assert!(self.told.insert(info.cube) && self.joined.insert(info.cube));
                }
                WorldChange::Appeared(info) => assert!(self.told.insert(info.cube)),
                WorldChange::Left(info) => {
                    assert!(self.told.remove(&info.cube));
                    self.left.insert(info.cube);
                }
                WorldChange::Disappeared(info) => assert!(self.told.remove(&info.cube)),
                WorldChange::Taken { cube, .. } | WorldChange::Freed { cube } => {
                    assert!(self.told.contains(&cube));
                }
                WorldChange::Moved { states, .. } if !was_known => {
                    self.told = states.iter().map(|&(cube, _)| cube).collect();
                }
                WorldChange::Moved { states, .. } => {
                    assert!(states.iter().all(|(cube, _)| self.told.contains(cube)));
                }
            }
        }
        if self.world.is_known() {
            let known = self.world.cubes().map(|info| info.cube);
            assert!(known.eq(self.told.iter().copied()));
        }
        for info in self.world.cubes() {
            assert!(self.world.pose(info.cube).is_some());
        }
        Ok(())
    }
}

/// A room, and what it tells one client.
struct Server {
    random: fastrand::Rng,
    tick: u64,
    next_id: u32,
    cubes: BTreeMap<CubeId, Cube>,
    view: BTreeMap<CellId, Told>,
    /// When each cube was last in a cell in sight.
    seen: BTreeMap<CubeId, u64>,
    left: BTreeSet<CubeId>,
    joined: BTreeSet<CubeId>,
}

struct Cube {
    cell: CellId,
    kind: CubeKind,
    x: i32,
}

/// What the client was told of a cell.
struct Told {
    is_far: bool,
    tick: u64,
    believed: MotionSet,
    events: Vec<Event>,
}

impl Server {
    fn new(seed: u64) -> Self {
        let mut server = Self {
            random: fastrand::Rng::with_seed(seed),
            tick: 100,
            next_id: 0,
            cubes: BTreeMap::new(),
            view: BTreeMap::new(),
            seen: BTreeMap::new(),
            left: BTreeSet::new(),
            joined: BTreeSet::new(),
        };
        for _ in 0..8 {
            server.join();
        }
        server.joined.clear();
        server
    }

    fn any_cell(&mut self) -> CellId {
        CellId(self.random.u16(0..CELLS))
    }

    fn any_cube(&mut self) -> CubeId {
        let cubes: Vec<_> = self.cubes.keys().copied().collect();
        self.random.choice(cubes).unwrap()
    }

    fn note(&mut self, cell: CellId, event: Event) {
        if let Some(told) = self.view.get_mut(&cell) {
            told.events.push(event);
        }
    }

    fn info(&self, cube: CubeId) -> CubeInfo {
        let Cube { kind, x, .. } = self.cubes[&cube];
        info(cube, kind, x)
    }

    fn join(&mut self) {
        let (cube, cell) = (CubeId(self.next_id), self.any_cell());
        self.next_id += 1;
        let kind = match cube.0 % 3 {
            1 => CubeKind::Free { holder: None },
            _ => CubeKind::Player,
        };
        let x = self.random.i32(-2_000..2_000);
        self.cubes.insert(cube, Cube { cell, kind, x });
        self.joined.insert(cube);
        self.note(cell, Event::Joined(self.info(cube)));
    }

    /// Something happens to a cube.
    fn happen(&mut self) {
        let (cube, to) = (self.any_cube(), self.any_cell());
        let Cube { cell, kind, .. } = self.cubes[&cube];
        match self.random.u8(0..20) {
            0 => self.join(),
            1 if cube != OWN => {
                self.cubes.remove(&cube);
                self.left.insert(cube);
                self.note(cell, Event::Left { cube });
            }
            2..5 => {
                let event = match kind {
                    CubeKind::Free { holder: None } => {
                        let by = self.any_cube();
                        self.become_kind(cube, CubeKind::Free { holder: Some(by) });
                        Event::Taken { cube, by }
                    }
                    CubeKind::Free { .. } => {
                        self.become_kind(cube, CubeKind::Free { holder: None });
                        Event::Freed { cube }
                    }
                    CubeKind::Player if cube != OWN => {
                        self.become_kind(cube, CubeKind::Ghost);
                        Event::Ghost { cube }
                    }
                    CubeKind::Ghost => {
                        self.become_kind(cube, CubeKind::Player);
                        Event::Returned { cube }
                    }
                    CubeKind::Player => return,
                };
                self.note(cell, event);
            }
            5..10 => {
                // Slowly, so that it surprises rarely, or at once.
                let step = self.random.choice([-3, 1, 40, 9_000, -9_000]).unwrap();
                let cube = self.cubes.get_mut(&cube).unwrap();
                cube.x = (cube.x + step).clamp(-100_000, 100_000);
            }
            _ if cell != to => {
                self.cubes.get_mut(&cube).unwrap().cell = to;
                self.note(cell, Event::Exited { cube });
                self.note(to, Event::Entered(self.info(cube)));
            }
            _ => {}
        }
    }

    fn become_kind(&mut self, cube: CubeId, kind: CubeKind) {
        self.cubes.get_mut(&cube).unwrap().kind = kind;
    }

    /// Chooses what is in sight; what this and the tick have to say of each cell.
    fn tell(&mut self) -> Vec<ServerMessage> {
        let mut messages = Vec::new();
        let own = self.cubes[&OWN].cell;
        for cell in (0..CELLS).map(CellId) {
            let known = self.view.get(&cell).map(|told| told.is_far);
            let wanted = match self.random.u8(0..40) {
                _ if cell == own => Some(false),
                0 => None,
                1 => Some(true),
                2 => Some(false),
                _ => known,
            };
            if wanted != known {
                match wanted {
                    Some(is_far) => messages.push(self.keyframe(cell, is_far)),
                    None => {
                        self.view.remove(&cell);
                        let cells = vec![cell];
                        messages.push(ServerMessage::OutOfSight { cells });
                    }
                }
            } else {
                messages.extend(self.snapshot(cell));
            }
        }
        self.random.shuffle(&mut messages);
        messages.push(ServerMessage::Heartbeat { tick: self.tick });
        messages
    }

    fn keyframe(&mut self, cell: CellId, is_far: bool) -> ServerMessage {
        let here = self.cubes.iter().filter(|(_, cube)| cube.cell == cell);
        let cubes: Vec<_> = here.map(|(&id, _)| self.info(id)).collect();
        let mut believed = MotionSet::new(&Codec::LIVE);
        for info in &cubes {
            believed.insert(info.cube, info.motion);
        }
        let told = Told {
            is_far,
            tick: self.tick,
            believed,
            events: Vec::new(),
        };
        self.view.insert(cell, told);
        ServerMessage::Keyframe(Keyframe {
            cell,
            interval_ticks: if is_far { FAR_INTERVAL_TICKS } else { 1 },
            tick: self.tick,
            cubes,
        })
    }

    fn snapshot(&mut self, cell: CellId) -> Option<ServerMessage> {
        let told = self.view.get_mut(&cell)?;
        let tick = self.tick;
        if told.is_far && !tick.is_multiple_of(FAR_INTERVAL) {
            return None;
        }
        told.believed.advance((tick - told.tick) as u32);
        told.tick = tick;
        let events = std::mem::take(&mut told.events);
        for event in &events {
            match event {
                Event::Joined(info) | Event::Entered(info) => {
                    told.believed.insert(info.cube, info.motion);
                }
                Event::Left { cube } | Event::Exited { cube } => {
                    told.believed.remove(*cube);
                }
                _ => {}
            }
        }
        let mut surprises = Vec::new();
        let truth = |cube| at(self.cubes[&cube].x);
        told.believed.encode_tick(truth, &mut surprises);
        // Now and then without a reason.
        if events.is_empty() && surprises.is_empty() && self.random.bool() {
            return None;
        }
        Some(ServerMessage::Snapshot(Snapshot {
            cell,
            tick,
            events,
            surprises: surprises.into(),
        }))
    }

    /// At the end of a tick.
    fn check(&mut self, receiver: &Receiver) {
        for (&id, cube) in &self.cubes {
            let Some(told) = self.view.get(&cube.cell) else {
                continue;
            };
            self.seen.insert(id, self.tick);
            if told.is_far && told.tick < self.tick && !self.tick.is_multiple_of(FAR_INTERVAL) {
                continue;
            }
            let known = receiver.world.cube(id);
            assert_eq!(known.map(|info| info.kind), Some(cube.kind), "cube {id}");
            let off = receiver.world.pose(id).unwrap().position.x - cube.x;
            assert!(off.abs() <= Codec::LIVE.position_bound, "cube {id}: {off}");
        }
        for info in receiver.world.cubes() {
            // A far cell tells late, and what is lost is not at once given up.
            let seen = self.seen.get(&info.cube).copied().unwrap_or(100);
            assert!(self.tick - seen <= 2 * FAR_INTERVAL + 1, "{}", info.cube);
        }
        assert!(receiver.joined.is_subset(&self.joined));
        assert!(receiver.left.is_subset(&self.left));
    }
}

#[test]
fn what_is_in_sight_is_what_the_server_has_there() {
    for seed in 0..200 {
        println!("seed {seed}");
        let mut server = Server::new(seed);
        let mut receiver = Receiver::new();
        for _ in 0..200 {
            for message in server.tell() {
                receiver.hear(message).unwrap();
            }
            server.check(&receiver);
            server.tick += 1;
            for _ in 0..server.random.u8(0..6) {
                server.happen();
            }
        }
        assert!(!receiver.joined.is_empty() && !receiver.left.is_empty());
    }
}

fn any_info() -> impl Strategy<Value = CubeInfo> {
    let holder = prop_oneof![Just(None), (0u32..6).prop_map(|id| Some(CubeId(id)))];
    let kind = prop_oneof![
        Just(CubeKind::Player),
        Just(CubeKind::Ghost),
        holder.prop_map(|holder| CubeKind::Free { holder }),
    ];
    (0u32..6, kind, any::<i32>()).prop_map(|(id, kind, x)| info(CubeId(id), kind, x))
}

fn any_event() -> impl Strategy<Value = Event> {
    let cube = || (0u32..6).prop_map(CubeId);
    prop_oneof![
        any_info().prop_map(Event::Joined),
        any_info().prop_map(Event::Entered),
        cube().prop_map(|cube| Event::Left { cube }),
        cube().prop_map(|cube| Event::Exited { cube }),
        (cube(), cube()).prop_map(|(cube, by)| Event::Taken { cube, by }),
        cube().prop_map(|cube| Event::Freed { cube }),
        cube().prop_map(|cube| Event::Ghost { cube }),
        cube().prop_map(|cube| Event::Returned { cube }),
    ]
}

/// Messages, their ticks counted from the newest one on, from two before it.
fn any_message() -> impl Strategy<Value = ServerMessage> {
    let cell = || (0u16..4).prop_map(CellId);
    let tick = || prop_oneof![2u64..9, Just(0), Just(u64::MAX)];
    let surprises = prop_oneof![
        3 => Just(Bytes::new()),
        1 => prop::collection::vec(any::<u8>(), 1..20).prop_map(Bytes::from),
    ];
    let keyframe = (
        cell(),
        any::<u8>(),
        tick(),
        prop::collection::vec(any_info(), 0..6),
    );
    let events = prop::collection::vec(any_event(), 0..6);
    let snapshot = (cell(), tick(), events, surprises);
    prop_oneof![
        2 => keyframe.prop_map(|(cell, interval_ticks, tick, cubes)| {
            ServerMessage::Keyframe(Keyframe { cell, interval_ticks, tick, cubes })
        }),
        4 => snapshot.prop_map(|(cell, tick, events, surprises)| {
            ServerMessage::Snapshot(Snapshot { cell, tick, events, surprises })
        }),
        1 => tick().prop_map(|tick| ServerMessage::Heartbeat { tick }),
        1 => prop::collection::vec(cell(), 0..3)
            .prop_map(|cells| ServerMessage::OutOfSight { cells }),
    ]
}

proptest! {
    /// What cannot be true is an error, and a client that went on all the same would not fall
    /// over it either.
    #[test]
    fn any_messages_are_taken_in_or_named(
        messages in prop::collection::vec(any_message(), 1..60),
    ) {
        let mut receiver = Receiver::new();
        let mut newest = 100u64;
        for mut message in messages {
            if let ServerMessage::Keyframe(Keyframe { tick, .. })
            | ServerMessage::Snapshot(Snapshot { tick, .. })
            | ServerMessage::Heartbeat { tick } = &mut message
                && *tick < 9
            {
                *tick = (newest - 2).saturating_add(*tick);
                newest = newest.max(*tick);
            }
            let before = receiver.world.clone();
            if receiver.hear(message).is_err() {
                receiver.world = before;
            }
        }
    }
}
