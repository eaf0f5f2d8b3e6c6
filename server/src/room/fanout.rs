//! Fan-out: every connection is a cursor into the snapshot log, and writes what its socket takes.
//!
//! Nothing is encoded or queued per connection. What is a connection's own (a pong, a
//! correction) is small and goes between two shared frames.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use cubesync_protocol::{Message, ServerMessage};
use socket2::SockRef;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::log::{BEFORE_LOG, Sequence, SnapshotLog};

/// Buffers handed to the kernel in one write: half a second of ticks.
const MAX_SLICES: usize = 16;

/// Own frames a connection may have waiting, in bytes. A peer that asks without reading gets no
/// answers beyond this.
const MAX_PERSONAL_BYTES: usize = 4 * 1024;

/// Where a connection's frames go.
#[derive(Debug, Clone)]
pub enum Outlet {
    /// A TCP socket; the session reads from it and only the room writes to it.
    Tcp(Arc<OwnedWriteHalf>),
    /// A task of this process that turns frames into something else. Each item is one or more
    /// whole frames.
    Frames(mpsc::Sender<Bytes>),
}

/// What a flush achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushed {
    /// Everything is written.
    All,
    /// The outlet takes no more at the moment.
    Blocked,
}

/// One connection's place in the log.
#[derive(Debug)]
pub struct Connection {
    outlet: Outlet,
    /// What must be written before anything else: the rest of a frame that was begun.
    begun: Bytes,
    /// Whole frames for this connection only.
    personal: BytesMut,
    cursor: Sequence,
    /// Since when the outlet has taken nothing although there was something to write.
    blocked_since: Option<Instant>,
    written_bytes: u64,
}

impl Connection {
    /// A connection that has seen nothing yet.
    pub fn new(outlet: Outlet) -> Self {
        Self {
            outlet,
            begun: Bytes::new(),
            personal: BytesMut::new(),
            cursor: BEFORE_LOG,
            blocked_since: None,
            written_bytes: 0,
        }
    }

    /// Adds a frame for this connection alone; returns false when too many are waiting.
    pub fn push_personal(&mut self, message: &ServerMessage) -> bool {
        if self.personal.len() > MAX_PERSONAL_BYTES {
            return false;
        }
        message.append_frame(&mut self.personal);
        true
    }

    /// Gives a connection that is new or has fallen behind the keyframe of the log's end, and
    /// says whether it did. Right after a tick only.
    pub fn catch_up(&mut self, log: &mut SnapshotLog, build: impl FnOnce() -> Bytes) -> bool {
        let due = self.begun.is_empty() && self.personal.is_empty() && log.has_lost(self.cursor);
        if due {
            self.begun = log.keyframe(build);
            self.cursor = log.next();
        }
        due
    }

    /// Writes until everything is written or the outlet takes no more.
    ///
    /// # Errors
    /// The outlet is closed.
    pub fn flush(&mut self, log: &SnapshotLog, now: Instant) -> io::Result<Flushed> {
        let before = self.written_bytes;
        let flushed = match &self.outlet {
            Outlet::Tcp(stream) => {
                let stream = Arc::clone(stream);
                self.flush_tcp(&stream, log)?
            }
            Outlet::Frames(frames) => {
                let frames = frames.clone();
                self.flush_frames(&frames, log)
            }
        };
        if flushed == Flushed::All || self.written_bytes > before {
            self.blocked_since = None;
        } else if self.blocked_since.is_none() {
            self.blocked_since = Some(now);
        }
        Ok(flushed)
    }

