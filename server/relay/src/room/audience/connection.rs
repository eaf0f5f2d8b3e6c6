//! A connection: a cursor into the snapshot log that writes what its socket takes.
//!
//! Nothing is encoded or queued per connection, except that a connection's own frames (a pong, a
//! correction) are small and are written between two shared ones.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::ops::AddAssign;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use cubesync_protocol::cells::{Sight, View};
use cubesync_protocol::datagram::Uplink;
use cubesync_protocol::{CellId, CubeId, Message, ServerMessage};
use socket2::SockRef;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;

use super::held::Turn;
use super::path::{Path, Sent, ServedTick};
use super::queue::FrameQueue;
use crate::datagram::DatagramPath;
use crate::room::log::{Cursor, SnapshotLog, StreamId};

/// Largest number of buffers in one write: a tick of all cells in sight, or half a second of one.
const MAX_SLICES: usize = 48;

/// Approximate size up to which frames are joined that go through a channel.
const BATCH_BYTES: usize = 16 * 1024;

/// Largest number of bytes of a connection's own frames that wait. A peer that asks without reading
/// gets no more answers than this.
const MAX_PERSONAL_BYTES: usize = 4 * 1024;

/// Interval at which a socket that takes no more is asked again. The system says that it takes some only when a
/// third of its buffer is free, which a peer on a thin line takes seconds for.
const RETRY: Duration = Duration::from_secs(1);

/// Lowest rate at which a peer must take what waits for it, averaged over the time for which it is waited
/// for. A line of 8 kB/s is slow; one that a peer keeps four times as slow is kept so on purpose.
const MIN_BYTES_PER_SECOND: u64 = 2 * 1024;

/// The destination of a connection's frames.
#[derive(Debug, Clone)]
pub enum Outlet {
    /// A TCP socket. The session reads from it, and only the room writes to it.
    Tcp(Arc<OwnedWriteHalf>),
    /// A session that sends the frames on a connection whose socket a library owns.
    Session(FrameQueue),
    /// A task of this process that turns frames into something else. Each item is one or more
    /// whole frames.
    Frames(mpsc::Sender<Bytes>),
    /// No destination: frames are dropped unread.
    Nowhere,
}

/// The result of a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flushed {
    /// Everything is written.
    All,
    /// The outlet takes no more at the moment.
    Blocked,
}

/// One connection's place in the log.
#[derive(Debug)]
pub(super) struct Connection {
    outlet: Outlet,
    /// The frames that are written before all others: the rest of a frame that is partly written, and
    /// keyframes.
    pending: VecDeque<Bytes>,
    /// Whole frames for this connection only.
    personal: BytesMut,
    cursor: Cursor,
    /// The cells that the connection sees, and their streams.
    view: View,
    streams: Vec<StreamId>,
    /// The newest tick of which something was sent.
    sent_tick: u64,
    /// Whether a heartbeat follows content at the next tick, so that TCP notices a loss soon.
    sends_tail: bool,
    /// Whether what was sent last is content, and no heartbeat.
    ends_with_content: bool,
    /// The time since which bytes wait, later by what the peer has taken at the lowest rate that it may have.
    waits_since: Option<Instant>,
    /// The number of bytes that a session had at the last look and its peer had not taken.
    unsent_bytes: usize,
    /// The turn of the oldest keyframes that the peer has not taken yet.
    held: Option<Turn>,
    /// When a socket that takes no more was asked again.
    retried: Option<Instant>,
    written: Written,
    /// The way for datagrams, when the client has opened one.
    path: Option<Box<Path>>,
}

/// Counts of what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Bytes.
    pub bytes: u64,
    /// Frames that are written at least in part.
    pub frames: u64,
}

impl AddAssign for Written {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.frames += other.frames;
    }
}

impl Connection {
    /// Creates a connection that has received nothing yet.
    pub(super) fn new(outlet: Outlet) -> Self {
        Self {
            outlet,
            pending: VecDeque::new(),
            personal: BytesMut::new(),
            cursor: Cursor::BEFORE_LOG,
            view: View::new(),
            streams: Vec::new(),
            sent_tick: 0,
            sends_tail: false,
            ends_with_content: false,
            waits_since: None,
            unsent_bytes: 0,
            held: None,
            retried: None,
            written: Written::default(),
            path: None,
        }
    }

