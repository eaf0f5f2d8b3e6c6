//! The beginning of a connection to an encrypted port.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The first byte of a TLS connection, which begins with a handshake record (RFC 8446, 5.1). The
/// first byte of a frame is zero, that of an HTTP request a letter.
const HANDSHAKE_RECORD: u8 = 0x16;

/// The first thing that a peer does.
pub(crate) enum Arrival {
    /// It completes a TLS handshake.
    Tls(Box<TlsStream<TcpStream>>),
    /// It begins to send without encryption. Nothing of that has been read yet.
    Plain(TcpStream),
    /// It sends nothing in time.
    Silent,
    /// It closes the connection without a byte.
    Closed,
    /// It begins a handshake that fails or does not end in time.
    Failed(io::Error),
}

/// Waits for the first byte and, if it belongs to TLS, for the end of the handshake, but no longer
/// than `deadline`.
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
