//! The control socket on systems without Unix sockets: there is none.

use std::path::Path;
use std::sync::Arc;

use anyhow::bail;

use super::message::{Answer, Order};
use crate::shared::Shared;
use crate::start_error::StartError;
use cubesync_relay::bans::Bans;

const MISSING: &str = "this system has no Unix sockets, through which an operator's commands go";

/// None.
#[derive(Debug)]
pub(crate) enum ControlSocket {}

/// None.
#[derive(Debug)]
pub(crate) enum BanFile {}

/// Always fails.
///
/// # Errors
/// The system has no Unix sockets.
pub fn ask(_: &Path, _: &Order) -> anyhow::Result<Answer> {
    bail!(MISSING);
}

impl ControlSocket {
    /// Always fails.
    ///
    /// # Errors
    /// The system has no Unix sockets.
    pub(crate) async fn open(path: &Path) -> Result<Self, StartError> {
        Err(StartError::Control {
            path: path.to_owned(),
            reason: MISSING.to_owned(),
        })
    }
}

impl BanFile {
    /// Always fails: only the operator's commands make bans.
    ///
    /// # Errors
    /// The system has no Unix sockets.
    pub(crate) fn open(path: &Path, _: &Bans) -> Result<Self, StartError> {
        Err(StartError::Bans {
            path: path.to_owned(),
            reason: MISSING.to_owned(),
        })
    }
}

/// Is never called.
pub(crate) async fn serve(socket: ControlSocket, _: Arc<Shared>, _: Option<BanFile>) {
    match socket {}
}
