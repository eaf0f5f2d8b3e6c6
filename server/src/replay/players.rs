//! The players of a room that repeat what recorded players did, and the free cubes.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use cubesync_protocol::{
    ClientMessage, Colour, CubeId, CubeInfo, CubeKind, CubePose, Pose, clean_name,
};
use cubesync_recording::Scene;
use tokio_util::sync::CancellationToken;

use super::LEAD_TICKS;
use cubesync_relay::ending::Ending;
use cubesync_relay::room::audience::Outlet;
use cubesync_relay::room::speed::SpeedRule;
use cubesync_relay::room::{Entrance, Membership, RoomEnded, RoomHandle, SightRule};

/// The players that a recording adds to a room.
#[derive(Debug)]
pub(super) struct ReplayedPlayers {
    room: RoomHandle,
    /// By the id of the recorded cube.
    players: BTreeMap<CubeId, ReplayedPlayer>,
    /// The free cubes as they were last placed.
    free_cubes: BTreeMap<CubeId, FreeCube>,
    /// Where free cubes are that nobody holds, of each of the next ticks.
    waiting: VecDeque<Vec<CubePose>>,
}

/// One recorded player in the room.
#[derive(Debug)]
struct ReplayedPlayer {
    membership: Membership,
    name: String,
    colour: Colour,
    pose: Pose,
}

/// A free cube's pose and its recorded holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FreeCube {
    pose: Pose,
    holder: Option<CubeId>,
}

impl ReplayedPlayers {
    /// Starts without players.
    pub(super) fn new(room: RoomHandle) -> Self {
        Self {
            room,
            players: BTreeMap::new(),
            free_cubes: BTreeMap::new(),
            waiting: VecDeque::new(),
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
        let mut free = Vec::new();
        for (info, pose) in scene.cubes(recorded_tick) {
            let cube = info.cube;
            match info.kind {
                CubeKind::Free { holder } => free.push((CubePose { cube, pose }, holder)),
                CubeKind::Player | CubeKind::Ghost => self.move_player(info, pose, tick).await?,
            }
        }
        let mut placed = Vec::new();
        for (cube, holder) in free {
            placed.extend(self.move_free_cube(cube, holder, tick).await?);
        }
        // Players' samples count at their tick, and this at once.
        self.waiting.push_back(placed);
        if self.waiting.len() > LEAD_TICKS as usize
            && let Some(due) = self.waiting.pop_front()
            && !due.is_empty()
        {
            self.room.place(due).await?;
        }
        Ok(())
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

    /// Lets the recorded holder of a free cube hold it, and moves it. Returns where it is if nobody holds it. A player
    /// of the room who is not from the recording keeps what they hold.
    async fn move_free_cube(
        &mut self,
        CubePose { cube, pose }: CubePose,
        holder: Option<CubeId>,
        tick: u64,
    ) -> Result<Option<CubePose>, RoomEnded> {
        let holder = holder.filter(|holder| self.players.contains_key(holder));
        let before = self.free_cubes.insert(cube, FreeCube { pose, holder });
        if before == Some(FreeCube { pose, holder }) {
            return Ok(None);
        }
        let player = |by: Option<CubeId>| self.players.get(&by?);
        let held_by = before.and_then(|before| before.holder);
        if held_by != holder {
            // Takes and releases count at once, and what was before them is over.
            for placed in &mut self.waiting {
                placed.retain(|it| it.cube != cube);
            }
            if let Some(before) = player(held_by) {
                let release = ClientMessage::Release { cube };
                before.membership.message(release).await?;
            }
            if let Some(player) = player(holder) {
                let take = ClientMessage::Take { cube };
                player.membership.message(take).await?;
            }
        }
        match player(holder) {
            Some(player) => player.place(cube, pose, tick).await.map(|()| None),
            None => Ok(Some(CubePose { cube, pose })),
        }
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
