//! Any stream of bytes as a transport: an encrypted one, or a simulated network's.

use std::io;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};

use super::transport::{self, Reader, Received, Writer};
use crate::ending::Problem;
use crate::peer::Transport;
use crate::room::audience::Outgoing;

/// A stream over which a session can be held.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<Any: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for Any {}

/// A stream of any kind.
type BoxedStream = Box<dyn Stream>;

/// Takes a stream apart into the halves of a transport.
pub(super) fn split(stream: impl Stream) -> (impl Reader, impl Writer) {
    tokio::io::split(Box::new(stream) as BoxedStream)
}

impl Reader for ReadHalf<BoxedStream> {
    fn poll_read(
        &mut self,
        received: &mut BytesMut,
        context: &mut Context<'_>,
    ) -> Poll<Result<(Received, usize), Problem>> {
        transport::poll_read(self, received, context)
    }
}

impl Writer for WriteHalf<BoxedStream> {
    fn transport(&self) -> Transport {
        Transport::Tls
    }

    async fn send(&mut self, frames: &mut Outgoing) -> io::Result<()> {
        frames.write_to(self, &[]).await
    }

    async fn close(&mut self) {
        // The peer may be gone already.
        let _ = self.shutdown().await;
    }
}
