//! Lines of text in the browser's own fonts, with all of its scripts, directions and emoji.
// The unsafe calls name the texture to the page; see `Typesetter::draw`.
#![allow(unsafe_code)]

use macroquad::miniquad::RawId;
use macroquad::window::get_internal_gl;

use super::Spot;
use super::atlas::{Atlas, Place};
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

    /// Draws a line into its place of the texture, white but for what has colours of its own.
    pub(super) fn draw(
        &mut self,
        text: &str,
        size_px: u16,
        spot: Spot,
        atlas: &Atlas,
        place: Place,
    ) {
        // SAFETY: the reference must not live beside another one to macroquad's context. It ends
        // with this function, on the page's one thread; the texture lives as long as the atlas.
        let texture = atlas.texture().raw_miniquad_id();
        let context = unsafe { get_internal_gl() }.quad_context;
        let RawId::OpenGl(texture) = unsafe { context.texture_raw_id(texture) };
        let area = atlas.area(place);
        let (size, baseline, to) = (
            [spot.width_px, spot.height_px],
            [spot.left_px, spot.baseline_px],
            [area.x as usize, area.y as usize],
        );
        browser::draw_text(text, size_px, size, baseline, texture, to);
    }
}
