//! A room's truth: the cubes, their poses, and the players who may move them.
//!
//! It uses no sockets and no clock; the time is the tick number. Changes between two ticks are
//! collected, and returned as the tick's [`Changes`].

mod changes;
mod loose;
mod movement;
mod names;
mod takeover;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use cubesync_protocol::limits::MAX_CUBES_PER_ROOM;
use cubesync_protocol::motion::{Codec, MotionState};
use cubesync_protocol::uplink::UplinkReceiver;
use cubesync_protocol::{
    Colour, CubeId, CubeInfo, CubeKind, Event, Pose, Position, Rotation, Width,
};

use self::changes::Changed;
pub use self::movement::SampleCounts;
use self::names::Names;
use super::speed::{SpeedBudget, SpeedRule, TopSpeed};
use super::track::Track;
use crate::mechanics::LooseCube;

/// The cube that exists from the beginning, and that any player may take.
pub const FREE_CUBE: CubeId = CubeId(0);

/// The free cube's first position: on the floor at the origin.
const FREE_CUBE_METRES: [f32; 3] = [0.0, 0.0, 0.5];
const FREE_CUBE_NAME: &str = "cube";
const FREE_CUBE_COLOUR: Colour = Colour {
    red: 0xF2,
    green: 0xB1,
    blue: 0x34,
};

/// Number of places on a spiral around the free cube at which players start; then the places repeat.
const SPAWN_PLACES: u64 = 512;
const SPAWN_INNER_RADIUS_METRES: f32 = 4.0;
const SPAWN_SPACING_METRES: f32 = 1.6;
/// Points turned by the golden angle fill a disc evenly (Vogel 1979).
const GOLDEN_ANGLE_RADIANS: f32 = 2.399_963;

/// The room already holds as many cubes as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the room is full")]
pub struct RoomFull;

/// A free cube cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The player who holds it; `None` when it is no free cube.
    pub holder: Option<CubeId>,
}

/// A cube as the room knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cube {
    /// The cube's id.
    pub cube: CubeId,
    /// The cube's kind: a player's, a ghost, or free with its holder.
    pub kind: CubeKind,
    /// The text above it.
    pub name: String,
    /// Its colour.
    pub colour: Colour,
    /// Its edge length.
    pub width: Width,
    /// Its pose as of the last tick.
    pub pose: Pose,
}

/// The changes of one tick.
#[derive(Debug, Default)]
pub struct Changes {
    /// Joins, leaves and changes of authority in the order in which they happened, at most one of a cube.
    pub events: Vec<Event>,
    /// The cubes that may be elsewhere than they were.
    pub touched: Vec<CubeId>,
}

/// All cubes of a room, and what has changed since the last tick.
#[derive(Debug)]
pub struct World {
    tick_hz: u64,
    /// `None`: unlimited.
    top_speed: Option<TopSpeed>,
    tick: u64,
    /// The id of the newest player's cube.
    last_id: u64,
    cubes: BTreeMap<CubeId, Tracked>,
    names: Names,
    players: BTreeMap<CubeId, Player>,
    /// Players with samples that wait for their tick.
    waiting: BTreeSet<CubeId>,
    /// Cubes that move, or that have changed since the last tick.
    awake: BTreeSet<CubeId>,
    changed: Changed,
    /// Players, and the cubes whose true pose they must be sent, with the tick of the newest refused sample.
    corrections: BTreeMap<CubeId, BTreeMap<CubeId, u64>>,
    counts: SampleCounts,
    /// The cubes that players have let go, of which the mechanics do not know yet.
    released: BTreeMap<CubeId, LooseCube>,
    /// Distance from the origin at which players start.
    spawn_radius_m: f32,
    free_cubes: usize,
}

#[derive(Debug)]
struct Tracked {
    kind: CubeKind,
    name: String,
    colour: Colour,
    width: Width,
    rule: SpeedRule,
    /// The tick in which the cube was let go, if it is a free one.
    freed_at: u64,
    /// The cube's pose as of the last tick, within all rules.
    pose: Pose,
    /// Its motion by the newest sample of its authority.
    track: Track,
    budget: Option<SpeedBudget>,
}

#[derive(Debug)]
struct Player {
    rule: SpeedRule,
    uplink: UplinkReceiver,
    /// The free cubes they hold.
    held: BTreeSet<CubeId>,
}

