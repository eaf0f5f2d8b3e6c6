//! A room's truth: which cubes there are, where, and who may move them.
//!
//! Pure: no sockets, no clock. Time is the tick number. What happens between two ticks is
//! collected and leaves as the tick's [`Changes`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cubesync_protocol::limits::MAX_CUBES_PER_ROOM;
use cubesync_protocol::motion::{Codec, MotionState};
use cubesync_protocol::uplink::{
    Arrival, SampleError, TimedStates, UplinkReceiver, grace_ticks, heartbeat_ticks,
};
use cubesync_protocol::{
    Colour, CubeId, CubeInfo, CubeKind, CubePose, Event, Pose, Position, Rotation,
};

use super::speed::{SpeedBudget, SpeedRule, TopSpeed};
use super::track::Track;

/// The cube that nobody has from the beginning.
pub const FREE_CUBE: CubeId = CubeId(0);

/// Where the free cube waits at first: on the floor at the origin.
const FREE_CUBE_METRES: [f32; 3] = [0.0, 0.0, 0.5];
const FREE_CUBE_NAME: &str = "cube";
const FREE_CUBE_COLOUR: Colour = Colour {
    red: 0xF2,
    green: 0xB1,
    blue: 0x34,
};

/// Players start on a spiral around the free cube; after this many the places repeat.
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
    /// Who holds it; `None` when it is no free cube, or when its home elsewhere decides.
    pub holder: Option<CubeId>,
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
    /// Ticks at which nothing had been heard about a moving cube for longer than a heartbeat.
    pub missing: u64,
    /// Corrections because a cube went faster than the top speed.
    pub too_fast: u64,
    /// Corrections because a cube was somebody else's.
    pub not_theirs: u64,
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
    /// Where it is, as of the last tick.
    pub pose: Pose,
}

/// What happened up to the end of a tick since the one before.
#[derive(Debug, Default)]
pub struct Changes {
    /// Joins, leaves and changes of authority in the order in which they happened.
    pub events: Vec<Event>,
    /// The cubes that may be elsewhere than they were.
    pub touched: Vec<CubeId>,
    /// The same events as who only knows the cubes that are at home here sees them: one that
    /// comes to be at home here enters, one that ceases to be exits.
    pub home_events: Vec<Event>,
}

/// How a cube from elsewhere comes into the world, or goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It came into the room, or left it.
    Room,
    /// It came into sight, or went out of it.
    Sight,
}

/// All cubes of a room, and what has changed since the last tick.
#[derive(Debug)]
pub struct World {
    tick_hz: u64,
    /// `None`: unlimited.
    top_speed: Option<TopSpeed>,
    tick: u64,
    ids: Ids,
    /// How many cubes have come, wherever they are at home.
    arrivals: u64,
    cubes: BTreeMap<CubeId, Tracked>,
    players: BTreeMap<CubeId, Player>,
    /// Players with samples that wait for their tick.
    waiting: BTreeSet<CubeId>,
    /// Cubes that move, or that something has happened to since the last tick: those that are at home
    /// here, and the others.
    awake: BTreeSet<CubeId>,
    awake_elsewhere: BTreeSet<CubeId>,
    events: Vec<Event>,
    home_events: Vec<Event>,
    /// Who must be told where which cube really is.
    corrections: Vec<(CubeId, CubeId)>,
    counts: SampleCounts,
}

