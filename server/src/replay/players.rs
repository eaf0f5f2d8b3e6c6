//! The players of a room that stand for recorded ones, and the room's free cube in their hands.

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
use cubesync_relay::room::{Entrance, RoomEnded, RoomHandle, Seat, SightRule};

/// The free cube of every room is the first one.
const FREE: CubeId = CubeId(0);

/// What a recording puts into a room.
#[derive(Debug)]
pub(super) struct Stage {
    room: RoomHandle,
    /// By the recorded cubes.
    puppets: BTreeMap<CubeId, Puppet>,
    /// The free cube, where it was put last; `None` while nobody is there who could.
    carried: Option<Carried>,
}

/// A recorded player as a player of the room.
#[derive(Debug)]
struct Puppet {
    seat: Seat,
    name: String,
    colour: Colour,
    pose: Pose,
}

/// Where the free cube is, and in whose hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Carried {
    pose: Pose,
    holder: Option<CubeId>,
    /// Who of the room put it there.
    by: Seat,
}

impl Stage {
    /// Nobody is there.
    pub(super) fn new(room: RoomHandle) -> Self {
        Self {
            room,
            puppets: BTreeMap::new(),
            carried: None,
        }
    }

    /// Tells the room where the cubes of a scene are, which are to be there at a tick of the room.
    ///
    /// # Errors
    /// The room has ended.
    pub(super) async fn show(
        &mut self,
        scene: &Scene,
        recorded_tick: u64,
        tick: u64,
    ) -> Result<(), RoomEnded> {
        self.dismiss(scene).await?;
        let mut free = None;
        for (info, pose) in scene.cubes(recorded_tick) {
            match info.kind {
                CubeKind::Free { holder } => free = Some((pose, holder)),
                CubeKind::Player | CubeKind::Ghost => self.play(info, pose, tick).await?,
            }
        }
        match free {
            Some((pose, holder)) => self.carry(pose, holder, tick).await,
            None => Ok(()),
        }
    }

    /// Lets those go who are not in a scene.
    async fn dismiss(&mut self, scene: &Scene) -> Result<(), RoomEnded> {
        let is_there = |(recorded, puppet): (&CubeId, &Puppet)| {
            let info = scene.info(*recorded);
            info.is_some_and(|info| info.name == puppet.name && info.colour == puppet.colour)
        };
        let gone = self.puppets.iter().filter(|&entry| !is_there(entry));
        for recorded in gone.map(|(recorded, _)| *recorded).collect::<Vec<_>>() {
            if let Some(puppet) = self.puppets.remove(&recorded) {
                self.room.leave(puppet.seat, Ending::Left).await?;
                self.carried.take_if(|carried| carried.by == puppet.seat);
            }
        }
        Ok(())
    }

    async fn play(&mut self, info: &CubeInfo, pose: Pose, tick: u64) -> Result<(), RoomEnded> {
        match self.puppets.get_mut(&info.cube) {
            Some(puppet) if puppet.pose == pose => {}
            Some(puppet) => {
                puppet.pose = pose;
                let by = puppet.seat;
                self.put(by, by.cube, pose, tick).await?;
            }
            None => {
                if let Some(puppet) = Puppet::enter(&self.room, info, pose).await? {
                    self.puppets.insert(info.cube, puppet);
                }
            }
        }
        Ok(())
    }

    /// Puts the free cube somewhere, as far as nobody of the room has it.
    async fn carry(
        &mut self,
        pose: Pose,
        holder: Option<CubeId>,
        tick: u64,
    ) -> Result<(), RoomEnded> {
        let holder = holder.filter(|holder| self.puppets.contains_key(holder));
        // Where nobody holds it, anybody may put it there.
        let by = holder.or_else(|| self.puppets.keys().next().copied());
        let Some(by) = by.and_then(|by| Some(self.puppets.get(&by)?.seat)) else {
            return Ok(());
        };
        let wanted = Carried { pose, holder, by };
        let before = self.carried.replace(wanted);
        let is_same = |before: Carried| (before.pose, before.holder) == (pose, holder);
        if before.is_some_and(is_same) {
            return Ok(());
        }
        if let Some(before) = before.filter(|before| before.by != by) {
            let release = ClientMessage::Release { cube: FREE };
            self.room.message(before.by, release).await?;
        }
        let take = ClientMessage::Take { cube: FREE };
        self.room.message(by, take).await?;
        self.put(by, FREE, pose, tick).await?;
        if holder.is_none() {
            let release = ClientMessage::Release { cube: FREE };
            self.room.message(by, release).await?;
        }
        Ok(())
    }

    async fn put(&self, by: Seat, cube: CubeId, pose: Pose, tick: u64) -> Result<(), RoomEnded> {
        let sample = ClientMessage::Sample {
            tick,
            placed: vec![CubePose { cube, pose }],
            residuals: Bytes::new(),
        };
        self.room.message(by, sample).await
    }
}

impl Puppet {
    /// Comes into the room like a player; `None` when it is full.
    async fn enter(
        room: &RoomHandle,
        info: &CubeInfo,
        pose: Pose,
    ) -> Result<Option<Self>, RoomEnded> {
        let entrance = Entrance {
            // A recording may be from anywhere.
            name: clean_name(&info.name).unwrap_or("?").to_owned(),
            colour: info.colour,
            rule: SpeedRule::Unlimited,
            sight: SightRule::Everything,
            resume: None,
            pose: Some(pose),
            outlet: Outlet::Nowhere,
            ended: CancellationToken::new(),
        };
        let seat = room.enter(entrance).await?.ok();
        Ok(seat.map(|seat| Self {
            seat,
            name: info.name.clone(),
            colour: info.colour,
            pose,
        }))
    }
}
