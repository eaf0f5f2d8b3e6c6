//! Flags that the game and the bots have in common. Both include this module by its path: the
//! library is free of command lines.

mod lab;
mod tls;

pub(crate) use lab::LabFlags;
pub(crate) use tls::TlsFlags;
