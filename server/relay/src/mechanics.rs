//! The requests of a room to a physics engine, which moves the free cubes that nobody holds.
//!
//! The engine itself stands elsewhere, behind [`Mechanics`]. It knows no tick numbers and no clock, and all that
//! goes in or out is finite: a [`Pose`] is whole numbers inside the world.

use std::fmt;
use std::sync::Arc;

use cubesync_protocol::{Colour, CubeId, CubePose, Pose, Width};
use tokio::sync::watch;

/// The loose cubes of rooms, and what moves them.
#[derive(Debug, Clone)]
pub struct Field {
    /// The cubes of a new room, of which the first is "the cube". At least one.
    pub cubes: Arc<[FieldCube]>,
    /// Creates the mechanics of a room; `None`: nothing moves the cubes but their holders, and
    /// [`RoomHandle::place`](crate::room::RoomHandle::place).
    pub create: Option<Create>,
    /// The states with which the default room's cubes begin, and in which it keeps them; `None`: every room begins anew.
    pub kept: Option<Kept>,
}

/// The states of loose cubes, by rising id. The room writes them every half a minute, and when it ends.
pub type Kept = watch::Sender<Vec<KeptCube>>;

/// A loose cube as it outlives its room.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KeptCube {
    /// Its edge length.
    pub width: Width,
    /// Where it is.
    pub pose: Pose,
    /// How it moves, if it is not at rest.
    pub velocity: Option<Velocity>,
}

impl From<&FieldCube> for KeptCube {
    fn from(cube: &FieldCube) -> Self {
        Self {
            width: cube.width,
            pose: cube.pose,
            velocity: None,
        }
    }
}

/// Creates the mechanics of a room of so many ticks a second, with all of its free cubes. A cube that ever leaves the
/// world is put where it was at first.
pub type Create = fn(tick_hz: u8, cubes: &[LooseCube]) -> Box<dyn Mechanics>;

/// A loose cube of a new room.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FieldCube {
    /// Its edge length.
    pub width: Width,
    /// Its colour.
    pub colour: Colour,
    /// Where it stands.
    pub pose: Pose,
}

/// A loose cube as the mechanics begin with it, or go on with it when a player has let it go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LooseCube {
    /// The cube.
    pub cube: CubeId,
    /// Its edge length.
    pub width: Width,
    /// Where it is.
    pub pose: Pose,
    /// How it moves.
    pub velocity: Velocity,
}

/// How fast a cube moves. The mechanics cut what is not finite, or faster than they allow.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Velocity {
    /// Of its centre, in m/s.
    pub linear_mps: [f32; 3],
    /// About its centre, in rad/s.
    pub angular_radps: [f32; 3],
}

/// A cube that a player moves, their own one or a held one: it pushes loose cubes and is not pushed itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pusher {
    /// The cube.
    pub cube: CubeId,
    /// Its edge length.
    pub width: Width,
    /// Where it is at the end of the step.
    pub pose: Pose,
}

/// The actions of players on loose cubes in one tick.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Step {
    /// All cubes that players move, by rising id.
    pub pushers: Vec<Pusher>,
    /// The cubes that players have let go since the step before.
    pub released: Vec<LooseCube>,
    /// Ticks that the step before took too long: pushers have gone on meanwhile.
    pub late_ticks: u32,
}

/// The outcome of a step.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stepped {
    /// The loose cubes that are elsewhere than after the step before.
    pub moved: Vec<CubePose>,
    /// Whether no loose cube moves until something pushes one.
    pub is_asleep: bool,
}

/// The motion of a room's loose cubes.
pub trait Mechanics: fmt::Debug + Send + Sync {
    /// Moves everything on by a tick.
    fn step(&mut self, step: &Step) -> Stepped;
}
