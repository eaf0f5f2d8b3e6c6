//! A room's truth: which cubes there are, where, and who may move them.
//!
//! Pure: no sockets, no clock. Time is the tick number. What happens between two ticks is
//! collected and leaves as one [`Snapshot`]: events, and the cubes that are not where everybody
//! believes them to be.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cubesync_protocol::limits::MAX_CUBES_PER_ROOM;
use cubesync_protocol::motion::{Codec, MotionSet, MotionState};
use cubesync_protocol::{
    Colour, CubeId, CubeInfo, CubeKind, CubePose, Event, Keyframe, Pose, Position, Rotation,
    Snapshot,
};

use super::speed::{SpeedBudget, TopSpeed};
use super::track::{Track, Truth};

/// Where the free cube waits at first: on the floor at the origin.
const FREE_CUBE_METRES: [f32; 3] = [0.0, 0.0, 0.5];
const FREE_CUBE_NAME: &str = "cube";
const FREE_CUBE_COLOUR: Colour = Colour {
    red: 0xF2,
    green: 0xB1,
    blue: 0x34,
};

/// Players start on a spiral around the free cube; after this many the places repeat.
const SPAWN_PLACES: u32 = 512;
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
    /// Who holds it; `None` when it is no free cube.
    pub holder: Option<CubeId>,
}

/// How a player may move their cubes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpeedRule {
    /// At most the room's top speed, each sample at its tick.
    TopSpeed,
    /// Anywhere at once, at any tick: for people who type coordinates.
    Unlimited,
}

/// A cube as the room knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cube {
    /// Which cube.
    pub cube: CubeId,
    /// Whose it is.
    pub kind: CubeKind,
    /// The text above it.
    pub name: String,
    /// Its colour.
    pub colour: Colour,
    /// Where its authority put it last.
    pub pose: Pose,
}

/// How the samples of moving cubes came since the last count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SampleCounts {
    /// Within the tick before their own: as they should.
    pub on_time: u64,
    /// More than a tick too early.
    pub early: u64,
    /// After their tick had begun.
    pub late: u64,
    /// Ticks at which the sample of a moving cube was not there.
    pub missing: u64,
}

/// All cubes of a room, and what has changed since the last tick.
#[derive(Debug)]
pub struct World {
    tick_hz: u64,
    /// `None`: unlimited.
    top_speed: Option<TopSpeed>,
    tick: u64,
    next_id: u32,
    cubes: BTreeMap<CubeId, Tracked>,
    players: BTreeMap<CubeId, Player>,
    /// Players with samples that wait for their tick.
    waiting: BTreeSet<CubeId>,
    /// Cubes whose truth must be asked for at the next tick.
    awake: BTreeSet<CubeId>,
    /// What every receiver believes.
    believed: MotionSet,
    events: Vec<Event>,
    /// Who must be told where which cube really is.
    corrections: Vec<(CubeId, CubeId)>,
    counts: SampleCounts,
}

#[derive(Debug)]
struct Tracked {
    kind: CubeKind,
    name: String,
    colour: Colour,
    rule: SpeedRule,
    track: Track,
    budget: Option<SpeedBudget>,
}

#[derive(Debug)]
struct Player {
    rule: SpeedRule,
    /// Samples whose tick has not come: at most a second's.
    pending: VecDeque<(u64, Vec<CubePose>)>,
    newest_tick: u64,
    late_samples: u32,
}

