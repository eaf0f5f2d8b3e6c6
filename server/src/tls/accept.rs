//! The beginning of a connection to an encrypted port.

use std::io;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use rustls::{HandshakeKind, ServerConfig};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::handshakes::Handshakes;
use super::socket::Socket;
use cubesync_relay::by_address::Address;
use cubesync_relay::label::label;
use cubesync_relay::metrics::CountersBy;

/// The first byte of a TLS connection, which begins with a handshake record (RFC 8446, 5.1). The
/// first byte of a frame is zero, that of an HTTP request a letter.
const HANDSHAKE_RECORD: u8 = 0x16;

/// Largest number of encrypted bytes that the library keeps for a peer that does not read. Its default of 64 KiB
/// would be a copy, for each connection, of what all connections share.
const MAX_UNSENT_BYTES: usize = 4 * 1024;

label! {
    /// What became of a handshake: the label of `cubesync_tls_handshakes_total`.
    pub(crate) enum Handshake("outcome") {
        /// It was completed, with a signature.
        Full => "full",
        /// It was completed without one, because the peer came back with a ticket.
        Resumed => "resumed",
        /// It failed, or did not end in time.
        Failed => "failed",
    }
}

/// The first thing that a peer does.
pub(crate) enum Arrival {
    /// It completes a TLS handshake.
    Tls(Box<TlsStream<Socket>>),
    /// It begins to send without encryption. Nothing of that has been read yet.
    Plain(TcpStream),
    /// It sends nothing in time.
    Silent,
    /// It closes the connection without a byte.
    Closed,
    /// It begins a handshake that fails or does not end in time.
    Failed(io::Error),
}

/// Accepts connections of one port.
pub(crate) struct Acceptor {
    acceptor: TlsAcceptor,
    handshakes: Arc<Handshakes>,
    counts: CountersBy<Handshake>,
    /// Bytes a second that a client may send, unencrypted.
    max_bytes: NonZeroU32,
}

impl Acceptor {
    pub(super) fn new(
        config: ServerConfig,
        max_bytes: NonZeroU32,
        handshakes: &Arc<Handshakes>,
        counts: &CountersBy<Handshake>,
    ) -> Self {
        Self {
            acceptor: Arc::new(config).into(),
            handshakes: Arc::clone(handshakes),
            counts: counts.clone(),
            max_bytes,
        }
    }

    /// Waits for the first byte and, if it belongs to TLS, for the end of the handshake, but no longer
    /// than `deadline`. Handshakes have their turns by the peer's address.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
        peer: impl Into<Address>,
        deadline: Duration,
    ) -> Arrival {
        let end = Instant::now() + deadline;
        let mut first = [0];
        match timeout_at(end, stream.peek(&mut first)).await {
            Err(_) => return Arrival::Silent,
            Ok(Ok(0) | Err(_)) => return Arrival::Closed,
            Ok(Ok(_)) if first != [HANDSHAKE_RECORD] => return Arrival::Plain(stream),
            Ok(Ok(_)) => {}
        }
        let acceptor = self.acceptor.clone();
        // Only with its first turn does a handshake take the library's memory, 20 KiB.
        let shaking = async move { Box::pin(acceptor.accept(Socket::new(stream))).await };
        let outcome = match timeout_at(end, self.handshakes.run(peer.into(), shaking)).await {
            Ok(Some(outcome)) => outcome,
            Ok(None) => Err(io::Error::other("the handshake made place for others")),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        match outcome {
            Ok(mut stream) => {
                let (socket, connection) = stream.get_mut();
                socket.has_shaken_hands(self.max_bytes);
                connection.set_buffer_limit(Some(MAX_UNSENT_BYTES));
                self.counts.count(match connection.handshake_kind() {
                    Some(HandshakeKind::Resumed) => Handshake::Resumed,
                    _ => Handshake::Full,
                });
                Arrival::Tls(Box::new(stream))
            }
            Err(error) => {
                self.counts.count(Handshake::Failed);
                Arrival::Failed(error)
            }
        }
    }
}
