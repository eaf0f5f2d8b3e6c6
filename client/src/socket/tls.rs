//! An encrypted connection: TLS over a TCP stream that does not block.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, ClientConnection, Error};

use super::foreign::instead_of_tls;

/// Bytes that are encrypted at once: one record of TLS.
const CHUNK_BYTES: usize = 16 * 1024;
/// Bytes of an answer that are looked at before they count as TLS: a refusal and its reason.
const FIRST_BYTES: usize = 512;

/// An encrypted stream; like the stream under it, it does not block.
#[derive(Debug)]
pub(super) struct TlsStream {
    connection: ClientConnection,
    socket: TcpStream,
    /// Whether the server has sent anything.
    has_heard: bool,
}

impl TlsStream {
    /// Starts a handshake over a connected stream that does not block, with the server that a person
    /// knows as `server`.
    ///
    /// # Errors
    /// The reason, for a person.
    pub(super) fn new(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        socket: TcpStream,
        server: &str,
    ) -> Result<Self, String> {
        let connection = ClientConnection::new(config, name)
            .map_err(|error| format!("cannot speak TLS with {server}: {error}"))?;
        Ok(Self {
            connection,
            socket,
            has_heard: false,
        })
    }

    /// Returns the stream that carries the records.
    pub(super) fn tcp(&self) -> &TcpStream {
        &self.socket
    }

    /// Takes the handshake as far as it comes without waiting, and returns whether it is complete.
    ///
    /// # Errors
    /// The reason, for a person.
    pub(super) fn shake_hands(&mut self, server: &str) -> Result<bool, String> {
        loop {
            match self.step(server) {
                Ok(()) if !self.connection.is_handshaking() => return Ok(true),
                Ok(()) => {}
                Err(Failure::Broken(error)) if is_for_now(&error) => return Ok(false),
                Err(failure) => return Err(failure.words(server)),
            }
        }
    }

    fn step(&mut self, server: &str) -> Result<(), Failure> {
        self.flush()?;
        if !self.connection.is_handshaking() {
            return Ok(());
        }
        if !self.has_heard {
            let mut first = [0; FIRST_BYTES];
            let count = self.socket.peek(&mut first)?;
            self.has_heard = true;
            if let Some(reason) = instead_of_tls(&first[..count], server) {
                // Unread bytes would make the end of the connection a reset.
                let _ = self.socket.read(&mut first);
                return Err(Failure::Foreign(reason));
            }
        }
        if self.connection.read_tls(&mut self.socket)? == 0 {
            return Err(Failure::Broken(ErrorKind::UnexpectedEof.into()));
        }
        let processed = self.connection.process_new_packets();
        // In an error this tells the server the reason, if it still listens.
        let flushed = self.flush();
        processed.map_err(Failure::Refused)?;
        Ok(flushed?)
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
    /// The connection broke, or cannot go on without waiting.
    Broken(io::Error),
    /// The server's answer is no TLS, and this says to a person what it is.
    Foreign(String),
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
            Self::Broken(_) => format!("{server} cut the connection instead of speaking TLS"),
            Self::Foreign(reason) => reason.clone(),
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
