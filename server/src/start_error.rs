//! Why a server does not start.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::cluster::BusError;
use crate::tls::CertificateError;

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address} for {purpose}: {hint}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What for.
        purpose: &'static str,
        /// What is wrong, and what to do.
        hint: String,
    },
    /// Connections cannot be encrypted.
    #[error(transparent)]
    Tls(#[from] CertificateError),
    /// The bus cannot be had as it was asked for.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The recording cannot be written.
    #[error("cannot record into {}: {reason}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The recording cannot be played.
    #[error("cannot play {}: {reason}", path.display())]
    Replay {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}
