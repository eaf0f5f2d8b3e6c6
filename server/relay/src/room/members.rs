//! How players come into a room, come back to it and leave it.

use std::time::{Duration, Instant};

use cubesync_protocol::{Colour, CubeId, CubeKind, Pose, ResumeToken, ServerAddress, Welcome};
use tracing::info;

use super::Room;
use super::audience::MemberId;
use super::handle::{Entered, Entrance};
use super::resumption::TokenDigest;
use super::speed::SpeedRule;
use super::world::RoomFull;
use crate::ending::{Ending, Problem};
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
        let token = entrance.resume.as_ref().map(TokenDigest::of);
        let known = self.claim(token.as_slice(), rule, false, now);
        let cube = match known {
            Some(cube) => cube,
            None => {
                let may_choose = self.may_choose(rule, token.is_some(), now);
                let pose = entrance.pose.filter(|_| may_choose);
                self.join((&entrance.name, entrance.colour), rule, pose)?
            }
        };
        let token = self.resumption.issue(cube);
        self.edges.note([cube]);
        let welcome = self.welcome(cube, token, now);
        let (name, resumed) = (&welcome.name, known.is_some());
        info!(room = self.connections.settings.name, %cube, name, resumed, "joined");
        let entered = self.connections.add_member(entrance, welcome, now);
        self.players.insert(cube, entered.id);
        Ok(entered)
    }

    /// Gives a player the cube that one of their tokens stands for, and returns it. A connection that still
    /// has the cube is closed. The cubes that the player held are free, so that client and server agree,
    /// unless the player `goes_on` without having been away.
    pub(super) fn claim(
        &mut self,
        tokens: &[TokenDigest],
        rule: SpeedRule,
        goes_on: bool,
        now: Instant,
    ) -> Option<CubeId> {
        let cube = tokens.iter().find_map(|token| self.resumption.cube(*token));
        let claimed = cube.filter(|&cube| {
            match self.players.get(&cube) {
                Some(&player) => self.remove(player, Ending::Replaced, now),
                None if goes_on => {}
                None => self.world.ghost(cube),
            }
            self.resumption.returned(cube);
            match goes_on {
                true => self.world.go_on(cube, rule),
                false => self.world.resume(cube, rule),
            }
        });
        if !goes_on && !tokens.is_empty() {
            self.connections.metrics.resumes.count(match claimed {
                Some(_) => Resumed::Resumed,
                None => Resumed::Unknown,
            });
        }
        claimed
    }

    /// Adds a player's cube to the world.
    ///
    /// # Errors
    /// [`RoomFull`], when no ghost can make place either.
    pub(super) fn join(
        &mut self,
        (name, colour): (&str, Colour),
        rule: SpeedRule,
        pose: Option<Pose>,
    ) -> Result<CubeId, RoomFull> {
        self.make_place()?;
        let cube = self.world.join(name, colour, rule, pose)?;
        self.count_cubes();
        Ok(cube)
    }

    /// Removes a player. After an accident their cube stays as a ghost.
    pub(super) fn remove(&mut self, id: MemberId, reason: Ending, now: Instant) {
        let source = &mut self.publisher.with(&self.world);
        let dismissed = self.connections.dismiss(id, reason, source, now);
        let cube = dismissed.or_else(|| self.edges.dismiss(id, reason));
        if let Some(cube) = cube.filter(|cube| self.players.get(cube) == Some(&id)) {
            self.gone(cube, reason, now);
        }
    }

    /// Removes a player at the operator's wish, wherever they are connected, and a ghost as well. Returns
    /// whether the cube was a player's.
    pub(super) fn remove_player(&mut self, cube: CubeId, why: &Problem, now: Instant) -> bool {
        let kind = self.world.kind(cube);
        if kind.is_none_or(|kind| matches!(kind, CubeKind::Free { .. })) {
            return false;
        }
        match self.players.get(&cube) {
            Some(&id) => {
                if let Some(closing) = why.closing() {
                    self.send(id, &closing, now);
                }
                self.remove(id, why.ending, now);
            }
            None => self.forget(cube),
        }
        true
    }

    /// Handles a cube whose player is no longer connected.
    pub(super) fn gone(&mut self, cube: CubeId, reason: Ending, now: Instant) {
        self.players.remove(&cube);
        let resume_within = self.connections.settings.resume_within;
        if reason == Ending::Replaced || (reason.is_accident() && !resume_within.is_zero()) {
            self.world.ghost(cube);
            self.resumption.lost(cube, now + resume_within);
        } else {
            self.forget(cube);
        }
        self.connections.note_empty(now);
    }

    /// Removes a player's cube from the world; the player cannot come back to it.
    pub(super) fn forget(&mut self, player: CubeId) {
        self.world.leave(player);
        self.resumption.forget(player);
        self.count_cubes();
    }

    /// Returns whether a newcomer appears where they say that they were: players who come back from before
    /// a restart do, if the room has just begun.
    pub(super) fn may_choose(&self, rule: SpeedRule, comes_back: bool, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.opened);
        rule == SpeedRule::Unlimited || (comes_back && age < ANNOUNCE_WITHIN)
    }

    /// Makes place for a player: in a full room the ghost that would expire first leaves.
    fn make_place(&mut self) -> Result<(), RoomFull> {
        if self.world.is_full(self.connections.settings.max_cubes) {
            let ghost = self.resumption.first_to_expire().ok_or(RoomFull)?;
            self.forget(ghost);
        }
        Ok(())
    }

    /// Creates the first message to a receiver of this server whose own cube is this one.
    pub(super) fn welcome(&self, own: CubeId, resume: ResumeToken, now: Instant) -> Welcome {
        self.welcome_of(own, resume, self.connections.servers(), now)
    }

    /// Creates the first message to a receiver, who is told of these other servers.
    pub(super) fn welcome_of(
        &self,
        own: CubeId,
        resume: ResumeToken,
        servers: Vec<ServerAddress>,
        now: Instant,
    ) -> Welcome {
        let own = self.world.cube(own).expect("the cube is in the world");
        let clock = &self.clock;
        let (tick, since_tick_us) = (clock.tick(), clock.since_tick_us(now));
        let welcome = self.connections.welcome(&own, resume, tick, since_tick_us);
        Welcome { servers, ..welcome }
    }
}