#[derive(Debug)]
struct Tracked {
    /// Whether this room is the authority over who may move it. If it is elsewhere, the room
    /// only hears of it.
    is_home: bool,
    kind: CubeKind,
    name: String,
    colour: Colour,
    rule: SpeedRule,
    /// Where the cube is as of the last tick, within all rules.
    pose: Pose,
    /// Where its authority says that it is.
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
    /// A world with nothing but the free cube. `top_speed` is in quanta per second, `None` is
    /// unlimited. Players' cubes are numbered by `ids`.
    pub fn new(tick_hz: u8, top_speed: Option<u32>, ids: Ids) -> Self {
        let tick_hz = u64::from(tick_hz);
        let top_speed = top_speed.map(|quanta| TopSpeed {
            quanta_per_second: quanta.into(),
            tick_hz,
        });
        let mut world = Self {
            tick_hz,
            top_speed,
            tick: 0,
            ids,
            arrivals: 0,
            cubes: BTreeMap::new(),
            players: BTreeMap::new(),
            waiting: BTreeSet::new(),
            awake: BTreeSet::new(),
            awake_elsewhere: BTreeSet::new(),
            events: Vec::new(),
            home_events: Vec::new(),
            corrections: Vec::new(),
            counts: SampleCounts::default(),
        };
        world.insert_free_cube(None, Manner::Room);
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

    /// The cubes that are at home on this server, by rising id.
    pub fn at_home(&self) -> impl Iterator<Item = CubeId> {
        let here = self.cubes.iter().filter(|(_, cube)| cube.is_home);
        here.map(|(&cube, _)| cube)
    }

    /// What is written above a cube.
    pub fn name(&self, cube: CubeId) -> Option<&str> {
        self.cubes.get(&cube).map(|tracked| tracked.name.as_str())
    }

    /// Where a cube is, as of the last tick.
    pub fn pose(&self, cube: CubeId) -> Option<Pose> {
        self.cubes.get(&cube).map(|tracked| tracked.pose)
    }

    /// How a cube moves by the word of its player's client, as of the last tick; `None` when it
    /// is where the room has put it.
    pub fn motion(&self, cube: CubeId) -> Option<MotionState> {
        self.cubes.get(&cube)?.track.motion(self.tick)
    }

    /// Where a player looks from: their own cube, and those they hold.
    pub fn viewpoints(&self, player: CubeId) -> impl Iterator<Item = Position> {
        let held = self.players.get(&player).into_iter();
        let held = held.flat_map(|player| player.held.iter().copied());
        let cubes = std::iter::once(player).chain(held);
        cubes.filter_map(|cube| Some(self.pose(cube)?.position))
    }

    /// What everybody is to know about a cube that is believed to move like this.
    pub fn info(&self, cube: CubeId, motion: MotionState) -> Option<CubeInfo> {
        let tracked = self.cubes.get(&cube)?;
        Some(CubeInfo {
            cube,
            kind: tracked.kind,
            name: tracked.name.clone(),
            colour: tracked.colour,
            motion,
        })
    }

    /// A player comes in with a clean name, at a pose or, without one, near the free cube; returns
    /// their own cube. A name that is in use gets a number.
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
        let (name, pose) = (self.unused_name(name), self.start(pose));
        let cube = self.ids.next();
        let info = CubeInfo {
            cube,
            kind: CubeKind::Player,
            name,
            colour,
            motion: MotionState::at_rest(pose),
        };
        self.insert(info, rule, Manner::Room);
        self.players.insert(cube, Player::new(rule, self.tick_hz));
        Ok(cube)
    }

    /// A player leaves: what they hold is freed where it is, their own cube goes.
    pub fn leave(&mut self, player: CubeId) {
        if self.cubes.contains_key(&player) {
            self.free_all_of(player);
            self.happened(Event::Left { cube: player });
            self.cubes.remove(&player);
            self.awake.remove(&player);
        }
    }

    /// A player's connection is lost: what they hold is freed, their own cube stays as a ghost.
    pub fn ghost(&mut self, player: CubeId) {
        if let Some(cube) = self.cubes.get_mut(&player)
            && cube.kind == CubeKind::Player
        {
            cube.kind = CubeKind::Ghost;
            self.stand(player);
            self.free_all_of(player);
            self.happened(Event::Ghost { cube: player });
        }
    }

    /// The player of a ghost is back; false when there is no such ghost.
    pub fn resume(&mut self, player: CubeId, rule: SpeedRule) -> bool {
        let ghost = self
            .cubes
            .get_mut(&player)
            .filter(|cube| cube.kind == CubeKind::Ghost && cube.is_home);
        let Some(cube) = ghost else {
            return false;
        };
        cube.kind = CubeKind::Player;
        cube.rule = rule;
        self.players.insert(player, Player::new(rule, self.tick_hz));
        self.happened(Event::Returned { cube: player });
        true
    }

    /// A player says where their cubes are at a tick. It counts at that tick, or at the next
    /// one when it comes late. What the rules do not allow changes nothing, and the player is told
    /// the true pose ([`corrections`](Self::corrections)).
    ///
    /// # Errors
    /// [`SampleError`]: nothing that this player says can be understood any more.
    pub fn sample(
        &mut self,
        player: CubeId,
        tick: u64,
        placed: &[CubePose],
        residuals: &[u8],
    ) -> Result<(), SampleError> {
        let now = self.tick;
        let Some(known) = self.players.get_mut(&player) else {
            return Ok(());
        };
        self.waiting.insert(player);
        let uplink = &mut known.uplink;
        if known.rule == SpeedRule::Unlimited {
            uplink.place(now, tick, placed);
            return Ok(());
        }
        match uplink.sample(now, tick, placed, residuals)? {
            Arrival::OnTime => self.counts.on_time += 1,
            Arrival::Early => self.counts.early += 1,
            Arrival::Late => self.counts.late += 1,
        }
        Ok(())
    }

    /// How many samples of a player have come after their tick.
    pub fn late_samples(&self, player: CubeId) -> u32 {
        let player = self.players.get(&player);
        player.map_or(0, |player| player.uplink.late_samples())
    }

    /// Takes the counts since the last call.
    pub fn take_sample_counts(&mut self) -> SampleCounts {
        std::mem::take(&mut self.counts)
    }

