//! The arguments of `join`, as options of a client.

use std::path::PathBuf;

use cubesync_client::protocol::{Colour, clean_key, clean_name, clean_room};
use cubesync_client::socket::full_address;
use cubesync_client::{ClientOptions, Trust};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

/// The arguments of `join`, as Python gave them.
pub(crate) struct Arguments<'a> {
    pub(crate) address: &'a str,
    pub(crate) name: &'a str,
    pub(crate) room: &'a str,
    pub(crate) key: Option<&'a str>,
    pub(crate) colour: Option<ColourArgument>,
    pub(crate) tls: bool,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) insecure: bool,
    pub(crate) datagrams: bool,
}

/// A colour as `"#e08020"` or as three numbers.
#[derive(FromPyObject)]
pub(crate) enum ColourArgument {
    Text(String),
    Channels([u8; 3]),
}

impl Arguments<'_> {
    /// Returns the options.
    ///
    /// # Errors
    /// `ValueError` or `OSError`, with the words that the other clients use.
    pub(crate) fn options(self) -> PyResult<ClientOptions> {
        let mut server = full_address(self.address).map_err(PyValueError::new_err)?;
        if self.tls && !server.starts_with(ClientOptions::TLS) {
            server.insert_str(0, ClientOptions::TLS);
        }
        let mut options = ClientOptions::new(server, clean_name(self.name).map_err(value_error)?);
        options.room = clean_room(self.room).map_err(value_error)?;
        options.datagrams = self.datagrams;
        if let Some(key) = self.key {
            options.join_key = Some(clean_key(key).map_err(value_error)?.to_owned());
        }
        options.colour = match self.colour {
            Some(ColourArgument::Text(text)) => text.parse().map_err(value_error)?,
            Some(ColourArgument::Channels(channels)) => Colour::from(channels),
            None => options.colour,
        };
        options.trust = match self.ca {
            Some(_) if self.insecure => {
                return Err(PyValueError::new_err("give only one of ca and insecure"));
            }
            Some(file) => Trust::also(&file)
                .map_err(|error| PyOSError::new_err(format!("{}: {error}", file.display())))?,
            None if self.insecure => Trust::Anybody,
            None => Trust::System,
        };
        Ok(options)
    }
}

fn value_error(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}
