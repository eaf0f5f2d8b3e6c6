//! What the tools that start programs share.
//!
//! A [`Program`] is a process that does not outlive its starter; [`programs`] finds and builds what is
//! started, [`wait`] waits until something has happened, [`http`] asks for pages, and [`usage`] reads
//! the CPU time and the memory that the kernel counts for a process.

pub mod http;
mod process;
pub mod programs;
pub mod usage;
pub mod wait;

pub use self::process::Program;
