//! The codec as a whole: sender and receivers through any history.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::cube::CubeId;
use crate::limits::{MAX_HEIGHT_QUANTA, MAX_HORIZONTAL_QUANTA};
use crate::quantize::{Pose, Position, Rotation};

/// Parameters for motion without loss: the other end of what a codec can be.
const LOSSLESS: Codec = Codec {
    position_bound: 0,
    rotation_bound: 0,
    rotation_grid_bits: 1,
    acceleration_gain: 0,
    ..Codec::LIVE
};

const CODECS: [&Codec; 2] = [&Codec::LIVE, &LOSSLESS];

/// Most that a rotation within the bound of live play is off: three steps in each component, and
/// what follows for the left-out one.
const LIVE_DEGREES: f64 = 1.7;

/// What happens to sender, receivers and the truth.
#[derive(Debug, Clone)]
enum Event {
    /// Cubes move, and the tick is sent.
    Tick(Vec<(u8, Move)>),
    /// Time passes.
    Silence(u32),
    Insert(u8, Pose),
    Remove(u8),
    /// Another receiver starts from the sender's states.
    Join,
}

#[derive(Debug, Clone)]
enum Move {
    By([i8; 3]),
    To(Pose),
    Turn([f32; 4]),
    /// As in the tick before.
    GoOn,
}

fn positions() -> impl Strategy<Value = Position> {
    let side = MAX_HORIZONTAL_QUANTA;
    (-side..=side, -side..=side, 0..=MAX_HEIGHT_QUANTA).prop_map(|(x, y, z)| Position { x, y, z })
}

fn quaternions() -> impl Strategy<Value = [f32; 4]> {
    prop::array::uniform4(-1.0f32..1.0)
}

fn poses() -> impl Strategy<Value = Pose> {
    (positions(), quaternions()).prop_map(|(position, quaternion)| Pose {
        position,
        rotation: Rotation::from_quaternion(quaternion),
    })
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let moves = prop_oneof![
        3 => prop::array::uniform3(-40i8..40).prop_map(Move::By),
        1 => poses().prop_map(Move::To),
        2 => quaternions().prop_map(Move::Turn),
        6 => Just(Move::GoOn),
    ];
    let event = prop_oneof![
        12 => prop::collection::vec((0u8..12, moves), 0..8).prop_map(Event::Tick),
        2 => (1u32..60).prop_map(Event::Silence),
        2 => (0u8..12, poses()).prop_map(|(id, pose)| Event::Insert(id, pose)),
        1 => (0u8..12).prop_map(Event::Remove),
        1 => Just(Event::Join),
    ];
    prop::collection::vec(event, 0..60)
}

/// The nearest pose that the codec may lose nothing of: its rotation on the grid.
fn on_grid(pose: Pose, codec: &Codec) -> Pose {
    let odd = (1 << codec.rotation_grid_bits) - 1;
    let packed = u32::from_le_bytes(pose.rotation.into());
    let packed = packed & !(odd | odd << 10 | odd << 20);
    Pose {
        rotation: packed.to_le_bytes().into(),
        ..pose
    }
}

fn degrees(a: Rotation, b: Rotation) -> f64 {
    let [a, b] = [a, b].map(|rotation| rotation.to_quaternion().map(f64::from));
    let chord = |sign: f64| {
        let squares = a.iter().zip(b).map(|(a, b)| (a - sign * b).powi(2));
        squares.sum::<f64>().sqrt()
    };
    4.0 * (chord(1.0).min(chord(-1.0)) / 2.0).asin().to_degrees()
}

fn is_close(predicted: Pose, truth: Pose, codec: &Codec) -> bool {
    if codec.position_bound == 0 {
        return predicted == truth;
    }
    let (a, b) = (predicted.position, truth.position);
    let off = [a.x - b.x, a.y - b.y, a.z - b.z];
    off.iter().all(|off| off.abs() <= codec.position_bound)
        && degrees(predicted.rotation, truth.rotation) <= LIVE_DEGREES
}

/// A state as a keyframe carries it. Only here does a test need bytes of a part of a message.
fn through_bytes(state: &MotionState) -> MotionState {
    let configuration = bincode::config::standard();
    let bytes = bincode::serde::encode_to_vec(state, configuration).unwrap();
    let (state, length) = bincode::serde::decode_from_slice(&bytes, configuration).unwrap();
    assert_eq!(length, bytes.len());
    state
}

fn joined(codec: &'static Codec, sender: &MotionSet) -> MotionSet {
    let mut set = MotionSet::at_tick(codec, sender.tick());
    for (id, state) in sender.iter() {
        set.insert(id, through_bytes(state));
    }
    set
}

