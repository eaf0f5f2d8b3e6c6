//! Loose cubes as bodies of rapier3d.
//!
//! Players' cubes and held ones are kinematic: they go where their players have them, and nothing pushes them back. A
//! pusher that is faster than [`MAX_PUSH_MPS`] is put where it is instead, without a velocity, and so is one that
//! turns faster than [`MAX_TURN_RADPS`]. Cubes that overlap, as then, part no faster than the solver's
//! corrective velocity (3 m/s).

use std::collections::{BTreeMap, BTreeSet};

use cubesync_protocol::limits::{MAX_HEIGHT_QUANTA, MAX_HORIZONTAL_QUANTA};
use cubesync_protocol::quantize::QUANTA_PER_METRE;
use cubesync_protocol::{CubeId, CubePose, Pose, Position, Rotation, Width};
use cubesync_relay::mechanics::{LooseCube, Mechanics, Pusher, Step, Stepped, Velocity};
use rapier3d::prelude::{
    ColliderBuilder, PhysicsWorld, RigidBodyActivation, RigidBodyBuilder, RigidBodyHandle,
    RigidBodyType,
};
use rapier3d::prelude::{Pose as Place, Rotation as Turn, Vector};

const GRAVITY_MPS2: f32 = 9.81;
/// Shortest rate at which piles of a dozen cubes stand; a slower room has several steps a tick.
const STEPS_HZ: u8 = 60;
/// Top speed of a loose cube: a fall from the ceiling to the floor reaches 25 m/s.
const MAX_SPEED_MPS: f32 = 30.0;
/// Fastest turn of a loose cube.
const MAX_SPIN_RADPS: f32 = 20.0;
/// Fastest motion of a pusher that gives its speed to what it hits. Players run at 11 m/s, and fall at 8.
const MAX_PUSH_MPS: f32 = 20.0;
/// Fastest turn of a pusher, the same.
const MAX_TURN_RADPS: f32 = 15.0;
/// Longest time beyond a step's own that a pusher has for its way, when steps are late.
const LONGEST_WAY_S: f32 = 0.25;
const FRICTION: f32 = 0.6;
/// Enough to stop a cube on a corner from rolling on for ever.
const ANGULAR_DAMPING: f32 = 0.3;
/// A step in which nothing gets anywhere.
const LULL_S: f32 = 1e-6;
/// Half the thickness of floor and walls.
const HALF_WALL_M: f32 = 8.0;
/// A cube whose centre is farther out of the world than this has left it.
const OUTSIDE_M: f32 = 1.0;

/// The bodies of a room.
struct Bodies {
    world: PhysicsWorld,
    steps: u16,
    tick_s: f32,
    loose: BTreeMap<CubeId, Loose>,
    players: BTreeMap<CubeId, RigidBodyHandle>,
}

/// A loose cube.
struct Loose {
    body: RigidBodyHandle,
    width: Width,
    home: Pose,
    /// Where the room knows it to be.
    published: Pose,
    is_held: bool,
}

/// Creates the mechanics of a room. Cubes that do not move are asleep, so that a heap stays as it is until something
/// touches it, though its poses have been rounded.
pub fn create(tick_hz: u8, cubes: &[LooseCube]) -> Box<dyn Mechanics> {
    Box::new(Bodies::new(tick_hz, cubes))
}

impl Bodies {
    fn new(tick_hz: u8, cubes: &[LooseCube]) -> Self {
        let mut world = PhysicsWorld::new();
        world.gravity = Vector::new(0.0, 0.0, -GRAVITY_MPS2);
        let steps = u16::from(STEPS_HZ.div_ceil(tick_hz.max(1)));
        let tick_s = 1.0 / f32::from(tick_hz.max(1));
        let parameters = &mut world.integration_parameters;
        parameters.dt = tick_s / f32::from(steps);
        parameters.normalized_max_linear_velocity = MAX_SPEED_MPS;
        for (centre, half) in boundary() {
            let wall = ColliderBuilder::cuboid(half.x, half.y, half.z)
                .translation(centre)
                .friction(FRICTION);
            world.insert_collider(wall, None);
        }
        let mut bodies = Self {
            world,
            steps,
            tick_s,
            loose: BTreeMap::new(),
            players: BTreeMap::new(),
        };
        for cube in cubes {
            bodies.insert(cube);
        }
        bodies.lull(cubes);
        bodies
    }