impl World {
    /// A world with nothing but the free cube. `top_speed` is in quanta per second, `None` is
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
            next_id: 0,
            cubes: BTreeMap::new(),
            players: BTreeMap::new(),
            waiting: BTreeSet::new(),
            awake: BTreeSet::new(),
            believed: MotionSet::new(&Codec::LIVE),
            events: Vec::new(),
            corrections: Vec::new(),
            counts: SampleCounts::default(),
        };
        let position = Position::from_metres(FREE_CUBE_METRES);
        let pose = Pose {
            position,
            rotation: Rotation::IDENTITY,
        };
        let kind = CubeKind::Free { holder: None };
        let rule = SpeedRule::TopSpeed;
        let free = world.insert(kind, FREE_CUBE_NAME.into(), FREE_CUBE_COLOUR, pose, rule);
        world.believed.insert(free, MotionState::at_rest(pose));
        world
    }

    /// Cubes in the room, the free one included.
    pub fn cube_count(&self) -> usize {
        self.cubes.len()
    }

    /// What is known about a cube.
    pub fn cube(&self, cube: CubeId) -> Option<Cube> {
        self.cubes.get(&cube).map(|tracked| tracked.describe(cube))
    }

    /// Every cube by rising id.
    pub fn cubes(&self) -> impl Iterator<Item = Cube> {
        self.cubes
            .iter()
            .map(|(&cube, tracked)| tracked.describe(cube))
    }

    /// A player comes in with a clean name; returns their own cube. A name that is in use gets
    /// a number.
    ///
    /// # Errors
    /// [`RoomFull`] at [`MAX_CUBES_PER_ROOM`].
    pub fn join(
        &mut self,
        name: &str,
        colour: Colour,
        rule: SpeedRule,
    ) -> Result<CubeId, RoomFull> {
        if self.cubes.len() >= MAX_CUBES_PER_ROOM {
            return Err(RoomFull);
        }
        let position = spawn_position(self.next_id);
        let pose = Pose {
            position,
            rotation: Rotation::IDENTITY,
        };
        let name = self.unused_name(name);
        let kind = CubeKind::Player;
        let cube = self.insert(kind, name.clone(), colour, pose, rule);
        let motion = MotionState::at_rest(pose);
        self.events.push(Event::Joined(CubeInfo {
            cube,
            kind,
            name,
            colour,
            motion,
        }));
        self.players.insert(cube, Player::new(rule));
        Ok(cube)
    }

    /// A player leaves: what they hold is freed where it is, their own cube goes.
    pub fn leave(&mut self, player: CubeId) {
        if self.cubes.remove(&player).is_some() {
            self.free_all_of(player);
            self.awake.remove(&player);
            self.events.push(Event::Left { cube: player });
        }
    }

    /// A player's connection is lost: what they hold is freed, their own cube stays as a ghost.
    pub fn ghost(&mut self, player: CubeId) {
        if let Some(cube) = self.cubes.get_mut(&player)
            && cube.kind == CubeKind::Player
        {
            cube.kind = CubeKind::Ghost;
            cube.track.settle();
            self.awake.insert(player);
            self.free_all_of(player);
            self.events.push(Event::Ghost { cube: player });
        }
    }

    /// The player of a ghost is back; false when there is no such ghost.
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
        self.players.insert(player, Player::new(rule));
        self.events.push(Event::Returned { cube: player });
        true
    }

    /// A player says where their cubes are at a tick. It counts at that tick, or at the next
    /// one when it comes late. A pose that the rules do not allow changes nothing, and the
    /// player is told the true one ([`corrections`](Self::corrections)).
    pub fn sample(&mut self, player: CubeId, tick: u64, cubes: Vec<CubePose>) {
        let id = player;
        let Some(player) = self.players.get_mut(&id) else {
            return;
        };
        self.waiting.insert(id);
        if player.rule == SpeedRule::Unlimited {
            player.pending.push_back((self.tick + 1, cubes));
            return;
        }
        // Further ahead than a second is no clock of ours.
        let tick = tick.min(self.tick + self.tick_hz);
        if tick <= player.newest_tick {
            // Old or repeated: it says nothing that is not known.
            return;
        }
        player.newest_tick = tick;
        player.pending.push_back((tick, cubes));
        if tick <= self.tick {
            player.late_samples = player.late_samples.saturating_add(1);
            self.counts.late += 1;
        } else if tick > self.tick + 1 {
            self.counts.early += 1;
        } else {
            self.counts.on_time += 1;
        }
    }

    /// How many samples of a player have come after their tick.
    pub fn late_samples(&self, player: CubeId) -> u32 {
        self.players
            .get(&player)
            .map_or(0, |player| player.late_samples)
    }

    /// Takes the counts since the last call.
    pub fn take_sample_counts(&mut self) -> SampleCounts {
        std::mem::take(&mut self.counts)
    }

    /// A player takes a free cube. Taking what one already holds succeeds and changes nothing.
    ///
    /// # Errors
    /// [`Refusal`] when someone else was first or there is no such free cube.
    pub fn take(&mut self, player: CubeId, cube: CubeId) -> Result<(), Refusal> {
        let rule = self
            .players
            .get(&player)
            .map(|own| own.rule)
            .ok_or(Refusal { holder: None })?;
        let taken = self.cubes.get_mut(&cube).ok_or(Refusal { holder: None })?;
        match taken.kind {
            CubeKind::Player | CubeKind::Ghost => Err(Refusal { holder: None }),
            CubeKind::Free {
                holder: Some(holder),
            } if holder == player => Ok(()),
            CubeKind::Free {
                holder: Some(holder),
            } => Err(Refusal {
                holder: Some(holder),
            }),
            CubeKind::Free { holder: None } => {
                taken.kind = CubeKind::Free {
                    holder: Some(player),
                };
                taken.rule = rule;
                self.events.push(Event::Taken { cube, by: player });
                Ok(())
            }
        }
    }

    /// A player lets go of a cube, where their last sample puts it; nothing happens when they
    /// do not hold it.
    pub fn release(&mut self, player: CubeId, cube: CubeId) {
        let holds = |held: &Tracked| {
            held.kind
                == (CubeKind::Free {
                    holder: Some(player),
                })
        };
        if self.cubes.get(&cube).is_some_and(holds) {
            // What the player said before counts, though its tick may not have come.
            self.apply_samples(player, u64::MAX);
            self.free(cube);
        }
    }

    /// Ends a tick: what changed since the last one, `None` when nothing did. Tick numbers
    /// rise, and may leave some out.
    pub fn tick(&mut self, tick: u64) -> Option<Snapshot> {
        let elapsed = u32::try_from(tick - self.tick).unwrap_or(u32::MAX);
        self.tick = tick;
        for player in std::mem::take(&mut self.waiting) {
            self.apply_samples(player, tick);
        }
        self.believed.advance(elapsed);
        let events = std::mem::take(&mut self.events);
        for event in &events {
            match event {
                Event::Joined(info) => drop(self.believed.insert(info.cube, info.motion)),
                Event::Left { cube } => drop(self.believed.remove(*cube)),
                _ => {}
            }
        }
        let surprises = self.surprises(tick);
        (!events.is_empty() || !surprises.is_empty()).then_some(Snapshot {
            tick,
            events,
            surprises: surprises.into(),
        })
    }

    /// Whether everybody believes that a cube moves, or that it has just stopped.
    pub fn is_moving(&self) -> bool {
        self.believed.active().len() > 0
    }

    /// Everything, as it was at the last [`tick`](Self::tick). Right after a tick only: later
    /// changes would come a second time with the next snapshot.
    pub fn keyframe(&self) -> Keyframe {
        debug_assert!(
            self.events.is_empty(),
            "a keyframe belongs right after a tick"
        );
        let info = |(id, motion): (CubeId, &MotionState)| {
            let cube = &self.cubes[&id];
            CubeInfo {
                cube: id,
                kind: cube.kind,
                name: cube.name.clone(),
                colour: cube.colour,
                motion: *motion,
            }
        };
        Keyframe {
            tick: self.tick,
            cubes: self.believed.iter().map(info).collect(),
        }
    }

    /// Takes the corrections since the last call: a player, and the true pose of a cube.
    pub fn corrections(&mut self) -> Vec<(CubeId, CubePose)> {
        let corrections = std::mem::take(&mut self.corrections);
        let truth = |(player, cube): (CubeId, CubeId)| {
            let pose = self.cubes.get(&cube)?.track.pose();
            Some((player, CubePose { cube, pose }))
        };
        corrections.into_iter().filter_map(truth).collect()
    }

    /// Lets a player's samples count whose tick has come.
    fn apply_samples(&mut self, player: CubeId, until: u64) {
        while let Some(due) = self.players.get_mut(&player)
            && due.pending.front().is_some_and(|(tick, _)| *tick <= until)
        {
            let rule = due.rule;
            let (tick, cubes) = due.pending.pop_front().expect("there is a front");
            for sample in cubes {
                self.apply_sample(player, tick, rule, sample);
            }
        }
        if self
            .players
            .get(&player)
            .is_some_and(|player| !player.pending.is_empty())
        {
            self.waiting.insert(player);
        }
    }

    fn apply_sample(&mut self, player: CubeId, tick: u64, rule: SpeedRule, sample: CubePose) {
        let (now, top_speed) = (self.tick, self.top_speed);
        let Some(cube) = self.cubes.get_mut(&sample.cube) else {
            // It has left while the sample was on its way.
            return;
        };
        let distance = cube.track.pose().position.distance(sample.pose.position);
        let may_go = |cube: &mut Tracked| match (top_speed, &mut cube.budget) {
            (Some(top_speed), Some(budget)) if cube.rule == SpeedRule::TopSpeed => {
                budget.spend(distance, top_speed, now)
            }
            _ => true,
        };
        if may_move(sample.cube, cube.kind, player)
            && sample.pose.position.is_in_bounds()
            && may_go(cube)
        {
            cube.track.sample(tick, sample.pose, self.tick_hz);
            if rule == SpeedRule::Unlimited {
                cube.track.settle();
            }
            self.awake.insert(sample.cube);
        } else if !self.corrections.contains(&(player, sample.cube)) {
            self.corrections.push((player, sample.cube));
        }
    }

    /// Encodes the cubes that are not where they are believed to be, at most by the codec's bound.
    fn surprises(&mut self, tick: u64) -> Vec<u8> {
        let mut truths = BTreeMap::new();
        for &id in &self.awake {
            let Some(cube) = self.cubes.get_mut(&id) else {
                continue;
            };
            let truth = match cube.track.truth(tick, self.tick_hz) {
                Truth::At(pose) => pose,
                Truth::AsBelieved => {
                    self.counts.missing += 1;
                    self.believed.pose(id).unwrap_or(cube.track.pose())
                }
            };
            truths.insert(id, truth);
        }
        let mut surprises = Vec::new();
        let cubes = &self.cubes;
        let truth = |id| {
            truths
                .get(&id)
                .copied()
                .unwrap_or_else(|| cubes[&id].track.pose())
        };
        self.believed
            .encode_touched(self.awake.iter().copied(), truth, &mut surprises);
        self.awake
            .retain(|id| cubes.get(id).is_some_and(|cube| cube.track.is_awake()));
        surprises
    }

    fn free_all_of(&mut self, player: CubeId) {
        self.players.remove(&player);
        self.corrections.retain(|&(to, _)| to != player);
        let is_held = |cube: &Tracked| {
            cube.kind
                == (CubeKind::Free {
                    holder: Some(player),
                })
        };
        let held = self
            .cubes
            .iter()
            .filter(|(_, cube)| is_held(cube))
            .map(|(&id, _)| id);
        for id in held.collect::<Vec<_>>() {
            self.free(id);
        }
    }

    fn free(&mut self, cube: CubeId) {
        if let Some(held) = self.cubes.get_mut(&cube) {
            held.kind = CubeKind::Free { holder: None };
            held.track.settle();
            self.awake.insert(cube);
            self.events.push(Event::Freed { cube });
        }
    }

    fn insert(
        &mut self,
        kind: CubeKind,
        name: String,
        colour: Colour,
        pose: Pose,
        rule: SpeedRule,
    ) -> CubeId {
        let id = CubeId(self.next_id);
        self.next_id += 1;
        let budget = self
            .top_speed
            .map(|top_speed| SpeedBudget::new(top_speed, self.tick));
        let track = Track::new(pose, self.tick);
        self.cubes.insert(
            id,
            Tracked {
                kind,
                name,
                colour,
                rule,
                track,
                budget,
            },
        );
        id
    }

    fn unused_name(&self, name: &str) -> String {
        let in_use = |name: &str| self.cubes.values().any(|cube| cube.name == name);
        if !in_use(name) {
            return name.into();
        }
        (2..)
            .map(|number| format!("{name}-{number}"))
            .find(|name| !in_use(name))
            .expect("there are more numbers than cubes")
    }
}

