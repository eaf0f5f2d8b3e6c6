//! TCP as a transport: rooms write to the socket themselves.

use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use cubesync_protocol::Message;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::transport::{self, Reader, Received, Writer};
use crate::ending::{Ending, Problem};
use crate::peer::Transport;
use crate::room::audience::Outlet;

/// Size of the kernel's send buffer of a client (Linux doubles it): more than a second of a room of
/// a thousand. The default would let a reader that stopped hide behind megabytes.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// Sets what a socket of the protocol needs.
///
/// # Errors
/// The connection broke.
pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_send_buffer_size(SEND_BUFFER_BYTES)
}

/// Tells a peer that it is not admitted, where that needs no waiting. The peer may miss it.
pub fn turn_away(stream: &TcpStream, ending: Ending) {
    let reject = Problem::from(ending).reject().to_frame();
    // A peer that cannot take a hundred bytes at once sees a closed connection instead.
    // The runtime would refuse to write before it has seen that the new socket is writable.
    let _ = SockRef::from(stream).send(&reject);
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

    async fn send(&mut self, frames: Bytes) -> io::Result<()> {
        // Only a refusal comes this way, to a new socket, whose buffer has place for it.
        self.try_write(&frames).map(drop)
    }

    async fn close(&mut self) {
        // The peer may be gone already.
        let _ = SockRef::from((**self).as_ref()).shutdown(Shutdown::Write);
    }
}
