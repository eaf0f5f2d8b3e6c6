//! cubesync's server as a library: [`run()`] it with a [`Config`] and a way to stop it.
//!
//! The listeners accept connections and hand them to a [`Host`](cubesync_relay::Host), which owns the
//! rooms. The text protocol joins a room like any player. The pages show what the host does.

mod bind;
mod blocking;
mod cluster;
mod config;
pub mod control;
mod datagram;
pub mod doctor;
#[doc(hidden)]
pub mod fuzzing;
mod hangup;
mod http;
mod listener;
pub mod logging;
mod memory;
mod metrics;
mod once;
mod players;
mod recorder;
mod replace;
mod replay;
mod run;
mod shared;
mod start_error;
mod text;
mod tls;
mod watch;
mod world;
#[doc(hidden)]
pub mod websocket {
    //! The server's WebSocket without the game, for conformance suites and tests.

    pub use crate::http::conformance::{echo, serve};
}

#[cfg(feature = "cluster")]
pub use config::ClusterOptions;
pub use config::{Config, Network, Origin, PagesPath, UdpAddress};
#[cfg(feature = "cluster")]
pub use run::host_on_bus;
pub use run::{host, run};
pub use shared::Addresses;
pub use start_error::StartError;
pub use tls::{Certificate, CertificateError, Fingerprint, KeyKind};
