//! The motion codec: residuals from a stranger, and residuals that are encoded and decoded again.

use cubesync_protocol::motion::{Codec, MotionSet, MotionState};
use cubesync_protocol::{CubeId, Pose};

use crate::input::Input;

/// Parameters for motion without loss, the opposite of those of the wire.
const LOSSLESS: Codec = Codec {
    position_bound: 0,
    rotation_bound: 0,
    rotation_grid_bits: 1,
    acceleration_gain: 0,
    ..Codec::LIVE
};

const CODECS: [&Codec; 2] = [&Codec::LIVE, &LOSSLESS];

/// Checks that any bytes leave every cube in the world, and that sender and receiver predict the same.
pub fn check(bytes: &[u8]) {
    let mut input = Input(bytes);
    let codec = CODECS[usize::from(input.byte()) % CODECS.len()];
    let mut sender = moving(codec, input.byte() % 40);
    let mut receiver = sender.clone();
    while !input.is_empty() {
        let operation = input.byte();
        let ticks = match operation >> 4 {
            15 => u32::MAX.into(),
            14 => 1 << 16,
            ticks => u64::from(ticks),
        };
        for set in [&mut sender, &mut receiver] {
            set.advance_to(set.tick() + ticks);
        }
        match operation % 4 {
            0 => {
                // Where part of a tick was believed the set is of no more use.
                let mut stranger = receiver.clone();
                let decoded = decode(&mut stranger, input.short_bytes());
                if decoded {
                    (sender, receiver) = (stranger.clone(), stranger);
                }
            }
            1 => {
                let cube = CubeId(u64::from(input.byte()) % 48);
                let state = MotionState::at_rest(input.any_pose());
                sender.insert(cube, state);
                receiver.insert(cube, state);
            }
            _ => tell(&mut sender, &mut receiver, codec, &mut input),
        }
        assert!(sender == receiver);
    }
}

/// Decodes, checks the predicted states, and returns whether the bytes were valid.
fn decode(set: &mut MotionSet, bytes: &[u8]) -> bool {
    let before: Vec<_> = set.poses().map(|(id, _)| id).collect();
    let mut changed = Vec::new();
    let is_sense = set.decode_tick(bytes, |id| changed.push(id)).is_ok();
    assert!(set.poses().map(|(id, _)| id).eq(before));
    assert!(changed.iter().all(|&id| set.get(id).is_some()));
    for ticks in [0, 1, 70, u32::MAX.into()] {
        let mut later = set.clone();
        later.advance_to(set.tick() + ticks);
        assert!(later.poses().all(|(_, pose)| pose.position.is_in_bounds()));
    }
    is_sense
}

/// Checks that the receiver predicts the same as the sender for any poses, within the bound.
fn tell(sender: &mut MotionSet, receiver: &mut MotionSet, codec: &Codec, input: &mut Input<'_>) {
    let ids: Vec<_> = sender.poses().collect();
    let truths: Vec<(CubeId, Pose)> = ids
        .into_iter()
        .map(|(id, believed)| {
            let truth = match input.byte() % 4 {
                0 => believed,
                1 => on_grid(input.near_pose(), codec),
                2 => on_grid(input.any_pose(), codec),
                _ => {
                    let mut near = believed;
                    near.position.x = near
                        .position
                        .x
                        .saturating_add(i32::from(input.byte() as i8));
                    near
                }
            };
            (id, truth)
        })
        .collect();
    let truth = |id| {
        let index = truths.binary_search_by_key(&id, |(id, _)| *id);
        truths[index.expect("every cube of the set is somewhere")].1
    };
    let mut bytes = Vec::new();
    let count = sender.encode_tick(truth, &mut bytes);
    assert_eq!(count == 0, bytes.is_empty());
    if count > 0 {
        let decoded = receiver.decode_tick(&bytes, |_| {});
        assert_eq!(decoded, Ok(()), "our own bytes");
    }
    for (id, believed) in receiver.poses() {
        let truth = truth(id).position.clamped();
        let off = [
            truth.x - believed.position.x,
            truth.y - believed.position.y,
            truth.z - believed.position.z,
        ];
        assert!(
            off.iter().all(|off| off.abs() <= codec.position_bound),
            "{off:?}"
        );
    }
}

/// Returns a rotation in the form of the codec.
fn on_grid(pose: Pose, codec: &Codec) -> Pose {
    let zeros = (1u32 << codec.rotation_grid_bits) - 1;
    let mask = !(zeros | zeros << 10 | zeros << 20);
    let rotation = u32::from_le_bytes(pose.rotation.into()) & mask;
    Pose {
        rotation: rotation.to_le_bytes().into(),
        ..pose
    }
}

/// Returns cubes of which every second one moves and turns.
fn moving(codec: &'static Codec, count: u8) -> MotionSet {
    let mut set = MotionSet::new(codec);
    let at = |id: u64, tick: i32| {
        let mut pose = Pose::default();
        pose.position.x = 700 * id as i32;
        if id.is_multiple_of(2) {
            pose.position.y = tick * (17 + id as i32);
            pose.position.z = 256 + tick * tick;
            pose.rotation = (0xDFF7_FDFF_u32 + ((tick as u32) << 12))
                .to_le_bytes()
                .into();
        }
        on_grid(pose, codec)
    };
    for id in 0..u64::from(count) {
        set.insert(CubeId(id), MotionState::at_rest(at(id, 0)));
    }
    for tick in 1..4 {
        set.advance_to(set.tick() + 1);
        set.encode_tick(|id| at(id.0, tick), &mut Vec::new());
    }
    set
}
