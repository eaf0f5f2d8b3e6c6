//! The flag for datagrams.

use std::net::SocketAddr;
use std::str::FromStr;

use cubesync_arguments::listen_address;

/// The address for players' datagrams, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UdpAddress {
    /// There are no datagrams.
    Off,
    /// The server's socket for them.
    At(SocketAddr),
}

impl FromStr for UdpAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            off if off.eq_ignore_ascii_case("off") => Ok(Self::Off),
            _ => {
                let address = listen_address(text).map(Self::At);
                address.map_err(|problem| format!("{problem}; or off"))
            }
        }
    }
}
