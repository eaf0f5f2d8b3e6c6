//! Lines of text in every script: each is drawn once into a texture, and then shown from there.
//!
//! A browser draws them with its own fonts, a native window with the system's. Glyphs of one line
//! depend on each other in many scripts, so whole lines are kept and not single glyphs.

mod atlas;
#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(target_arch = "wasm32")]
mod web;

use std::collections::HashMap;

use macroquad::color::Color;
use macroquad::math::vec2;
use macroquad::texture::{DrawTextureParams, draw_texture_ex};

use self::atlas::{Atlas, Place, SIDE_PX};
#[cfg(not(target_arch = "wasm32"))]
use self::native::Typesetter;
#[cfg(target_arch = "wasm32")]
use self::web::Typesetter;
use crate::theme;

/// Most names that are drawn into the texture in one frame: each takes up to a
/// millisecond, and a whole crowd may come into sight at once.
const NEW_NAMES: u32 = 4;
/// Most names that are measured for the first time in one frame, which is several times faster.
const NEW_WIDTHS: u32 = 12;
/// Most lines whose width is kept.
const MAX_LINES: usize = 4096;

/// All lines that were drawn lately.
pub(crate) struct Lines {
    typesetter: Typesetter,
    atlas: Atlas,
    by_size: HashMap<u16, HashMap<Box<str>, Line>>,
    count: usize,
    frame: u64,
    names_left: u32,
    widths_left: u32,
}

/// A line of text at one size.
struct Line {
    width_px: f32,
    place: Option<Place>,
    last_used: u64,
}

/// The place of a line within its pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spot {
    width_px: usize,
    height_px: usize,
    /// The distance from the left edge to the line's beginning: some letters reach out to the left.
    left_px: f32,
    /// The distance from the upper edge to the baseline.
    baseline_px: f32,
}

impl Lines {
    /// Creates the texture, and makes the fonts ready.
    ///
    /// # Errors
    /// When the built-in font is damaged.
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            typesetter: Typesetter::new()?,
            atlas: Atlas::new(),
            by_size: HashMap::new(),
            count: 0,
            frame: 1,
            names_left: NEW_NAMES,
            widths_left: NEW_WIDTHS,
        })
    }

    /// Begins a frame on a screen with this many pixels to a logical one.
    pub(crate) fn begin_frame(&mut self, scale: f32) {
        self.frame += 1;
        self.names_left = NEW_NAMES;
        self.widths_left = NEW_WIDTHS;
        let fonts_changed = self.typesetter.poll();
        let [large, small] = [theme::TITLE, theme::BODY].map(|size| height_px(device(size, scale)));
        if self.atlas.arrange(large, small) || fonts_changed {
            self.atlas.clear();
            self.by_size.clear();
            self.count = 0;
        } else if self.count > MAX_LINES {
            // Nothing is drawn yet in this frame: what the last one used counts as needed.
            let needed = self.frame - 1;
            for lines in self.by_size.values_mut() {
                lines.retain(|_, line| line.last_used >= needed);
            }
            self.count = self.by_size.values().map(HashMap::len).sum();
        }
    }

    /// Returns a line's width in pixels.
    pub(crate) fn width_px(&mut self, text: &str, size_px: u16) -> f32 {
        self.line(text, size_px).width_px
    }

    /// Returns the width of a name in pixels, unless too many were new in this frame.
    pub(crate) fn name_width_px(&mut self, name: &str, size_px: u16) -> Option<f32> {
        if !self.knows(name, size_px) {
            self.widths_left = self.widths_left.checked_sub(1)?;
        }
        Some(self.width_px(name, size_px))
    }

    /// Whether a name can be drawn now. Too many new ones have to wait for the next frames.
    pub(crate) fn is_name_ready(&mut self, name: &str, size_px: u16) -> bool {
        let place = self.line(name, size_px).place;
        if place.is_some_and(|place| self.atlas.has(place)) {
            return true;
        }
        let Some(left) = self.names_left.checked_sub(1) else {
            return false;
        };
        self.names_left = left;
        self.place(name, size_px).is_some()
    }

    /// Draws a line from a place on the baseline, in pixels, to the right.
    pub(crate) fn draw(
        &mut self,
        text: &str,
        [x, y]: [f32; 2],
        size_px: u16,
        scale: f32,
        colour: Color,
    ) {
        if text.is_empty() {
            return;
        }
        let Some(place) = self.place(text, size_px) else {
            return;
        };
        let spot = spot(0.0, size_px);
        let source = self.atlas.area(place);
        let corner = vec2(x - spot.left_px, y - spot.baseline_px) / scale;
        let parameters = DrawTextureParams {
            dest_size: Some(source.size() / scale),
            source: Some(source),
            ..DrawTextureParams::default()
        };
        draw_texture_ex(self.atlas.texture(), corner.x, corner.y, colour, parameters);
    }

    fn knows(&self, text: &str, size_px: u16) -> bool {
        let lines = self.by_size.get(&size_px);
        lines.is_some_and(|lines| lines.contains_key(text))
    }

    /// Returns a line, measured.
    fn line(&mut self, text: &str, size_px: u16) -> &mut Line {
        if !self.knows(text, size_px) {
            let width_px = self.typesetter.width_px(text, size_px);
            let line = Line {
                width_px,
                place: None,
                last_used: self.frame,
            };
            let lines = self.by_size.entry(size_px).or_default();
            lines.insert(text.into(), line);
            self.count += 1;
        }
        let lines = self.by_size.get_mut(&size_px);
        let line = lines.and_then(|lines| lines.get_mut(text));
        let line = line.expect("a line that was not known was added");
        line.last_used = self.frame;
        line
    }

    /// Returns the line's place in the texture. Draws it there if it is new; returns nothing if
    /// everything there is in use.
    fn place(&mut self, text: &str, size_px: u16) -> Option<Place> {
        let frame = self.frame;
        let Line {
            width_px, place, ..
        } = *self.line(text, size_px);
        if let Some(place) = place
            && self.atlas.touch(place, frame)
        {
            return Some(place);
        }
        let spot = spot(width_px, size_px);
        let place = self.atlas.take(spot.width_px, spot.height_px, frame)?;
        self.typesetter
            .draw(text, size_px, spot, &self.atlas, place);
        self.line(text, size_px).place = Some(place);
        Some(place)
    }
}

/// Converts a size in logical pixels to one of the screen's.
pub(crate) fn device(size: u16, scale: f32) -> u16 {
    (f32::from(size) * scale).ceil() as u16
}

/// Returns the height of a line, with room for marks above and below the letters.
fn height_px(size_px: u16) -> usize {
    (f32::from(size_px) * 1.75).ceil() as usize
}

fn spot(width_px: f32, size_px: u16) -> Spot {
    let size = f32::from(size_px);
    let left_px = (size * 0.25).ceil();
    Spot {
        width_px: ((width_px + 2.0 * left_px).ceil() as usize).min(SIDE_PX),
        height_px: height_px(size_px),
        left_px,
        baseline_px: (size * 1.2).ceil(),
    }
}
