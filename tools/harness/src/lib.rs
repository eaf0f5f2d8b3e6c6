//! What the tools that start programs share.
//!
//! A [`Program`] is a process that does not outlive its starter; [`programs`] finds and builds what is
//! started, [`nats`] starts the bus between servers, [`wait`] waits until something has happened, [`http`]
//! asks for pages, and [`usage`] reads the CPU time and the memory that the kernel counts for a process.
//! With the feature `players`, [`players`] walk in a room and compare what they see.

pub mod http;
pub mod nats;
#[cfg(feature = "players")]
pub mod players;
mod process;
pub mod programs;
pub mod usage;
pub mod wait;

pub use self::process::Program;
