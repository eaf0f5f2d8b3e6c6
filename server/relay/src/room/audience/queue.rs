//! The queue between a room and the session that sends its frames.
//!
//! It holds the frames that all receivers share, not copies of them. The room sees how many bytes the
//! peer has not taken yet, so that a peer that takes them slowly is waited for, and one that takes none is not.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

/// Largest number of frames in the queue: a tick of all cells in sight.
const MAX_FRAMES: usize = 64;

/// The same for frames of this connection only, which nobody shares.
const MAX_OWN_BYTES: usize = 4 * 1024;

/// Approximate size up to which frames are sent together.
const BATCH_BYTES: usize = 16 * 1024;

/// Largest number of buffers in one write.
const MAX_SLICES: usize = 32;

/// The room's end of a queue.
#[derive(Debug, Clone)]
pub struct FrameQueue {
    frames: mpsc::Sender<Bytes>,
    peer: Arc<Peer>,
}

/// The session's end of a queue.
#[derive(Debug)]
pub struct QueuedFrames {
    frames: mpsc::Receiver<Bytes>,
    next: Outgoing,
}

/// Whole frames that are sent together.
#[derive(Debug, Default)]
pub struct Outgoing {
    frames: VecDeque<Bytes>,
    peer: Arc<Peer>,
}

/// What both ends of a queue know of the peer.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    /// The number of bytes that it has not taken yet.
    waiting_bytes: AtomicUsize,
    /// Whether it is not waited for any more.
    is_cut: AtomicBool,
}

/// Creates an empty queue.
pub fn queue() -> (FrameQueue, QueuedFrames) {
    let (sender, receiver) = mpsc::channel(MAX_FRAMES);
    let peer = Arc::<Peer>::default();
    let queue = FrameQueue {
        frames: sender,
        peer: Arc::clone(&peer),
    };
    let next = Outgoing {
        frames: VecDeque::new(),
        peer,
    };
    let frames = receiver;
    (queue, QueuedFrames { frames, next })
}

impl FrameQueue {
    /// Number of waiting bytes from which on no shared frame is added: a frame that waits gets old.
    pub(super) const MAX_SHARED_BYTES: usize = 32 * 1024;

    /// Returns the place of the next frame, or `None` if too much waits already, or the session is over.
    /// `is_shared` says whether other connections have the same frame.
    pub(super) fn place(&self, is_shared: bool) -> Option<Place<'_>> {
        let limit_bytes = match is_shared {
            true => Self::MAX_SHARED_BYTES,
            false => MAX_OWN_BYTES,
        };
        if self.waiting_bytes() >= limit_bytes {
            return None;
        }
        let permit = self.frames.try_reserve().ok()?;
        let peer = &self.peer;
        Some(Place { permit, peer })
    }

    /// Returns the number of bytes that the peer has not taken yet.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.peer.waiting_bytes.load(Ordering::Relaxed)
    }

    /// Lets the session end without waiting for the peer.
    pub(super) fn cut(&self) {
        self.peer.is_cut.store(true, Ordering::Relaxed);
    }
}

/// A place in a queue.
#[derive(Debug)]
pub(super) struct Place<'a> {
    permit: mpsc::Permit<'a, Bytes>,
    peer: &'a Peer,
}

impl Place<'_> {
    /// Puts a frame there.
    pub(super) fn fill(self, frame: Bytes) {
        let waiting_bytes = &self.peer.waiting_bytes;
        waiting_bytes.fetch_add(frame.len(), Ordering::Relaxed);
        self.permit.send(frame);
    }
}

impl QueuedFrames {
    /// Waits for the next frames. Returns `None` when the room has let go of the queue.
    pub(crate) async fn next(&mut self) -> Option<&mut Outgoing> {
        let first = self.frames.recv().await?;
        let mut len_bytes = first.len();
        self.next.frames.push_back(first);
        while len_bytes < BATCH_BYTES
            && let Ok(frame) = self.frames.try_recv()
        {
            len_bytes += frame.len();
            self.next.frames.push_back(frame);
        }
        Some(&mut self.next)
    }

    /// Returns what is known of the peer.
    pub(crate) fn peer(&self) -> Arc<Peer> {
        Arc::clone(&self.next.peer)
    }
}

impl Peer {
    /// Returns whether the peer is not waited for any more.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
    }
}

impl From<Bytes> for Outgoing {
    fn from(frame: Bytes) -> Self {
        Self {
            frames: [frame].into(),
            peer: Arc::default(),
        }
    }
}

impl Outgoing {
    /// Returns the length of all frames.
    pub fn len_bytes(&self) -> usize {
        self.frames.iter().map(Bytes::len).sum()
    }

    /// Returns the bytes that are sent first.
    pub(crate) fn first(&self) -> &[u8] {
        self.frames.front().map_or(&[], |frame| &frame[..])
    }

    /// Drops all frames, as if they were sent.
    pub fn clear(&mut self) {
        self.advance(self.len_bytes());
    }

    /// Writes `header` and the frames to a stream. Each frame is let go as soon as the stream has taken it.
    ///
    /// # Errors
    /// The stream broke.
    pub async fn write_to(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        mut header: &[u8],
    ) -> io::Result<()> {
        // A stream that takes none of no bytes has not ended.
        self.frames.retain(|frame| !frame.is_empty());
        let write = poll_fn(|context| {
            while !(header.is_empty() && self.frames.is_empty()) {
                let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                let header_first = std::iter::once(header).filter(|header| !header.is_empty());
                let buffers = header_first.chain(self.frames.iter().map(|frame| &frame[..]));
                let count = slices
                    .iter_mut()
                    .zip(buffers)
                    .map(|(slice, buffer)| *slice = IoSlice::new(buffer))
                    .count();
                let slices = &slices[..count];
                let taken = ready!(Pin::new(&mut *stream).poll_write_vectored(context, slices))?;
                if taken == 0 {
                    return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero)));
                }
                let of_header = taken.min(header.len());
                header = &header[of_header..];
                self.advance(taken - of_header);
            }
            Poll::Ready(Ok(()))
        });
        write.await?;
        // Encryption may keep the last bytes until it is told that no more come.
        stream.flush().await
    }

    /// Lets go of bytes that the peer has taken.
    fn advance(&mut self, taken: usize) {
        let waiting_bytes = &self.peer.waiting_bytes;
        let mut left = taken;
        while left > 0
            && let Some(first) = self.frames.front_mut()
        {
            let here = left.min(first.len());
            first.advance(here);
            left -= here;
            if first.is_empty() {
                self.frames.pop_front();
            }
        }
        // A refusal was in no queue.
        let _ = waiting_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
            Some(waiting.saturating_sub(taken))
        });
    }
}
