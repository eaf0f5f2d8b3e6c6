//! Cubes that other servers own, as far as this server knows them.

use cubesync_protocol::limits::MAX_CUBES_PER_ROOM;
use cubesync_protocol::motion::{Codec, MotionState};
use cubesync_protocol::{Colour, CubeId, CubeInfo, CubeKind, Event, Pose};

use super::{Changes, FREE_CUBE, Player, Tracked, World};
use crate::room::speed::SpeedRule;
use crate::room::track::Track;

/// Why another server's cube comes into the world, or goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryReason {
    /// It came into the room, or left it.
    Room,
    /// It came into sight, or went out of it.
    Sight,
}

impl World {
    /// Updates another server's cube to what it was at a tick. Returns false if it is not known.
    pub fn update_remote(
        &mut self,
        cube: CubeId,
        kind: CubeKind,
        motion: MotionState,
        tick: u64,
    ) -> bool {
        let Some(known) = self.cubes.get_mut(&cube).filter(|known| !known.is_own) else {
            return false;
        };
        known.track = Track::sampled(motion, tick);
        let before = std::mem::replace(&mut known.kind, kind);
        self.kind_changed(cube, before, kind);
        self.awake_remote.insert(cube);
        true
    }

    /// Adds another server's cube as it was at a tick, unless the room holds
    /// [`MAX_CUBES_PER_ROOM`].
    pub fn show_remote(&mut self, mut info: CubeInfo, tick: u64, reason: EntryReason) {
        if self.cubes.len() >= MAX_CUBES_PER_ROOM || self.cubes.contains_key(&info.cube) {
            return;
        }
        let track = Track::sampled(info.motion, tick);
        info.motion = info.motion.advanced(tick, self.tick);
        self.arrivals = self.arrivals.wrapping_add(1);
        let tracked = Tracked {
            is_own: false,
            kind: info.kind,
            name: info.name.clone(),
            colour: info.colour,
            rule: SpeedRule::TopSpeed,
            pose: info.motion.pose(&Codec::LIVE),
            track,
            budget: None,
        };
        self.cubes.insert(info.cube, tracked);
        self.awake_remote.insert(info.cube);
        self.events.push(match reason {
            EntryReason::Room => Event::Joined(info),
            EntryReason::Sight => Event::Entered(info),
        });
    }

    /// Removes another server's cube.
    pub fn hide_remote(&mut self, cube: CubeId, reason: EntryReason) {
        if self.cubes.remove(&cube).is_some() {
            self.awake_remote.remove(&cube);
            self.events.push(match reason {
                EntryReason::Room => Event::Left { cube },
                EntryReason::Sight => Event::Exited { cube },
            });
        }
    }

    /// Makes this server the owner of a cube, which stands.
    pub fn adopt(&mut self, cube: CubeId) {
        let budget = self.new_budget();
        let Some(known) = self.cubes.get_mut(&cube) else {
            return;
        };
        known.is_own = true;
        known.budget = budget;
        let pose = known.pose;
        self.awake_remote.remove(&cube);
        self.stand(cube);
        let info = self.info(cube, MotionState::at_rest(pose));
        self.own_events.extend(info.map(Event::Entered));
    }

    /// Makes this server the owner of the free cube, which nobody holds. If it is not known, it is `at` a
    /// pose, or where it was at first.
    pub fn adopt_free_cube(&mut self, at: Option<Pose>) {
        let Some(known) = self.cubes.get_mut(&FREE_CUBE) else {
            return self.insert_free_cube(at, EntryReason::Sight);
        };
        let free = CubeKind::Free { holder: None };
        let before = std::mem::replace(&mut known.kind, free);
        self.kind_changed(FREE_CUBE, before, free);
        self.adopt(FREE_CUBE);
    }

    /// Makes this server the owner of the cube of a player who has come from another server. If the
    /// cube is not known, it gets the looks and the pose that the player announced.
    pub fn migrate_here(
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
            self.insert(info, rule, EntryReason::Sight);
            self.players.insert(player, Player::new(rule, self.tick_hz));
        }
    }

    /// Leaves a cube to another server. Its player is no longer here, and nobody here holds it.
    pub fn yield_cube(&mut self, cube: CubeId) {
        self.free_all_of(cube);
        let Some(known) = self.cubes.get_mut(&cube) else {
            return;
        };
        known.is_own = false;
        if self.awake.remove(&cube) {
            self.awake_remote.insert(cube);
        }
        if let CubeKind::Free {
            holder: Some(holder),
        } = known.kind
            && let Some(holder) = self.players.get_mut(&holder)
        {
            holder.held.remove(&cube);
        }
        self.own_events.push(Event::Exited { cube });
    }

    /// Ends a tick of the other servers' cubes, after [`tick`](Self::tick), and returns what changed since.
    /// Events that other servers must know wait for the next tick.
    pub fn finish_remote(&mut self) -> Changes {
        let awake = self.awake_remote.iter().copied().collect();
        Changes {
            touched: self.follow_all(awake),
            events: std::mem::take(&mut self.events),
            own_events: Vec::new(),
        }
    }

    /// Keeps the event that a change of a cube's kind means.
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
}