    fn insert(&mut self, cube: &LooseCube) {
        let LooseCube { width, pose, .. } = *cube;
        let body = RigidBodyBuilder::dynamic()
            .pose(place(pose))
            .linvel(bounded(cube.velocity.linear_mps, MAX_SPEED_MPS))
            .angvel(bounded(cube.velocity.angular_radps, MAX_SPIN_RADPS))
            .angular_damping(ANGULAR_DAMPING);
        let loose = Loose {
            body: insert_body(&mut self.world, body, width),
            width,
            home: pose,
            published: pose,
            is_held: false,
        };
        self.loose.insert(cube.cube, loose);
    }

    /// Puts cubes to sleep that do not move, with the heaps that they are in. The engine wakes a body that is inserted
    /// asleep at its first contact, and would then let it sink in. So this lets it find all contacts first, and takes
    /// any motion for none in a step that is too short for one.
    fn lull(&mut self, cubes: &[LooseCube]) {
        let dt = std::mem::take(&mut self.world.integration_parameters.dt);
        self.world.step();
        let still = cubes.iter().filter(|it| it.velocity == Velocity::default());
        let still: Vec<_> = still.map(|it| self.loose[&it.cube].body).collect();
        for body in &still {
            let activation = self.world.bodies[*body].activation_mut();
            activation.normalized_linear_threshold = f32::MAX;
            activation.time_since_can_sleep = activation.time_until_sleep;
        }
        self.world.integration_parameters.dt = LULL_S;
        self.world.step();
        for body in &still {
            self.world.bodies[*body]
                .activation_mut()
                .normalized_linear_threshold =
                RigidBodyActivation::default_normalized_linear_threshold();
        }
        self.world.integration_parameters.dt = dt;
    }

    /// Lets go of a held cube.
    fn release(&mut self, cube: &LooseCube) {
        let Some(loose) = self.loose.get_mut(&cube.cube) else {
            return self.insert(cube);
        };
        loose.is_held = false;
        let body = &mut self.world.bodies[loose.body];
        body.set_body_type(RigidBodyType::Dynamic, true);
        body.set_position(place(cube.pose), true);
        // The above wake only a body that they change.
        body.wake_up(true);
        let Velocity {
            linear_mps,
            angular_radps,
        } = cube.velocity;
        body.set_linvel(bounded(linear_mps, MAX_SPEED_MPS), true);
        body.set_angvel(bounded(angular_radps, MAX_SPIN_RADPS), true);
    }

    /// Returns the body of a pusher. One that is new is put where the pusher is.
    fn pusher(&mut self, pusher: &Pusher) -> RigidBodyHandle {
        let place = place(pusher.pose);
        if let Some(loose) = self.loose.get_mut(&pusher.cube) {
            if !loose.is_held {
                loose.is_held = true;
                let body = &mut self.world.bodies[loose.body];
                body.set_body_type(RigidBodyType::KinematicPositionBased, true);
                body.set_position(place, true);
            }
            return loose.body;
        }
        let world = &mut self.world;
        *self.players.entry(pusher.cube).or_insert_with(|| {
            let body = RigidBodyBuilder::kinematic_position_based().pose(place);
            insert_body(world, body, pusher.width)
        })
    }

