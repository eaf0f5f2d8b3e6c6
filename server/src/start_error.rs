//! Reasons why the server does not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::cluster::BusError;
use crate::tls::CertificateError;

/// The reason why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address} for {purpose}: {hint}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// The listener's purpose.
        purpose: &'static str,
        /// The cause and the remedy.
        hint: String,
    },
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] CertificateError),
    /// The system cannot start a thread, or its work failed.
    #[error("a thread that the server needs failed: {0}")]
    Thread(#[from] io::Error),
    /// The bus cannot be used as configured.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The recording cannot be written.
    #[error("cannot record into {}: {reason}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
    /// The control socket cannot be opened.
    #[error("cannot take commands at {} (--control): {reason}", path.display())]
    Control {
        /// The socket.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
    /// The bans of before cannot be read.
    #[error("cannot read the bans in {} (--bans): {reason}", path.display())]
    Bans {
        /// The file.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
    /// Where loose cubes are cannot be kept.
    #[error("cannot keep the world in {} (--world): {reason}", path.display())]
    World {
        /// The file.
        path: PathBuf,
        /// The cause and the remedy.
        reason: String,
    },
    /// The recording cannot be played.
    #[error("cannot play {}: {reason}", path.display())]
    Replay {
        /// The file.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
}
