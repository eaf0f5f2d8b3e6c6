//! A room's truth: which cubes there are, where, and who may move them.
//!
//! Pure: no sockets, no clock. Time is the tick number. What happens between two ticks is
//! collected and leaves as one [`Snapshot`].

use std::collections::BTreeMap;

use cubesync_protocol::limits::MAX_CUBES_PER_ROOM;
use cubesync_protocol::{
    Colour, CubeId, CubeInfo, CubeKind, CubePose, Event, Keyframe, Pose, Position, Rotation,
    Snapshot,
};

/// Where the free cube waits at first: on the floor at the origin.
const FREE_CUBE_METRES: [f32; 3] = [0.0, 0.0, 0.5];
const FREE_CUBE_NAME: &str = "cube";
const FREE_CUBE_COLOUR: Colour = Colour {
    red: 0xF2,
    green: 0xB1,
    blue: 0x34,
};

/// A cube may cover at once what its top speed covers in this time: a connection that stalled
/// delivers several samples together.
const SPEED_BURST_SECONDS: u64 = 1;

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
    /// At most the room's top speed.
    TopSpeed,
    /// Anywhere at once: for people who type coordinates.
    Unlimited,
}

/// All cubes of a room, and what has changed since the last tick.
#[derive(Debug)]
pub struct World {
    tick_hz: u64,
    /// Quanta per second; `None`: unlimited.
    top_speed: Option<u64>,
    tick: u64,
    next_id: u32,
    cubes: BTreeMap<CubeId, Cube>,
    events: Vec<Event>,
    /// Who must be told where which cube really is.
    corrections: Vec<(CubeId, CubeId)>,
}

#[derive(Debug)]
struct Cube {
    info: CubeInfo,
    rule: SpeedRule,
    moved: bool,
    budget: SpeedBudget,
}

/// How far a cube may go now: grows with time at top speed up to the burst.
/// In units of 1/tick rate of a quantum, so that a tick's share is a whole number.
#[derive(Debug, Clone, Copy)]
struct SpeedBudget {
    left: u64,
    tick: u64,
}

impl World {
    /// A world with nothing but the free cube. `top_speed` is in quanta per second, `None` is
    /// unlimited.
    pub fn new(tick_hz: u8, top_speed: Option<u32>) -> Self {
        let mut world = Self {
            tick_hz: tick_hz.into(),
            top_speed: top_speed.map(u64::from),
            tick: 0,
            next_id: 0,
            cubes: BTreeMap::new(),
            events: Vec::new(),
            corrections: Vec::new(),
        };
        let position = Position::from_metres(FREE_CUBE_METRES);
        let kind = CubeKind::Free { holder: None };
        let free = CubeInfo {
            cube: world.new_id(),
            kind,
            name: FREE_CUBE_NAME.into(),
            colour: FREE_CUBE_COLOUR,
            pose: Pose {
                position,
                rotation: Rotation::IDENTITY,
            },
        };
        world.insert(free, SpeedRule::TopSpeed);
        world
    }

    /// Cubes in the room, the free one included.
    pub fn cube_count(&self) -> usize {
        self.cubes.len()
    }

    /// What is known about a cube.
    pub fn cube(&self, cube: CubeId) -> Option<&CubeInfo> {
        self.cubes.get(&cube).map(|cube| &cube.info)
    }

    /// Every cube by rising id.
    pub fn cubes(&self) -> impl Iterator<Item = &CubeInfo> {
        self.cubes.values().map(|cube| &cube.info)
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
        let cube = self.new_id();
        let pose = Pose {
            position: spawn_position(cube),
            rotation: Rotation::IDENTITY,
        };
        let name = self.unused_name(name);
        let info = CubeInfo {
            cube,
            kind: CubeKind::Player,
            name,
            colour,
            pose,
        };
        self.events.push(Event::Joined(info.clone()));
        self.insert(info, rule);
        Ok(cube)
    }

    /// A player leaves: what they hold is freed where it is, their own cube goes.
    pub fn leave(&mut self, player: CubeId) {
        if self.cubes.remove(&player).is_some() {
            self.free_all_of(player);
            self.events.push(Event::Left { cube: player });
        }
    }

    /// A player's connection is lost: what they hold is freed, their own cube stays as a ghost.
    pub fn ghost(&mut self, player: CubeId) {
        if let Some(cube) = self.cubes.get_mut(&player)
            && cube.info.kind == CubeKind::Player
        {
            cube.info.kind = CubeKind::Ghost;
            self.free_all_of(player);
            self.events.push(Event::Ghost { cube: player });
        }
    }