    /// A player takes a free cube. Taking what one already holds succeeds and changes nothing.
    ///
    /// # Errors
    /// [`Refusal`] when someone else was first or there is no such free cube here.
    pub fn take(&mut self, player: CubeId, cube: CubeId) -> Result<(), Refusal> {
        let nobody = Refusal { holder: None };
        let taker = self.players.get_mut(&player).ok_or(nobody)?;
        let taken = self.cubes.get_mut(&cube).ok_or(nobody)?;
        let CubeKind::Free { holder } = &mut taken.kind else {
            return Err(nobody);
        };
        if !taken.is_home {
            return Err(Refusal { holder: *holder });
        }
        match *holder {
            Some(first) if first == player => Ok(()),
            Some(first) => Err(Refusal {
                holder: Some(first),
            }),
            None => {
                *holder = Some(player);
                taken.rule = taker.rule;
                taker.held.insert(cube);
                self.happened(Event::Taken { cube, by: player });
                Ok(())
            }
        }
    }

    /// A player lets go of a cube, where their last sample puts it; nothing happens when they
    /// do not hold it.
    pub fn release(&mut self, player: CubeId, cube: CubeId) {
        // What the player said before counts, though its tick may not have come.
        self.apply_samples(player, u64::MAX);
        if let Some(known) = self.players.get_mut(&player) {
            known.uplink.release(cube);
            if known.held.contains(&cube) {
                let told = self.cubes.get(&cube).map(|held| held.track.tick());
                self.follow(cube, told.unwrap_or_default().max(self.tick));
                self.free(cube);
            }
        }
    }

    /// Ends a tick of the cubes that are at home here: what changed since the last one. Tick numbers
    /// rise, and may leave some out.
    pub fn tick(&mut self, tick: u64) -> Changes {
        self.tick = tick;
        for player in std::mem::take(&mut self.waiting) {
            self.apply_samples(player, tick);
        }
        let awake = self.awake.iter().copied().collect();
        Changes {
            touched: self.follow_all(awake),
            events: std::mem::take(&mut self.events),
            home_events: std::mem::take(&mut self.home_events),
        }
    }

    /// Whether this room is the authority over a cube: false as well if it does not know it.
    pub fn is_home(&self, cube: CubeId) -> bool {
        self.cubes.get(&cube).is_some_and(|known| known.is_home)
    }

    /// A cube that is known to be at home elsewhere was like this at a tick. False if it is not
    /// known.
    pub fn steer(&mut self, cube: CubeId, kind: CubeKind, motion: MotionState, tick: u64) -> bool {
        let Some(known) = self.cubes.get_mut(&cube).filter(|known| !known.is_home) else {
            return false;
        };
        known.track = Track::told(motion, tick);
        let before = std::mem::replace(&mut known.kind, kind);
        self.kind_changed(cube, before, kind);
        self.awake_elsewhere.insert(cube);
        true
    }

    /// A cube that is not known yet and at home elsewhere was like this at a tick. `manner` is how it
    /// came. Beyond [`MAX_CUBES_PER_ROOM`] there is no place for it.
    pub fn show(&mut self, mut info: CubeInfo, tick: u64, manner: Manner) {
        if self.cubes.len() >= MAX_CUBES_PER_ROOM || self.cubes.contains_key(&info.cube) {
            return;
        }
        let track = Track::told(info.motion, tick);
        info.motion = info.motion.advanced(tick, self.tick);
        self.arrivals = self.arrivals.wrapping_add(1);
        let tracked = Tracked {
            is_home: false,
            kind: info.kind,
            name: info.name.clone(),
            colour: info.colour,
            rule: SpeedRule::TopSpeed,
            pose: info.motion.pose(&Codec::LIVE),
            track,
            budget: None,
        };
        self.cubes.insert(info.cube, tracked);
        self.awake_elsewhere.insert(info.cube);
        self.events.push(match manner {
            Manner::Room => Event::Joined(info),
            Manner::Sight => Event::Entered(info),
        });
    }

    /// A cube from elsewhere is here no more.
    pub fn hide(&mut self, cube: CubeId, manner: Manner) {
        if self.cubes.remove(&cube).is_some() {
            self.awake_elsewhere.remove(&cube);
            self.events.push(match manner {
                Manner::Room => Event::Left { cube },
                Manner::Sight => Event::Exited { cube },
            });
        }
    }

    /// A cube from elsewhere is at home here from now on, and stands.
    pub fn adopt(&mut self, cube: CubeId) {
        let budget = self.new_budget();
        let Some(known) = self.cubes.get_mut(&cube) else {
            return;
        };
        known.is_home = true;
        known.budget = budget;
        let pose = known.pose;
        self.awake_elsewhere.remove(&cube);
        self.stand(cube);
        let info = self.info(cube, MotionState::at_rest(pose));
        self.home_events.extend(info.map(Event::Entered));
    }

