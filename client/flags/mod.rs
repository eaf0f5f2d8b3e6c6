//! Flags that the game and the bots have in common. Both include this module by its path, because
//! the library knows no command lines.

mod datagrams;
mod key;
mod lab;
mod tls;

pub(crate) use datagrams::DatagramFlags;
pub(crate) use key::KeyFlags;
pub(crate) use lab::LabFlags;
pub(crate) use tls::TlsFlags;
