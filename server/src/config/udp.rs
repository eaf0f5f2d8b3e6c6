//! The flag for datagrams.

use std::net::SocketAddr;
use std::str::FromStr;

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
        match text {
            "off" => Ok(Self::Off),
            _ => {
                let address = text.parse().map(Self::At);
                address.map_err(|_| "expected ADDR:PORT, such as 0.0.0.0:14900, or off".to_owned())
            }
        }
    }
}