    /// The free cube is at home here from now on, and nobody holds it. Where it is not known to be,
    /// it is `at` a pose, or where it was at first.
    pub fn adopt_free_cube(&mut self, at: Option<Pose>) {
        let Some(known) = self.cubes.get_mut(&FREE_CUBE) else {
            return self.insert_free_cube(at, Manner::Sight);
        };
        let free = CubeKind::Free { holder: None };
        let before = std::mem::replace(&mut known.kind, free);
        self.kind_changed(FREE_CUBE, before, free);
        self.adopt(FREE_CUBE);
    }

    /// A player has come here from another server, with their cube. Nothing but its number may be
    /// known of it here; then it is as the entrance says.
    pub fn come_over(
        &mut self,
        player: CubeId,
        (name, colour): (&str, Colour),
        rule: SpeedRule,
        pose: Option<Pose>,
    ) {
        if self.cubes.contains_key(&player) {
            self.adopt(player);
            self.players.insert(player, Player::new(rule, self.tick_hz));
            if let Some(cube) = self.cubes.get_mut(&player) {
                cube.rule = rule;
                if std::mem::replace(&mut cube.kind, CubeKind::Player) == CubeKind::Ghost {
                    self.happened(Event::Returned { cube: player });
                }
            }
        } else {
            let (name, pose) = (self.unused_name(name), self.start(pose));
            let info = CubeInfo {
                cube: player,
                kind: CubeKind::Player,
                name,
                colour,
                motion: MotionState::at_rest(pose),
            };
            self.insert(info, rule, Manner::Sight);
            self.players.insert(player, Player::new(rule, self.tick_hz));
        }
    }

    /// A cube is at home elsewhere from now on. Its player is no longer here, and nobody here
    /// holds it.
    pub fn surrender(&mut self, cube: CubeId) {
        self.free_all_of(cube);
        let Some(known) = self.cubes.get_mut(&cube) else {
            return;
        };
        known.is_home = false;
        if self.awake.remove(&cube) {
            self.awake_elsewhere.insert(cube);
        }
        if let CubeKind::Free {
            holder: Some(holder),
        } = known.kind
            && let Some(holder) = self.players.get_mut(&holder)
        {
            holder.held.remove(&cube);
        }
        self.home_events.push(Event::Exited { cube });
    }

    /// Ends a tick of the cubes that are at home elsewhere, after [`tick`](Self::tick): what changed
    /// since. What others are to hear of it waits for the next tick.
    pub fn heard(&mut self) -> Changes {
        let awake = self.awake_elsewhere.iter().copied().collect();
        Changes {
            touched: self.follow_all(awake),
            events: std::mem::take(&mut self.events),
            home_events: Vec::new(),
        }
    }

    /// Moves cubes to the tick, and lets those sleep that stand now.
    fn follow_all(&mut self, awake: Vec<CubeId>) -> Vec<CubeId> {
        for &cube in &awake {
            self.follow(cube, self.tick);
        }
        for cube in &awake {
            if self.is_still(*cube) {
                self.awake.remove(cube);
                self.awake_elsewhere.remove(cube);
            }
        }
        awake
    }

    /// Takes the corrections since the last call: a player, and the true pose of a cube.
    pub fn corrections(&mut self) -> Vec<(CubeId, CubePose)> {
        let corrections = std::mem::take(&mut self.corrections);
        let truth = |(player, cube): (CubeId, CubeId)| {
            let pose = self.pose(cube)?;
            Some((player, CubePose { cube, pose }))
        };
        corrections.into_iter().filter_map(truth).collect()
    }

    /// Whether a cube is where it is at the next tick, too.
    fn is_still(&self, cube: CubeId) -> bool {
        let known = self.cubes.get(&cube);
        known.is_none_or(|cube| !cube.track.is_moving())
    }

    /// Tells what it means that a cube from elsewhere is of another kind than before.
    fn kind_changed(&mut self, cube: CubeId, before: CubeKind, now: CubeKind) {
        match (before, now) {
            (CubeKind::Player, CubeKind::Ghost) => self.events.push(Event::Ghost { cube }),
            (CubeKind::Ghost, CubeKind::Player) => self.events.push(Event::Returned { cube }),
            (CubeKind::Free { holder: before }, CubeKind::Free { holder: now })
                if before != now =>
            {
                if before.is_some() {
                    self.events.push(Event::Freed { cube });
                }
                if let Some(by) = now {
                    self.events.push(Event::Taken { cube, by });
                }
            }
            _ => {}
        }
    }

