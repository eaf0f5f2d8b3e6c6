//! How players and observers come into a room, come back to it and leave it.

use std::time::{Duration, Instant};

use cubesync_protocol::limits::PROTOCOL_VERSION;
use cubesync_protocol::{Colour, CubeId, CubeKind, Pose, ResumeToken, ServerMessage, Welcome};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::Room;
use super::audience::{Outlet, Receiver, ReceiverId};
use super::handle::{Entrance, SightRule};
use super::membership::MemberId;
use super::speed::SpeedRule;
use super::world::{Cube, FREE_CUBE, RoomFull};
use crate::ending::Ending;
use crate::label::Label;
use crate::metrics::Resumed;

/// So long after its beginning a room takes the word of returning players for where they were. In
/// a room that has been there for longer, that would be a way to be anywhere at once.
const ANNOUNCE_WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: MemberId,
    ended: CancellationToken,
}

impl Room {
    /// Whether a player may have a cube on another server of which nothing has been heard yet.
    pub(super) fn must_wait(&self, entrance: &Entrance, now: Instant) -> bool {
        entrance.resume.is_some() && !self.peers.is_settled(now)
    }

    pub(super) fn enter(&mut self, entrance: Entrance, now: Instant) -> Result<MemberId, RoomFull> {
        let Entrance {
            name,
            colour,
            rule,
            sight,
            resume,
            pose,
            outlet,
            ended,
        } = entrance;
        let resumed = resume.and_then(|token| {
            let cube = self
                .resume(token, rule, now)
                .or_else(|| self.migrate_here(token, (&name, colour), rule, pose));
            let outcome = match cube {
                Some(_) => Resumed::Resumed,
                None => Resumed::Unknown,
            };
            self.metrics.resumes.count(outcome);
            cube
        });
        let cube = match resumed {
            Some(cube) => cube,
            None => {
                let may_choose =
                    rule == SpeedRule::Unlimited || (resume.is_some() && self.has_just_begun(now));
                let pose = pose.filter(|_| may_choose);
                self.make_place()?;
                self.world.join(&name, colour, rule, pose)?
            }
        };
        self.count_cubes();
        let token = self.resumption.issue(cube);
        self.peers.token_issued(cube, token);
        let info = self.world.cube(cube).expect("the cube has just come in");
        let welcome = self.welcome(info.name.clone(), &info, token, now);
        let resumed = resumed.is_some();
        info!(room = self.settings.name, %cube, name = info.name, resumed, "joined");
        self.stays += 1;
        let id = MemberId {
            cube,
            stay: self.stays,
        };
        self.members.insert(cube, Member { id, ended });
        let receiver = Receiver::new(outlet).cut_after(self.settings.slow_reader_after);
        let receiver = match sight {
            SightRule::Everything => receiver,
            SightRule::Surroundings => receiver.surroundings_of(cube),
        };
        self.audience.add(ReceiverId::Player(cube), receiver);
        self.empty_since = None;
        self.tell(cube, &welcome, now);
        Ok(id)
    }

    /// Shows everything to somebody without a cube, as if the free one were theirs.
    pub(super) fn observe(&mut self, outlet: Outlet, now: Instant) -> ReceiverId {
        // At home elsewhere, it may not be known here yet.
        let stand_in = self.world.cube(FREE_CUBE).unwrap_or_else(|| Cube {
            cube: FREE_CUBE,
            kind: CubeKind::Free { holder: None },
            name: String::new(),
            colour: Colour::from([0; 3]),
            pose: Pose::default(),
        });
        let welcome = self.welcome(String::new(), &stand_in, ResumeToken([0; 16]), now);
        self.observers += 1;
        let observer = ReceiverId::Observer(self.observers);
        self.audience.add(observer, Receiver::new(outlet));
        self.send(observer, &welcome, now);
        observer
    }

    /// Ends the connection of a player who is at another server now.
    pub(super) fn migrated(&mut self, player: CubeId, now: Instant) {
        self.resumption.forget(player);
        if self.members.contains_key(&player) {
            self.dismiss(player, Ending::Replaced, now);
        }
    }

    /// Returns whether a stay in the room still goes on.
    pub(super) fn is_member(&self, id: MemberId) -> bool {
        let member = self.members.get(&id.cube);
        member.is_some_and(|member| member.id == id)
    }

