//! cubesync's server as a library: [`run()`] it with a [`Config`] and a way to stop it.
//!
//! The data's way: the listener accepts a socket, a session reads frames and decodes
//! messages, a [`room`] applies them to its [`world`](room::world), and once a tick encodes what
//! changed into its [`log`](room::log), from which the [audience](room::audience) writes to every
//! socket. Beside it stand the text protocol, which joins a room like any player, and the pages.

pub mod admission;
pub mod bus;
pub mod by_address;
mod cluster;
mod config;
pub mod contain;
pub mod doctor;
pub mod ending;
#[doc(hidden)]
pub mod fuzzing;
pub mod host;
mod http;
pub mod key;
pub mod label;
mod listener;
pub mod logging;
pub mod metrics;
pub mod network;
pub mod pace;
mod players;
mod recorder;
mod replay;
pub mod room;
pub mod rooms;
mod run;
mod server_metrics;
pub mod session;
mod text;
mod tls;
pub mod token_bucket;

pub use config::Config;
pub use ending::Ending;
pub use host::Host;
pub use key::{Key, RoomKey};
pub use metrics::Metrics;
pub use rooms::DEFAULT_ROOM;
pub use run::{Addresses, StartError, host, run};
pub use session::Stream;
pub use tls::{Certificate, CertificateError, Fingerprint};
