//! The flight recorder: writes the frames of the lobby into a file.
//!
//! The recorder is an ordinary receiver of the room. While the disk is slow, its frames wait in a
//! bounded channel. When that is full, the room goes on without the recorder, which continues with
//! keyframes later.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cubesync_protocol::{Message, ServerMessage, frame};
use cubesync_recording::{BoundedFile, Direction, Encoder};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::blocking;
use crate::config::Config;
use crate::start_error::StartError;
use cubesync_relay::room::RoomHandle;
use cubesync_relay::room::audience::Outlet;

/// Capacity of the channel from the room and of the one to the disk, in ticks: two seconds at the
/// default rate.
const QUEUE_TICKS: usize = 64;

/// Time that a stopping server gives a file that takes nothing.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// Frames with the time of their arrival since the recording began.
type TimedFrames = (Duration, Bytes);

/// Creates the file of the recording that is configured, if there is one, and logs which one: a file that is
/// there already is kept.
///
/// # Errors
/// [`StartError::Record`].
pub(crate) async fn create(config: &Config) -> Result<Option<BoundedFile>, StartError> {
    let Some(wanted) = config.record.clone() else {
        return Ok(None);
    };
    let max_bytes = config.record_max_bytes();
    let what = wanted.display().to_string();
    let create = move || {
        let failed = |error: io::Error| StartError::Record {
            path: wanted.clone(),
            reason: error.to_string(),
        };
        BoundedFile::create(&wanted, max_bytes).map_err(failed)
    };
    let file = blocking::run(&what, create).await??;
    info!(file = %file.path().display(), "recording the lobby; files that were there are kept");
    Ok(Some(file))
}

/// Records a room until it ends or the file cannot be written. Neither disturbs the players. After
/// `shutdown`, a file that takes nothing is given up.
pub(crate) async fn record(mut file: BoundedFile, room: RoomHandle, shutdown: CancellationToken) {
    let (outlet, mut frames) = mpsc::channel(QUEUE_TICKS);
    let Ok(_observer) = room.observe(Outlet::Frames(outlet)).await else {
        return;
    };
    let (to_disk, timed) = mpsc::channel(QUEUE_TICKS);
    let writer = match blocking::start(move || write(timed, |chunk| file.append(chunk))) {
        Ok(writer) => writer,
        Err(error) => return warn!(%error, "nothing is recorded: there is no thread for it"),
    };
    let began = Instant::now();
    let patience = async {
        shutdown.cancelled().await;
        tokio::time::sleep(STOP_PATIENCE).await;
    };
    tokio::pin!(patience);
    while let Some(frames) = frames.recv().await {
        let is_taken = tokio::select! {
            sent = to_disk.send((began.elapsed(), frames)) => sent.is_ok(),
            () = &mut patience => false,
        };
        if !is_taken {
            break;
        }
    }
    drop(to_disk);
    match timeout(STOP_PATIENCE, writer).await {
        Ok(Ok(Err(error))) => {
            warn!(%error, "the recording has ended: its file cannot be written");
        }
        Err(_) => warn!("the end of the recording is missing: its file takes nothing"),
        // The panic hook has reported a panic already.
        Ok(Ok(Ok(())) | Err(_)) => {}
    }
}

/// Encodes and appends frames until the channel closes. Blocks while the disk is slow.
fn write(
    mut timed: mpsc::Receiver<TimedFrames>,
    mut append: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut encoder = Encoder::default();
    let mut gaps = 0;
    while let Some((at, frames)) = timed.blocking_recv() {
        let mut frames = BytesMut::from(frames);
        while let Ok(Some(payload)) = frame::split(&mut frames, ServerMessage::MAX_PAYLOAD_BYTES) {
            if let Some(chunk) = encoder.record(at, Direction::FromServer, &payload) {
                append(&chunk)?;
            }
        }
        if encoder.scene().gaps() > gaps {
            gaps = encoder.scene().gaps();
            warn!("the disk is slow: a part is missing in the recording, which goes on now");
        }
    }
    if let Some(chunk) = encoder.finish() {
        append(&chunk)?;
    }
    info!("the recording is complete");
    Ok(())
}

#[cfg(test)]
mod tests {
    use cubesync_recording::Recording;
    use cubesync_recording::chunk::FILE_HEADER;

    use super::*;

    /// Writes a minute's recording to a disk that fails after `chunks` chunks. Returns the outcome
    /// and the content of the disk.
    fn write_to_disk_of(chunks: usize) -> (io::Result<()>, Vec<u8>) {
        let (sender, timed) = mpsc::channel(100);
        for second in 0..60 {
            let heartbeat = ServerMessage::Heartbeat { tick: second }.to_frame();
            let at = Duration::from_secs(second);
            sender.try_send((at, heartbeat)).unwrap();
        }
        drop(sender);
        let (mut disk, mut written) = (FILE_HEADER.to_vec(), 0);
        let result = write(timed, |chunk| {
            if written == chunks {
                return Err(io::ErrorKind::StorageFull.into());
            }
            written += 1;
            disk.extend_from_slice(chunk);
            Ok(())
        });
        (result, disk)
    }

    #[test]
    fn a_recording_on_a_full_disk_can_be_played() {
        let (result, disk) = write_to_disk_of(3);
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull);
        let recording = Recording::read(&disk[..]).unwrap();
        assert_eq!(recording.end(), Duration::from_secs(14));
        let (result, disk) = write_to_disk_of(100);
        assert!(result.is_ok());
        let recording = Recording::read(&disk[..]).unwrap();
        assert_eq!(recording.end(), Duration::from_secs(59));
    }
}
