//! Loose cubes: the free cubes, as the room's mechanics move them.

use cubesync_protocol::motion::MotionState;
use cubesync_protocol::quantize::QUANTA_PER_METRE;
use cubesync_protocol::{CubeId, CubeInfo, CubeKind, CubePose};

use super::{FREE_CUBE, FREE_CUBE_NAME, Tracked, World};
use crate::mechanics::{FieldCube, KeptCube, LooseCube, Pusher, Step, Velocity};
use crate::room::speed::SpeedRule;
use crate::room::track::Track;

const NOBODYS: CubeKind = CubeKind::Free { holder: None };

/// Distance between loose cubes and the places where players start.
const SPAWN_GAP_METRES: f32 = 3.0;

impl World {
    /// Puts the loose cubes of a new room into the world. The first of them is the free cube.
    pub fn scatter(&mut self, cubes: &[FieldCube]) {
        for (id, known) in (FREE_CUBE.0..).zip(cubes) {
            let cube = CubeId(id);
            if self.cubes.remove(&cube).is_some() {
                self.free_cubes -= 1;
            }
            let name = if cube == FREE_CUBE {
                FREE_CUBE_NAME
            } else {
                ""
            };
            let info = CubeInfo {
                cube,
                kind: NOBODYS,
                name: name.into(),
                colour: known.colour,
                width: known.width,
                motion: MotionState::at_rest(known.pose),
            };
            self.insert(info, SpeedRule::TopSpeed);
            self.last_id = id;
        }
        self.keep_clear(cubes);
    }

    /// Lets players start beside the places of the loose cubes of a new room.
    pub fn keep_clear(&mut self, cubes: &[FieldCube]) {
        for known in cubes {
            let [x, y, _] = known.pose.position.to_metres();
            let radius_m = x.hypot(y) + SPAWN_GAP_METRES;
            self.spawn_radius_m = self.spawn_radius_m.max(radius_m);
        }
    }

    /// Puts the loose cubes of a new room where they were before, by rising id. Those that moved go on.
    pub(in crate::room) fn put_back(&mut self, kept: &[KeptCube]) {
        for (id, kept) in (FREE_CUBE.0..).zip(kept) {
            let cube = CubeId(id);
            let Some(known) = self.cubes.get_mut(&cube) else {
                return;
            };
            known.pose = kept.pose;
            known.track = Track::standing(kept.pose);
            if let Some(velocity) = kept.velocity {
                self.released.insert(cube, known.loose(cube, velocity));
            }
        }
    }

    /// Returns how a free cube is, for the next room with it; `motion` is how its receivers believe it to move.
    pub(in crate::room) fn kept(&self, cube: CubeId, motion: &MotionState) -> Option<KeptCube> {
        let known = self.cubes.get(&cube)?;
        let CubeKind::Free { holder } = known.kind else {
            return None;
        };
        // Its receivers do not see yet that it falls.
        let fell = known.freed_at > 0 && self.tick <= known.freed_at + self.tick_hz;
        let moves = holder.is_some() || fell || !motion.is_still();
        Some(KeptCube {
            width: known.width,
            pose: known.pose,
            velocity: moves.then(|| self.velocity(motion)),
        })
    }

    /// Returns every free cube as it stands.
    pub(in crate::room) fn loose(&self) -> Vec<LooseCube> {
        let free = self.cubes.iter();
        let free = free.filter(|(_, known)| matches!(known.kind, CubeKind::Free { .. }));
        free.map(|(&cube, known)| known.loose(cube, Velocity::default()))
            .collect()
    }

    /// Moves loose cubes as the mechanics say, which began a step after a tick. A cube stays where it is if
    /// somebody holds it or has let it go since.
    pub(in crate::room) fn settle(&mut self, began: u64, moved: &[CubePose]) {
        for &CubePose { cube, pose } in moved {
            let known = self.cubes.get_mut(&cube);
            if let Some(known) = known.filter(|it| it.kind == NOBODYS && it.freed_at < began) {
                known.pose = pose;
                known.track = Track::standing(pose);
                self.awake.insert(cube);
            }
        }
    }

    /// Returns the mechanics' step to the tick after this one: where players' cubes will be then, as far as one
    /// can tell, and what has been let go.
    pub(in crate::room) fn next_step(&mut self) -> Step {
        let next = self.tick + 1;
        let moved = self.cubes.iter().filter(|(_, known)| known.kind != NOBODYS);
        let pusher = |(&cube, known): (&CubeId, &Tracked)| Pusher {
            cube,
            width: known.width,
            pose: match known.track.is_moving() {
                true => known.track.pose(next),
                false => known.pose,
            },
        };
        Step {
            pushers: moved.map(pusher).collect(),
            released: std::mem::take(&mut self.released).into_values().collect(),
            late_ticks: 0,
        }
    }

    /// Notes that nobody holds a cube any more, which goes on as its holder moved it.
    pub(super) fn note_released(&mut self, cube: CubeId) {
        let motion = self.motion(cube);
        self.let_go(cube, motion);
    }

    /// Lets cubes fall that nobody holds.
    pub(in crate::room) fn drop_all(&mut self, cubes: &[CubeId]) {
        for &cube in cubes {
            if self
                .cubes
                .get(&cube)
                .is_some_and(|known| known.kind == NOBODYS)
            {
                self.let_go(cube, None);
            }
        }
    }

    /// Notes that a cube goes on by this motion.
    pub(super) fn let_go(&mut self, cube: CubeId, motion: Option<MotionState>) {
        let velocity = motion.map_or(Velocity::default(), |motion| self.velocity(&motion));
        if let Some(known) = self.cubes.get(&cube) {
            self.released.insert(cube, known.loose(cube, velocity));
        }
    }

    fn velocity(&self, motion: &MotionState) -> Velocity {
        let hz = self.tick_hz as f32;
        let linear = motion.velocity();
        Velocity {
            linear_mps: linear.map(|quanta| quanta / QUANTA_PER_METRE * hz),
            angular_radps: motion.turn().map(|radians| radians * hz),
        }
    }
}

impl Tracked {
    fn loose(&self, cube: CubeId, velocity: Velocity) -> LooseCube {
        LooseCube {
            cube,
            width: self.width,
            pose: self.pose,
            velocity,
        }
    }
}