impl Player {
    fn new(rule: SpeedRule) -> Self {
        Self {
            rule,
            pending: VecDeque::new(),
            newest_tick: 0,
            late_samples: 0,
        }
    }
}

impl Tracked {
    fn describe(&self, cube: CubeId) -> Cube {
        let Self { kind, colour, .. } = *self;
        Cube {
            cube,
            kind,
            name: self.name.clone(),
            colour,
            pose: self.track.pose(),
        }
    }
}

fn may_move(cube: CubeId, kind: CubeKind, player: CubeId) -> bool {
    match kind {
        CubeKind::Player => cube == player,
        CubeKind::Free { holder } => holder == Some(player),
        CubeKind::Ghost => false,
    }
}

fn spawn_position(id: u32) -> Position {
    let place = (id % SPAWN_PLACES) as f32;
    let radius = SPAWN_INNER_RADIUS_METRES + SPAWN_SPACING_METRES * place.sqrt();
    let (sin, cos) = (place * GOLDEN_ANGLE_RADIANS).sin_cos();
    Position::from_metres([radius * cos, radius * sin, 0.5])
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: CubeId = CubeId(0);
    const COLOUR: Colour = Colour {
        red: 1,
        green: 2,
        blue: 3,
    };

    /// 30 ticks a second, 40 m/s.
    fn world() -> World {
        World::new(30, Some(40 * 512))
    }

    fn join(world: &mut World, name: &str) -> CubeId {
        world.join(name, COLOUR, SpeedRule::TopSpeed).unwrap()
    }

    fn pose(world: &World, cube: CubeId) -> Pose {
        world.cube(cube).unwrap().pose
    }

    fn moved(world: &World, cube: CubeId, x: i32) -> CubePose {
        let mut pose = pose(world, cube);
        pose.position.x += x;
        CubePose { cube, pose }
    }

    /// Moves a cube by a sample of the next tick.
    fn step(world: &mut World, player: CubeId, cube: CubeId, x: i32) -> Pose {
        let sample = moved(world, cube, x);
        world.sample(player, world.tick + 1, vec![sample]);
        sample.pose
    }

    /// What a receiver makes of keyframes and snapshots.
    struct Viewer {
        tick: u64,
        kinds: BTreeMap<CubeId, CubeKind>,
        believed: MotionSet,
    }

    impl Viewer {
        fn new(keyframe: Keyframe) -> Self {
            let mut viewer = Self {
                tick: keyframe.tick,
                kinds: BTreeMap::new(),
                believed: MotionSet::new(&Codec::LIVE),
            };
            for info in keyframe.cubes {
                viewer.kinds.insert(info.cube, info.kind);
                viewer.believed.insert(info.cube, info.motion);
            }
            viewer
        }

        fn hear(&mut self, snapshot: Snapshot) {
            self.believed.advance((snapshot.tick - self.tick) as u32);
            self.tick = snapshot.tick;
            for event in snapshot.events {
                let (cube, kind) = match event {
                    Event::Joined(info) => {
                        assert!(self.kinds.insert(info.cube, info.kind).is_none());
                        assert!(self.believed.insert(info.cube, info.motion).is_none());
                        continue;
                    }
                    Event::Left { cube } => {
                        assert!(self.kinds.remove(&cube).is_some());
                        assert!(self.believed.remove(cube).is_some());
                        continue;
                    }
                    Event::Taken { cube, by } => (cube, CubeKind::Free { holder: Some(by) }),
                    Event::Freed { cube } => (cube, CubeKind::Free { holder: None }),
                    Event::Ghost { cube } => (cube, CubeKind::Ghost),
                    Event::Returned { cube } => (cube, CubeKind::Player),
                };
                *self.kinds.get_mut(&cube).unwrap() = kind;
            }
            if !snapshot.surprises.is_empty() {
                self.believed
                    .decode_tick(&snapshot.surprises, |_| {})
                    .unwrap();
            }
        }

        fn pose(&self, cube: CubeId) -> Pose {
            self.believed.pose(cube).unwrap()
        }
    }

    /// Within the codec's bound along each axis.
    fn is_near(a: Pose, b: Pose) -> bool {
        let (a, b) = (a.position, b.position);
        [a.x.abs_diff(b.x), a.y.abs_diff(b.y), a.z.abs_diff(b.z)]
            .iter()
            .all(|&apart| apart <= Codec::LIVE.position_bound as u32)
    }

    #[test]
    fn a_tick_tells_what_surprises_and_only_that() {
        let mut world = world();
        let mut viewer = Viewer::new(world.keyframe());
        let anna = join(&mut world, "Anna");
        let snapshot = world.tick(1).unwrap();
        assert!(matches!(&snapshot.events[..], [Event::Joined(info)] if info.cube == anna));
        assert!(
            snapshot.surprises.is_empty(),
            "a join says where the cube is"
        );
        viewer.hear(snapshot);
        assert_eq!(world.tick(2), None);

        let target = step(&mut world, anna, anna, 50);
        let snapshot = world.tick(3).unwrap();
        assert!(snapshot.events.is_empty() && !snapshot.surprises.is_empty());
        viewer.hear(snapshot);
        assert_eq!(viewer.pose(anna), target);
    }

    #[test]
    fn a_straight_run_costs_nothing_once_it_is_believed_and_rests_for_ever_after() {
        let mut world = world();
        let anna = join(&mut world, "Anna");
        world.tick(1);
        let mut viewer = Viewer::new(world.keyframe());
        let mut frames = 0;
        for tick in 2..102 {
            step(&mut world, anna, anna, 100);
            if let Some(snapshot) = world.tick(tick) {
                frames += 1;
                viewer.hear(snapshot);
            }
            viewer.believed.advance((tick - viewer.tick) as u32);
            viewer.tick = tick;
            assert!(
                is_near(viewer.pose(anna), pose(&world, anna)),
                "tick {tick}"
            );
        }
        assert!(frames < 20, "{frames} of 100 ticks told something");
        step(&mut world, anna, anna, 0);
        for tick in 102..200 {
            if let Some(snapshot) = world.tick(tick) {
                viewer.hear(snapshot);
                assert!(tick < 140, "tick {tick} still tells of a cube that stands");
            }
        }
        assert!(is_near(viewer.pose(anna), pose(&world, anna)));
    }

    #[test]
    fn a_sample_counts_at_its_own_tick_whenever_it_came_before() {
        let mut world = world();
        let anna = join(&mut world, "Anna");
        world.tick(1);
        let start = pose(&world, anna);
        for tick in 2..=5 {
            let sample = moved(&world, anna, 10 * tick as i32);
            world.sample(anna, tick, vec![sample]);
        }
        for tick in 2..=5 {
            world.tick(tick);
            let x = start.position.x + 10 * tick as i32;
            assert_eq!(pose(&world, anna).position.x, x, "tick {tick}");
        }
        let counts = world.take_sample_counts();
        assert_eq!((counts.on_time, counts.early, counts.late), (1, 3, 0));

        let sample = moved(&world, anna, 10);
        world.sample(anna, 5, vec![sample]);
        world.tick(6);
        assert_eq!(
            pose(&world, anna).position.x,
            start.position.x + 50,
            "a repeated tick"
        );
        world.tick(8);
        let late = moved(&world, anna, 10);
        world.sample(anna, 7, vec![late]);
        assert_eq!(
            (world.late_samples(anna), world.take_sample_counts().late),
            (1, 1)
        );
        world.tick(9);
        assert_eq!(pose(&world, anna), late.pose);
        // A tick beyond any clock is bounded, and so is what waits.
        world.sample(anna, u64::MAX, vec![late]);
        world.sample(anna, u64::MAX, vec![late]);
        assert_eq!(world.players[&anna].pending.len(), 1);
    }

    #[test]
    fn a_missing_sample_costs_nothing_and_a_moving_cube_goes_on() {
        let mut world = world();
        let anna = join(&mut world, "Anna");
        world.tick(1);
        for tick in 2..40 {
            step(&mut world, anna, anna, 100);
            world.tick(tick);
        }
        let mut viewer = Viewer::new(world.keyframe());
        let before = viewer.pose(anna).position.x;
        world.take_sample_counts();
        assert_eq!(world.tick(40), None);
        viewer.believed.advance(1);
        assert!((viewer.pose(anna).position.x - before - 100).abs() <= 4);
        assert_eq!(world.take_sample_counts().missing, 1);
    }

    #[test]
    fn equal_names_get_numbers_and_ids_are_never_used_again() {
        let mut world = world();
        let first = join(&mut world, "Anna");
        let second = join(&mut world, "Anna");
        let third = join(&mut world, "Anna");
        assert_eq!(world.cube(second).unwrap().name, "Anna-2");
        assert_eq!(world.cube(third).unwrap().name, "Anna-3");
        world.leave(first);
        let fourth = join(&mut world, "Anna");
        assert_eq!(world.cube(fourth).unwrap().name, "Anna");
        assert_eq!([first, second, third, fourth].map(|id| id.0), [1, 2, 3, 4]);
    }

    #[test]
    fn the_first_to_take_the_free_cube_holds_it_until_release() {
        let mut world = world();
        let (anna, boris) = (join(&mut world, "Anna"), join(&mut world, "Boris"));
        world.tick(1);
        assert_eq!(world.take(anna, FREE), Ok(()));
        assert_eq!(world.take(boris, FREE), Err(Refusal { holder: Some(anna) }));
        assert_eq!(world.take(anna, FREE), Ok(()));
        world.release(boris, FREE);
        // The last place that was said before letting go counts, though its tick is to come.
        let dropped = step(&mut world, anna, FREE, 30);
        world.release(anna, FREE);
        assert_eq!(pose(&world, FREE), dropped);
        assert_eq!(world.take(boris, FREE), Ok(()));
        let events = world.tick(2).unwrap().events;
        let taken = |by| Event::Taken { cube: FREE, by };
        assert_eq!(
            events,
            [taken(anna), Event::Freed { cube: FREE }, taken(boris)]
        );
        assert_eq!(world.take(boris, anna), Err(Refusal { holder: None }));
        assert_eq!(world.take(boris, CubeId(99)), Err(Refusal { holder: None }));
    }

    #[test]
    fn the_free_cube_stays_where_its_leaving_holder_put_it() {
        let mut world = world();
        let anna = join(&mut world, "Anna");
        world.take(anna, FREE).unwrap();
        let put = step(&mut world, anna, FREE, 700);
        world.tick(1);
        world.leave(anna);
        let events = world.tick(2).unwrap().events;
        assert_eq!(
            events,
            [Event::Freed { cube: FREE }, Event::Left { cube: anna }]
        );
        let free = world.cube(FREE).unwrap();
        assert_eq!(
            (free.kind, free.pose),
            (CubeKind::Free { holder: None }, put)
        );
    }

    #[test]
    fn a_ghost_keeps_its_place_and_holds_nothing_until_its_player_is_back() {
        let mut world = world();
        let (anna, boris) = (join(&mut world, "Anna"), join(&mut world, "Boris"));
        world.take(anna, FREE).unwrap();
        world.tick(1);
        let place = pose(&world, anna);
        world.ghost(anna);
        world.ghost(anna);
        let events = world.tick(2).unwrap().events;
        assert_eq!(
            events,
            [Event::Freed { cube: FREE }, Event::Ghost { cube: anna }]
        );
        assert_eq!(world.cube(anna).unwrap().kind, CubeKind::Ghost);
        step(&mut world, anna, anna, 1);
        world.tick(3);
        assert_eq!(pose(&world, anna), place);

        assert!(world.resume(anna, SpeedRule::TopSpeed));
        assert!(!world.resume(anna, SpeedRule::TopSpeed));
        assert!(!world.resume(boris, SpeedRule::TopSpeed));
        assert_eq!(
            world.tick(4).unwrap().events,
            [Event::Returned { cube: anna }]
        );
        let info = world.cube(anna).unwrap();
        assert_eq!((info.kind, info.pose), (CubeKind::Player, place));
    }

    #[test]
    fn nobody_moves_a_cube_that_is_not_theirs() {
        let mut world = world();
        let (anna, boris) = (join(&mut world, "Anna"), join(&mut world, "Boris"));
        world.tick(1);
        for (tick, cube) in [(2, boris), (3, FREE)] {
            let pose = pose(&world, cube);
            step(&mut world, anna, cube, 100);
            assert_eq!(world.tick(tick), None);
            assert_eq!(world.corrections(), [(anna, CubePose { cube, pose })]);
        }
        let unknown = CubePose {
            cube: CubeId(99),
            pose: Pose::default(),
        };
        world.sample(anna, 4, vec![unknown]);
        world.tick(4);
        assert_eq!(world.corrections(), []);
    }

    #[test]
    fn positions_outside_the_world_are_corrected() {
        let mut world = World::new(30, None);
        let anna = join(&mut world, "Anna");
        world.tick(1);
        let truth = moved(&world, anna, 0);
        let outside = [i32::MAX, 131_073, -131_073, i32::MIN].map(|x| {
            let mut sample = truth;
            sample.pose.position.x = x;
            sample
        });
        world.sample(anna, 2, outside.to_vec());
        world.tick(2);
        assert_eq!(
            world.corrections(),
            [(anna, truth)],
            "once for all wrong samples of a tick"
        );
        assert_eq!(world.corrections(), []);
    }

    #[test]
    fn too_fast_a_move_is_corrected() {
        let mut world = world();
        let anna = join(&mut world, "Anna");
        world.tick(1);
        let near = step(&mut world, anna, anna, 40 * 512);
        world.tick(2);
        assert_eq!(world.corrections(), []);
        step(&mut world, anna, anna, 5_000);
        world.tick(3);
        assert_eq!(
            world.corrections(),
            [(
                anna,
                CubePose {
                    cube: anna,
                    pose: near
                }
            )]
        );
    }

    #[test]
    fn typed_coordinates_may_jump_and_count_in_order() {
        let mut world = world();
        let typist = world.join("nc", COLOUR, SpeedRule::Unlimited).unwrap();
        world.take(typist, FREE).unwrap();
        world.tick(1);
        let mut viewer = Viewer::new(world.keyframe());
        for cube in [typist, FREE] {
            for x in [100_000, 50_000] {
                let far = moved(&world, cube, x);
                world.sample(typist, 0, vec![far]);
            }
        }
        let start = pose(&world, typist).position.x;
        viewer.hear(world.tick(2).unwrap());
        assert_eq!(world.corrections(), []);
        assert_eq!(pose(&world, typist).position.x, start + 50_000);
        for cube in [typist, FREE] {
            assert!(is_near(viewer.pose(cube), pose(&world, cube)));
        }
    }

    #[test]
    fn a_full_room_refuses() {
        let mut world = world();
        for number in 1..MAX_CUBES_PER_ROOM {
            join(&mut world, &format!("p{number}"));
        }
        assert_eq!(
            world.join("late", COLOUR, SpeedRule::TopSpeed),
            Err(RoomFull)
        );
    }

    #[test]
    fn snapshots_on_top_of_any_keyframe_give_the_world() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut world = World::new(30, None);
        world.tick(0);
        let mut viewers = vec![Viewer::new(world.keyframe())];
        let mut players = Vec::new();
        for tick in 1..2_000 {
            for _ in 0..random.u8(0..4) {
                let player = random.choice(&players).copied();
                match (random.u8(0..10), player) {
                    (0, _) | (_, None) => players.push(join(&mut world, "someone")),
                    (1, Some(player)) => {
                        world.leave(player);
                        players.retain(|&other| other != player);
                    }
                    (2, Some(player)) => drop(world.take(player, FREE)),
                    (3, Some(player)) => world.release(player, FREE),
                    (9, Some(player)) => {
                        if !world.resume(player, SpeedRule::TopSpeed) {
                            world.ghost(player);
                        }
                    }
                    (roll, Some(player)) => {
                        let cube = if roll < 6 { FREE } else { player };
                        let sample = moved(&world, cube, random.i32(-90..90));
                        let when = tick + random.u64(0..4) - 1;
                        world.sample(player, when, vec![sample]);
                    }
                }
            }
            if let Some(snapshot) = world.tick(tick) {
                for viewer in &mut viewers {
                    viewer.hear(snapshot.clone());
                    assert_eq!(viewer.believed, world.believed, "tick {tick}");
                    let truth = world.cubes().map(|cube| (cube.cube, cube.kind));
                    assert!(viewer.kinds.iter().map(|(&id, &kind)| (id, kind)).eq(truth));
                }
            }
            if tick % 500 == 0 {
                viewers.push(Viewer::new(world.keyframe()));
            }
        }
        assert!(players.len() > 10);
        // Once nothing moves any more, everybody sees everything where it is.
        for tick in 2_000..2_100 {
            if let Some(snapshot) = world.tick(tick) {
                viewers
                    .iter_mut()
                    .for_each(|viewer| viewer.hear(snapshot.clone()));
            }
        }
        for cube in world.cubes() {
            for viewer in &viewers {
                assert!(is_near(viewer.pose(cube.cube), cube.pose), "{cube:?}");
            }
        }
    }
}
