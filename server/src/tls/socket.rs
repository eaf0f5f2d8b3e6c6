//! The stream under a TLS connection, with a limit on what rustls reads of it before it gives anything.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Largest number of bytes that a peer sends for a handshake. A browser's with a key that withstands quantum
/// computers has 2 KiB, and a ticket adds one. The library would keep a message of 64 KiB.
const MAX_HANDSHAKE_BYTES: usize = 16 * 1024;

/// The TCP stream under a TLS connection.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    /// The bytes that may still come before the end of the handshake.
    left_bytes: Option<usize>,
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            left_bytes: Some(MAX_HANDSHAKE_BYTES),
        }
    }

    /// Notes that the handshake is complete.
    pub(super) fn has_shaken_hands(&mut self) {
        self.left_bytes = None;
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let count = buffer.filled().len() - before;
        if let Some(left_bytes) = &mut self.left_bytes {
            let left = left_bytes.checked_sub(count);
            *left_bytes = left.ok_or_else(|| io::Error::other("the handshake is too long"))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
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
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
