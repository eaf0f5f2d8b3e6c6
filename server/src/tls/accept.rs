//! How a connection to an encrypted port begins.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The first byte of TLS: a record with a message of its handshake (RFC 8446, 5.1). A frame of
/// ours begins with a zero, a request of HTTP with a letter.
const HANDSHAKE_RECORD: u8 = 0x16;

/// What came.
pub(crate) enum Arrival {
    /// An encrypted connection.
    Tls(Box<TlsStream<TcpStream>>),
    /// Somebody who speaks without encryption. Nothing of that has been read yet.
    Plain(TcpStream),
    /// Not a byte in time.
    Silent,
    /// The peer closed without a byte.
    Closed,
    /// A handshake that went wrong, or did not end in time.
    Failed(io::Error),
}

/// Waits for the first byte and, if it is one of TLS, for the end of the handshake, all of it at
/// most for `deadline`.
pub(crate) async fn accept(
    acceptor: &TlsAcceptor,
    stream: TcpStream,
    deadline: Duration,
) -> Arrival {
    let end = tokio::time::Instant::now() + deadline;
    let mut first = [0];
    match tokio::time::timeout_at(end, stream.peek(&mut first)).await {
        Err(_) => return Arrival::Silent,
        Ok(Ok(0) | Err(_)) => return Arrival::Closed,
        Ok(Ok(_)) if first != [HANDSHAKE_RECORD] => return Arrival::Plain(stream),
        Ok(Ok(_)) => {}
    }
    match tokio::time::timeout_at(end, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Arrival::Tls(Box::new(stream)),
        Ok(Err(error)) => Arrival::Failed(error),
        Err(_) => Arrival::Failed(io::ErrorKind::TimedOut.into()),
    }
}
