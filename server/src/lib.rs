//! cubesync's server as a library: [`run()`] it with a [`Config`] and a way to stop it.
//!
//! The data's way: the listener accepts a socket, a session reads frames and decodes
//! messages, a [`room`] applies them to its [`world`](room::world), and once a tick encodes what
//! changed into its [`log`](room::log), from which the [audience](room::audience) writes to every
//! socket. Beside it stand the text protocol, which joins a room like any player, and the pages.

mod admission;
mod budget;
pub mod bus;
mod cluster;
mod config;
mod contain;
pub mod doctor;
pub mod ending;
#[doc(hidden)]
pub mod fuzzing;
mod host;
mod http;
mod key;
pub mod label;
mod listener;
pub mod logging;
mod meter;
pub mod metrics;
mod pace;
mod recorder;
mod replay;
pub mod room;
mod rooms;
mod run;
mod server_metrics;
mod session;
mod text;
mod tls;

pub use config::Config;
pub use ending::Ending;
pub use host::Host;
pub use key::{Key, RoomKey};
pub use metrics::Metrics;
pub use rooms::DEFAULT_ROOM;
pub use run::{Addresses, StartError, run};
pub use session::stream::Stream;
pub use tls::{Certificate, CertificateError, Fingerprint};
