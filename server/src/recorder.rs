//! The flight recorder: what the lobby tells, into a file.
//!
//! It is an observer of the room like any reader: while the disk is slow, its frames wait in a
//! bounded channel, then the room goes on without it, and it goes on with keyframes.

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

/// Ticks that wait for the room's side and for the disk, each: two seconds at the default rate.
const QUEUE: usize = 64;

/// Frames, and when they came.
type Timed = (Duration, Bytes);

/// Begins a recording's file.
///
/// # Errors
/// [`StartError::Record`].
pub(crate) fn create(path: &Path, max_bytes: u64) -> Result<BoundedFile, StartError> {
    BoundedFile::create(path, max_bytes).map_err(|error| StartError::Record {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// Records a room until it ends or the file cannot be written, which nobody else notices.
pub(crate) async fn record(mut file: BoundedFile, room: RoomHandle) {
    let (outlet, mut frames) = mpsc::channel(QUEUE);
    let Ok(_observer) = room.observe(Outlet::Frames(outlet)).await else {
        return;
    };
    let (to_disk, timed) = mpsc::channel(QUEUE);
    let writer = tokio::task::spawn_blocking(move || write(timed, |chunk| file.append(chunk)));
    let began = Instant::now();
    while let Some(frames) = frames.recv().await {
        if to_disk.send((began.elapsed(), frames)).await.is_err() {
            break;
        }
    }
    drop(to_disk);
    // A panic has been reported.
    if let Ok(Err(error)) = writer.await {
        warn!(%error, "the recording has ended: its file cannot be written");
    }
}

/// Runs where it may block, until there are no more frames.
fn write(
    mut timed: mpsc::Receiver<Timed>,
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

    /// What a disk that breaks after so many chunks has got of a minute's recording.
    fn on_a_disk_for(chunks: usize) -> (io::Result<()>, Vec<u8>) {
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
    fn what_was_written_before_the_disk_was_full_can_be_played() {
        let (result, disk) = on_a_disk_for(3);
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull);
        let recording = Recording::read(&disk[..]).unwrap();
        assert_eq!(recording.end(), Duration::from_secs(14));
        let (result, disk) = on_a_disk_for(100);
        assert!(result.is_ok());
        let recording = Recording::read(&disk[..]).unwrap();
        assert_eq!(recording.end(), Duration::from_secs(59));
    }
}
