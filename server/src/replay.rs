//! A recording on the stage of the lobby: each recorded cube is a player whose cube goes where
//! the recorded one went.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use cubesync_protocol::limits::{FRAME_HEADER_BYTES, TICK_HZ_RANGE};
use cubesync_protocol::{
    ClientMessage, Colour, CubeId, CubeInfo, CubePose, Message, Pose, ServerMessage, clean_name,
};
use cubesync_recording::{Cursor, Direction, Recording, Scene};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::metrics::Disconnect;
use crate::room::fanout::Outlet;
use crate::room::uplink::SpeedRule;
use crate::room::{Entrance, RoomEnded, RoomHandle, SightRule};
use crate::run::StartError;

/// How many ticks early the room is told where the cubes will be: a timer may come late.
const LEAD_TICKS: u64 = 3;
/// A recorded server that was silent for longer than this many seconds was not heard: heartbeats
/// come every second.
const LONGEST_SILENCE_S: u64 = 2;
/// So many seconds after its end a recording begins anew: one sees where it ends.
const REST_S: u64 = 1;

/// A recording that is played tick by tick, from its beginning again after its end.
///
/// The ticks count, not when they arrived: everything is known already, so that a recording made
/// behind a bad network plays as smoothly as the truth was.
#[derive(Debug)]
pub(crate) struct Replay {
    recording: Recording,
    cursor: Cursor,
    scene: Scene,
    /// The tick that is shown.
    tick: u64,
    /// How long it has been over.
    rested_ticks: u64,
}

/// A recorded cube as a player of the room.
#[derive(Debug)]
struct Puppet {
    cube: CubeId,
    name: String,
    colour: Colour,
    pose: Pose,
}

impl Replay {
    /// Reads a recording.
    ///
    /// # Errors
    /// [`StartError::Replay`].
    pub(crate) fn open(path: &Path) -> Result<Self, StartError> {
        let failed = |reason: String| StartError::Replay {
            path: path.to_owned(),
            reason,
        };
        let file = File::open(path).map_err(|error| failed(error.to_string()))?;
        let recording =
            Recording::read(BufReader::new(file)).map_err(|error| failed(error.to_string()))?;
        if let Some(damage) = recording.damage() {
            warn!("{damage}");
        }
        Self::new(recording).ok_or_else(|| failed("nobody is in it".to_owned()))
    }

    /// At its first tick; `None` when nobody was ever welcomed in it.
    fn new(recording: Recording) -> Option<Self> {
        let mut replay = Self {
            cursor: recording.seek(recording.start()),
            recording,
            scene: Scene::default(),
            tick: 0,
            rested_ticks: 0,
        };
        replay.step();
        TICK_HZ_RANGE.contains(&replay.tick_hz()).then_some(replay)
    }

    /// The rate at which it was recorded.
    pub(crate) fn tick_hz(&self) -> u8 {
        self.scene.welcome().map_or(0, |welcome| welcome.tick_hz)
    }

