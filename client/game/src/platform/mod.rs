//! The same functions for a native window and for a browser tab.

#[cfg(target_arch = "wasm32")]
pub(crate) mod browser;
#[cfg(target_os = "linux")]
#[path = "display/x11.rs"]
mod display;
#[cfg(not(any(target_os = "linux", target_arch = "wasm32")))]
#[path = "display/system.rs"]
mod display;
#[cfg(not(target_arch = "wasm32"))]
mod icon;
#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(not(target_arch = "wasm32"))]
mod opening;
#[cfg(not(target_arch = "wasm32"))]
mod options;
#[cfg(not(target_arch = "wasm32"))]
mod place;
#[cfg(target_arch = "wasm32")]
mod web;

use cubesync_client::ClientOptions;
use macroquad::miniquad::conf::Icon;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use native::*;
#[cfg(target_arch = "wasm32")]
pub(crate) use web::*;

/// The settings with which the program was started.
pub(crate) struct Start {
    /// The server and the player.
    pub(crate) options: ClientOptions,
    /// The recording to play instead of joining a server.
    pub(crate) recording: Option<Recording>,
    /// Whether to join without the join screen.
    pub(crate) joins_at_once: bool,
    /// Why these options cannot be used, for the join screen.
    pub(crate) trouble: Option<String>,
    /// The window's title.
    pub(crate) title: String,
    /// The window's width and height; a browser tab has its own.
    pub(crate) size: (i32, i32),
    /// The window's icon, where the program provides it.
    pub(crate) icon: Option<Icon>,
    /// The number of samples per pixel.
    pub(crate) sample_count: i32,
}

/// An address that other people open in a browser to join the same room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invite {
    /// The address.
    pub(crate) link: String,
    /// Whether the address works on this machine only, as `localhost` does.
    pub(crate) is_local: bool,
}