    /// The player of a ghost is back; false when there is no such ghost.
    pub fn resume(&mut self, player: CubeId, rule: SpeedRule) -> bool {
        let ghost = self
            .cubes
            .get_mut(&player)
            .filter(|cube| cube.info.kind == CubeKind::Ghost);
        let Some(cube) = ghost else {
            return false;
        };
        cube.info.kind = CubeKind::Player;
        cube.rule = rule;
        self.events.push(Event::Returned { cube: player });
        true
    }

    /// A player says where one of their cubes is. A pose that the rules do not allow changes
    /// nothing, and the player is told the true one ([`corrections`](Self::corrections)).
    pub fn sample(&mut self, player: CubeId, sample: CubePose) {
        let (tick, tick_hz, top_speed) = (self.tick, self.tick_hz, self.top_speed);
        let Some(cube) = self.cubes.get_mut(&sample.cube) else {
            // It has left while the sample was on its way.
            return;
        };
        let top_speed = top_speed.filter(|_| cube.rule == SpeedRule::TopSpeed);
        let distance = cube.info.pose.position.distance(sample.pose.position);
        let allowed = may_move(&cube.info, player)
            && sample.pose.position.is_in_bounds()
            && top_speed.is_none_or(|top_speed| {
                cube.budget
                    .spend(distance * tick_hz, top_speed, tick, tick_hz)
            });
        if !allowed {
            let correction = (player, sample.cube);
            if !self.corrections.contains(&correction) {
                self.corrections.push(correction);
            }
        } else if cube.info.pose != sample.pose {
            cube.info.pose = sample.pose;
            cube.moved = true;
        }
    }

    /// A player takes a free cube. Taking what one already holds succeeds and changes nothing.
    ///
    /// # Errors
    /// [`Refusal`] when someone else was first or there is no such free cube.
    pub fn take(&mut self, player: CubeId, cube: CubeId) -> Result<(), Refusal> {
        let rule = self
            .cubes
            .get(&player)
            .map(|own| own.rule)
            .ok_or(Refusal { holder: None })?;
        let taken = self.cubes.get_mut(&cube).ok_or(Refusal { holder: None })?;
        match taken.info.kind {
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
                taken.info.kind = CubeKind::Free {
                    holder: Some(player),
                };
                taken.rule = rule;
                self.events.push(Event::Taken { cube, by: player });
                Ok(())
            }
        }
    }

    /// A player lets go of a cube; nothing happens when they do not hold it.
    pub fn release(&mut self, player: CubeId, cube: CubeId) {
        if let Some(held) = self.cubes.get_mut(&cube)
            && held.info.kind
                == (CubeKind::Free {
                    holder: Some(player),
                })
        {
            held.info.kind = CubeKind::Free { holder: None };
            self.events.push(Event::Freed { cube });
        }
    }

    /// Ends a tick: what changed since the last one, `None` when nothing did. Tick numbers
    /// rise, and may leave some out.
    pub fn tick(&mut self, tick: u64) -> Option<Snapshot> {
        self.tick = tick;
        let events = std::mem::take(&mut self.events);
        let mut cubes = Vec::new();
        for cube in self.cubes.values_mut() {
            if std::mem::take(&mut cube.moved) {
                cubes.push(CubePose {
                    cube: cube.info.cube,
                    pose: cube.info.pose,
                });
            }
        }
        (!events.is_empty() || !cubes.is_empty()).then_some(Snapshot {
            tick,
            events,
            cubes,
        })
    }

    /// Everything, as it was at the last [`tick`](Self::tick). Right after a tick only: later
    /// changes would come a second time with the next snapshot.
    pub fn keyframe(&self) -> Keyframe {
        debug_assert!(
            self.events.is_empty(),
            "a keyframe belongs right after a tick"
        );
        Keyframe {
            tick: self.tick,
            cubes: self.cubes().cloned().collect(),
        }
    }

    /// Takes the corrections since the last call: a player, and the true pose of a cube.
    pub fn corrections(&mut self) -> Vec<(CubeId, CubePose)> {
        let corrections = std::mem::take(&mut self.corrections);
        let truth = |(player, cube): (CubeId, CubeId)| {
            let pose = self.cubes.get(&cube)?.info.pose;
            Some((player, CubePose { cube, pose }))
        };
        corrections.into_iter().filter_map(truth).collect()
    }

    fn free_all_of(&mut self, player: CubeId) {
        for cube in self.cubes.values_mut() {
            if cube.info.kind
                == (CubeKind::Free {
                    holder: Some(player),
                })
            {
                cube.info.kind = CubeKind::Free { holder: None };
                self.events.push(Event::Freed {
                    cube: cube.info.cube,
                });
            }
        }
        self.corrections.retain(|&(to, _)| to != player);
    }

    fn insert(&mut self, info: CubeInfo, rule: SpeedRule) {
        let left = self.top_speed.unwrap_or(0) * SPEED_BURST_SECONDS * self.tick_hz;
        let budget = SpeedBudget {
            left,
            tick: self.tick,
        };
        self.cubes.insert(
            info.cube,
            Cube {
                info,
                rule,
                moved: false,
                budget,
            },
        );
    }

    fn new_id(&mut self) -> CubeId {
        let id = CubeId(self.next_id);
        self.next_id += 1;
        id
    }

    fn unused_name(&self, name: &str) -> String {
        let in_use = |name: &str| self.cubes().any(|cube| cube.name == name);
        if !in_use(name) {
            return name.into();
        }
        (2..)
            .map(|number| format!("{name}-{number}"))
            .find(|name| !in_use(name))
            .expect("there are more numbers than cubes")
    }
}