    /// Sends datagrams as well, on a path that was opened in a tick.
    pub(super) fn open_path(&mut self, path: Arc<dyn DatagramPath>, tick: u64, tick_hz: u8) {
        self.path = Some(Box::new(Path::new(path, tick, tick_hz)));
    }

    /// Returns whether datagrams come through, in both directions.
    pub(super) fn datagrams_work(&self, tick: u64) -> bool {
        self.path.as_ref().is_some_and(|path| path.works(tick))
    }

    /// Notes that a datagram of the client has come in a tick.
    pub(super) fn heard(&mut self, uplink: &Uplink, tick: u64) {
        if let Some(path) = &mut self.path {
            path.heard(uplink, tick);
        }
    }

    /// Sends the datagram that is due after a tick, if there is a path. Before its keyframes, a receiver may
    /// still have the streams of another owner of the room.
    pub(super) fn serve_datagram(&mut self, served: ServedTick<'_>, own: Option<CubeId>) -> Sent {
        match (&mut self.path, own) {
            (Some(path), Some(own)) if self.cursor != Cursor::BEFORE_LOG => {
                path.serve(served, &self.streams, own)
            }
            _ => Sent::default(),
        }
    }

    /// Returns whether it has a path, and its stream had all and took all until the last tick.
    pub(super) fn is_flowing(&self, log: &SnapshotLog) -> bool {
        let has_path = self.path.is_some();
        let takes_all = match &self.outlet {
            // Datagrams would overtake what a session still has.
            Outlet::Session(queue) => queue.waiting_bytes() == 0,
            _ => self.waits_since.is_none(),
        };
        has_path && self.is_empty() && takes_all && !self.has_fallen_behind(log)
    }

    /// Returns whether the stream may wait with what it has, since a datagram has just brought it.
    pub(super) fn may_wait(&self, served: ServedTick<'_>) -> bool {
        // The stream alone has the tick before, of which the client knows only by a later one that nothing
        // is missing. Until then it can use no datagram that begins there.
        let path = self.path.as_ref();
        if path.is_some_and(|path| path.has_left(self.sent_tick)) {
            return false;
        }
        let mut next = self.cursor;
        let has_content = served.log.next(&self.streams, &mut next).is_some();
        has_content && served.tick - self.sent_tick < served.wait_ticks
    }

    /// Turns the tail on or off: a heartbeat that follows content at the next tick, unless that tick has
    /// content too. TCP resends a lost segment a round trip after a later one has arrived, but only
    /// after a timeout if nothing follows.
    pub(super) fn set_tail(&mut self, sends_tail: bool) {
        self.sends_tail = sends_tail;
    }

    /// Adds a frame for this connection alone; returns false when too many are waiting.
    pub(super) fn push_personal(&mut self, message: &ServerMessage) -> bool {
        if self.personal.len() > MAX_PERSONAL_BYTES {
            return false;
        }
        message.append_frame(&mut self.personal);
        self.written.frames += 1;
        true
    }

    /// Lets it go on with keyframes of everything, whose ticks may be any.
    pub(super) fn restart(&mut self) {
        self.cursor = Cursor::BEFORE_LOG;
        self.sent_tick = 0;
    }

    /// Returns the cells that the connection sees.
    pub(super) fn view(&self) -> &View {
        &self.view
    }

    /// Returns whether only keyframes of everything let it go on: it is new, or the log has lost its place.
    pub(super) fn has_fallen_behind(&self, log: &SnapshotLog) -> bool {
        log.has_lost(self.cursor)
    }

    /// Returns whether it needs keyframes of everything and takes bytes.
    pub(super) fn needs_keyframes(&self, log: &SnapshotLog) -> bool {
        let takes_more = match &self.outlet {
            Outlet::Session(queue) => queue.place(true).is_some(),
            _ => true,
        };
        self.is_empty() && self.has_fallen_behind(log) && takes_more
    }

    /// Returns whether everything up to the log's end is written.
    pub(super) fn is_up_to_date(&self, log: &SnapshotLog) -> bool {
        self.is_empty() && self.cursor == log.end()
    }

