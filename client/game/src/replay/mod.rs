//! The screen that plays a recording. It never exists in a browser tab, which has no files.

#[cfg(not(target_arch = "wasm32"))]
mod bar;
#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(target_arch = "wasm32")]
mod web;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use native::ReplayScreen;
#[cfg(target_arch = "wasm32")]
pub(crate) use web::ReplayScreen;
