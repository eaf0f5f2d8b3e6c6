//! A recording on the stage of the lobby: each recorded player is a player whose cube goes where
//! the recorded one went. A [`playback`] says where the cubes are at a tick, a [`players`] puts them there.

pub(crate) mod playback;
mod players;

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::time::Duration;

use cubesync_recording::Recording;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::playback::Reel;
use self::players::Stage;
use crate::start_error::StartError;
use cubesync_relay::room::{RoomEnded, RoomHandle};

/// How many ticks early the room is told where the cubes will be: a timer may come late.
const LEAD_TICKS: u64 = 3;

/// A recording that is to be played.
#[derive(Debug)]
pub(crate) struct Replay {
    reel: Reel,
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
        let reel = Reel::new(recording).ok_or_else(|| failed("nobody is in it".to_owned()))?;
        Ok(Self { reel })
    }

    /// The rate at which it was recorded.
    pub(crate) fn tick_hz(&self) -> u8 {
        self.reel.tick_hz()
    }

    /// Plays in a room until `shutdown`.
    pub(crate) async fn play(self, room: RoomHandle, shutdown: CancellationToken) {
        info!("playing the recording in the lobby");
        tokio::select! {
            () = shutdown.cancelled() => {}
            // It ends only when the room does.
            _ = self.perform(room) => {}
        }
    }

    async fn perform(mut self, room: RoomHandle) -> Result<(), RoomEnded> {
        let first = room.view().await?.tick + LEAD_TICKS;
        let began = Instant::now();
        let period = Duration::from_secs(1) / u32::from(self.tick_hz());
        let mut stage = Stage::new(room);
        for tick in first.. {
            self.reel.step();
            stage
                .show(self.reel.scene(), self.reel.tick(), tick)
                .await?;
            let ticks = u32::try_from(tick - first).unwrap_or(u32::MAX);
            tokio::time::sleep_until(began + period.saturating_mul(ticks)).await;
        }
        Ok(())
    }
}