    /// Brings the pushers into the world, and returns the way of each body that moves.
    fn place_pushers(&mut self, step: &Step) -> Vec<(RigidBodyHandle, [Place; 2])> {
        let pushers = &step.pushers;
        let late_s = self.tick_s * step.late_ticks as f32;
        let way_s = self.tick_s + late_s.min(LONGEST_WAY_S);
        let present: BTreeSet<CubeId> = pushers.iter().map(|pusher| pusher.cube).collect();
        let Self { world, players, .. } = self;
        players.retain(|cube, body| {
            let stays = present.contains(cube);
            if !stays {
                world.remove_body(*body);
            }
            stays
        });
        for (cube, loose) in &mut self.loose {
            if loose.is_held && !present.contains(cube) {
                loose.is_held = false;
                self.world.bodies[loose.body].set_body_type(RigidBodyType::Dynamic, true);
            }
        }
        let mut ways = Vec::new();
        for pusher in pushers {
            let handle = self.pusher(pusher);
            let body = &mut self.world.bodies[handle];
            let (mut from, to) = (*body.position(), place(pusher.pose));
            if from.translation.distance(to.translation) > MAX_PUSH_MPS * way_s {
                from.translation = to.translation;
            }
            if from.rotation.angle_between(to.rotation) > MAX_TURN_RADPS * way_s {
                from.rotation = to.rotation;
            }
            if from != *body.position() {
                body.set_position(from, true);
            }
            ways.push((handle, [from, to]));
        }
        ways
    }

    /// Brings loose cubes within the bounds of speed, and those that have left the world back to their places.
    fn confine(&mut self) {
        let mut lost = Vec::new();
        for (&cube, loose) in self.loose.iter().filter(|(_, loose)| !loose.is_held) {
            // Asking for a body that one may change costs the engine a look at it.
            let body = &self.world.bodies[loose.body];
            // The engine disables a body of which something is no number.
            if !body.is_enabled() || !is_inside(body.translation()) {
                lost.push(cube);
            } else if body.linvel().length() > MAX_SPEED_MPS
                || body.angvel().length() > MAX_SPIN_RADPS
            {
                let (linear, angular) = (body.linvel(), body.angvel());
                let body = &mut self.world.bodies[loose.body];
                body.set_linvel(linear.clamp_length_max(MAX_SPEED_MPS), false);
                body.set_angvel(angular.clamp_length_max(MAX_SPIN_RADPS), false);
            }
        }
        for cube in lost {
            if let Some(Loose {
                body,
                width,
                home,
                published,
                ..
            }) = self.loose.remove(&cube)
            {
                self.world.remove_body(body);
                self.insert(&LooseCube {
                    cube,
                    width,
                    pose: home,
                    velocity: Velocity::default(),
                });
                // The room does not know yet.
                if let Some(loose) = self.loose.get_mut(&cube) {
                    loose.published = published;
                }
            }
        }
    }

    /// Returns the loose cubes that are elsewhere than the room knows.
    fn moved(&mut self) -> Vec<CubePose> {
        let loose = self.loose.iter_mut().filter(|(_, loose)| !loose.is_held);
        let moved = loose.filter_map(|(&cube, loose)| {
            let pose = pose(self.world.bodies[loose.body].position());
            let before = std::mem::replace(&mut loose.published, pose);
            (pose != before).then_some(CubePose { cube, pose })
        });
        moved.collect()
    }
}

impl Mechanics for Bodies {
    fn step(&mut self, step: &Step) -> Stepped {
        for cube in &step.released {
            self.release(cube);
        }
        let ways = self.place_pushers(step);
        for done in 1..=self.steps {
            let share = f32::from(done) / f32::from(self.steps);
            for (body, [from, to]) in &ways {
                self.world.bodies[*body].set_next_kinematic_position(from.lerp(to, share));
            }
            self.world.step();
        }
        self.confine();
        let is_asleep =
            |loose: &Loose| loose.is_held || self.world.bodies[loose.body].is_sleeping();
        let is_asleep = self.loose.values().all(is_asleep);
        Stepped {
            moved: self.moved(),
            is_asleep,
        }
    }
}

