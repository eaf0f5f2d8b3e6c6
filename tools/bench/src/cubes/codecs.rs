//! The encodings and parameters that the benchmark compares with those of the wire.

use cubesync_protocol::motion::{Codec, MotionSet, Table};
use cubesync_protocol::{CubeId, Pose};

use crate::varints;

/// Tumbling bodies without loss, their rotations in nine bits, as in Glenn Fiedler's trace, on which
/// the table was trained. There a gain of 32 / 64 / 128 costs 3 / 5 / 6 % more bytes than none.
pub(crate) const PHYSICS: Codec = Codec {
    table: Table::new(include_bytes!("physics.bin")),
    position_bound: 0,
    rotation_bound: 0,
    rotation_grid_bits: 1,
    acceleration_gain: 0,
};

/// The codec for the baseline six frames back, where predictions are less certain: it has a table of its own.
pub(crate) const SIX_BACK: Codec = Codec {
    table: Table::new(include_bytes!("six_back.bin")),
    ..PHYSICS
};

/// An encoding of the residuals of a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Plain varints.
    Varints,
    /// The range coder of the wire.
    Range,
}

impl Encoding {
    /// Encodes a tick and returns the number of updates.
    pub(crate) fn encode_tick(
        self,
        set: &mut MotionSet,
        codec: &Codec,
        truth: impl FnMut(CubeId) -> Pose,
        out: &mut Vec<u8>,
    ) -> usize {
        match self {
            Self::Varints => varints::encode_tick(set, codec, truth, out),
            Self::Range => set.encode_tick(truth, out),
        }
    }

    /// Decodes a tick that has updates.
    pub(crate) fn decode_tick(
        self,
        set: &mut MotionSet,
        codec: &Codec,
        bytes: &[u8],
    ) -> anyhow::Result<()> {
        match self {
            Self::Varints => varints::decode_tick(set, codec, bytes),
            Self::Range => Ok(set.decode_tick(bytes, |_| {})?),
        }
    }
}

/// Returns a near pose that the codec encodes without loss.
pub(crate) fn on_grid(pose: Pose, codec: &Codec) -> Pose {
    let odd = (1 << codec.rotation_grid_bits) - 1;
    let packed = u32::from_le_bytes(pose.rotation.into()) & !(odd | odd << 10 | odd << 20);
    Pose {
        rotation: packed.to_le_bytes().into(),
        ..pose
    }
}

#[cfg(test)]
mod tests {
    use cubesync_protocol::motion::MotionState;
    use cubesync_protocol::{Position, Rotation};

    use super::*;

    /// Returns poses of which a third rest while the others walk, turn and fall.
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

    /// Encodes some ticks, decodes each and compares the sets; returns the bytes in hexadecimal.
    fn coded(encoding: Encoding, codec: &'static Codec) -> String {
        let mut sender = MotionSet::new(codec);
        for index in 0..6 {
            let state = MotionState::at_rest(on_grid(path(index, 0), codec));
            sender.insert(CubeId(index * 3), state);
        }
        let mut receiver = sender.clone();
        let jump = Pose {
            position: Position {
                x: -100_000,
                y: 7,
                z: 9_000,
            },
            ..Pose::default()
        };
        let ticks = [1, 2, 3, 4, 4, 4, 5].map(|tick| {
            let truth = |id: CubeId| match (id.0, tick) {
                (9, 4..) => jump,
                _ => path(id.0 / 3, tick),
            };
            let mut bytes = Vec::new();
            sender.advance_to(sender.tick() + 1);
            let truth = |id| on_grid(truth(id), codec);
            encoding.encode_tick(&mut sender, codec, truth, &mut bytes);
            receiver.advance_to(receiver.tick() + 1);
            if let Some((_, shorter)) = bytes.split_last() {
                if tick == 1 && encoding == Encoding::Varints {
                    let decoded = encoding.decode_tick(&mut receiver.clone(), codec, shorter);
                    assert!(decoded.is_err());
                }
                let decoded = encoding.decode_tick(&mut receiver, codec, &bytes);
                decoded.unwrap();
            }
            assert!(receiver == sender);
            let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
            digits.collect::<String>()
        });
        ticks.join(" ")
    }

    #[test]
    fn the_bytes_of_a_tick_are_pinned_and_read_back() {
        assert_eq!(
            coded(Encoding::Varints, &Codec::LIVE),
            "a9004a123a2d94010b46e601a9004a46e6010594010b ab00460710382f8e010f2340d401ab00460740d401078e010f23 810033036908810033036908 83000d0a051b0a4034c240334338030d0a051b0a 800000800000  ab004a1114366f029401256b329901eb00024a11329901079401256b"
        );
        assert_eq!(
            coded(Encoding::Varints, &PHYSICS),
            "ab004a010a1e2f9401030b2474ab004a012474079401030b ab004605081a2f8e010b231e6aab0046051e6a078e010b23 8200032e07170202aa00030202060717 aa000302022e071701014004cbc3018050462a030101060717 800000800000  ab004a11081c6f029401236b184feb00024a11184f079401236b"
        );
        assert_eq!(
            coded(Encoding::Range, &PHYSICS),
            "73e3e2be9a04ce876bdbe765925125cea0969f81d0d7cbfc93 3f009223dac7d61fbed09afe6e32c19aefa8952e2d41bee6024f 07a3d9dd9ec382a3f3b3 327953987c7d2e6a6c825d71b9938fefdbfb 00000007157380  1ba0f97707c1fe5fbbb9cb62efc343bf40725e9ced2a646b386991ef58c105f72e10f169b0"
        );
    }
}
