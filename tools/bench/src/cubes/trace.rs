//! Glenn Fiedler's 901 cubes: a recording, frame by frame.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use cubesync_protocol::{Pose, Position, Rotation};

/// Number of cubes in a frame.
pub(crate) const CUBES: usize = 901;
/// Size of a cube: eight i32, little endian.
const CUBE_BYTES: usize = 32;
const FRAME_BYTES: usize = CUBES * CUBE_BYTES;
/// The first frame that is scored: those before it are copies of one frame.
pub(crate) const FIRST_FRAME: usize = 6;

/// A recording of [`CUBES`] cubes at 60 Hz.
pub(crate) struct Trace {
    /// The frames.
    pub(crate) frames: Vec<Frame>,
}

/// All cubes at one instant.
pub(crate) struct Frame {
    /// Their poses.
    pub(crate) poses: Vec<Pose>,
    /// Whether the player touches them, directly or through others.
    pub(crate) touched: Vec<bool>,
}

impl Trace {
    /// Reads a file of the published format.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let name = path.display();
        if path.extension().is_some_and(|end| end == "xz") {
            bail!("{name} is packed: unpack it first with `xz -dk {name}`");
        }
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {name}"))?;
        ensure!(
            bytes.len() % FRAME_BYTES == 0 && bytes.len() / FRAME_BYTES > FIRST_FRAME,
            "{name} has {} bytes: a recording is a multiple of {FRAME_BYTES} \
             ({CUBES} cubes of {CUBE_BYTES} bytes a frame) and longer than {FIRST_FRAME} frames",
            bytes.len(),
        );
        let frames = bytes
            .chunks_exact(FRAME_BYTES)
            .enumerate()
            .map(|(index, bytes)| {
                Frame::read(bytes).with_context(|| format!("{name}, frame {index}"))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { frames })
    }
}

impl Frame {
    fn read(bytes: &[u8]) -> anyhow::Result<Self> {
        let mut poses = Vec::with_capacity(CUBES);
        let mut touched = Vec::with_capacity(CUBES);
        for (index, bytes) in bytes.chunks_exact(CUBE_BYTES).enumerate() {
            let mut fields = [0; 8];
            for (field, bytes) in fields.iter_mut().zip(bytes.chunks_exact(4)) {
                *field = i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
            let [largest, a, b, c, x, y, z, interacting] = fields;
            let position = Position { x, y, z };
            let rotation_ok =
                (0..4).contains(&largest) && [a, b, c].iter().all(|c| (0..512).contains(c));
            ensure!(
                rotation_ok && position.is_in_bounds() && (0..2).contains(&interacting),
                "cube {index} holds {fields:?}, which is out of range",
            );
            // Nine bits, 0 ..= 511, on the scale of ours: the odd ones of -511 ..= 511 steps,
            // that is the even ones of 0 ..= 1022.
            let packed = [a, b, c].iter().fold(largest as u32, |packed, &part| {
                (packed << 10) | (part as u32 * 2)
            });
            let rotation = Rotation::from(packed.to_le_bytes());
            poses.push(Pose { position, rotation });
            touched.push(interacting == 1);
        }
        Ok(Self { poses, touched })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(fields: [i32; 8]) -> Vec<u8> {
        let cube = fields.map(i32::to_le_bytes).concat();
        cube.repeat(CUBES)
    }

    #[test]
    fn rotations_keep_what_their_nine_bits_say() {
        let frame = Frame::read(&frame([3, 256, 511, 0, -5, 6, 7, 1])).unwrap();
        let [x, y, z, w] = frame.poses[900].rotation.to_quaternion();
        let most = std::f32::consts::FRAC_1_SQRT_2;
        assert!((x - most / 511.0).abs() < 1e-6, "{x}");
        assert!((y - most).abs() < 1e-3 && (z + most).abs() < 1e-3 && w.abs() < 1e-3);
        assert_eq!(frame.poses[900].position, Position { x: -5, y: 6, z: 7 });
        assert!(frame.touched[0]);
    }

    #[test]
    fn files_of_another_kind_are_refused_in_words() {
        for wrong in [
            [4, 0, 0, 0, 0, 0, 0, 0],
            [0, 512, 0, 0, 0, 0, 0, 0],
            [0; 8].map(|_| -1),
        ] {
            let error = Frame::read(&frame(wrong)).err().unwrap().to_string();
            assert!(error.contains("out of range"), "{error}");
        }
        let packed = Trace::read(Path::new("cubes.bin.xz"))
            .err()
            .unwrap()
            .to_string();
        assert!(packed.contains("xz -dk cubes.bin.xz"), "{packed}");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let size = Trace::read(&source).err().unwrap().to_string();
        assert!(size.contains("multiple of 28832"), "{size}");
    }
}
