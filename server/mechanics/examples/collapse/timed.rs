//! Mechanics whose steps are timed, and fields of loose cubes for them.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cubesync_mechanics::{arrangement, create};
use cubesync_protocol::{Colour, Pose, Position, Rotation, Width};
use cubesync_relay::mechanics::{Field, FieldCube, LooseCube, Mechanics, Step, Stepped, Velocity};

/// A brick, and the step from one to the next in a stack.
const BRICK_M: f32 = 0.625;
const STEP_M: f32 = 0.64;
/// How far above the floor stacks are.
const HEIGHT_M: f32 = 3.0;

/// One step's measures.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    pub(crate) began: Instant,
    pub(crate) took: Duration,
    /// The number of cubes that it moved.
    pub(crate) moved: usize,
}

static STEPS: Mutex<Vec<Timing>> = Mutex::new(Vec::new());

/// Returns the steps since the last call.
pub(crate) fn take_steps() -> Vec<Timing> {
    std::mem::take(&mut STEPS.lock().unwrap_or_else(PoisonError::into_inner))
}

#[derive(Debug)]
struct Timed(Box<dyn Mechanics>);

impl Mechanics for Timed {
    fn step(&mut self, step: &Step) -> Stepped {
        let began = Instant::now();
        let stepped = self.0.step(step);
        let timing = Timing {
            began,
            took: began.elapsed(),
            moved: stepped.moved.len(),
        };
        let mut steps = STEPS.lock().unwrap_or_else(PoisonError::into_inner);
        steps.push(timing);
        stepped
    }
}

/// The cubes of a new room, which stand.
pub(crate) fn standing(count: usize) -> Field {
    Field {
        cubes: arrangement(count).into(),
        create: Some(|tick_hz, cubes| Box::new(Timed(create(tick_hz, cubes)))),
        kept: None,
    }
}

/// The cubes of a new room, lifted from the floor, which begin to fall with the first step.
pub(crate) fn scattered(count: usize) -> Field {
    let mut cubes = arrangement(count);
    for cube in &mut cubes {
        let [x, y, z] = cube.pose.position.to_metres();
        cube.pose.position = Position::from_metres([x, y, z + HEIGHT_M]);
    }
    falling(cubes)
}

/// A dense stack, ten by ten and above the floor, which begins to fall with the first step.
pub(crate) fn stack(count: usize) -> Field {
    let cube = |index: usize| {
        let [x, y, z] = [index % 10, index / 10 % 10, index / 100].map(|place| place as f32);
        let lean_m = 0.04 * z;
        FieldCube {
            width: Width::from_metres(BRICK_M),
            colour: Colour::from([200, 90, 60]),
            pose: Pose {
                position: Position::from_metres([
                    STEP_M * x + lean_m,
                    STEP_M * y,
                    HEIGHT_M + STEP_M * z,
                ]),
                rotation: Rotation::IDENTITY,
            },
        }
    };
    falling((0..count).map(cube).collect())
}

fn falling(cubes: Vec<FieldCube>) -> Field {
    Field {
        cubes: cubes.into(),
        create: Some(|tick_hz, cubes| {
            let velocity = Velocity {
                linear_mps: [0.0, 0.0, -0.01],
                ..Velocity::default()
            };
            let falling = cubes.iter().map(|cube| LooseCube { velocity, ..*cube });
            Box::new(Timed(create(tick_hz, &falling.collect::<Vec<_>>())))
        }),
        kept: None,
    }
}
