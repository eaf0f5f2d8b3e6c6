//! The stream of a connection, encrypted or not.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::tls::TlsStream;

/// A stream to a server, which does not block.
#[derive(Debug)]
pub(super) enum ServerStream {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

impl ServerStream {
    /// Returns the stream that carries the bytes.
    pub(super) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.tcp(),
        }
    }

    /// Returns where the server's bytes come from.
    pub(super) fn reader(&mut self) -> &mut dyn Read {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream,
        }
    }

    /// Returns where bytes for the server go.
    pub(super) fn writer(&mut self) -> &mut dyn Write {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream,
        }
    }
}