impl SpeedBudget {
    /// Takes `distance` (quanta x tick rate) out of the budget, if it is there.
    fn spend(&mut self, distance: u64, top_speed: u64, tick: u64, tick_hz: u64) -> bool {
        let burst = top_speed * SPEED_BURST_SECONDS * tick_hz;
        let grown = (tick - self.tick).saturating_mul(top_speed);
        self.left = self.left.saturating_add(grown).min(burst);
        self.tick = tick;
        match self.left.checked_sub(distance) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

fn may_move(info: &CubeInfo, player: CubeId) -> bool {
    match info.kind {
        CubeKind::Player => info.cube == player,
        CubeKind::Free { holder } => holder == Some(player),
        CubeKind::Ghost => false,
    }
}

fn spawn_position(cube: CubeId) -> Position {
    let place = (cube.0 % SPAWN_PLACES) as f32;
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

    fn move_by(world: &World, cube: CubeId, x: i32) -> CubePose {
        let mut pose = world.cube(cube).unwrap().pose;
        pose.position.x += x;
        CubePose { cube, pose }
    }

    #[test]
    fn a_tick_tells_what_changed_and_only_that() {
        let mut world = world();
        let anna = join(&mut world, "Anna");
        let snapshot = world.tick(1).unwrap();
        let info = world.cube(anna).unwrap().clone();
        assert_eq!(snapshot.events, [Event::Joined(info)]);
        assert_eq!(world.tick(2), None);

        let moved = move_by(&world, anna, 5);
        world.sample(anna, moved);
        let snapshot = world.tick(3).unwrap();
        assert_eq!(
            snapshot,
            Snapshot {
                tick: 3,
                events: vec![],
                cubes: vec![moved]
            }
        );
        world.sample(anna, moved);
        assert_eq!(world.tick(4), None, "the same pose again is no change");
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
        world.release(anna, FREE);
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
        let moved = move_by(&world, FREE, 700);
        world.sample(anna, moved);
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
            (CubeKind::Free { holder: None }, moved.pose)
        );
    }

    #[test]
    fn a_ghost_keeps_its_place_and_holds_nothing_until_its_player_is_back() {
        let mut world = world();
        let anna = join(&mut world, "Anna");
        let boris = join(&mut world, "Boris");
        world.take(anna, FREE).unwrap();
        world.tick(1);
        let pose = world.cube(anna).unwrap().pose;
        world.ghost(anna);
        world.ghost(anna);
        let events = world.tick(2).unwrap().events;
        assert_eq!(
            events,
            [Event::Freed { cube: FREE }, Event::Ghost { cube: anna }]
        );
        assert_eq!(world.cube(anna).unwrap().kind, CubeKind::Ghost);
        let sample = move_by(&world, anna, 1);
        world.sample(anna, sample);
        assert_eq!(world.corrections().len(), 1);

        assert!(world.resume(anna, SpeedRule::TopSpeed));
        assert!(
            !world.resume(anna, SpeedRule::TopSpeed) && !world.resume(boris, SpeedRule::TopSpeed)
        );
        assert_eq!(
            world.tick(3).unwrap().events,
            [Event::Returned { cube: anna }]
        );
        let info = world.cube(anna).unwrap();
        assert_eq!((info.kind, info.pose), (CubeKind::Player, pose));
    }

    #[test]
    fn nobody_moves_a_cube_that_is_not_theirs() {
        let mut world = world();
        let (anna, boris) = (join(&mut world, "Anna"), join(&mut world, "Boris"));
        world.tick(1);
        for cube in [boris, FREE] {
            let before = world.cube(cube).unwrap().pose;
            let sample = move_by(&world, cube, 1);
            world.sample(anna, sample);
            assert_eq!(
                world.corrections(),
                [(anna, CubePose { cube, pose: before })]
            );
        }
        assert_eq!(world.tick(2), None);
        let unknown = CubePose {
            cube: CubeId(99),
            pose: Pose::default(),
        };
        world.sample(anna, unknown);
        assert_eq!(world.corrections(), []);
    }

    #[test]
    fn positions_outside_the_world_are_corrected() {
        let mut world = World::new(30, None);
        let anna = join(&mut world, "Anna");
        world.tick(1);
        let truth = move_by(&world, anna, 0);
        for x in [i32::MAX, 131_073, -131_073, i32::MIN] {
            let mut sample = truth;
            sample.pose.position.x = x;
            world.sample(anna, sample);
        }
        assert_eq!(world.corrections(), [(anna, truth)]);
        assert_eq!(
            world.corrections(),
            [],
            "once for all wrong samples of a tick"
        );
    }

    #[test]
    fn top_speed_holds_over_time_and_leaves_room_for_a_stall() {
        let mut world = world();
        let anna = join(&mut world, "Anna");
        // A stalled connection delivers a second's way at once, but not more.
        let step = move_by(&world, anna, 40 * 512);
        world.sample(anna, step);
        assert_eq!(world.corrections(), []);
        let step = move_by(&world, anna, -512);
        world.sample(anna, step);
        assert_eq!(world.corrections().len(), 1);
        // From then on a tick allows a thirtieth of it.
        for tick in 1..=30 {
            world.tick(tick);
            let step = move_by(&world, anna, -(40 * 512 / 30));
            world.sample(anna, step);
            assert_eq!(world.corrections(), [], "tick {tick}");
        }
        let step = move_by(&world, anna, -512);
        world.sample(anna, step);
        assert_eq!(world.corrections().len(), 1);
    }

    #[test]
    fn typed_coordinates_may_jump() {
        let mut world = world();
        let typist = world.join("nc", COLOUR, SpeedRule::Unlimited).unwrap();
        world.take(typist, FREE).unwrap();
        for cube in [typist, FREE] {
            let far = move_by(&world, cube, 100_000);
            world.sample(typist, far);
        }
        assert_eq!(world.corrections(), []);
        assert_eq!(world.tick(1).unwrap().cubes.len(), 2);
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
    fn snapshots_on_top_of_a_keyframe_give_the_world() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut world = World::new(30, None);
        world.tick(0);
        let mut view: BTreeMap<CubeId, CubeInfo> = BTreeMap::new();
        view.extend(
            world
                .keyframe()
                .cubes
                .into_iter()
                .map(|info| (info.cube, info)),
        );
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
                        let sample = move_by(&world, cube, random.i32(-9..9));
                        world.sample(player, sample);
                    }
                }
            }
            let Some(snapshot) = world.tick(tick) else {
                continue;
            };
            for event in snapshot.events {
                match event {
                    Event::Joined(info) => assert!(view.insert(info.cube, info).is_none()),
                    Event::Left { cube } => assert!(view.remove(&cube).is_some()),
                    Event::Taken { cube, by } => {
                        assert!(view.contains_key(&by));
                        view.get_mut(&cube).unwrap().kind = CubeKind::Free { holder: Some(by) };
                    }
                    Event::Freed { cube } => {
                        view.get_mut(&cube).unwrap().kind = CubeKind::Free { holder: None };
                    }
                    Event::Ghost { cube } => view.get_mut(&cube).unwrap().kind = CubeKind::Ghost,
                    Event::Returned { cube } => {
                        view.get_mut(&cube).unwrap().kind = CubeKind::Player;
                    }
                }
            }
            for CubePose { cube, pose } in snapshot.cubes {
                view.get_mut(&cube).unwrap().pose = pose;
            }
            assert!(view.values().eq(world.cubes()), "tick {tick}");
        }
        assert!(players.len() > 10);
    }
}
