//! The players of a room that repeat what recorded players did, and the free cube that they carry.

use std::collections::BTreeMap;

use bytes::Bytes;
use cubesync_protocol::{
    ClientMessage, Colour, CubeId, CubeInfo, CubeKind, CubePose, Pose, clean_name,
};
use cubesync_recording::Scene;
use tokio_util::sync::CancellationToken;

use cubesync_relay::ending::Ending;
use cubesync_relay::room::audience::Outlet;
use cubesync_relay::room::speed::SpeedRule;
use cubesync_relay::room::world::FREE_CUBE;
use cubesync_relay::room::{Entrance, Membership, RoomEnded, RoomHandle, SightRule};

/// The players that a recording adds to a room.
#[derive(Debug)]
pub(super) struct ReplayedPlayers {
    room: RoomHandle,
    /// By the id of the recorded cube.
    players: BTreeMap<CubeId, ReplayedPlayer>,
    /// The free cube as it was last placed; `None` as long as no player has placed it.
    free_cube: Option<FreeCube>,
}

/// One recorded player in the room.
#[derive(Debug)]
struct ReplayedPlayer {
    membership: Membership,
    name: String,
    colour: Colour,
    pose: Pose,
}

/// The free cube's pose and its recorded holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FreeCube {
    pose: Pose,
    holder: Option<CubeId>,
    /// The recorded cube of the player that placed it.
    placed_by: CubeId,
}

impl ReplayedPlayers {
    /// Starts without players.
    pub(super) fn new(room: RoomHandle) -> Self {
        Self {
            room,
            players: BTreeMap::new(),
            free_cube: None,
        }
    }

    /// Brings the room's players to where a scene has them at `recorded_tick`. Their samples are
    /// for the room's tick `tick`.
    ///
    /// # Errors
    /// The room has ended.
    pub(super) async fn update(
        &mut self,
        scene: &Scene,
        recorded_tick: u64,
        tick: u64,
    ) -> Result<(), RoomEnded> {
        self.remove_absent(scene).await;
        let mut free = None;
        for (info, pose) in scene.cubes(recorded_tick) {
            match info.kind {
                CubeKind::Free { holder } if info.cube == FREE_CUBE => free = Some((pose, holder)),
                // The room has loose cubes of its own.
                CubeKind::Free { .. } => {}
                CubeKind::Player | CubeKind::Ghost => self.move_player(info, pose, tick).await?,
            }
        }
        match free {
            Some((pose, holder)) => self.move_free_cube(pose, holder, tick).await,
            None => Ok(()),
        }
    }

    /// Removes the players that are not in a scene.
    async fn remove_absent(&mut self, scene: &Scene) {
        let is_present = |(recorded, player): (&CubeId, &ReplayedPlayer)| {
            let info = scene.info(*recorded);
            info.is_some_and(|info| info.name == player.name && info.colour == player.colour)
        };
        let gone = self.players.iter().filter(|&entry| !is_present(entry));
        for recorded in gone.map(|(recorded, _)| *recorded).collect::<Vec<_>>() {
            if let Some(player) = self.players.remove(&recorded) {
                player.membership.end(Some(Ending::Left)).await;
                self.free_cube.take_if(|cube| cube.placed_by == recorded);
            }
        }
    }

    /// Moves a player's cube, or lets the player enter.
    async fn move_player(
        &mut self,
        info: &CubeInfo,
        pose: Pose,
        tick: u64,
    ) -> Result<(), RoomEnded> {
        match self.players.get_mut(&info.cube) {
            Some(player) if player.pose == pose => {}
            Some(player) => {
                player.pose = pose;
                let cube = player.membership.cube();
                player.place(cube, pose, tick).await?;
            }
            None => {
                if let Some(player) = ReplayedPlayer::enter(&self.room, info, pose).await? {
                    self.players.insert(info.cube, player);
                }
            }
        }
        Ok(())
    }

    /// Moves the free cube, unless a player of the room that is not from the recording holds it.
    async fn move_free_cube(
        &mut self,
        pose: Pose,
        holder: Option<CubeId>,
        tick: u64,
    ) -> Result<(), RoomEnded> {
        let holder = holder.filter(|holder| self.players.contains_key(holder));
        // Without a recorded holder, any player can place it.
        let placed_by = holder.or_else(|| self.players.keys().next().copied());
        let Some((placed_by, player)) = placed_by.and_then(|by| Some((by, self.players.get(&by)?)))
        else {
            return Ok(());
        };
        let before = self.free_cube.replace(FreeCube {
            pose,
            holder,
            placed_by,
        });
        let is_same = |before: FreeCube| (before.pose, before.holder) == (pose, holder);
        if before.is_some_and(is_same) {
            return Ok(());
        }
        let release = ClientMessage::Release { cube: FREE_CUBE };
        let before = before.filter(|before| before.placed_by != placed_by);
        if let Some(before) = before.and_then(|before| self.players.get(&before.placed_by)) {
            before.membership.message(release.clone()).await?;
        }
        let take = ClientMessage::Take { cube: FREE_CUBE };
        player.membership.message(take).await?;
        player.place(FREE_CUBE, pose, tick).await?;
        if holder.is_none() {
            player.membership.message(release).await?;
        }
        Ok(())
    }

    /// Gives the players up without taking them out of the room: a room that stops ends them itself.
    pub(super) async fn abandon(self) {
        for player in self.players.into_values() {
            player.membership.end(None).await;
        }
    }
}

impl ReplayedPlayer {
    /// Enters the room like any player. Returns `None` if the room is full.
    async fn enter(
        room: &RoomHandle,
        info: &CubeInfo,
        pose: Pose,
    ) -> Result<Option<Self>, RoomEnded> {
        let entrance = Entrance {
            // The recording may have been made by another program, with names of any kind.
            name: clean_name(&info.name).unwrap_or_else(|_| "?".to_owned()),
            colour: info.colour,
            rule: SpeedRule::Unlimited,
            sight: SightRule::Everything,
            resume: None,
            pose: Some(pose),
            outlet: Outlet::Nowhere,
            ended: CancellationToken::new(),
            peer: None,
        };
        let membership = room.enter(entrance).await?.ok();
        Ok(membership.map(|membership| Self {
            membership,
            name: info.name.clone(),
            colour: info.colour,
            pose,
        }))
    }

    /// Sends the player's sample of one cube.
    async fn place(&self, cube: CubeId, pose: Pose, tick: u64) -> Result<(), RoomEnded> {
        let sample = ClientMessage::Sample {
            tick,
            placed: vec![CubePose { cube, pose }],
            residuals: Bytes::new(),
        };
        self.membership.message(sample).await
    }
}
