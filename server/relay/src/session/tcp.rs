//! TCP as a transport: rooms write to the socket themselves.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use cubesync_protocol::Message;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, Sleep};

use super::transport::{self, Reader, Received, Writer};
use crate::ending::{Ending, Problem};
use crate::peer::Transport;
use crate::room::audience::{Outgoing, Outlet};

/// Size of the kernel's send buffer of a client (Linux doubles it): more than a second of a room of
/// a thousand. The default would let a reader that stopped hide behind megabytes.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// Size of the kernel's receive buffer of a client (Linux doubles it): what a client may send in half a second,
/// which no round trip takes. The default would let one that is read late, because its address sends
/// too much, leave megabytes there.
const RECEIVE_BUFFER_BYTES: usize = 32 * 1024;

/// Interval at which a write that waits is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A TCP stream that notices when its peer takes a few bytes, and leaves nothing behind for one that takes none.
///
/// The system says that a socket can be written to only when a third of its buffer is free, which takes a peer on
/// a thin line longer than it may go without taking any. So a write that waits is tried again each second.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    /// When a write that waits is tried again.
    retry: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    /// Wraps a stream.
    pub fn new(stream: TcpStream) -> Self {
        let retry = None;
        Self { stream, retry }
    }

    /// Returns the stream.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Writes by `usual`, and at times by `forced`, which does not wait for the system to say that it can.
    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        usual: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<usize>>,
        forced: impl FnOnce(SockRef<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = usual(Pin::new(&mut self.stream), context) {
            self.retry = None;
            return Poll::Ready(written);
        }
        let sleep = || Box::pin(tokio::time::sleep(RETRY));
        let retry = self.retry.get_or_insert_with(sleep);
        ready!(retry.as_mut().poll(context));
        match forced(SockRef::from(&self.stream)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                retry.as_mut().reset(Instant::now() + RETRY);
                // It is not due yet, but wakes the task when it is.
                let _ = retry.as_mut().poll(context);
                Poll::Pending
            }
            written => {
                self.retry = None;
                Poll::Ready(written)
            }
        }
    }
}

impl Drop for Socket {
    /// Lets the kernel drop what it holds for a peer that does not read.
    fn drop(&mut self) {
        if self.retry.is_some() {
            // Fails only when the peer was faster.
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let usual = |stream: Pin<&mut TcpStream>, context: &mut Context<'_>| {
            stream.poll_write(context, bytes)
        };
        self.poll_send(context, usual, |socket| socket.send(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let usual = |stream: Pin<&mut TcpStream>, context: &mut Context<'_>| {
            stream.poll_write_vectored(context, slices)
        };
        self.poll_send(context, usual, |socket| socket.send_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Sets what a socket of the protocol needs.
///
/// # Errors
/// The connection broke.
pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)
}

/// Tells a peer that it is not admitted, where that needs no waiting. The peer may miss it.
pub fn turn_away(stream: &TcpStream, ending: Ending) {
    send_at_once(stream, &Problem::from(ending).reject().to_frame());
}

/// Sends a few last bytes, where that needs no waiting. The peer may miss them.
pub fn send_at_once(stream: &TcpStream, bytes: &[u8]) {
    // A peer that cannot take a hundred bytes at once sees a closed connection instead.
    // The runtime would refuse to write before it has seen that the new socket is writable.
    let _ = SockRef::from(stream).send(bytes);
}

/// Takes a socket apart into the halves of a transport.
pub(super) fn split(stream: TcpStream) -> (impl Reader, impl Writer) {
    let (reader, writer) = stream.into_split();
    (reader, Arc::new(writer))
}

impl Reader for OwnedReadHalf {
    fn poll_read(
        &mut self,
        received: &mut BytesMut,
        context: &mut Context<'_>,
    ) -> Poll<Result<(Received, usize), Problem>> {
        transport::poll_read(self, received, context)
    }
}

impl Writer for Arc<OwnedWriteHalf> {
    fn outlet(&self) -> Option<Outlet> {
        Some(Outlet::Tcp(Arc::clone(self)))
    }

    fn transport(&self) -> Transport {
        Transport::Tcp
    }

    async fn send(&mut self, frames: &mut Outgoing) -> io::Result<()> {
        // Only a refusal comes this way, to a new socket, whose buffer has place for it.
        self.try_write(frames.first()).map(drop)
    }

    async fn close(&mut self) {
        // The peer may be gone already.
        let _ = SockRef::from((**self).as_ref()).shutdown(Shutdown::Write);
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn the_kernel_keeps_little_of_what_is_not_read_yet() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        prepare(&server).unwrap();
        let size = SockRef::from(&server).recv_buffer_size().unwrap();
        assert!(size <= 2 * RECEIVE_BUFFER_BYTES, "{size}");
        drop(client);
    }
}
