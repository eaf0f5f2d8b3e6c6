//! The display of systems that tell programs nothing about their screens.

use macroquad::miniquad::window;

use crate::platform::place::{Area, Desk, Goal};

/// Returns nothing: miniquad does not know the screen.
pub(crate) fn desk() -> Result<Option<Desk>, String> {
    Ok(None)
}

/// Moves the window that is open now. On macOS miniquad cannot.
pub(crate) fn arrange(goal: Goal, _title: &str) {
    let (Goal::Corner(x, y) | Goal::Fill(Area { x, y, .. })) = goal;
    if cfg!(windows) {
        window::set_window_position(x.max(0) as u32, y.max(0) as u32);
    }
}

/// Returns the clipboard's text.
pub(crate) fn paste() -> Option<String> {
    window::clipboard_get()
}

/// Copies a text to the clipboard.
pub(crate) fn copy(text: &str) {
    window::clipboard_set(text);
}
