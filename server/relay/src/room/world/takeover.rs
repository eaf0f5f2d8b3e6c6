//! A world that another server has run until now, and players who go on in it.

use std::collections::BTreeMap;

use cubesync_protocol::motion::{Codec, MotionState};
use cubesync_protocol::uplink::grace_ticks;
use cubesync_protocol::{CubeId, CubeInfo, CubeKind, Pose};

use super::changes::Changed;
use super::names::Names;
use super::{FREE_CUBE, Player, Tracked, World};
use crate::room::speed::SpeedRule;
use crate::room::track::Track;

/// Distance, in quanta, up to which a cube that is elsewhere than its player last saw it stays there.
const NEAR_QUANTA: u64 = 512;

impl World {
    /// Creates the world of tick `now` from cubes as they were at an earlier tick. Players' cubes that
    /// moved go on for as long as without samples; all that was a player's is one's, and held by the
    /// same player. Loose cubes go on from where they were, as the room's mechanics move them.
    pub fn from_cubes(
        tick_hz: u8,
        top_speed: Option<u32>,
        cubes: Vec<CubeInfo>,
        last_id: u64,
        (tick, now): (u64, u64),
    ) -> Self {
        let mut world = Self {
            cubes: BTreeMap::new(),
            names: Names::default(),
            changed: Changed::default(),
            free_cubes: 0,
            last_id,
            tick: now,
            ..Self::new(tick_hz, top_speed)
        };
        world.awake.clear();
        let goes_on = now.saturating_sub(tick) <= grace_ticks(world.tick_hz);
        for info in cubes {
            world.last_id = world.last_id.max(info.cube.0);
            world.insert_known(info, (tick, now), goes_on);
        }
        if !world.cubes.contains_key(&FREE_CUBE) {
            world.insert_free_cube();
        }
        world.give_held();
        world
    }

    fn insert_known(&mut self, info: CubeInfo, (tick, now): (u64, u64), goes_on: bool) {
        let CubeInfo { cube, kind, .. } = info;
        let is_moved = !matches!(kind, CubeKind::Ghost | CubeKind::Free { holder: None });
        let track = match is_moved && goes_on && !info.motion.is_still() {
            true => Track::sampled(info.motion, tick),
            false => Track::standing(info.motion.pose(&Codec::LIVE)),
        };
        if track.is_moving() {
            self.awake.insert(cube);
        }
        let pose = track.pose(now);
        let tracked = Tracked {
            kind,
            name: info.name.clone(),
            colour: info.colour,
            width: info.width,
            rule: SpeedRule::TopSpeed,
            freed_at: 0,
            pose,
            track,
            budget: self.new_budget(),
        };
        self.names.insert(&info.name);
        self.add(cube, tracked);
        if kind == (CubeKind::Free { holder: None }) && !info.motion.is_still() {
            // It has not moved since.
            self.let_go(cube, Some(info.motion));
        }
        if kind == CubeKind::Player {
            let player = Player::new(SpeedRule::TopSpeed, self.tick_hz);
            self.players.insert(cube, player);
        }
        self.changed.note(cube, None);
    }

    /// Notes who holds which free cube. One whose holder is not here is free.
    fn give_held(&mut self) {
        let held = self.cubes.iter().filter_map(|(&cube, known)| {
            let CubeKind::Free { holder } = known.kind else {
                return None;
            };
            Some((cube, holder?))
        });
        for (cube, holder) in held.collect::<Vec<_>>() {
            match self.players.get_mut(&holder) {
                Some(player) => {
                    player.held.insert(cube);
                }
                None => self.free(cube),
            }
        }
    }

    /// Returns what a receiver, or another server, must know about a cube as of the last tick.
    pub fn state(&self, cube: CubeId) -> Option<CubeInfo> {
        let pose = self.pose(cube)?;
        let motion = self.motion(cube);
        let motion = motion.filter(|motion| motion.pose(&Codec::LIVE) == pose);
        self.info(cube, motion.unwrap_or(MotionState::at_rest(pose)))
    }

    /// Returns the id of the newest player's cube.
    pub fn last_id(&self) -> u64 {
        self.last_id
    }

    /// Lets a player go on whose connection is another one, or comes by another server, with all that they
    /// hold. Returns false if there is no such player or ghost.
    pub fn go_on(&mut self, player: CubeId, rule: SpeedRule) -> bool {
        let Some(known) = self.players.get_mut(&player) else {
            return self.resume(player, rule);
        };
        known.rule = rule;
        let held = known.held.iter().copied().chain([player]);
        for cube in held.collect::<Vec<_>>() {
            if let Some(cube) = self.cubes.get_mut(&cube) {
                cube.rule = rule;
            }
            // Both ends of the way up begin where it stands now.
            self.stand(cube);
        }
        true
    }

    /// Puts a player's cube where their server saw it last, unless it is nearly there.
    pub fn put(&mut self, player: CubeId, pose: Pose) {
        let position = pose.position.clamped();
        if let Some(cube) = self.cubes.get_mut(&player)
            && cube.pose.position.distance(position) > NEAR_QUANTA
        {
            cube.pose = Pose { position, ..pose };
            self.stand(player);
        }
    }
}