    /// Goes on from the log's end, of this tick, with another view. `keyframes` are those of the cells
    /// that come into sight, or of all cells if it [needs keyframes](Self::needs_keyframes).
    pub(super) fn change_view(
        &mut self,
        view: View,
        keyframes: impl IntoIterator<Item = Bytes>,
        log: &SnapshotLog,
        tick: u64,
    ) {
        let is_seen = |cell: &CellId| view.binary_search_by_key(cell, |(cell, _)| *cell).is_ok();
        let cells = self.view.iter().map(|(cell, _)| *cell);
        let cells: Vec<_> = cells.filter(|cell| !is_seen(cell)).collect();
        let frames_before = self.written.frames;
        if !cells.is_empty() {
            self.push(ServerMessage::OutOfSight { cells }.to_frame());
        }
        for keyframe in keyframes {
            self.push(keyframe);
        }
        if let Some(path) = self
            .path
            .as_mut()
            .filter(|_| self.written.frames > frames_before)
        {
            // With it, a receiver knows that it has all of these keyframes.
            path.view_changed(tick);
            self.push(ServerMessage::Heartbeat { tick }.to_frame());
        }
        let stream = |&(cell, sight): &(CellId, Sight)| StreamId::new(cell, sight);
        self.streams = view.iter().map(stream).collect();
        self.view = view;
        self.cursor = log.end();
        self.content_sent(tick);
    }

    /// Sends a heartbeat if nothing was written for `interval_ticks`, as the tail, or for the next datagram. A
    /// connection that has fallen behind gets none, since a heartbeat says that the predictions are right.
    pub(super) fn keep_alive(
        &mut self,
        log: &SnapshotLog,
        tick: u64,
        interval_ticks: u64,
        heartbeat: &Bytes,
    ) {
        let path = self.path.as_mut();
        let must_complete = path.is_some_and(|path| path.wants_heartbeat());
        if tick == self.sent_tick && !must_complete || !self.is_up_to_date(log) {
            return;
        }
        let path = self.path.as_ref();
        // What datagrams bring as well can wait for TCP's timeout.
        let has_copy = path.is_some_and(|path| path.works(tick) && !path.has_left(self.sent_tick));
        let has_tail = self.sends_tail && self.ends_with_content && !has_copy;
        if must_complete || has_tail || tick - self.sent_tick >= interval_ticks {
            self.push(heartbeat.clone());
            self.sent_tick = tick;
            self.ends_with_content = false;
            if let Some(path) = &mut self.path {
                path.completed(tick);
            }
        }
    }

    /// Writes until everything is written or the outlet takes no more.
    ///
    /// # Errors
    /// The outlet is closed.
    pub(super) fn flush(&mut self, log: &SnapshotLog, now: Instant) -> io::Result<Flushed> {
        self.look_at_session(now);
        let before = self.written.bytes;
        let outlet = std::mem::replace(&mut self.outlet, Outlet::Nowhere);
        let flushed = match &outlet {
            Outlet::Tcp(stream) => self.flush_tcp(stream, log, now),
            Outlet::Session(queue) => Ok(self.flush_queue(queue, log)),
            Outlet::Frames(frames) => Ok(self.flush_frames(frames, log)),
            Outlet::Nowhere => {
                self.pending.clear();
                self.personal.clear();
                self.cursor = log.end();
                self.written = Written::default();
                Ok(Flushed::All)
            }
        };
        self.outlet = outlet;
        let flushed = flushed?;
        let taken = self.written.bytes.saturating_sub(before);
        match self.outlet {
            Outlet::Session(_) => self.unsent_bytes += taken as usize,
            _ => self.note_taken(flushed == Flushed::Blocked, taken, now),
        }
        Ok(flushed)
    }

    /// Writes right after a tick, without a system call when there is nothing to write.
    ///
    /// # Errors
    /// The outlet is closed.
    pub(super) fn flush_tick(
        &mut self,
        log: &SnapshotLog,
        tick: u64,
        now: Instant,
    ) -> io::Result<Flushed> {
        if !self.has_next(log) {
            self.look_at_session(now);
            return Ok(Flushed::All);
        }
        self.content_sent(tick);
        if let Some(path) = &mut self.path {
            path.completed(tick.saturating_sub(1));
        }
        self.flush(log, now)
    }

    /// Takes the counts since the last call.
    pub(super) fn take_written(&mut self) -> Written {
        std::mem::take(&mut self.written)
    }