    /// Ends what a receiver has in the room.
    pub(super) fn end(&mut self, receiver: ReceiverId, reason: Ending, now: Instant) {
        match receiver {
            ReceiverId::Player(player) => self.remove(player, reason, now),
            ReceiverId::Observer(_) => self.end_receiver(receiver, reason),
        }
    }

    pub(super) fn remove(&mut self, player: CubeId, reason: Ending, now: Instant) {
        if !self.dismiss(player, reason, now) {
            return;
        }
        if reason == Ending::Replaced
            || (reason.is_accident() && !self.settings.resume_within.is_zero())
        {
            self.world.ghost(player);
            let until = now + self.settings.resume_within;
            self.resumption.lost(player, until);
        } else {
            self.forget(player);
        }
    }

    /// Takes a player's cube out of the world.
    pub(super) fn forget(&mut self, player: CubeId) {
        self.world.leave(player);
        self.resumption.forget(player);
        self.count_cubes();
    }

    /// The cube a token stands for, which is now its bearer's. A connection that still has it is
    /// closed. What the player held was freed, so that client and server agree on it.
    fn resume(&mut self, token: ResumeToken, rule: SpeedRule, now: Instant) -> Option<CubeId> {
        let cube = self.resumption.cube(token)?;
        self.remove(cube, Ending::Replaced, now);
        self.resumption.returned(cube);
        self.world.resume(cube, rule).then_some(cube)
    }

    /// The cube of a player who was at another server until now.
    fn migrate_here(
        &mut self,
        token: ResumeToken,
        looks: (&str, Colour),
        rule: SpeedRule,
        pose: Option<Pose>,
    ) -> Option<CubeId> {
        let cube = self.peers.migrate(token)?;
        self.world.migrate_here(cube, looks, rule, pose);
        Some(cube)
    }

    /// Whether who was here before a restart may still be coming back.
    fn has_just_begun(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.opened) < ANNOUNCE_WITHIN
    }

    /// In a full room, the ghost that has waited for its player the longest goes.
    fn make_place(&mut self) -> Result<(), RoomFull> {
        let elsewhere = self.peers.cube_count();
        if self.world.cube_count().max(elsewhere) >= self.settings.max_cubes {
            let ghost = self.resumption.first_to_expire().ok_or(RoomFull)?;
            self.forget(ghost);
        }
        Ok(())
    }

    fn welcome(
        &self,
        name: String,
        own: &Cube,
        resume: ResumeToken,
        now: Instant,
    ) -> ServerMessage {
        ServerMessage::Welcome(Welcome {
            version: PROTOCOL_VERSION,
            room: self.settings.name.clone(),
            name,
            cube: own.cube,
            pose: own.pose,
            tick_hz: self.settings.tick_hz,
            tick: self.clock.tick(),
            since_tick_us: self.clock.since_tick_us(now),
            max_speed: self.settings.top_speed.unwrap_or(0),
            resume,
            servers: self.peers.addresses(),
        })
    }

    /// Ends a member's connection; what becomes of their cube is another question. False if there
    /// is no such member.
    fn dismiss(&mut self, player: CubeId, reason: Ending, now: Instant) -> bool {
        // A stopping room has told everybody already.
        if reason != Ending::ShuttingDown {
            // After an accident their cube waits for them, so they may come back at once.
            let retry_after_ms = reason.is_accident().then_some(0);
            if let Some(closing) = reason.closing(retry_after_ms) {
                self.tell(player, &closing, now);
            }
        }
        if self.members.remove(&player).is_none() {
            return false;
        }
        self.end_receiver(ReceiverId::Player(player), reason);
        if self.members.is_empty() {
            self.empty_since = Some(now);
        }
        if let Some(info) = self.world.cube(player) {
            info!(room = self.settings.name, cube = %player, name = info.name, reason = reason.as_str(), "left");
        }
        self.metrics.disconnects.count(reason);
        true
    }

    fn end_receiver(&mut self, receiver: ReceiverId, reason: Ending) {
        let source = &mut self.publisher.with(&self.world);
        self.audience.remove(receiver, reason, source);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}
