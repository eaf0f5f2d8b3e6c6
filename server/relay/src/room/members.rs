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

/// Time after its opening during which a room puts players who come back from before a restart where
/// they say that they were. In an older room this would let players appear anywhere.
const ANNOUNCE_WITHIN: Duration = Duration::from_secs(60);

/// A player who is in the room with a connection.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: MemberId,
    /// Cancelled when this is dropped.
    ended: CancellationToken,
}

impl Room {
    /// Returns whether a player may have a cube on another server that is not known yet.
    pub(super) fn must_wait(&self, entrance: &Entrance, now: Instant) -> bool {
        entrance.resume.is_some() && !self.peers.is_settled(now)
    }

    /// Brings a player in: to the cube that their token stands for, or to a new one.
    ///
    /// # Errors
    /// [`RoomFull`], when no ghost can make place either.
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
        let info = self
            .world
            .cube(cube)
            .expect("the cube has just been inserted");
        let welcome = self.welcome(info.name.clone(), &info, token, now);
        let resumed = resumed.is_some();
        info!(room = self.settings.name, %cube, name = info.name, resumed, "joined");
        self.stays += 1;
        let id = MemberId {
            cube,
            stay: self.stays,
        };
        self.members.insert(cube, Member { id, ended });
        let receiver = Receiver::new(outlet)
            .cut_after(self.settings.slow_reader_after)
            .with_tail();
        let receiver = match sight {
            SightRule::Everything => receiver,
            SightRule::Surroundings => receiver.surroundings_of(cube),
        };
        self.audience.add(ReceiverId::Player(cube), receiver);
        self.empty_since = None;
        self.send_to_player(cube, &welcome, now);
        Ok(id)
    }

    /// Adds a receiver of everything, which has no cube; its `Welcome` names the free cube instead.
    pub(super) fn observe(&mut self, outlet: Outlet, now: Instant) -> ReceiverId {
        // Another server's free cube may not be known here yet.
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

    /// Ends the connection of a player who has moved to another server.
    pub(super) fn migrated(&mut self, player: CubeId, now: Instant) {
        self.resumption.forget(player);
        if self.members.contains_key(&player) {
            self.dismiss(player, Ending::Replaced, now);
        }
    }

    /// Returns whether a player's stay in the room has not ended.
    pub(super) fn is_member(&self, id: MemberId) -> bool {
        let member = self.members.get(&id.cube);
        member.is_some_and(|member| member.id == id)
    }

    /// Removes a player or an observer.
    pub(super) fn end(&mut self, receiver: ReceiverId, reason: Ending, now: Instant) {
        match receiver {
            ReceiverId::Player(player) => self.remove(player, reason, now),
            ReceiverId::Observer(_) => self.end_receiver(receiver, reason),
        }
    }

    /// Removes a player. After an accident their cube stays as a ghost.
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
        self.remove(cube, Ending::Replaced, now);
        self.resumption.returned(cube);
        self.world.resume(cube, rule).then_some(cube)
    }

    /// Moves the cube of a player who was at another server until now to this one, and returns it.
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

    /// Returns whether players who were here before a restart may still come back.
    fn has_just_begun(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.opened) < ANNOUNCE_WITHIN
    }

    /// Makes place for a player: in a full room the ghost that would expire first leaves.
    fn make_place(&mut self) -> Result<(), RoomFull> {
        let elsewhere = self.peers.cube_count();
        if self.world.cube_count().max(elsewhere) >= self.settings.max_cubes {
            let ghost = self.resumption.first_to_expire().ok_or(RoomFull)?;
            self.forget(ghost);
        }
        Ok(())
    }

    /// Creates the first message to a receiver whose own cube is `own`.
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

    /// Ends a member's connection, and leaves their cube as it is. Returns false if there is no such
    /// member.
    fn dismiss(&mut self, player: CubeId, reason: Ending, now: Instant) -> bool {
        // A stopping room has already sent a `Closing` to everybody.
        if reason != Ending::ShuttingDown {
            // After an accident the cube waits for its player, who may come back at once.
            let retry_after_ms = reason.is_accident().then_some(0);
            if let Some(closing) = reason.closing(retry_after_ms) {
                self.send_to_player(player, &closing, now);
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

    /// Removes a receiver from the audience.
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