fn run_through(events: &[Event], codec: &'static Codec) -> Result<(), TestCaseError> {
    let mut truth = BTreeMap::<CubeId, (Pose, [i32; 3])>::new();
    let mut sender = MotionSet::new(codec);
    let mut receivers = vec![MotionSet::new(codec)];
    for event in events {
        match event {
            Event::Tick(moves) => {
                let mut moved = BTreeMap::new();
                for (id, by) in moves {
                    moved.insert(CubeId(u64::from(*id)), by);
                }
                for (id, (pose, velocity)) in &mut truth {
                    let Position { x, y, z } = pose.position;
                    match moved.get(id) {
                        Some(Move::By(by)) => *velocity = by.map(i32::from),
                        Some(Move::To(to)) => {
                            *pose = *to;
                            *velocity = [0; 3];
                            continue;
                        }
                        Some(Move::Turn(to)) => pose.rotation = Rotation::from_quaternion(*to),
                        Some(Move::GoOn) => {}
                        None => *velocity = [0; 3],
                    }
                    pose.position = Position {
                        x: x + velocity[0],
                        y: y + velocity[1],
                        z: z + velocity[2],
                    }
                    .clamped();
                }
                let mut bytes = Vec::new();
                let touched = moved.keys().copied().collect::<Vec<_>>();
                sender.advance_to(sender.tick() + 1);
                let truth_of = |id: CubeId| on_grid(truth[&id].0, codec);
                let Updated { count, sole } = sender.encode_touched(touched, truth_of, &mut bytes);
                prop_assert_eq!(count == 0, bytes.is_empty());
                for receiver in &mut receivers {
                    receiver.advance_to(receiver.tick() + 1);
                    let mut updated = Vec::new();
                    if count > 0 {
                        prop_assert_eq!(
                            receiver.decode_tick(&bytes, |id| updated.push(id)),
                            Ok(())
                        );
                    }
                    prop_assert_eq!(updated.len(), count);
                    prop_assert_eq!(sole, updated.first().copied().filter(|_| count == 1));
                    prop_assert_eq!(&*receiver, &sender);
                }
                for (id, predicted) in sender.poses() {
                    let truth = truth_of(id);
                    prop_assert!(
                        is_close(predicted, truth, codec),
                        "{id:?}: {predicted:?} is not {truth:?}"
                    );
                }
            }
            Event::Silence(ticks) => {
                let end = sender.tick() + u64::from(*ticks);
                sender.advance_to(end);
                for receiver in &mut receivers {
                    // In other steps than the sender.
                    receiver.advance_to(receiver.tick() + u64::from(ticks / 2));
                    receiver.advance_to(end);
                    prop_assert_eq!(&*receiver, &sender);
                }
                // The next tick finds cubes that do not move where they are predicted to be.
                for (id, predicted) in sender.poses() {
                    truth.insert(id, (predicted, [0; 3]));
                }
            }
            Event::Insert(id, pose) => {
                let (id, pose) = (CubeId(u64::from(*id)), on_grid(*pose, codec));
                truth.insert(id, (pose, [0; 3]));
                for set in receivers.iter_mut().chain([&mut sender]) {
                    set.insert(id, MotionState::at_rest(pose));
                }
            }
            Event::Remove(id) => {
                let id = CubeId(u64::from(*id));
                let was_there = truth.remove(&id).is_some();
                for set in receivers.iter_mut().chain([&mut sender]) {
                    prop_assert_eq!(set.remove(id).is_some(), was_there);
                }
            }
            Event::Join => {
                let receiver = joined(codec, &sender);
                prop_assert_eq!(&receiver, &sender);
                receivers.push(receiver);
            }
        }
    }
    Ok(())
}

/// A set with cubes in every kind of motion, after some ticks.
fn busy(codec: &'static Codec) -> MotionSet {
    let mut set = MotionSet::new(codec);
    for index in 0..40 {
        set.insert(CubeId(index * 3), MotionState::at_rest(path(index, 0)));
    }
    for tick in 1..20 {
        set.advance_to(set.tick() + 1);
        set.encode_tick(|id| on_grid(path(id.0 / 3, tick), codec), &mut Vec::new());
    }
    set
}

/// A third of the cubes rest; others walk, turn, fall.
fn path(index: u64, tick: i32) -> Pose {
    let [x, y] = [index as i32 * 300, index as i32 * -200];
    let moves = (index % 3) as i32;
    let angle = (moves * tick * (index as i32 % 5)) as f32 * 0.04;
    Pose {
        position: Position {
            x: x + moves * 37 * tick,
            y: y - moves * tick * tick,
            z: (4_000 * (moves / 2) - 6 * tick * tick).max(256),
        },
        rotation: Rotation::from_quaternion([angle.sin() * 0.3, 0.0, angle.sin(), angle.cos()]),
    }
}

