//! An encrypted connection: TLS over a TCP stream, which blocks for the handshake only.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, ClientConnection, Error};

/// Bytes that are encrypted at once: one record of TLS.
const CHUNK_BYTES: usize = 16 * 1024;

/// An encrypted stream; like the stream under it, it does not block.
#[derive(Debug)]
pub(super) struct TlsStream {
    connection: ClientConnection,
    socket: TcpStream,
}

impl TlsStream {
    /// Holds the handshake over a connected, blocking stream; `server` is its `host:port`.
    ///
    /// # Errors
    /// The reason, for a person.
    pub(super) fn open(
        config: Arc<ClientConfig>,
        socket: TcpStream,
        server: &str,
        deadline: Instant,
    ) -> Result<Self, String> {
        let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
            .map_err(|_| format!("no certificate can be for the name {host}"))?;
        let connection = ClientConnection::new(config, name)
            .map_err(|error| format!("cannot speak TLS with {server}: {error}"))?;
        let mut stream = Self { connection, socket };
        stream
            .shake_hands(deadline)
            .map_err(|failure| failure.words(server))?;
        stream
            .socket
            .set_nonblocking(true)
            .map_err(|error| format!("cannot connect to {server}: {error}"))?;
        Ok(stream)
    }

    /// Returns the stream that carries the records.
    pub(super) fn tcp(&self) -> &TcpStream {
        &self.socket
    }

    fn shake_hands(&mut self, deadline: Instant) -> Result<(), Failure> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure::Broken(ErrorKind::TimedOut.into()));
            }
            self.socket.set_read_timeout(Some(left))?;
            self.socket.set_write_timeout(Some(left))?;
            self.flush()?;
            if !self.connection.is_handshaking() {
                return Ok(());
            }
            if self.connection.read_tls(&mut self.socket)? == 0 {
                return Err(Failure::Broken(ErrorKind::UnexpectedEof.into()));
            }
            if let Err(error) = self.connection.process_new_packets() {
                // This tells the server the reason, if it still listens.
                let _ = self.flush();
                return Err(Failure::Refused(error));
            }
        }
    }
}

impl Read for TlsStream {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(room) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // The server closed without TLS's goodbye. Frames have lengths, so a cut is noticed.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                read => return read,
            }
            self.connection.read_tls(&mut self.socket)?;
            let processed = self.connection.process_new_packets();
            // TLS itself may have something to send. What does not fit now is sent later.
            let _ = self.flush();
            processed.map_err(io::Error::other)?;
        }
    }
}

impl Write for TlsStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // At most one record waits for the socket.
        self.flush()?;
        let chunk = &bytes[..bytes.len().min(CHUNK_BYTES)];
        let count = self.connection.writer().write(chunk)?;
        match self.flush() {
            Err(error) if !is_for_now(&error) => Err(error),
            _ => Ok(count),
        }
    }

    /// Sends what is encrypted already.
    fn flush(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(&mut self.socket)?;
        }
        Ok(())
    }
}

impl Drop for TlsStream {
    fn drop(&mut self) {
        self.connection.send_close_notify();
        // The server notices the end of the stream as well.
        let _ = self.flush();
    }
}

fn is_for_now(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// A failed attempt to encrypt a connection.
enum Failure {
    /// The connection broke or timed out.
    Broken(io::Error),
    /// One of the ends refused the other in TLS.
    Refused(Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl Failure {
    /// Describes the failure for a person.
    fn words(&self, server: &str) -> String {
        match self {
            Self::Broken(error) => match error.kind() {
                // A blocking read that takes too long is the one or the other.
                ErrorKind::TimedOut | ErrorKind::WouldBlock => {
                    format!("{server} did not answer in TLS in time; does it speak TLS?")
                }
                _ => format!("{server} cut the connection instead of speaking TLS"),
            },
            Self::Refused(Error::InvalidCertificate(error)) => certificate_words(error, server),
            Self::Refused(Error::InvalidMessage(_)) => format!(
                "{server} does not speak TLS; if you may talk to it without encryption, leave out \
                 tls://"
            ),
            Self::Refused(error) => {
                format!("no encryption could be agreed on with {server}: {error}")
            }
        }
    }
}

fn certificate_words(error: &CertificateError, server: &str) -> String {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => format!(
            "the certificate of {server} has expired, and its operator must renew it (or the clock \
             of this machine is wrong)"
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("the certificate of {server} is not valid yet; is this machine's clock right?")
        }
        // A wrong signature is that of a server that made itself a new certificate: both have the
        // same issuer's name.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
            "nobody whom this machine trusts vouches for {server}; if it makes its certificates \
             itself, get the newest from its operator and give it with --ca"
        ),
        CertificateError::NotValidForNameContext { presented, .. } => format!(
            "the certificate of {server} is for other names: {}",
            names(presented)
        ),
        other => format!("the certificate of {server} is not acceptable: {other}"),
    }
}

/// Lists the names in a certificate, without the kind that the library puts around each.
fn names(presented: &[String]) -> String {
    let bare = |name: &String| {
        let inside = name
            .split_once('(')
            .and_then(|(_, rest)| rest.strip_suffix(')'));
        inside.unwrap_or(name).trim_matches('"').to_owned()
    };
    let names: Vec<_> = presented.iter().map(bare).collect();
    match names.is_empty() {
        true => "it names nobody".to_owned(),
        false => names.join(", "),
    }
}