    /// Bytes written since the last call.
    pub fn take_written_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.written_bytes)
    }

    /// How long the outlet has taken nothing.
    pub fn blocked_for(&self, now: Instant) -> Duration {
        self.blocked_since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Ends the sending side; what the kernel has is still delivered.
    pub fn finish(&self) {
        if let Outlet::Tcp(stream) = &self.outlet {
            // Fails only when the peer was faster.
            let _ = SockRef::from((**stream).as_ref()).shutdown(std::net::Shutdown::Write);
        }
    }

    /// Ends the connection and drops what the kernel still holds for a peer that does not read.
    pub fn reset(&self) {
        if let Outlet::Tcp(stream) = &self.outlet {
            let socket = SockRef::from((**stream).as_ref());
            // Fails only when the peer was faster.
            let _ = socket.set_linger(Some(Duration::ZERO));
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }

    fn flush_tcp(&mut self, stream: &OwnedWriteHalf, log: &SnapshotLog) -> io::Result<Flushed> {
        loop {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let own = [&self.begun[..], &self.personal[..]];
            let shared = log.from(self.cursor).map(|frame| &frame[..]);
            let waiting = own
                .into_iter()
                .filter(|bytes| !bytes.is_empty())
                .chain(shared);
            let mut count = 0;
            for (slice, bytes) in slices.iter_mut().zip(waiting) {
                *slice = IoSlice::new(bytes);
                count += 1;
            }
            if count == 0 {
                return Ok(Flushed::All);
            }
            match stream.try_write_vectored(&slices[..count]) {
                Ok(written) => self.advance(written, log),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Flushed::Blocked);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn flush_frames(&mut self, frames: &mpsc::Sender<Bytes>, log: &SnapshotLog) -> Flushed {
        loop {
            let next = if !self.begun.is_empty() {
                std::mem::take(&mut self.begun)
            } else if !self.personal.is_empty() {
                self.personal.split().freeze()
            } else if let Some(frame) = log.from(self.cursor).next() {
                self.cursor += 1;
                frame.clone()
            } else {
                return Flushed::All;
            };
            let len_bytes = next.len() as u64;
            match frames.try_send(next) {
                Ok(()) => self.written_bytes += len_bytes,
                // Whoever closed the channel tells the room why; until then it takes nothing.
                Err(TrySendError::Full(frame) | TrySendError::Closed(frame)) => {
                    self.begun = frame;
                    return Flushed::Blocked;
                }
            }
        }
    }

    /// Moves on by the bytes the socket took, in the order in which they were offered.
    fn advance(&mut self, written: usize, log: &SnapshotLog) {
        self.written_bytes += written as u64;
        let mut left = written;

        let from_begun = left.min(self.begun.len());
        self.begun.advance(from_begun);
        left -= from_begun;
        if left == 0 {
            return;
        }

        if left < self.personal.len() {
            self.personal.advance(left);
            self.begun = self.personal.split().freeze();
            return;
        }
        left -= self.personal.len();
        self.personal = BytesMut::new();

        let mut passed = 0;
        for frame in log.from(self.cursor) {
            if left == 0 {
                break;
            }
            passed += 1;
            if left < frame.len() {
                self.begun = frame.slice(left..);
                break;
            }
            left -= frame.len();
        }
        self.cursor += passed;
    }
}

#[cfg(test)]
mod tests {
    use cubesync_protocol::frame;
    use tokio::io::AsyncReadExt;
    use tokio::net::tcp::OwnedReadHalf;
    use tokio::net::{TcpListener, TcpSocket, TcpStream};

    use super::*;

    fn pong(number: u64) -> ServerMessage {
        ServerMessage::Pong {
            sent_us: number,
            tick: 0,
            since_tick_us: 0,
            late_samples: 0,
        }
    }

    fn take_all(received: &mut BytesMut) -> Vec<ServerMessage> {
        std::iter::from_fn(|| frame::split(received, ServerMessage::MAX_PAYLOAD_BYTES).unwrap())
            .map(|payload| ServerMessage::decode(&payload).unwrap())
            .collect()
    }

    /// A connected pair whose kernel buffers are as small as the kernel allows.
    async fn tight_pair() -> (Arc<OwnedWriteHalf>, OwnedReadHalf, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let client = socket
            .connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (server, _) = listener.accept().await.unwrap();
        SockRef::from(&server).set_send_buffer_size(4096).unwrap();
        server.writable().await.unwrap();
        let (reader, writer) = server.into_split();
        (Arc::new(writer), reader, client)
    }

    /// Reads until the server's side may write again.
    async fn make_room(server: &OwnedWriteHalf, client: &mut TcpStream, received: &mut BytesMut) {
        tokio::select! {
            writable = server.writable() => writable.unwrap(),
            read = client.read_buf(received) => assert!(read.unwrap() > 0),
        }
    }

    #[tokio::test]
    async fn frames_arrive_whole_and_in_order_through_any_number_of_partial_writes() {
        let (server, _reader, mut client) = tight_pair().await;
        let mut connection = Connection::new(Outlet::Tcp(Arc::clone(&server)));
        let mut log = SnapshotLog::default();
        let mut random = fastrand::Rng::with_seed(3);
        let mut received = BytesMut::new();
        let long = ServerMessage::Reject {
            code: cubesync_protocol::RejectCode::Full,
            message: "x".repeat(3_000),
        };
        let mut blocked = 0;
        connection.push_personal(&pong(0));
        connection.flush(&log, Instant::now()).unwrap();
        connection.catch_up(&mut log, || pong(1).to_frame());
        let (mut sent_shared, mut sent_personal) = (0, 0);
        for number in 2..2_000 {
            log.push(long.to_frame());
            sent_shared += 1;
            if random.bool() {
                sent_personal += usize::from(connection.push_personal(&pong(number)));
            }
            while connection.flush(&log, Instant::now()).unwrap() == Flushed::Blocked {
                blocked += 1;
                make_room(&server, &mut client, &mut received).await;
            }
        }
        connection.finish();
        while client.read_buf(&mut received).await.unwrap() > 0 {}

        let messages = take_all(&mut received);
        assert_eq!(messages[..2], [pong(0), pong(1)]);
        let (shared, personal): (Vec<_>, Vec<_>) =
            messages[2..].iter().partition(|message| **message == long);
        assert_eq!((shared.len(), personal.len()), (sent_shared, sent_personal));
        let numbers = personal.iter().map(|message| match message {
            ServerMessage::Pong { sent_us, .. } => *sent_us,
            other => panic!("{other:?}"),
        });
        assert!(numbers.is_sorted());
        assert!(blocked > 100, "only {blocked} partial writes");
    }

    #[tokio::test]
    async fn a_reader_that_stalls_goes_on_with_a_keyframe_and_whole_frames() {
        let (server, _reader, mut client) = tight_pair().await;
        let mut connection = Connection::new(Outlet::Tcp(Arc::clone(&server)));
        let mut log = SnapshotLog::default();
        let filler = ServerMessage::Reject {
            code: cubesync_protocol::RejectCode::Full,
            message: "x".repeat(1_000),
        };
        let start = Instant::now();
        for number in 0..500 {
            log.push(filler.to_frame());
            connection.catch_up(&mut log, || pong(number).to_frame());
            connection.flush(&log, start).unwrap();
        }
        assert!(log.has_lost(connection.cursor));
        let later = start + Duration::from_secs(3);
        assert!(connection.blocked_for(later) > Duration::ZERO);
        assert!(
            connection.personal.is_empty(),
            "nothing is kept for a slow reader"
        );

        let mut received = BytesMut::new();
        let mut number = 500;
        while log.has_lost(connection.cursor)
            || connection.flush(&log, later).unwrap() == Flushed::Blocked
        {
            make_room(&server, &mut client, &mut received).await;
            connection.flush(&log, later).unwrap();
            connection.catch_up(&mut log, || pong(number).to_frame());
            number += 1;
        }
        assert_eq!(connection.blocked_for(later), Duration::ZERO);
        connection.finish();
        while client.read_buf(&mut received).await.unwrap() > 0 {}
        let messages = take_all(&mut received);
        let keyframes = messages
            .iter()
            .filter(|message| **message != filler)
            .count();
        // One at the start, one after the stall, and one between if the kernel's buffer happened
        // to end at the end of a frame.
        assert!((2..=3).contains(&keyframes), "{keyframes} keyframes");
        assert!(messages.len() < 500);
    }

    #[tokio::test]
    async fn a_full_channel_blocks_and_loses_nothing() {
        let (sender, mut receiver) = mpsc::channel(2);
        let mut connection = Connection::new(Outlet::Frames(sender));
        let mut log = SnapshotLog::default();
        connection.catch_up(&mut log, || pong(0).to_frame());
        for number in 1..5 {
            log.push(pong(number).to_frame());
        }
        let mut received = BytesMut::new();
        while connection.flush(&log, Instant::now()).unwrap() == Flushed::Blocked {
            received.extend_from_slice(&receiver.recv().await.unwrap());
        }
        drop(connection);
        while let Some(frames) = receiver.recv().await {
            received.extend_from_slice(&frames);
        }
        assert_eq!(
            take_all(&mut received),
            (0..5).map(pong).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_peer_that_asks_without_reading_gets_a_bounded_number_of_answers() {
        let (sender, _receiver) = mpsc::channel(1);
        let mut connection = Connection::new(Outlet::Frames(sender));
        let taken = (0..10_000)
            .filter(|&number| connection.push_personal(&pong(number)))
            .count();
        assert!(taken < 1_000);
        assert!(connection.personal.len() < 2 * MAX_PERSONAL_BYTES);
    }
}
