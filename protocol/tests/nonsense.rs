//! Whatever a server says, a replica takes it in or names what is wrong with it.

use std::collections::BTreeSet;

use bytes::Bytes;
use cubesync_protocol::motion::MotionState;
use cubesync_protocol::replica::{CellStream, Change, ReplicaError};
use cubesync_protocol::{
    CellId, Colour, CubeId, CubeInfo, CubeKind, Event, Keyframe, Pose, Position, Replica,
    ServerMessage, Snapshot,
};
use proptest::prelude::*;

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
        width: Default::default(),
        motion: MotionState::at_rest(at(x)),
    }
}

/// A replica, and the cubes that its changes have named.
#[derive(Default)]
struct Receiver {
    replica: Replica,
    named: BTreeSet<CubeId>,
}

impl Receiver {
    /// Takes in a message; the changes must fit those before and the cubes that are known now.
    fn take_in(&mut self, message: &ServerMessage) -> Result<(), ReplicaError> {
        for change in self.replica.take_in(message)? {
            match change {
                Change::Joined(info) | Change::Appeared(info) => {
                    assert!(self.named.insert(info.cube));
                }
                Change::Left(info) | Change::Disappeared(info) => {
                    assert!(self.named.remove(&info.cube));
                }
                Change::Taken { cube, .. } | Change::Freed { cube } => {
                    assert!(self.named.contains(&cube));
                }
                Change::Moved { states, .. } => {
                    assert!(states.iter().all(|(cube, _)| self.named.contains(cube)));
                }
            }
        }
        let known = self.replica.cubes().map(|info| info.cube);
        assert!(known.eq(self.named.iter().copied()));
        for info in self.replica.cubes() {
            assert!(self.replica.pose(info.cube).is_some());
        }
        for (cell, stream) in self.replica.streams() {
            let keyframe = self.replica.keyframe_of(cell, stream.tick());
            assert_eq!(
                keyframe.as_ref().map(CellStream::from).as_ref(),
                Some(stream)
            );
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
    // An id may come with another cube.
    let name = prop_oneof![4 => Just(""), 1 => Just("other")];
    (0u64..6, kind, any::<i32>(), name).prop_map(|(id, kind, x, name)| CubeInfo {
        name: name.into(),
        ..info(CubeId(id), kind, x)
    })
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
    /// Nonsense is an error, and a receiver that goes on all the same does not fall over it.
    #[test]
    fn any_messages_are_taken_in_or_named(
        messages in prop::collection::vec(any_message(), 1..60),
    ) {
        let mut receiver = Receiver::default();
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
            let before = receiver.replica.clone();
            if receiver.take_in(&message).is_err() {
                receiver.replica = before;
            }
        }
    }
}
