//! What differs between a native window and a browser tab, behind the same functions.

#[cfg(target_arch = "wasm32")]
mod browser;
#[cfg(not(target_arch = "wasm32"))]
mod icon;
#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(not(target_arch = "wasm32"))]
mod options;
#[cfg(target_arch = "wasm32")]
mod web;

use cubesync_client::ClientOptions;
use macroquad::miniquad::conf::Icon;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use native::*;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use options::with_port;
#[cfg(target_arch = "wasm32")]
pub(crate) use web::*;

/// How the program was started.
pub(crate) struct Start {
    /// Where to connect and as whom.
    pub(crate) options: ClientOptions,
    /// A recording to play instead of joining a server.
    pub(crate) recording: Option<Recording>,
    /// Whether to leave the join screen out.
    pub(crate) joins_at_once: bool,
    /// The window's title.
    pub(crate) title: String,
    /// The window's icon, where the program has to bring it.
    pub(crate) icon: Option<Icon>,
    /// Samples per pixel.
    pub(crate) sample_count: i32,
}

/// An address that others open in a browser to come into the same room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invite {
    /// The address.
    pub(crate) link: String,
    /// It names this machine by a name that means another one to everybody else.
    pub(crate) is_local: bool,
}