    /// Plays in a room until `shutdown`.
    pub(crate) async fn play(self, room: RoomHandle, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            // It ends only when the room does.
            _ = self.perform(&room) => {}
        }
    }

    async fn perform(mut self, room: &RoomHandle) -> Result<(), RoomEnded> {
        let length_s = (self.recording.end() - self.recording.start()).as_secs();
        info!(length_s, "playing the recording in the lobby");
        let first = room.view().await?.tick + LEAD_TICKS;
        let began = Instant::now();
        let period = Duration::from_secs(1) / u32::from(self.tick_hz());
        let mut puppets = BTreeMap::new();
        for tick in first.. {
            self.step();
            self.show(room, tick, &mut puppets).await?;
            let ticks = u32::try_from(tick - first).unwrap_or(u32::MAX);
            tokio::time::sleep_until(began + period.saturating_mul(ticks)).await;
        }
        Ok(())
    }

    /// Tells the room where the cubes are at its tick.
    async fn show(
        &self,
        room: &RoomHandle,
        tick: u64,
        puppets: &mut BTreeMap<CubeId, Puppet>,
    ) -> Result<(), RoomEnded> {
        let is_there = |(recorded, puppet): (&CubeId, &Puppet)| {
            let info = self.scene.info(*recorded);
            info.is_some_and(|info| info.name == puppet.name && info.colour == puppet.colour)
        };
        let gone = puppets.iter().filter(|&entry| !is_there(entry));
        for recorded in gone.map(|(recorded, _)| *recorded).collect::<Vec<_>>() {
            if let Some(puppet) = puppets.remove(&recorded) {
                room.leave(puppet.cube, Disconnect::Left).await?;
            }
        }
        for (info, pose) in self.scene.cubes(self.tick) {
            match puppets.get_mut(&info.cube) {
                Some(puppet) if puppet.pose == pose => {}
                Some(puppet) => {
                    puppet.pose = pose;
                    let cube = puppet.cube;
                    let sample = ClientMessage::Sample {
                        tick,
                        placed: vec![CubePose { cube, pose }],
                        surprises: Bytes::new(),
                    };
                    room.message(cube, sample).await?;
                }
                None => {
                    if let Some(puppet) = Puppet::enter(room, info, pose).await? {
                        puppets.insert(info.cube, puppet);
                    }
                }
            }
        }
        Ok(())
    }

    /// Goes on by a tick; after the last one everything rests a while, then it is the first one.
    fn step(&mut self) {
        if self.cursor.peek(&self.recording).is_none() {
            if self.rested_ticks < REST_S * u64::from(self.tick_hz()) {
                self.rested_ticks += 1;
                return;
            }
            self.rested_ticks = 0;
            self.cursor = self.recording.seek(self.recording.start());
            self.scene = Scene::default();
        }
        self.tick += 1;
        while let Some(entry) = self.cursor.peek(&self.recording) {
            let at = entry.at;
            let message = match entry.direction {
                Direction::FromClient => None,
                Direction::FromServer | Direction::Opening => {
                    ServerMessage::decode(&entry.frame[FRAME_HEADER_BYTES..]).ok()
                }
            };
            if let Some(message) = message {
                let silence = LONGEST_SILENCE_S * u64::from(self.tick_hz());
                match (&message, tick_of(&message)) {
                    (ServerMessage::Welcome(welcome), _) => self.tick = welcome.tick,
                    (_, Some(tick)) if tick > self.tick.saturating_add(silence) => self.tick = tick,
                    (_, Some(tick)) if tick > self.tick => return,
                    _ => {}
                }
                self.scene.hear(at, &message);
            }
            self.cursor.next(&self.recording);
        }
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
        let cube = room.enter(entrance).await?.ok();
        Ok(cube.map(|cube| Self {
            cube,
            name: info.name.clone(),
            colour: info.colour,
            pose,
        }))
    }
}

/// The tick that a message tells of.
fn tick_of(message: &ServerMessage) -> Option<u64> {
    match message {
        ServerMessage::Keyframe(keyframe) => Some(keyframe.tick),
        ServerMessage::Snapshot(snapshot) => Some(snapshot.tick),
        ServerMessage::Heartbeat { tick } => Some(*tick),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fifteen seconds of three bots and a player, recorded by a server at 30 Hz, and the same
    /// from behind a bad network.
    const LOBBY: &[u8] = include_bytes!("../../recording/tests/data/lobby.rec");
    const CLIENT: &[u8] = include_bytes!("../../recording/tests/data/client.rec");

    fn replay(file: &[u8]) -> Replay {
        Replay::new(Recording::read(file).unwrap()).unwrap()
    }

    fn positions(replay: &Replay) -> BTreeMap<CubeId, [f32; 3]> {
        let cubes = replay.scene.cubes(replay.tick);
        cubes
            .map(|(info, pose)| (info.cube, pose.position.to_metres()))
            .collect()
    }

    #[test]
    fn every_tick_is_played_evenly_and_after_the_last_one_the_first() {
        for (file, seconds) in [(LOBBY, 15), (CLIENT, 11)] {
            let mut replay = replay(file);
            assert_eq!(replay.tick_hz(), 30);
            let (first, mut most, mut rested) = (replay.tick, 0, 0);
            let mut before = positions(&replay);
            loop {
                let tick = replay.tick;
                replay.step();
                if replay.tick == tick {
                    rested += 1;
                    continue;
                }
                if replay.tick < tick {
                    assert!(
                        (tick - first).abs_diff(seconds * 30) < 60,
                        "{first} to {tick}"
                    );
                    break;
                }
                assert_eq!(replay.tick, tick + 1);
                let after = positions(&replay);
                for (cube, to) in &after {
                    let from = before.get(cube).unwrap_or(to);
                    // 11 m/s, and a part of a player's stall.
                    let way_m = (to[0] - from[0]).hypot(to[1] - from[1]);
                    assert!(way_m < 1.0, "{cube} goes {way_m} m at {tick}");
                }
                most = after.len().max(most);
                before = after;
            }
            assert_eq!((replay.tick, most, rested), (first, 5, 30));
        }
    }

    #[test]
    fn a_recording_in_which_nobody_was_welcomed_is_none() {
        let mut encoder = cubesync_recording::Encoder::default();
        let heartbeat = ServerMessage::Heartbeat { tick: 5 }.to_frame();
        let payload = &heartbeat[FRAME_HEADER_BYTES..];
        encoder.record(Duration::ZERO, Direction::FromServer, payload);
        let chunk = encoder.finish().unwrap();
        let file = [&cubesync_recording::chunk::FILE_HEADER[..], &chunk].concat();
        let recording = Recording::read(&file[..]).unwrap();
        assert!(Replay::new(recording).is_none());
    }
}