    /// Returns for how long bytes wait for the peer, less the time in which it would have taken what it took
    /// at the lowest rate that it may have.
    pub(super) fn waits_for(&self, now: Instant) -> Duration {
        self.waits_since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Notes that the last keyframes are of a turn.
    pub(super) fn hold_keyframes_of(&mut self, turn: Option<Turn>) {
        self.held = self.holds_keyframes_of().or(turn);
    }

    /// Returns the turn of the oldest keyframes that the peer has not taken yet, as far as is known.
    pub(super) fn holds_keyframes_of(&mut self) -> Option<Turn> {
        if self.pending.is_empty() && self.unsent_bytes < FrameQueue::MAX_SHARED_BYTES {
            self.held = None;
        }
        self.held
    }

    /// Ends the sending side; what the kernel has is still delivered.
    pub(super) fn finish(&self) {
        if let Outlet::Tcp(stream) = &self.outlet {
            // Fails only when the peer was faster.
            let _ = SockRef::from((**stream).as_ref()).shutdown(std::net::Shutdown::Write);
        }
    }

    /// Ends the connection and drops what the kernel still holds for a peer that does not read.
    pub(super) fn reset(&self) {
        match &self.outlet {
            Outlet::Tcp(stream) => {
                let socket = SockRef::from((**stream).as_ref());
                // Fails only when the peer was faster.
                let _ = socket.set_linger(Some(Duration::ZERO));
                let _ = socket.shutdown(std::net::Shutdown::Both);
            }
            Outlet::Session(queue) => queue.cut(),
            Outlet::Frames(_) | Outlet::Nowhere => {}
        }
    }

    /// Returns whether no frames wait besides those in the log.
    fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.personal.is_empty()
    }

    /// Returns whether something is to be written. If not, the cursor is at the log's end, unless it is lost.
    fn has_next(&mut self, log: &SnapshotLog) -> bool {
        let mut next = self.cursor;
        if !self.is_empty() || log.next(&self.streams, &mut next).is_some() {
            return true;
        }
        self.cursor = next;
        false
    }

    /// Notes what the peer has taken of what the session had at the last look.
    fn look_at_session(&mut self, now: Instant) {
        if let Outlet::Session(queue) = &self.outlet {
            let waiting_bytes = queue.waiting_bytes();
            let taken = self.unsent_bytes.saturating_sub(waiting_bytes);
            self.unsent_bytes = waiting_bytes;
            self.note_taken(waiting_bytes > 0, taken as u64, now);
        }
    }

    /// Notes whether bytes wait for the peer, after it has taken some.
    fn note_taken(&mut self, some_wait: bool, taken: u64, now: Instant) {
        let paid = Duration::from_micros(taken * 1_000_000 / MIN_BYTES_PER_SECOND);
        let since = self.waits_since.unwrap_or(now);
        self.waits_since = some_wait.then(|| now.min(since + paid));
    }

    fn content_sent(&mut self, tick: u64) {
        self.sent_tick = tick;
        self.ends_with_content = true;
    }

    fn push(&mut self, frame: Bytes) {
        self.pending.push_back(frame);
        self.written.frames += 1;
    }

