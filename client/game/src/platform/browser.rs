//! Safe wrappers of the page's functions for the game, in its plugin `assets/web-src/plugin.js`.
//! They exist in WASM only.
// Each unsafe call passes numbers, or memory that is borrowed for the time of the call. The plugin
// keeps no pointer.
#![allow(unsafe_code)]

use std::time::Duration;

/// Longest text that the plugin returns, in bytes: an invite link with a full room name.
const MAX_TEXT_BYTES: usize = 2048;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn cubesync_now_ms() -> f64;
    fn cubesync_random() -> u32;
    fn cubesync_is_hidden() -> u32;
    fn cubesync_prefers_touch() -> u32;
    fn cubesync_fail(text: *const u8, length: usize);
    fn cubesync_setting(key: *const u8, length: usize, to: *mut u8, room: usize) -> usize;
    fn cubesync_keep(key: *const u8, key_length: usize, value: *const u8, length: usize);
    fn cubesync_address(to: *mut u8, room: usize) -> usize;
    fn cubesync_invite_link(room_name: *const u8, length: usize, to: *mut u8, room: usize)
    -> usize;
    fn cubesync_copy(text: *const u8, length: usize);
    fn cubesync_set_title(text: *const u8, length: usize);
    fn cubesync_can_fullscreen() -> u32;
    fn cubesync_toggle_fullscreen();
    fn cubesync_text_width(text: *const u8, length: usize, size: u32) -> f32;
    fn cubesync_text_draw(
        text: *const u8,
        length: usize,
        size: u32,
        width: usize,
        height: usize,
        x: f32,
        y: f32,
        texture: u32,
        left: usize,
        top: usize,
    );
    fn cubesync_text_field(
        index: u32,
        x: f32,
        y: f32,
        width: f32,
        height: f32,
        text: *const u8,
        length: usize,
        to: *mut u8,
        room: usize,
    ) -> i32;
}

/// Returns the time since the page was opened, which never goes backwards.
pub(crate) fn now() -> Duration {
    // SAFETY: a number.
    Duration::from_secs_f64(unsafe { cubesync_now_ms() }.max(0.0) / 1e3)
}

/// Returns a number that nobody can guess.
pub(crate) fn random() -> u32 {
    // SAFETY: a number.
    unsafe { cubesync_random() }
}

/// Whether the tab is in the background, where nothing needs to be drawn.
pub(crate) fn is_hidden() -> bool {
    // SAFETY: a number.
    unsafe { cubesync_is_hidden() != 0 }
}

/// Whether this is a phone or a tablet.
pub(crate) fn prefers_touch() -> bool {
    // SAFETY: a number.
    unsafe { cubesync_prefers_touch() != 0 }
}

/// Covers the page with an error and what to do about it.
pub(crate) fn fail(text: &str) {
    // SAFETY: the text outlives the call.
    unsafe { cubesync_fail(text.as_ptr(), text.len()) }
}

/// Returns a setting: the tab's own, else the one in the page's address, else the browser's.
pub(crate) fn setting(key: &str) -> Option<String> {
    // SAFETY: the key outlives the call; `text` gives memory to write to.
    let text = text(|to, room| unsafe { cubesync_setting(key.as_ptr(), key.len(), to, room) });
    Some(text).filter(|text| !text.is_empty())
}

/// Stores a setting for this tab's next page, and name and colour also for other tabs.
pub(crate) fn keep(key: &str, value: &str) {
    // SAFETY: both outlive the call.
    unsafe { cubesync_keep(key.as_ptr(), key.len(), value.as_ptr(), value.len()) }
}

/// Returns the page's `host:port`.
pub(crate) fn address() -> String {
    // SAFETY: `text` gives memory to write to.
    text(|to, room| unsafe { cubesync_address(to, room) })
}

/// Returns the address that opens the game in a room.
pub(crate) fn invite_link(room_name: &str) -> String {
    let (name, length) = (room_name.as_ptr(), room_name.len());
    // SAFETY: the name outlives the call; `text` gives memory to write to.
    text(|to, room| unsafe { cubesync_invite_link(name, length, to, room) })
}

/// Copies a text to the clipboard. Where that is forbidden, shows it to be copied by hand.
pub(crate) fn copy(copied: &str) {
    // SAFETY: the text outlives the call.
    unsafe { cubesync_copy(copied.as_ptr(), copied.len()) }
}

/// Sets the tab's title.
pub(crate) fn set_title(title: &str) {
    // SAFETY: the title outlives the call.
    unsafe { cubesync_set_title(title.as_ptr(), title.len()) }
}

/// Whether the page can fill the whole screen. On iPhones it cannot.
pub(crate) fn can_fullscreen() -> bool {
    // SAFETY: a number.
    unsafe { cubesync_can_fullscreen() != 0 }
}

/// Enters or leaves full screen.
pub(crate) fn toggle_fullscreen() {
    // SAFETY: no memory is involved.
    unsafe { cubesync_toggle_fullscreen() }
}

/// Lets a phone's keyboard type into a field that is drawn in an area, in logical pixels. The
/// caller repeats this in every frame that draws the field. Returns the text if it was changed.
pub(crate) fn text_field(
    index: u32,
    [x, y, width, height]: [f32; 4],
    shown: &str,
) -> Option<String> {
    let mut typed = None;
    let text = text(|to, room| {
        let (from, length) = (shown.as_ptr(), shown.len());
        // SAFETY: the text outlives the call; `text` gives memory to write to.
        let count =
            unsafe { cubesync_text_field(index, x, y, width, height, from, length, to, room) };
        typed = usize::try_from(count).ok();
        typed.unwrap_or(0)
    });
    typed.map(|_| text)
}

/// Returns the width of a line of text at a size, in pixels of the screen.
pub(crate) fn text_width(line: &str, size_px: u16) -> f32 {
    // SAFETY: the line outlives the call.
    unsafe { cubesync_text_width(line.as_ptr(), line.len(), size_px.into()) }
}

/// Draws a white line of text from a place on its baseline into a picture of this size, and writes that to
/// a place of a texture.
pub(crate) fn draw_text(
    line: &str,
    size_px: u16,
    [width, height]: [usize; 2],
    [x, y]: [f32; 2],
    texture: u32,
    [left, top]: [usize; 2],
) {
    let (from, length, size) = (line.as_ptr(), line.len(), size_px.into());
    // SAFETY: the line outlives the call.
    unsafe {
        cubesync_text_draw(from, length, size, width, height, x, y, texture, left, top);
    }
}

/// Returns the text that `write` puts into the memory it is given; `write` returns its length.
fn text(write: impl FnOnce(*mut u8, usize) -> usize) -> String {
    let mut bytes = vec![0; MAX_TEXT_BYTES];
    let count = write(bytes.as_mut_ptr(), bytes.len());
    bytes.truncate(count);
    String::from_utf8(bytes).unwrap_or_default()
}
