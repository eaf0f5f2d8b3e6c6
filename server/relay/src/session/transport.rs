//! The two halves of a connection, whatever carries its frames.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use cubesync_protocol::limits::MAX_CLIENT_PAYLOAD_BYTES;
use tokio::io::{AsyncRead, ReadBuf};

use crate::ending::{Ending, Problem};
use crate::peer::Transport;
use crate::room::audience::{Outgoing, Outlet};

/// Bytes read at once: the longest frame.
const READ_BYTES: usize = MAX_CLIENT_PAYLOAD_BYTES;

/// The kind of what a transport has received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// Bytes of frames.
    Bytes,
    /// A ping or the like, which the transport answers by itself.
    Control,
    /// A part of something that the transport hands over only when it is whole.
    Part,
    /// Nothing, and nothing more will come.
    End,
}

/// The receiving half of a connection.
pub trait Reader: Send + 'static {
    /// Waits for something, and appends it to `received` where it is bytes of frames. Returns also how
    /// many bytes the connection has carried for it.
    ///
    /// # Errors
    /// The connection broke, or what came cannot be frames.
    fn poll_read(
        &mut self,
        received: &mut BytesMut,
        context: &mut Context<'_>,
    ) -> Poll<Result<(Received, usize), Problem>>;
}

/// The sending half of a connection.
pub trait Writer: Send + 'static {
    /// Returns where a room may write by itself. `None`: its frames come through a queue, and the
    /// session sends them.
    fn outlet(&self) -> Option<Outlet> {
        None
    }

    /// Returns the kind of the connection, for the operator.
    fn transport(&self) -> Transport;

    /// Sends whole frames.
    ///
    /// # Errors
    /// The connection broke.
    fn send(&mut self, frames: &mut Outgoing) -> impl Future<Output = io::Result<()>> + Send;

    /// Sends what the transport itself has to say, while no frames are to be sent, and returns why it no longer
    /// can. It may be dropped at any time.
    fn poll_idle(&mut self, _: &mut Context<'_>) -> Poll<io::Error> {
        Poll::Pending
    }

    /// Says that nothing more comes.
    fn close(&mut self) -> impl Future<Output = ()> + Send;
}

/// Reads from a stream of bytes, as [`Reader::poll_read`] does.
///
/// The buffer stands on the stack of this call, so it is no part of the waiting task. A read that
/// does not fill it waits for the next bytes without asking the kernel once more.
pub(super) fn poll_read(
    stream: &mut (impl AsyncRead + Unpin),
    received: &mut BytesMut,
    context: &mut Context<'_>,
) -> Poll<Result<(Received, usize), Problem>> {
    let mut chunk = [MaybeUninit::uninit(); READ_BYTES];
    let mut buffer = ReadBuf::uninit(&mut chunk);
    let read: io::Result<()> = ready!(Pin::new(stream).poll_read(context, &mut buffer));
    read.map_err(|_| Ending::Lost)?;
    received.extend_from_slice(buffer.filled());
    let what = match buffer.filled() {
        [] => Received::End,
        _ => Received::Bytes,
    };
    Poll::Ready(Ok((what, buffer.filled().len())))
}
