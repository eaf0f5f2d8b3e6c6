//! The recorder's thread, and the taps through which clients hand it their bytes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::BytesMut;
use cubesync_protocol::{ClientMessage, Message, ServerMessage, frame};
use cubesync_recording::{BoundedFile, Direction, Encoder};

/// Largest number of entries that wait for the disk: half a minute's at 60 frames a second.
const QUEUE: usize = 4_096;

/// A message to the recorder's thread.
#[derive(Debug)]
enum RecorderMessage {
    Connected,
    Received(Duration, Vec<u8>),
    Sent(Duration, Vec<u8>),
    Datagram(Duration, Vec<u8>),
    /// An entry was left out, so nothing after it could be understood.
    Overrun,
    Finish,
}

/// A recording that is being made. Dropping it writes the remaining entries and waits for that.
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    traffic: SyncSender<RecorderMessage>,
    thread: Option<JoinHandle<()>>,
}

/// A client's access to the recorder; it never waits.
#[derive(Debug)]
pub struct Tap {
    traffic: SyncSender<RecorderMessage>,
    has_overrun: bool,
}

impl Recorder {
    /// Begins a recording of at most `max_bytes`, in a file of its own: where one is at `path`
    /// already, under the next free name ([`cubesync_recording::Place`]). When it has to end early, `say` is called with the
    /// reason, once and on another thread; nothing else changes.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn create(
        path: &Path,
        max_bytes: u64,
        say: impl FnOnce(String) + Send + 'static,
    ) -> io::Result<Self> {
        let file = BoundedFile::create(path, max_bytes)?;
        let path = file.path().to_owned();
        let (traffic, entries) = mpsc::sync_channel(QUEUE);
        let thread = thread::Builder::new()
            .name("recorder".into())
            .spawn(move || {
                if let Err(reason) = record(&entries, file) {
                    say(format!("the recording has ended: {reason}"));
                }
            })?;
        Ok(Self {
            path,
            traffic,
            thread: Some(thread),
        })
    }

    /// Returns where the recording goes.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns a tap for one client. Several clients at once would mix their bytes.
    pub fn tap(&self) -> Tap {
        Tap {
            traffic: self.traffic.clone(),
            has_overrun: false,
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // The thread may have ended by itself.
        let _ = self.traffic.send(RecorderMessage::Finish);
        if let Some(thread) = self.thread.take() {
            // A panic has been reported.
            let _ = thread.join();
        }
    }
}

impl Tap {
    /// Records that a connection begins.
    pub fn connected(&mut self) {
        self.send(RecorderMessage::Connected);
    }

    /// Records received bytes.
    pub fn received(&mut self, at: Duration, bytes: &[u8]) {
        self.send(RecorderMessage::Received(at, bytes.to_vec()));
    }

    /// Records sent bytes.
    pub fn sent(&mut self, at: Duration, bytes: &[u8]) {
        self.send(RecorderMessage::Sent(at, bytes.to_vec()));
    }

    /// Records the plaintext of a datagram that was received.
    pub fn received_datagram(&mut self, at: Duration, datagram: &[u8]) {
        self.send(RecorderMessage::Datagram(at, datagram.to_vec()));
    }

    fn send(&mut self, traffic: RecorderMessage) {
        let traffic = if self.has_overrun {
            RecorderMessage::Overrun
        } else {
            traffic
        };
        if let Err(TrySendError::Full(_)) = self.traffic.try_send(traffic) {
            self.has_overrun = true;
        }
    }
}

