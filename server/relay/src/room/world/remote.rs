//! Cubes that other servers own, as far as this server hears of them.

use cubesync_protocol::limits::MAX_CUBES_PER_ROOM;
use cubesync_protocol::motion::{Codec, MotionState};
use cubesync_protocol::{Colour, CubeId, CubeInfo, CubeKind, Event, Pose};

use super::{Changes, FREE_CUBE, Player, Tracked, World};
use crate::room::speed::SpeedRule;
use crate::room::track::Track;

/// How a cube from elsewhere comes into the world, or goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It came into the room, or left it.
    Room,
    /// It came into sight, or went out of it.
    Sight,
}

impl World {
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
}
