//! The display of systems that tell programs nothing about their screens.

use macroquad::miniquad::window;

use crate::platform::place::{Area, Desk, Goal};

/// Returns nothing: miniquad does not know the screen.
pub(crate) fn desk() -> Result<Option<Desk>, String> {
    Ok(None)
}

/// Moves the window that is open now. On macOS miniquad cannot.
pub(crate) fn arrange(goal: Option<Goal>, _title: &str) {
    if let Some(Goal::Corner(x, y) | Goal::Fill(Area { x, y, .. })) = goal
        && cfg!(windows)
    {
        window::set_window_position(x.max(0) as u32, y.max(0) as u32);
    }
}

/// Types a character. The system has put the accents of dead keys on it already.
pub(crate) fn with_accents(character: char, _silent: u32, mut type_one: impl FnMut(char)) {
    type_one(character);
}

/// Returns the clipboard's text.
pub(crate) fn paste() -> Option<String> {
    window::clipboard_get()
}

/// Copies a text to the clipboard.
pub(crate) fn copy(text: &str) {
    window::clipboard_set(text);
}
