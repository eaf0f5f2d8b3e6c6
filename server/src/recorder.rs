//! The flight recorder: writes the frames of the lobby into a file.
//!
//! The recorder is an ordinary receiver of the room. While the disk is slow, its frames wait in a
//! bounded channel. When that is full, the room goes on without the recorder, which continues with
//! keyframes later.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cubesync_protocol::{Message, ServerMessage, frame};
use cubesync_recording::{BoundedFile, Direction, Encoder};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::start_error::StartError;
use cubesync_relay::room::RoomHandle;
use cubesync_relay::room::audience::Outlet;

/// Capacity of the channel from the room and of the one to the disk, in ticks: two seconds at the
/// default rate.
const QUEUE_TICKS: usize = 64;

/// Frames with the time of their arrival since the recording began.
type TimedFrames = (Duration, Bytes);

/// Creates the file of a recording, and logs which one: a file that is there already is kept.
///
/// # Errors
/// [`StartError::Record`].
pub(crate) fn create(wanted: &Path, max_bytes: u64) -> Result<BoundedFile, StartError> {
    let created = BoundedFile::create(wanted, max_bytes);
    let file = created.map_err(|error| StartError::Record {
        path: wanted.to_owned(),
        reason: error.to_string(),
    })?;
    info!(file = %file.path().display(), "recording the lobby; files that were there are kept");
    Ok(file)
}

/// Records a room until it ends or the file cannot be written. Neither disturbs the players.
pub(crate) async fn record(mut file: BoundedFile, room: RoomHandle) {
    let (outlet, mut frames) = mpsc::channel(QUEUE_TICKS);
    let Ok(_observer) = room.observe(Outlet::Frames(outlet)).await else {
        return;
    };
    let (to_disk, timed) = mpsc::channel(QUEUE_TICKS);
    let writer = tokio::task::spawn_blocking(move || write(timed, |chunk| file.append(chunk)));
    let began = Instant::now();
    while let Some(frames) = frames.recv().await {
        if to_disk.send((began.elapsed(), frames)).await.is_err() {
            break;
        }
    }
    drop(to_disk);
    // The panic hook has reported a panic already.
    if let Ok(Err(error)) = writer.await {
        warn!(%error, "the recording has ended: its file cannot be written");
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