    /// Lets a player's samples count whose tick has come.
    fn apply_samples(&mut self, player: CubeId, until: u64) {
        let Some(known) = self.players.get_mut(&player) else {
            return;
        };
        let mut refused = Vec::new();
        while let Some(TimedStates { tick, states }) = known.uplink.next_due(until) {
            for (id, state) in states {
                // It may have left while the sample was on its way.
                let Some(cube) = self.cubes.get_mut(&id) else {
                    continue;
                };
                if may_move(id, cube.kind, player) {
                    cube.track = match cube.rule {
                        SpeedRule::TopSpeed => Track::told(state, tick),
                        SpeedRule::Unlimited => Track::standing(state.pose(&Codec::LIVE)),
                    };
                    self.awake.insert(id);
                } else {
                    refused.push(id);
                }
            }
        }
        if known.uplink.has_pending() {
            self.waiting.insert(player);
        }
        for cube in refused {
            self.counts.not_theirs += 1;
            self.correct(player, cube);
        }
    }

    /// Lets a cube go where its authority says that it is at a tick, as far as the rules allow.
    fn follow(&mut self, id: CubeId, tick: u64) {
        let Some(cube) = self.cubes.get_mut(&id) else {
            return;
        };
        if !cube.is_home {
            cube.pose = cube.track.pose(tick);
            return;
        }
        let authority = match cube.kind {
            CubeKind::Player => Some(id),
            CubeKind::Free { holder } => holder,
            CubeKind::Ghost => None,
        };
        let Some((authority, player)) =
            authority.and_then(|authority| Some((authority, self.players.get(&authority)?)))
        else {
            return;
        };
        if cube.track.is_moving() && cube.rule == SpeedRule::TopSpeed {
            let silent_ticks = player.uplink.silent_ticks(self.tick);
            if silent_ticks > heartbeat_ticks(self.tick_hz) {
                self.counts.missing += 1;
            }
            if silent_ticks > grace_ticks(self.tick_hz) {
                return self.stand(id);
            }
        }
        let pose = cube.track.pose(tick);
        let distance = cube.pose.position.distance(pose.position);
        let may_go = match (self.top_speed, &mut cube.budget) {
            (Some(top_speed), Some(budget)) if cube.rule == SpeedRule::TopSpeed => {
                budget.spend(distance, top_speed, self.tick)
            }
            _ => true,
        };
        if may_go {
            cube.pose = pose;
        } else {
            self.counts.too_fast += 1;
            self.stand(id);
            self.correct(authority, id);
        }
    }

    /// The cube stays where it is: nobody moves it, or not as the rules are.
    fn stand(&mut self, id: CubeId) {
        if let Some(cube) = self.cubes.get_mut(&id) {
            cube.track = Track::standing(cube.pose);
            self.awake.insert(id);
        }
    }

    fn correct(&mut self, player: CubeId, cube: CubeId) {
        if !self.corrections.contains(&(player, cube)) {
            self.corrections.push((player, cube));
        }
    }

    /// The player is not there any more.
    fn free_all_of(&mut self, player: CubeId) {
        self.corrections.retain(|&(to, _)| to != player);
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
        if let CubeKind::Free { holder } = &mut held.kind {
            let player = holder
                .take()
                .and_then(|holder| self.players.get_mut(&holder));
            if let Some(player) = player {
                player.held.remove(&cube);
            }
            self.stand(cube);
            self.happened(Event::Freed { cube });
        }
    }

    /// Keeps an event for the end of the tick.
    fn happened(&mut self, event: Event) {
        if self.is_home(event.cube()) {
            self.home_events.push(event.clone());
        }
        self.events.push(event);
    }

    /// A cube that is at home here, and stands.
    fn insert(&mut self, info: CubeInfo, rule: SpeedRule, manner: Manner) {
        self.arrivals = self.arrivals.wrapping_add(1);
        let pose = info.motion.pose(&Codec::LIVE);
        let tracked = Tracked {
            is_home: true,
            kind: info.kind,
            name: info.name.clone(),
            colour: info.colour,
            rule,
            pose,
            track: Track::standing(pose),
            budget: self.new_budget(),
        };
        self.cubes.insert(info.cube, tracked);
        self.happened(match manner {
            Manner::Room => Event::Joined(info),
            Manner::Sight => Event::Entered(info),
        });
    }

    /// Where a player begins: there, or near the free cube.
    fn start(&self, pose: Option<Pose>) -> Pose {
        let pose = pose.unwrap_or_else(|| Pose {
            position: spawn_position(self.arrivals),
            rotation: Rotation::IDENTITY,
        });
        Pose {
            position: pose.position.clamped(),
            ..pose
        }
    }

    fn insert_free_cube(&mut self, at: Option<Pose>, manner: Manner) {
        let pose = at.unwrap_or_else(|| Pose {
            position: Position::from_metres(FREE_CUBE_METRES),
            rotation: Rotation::IDENTITY,
        });
        let info = CubeInfo {
            cube: FREE_CUBE,
            kind: CubeKind::Free { holder: None },
            name: FREE_CUBE_NAME.into(),
            colour: FREE_CUBE_COLOUR,
            motion: MotionState::at_rest(pose),
        };
        self.insert(info, SpeedRule::TopSpeed, manner);
    }