impl World {
    /// Creates a world with nothing but the free cube. `top_speed` is in quanta per second, `None` is
    /// unlimited.
    pub fn new(tick_hz: u8, top_speed: Option<u32>) -> Self {
        let tick_hz = u64::from(tick_hz);
        let top_speed = top_speed.map(|quanta| TopSpeed {
            quanta_per_second: quanta.into(),
            tick_hz,
        });
        let mut world = Self {
            tick_hz,
            top_speed,
            tick: 0,
            last_id: FREE_CUBE.0,
            cubes: BTreeMap::new(),
            names: Names::default(),
            players: BTreeMap::new(),
            waiting: BTreeSet::new(),
            awake: BTreeSet::new(),
            changed: Changed::default(),
            corrections: BTreeMap::new(),
            counts: SampleCounts::default(),
            released: BTreeMap::new(),
            spawn_radius_m: SPAWN_INNER_RADIUS_METRES,
            free_cubes: 0,
        };
        world.insert_free_cube();
        world
    }

    /// Counts the cubes in the room, the free ones included.
    pub fn cube_count(&self) -> usize {
        self.cubes.len()
    }

    /// Returns whether a room with place for so many cubes has none for another player. All free cubes together take
    /// one place, but no room holds more than [`MAX_CUBES_PER_ROOM`].
    pub fn is_full(&self, max_cubes: usize) -> bool {
        let free = self.free_cubes.saturating_sub(1);
        self.cubes.len() >= max_cubes.saturating_add(free).min(MAX_CUBES_PER_ROOM)
    }

    /// Returns the number of the last tick.
    pub fn tick_number(&self) -> u64 {
        self.tick
    }

    /// Returns whether the next tick changes nothing, unless somebody does something.
    pub fn is_at_rest(&self) -> bool {
        self.awake.is_empty() && self.waiting.is_empty() && self.changed.is_empty()
    }

    /// Returns what is known about a cube.
    pub fn cube(&self, cube: CubeId) -> Option<Cube> {
        self.cubes.get(&cube).map(|tracked| tracked.describe(cube))
    }

    /// Returns every cube by rising id.
    pub fn cubes(&self) -> impl Iterator<Item = Cube> {
        self.cubes
            .iter()
            .map(|(&cube, tracked)| tracked.describe(cube))
    }

    /// Returns the kind and the name of every cube by rising id.
    pub fn names(&self) -> impl Iterator<Item = (CubeKind, &str)> {
        let cubes = self.cubes.values();
        cubes.map(|tracked| (tracked.kind, &*tracked.name))
    }

    /// Returns where a cube is, as of the last tick.
    pub fn pose(&self, cube: CubeId) -> Option<Pose> {
        self.cubes.get(&cube).map(|tracked| tracked.pose)
    }

    /// Returns the kind of a cube.
    pub(super) fn kind(&self, cube: CubeId) -> Option<CubeKind> {
        self.cubes.get(&cube).map(|tracked| tracked.kind)
    }

    /// Returns how a cube moves by the samples of its player's client, as of the last tick; `None` when
    /// the room has put it where it is.
    pub fn motion(&self, cube: CubeId) -> Option<MotionState> {
        self.cubes.get(&cube)?.track.motion(self.tick)
    }

    /// Returns where a player looks from: their own cube, and those they hold.
    pub fn viewpoints(&self, player: CubeId) -> impl Iterator<Item = Position> {
        let held = self.players.get(&player).into_iter();
        let held = held.flat_map(|player| player.held.iter().copied());
        let cubes = std::iter::once(player).chain(held);
        cubes.filter_map(|cube| Some(self.pose(cube)?.position))
    }

    /// Returns what receivers must know about a cube whose predicted state is this.
    pub fn info(&self, cube: CubeId, motion: MotionState) -> Option<CubeInfo> {
        let tracked = self.cubes.get(&cube)?;
        Some(CubeInfo {
            cube,
            kind: tracked.kind,
            name: tracked.name.clone(),
            colour: tracked.colour,
            width: tracked.width,
            motion,
        })
    }