/// Writes entries until there are no more. The thread runs this.
fn record(entries: &Receiver<RecorderMessage>, mut file: BoundedFile) -> Result<(), String> {
    let mut encoder = Encoder::default();
    let (mut received, mut sent) = (BytesMut::new(), BytesMut::new());
    let mut result = Ok(());
    for traffic in entries {
        let (at, direction, buffer, bytes, limit_bytes) = match traffic {
            RecorderMessage::Connected => {
                received.clear();
                sent.clear();
                encoder.reconnected();
                continue;
            }
            RecorderMessage::Received(at, bytes) => {
                let limit_bytes = ServerMessage::MAX_PAYLOAD_BYTES;
                let from = Direction::FromServer;
                (at, from, &mut received, bytes, limit_bytes)
            }
            RecorderMessage::Sent(at, bytes) => {
                let limit_bytes = ClientMessage::MAX_PAYLOAD_BYTES;
                let from = Direction::FromClient;
                (at, from, &mut sent, bytes, limit_bytes)
            }
            RecorderMessage::Datagram(at, datagram) => {
                if let Some(chunk) = encoder.record(at, Direction::Datagram, &datagram) {
                    file.append(&chunk).map_err(|error| error.to_string())?;
                }
                continue;
            }
            RecorderMessage::Overrun => {
                result = Err("the disk is too slow".to_owned());
                break;
            }
            RecorderMessage::Finish => break,
        };
        buffer.extend_from_slice(&bytes);
        // Bytes that are not a frame end the connection, so nothing follows them.
        while let Ok(Some(payload)) = frame::split(buffer, limit_bytes) {
            if let Some(chunk) = encoder.record(at, direction, &payload) {
                file.append(&chunk).map_err(|error| error.to_string())?;
            }
        }
    }
    if let Some(chunk) = encoder.finish() {
        file.append(&chunk).map_err(|error| error.to_string())?;
    }
    result
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use cubesync_protocol::Colour;
    use cubesync_protocol::Hello;
    use cubesync_recording::{Entry, Recording};

    use super::*;

    #[test]
    fn pieces_of_frames_are_joined_and_a_new_connection_begins_with_a_whole_frame() {
        let path = std::env::temp_dir().join(format!("cubesync-tap-{}", std::process::id()));
        let hello = Hello::new("lobby", "Anna", Colour::from([1, 2, 3]));
        let hello = ClientMessage::Hello(hello).to_frame();
        let heartbeat = ServerMessage::Heartbeat { tick: 7 }.to_frame();
        let recorder = Recorder::create(&path, 1 << 20, |reason| panic!("{reason}")).unwrap();
        for second in 0..2 {
            // A client that joins again gets another tap.
            let mut tap = recorder.tap();
            tap.connected();
            for (index, byte) in (0u64..).zip(&hello[..]) {
                tap.sent(Duration::from_millis(1_000 * second + index), &[*byte]);
            }
            let glued = [&heartbeat[..], &heartbeat, &heartbeat[..3]].concat();
            tap.received(Duration::from_millis(1_000 * second + 900), &glued);
        }
        drop(recorder);
        let recording = Recording::read(File::open(&path).unwrap()).unwrap();
        fs::remove_file(&path).unwrap();
        let mut cursor = recording.seek(Duration::ZERO);
        let entries: Vec<Entry> = std::iter::from_fn(|| cursor.next(&recording)).collect();
        let recorded = entries
            .iter()
            .map(|entry| (entry.at.as_millis() / 100, &entry.frame));
        let expected = [(0, &hello), (9, &heartbeat), (9, &heartbeat)];
        let again = expected.map(|(at, frame)| (at + 10, frame));
        assert!(
            recorded.eq(expected.into_iter().chain(again)),
            "{entries:?}"
        );
    }

    #[test]
    fn a_tap_never_waits_and_an_entry_that_it_leaves_out_ends_the_recording() {
        let (traffic, entries) = mpsc::sync_channel(2);
        let has_overrun = false;
        let mut tap = Tap {
            traffic,
            has_overrun,
        };
        for second in 0..4 {
            tap.sent(Duration::from_secs(second), b"some bytes");
        }
        assert_eq!(entries.try_iter().count(), 2);
        tap.sent(Duration::from_secs(5), b"more bytes");
        assert!(matches!(entries.try_recv(), Ok(RecorderMessage::Overrun)));
    }
}
