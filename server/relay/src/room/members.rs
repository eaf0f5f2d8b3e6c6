//! How players come into a room, come back to it and leave it.

use std::time::{Duration, Instant};

use cubesync_protocol::{CubeId, ResumeToken, Welcome};
use tracing::info;

use super::Room;
use super::audience::MemberId;
use super::handle::{Entered, Entrance};
use super::speed::SpeedRule;
use super::world::RoomFull;
use crate::ending::Ending;
use crate::metrics::Resumed;

/// Time after its opening during which a room puts players who come back from before a restart where
/// they say that they were. In an older room this would let players appear anywhere.
const ANNOUNCE_WITHIN: Duration = Duration::from_secs(60);

impl Room {
    /// Brings a player in: to the cube that their token stands for, or to a new one.
    ///
    /// # Errors
    /// [`RoomFull`], when no ghost can make place either.
    pub(super) fn enter(&mut self, entrance: Entrance, now: Instant) -> Result<Entered, RoomFull> {
        let rule = entrance.rule;
        let resumed = entrance.resume.and_then(|token| {
            let cube = self.resume(token, rule, now);
            let outcome = match cube {
                Some(_) => Resumed::Resumed,
                None => Resumed::Unknown,
            };
            self.connections.metrics.resumes.count(outcome);
            cube
        });
        let cube = match resumed {
            Some(cube) => cube,
            None => {
                let may_choose = rule == SpeedRule::Unlimited
                    || (entrance.resume.is_some() && self.has_just_begun(now));
                let pose = entrance.pose.filter(|_| may_choose);
                self.make_place()?;
                self.world
                    .join(&entrance.name, entrance.colour, rule, pose)?
            }
        };
        self.count_cubes();
        let token = self.resumption.issue(cube);
        let welcome = self.welcome(cube, token, now);
        let (name, resumed) = (&welcome.name, resumed.is_some());
        info!(room = self.connections.settings.name, %cube, name, resumed, "joined");
        let entered = self.connections.add_member(entrance, welcome, now);
        self.players.insert(cube, entered.id);
        Ok(entered)
    }

    /// Removes a player. After an accident their cube stays as a ghost.
    pub(super) fn remove(&mut self, id: MemberId, reason: Ending, now: Instant) {
        let source = &mut self.publisher.with(&self.world);
        let Some(cube) = self.connections.dismiss(id, reason, source, now) else {
            return;
        };
        self.players.remove(&cube);
        let resume_within = self.connections.settings.resume_within;
        if reason == Ending::Replaced || (reason.is_accident() && !resume_within.is_zero()) {
            self.world.ghost(cube);
            self.resumption.lost(cube, now + resume_within);
        } else {
            self.forget(cube);
        }
    }

    /// Removes a player's cube from the world; the player cannot come back to it.
    pub(super) fn forget(&mut self, player: CubeId) {
        self.world.leave(player);
        self.resumption.forget(player);
        self.count_cubes();
    }

    /// Gives a player the cube that their token stands for, and returns it. A connection that still
    /// has the cube is closed. The cubes that the player held are free, so that client and server agree.
    fn resume(&mut self, token: ResumeToken, rule: SpeedRule, now: Instant) -> Option<CubeId> {
        let cube = self.resumption.cube(token)?;
        if let Some(&player) = self.players.get(&cube) {
            self.remove(player, Ending::Replaced, now);
        }
        self.resumption.returned(cube);
        self.world.resume(cube, rule).then_some(cube)
    }

    /// Returns whether players who were here before a restart may still come back.
    fn has_just_begun(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.opened) < ANNOUNCE_WITHIN
    }

    /// Makes place for a player: in a full room the ghost that would expire first leaves.
    fn make_place(&mut self) -> Result<(), RoomFull> {
        if self.world.cube_count() >= self.connections.settings.max_cubes {
            let ghost = self.resumption.first_to_expire().ok_or(RoomFull)?;
            self.forget(ghost);
        }
        Ok(())
    }

    /// Creates the first message to a receiver whose own cube is this one.
    pub(super) fn welcome(&self, own: CubeId, resume: ResumeToken, now: Instant) -> Welcome {
        let own = self.world.cube(own).expect("the cube is in the world");
        let clock = &self.clock;
        self.connections
            .welcome(&own, resume, clock.tick(), clock.since_tick_us(now))
    }
}
