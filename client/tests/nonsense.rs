//! Whatever a server says, a client takes it in or names what is wrong with it.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::collections::BTreeSet;

use bytes::Bytes;
use cubesync_client::protocol::motion::MotionState;
use cubesync_client::protocol::{
    CellId, Colour, CubeId, CubeInfo, CubeKind, Event, Keyframe, Pose, Position, ServerMessage,
    Snapshot,
};
use cubesync_client::world::{World, WorldChange, WorldError};
use proptest::prelude::*;

const OWN: CubeId = CubeId(0);

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
}

impl Receiver {
    fn new() -> Self {
        Self {
            world: World::new(OWN),
            told: BTreeSet::new(),
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
                WorldChange::Joined(info) | WorldChange::Appeared(info) => {
                    assert!(self.told.insert(info.cube));
                }
                WorldChange::Left(info) | WorldChange::Disappeared(info) => {
                    assert!(self.told.remove(&info.cube));
                }
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

fn any_info() -> impl Strategy<Value = CubeInfo> {
    let holder = prop_oneof![Just(None), (0u64..6).prop_map(|id| Some(CubeId(id)))];
    let kind = prop_oneof![
        Just(CubeKind::Player),
        Just(CubeKind::Ghost),
        holder.prop_map(|holder| CubeKind::Free { holder }),
    ];
    (0u64..6, kind, any::<i32>()).prop_map(|(id, kind, x)| info(CubeId(id), kind, x))
}

fn any_event() -> impl Strategy<Value = Event> {
    let cube = || (0u64..6).prop_map(CubeId);
    prop_oneof![
        any_info().prop_map(Event::Joined),
        any_info().prop_map(Event::Entered),
        cube().prop_map(|cube| Event::Left { cube }),
        cube().prop_map(|cube| Event::Exited { cube }),
        (cube(), cube()).prop_map(|(cube, by)| Event::Taken { cube, by }),
        cube().prop_map(|cube| Event::Freed { cube }),
        cube().prop_map(|cube| Event::Ghost { cube }),
        cube().prop_map(|cube| Event::Returned { cube }),
        (cube(), any::<i32>()).prop_map(|(cube, x)| Event::Placed {
            cube,
            motion: MotionState::at_rest(at(x)),
        }),
    ]
}

/// Messages, their ticks counted from the newest one on, from two before it.
fn any_message() -> impl Strategy<Value = ServerMessage> {
    let cell = || (0u16..4).prop_map(CellId);
    let tick = || prop_oneof![2u64..9, Just(0), Just(u64::MAX)];
    let residuals = prop_oneof![
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
    let snapshot = (cell(), tick(), events, residuals);
    prop_oneof![
        2 => keyframe.prop_map(|(cell, interval_ticks, tick, cubes)| {
            ServerMessage::Keyframe(Keyframe { cell, interval_ticks, tick, cubes })
        }),
        4 => snapshot.prop_map(|(cell, tick, events, residuals)| {
            ServerMessage::Snapshot(Snapshot { cell, tick, events, residuals })
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