fn is_sound(set: &MotionSet) -> bool {
    set.poses().all(|(_, pose)| pose.position.is_in_bounds())
}

proptest! {
    #[test]
    fn every_receiver_predicts_the_truth_within_the_bound(events in events()) {
        for codec in CODECS {
            run_through(&events, codec)?;
        }
    }

    #[test]
    fn any_bytes_leave_every_cube_inside_the_world(
        bytes in prop::collection::vec(any::<u8>(), 0..200), ticks: u32,
    ) {
        for codec in CODECS {
            let mut set = busy(codec);
            let _ = set.decode_tick(&bytes, |_| {});
            prop_assert!(is_sound(&set));
            for ticks in [1, 7, ticks, u32::MAX] {
                set.advance_to(set.tick() + u64::from(ticks));
                prop_assert!(is_sound(&set));
            }
            // And it can still be used.
            set.encode_tick(|id| on_grid(path(id.0 / 3, 40), codec), &mut Vec::new());
            prop_assert!(is_sound(&set));
        }
    }

    #[test]
    fn damaged_ticks_leave_every_cube_inside_the_world(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..4),
        length in any::<prop::sample::Index>(),
    ) {
        for codec in CODECS {
            let mut sender = busy(codec);
            let mut receiver = sender.clone();
            let mut bytes = Vec::new();
            sender.encode_tick(|id| on_grid(path(id.0 / 3, 23), codec), &mut bytes);
            for (place, flip) in &flips {
                let place = place.index(bytes.len());
                bytes[place] ^= flip;
            }
            bytes.truncate(length.index(bytes.len() + 1));
            let _ = receiver.decode_tick(&bytes, |_| {});
            receiver.advance_to(1_000_000);
            prop_assert!(is_sound(&receiver));
        }
    }

    #[test]
    fn any_bytes_of_a_state_are_a_state_inside_the_world(
        mut bytes in prop::collection::vec(any::<u8>(), 120), ticks: u32, truth in poses(),
    ) {
        // A moving cube; a settled one has nothing but its pose.
        bytes[0] = 1;
        let configuration = bincode::config::standard();
        let decoded = bincode::serde::decode_from_slice::<MotionState, _>(&bytes, configuration);
        prop_assume!(decoded.is_ok());
        let (mut state, _) = decoded.unwrap();
        prop_assert_eq!(through_bytes(&state), state);
        for ticks in [0, 1, ticks] {
            state.advance(ticks);
            prop_assert!(state.pose(&Codec::LIVE).position.is_in_bounds());
        }
        let mut set = MotionSet::new(&Codec::LIVE);
        set.insert(CubeId(0), state);
        set.encode_tick(|_| truth, &mut Vec::new());
        prop_assert!(is_close(set.pose(CubeId(0)).unwrap(), truth, &Codec::LIVE));
    }

    #[test]
    fn time_passes_alike_in_any_steps(steps in prop::collection::vec(0u32..100, 0..6)) {
        for codec in CODECS {
            let mut at_once = busy(codec);
            let mut in_steps = at_once.clone();
            at_once.advance_to(at_once.tick() + u64::from(steps.iter().sum::<u32>()));
            for ticks in steps.iter().copied() {
                in_steps.advance_to(in_steps.tick() + u64::from(ticks));
            }
            prop_assert_eq!(at_once, in_steps);
        }
    }
}

#[test]
fn a_cube_that_stands_still_costs_nothing_for_ever() {
    for codec in CODECS {
        let mut set = MotionSet::new(codec);
        let truth = |tick: i32| on_grid(path(2, tick), codec);
        set.insert(CubeId(7), MotionState::at_rest(truth(0)));
        for tick in 1..15 {
            set.advance_to(set.tick() + 1);
            set.encode_tick(|_| truth(tick), &mut Vec::new());
        }
        assert!(!set.get(CubeId(7)).unwrap().is_settled());
        let mut updates = Vec::new();
        for _ in 0..60 {
            set.advance_to(set.tick() + 1);
            updates.push(set.encode_tick(|_| truth(14), &mut Vec::new()));
        }
        // It may still be predicted to be where it was at an earlier update; the next one says
        // that it stands.
        assert!(updates.iter().sum::<usize>() <= 2, "{updates:?}");
        let state = *set.get(CubeId(7)).unwrap();
        assert!(state.is_settled());
        assert_eq!(state, MotionState::at_rest(state.pose(codec)));
        assert_eq!(state.velocity(), [0.0; 3]);
        assert_eq!(set.active().len(), 0);
    }
}