    fn new_budget(&self) -> Option<SpeedBudget> {
        let top_speed = self.top_speed?;
        Some(SpeedBudget::new(top_speed, self.tick))
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

/// Numbers for players' cubes: each is given once, whoever shares them.
#[derive(Debug, Clone)]
pub struct Ids(Arc<AtomicU64>);

impl Ids {
    /// Returns the numbers 1, 2, 3 and so on.
    pub fn counted() -> Self {
        Self::after(0)
    }

    /// Returns the numbers after this one.
    pub fn after(last: u64) -> Self {
        Self(Arc::new(AtomicU64::new(last + 1)))
    }

    fn next(&self) -> CubeId {
        CubeId(self.0.fetch_add(1, Ordering::Relaxed))
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
            kind, colour, pose, ..
        } = *self;
        Cube {
            cube,
            kind,
            name: self.name.clone(),
            colour,
            pose,
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

fn spawn_position(arrivals: u64) -> Position {
    let place = (arrivals % SPAWN_PLACES) as f32;
    let radius = SPAWN_INNER_RADIUS_METRES + SPAWN_SPACING_METRES * place.sqrt();
    let (sin, cos) = (place * GOLDEN_ANGLE_RADIANS).sin_cos();
    Position::from_metres([radius * cos, radius * sin, 0.5])
}

#[cfg(test)]
mod tests {
    use super::super::testing::Teller;
    use super::*;

    const FREE: CubeId = CubeId(0);
    const COLOUR: Colour = Colour {
        red: 1,
        green: 2,
        blue: 3,
    };

    /// A world, and what its players' clients have said.
    struct Stage {
        world: World,
        tellers: BTreeMap<CubeId, Teller>,
    }

    impl Stage {
        /// 30 ticks a second, 40 m/s.
        fn new() -> Self {
            let mut world = World::new(30, Some(40 * 512), Ids::counted());
            world.tick(0);
            Self {
                world,
                tellers: BTreeMap::new(),
            }
        }

        fn join(&mut self, name: &str) -> CubeId {
            let cube = self
                .world
                .join(name, COLOUR, SpeedRule::TopSpeed, None)
                .unwrap();
            self.tellers.insert(cube, Teller::default());
            cube
        }

        fn pose(&self, cube: CubeId) -> Pose {
            self.world.pose(cube).unwrap()
        }

        /// A player says where a cube is at a tick.
        fn say(&mut self, player: CubeId, tick: u64, cube: CubeId, pose: Pose) {
            let teller = self.tellers.get_mut(&player).unwrap();
            let (placed, residuals) = teller.sample(tick, cube, pose);
            let said = self.world.sample(player, tick, &placed, &residuals);
            said.unwrap();
        }

        /// Moves a cube from where it is, by a sample of the next tick.
        fn step(&mut self, player: CubeId, cube: CubeId, x: i32) -> Pose {
            let mut pose = self.pose(cube);
            pose.position.x += x;
            self.say(player, self.world.tick + 1, cube, pose);
            pose
        }

        /// A cube runs at 100 quanta a tick, and its player says so at each.
        fn run(&mut self, player: CubeId, cube: CubeId, ticks: u32) {
            for _ in 0..ticks {
                self.step(player, cube, 100);
                self.tick();
            }
        }

        fn tick(&mut self) -> Changes {
            self.world.tick(self.world.tick + 1)
        }

        fn events(&mut self) -> Vec<Event> {
            self.tick().events
        }
    }

    #[test]
    fn a_cube_goes_on_as_its_player_said_without_another_word() {
        let mut stage = Stage::new();
        let anna = stage.join("Anna");
        stage.tick();
        stage.run(anna, anna, 8);
        let start = stage.pose(anna).position.x;
        for tick in 1..=6 {
            assert_eq!(stage.tick().touched, [anna]);
            let x = stage.pose(anna).position.x;
            assert!((x - start - 100 * tick).abs() <= 8, "{x} at {tick}");
        }
        assert_eq!(stage.world.take_sample_counts().missing, 0);
    }

    #[test]
    fn a_moving_cube_stands_after_half_a_second_of_silence_until_a_heartbeat() {
        let mut stage = Stage::new();
        let anna = stage.join("Anna");
        stage.tick();
        stage.run(anna, anna, 8);
        let said = stage.world.tick;
        while stage.tick().touched.contains(&anna) {}
        let stood = stage.pose(anna);
        assert_eq!(stage.world.tick, said + grace_ticks(30) + 2);
        // It lacked a word for longer than a heartbeat, until it stood.
        let missing = grace_ticks(30) + 1 - heartbeat_ticks(30);
        assert_eq!(stage.world.take_sample_counts().missing, missing);

        let tick = stage.world.tick + 1;
        stage.world.sample(anna, tick, &[], &[]).unwrap();
        stage.tick();
        assert!(stage.pose(anna).position.x > stood.position.x);
    }

    #[test]
    fn a_late_sample_counts_as_where_the_cube_must_be_by_now() {
        let mut stage = Stage::new();
        let anna = stage.join("Anna");
        stage.tick();
        stage.run(anna, anna, 20);
        let tick = stage.world.tick;
        let before = stage.pose(anna);
        stage.tick();
        stage.tick();
        let mut pose = before;
        pose.position.x += 160;
        stage.say(anna, tick + 1, anna, pose);
        stage.tick();
        // By now it has gone on for two more ticks.
        let x = stage.pose(anna).position.x;
        assert!(x >= pose.position.x + 2 * 100, "{x}");
        assert_eq!(stage.world.late_samples(anna), 1);
    }

    #[test]
    fn nonsense_is_an_error_and_changes_nothing() {
        let mut stage = Stage::new();
        let anna = stage.join("Anna");
        stage.tick();
        let before = stage.pose(anna);
        assert!(stage.world.sample(anna, 9, &[], &[0xFF; 9]).is_err());
        stage.tick();
        assert_eq!(stage.pose(anna), before);
        assert!(
            stage.world.sample(CubeId(99), 9, &[], &[0xFF; 9]).is_ok(),
            "nobody said it"
        );
    }

    #[test]
    fn equal_names_get_numbers_and_ids_are_never_used_again() {
        let mut stage = Stage::new();
        let [first, second, third] = [(); 3].map(|()| stage.join("Anna"));
        let name = |stage: &Stage, cube| stage.world.cube(cube).unwrap().name;
        assert_eq!(name(&stage, second), "Anna-2");
        assert_eq!(name(&stage, third), "Anna-3");
        stage.world.leave(first);
        let fourth = stage.join("Anna");
        assert_eq!(name(&stage, fourth), "Anna");
        assert_eq!([first, second, third, fourth].map(|id| id.0), [1, 2, 3, 4]);
    }

    #[test]
    fn the_first_to_take_the_free_cube_holds_it_until_release() {
        let mut stage = Stage::new();
        let (anna, boris) = (stage.join("Anna"), stage.join("Boris"));
        stage.tick();
        let world = &mut stage.world;
        assert_eq!(world.take(anna, FREE), Ok(()));
        assert_eq!(world.take(boris, FREE), Err(Refusal { holder: Some(anna) }));
        assert_eq!(world.take(anna, FREE), Ok(()));
        world.release(boris, FREE);
        // The last place that was said before letting go counts, though its tick is to come.
        let dropped = stage.step(anna, FREE, 30);
        stage.world.release(anna, FREE);
        assert_eq!(stage.pose(FREE), dropped);
        assert_eq!(stage.world.take(boris, FREE), Ok(()));
        let taken = |by| Event::Taken { cube: FREE, by };
        assert_eq!(
            stage.events(),
            [taken(anna), Event::Freed { cube: FREE }, taken(boris)]
        );
        let world = &mut stage.world;
        assert_eq!(world.take(boris, anna), Err(Refusal { holder: None }));
        assert_eq!(world.take(boris, CubeId(99)), Err(Refusal { holder: None }));
    }

    #[test]
    fn a_thrown_cube_stops_where_it_was_let_go() {
        let mut stage = Stage::new();
        let anna = stage.join("Anna");
        stage.tick();
        stage.world.take(anna, FREE).unwrap();
        stage.run(anna, FREE, 8);
        let dropped = stage.step(anna, FREE, 100);
        stage.world.release(anna, FREE);
        for _ in 0..40 {
            stage.tick();
        }
        assert!(stage.pose(FREE).position.distance(dropped.position) <= 2);
    }

    #[test]
    fn a_player_looks_from_their_cube_and_from_what_they_hold() {
        let mut stage = Stage::new();
        let anna = stage.join("Anna");
        let own = stage.pose(anna).position;
        let viewpoints = |stage: &Stage| stage.world.viewpoints(anna).collect::<Vec<_>>();
        assert_eq!(viewpoints(&stage), [own]);
        stage.world.take(anna, FREE).unwrap();
        assert_eq!(viewpoints(&stage), [own, stage.pose(FREE).position]);
        stage.world.release(anna, FREE);
        assert_eq!(viewpoints(&stage), [own]);
    }

    #[test]
    fn the_free_cube_stays_where_its_leaving_holder_put_it() {
        let mut stage = Stage::new();
        let anna = stage.join("Anna");
        stage.tick();
        stage.world.take(anna, FREE).unwrap();
        let put = stage.step(anna, FREE, 700);
        stage.tick();
        stage.world.leave(anna);
        assert_eq!(
            stage.events(),
            [Event::Freed { cube: FREE }, Event::Left { cube: anna }]
        );
        let free = stage.world.cube(FREE).unwrap();
        assert_eq!(
            (free.kind, free.pose),
            (CubeKind::Free { holder: None }, put)
        );
    }

    #[test]
    fn a_ghost_keeps_its_place_and_holds_nothing_until_its_player_is_back() {
        let mut stage = Stage::new();
        let (anna, boris) = (stage.join("Anna"), stage.join("Boris"));
        stage.world.take(anna, FREE).unwrap();
        stage.tick();
        let place = stage.pose(anna);
        stage.world.ghost(anna);
        stage.world.ghost(anna);
        assert_eq!(
            stage.events(),
            [Event::Freed { cube: FREE }, Event::Ghost { cube: anna }]
        );
        assert_eq!(stage.world.cube(anna).unwrap().kind, CubeKind::Ghost);
        stage.step(anna, anna, 1);
        stage.tick();
        assert_eq!(stage.pose(anna), place);

        assert!(stage.world.resume(anna, SpeedRule::TopSpeed));
        assert!(!stage.world.resume(anna, SpeedRule::TopSpeed));
        assert!(!stage.world.resume(boris, SpeedRule::TopSpeed));
        assert_eq!(stage.events(), [Event::Returned { cube: anna }]);
        let info = stage.world.cube(anna).unwrap();
        assert_eq!((info.kind, info.pose), (CubeKind::Player, place));
    }

    #[test]
    fn nobody_moves_a_cube_that_is_not_theirs() {
        let mut stage = Stage::new();
        let (anna, boris) = (stage.join("Anna"), stage.join("Boris"));
        stage.tick();
        for cube in [boris, FREE] {
            let pose = stage.pose(cube);
            stage.step(anna, cube, 100);
            stage.tick();
            assert_eq!(stage.pose(cube), pose);
            let corrections = stage.world.corrections();
            assert_eq!(corrections, [(anna, CubePose { cube, pose })]);
        }
        stage.say(anna, stage.world.tick + 1, CubeId(99), Pose::default());
        stage.tick();
        assert_eq!(stage.world.corrections(), []);
    }

    #[test]
    fn too_fast_a_move_is_corrected_and_the_right_way_on_is_taken() {
        let mut stage = Stage::new();
        let anna = stage.join("Anna");
        stage.tick();
        let near = stage.step(anna, anna, 40 * 512);
        stage.tick();
        assert_eq!(stage.world.corrections(), []);
        let correction = (
            anna,
            CubePose {
                cube: anna,
                pose: near,
            },
        );
        for _ in 0..2 {
            stage.step(anna, anna, 5_000);
            stage.tick();
            assert_eq!(stage.world.corrections(), [correction]);
            assert_eq!(stage.pose(anna), near);
        }
        let on = stage.step(anna, anna, 300);
        stage.tick();
        assert_eq!(stage.world.corrections(), []);
        assert!(stage.pose(anna).position.distance(on.position) <= 4);
    }

    #[test]
    fn a_motion_that_only_predictions_make_too_fast_is_corrected() {
        let mut stage = Stage::new();
        let anna = stage.join("Anna");
        stage.tick();
        // 60 m/s: the burst lasts for two seconds of it.
        let mut x = stage.pose(anna).position.x;
        let mut corrected = None;
        for tick in 0..200 {
            x += 1_024;
            let mut pose = stage.pose(anna);
            pose.position.x = x;
            stage.say(anna, stage.world.tick + 1, anna, pose);
            stage.tick();
            if !stage.world.corrections().is_empty() {
                corrected = corrected.or(Some(tick));
            }
        }
        let corrected = corrected.expect("nobody runs at 60 m/s for ever");
        assert!((30..90).contains(&corrected), "corrected at {corrected}");
    }

    #[test]
    fn typed_coordinates_may_jump_and_count_in_order() {
        let mut stage = Stage::new();
        let typist = stage
            .world
            .join("nc", COLOUR, SpeedRule::Unlimited, None)
            .unwrap();
        stage.world.take(typist, FREE).unwrap();
        stage.tick();
        for cube in [typist, FREE] {
            for x in [100_000, 50_000] {
                let pose = Teller::at(x);
                let placed = [CubePose { cube, pose }];
                stage.world.sample(typist, 0, &placed, &[]).unwrap();
            }
        }
        stage.tick();
        assert_eq!(stage.world.corrections(), []);
        for cube in [typist, FREE] {
            assert_eq!(stage.pose(cube), Teller::at(50_000));
        }
    }

    #[test]
    fn a_full_room_refuses() {
        let mut stage = Stage::new();
        for number in 1..MAX_CUBES_PER_ROOM {
            stage.join(&format!("p{number}"));
        }
        let late = stage.world.join("late", COLOUR, SpeedRule::TopSpeed, None);
        assert_eq!(late, Err(RoomFull));
    }
}
