//! The operator's commands: `cubesync-server players`, `kick`, `ban`, `unban` and `bans`.
//!
//! They reach a running server through a Unix socket, which only the server's own user and root may
//! open. Each connection carries one order and one answer, each a line of JSON. So the network cannot
//! reach any of this, and an operator needs no key.

pub mod command_line;
#[cfg_attr(not(unix), allow(dead_code, reason = "there is no socket"))]
mod message;

#[cfg(unix)]
mod ban_file;
#[cfg(unix)]
mod caller;
#[cfg(unix)]
mod orders;
#[cfg(unix)]
mod serving;
#[cfg(unix)]
mod socket_file;

#[cfg(unix)]
pub(crate) use self::ban_file::BanFile;
#[cfg(unix)]
pub use self::caller::ask;
#[cfg(unix)]
pub(crate) use self::serving::serve;
#[cfg(unix)]
pub(crate) use self::socket_file::ControlSocket;

#[cfg(not(unix))]
mod off;
#[cfg(not(unix))]
pub use self::off::ask;
#[cfg(not(unix))]
pub(crate) use self::off::{BanFile, ControlSocket, serve};