    /// Lets a player come in with a clean name, at a pose or, without one, near the free cube. Returns
    /// their own cube. A name that looks like one in use gets a number.
    ///
    /// # Errors
    /// [`RoomFull`] at [`MAX_CUBES_PER_ROOM`].
    pub fn join(
        &mut self,
        name: &str,
        colour: Colour,
        rule: SpeedRule,
        pose: Option<Pose>,
    ) -> Result<CubeId, RoomFull> {
        if self.cubes.len() >= MAX_CUBES_PER_ROOM {
            return Err(RoomFull);
        }
        let (name, pose) = (self.names.unused(name), self.start(pose));
        self.last_id += 1;
        let cube = CubeId(self.last_id);
        let info = CubeInfo {
            cube,
            kind: CubeKind::Player,
            name,
            colour,
            width: Width::METRE,
            motion: MotionState::at_rest(pose),
        };
        self.insert(info, rule);
        self.players.insert(cube, Player::new(rule, self.tick_hz));
        Ok(cube)
    }

    /// Removes a player: what they hold is freed where it is, and their own cube goes.
    pub fn leave(&mut self, player: CubeId) {
        if let Some(gone) = self.cubes.remove(&player) {
            self.names.remove(&gone.name);
            self.free_all_of(player);
            self.changed.note(player, Some(gone.kind));
            self.awake.remove(&player);
        }
    }

    /// Keeps the cube of a player whose connection is lost as a ghost, and frees what they hold.
    pub fn ghost(&mut self, player: CubeId) {
        if let Some(cube) = self.cubes.get_mut(&player)
            && cube.kind == CubeKind::Player
        {
            cube.kind = CubeKind::Ghost;
            self.stand(player);
            self.free_all_of(player);
            self.changed.note(player, Some(CubeKind::Player));
        }
    }

    /// Gives a ghost back to its player. Returns false when there is no such ghost.
    pub fn resume(&mut self, player: CubeId, rule: SpeedRule) -> bool {
        let ghost = self
            .cubes
            .get_mut(&player)
            .filter(|cube| cube.kind == CubeKind::Ghost);
        let Some(cube) = ghost else {
            return false;
        };
        cube.kind = CubeKind::Player;
        cube.rule = rule;
        self.players.insert(player, Player::new(rule, self.tick_hz));
        self.changed.note(player, Some(CubeKind::Ghost));
        true
    }

    /// Begins the samples of a player anew, whose client has counted so many releases: the answer to
    /// another `Welcome`.
    pub fn restart(&mut self, player: CubeId, releases: u32) {
        if let Some(player) = self.players.get_mut(&player) {
            player.uplink = UplinkReceiver::continued(self.tick_hz, releases);
        }
    }

    /// Lets a player take a free cube. Taking what one already holds succeeds and changes nothing.
    ///
    /// # Errors
    /// [`Refusal`] when someone else was first, the player holds another cube or there is no such free cube.
    pub fn take(&mut self, player: CubeId, cube: CubeId) -> Result<(), Refusal> {
        let nobody = Refusal { holder: None };
        let taker = self.players.get_mut(&player).ok_or(nobody)?;
        let taken = self.cubes.get_mut(&cube).ok_or(nobody)?;
        let CubeKind::Free { holder } = &mut taken.kind else {
            return Err(nobody);
        };
        match *holder {
            Some(first) if first == player => Ok(()),
            Some(first) => Err(Refusal {
                holder: Some(first),
            }),
            None if !taker.held.is_empty() => Err(nobody),
            None => {
                *holder = Some(player);
                self.released.remove(&cube);
                taken.rule = taker.rule;
                taker.held.insert(cube);
                let before = CubeKind::Free { holder: None };
                self.changed.note(cube, Some(before));
                Ok(())
            }
        }
    }

    /// Lets a player let go of a cube, where their last sample puts it. Nothing happens when they do
    /// not hold it.
    pub fn release(&mut self, player: CubeId, cube: CubeId) {
        // The player's earlier samples count, though their tick may not have come.
        self.apply_samples(player, u64::MAX);
        if let Some(known) = self.players.get_mut(&player) {
            known.uplink.release(cube);
            if known.held.contains(&cube) {
                let sampled = self.cubes.get(&cube).map(|held| held.track.tick());
                self.follow(cube, sampled.unwrap_or_default().max(self.tick));
                self.free(cube);
            }
        }
    }

