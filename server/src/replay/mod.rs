//! Playing a recording in the lobby: each recorded player becomes a player of the room whose cube
//! follows the recorded one. A [`playback`] gives the cubes at a tick, the [`players`] move them.

pub(crate) mod playback;
mod players;

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cubesync_protocol::CubeKind;
use cubesync_protocol::limits::MAX_LOOSE_CUBES;
use cubesync_recording::Recording;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::playback::Playback;
use self::players::ReplayedPlayers;
use crate::blocking;
use crate::config::Config;
use crate::start_error::StartError;
use cubesync_relay::mechanics::{Field, FieldCube};
use cubesync_relay::room::world::FREE_CUBE;
use cubesync_relay::room::{RoomEnded, RoomHandle};

/// Number of ticks by which samples are sent ahead of their tick, because a timer may fire late.
const LEAD_TICKS: u64 = 3;

/// A recording to play.
#[derive(Debug)]
pub(crate) struct Replay {
    playback: Playback,
}

impl Replay {
    /// Reads the recording that is configured, if there is one. Waits without blocking while nobody writes
    /// into a pipe.
    ///
    /// # Errors
    /// [`StartError::Replay`].
    pub(crate) async fn open(config: &Config) -> Result<Option<Self>, StartError> {
        let Some(path) = config.replay.clone() else {
            return Ok(None);
        };
        let what = path.display().to_string();
        let read = blocking::run(&what, move || Self::read(&path)).await?;
        read.map(Some)
    }

    fn read(path: &Path) -> Result<Self, StartError> {
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
        let mut playback =
            Playback::new(recording).ok_or_else(|| failed("nobody is in it".to_owned()))?;
        playback.skip_to_cubes();
        Ok(Self { playback })
    }

    /// Returns the rate at which the recording was made.
    pub(crate) fn tick_hz(&self) -> u8 {
        self.playback.tick_hz()
    }

    /// Returns the recorded free cubes, if there are several, as they stand at first.
    pub(crate) fn field(&self) -> Option<Field> {
        let scene = self.playback.scene().cubes(self.playback.tick());
        let free = scene.filter(|(info, _)| matches!(info.kind, CubeKind::Free { .. }));
        // A room counts its own from the first one on.
        let counted = (FREE_CUBE.0..).zip(free);
        let known = counted.take_while(|(id, (info, _))| info.cube.0 == *id);
        let cubes = known
            .take(MAX_LOOSE_CUBES)
            .map(|(_, (info, pose))| FieldCube {
                width: info.width,
                colour: info.colour,
                pose,
            });
        let cubes: Arc<[_]> = cubes.collect();
        (cubes.len() > 1).then_some(Field {
            cubes,
            create: None,
            kept: None,
        })
    }

    /// Plays in a room until `shutdown` or the end of the room.
    pub(crate) async fn play(mut self, room: RoomHandle, shutdown: CancellationToken) {
        info!("playing the recording in the lobby");
        let mut players = ReplayedPlayers::new(room.clone());
        tokio::select! {
            () = shutdown.cancelled() => {}
            _ = self.play_until_room_ends(&room, &mut players) => {}
        }
        players.abandon().await;
    }

    async fn play_until_room_ends(
        &mut self,
        room: &RoomHandle,
        players: &mut ReplayedPlayers,
    ) -> Result<(), RoomEnded> {
        let first = room.view().await?.tick + LEAD_TICKS;
        let began = Instant::now();
        let period = Duration::from_secs(1) / u32::from(self.tick_hz());
        for tick in first.. {
            self.playback.step();
            players
                .update(self.playback.scene(), self.playback.tick(), tick)
                .await?;
            let ticks = u32::try_from(tick - first).unwrap_or(u32::MAX);
            tokio::time::sleep_until(began + period.saturating_mul(ticks)).await;
        }
        Ok(())
    }
}
