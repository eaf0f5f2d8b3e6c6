//! Lines of text in the browser's own fonts, with all of its scripts, directions and emoji.

use super::Spot;
use crate::platform::browser;

/// The browser's text, which keeps its own fonts.
pub(crate) struct Typesetter;

impl Typesetter {
    /// Returns the browser's text, which is always there.
    ///
    /// # Errors
    /// Never.
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self)
    }

    /// Returns false: the browser has all its fonts from the start.
    pub(crate) fn poll(&mut self) -> bool {
        false
    }

    /// Returns the width of a line in pixels.
    pub(crate) fn width_px(&mut self, text: &str, size_px: u16) -> f32 {
        browser::text_width(text, size_px)
    }

    /// Draws a line, white but for what has colours of its own, and returns its pixels: red, green,
    /// blue and opacity.
    pub(crate) fn draw(&mut self, text: &str, size_px: u16, spot: Spot) -> Vec<u8> {
        let (size, place) = (
            [spot.width_px, spot.height_px],
            [spot.left_px, spot.baseline_px],
        );
        browser::draw_text(text, size_px, size, place)
    }
}
