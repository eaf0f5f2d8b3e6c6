//! The free cube that the own cube carries: asked for, held, or falling to the floor after it was
//! dropped.
//!
//! The cube is carried from the moment it is asked for; if the server refuses it, it goes back. A
//! dropped cube is still ours while it falls, and is released where it lands. So everybody sees the
//! fall, and the cube never moves faster than a server allows.

use cubesync_client::protocol::{CubeId, CubePose, Pose, Position};

const GRAVITY_MPS2: f32 = 22.0;

/// The state of carrying.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum Carry {
    /// Nothing is carried.
    #[default]
    Empty,
    /// A cube is carried that the server has not given to this client yet.
    Asked(CubeId),
    /// A cube is held.
    Held(CubeId),
    /// A dropped cube is falling.
    Falling {
        /// The cube.
        cube: CubeId,
        /// Its pose on the floor.
        floor: Pose,
        /// Its centre's height, in metres.
        height_m: f32,
        /// Its speed, downwards.
        speed_mps: f32,
    },
}

/// The change of the carried cube in one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CarryStep {
    /// No cube is carried.
    Nothing,
    /// Move the cube to where the controller carries it.
    Carry(CubeId),
    /// Move the falling cube here.
    Move(CubePose),
    /// Move the cube here and release it.
    Release(CubePose),
}

impl Carry {
    /// Returns the carried cube.
    pub(crate) fn cube(&self) -> Option<CubeId> {
        match *self {
            Self::Empty => None,
            Self::Asked(cube) | Self::Held(cube) | Self::Falling { cube, .. } => Some(cube),
        }
    }

    /// Records that the server gave a cube. Returns whether it was carried already.
    pub(crate) fn given(&mut self, cube: CubeId) -> bool {
        std::mem::replace(self, Self::Held(cube)) == Self::Asked(cube)
    }

    /// Stops carrying this cube, because the server has given it to somebody else or to nobody.
    pub(crate) fn taken_away(&mut self, cube: CubeId) {
        if self.cube() == Some(cube) {
            *self = Self::Empty;
        }
    }

    /// Drops a held cube: it falls from one pose to the other one below it.
    pub(crate) fn let_go(&mut self, from: Pose, floor: Pose) {
        if let Self::Held(cube) = *self {
            *self = Self::Falling {
                cube,
                floor,
                height_m: from.position.to_metres()[2],
                speed_mps: 0.0,
            };
        }
    }

    /// Advances by a frame.
    pub(crate) fn step(&mut self, dt_s: f32) -> CarryStep {
        match self {
            Self::Empty => CarryStep::Nothing,
            Self::Asked(cube) | Self::Held(cube) => CarryStep::Carry(*cube),
            Self::Falling {
                cube,
                floor,
                height_m,
                speed_mps,
            } => {
                *speed_mps += GRAVITY_MPS2 * dt_s;
                *height_m -= *speed_mps * dt_s;
                let cube = *cube;
                let [x, y, floor_m] = floor.position.to_metres();
                if *height_m > floor_m {
                    let position = Position::from_metres([x, y, *height_m]);
                    return CarryStep::Move(CubePose {
                        cube,
                        pose: Pose { position, ..*floor },
                    });
                }
                let pose = *floor;
                *self = Self::Empty;
                CarryStep::Release(CubePose { cube, pose })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUBE: CubeId = CubeId(0);

    fn pose(height_m: f32) -> Pose {
        Pose {
            position: Position::from_metres([3.0, 4.0, height_m]),
            ..Pose::default()
        }
    }

    #[test]
    fn a_cube_let_go_on_the_floor_is_released_at_once() {
        let mut carry = Carry::Held(CUBE);
        assert_eq!(carry.step(0.016), CarryStep::Carry(CUBE));
        carry.let_go(pose(0.5), pose(0.5));
        let landed = CubePose {
            cube: CUBE,
            pose: pose(0.5),
        };
        assert_eq!(carry.step(0.016), CarryStep::Release(landed));
        assert_eq!(carry.step(0.016), CarryStep::Nothing);
    }

    #[test]
    fn a_cube_is_carried_once_it_is_asked_for_and_cannot_be_dropped_before_the_answer() {
        let mut carry = Carry::Asked(CUBE);
        assert_eq!(carry.step(0.016), CarryStep::Carry(CUBE));
        carry.let_go(pose(0.5), pose(0.5));
        assert_eq!(carry.step(0.016), CarryStep::Carry(CUBE));
        assert!(carry.given(CUBE));
        assert_eq!(carry, Carry::Held(CUBE));
        assert!(!Carry::Empty.given(CUBE));
    }

    #[test]
    fn a_refused_cube_is_no_longer_carried_and_another_cube_changes_nothing() {
        let mut carry = Carry::Asked(CUBE);
        carry.taken_away(CubeId(5));
        assert_eq!(carry, Carry::Asked(CUBE));
        carry.taken_away(CUBE);
        assert_eq!(carry.step(0.016), CarryStep::Nothing);
    }

    #[test]
    fn a_cube_let_go_in_the_air_falls_and_is_released_on_the_floor() {
        let mut carry = Carry::Held(CUBE);
        carry.let_go(pose(2.1), pose(0.5));
        let mut last_z = i32::MAX;
        for _ in 0..60 {
            match carry.step(1.0 / 60.0) {
                CarryStep::Move(moved) => {
                    assert!(moved.pose.position.z < last_z);
                    last_z = moved.pose.position.z;
                }
                CarryStep::Release(landed) => {
                    assert_eq!(landed.pose, pose(0.5));
                    assert!(last_z < i32::MAX && carry == Carry::Empty);
                    return;
                }
                other => panic!("{other:?} in the middle of a fall"),
            }
        }
        panic!("it never lands");
    }
}
