//! The audience of a room: cursors that write the log to sockets.

pub mod connection;

pub use self::connection::{Connection, Flushed, Outlet, Written};