    /// Ends a tick, and returns what changed since the last one. Tick numbers rise, and may leave some out: cubes
    /// are then as if those had ended, too. No sample counts, and no cube moves without one, for longer than a second.
    pub fn tick(&mut self, tick: u64) -> Changes {
        let left_out = (self.tick + 1..tick).take(self.tick_hz as usize);
        let mut touched = Vec::new();
        for tick in left_out.chain([tick]) {
            self.tick = tick;
            for player in std::mem::take(&mut self.waiting) {
                self.apply_samples(player, tick);
            }
            let awake = self.awake.iter().copied().collect();
            touched.extend(self.follow_all(awake));
        }
        touched.sort_unstable();
        touched.dedup();
        let changed = self.changed.take().into_iter();
        let events = changed.filter_map(|(cube, known)| known.event(cube, self.state(cube)));
        let events = events.collect();
        Changes { events, touched }
    }

    /// Forgets a player, and frees what they hold.
    fn free_all_of(&mut self, player: CubeId) {
        self.corrections.remove(&player);
        let Some(gone) = self.players.remove(&player) else {
            return;
        };
        for cube in gone.held {
            self.free(cube);
        }
    }

    fn free(&mut self, cube: CubeId) {
        let Some(held) = self.cubes.get_mut(&cube) else {
            return;
        };
        let before = held.kind;
        if let CubeKind::Free { holder } = &mut held.kind {
            let player = holder
                .take()
                .and_then(|holder| self.players.get_mut(&holder));
            if let Some(player) = player {
                player.held.remove(&cube);
            }
            held.freed_at = self.tick;
            self.note_released(cube);
            self.stand(cube);
            self.changed.note(cube, Some(before));
        }
    }

    /// Adds a cube that stands.
    fn insert(&mut self, info: CubeInfo, rule: SpeedRule) {
        let pose = info.motion.pose(&Codec::LIVE);
        let tracked = Tracked {
            kind: info.kind,
            name: info.name.clone(),
            colour: info.colour,
            width: info.width,
            rule,
            freed_at: 0,
            pose,
            track: Track::standing(pose),
            budget: self.new_budget(),
        };
        self.names.insert(&info.name);
        self.add(info.cube, tracked);
        self.changed.note(info.cube, None);
    }

    fn add(&mut self, cube: CubeId, tracked: Tracked) {
        self.free_cubes += usize::from(matches!(tracked.kind, CubeKind::Free { .. }));
        self.cubes.insert(cube, tracked);
    }

    /// Returns where a player begins: there, or near the free cube.
    fn start(&self, pose: Option<Pose>) -> Pose {
        // The innermost place is for the first player, whose id follows those of loose cubes.
        let number = (self.last_id + 1).saturating_sub((self.free_cubes as u64).saturating_sub(1));
        let pose = pose.unwrap_or_else(|| Pose {
            position: spawn_position(self.spawn_radius_m, number),
            rotation: Rotation::IDENTITY,
        });
        Pose {
            position: pose.position.clamped(),
            ..pose
        }
    }

    fn insert_free_cube(&mut self) {
        let pose = Pose {
            position: Position::from_metres(FREE_CUBE_METRES),
            rotation: Rotation::IDENTITY,
        };
        let info = CubeInfo {
            cube: FREE_CUBE,
            kind: CubeKind::Free { holder: None },
            name: FREE_CUBE_NAME.into(),
            colour: FREE_CUBE_COLOUR,
            width: Width::METRE,
            motion: MotionState::at_rest(pose),
        };
        self.insert(info, SpeedRule::TopSpeed);
    }

    fn new_budget(&self) -> Option<SpeedBudget> {
        let top_speed = self.top_speed?;
        Some(SpeedBudget::new(top_speed, self.tick))
    }
}

impl Player {
    fn new(rule: SpeedRule, tick_hz: u64) -> Self {
        Self {
            rule,
            uplink: UplinkReceiver::new(tick_hz),
            held: BTreeSet::new(),
        }
    }
}

impl Tracked {
    fn describe(&self, cube: CubeId) -> Cube {
        let Self {
            kind,
            colour,
            width,
            pose,
            ..
        } = *self;
        Cube {
            cube,
            kind,
            name: self.name.clone(),
            colour,
            width,
            pose,
        }
    }
}

fn spawn_position(inner_radius_m: f32, number: u64) -> Position {
    let place = (number % SPAWN_PLACES) as f32;
    let radius = inner_radius_m + SPAWN_SPACING_METRES * place.sqrt();
    let (sin, cos) = (place * GOLDEN_ANGLE_RADIANS).sin_cos();
    Position::from_metres([radius * cos, radius * sin, 0.5])
}
