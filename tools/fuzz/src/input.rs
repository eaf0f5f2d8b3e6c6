//! Numbers, poses and other choices read from the bytes of the fuzzer.

use cubesync_protocol::{Pose, Position, Rotation};

/// The rest of an input. At its end every number is 0.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    pub(crate) fn array<const COUNT: usize>(&mut self) -> [u8; COUNT] {
        let mut array = [0; COUNT];
        let bytes = self.bytes(COUNT);
        array[..bytes.len()].copy_from_slice(bytes);
        array
    }

    /// Returns the next bytes, fewer at the end.
    pub(crate) fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// Returns bytes whose length is in the byte before them.
    pub(crate) fn short_bytes(&mut self) -> &'a [u8] {
        let count = self.byte();
        self.bytes(count.into())
    }

    /// Returns any pose, also one outside of the world.
    pub(crate) fn any_pose(&mut self) -> Pose {
        let [x, y, z] = [(); 3].map(|()| i32::from_le_bytes(self.array()));
        Pose {
            position: Position { x, y, z },
            rotation: Rotation::from(self.array::<4>()),
        }
    }

    /// Returns a pose in the middle of the world, on a grid of an eighth of a metre.
    pub(crate) fn near_pose(&mut self) -> Pose {
        let [x, y, z] = self.array::<3>().map(|byte| i32::from(byte as i8) * 64);
        Pose {
            position: Position { x, y, z: z.abs() },
            rotation: Rotation::from(self.array::<4>()),
        }
    }
}
