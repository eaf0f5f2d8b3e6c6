//! `join`: its arguments become the options of a client.

use std::path::PathBuf;

use cubesync_client::protocol::{Colour, clean_key, clean_name, clean_room};
use cubesync_client::{ClientOptions, Target, Trust};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

use crate::room::Room;

/// The name of a player who gave none.
const DEFAULT_NAME: &str = "Python";

/// Returns a room at once, which connects while it is polled.
///
/// The address is host:port, with tls:// in front to encrypt, or an invite link. Without a name and a room it joins
/// the link's, or the lobby as "Python". `key` is the server's join key, `colour` "#rrggbb" or three numbers 0 to 255,
/// `ca` a file of certificates (PEM) to trust beside the system's; `insecure` accepts any certificate, and without
/// `datagrams` everything goes over the connection.
///
/// A wrong argument raises ValueError, a file that cannot be used OSError.
#[pyfunction]
#[pyo3(signature = (address = "localhost", *, name = None, room = None, key = None, colour = None, tls = false,
    ca = None, insecure = false, datagrams = true))]
#[allow(clippy::too_many_arguments, reason = "Python's callers name them")]
pub(crate) fn join(
    address: &str,
    name: Option<&str>,
    room: Option<&str>,
    key: Option<&str>,
    colour: Option<&Bound<'_, PyAny>>,
    tls: bool,
    ca: Option<PathBuf>,
    insecure: bool,
    datagrams: bool,
) -> PyResult<Room> {
    let target = Target::read(address).map_err(value_error)?;
    let room = room.map(clean_room).transpose().map_err(value_error)?;
    let room = target.room(room).map_err(value_error)?;
    let name = name.map(clean_name).transpose().map_err(value_error)?;
    let name = name
        .or(target.name)
        .unwrap_or_else(|| DEFAULT_NAME.to_owned());
    let mut options = ClientOptions::new(target.server, name);
    if tls && !options.server.starts_with(ClientOptions::TLS) {
        options.server.insert_str(0, ClientOptions::TLS);
    }
    options.room = room.unwrap_or(options.room);
    options.datagrams = datagrams;
    if let Some(key) = key {
        options.join_key = Some(clean_key(key).map_err(value_error)?.to_owned());
    }
    if let Some(given) = colour {
        options.colour = read_colour(given)?;
    }
    options.trust = match ca {
        Some(_) if insecure => return Err(value_error("give only one of ca and insecure")),
        Some(file) => {
            let unusable = |error| PyOSError::new_err(format!("{}: {error}", file.display()));
            Trust::also(&file).map_err(unusable)?
        }
        None if insecure => Trust::Anybody,
        None => Trust::System,
    };
    Ok(Room::new(options))
}

fn read_colour(given: &Bound<'_, PyAny>) -> PyResult<Colour> {
    if let Ok(text) = given.extract::<String>() {
        return text.parse().map_err(value_error);
    }
    let wrong = |_| value_error("a colour is \"#rrggbb\" or three whole numbers, 0 to 255");
    given.extract::<[u8; 3]>().map(Colour::from).map_err(wrong)
}

fn value_error(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}
