//! A count of a connection's received bytes, for code that only sees the library's messages, and when it
//! last moved any.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The count of a [`Metered`] stream.
#[derive(Debug, Clone)]
pub(crate) struct Meter(Arc<Counted>);

#[derive(Debug)]
struct Counted {
    read_bytes: AtomicU64,
    begun: Instant,
    /// When bytes were last read or written, in milliseconds after `begun`.
    moved_ms: AtomicU64,
}

impl Meter {
    /// Begins to count.
    pub(crate) fn new() -> Self {
        Self::since(Instant::now())
    }

    /// Begins to count, at a given time.
    pub(super) fn since(begun: Instant) -> Self {
        Self(Arc::new(Counted {
            read_bytes: AtomicU64::new(0),
            begun,
            moved_ms: AtomicU64::new(0),
        }))
    }

    /// Returns the number of bytes read so far.
    pub(crate) fn read_bytes(&self) -> u64 {
        self.0.read_bytes.load(Ordering::Relaxed)
    }

    /// Returns for how long no byte has been read or written.
    pub(crate) fn rested(&self) -> Duration {
        let moved = Duration::from_millis(self.0.moved_ms.load(Ordering::Relaxed));
        self.0.begun.elapsed().saturating_sub(moved)
    }

    fn moved(&self) {
        let after_ms = u64::try_from(self.0.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.moved_ms.store(after_ms, Ordering::Relaxed);
    }
}

/// A stream that counts the bytes read from it.
#[derive(Debug)]
pub(crate) struct Metered<S> {
    stream: S,
    meter: Meter,
}

impl<S> Metered<S> {
    pub(crate) fn new(stream: S, meter: Meter) -> Self {
        Self { stream, meter }
    }

    /// Notes that a write moved bytes.
    fn wrote(&self, written: io::Result<usize>) -> Poll<io::Result<usize>> {
        if matches!(written, Ok(1..)) {
            self.meter.moved();
        }
        Poll::Ready(written)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let count = (buffer.filled().len() - before) as u64;
        self.meter.0.read_bytes.fetch_add(count, Ordering::Relaxed);
        if count > 0 {
            self.meter.moved();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        self.wrote(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices));
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
