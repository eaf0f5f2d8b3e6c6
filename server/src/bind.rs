//! The sockets that the server binds, and what to do where it cannot.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, UdpSocket};
use tracing::warn;

use crate::config::Config;
use crate::datagram;
use crate::start_error::StartError;

/// Binds the listener of a port. `purpose` and `flag` say in an error what it is for and how to choose another.
///
/// # Errors
/// The address and a remedy.
pub(crate) async fn bind(
    address: SocketAddr,
    purpose: &'static str,
    flag: &'static str,
) -> Result<TcpListener, StartError> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| cannot_bind(address, purpose, flag, &error))
}

/// Binds the socket for datagrams, if they are on. Where nobody asked for an address, the server starts
/// without one too: players have their streams. `stream` is the address to which players connect.
///
/// # Errors
/// The address and a remedy.
pub(crate) async fn bind_udp(
    config: &Config,
    stream: SocketAddr,
) -> Result<Option<UdpSocket>, StartError> {
    let Some(address) = config.udp_address() else {
        return Ok(None);
    };
    // A port that the system chose for the streams is the datagrams' too, if it is free for them.
    if config.udp.is_none()
        && address.port() == 0
        && let Ok(socket) = datagram::bind(stream).await
    {
        return Ok(Some(socket));
    }
    match datagram::bind(address).await {
        Ok(socket) => Ok(Some(socket)),
        Err(error) => {
            let error = cannot_bind(address, "datagrams", "--udp", &error);
            if config.udp.is_some() {
                return Err(error);
            }
            warn!(%error, "there will be no datagrams");
            Ok(None)
        }
    }
}

fn cannot_bind(
    address: SocketAddr,
    purpose: &'static str,
    flag: &'static str,
    error: &io::Error,
) -> StartError {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("the port is in use; stop the other program or choose another port with {flag}")
        }
        io::ErrorKind::PermissionDenied => {
            format!("no permission for this port; choose one above 1023 with {flag}")
        }
        io::ErrorKind::AddrNotAvailable => format!(
            "this machine does not have that address; choose another with {flag}, 0.0.0.0 for all"
        ),
        _ => error.to_string(),
    };
    StartError::Bind {
        address,
        purpose,
        hint,
    }
}