impl std::fmt::Debug for Bodies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bodies")
            .field("loose", &self.loose.len())
            .field("players", &self.players.len())
            .finish_non_exhaustive()
    }
}

fn insert_body(world: &mut PhysicsWorld, body: RigidBodyBuilder, width: Width) -> RigidBodyHandle {
    let half = width.to_metres() / 2.0;
    let cube = ColliderBuilder::cuboid(half, half, half).friction(FRICTION);
    world.insert(body, cube).0
}

/// Returns the centres and half sizes of the floor, the ceiling and the walls around the world.
fn boundary() -> [(Vector, Vector); 6] {
    let [side, height] =
        [MAX_HORIZONTAL_QUANTA, MAX_HEIGHT_QUANTA].map(|quanta| quanta as f32 / QUANTA_PER_METRE);
    let [wide, high] = [side + 2.0 * HALF_WALL_M, height / 2.0 + 2.0 * HALF_WALL_M];
    let level = Vector::new(wide, wide, HALF_WALL_M);
    let [east, north] = [
        Vector::new(HALF_WALL_M, wide, high),
        Vector::new(wide, HALF_WALL_M, high),
    ];
    let away = side + HALF_WALL_M;
    [
        (Vector::new(0.0, 0.0, -HALF_WALL_M), level),
        (Vector::new(0.0, 0.0, height + HALF_WALL_M), level),
        (Vector::new(away, 0.0, height / 2.0), east),
        (Vector::new(-away, 0.0, height / 2.0), east),
        (Vector::new(0.0, away, height / 2.0), north),
        (Vector::new(0.0, -away, height / 2.0), north),
    ]
}

fn is_inside(centre: Vector) -> bool {
    let [side, height] = [MAX_HORIZONTAL_QUANTA, MAX_HEIGHT_QUANTA]
        .map(|quanta| quanta as f32 / QUANTA_PER_METRE + OUTSIDE_M);
    centre.x.abs() <= side && centre.y.abs() <= side && (-OUTSIDE_M..=height).contains(&centre.z)
}

/// Returns a vector of at most this length; one that is no vector is none.
fn bounded(vector: [f32; 3], longest: f32) -> Vector {
    let vector = Vector::from(vector);
    match vector.length().is_finite() {
        true => vector.clamp_length_max(longest),
        false => Vector::ZERO,
    }
}

fn place(pose: Pose) -> Place {
    let turn = Turn::from_array(pose.rotation.to_quaternion());
    Place::from_parts(pose.position.to_metres().into(), turn)
}

fn pose(place: &Place) -> Pose {
    Pose {
        position: Position::from_metres(place.translation.into()),
        rotation: Rotation::from_quaternion(place.rotation.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cube_that_has_left_the_world_comes_back_to_its_place_and_the_room_learns_it() {
        let home = Pose {
            position: Position::from_metres([3.0, 4.0, 0.5]),
            ..Pose::default()
        };
        let cube = LooseCube {
            cube: CubeId(7),
            width: Width::METRE,
            pose: home,
            velocity: Velocity::default(),
        };
        let mut bodies = Bodies::new(30, &[cube]);
        let beside = Vector::new(3.0, 9.0, 0.5);
        // Out of the world, and to where nothing is a number.
        for lost in [Vector::new(0.0, 0.0, -9.0), Vector::splat(f32::NAN)] {
            let known = bodies.loose[&CubeId(7)].body;
            bodies.world.bodies[known].set_translation(beside, true);
            let moved = bodies.moved();
            assert_eq!(moved.len(), 1, "the room knows it elsewhere");
            let known = bodies.loose[&CubeId(7)].body;
            bodies.world.bodies[known].set_translation(lost, true);
            let Stepped { moved, .. } = bodies.step(&Step::default());
            let [back] = moved[..] else {
                panic!("{moved:?}");
            };
            assert!(back.pose.position.distance(home.position) < 10, "{back:?}");
        }
    }
}