#[test]
fn one_that_walks_among_thousands_costs_two_bytes_a_tick() {
    let mut set = MotionSet::new(&Codec::LIVE);
    for index in 0..5_000 {
        set.insert(CubeId(index), MotionState::at_rest(path(0, 0)));
    }
    let mut bytes = Vec::new();
    for tick in 0..200 {
        let walker = path(1, tick % 50);
        set.advance_to(set.tick() + 1);
        set.encode_touched([CubeId(4_321)], |_| walker, &mut bytes);
    }
    assert!(bytes.len() <= 400, "{} bytes", bytes.len());
}

#[test]
fn a_settled_state_is_small() {
    let state = MotionState::at_rest(path(1, 5));
    let bytes = bincode::serde::encode_to_vec(state, bincode::config::standard()).unwrap();
    assert!(bytes.len() <= 14, "{} bytes", bytes.len());
}

#[test]
fn touched_cubes_are_sent_as_all_are() {
    for codec in CODECS {
        let mut all = busy(codec);
        let mut touched = all.clone();
        let truth = |id: CubeId| on_grid(path(id.0 / 3, 22), codec);
        let [mut by_all, mut by_touched] = [Vec::new(), Vec::new()];
        let unknown = CubeId(1);
        let ids = all
            .iter()
            .map(|(id, _)| id)
            .chain([unknown])
            .collect::<Vec<_>>();
        all.encode_tick(truth, &mut by_all);
        touched.encode_touched(ids.into_iter().rev(), truth, &mut by_touched);
        assert_eq!(by_all, by_touched);
        assert_eq!(all, touched);
    }
}

#[test]
fn residuals_update_another_set_as_their_bytes_do() {
    for codec in CODECS {
        let mut sender = busy(codec);
        let mut receiver = sender.clone();
        let truth = |id: CubeId| on_grid(path(id.0 / 3, 22), codec);
        let residuals: Vec<_> = sender.residuals(truth).collect();
        let count = sender.encode_tick(truth, &mut Vec::new());
        assert_eq!(residuals.len(), count);
        for (id, residual) in residuals {
            assert!(receiver.apply(id, residual));
        }
        assert_eq!(receiver, sender);
        assert!(!receiver.apply(CubeId(1), Residual::Stopped));
    }
}

#[test]
fn bytes_left_over_are_an_error() {
    for codec in CODECS {
        let mut sender = busy(codec);
        let receiver = sender.clone();
        let mut bytes = Vec::new();
        sender.encode_tick(|id| on_grid(path(id.0 / 3, 22), codec), &mut bytes);
        let mut longer = bytes.clone();
        longer.extend([0; 5]);
        assert_eq!(receiver.clone().decode_tick(&bytes, |_| {}), Ok(()));
        assert!(receiver.clone().decode_tick(&longer, |_| {}).is_err());
        let mut empty = MotionSet::new(codec);
        assert!(empty.decode_tick(&bytes, |_| {}).is_err());
    }
}

/// The bytes of some ticks, in hexadecimal.
fn golden() -> String {
    let mut set = MotionSet::new(&Codec::LIVE);
    for index in 0..6 {
        set.insert(CubeId(index * 3), MotionState::at_rest(path(index, 0)));
    }
    let jump = Pose {
        position: Position {
            x: -100_000,
            y: 7,
            z: 9_000,
        },
        ..Pose::default()
    };
    let ticks = [1, 2, 3, 4, 4, 4, 5].map(|tick| {
        let mut bytes = Vec::new();
        set.advance_to(set.tick() + 1);
        let truth = |id: CubeId| match (id.0, tick) {
            (9, 4..) => jump,
            _ => path(id.0 / 3, tick),
        };
        set.encode_tick(truth, &mut bytes);
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    });
    ticks.join(" ")
}

/// A change of these bytes is a change of the wire: raise the protocol's version.
#[test]
fn the_bytes_of_a_tick_are_pinned() {
    assert_eq!(
        golden(),
        "1f99c2fc9ebb51ab0d9757c22cb850214777f779 ae61b234bbc8878e864a717bdf8fa0c1d21d29 39049b65e07a227e 88bdd5cf5a1f84287ce9627ff318 000006cfb2b8  0a42987d4dcbac06ad8f7ae566c0b667781d56ab5e8814f1e9bc66"
    );
}