    fn flush_tcp(
        &mut self,
        stream: &OwnedWriteHalf,
        log: &SnapshotLog,
        now: Instant,
    ) -> io::Result<Flushed> {
        loop {
            let since_retry = |retried| now.saturating_duration_since(retried);
            let may_retry = self
                .retried
                .is_none_or(|retried| since_retry(retried) >= RETRY);
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let mut count = 0;
            let own = self.pending.iter().map(|frame| &frame[..]);
            let own = own.chain(std::iter::once(&self.personal[..]).filter(|own| !own.is_empty()));
            let mut cursor = self.cursor;
            let shared = std::iter::from_fn(|| log.next(&self.streams, &mut cursor));
            for (slice, bytes) in slices
                .iter_mut()
                .zip(own.chain(shared.map(|frame| &frame[..])))
            {
                *slice = IoSlice::new(bytes);
                count += 1;
            }
            if count == 0 {
                self.cursor = cursor;
                return Ok(Flushed::All);
            }
            let written = match &slices[..count] {
                // The kernel's plain call is 5 % cheaper than that for several buffers.
                [only] => stream.try_write(only),
                several => stream.try_write_vectored(several),
            };
            let is_blocked = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
            let written = match written {
                Err(error) if is_blocked(&error) && may_retry => {
                    self.retried = Some(now);
                    SockRef::from(stream.as_ref()).send_vectored(&slices[..count])
                }
                written => written,
            };
            match written {
                Ok(written) => self.advance(written, log),
                Err(error) if is_blocked(&error) => return Ok(Flushed::Blocked),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn flush_queue(&mut self, queue: &FrameQueue, log: &SnapshotLog) -> Flushed {
        while self.has_next(log) {
            let is_shared = !self.pending.is_empty() || self.personal.is_empty();
            let Some(place) = queue.place(is_shared) else {
                return Flushed::Blocked;
            };
            let Some(next) = self.take_next(log) else {
                break;
            };
            self.written.bytes += next.len() as u64;
            place.fill(next);
        }
        Flushed::All
    }

    fn flush_frames(&mut self, frames: &mpsc::Sender<Bytes>, log: &SnapshotLog) -> Flushed {
        while self.has_next(log) {
            // The task that closed the channel tells the room why. Until then the channel takes nothing.
            let Ok(place) = frames.try_reserve() else {
                return Flushed::Blocked;
            };
            let Some(batch) = self.next_batch(log) else {
                break;
            };
            self.written.bytes += batch.len() as u64;
            place.send(batch);
        }
        Flushed::All
    }

    /// Takes the frames that wait, up to about [`BATCH_BYTES`].
    fn next_batch(&mut self, log: &SnapshotLog) -> Option<Bytes> {
        let first = self.take_next(log)?;
        let Some(second) = self.take_next(log) else {
            return Some(first);
        };
        let mut batch = BytesMut::from(first);
        batch.extend_from_slice(&second);
        while batch.len() < BATCH_BYTES
            && let Some(next) = self.take_next(log)
        {
            batch.extend_from_slice(&next);
        }
        Some(batch.freeze())
    }

    fn take_next(&mut self, log: &SnapshotLog) -> Option<Bytes> {
        if let Some(pending) = self.pending.pop_front() {
            return Some(pending);
        }
        if !self.personal.is_empty() {
            return Some(self.personal.split().freeze());
        }
        let next = log.next(&self.streams, &mut self.cursor).cloned();
        self.written.frames += u64::from(next.is_some());
        next
    }

    /// Moves on by the bytes that the socket took, in the order in which they were offered.
    fn advance(&mut self, written: usize, log: &SnapshotLog) {
        self.written.bytes += written as u64;
        let mut left = written;
        while left > 0 {
            let Some(mut next) = self.take_next(log) else {
                debug_assert!(false, "{left} bytes were written that nobody offered");
                return;
            };
            let taken = left.min(next.len());
            next.advance(taken);
            left -= taken;
            if !next.is_empty() {
                self.pending.push_front(next);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use cubesync_protocol::frame;
    use tokio::io::AsyncReadExt;
    use tokio::net::tcp::OwnedReadHalf;
    use tokio::net::{TcpListener, TcpSocket, TcpStream};

    use super::super::queue::queue;
    use super::*;
    use crate::room::log::LogFrame;

    const CELL: CellId = CellId(0);

    fn pong(number: u64) -> ServerMessage {
        ServerMessage::Pong {
            sent_us: number,
            tick: 0,
            since_tick_us: 0,
            late_samples: 0,
        }
    }

    /// Gives a connection a keyframe if it needs one.
    fn catch_up(connection: &mut Connection, log: &SnapshotLog, number: u64) {
        if connection.needs_keyframes(log) {
            let view = vec![(CELL, Sight::Near)];
            connection.change_view(view, [pong(number).to_frame()], log, number);
        }
    }

    /// Appends a tick to a log, with frames of streams.
    fn push(log: &mut SnapshotLog, tick: u64, frames: Vec<(StreamId, Bytes)>) {
        let frame = |(stream, bytes)| (stream, LogFrame { bytes, sole: None });
        log.push(tick, frames.into_iter().map(frame).collect(), 1);
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
        let mut log = SnapshotLog::new(StreamId::count(1));
        let mut random = fastrand::Rng::with_seed(3);
        let mut received = BytesMut::new();
        let long = ServerMessage::Reject {
            code: cubesync_protocol::RejectCode::Full,
            message: "x".repeat(3_000),
        };
        let mut blocked = 0;
        connection.push_personal(&pong(0));
        connection.flush(&log, Instant::now()).unwrap();
        catch_up(&mut connection, &log, 1);
        let (mut sent_shared, mut sent_personal) = (0, 0);
        for number in 2..2_000 {
            let frames = vec![(StreamId::new(CELL, Sight::Near), long.to_frame())];
            push(&mut log, number, frames);
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
        let mut log = SnapshotLog::new(StreamId::count(1));
        let filler = ServerMessage::Reject {
            code: cubesync_protocol::RejectCode::Full,
            message: "x".repeat(1_000),
        };
        let start = Instant::now();
        for number in 0..500 {
            let frames = vec![(StreamId::new(CELL, Sight::Near), filler.to_frame())];
            push(&mut log, number, frames);
            catch_up(&mut connection, &log, number);
            connection.flush(&log, start).unwrap();
        }
        assert!(log.has_lost(connection.cursor));
        let later = start + Duration::from_secs(3);
        assert!(connection.waits_for(later) > Duration::ZERO);
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
            catch_up(&mut connection, &log, number);
            number += 1;
        }
        assert_eq!(connection.waits_for(later), Duration::ZERO);
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
        let mut log = SnapshotLog::new(StreamId::count(1));
        catch_up(&mut connection, &log, 0);
        for number in 1..5 {
            let frames = vec![(StreamId::new(CELL, Sight::Near), pong(number).to_frame())];
            push(&mut log, number, frames);
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

    #[tokio::test]
    async fn a_peer_is_waited_for_as_long_as_it_takes_some_bytes() {
        for (bytes_per_second, is_waited_for) in [(4_096, true), (256, false)] {
            let (server, _reader, mut client) = tight_pair().await;
            let mut connection = Connection::new(Outlet::Tcp(server));
            let mut log = SnapshotLog::new(StreamId::count(1));
            let mut now = Instant::now();
            connection.change_view(vec![(CELL, Sight::Near)], [], &log, 1);
            let large = Bytes::from(vec![0; 1_000_000]);
            push(&mut log, 2, vec![(StreamId::new(CELL, Sight::Near), large)]);
            let mut longest = Duration::ZERO;
            for _ in 0..60 {
                connection.flush(&log, now).unwrap();
                longest = longest.max(connection.waits_for(now));
                let mut chunk = vec![0; bytes_per_second];
                client.read_exact(&mut chunk).await.unwrap();
                now += Duration::from_secs(1);
            }
            let limit = Duration::from_secs(5);
            assert_eq!(longest < limit, is_waited_for, "{longest:?}");
        }
    }

    #[tokio::test]
    async fn what_waits_for_a_session_is_the_logs_own_and_little_else() {
        let (sender, mut queued) = queue();
        let mut connection = Connection::new(Outlet::Session(sender));
        let mut log = SnapshotLog::new(StreamId::count(1));
        let (now, large) = (Instant::now(), Bytes::from(vec![0; 50_000]));
        connection.change_view(vec![(CELL, Sight::Near)], [large.clone()], &log, 1);
        for tick in 2..2_000 {
            let frames = vec![(StreamId::new(CELL, Sight::Near), Bytes::from(vec![0; 500]))];
            push(&mut log, tick, frames);
            connection.push_personal(&pong(tick));
            connection.flush(&log, now).unwrap();
        }
        // The peer takes nothing: after the keyframe no other frame waits in the queue.
        let sent = queued.next().await.unwrap();
        assert_eq!(sent.first().as_ptr(), large.as_ptr());
        assert_eq!(sent.len_bytes(), large.len());
        assert!(connection.personal.len() <= 2 * MAX_PERSONAL_BYTES);
        assert!(connection.pending.is_empty());
        let later = now + Duration::from_secs(5);
        connection.flush(&log, later).unwrap();
        assert_eq!(connection.waits_for(later), Duration::from_secs(5));
        assert!(!connection.needs_keyframes(&log), "it still has one");

        sent.clear();
        connection.flush(&log, later).unwrap();
        assert_eq!(connection.waits_for(later), Duration::ZERO);
        assert!(connection.needs_keyframes(&log));
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

    #[test]
    fn a_change_of_view_sends_what_is_new_and_what_is_gone_after_all_of_the_old_view() {
        let (sender, mut receiver) = mpsc::channel(64);
        let mut connection = Connection::new(Outlet::Frames(sender));
        let mut log = SnapshotLog::new(StreamId::count(4));
        let [a, b, c] = [1, 2, 3].map(CellId);
        let near = |cell| StreamId::new(cell, Sight::Near);
        let far = |cell| StreamId::new(cell, Sight::Far);
        let old = vec![(a, Sight::Near), (b, Sight::Near)];
        connection.change_view(old, [1, 2].map(|number| pong(number).to_frame()), &log, 1);
        let tick = |number| {
            [near(a), far(a), near(b), far(b), near(c), far(c)]
                .into_iter()
                .zip(number..)
                .map(|(stream, number)| (stream, pong(number).to_frame()))
                .collect()
        };
        push(&mut log, 2, tick(10));
        assert!(!connection.is_up_to_date(&log));
        connection.flush_tick(&log, 2, Instant::now()).unwrap();
        assert!(connection.is_up_to_date(&log));
        let new = vec![(b, Sight::Far), (c, Sight::Near)];
        connection.change_view(new, [3, 4].map(|number| pong(number).to_frame()), &log, 2);
        push(&mut log, 3, tick(20));
        connection.flush_tick(&log, 3, Instant::now()).unwrap();
        drop(connection);

        let mut received = BytesMut::new();
        while let Ok(frames) = receiver.try_recv() {
            received.extend_from_slice(&frames);
        }
        let gone = ServerMessage::OutOfSight { cells: vec![a] };
        let expected = [1, 2, 10, 12].map(pong).into_iter().chain([gone]);
        let expected = expected.chain([3, 4, 23, 24].map(pong));
        assert_eq!(take_all(&mut received), expected.collect::<Vec<_>>());
    }

    /// Returns the ticks up to 40 at which a connection with a tail is sent something, if there is content
    /// at these ticks.
    fn sent_with_tail(content: &[u64]) -> Vec<u64> {
        let (sender, mut receiver) = mpsc::channel(64);
        let mut connection = Connection::new(Outlet::Frames(sender));
        connection.set_tail(true);
        let mut log = SnapshotLog::new(StreamId::count(1));
        catch_up(&mut connection, &log, 0);
        let is_sent = |tick: &u64| {
            if content.contains(tick) {
                let frames = vec![(StreamId::new(CELL, Sight::Near), pong(0).to_frame())];
                push(&mut log, *tick, frames);
            }
            connection.flush_tick(&log, *tick, Instant::now()).unwrap();
            connection.keep_alive(&log, *tick, 15, &pong(*tick).to_frame());
            connection.flush(&log, Instant::now()).unwrap();
            let count = std::iter::from_fn(|| receiver.try_recv().ok()).count();
            assert!(count <= 1, "{count} writes at tick {tick}");
            count > 0
        };
        (1..=40).filter(is_sent).collect()
    }

    #[test]
    fn a_tail_follows_content_unless_content_goes_out_anyway() {
        // The keyframe is written at the first tick.
        assert_eq!(sent_with_tail(&[]), [1, 2, 17, 32]);
        assert_eq!(sent_with_tail(&[10]), [1, 2, 10, 11, 26]);
        let busy: Vec<_> = (1..=40).collect();
        assert_eq!(sent_with_tail(&busy), busy);
    }

    #[test]
    fn a_heartbeat_comes_only_when_nothing_else_was_sent_for_its_interval() {
        let (sender, mut receiver) = mpsc::channel(64);
        let mut connection = Connection::new(Outlet::Frames(sender));
        let mut log = SnapshotLog::new(StreamId::count(1));
        catch_up(&mut connection, &log, 0);
        let mut sent_at = Vec::new();
        for tick in 1..20u64 {
            if tick == 3 {
                let frames = vec![(StreamId::new(CELL, Sight::Near), pong(0).to_frame())];
                push(&mut log, tick, frames);
            }
            connection.flush_tick(&log, tick, Instant::now()).unwrap();
            connection.keep_alive(&log, tick, 6, &pong(tick).to_frame());
            connection.flush(&log, Instant::now()).unwrap();
            if receiver.try_recv().is_ok() {
                sent_at.push(tick);
            }
        }
        assert_eq!(sent_at, [1, 3, 9, 15]);

        // A connection that needs keyframes gets no heartbeat.
        let (sender, mut receiver) = mpsc::channel(64);
        let mut connection = Connection::new(Outlet::Frames(sender));
        for tick in 20..40 {
            connection.flush_tick(&log, tick, Instant::now()).unwrap();
            connection.keep_alive(&log, tick, 6, &pong(tick).to_frame());
            connection.flush(&log, Instant::now()).unwrap();
        }
        assert!(receiver.try_recv().is_err());
    }
}
