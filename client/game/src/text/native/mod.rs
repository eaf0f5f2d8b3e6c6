//! Lines of text in the built-in font, and in the system's fonts where that lacks a character.

mod fonts;
mod layout;
mod picture;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use anyhow::Context;
use macroquad::math::Rect;
use macroquad::texture::Image;
use read_fonts::model::Font;
use read_fonts::types::GlyphId;

use self::fonts::{Han, SystemFonts};
use self::picture::Picture;
use super::Spot;
use super::atlas::{Atlas, Place};

const BUILT_IN: &[u8] = include_bytes!("../../../../../assets/fonts/DejaVuSans-subset.ttf");
/// Most characters whose font is kept in mind.
const MAX_CHOICES: usize = 4096;

/// The fonts, and which of them shows which character.
pub(crate) struct Typesetter {
    built_in: Arc<Font>,
    system: Option<SystemFonts>,
    /// Brings the system's fonts once they are read.
    reading: Option<Receiver<SystemFonts>>,
    choices: HashMap<(Han, Box<str>), Option<Arc<Font>>>,
}

impl Typesetter {
    /// Loads the built-in font, and begins to read the system's ones.
    ///
    /// # Errors
    /// When the built-in font is damaged.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let (found, reading) = channel();
        // Hundreds of files may be on a slow disk. Without the thread only the built-in font is used.
        let started = thread::Builder::new()
            .name("fonts".into())
            .spawn(move || found.send(SystemFonts::read()));
        let built_in = Font::new(BUILT_IN, 0).context("cannot read the built-in font")?;
        Ok(Self {
            built_in: Arc::new(built_in),
            system: None,
            reading: started.is_ok().then_some(reading),
            choices: HashMap::new(),
        })
    }

    /// Takes the system's fonts once they are read; returns whether texts look different now.
    pub(crate) fn poll(&mut self) -> bool {
        let Some(system) = self
            .reading
            .as_ref()
            .and_then(|fonts| fonts.try_recv().ok())
        else {
            return false;
        };
        self.system = Some(system);
        self.reading = None;
        self.choices.clear();
        true
    }

    /// Returns the width of a line in pixels.
    pub(crate) fn width_px(&mut self, text: &str, size_px: u16) -> f32 {
        layout::layout(self, text).width * f32::from(size_px)
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
        let image = Image {
            bytes: self.pixels(text, size_px, spot),
            width: spot.width_px as u16,
            height: spot.height_px as u16,
        };
        let Rect { x, y, w, h } = atlas.area(place);
        atlas
            .texture()
            .update_part(&image, x as i32, y as i32, w as i32, h as i32);
    }

    /// Draws a line, and returns its pixels: red, green, blue and opacity.
    fn pixels(&mut self, text: &str, size_px: u16, spot: Spot) -> Vec<u8> {
        let line = layout::layout(self, text);
        let mut picture = Picture::new(spot);
        picture.draw(&line.glyphs, f32::from(size_px));
        picture.into_pixels()
    }

    /// Returns the glyphs of a text and their advances in ems, if the built-in font has all of it.
    /// That font's letters stand beside each other and leave each other alone.
    fn simple_glyphs(&self, text: &str) -> Option<Vec<(Arc<Font>, GlyphId, f32)>> {
        let (letters, metrics) = (self.built_in.charmap(), self.built_in.glyph_metrics());
        let em = f32::from(self.built_in.units_per_em());
        let glyph = |letter| {
            let id = letters.map_unicode(letter)?;
            Some((self.built_in.clone(), id, metrics.h_advance(id) / em))
        };
        text.chars().map(glyph).collect()
    }

    /// Returns the font for a character with its marks, or nothing if no font has it.
    fn font(&mut self, cluster: &str, han: Han) -> Option<Arc<Font>> {
        if fonts::shows(&self.built_in, cluster) {
            return Some(self.built_in.clone());
        }
        let system = self.system.as_ref()?;
        if let Some(chosen) = self.choices.get(&(han, cluster.into())) {
            return chosen.clone();
        }
        if self.choices.len() == MAX_CHOICES {
            self.choices.clear();
        }
        let chosen = system.choose(cluster, han);
        self.choices.insert((han, cluster.into()), chosen.clone());
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how many pixels of a line are not empty. The system's fonts count only if they are
    /// waited for.
    fn drawn(fonts: &mut Typesetter, text: &str) -> usize {
        let spot = Spot {
            width_px: fonts.width_px(text, 16).ceil() as usize + 8,
            height_px: 28,
            left_px: 4.0,
            baseline_px: 20.0,
        };
        let pixels = fonts.pixels(text, 16, spot);
        assert_eq!(pixels.len(), 4 * spot.width_px * spot.height_px);
        pixels.chunks(4).filter(|pixel| pixel[3] > 60).count()
    }

    fn without_system_fonts() -> Typesetter {
        Typesetter {
            reading: None,
            ..Typesetter::new().unwrap()
        }
    }

    #[test]
    fn the_built_in_font_has_latin_cyrillic_and_greek_letters() {
        let mut fonts = without_system_fonts();
        for name in ["Anna", "Žofie", "Вася", "Ґалаґан", "Ελένη"] {
            assert!(fonts.simple_glyphs(name).is_some(), "{name}");
            assert!(drawn(&mut fonts, name) > 80, "{name}");
        }
        assert_eq!(drawn(&mut fonts, " "), 0);
    }

    #[test]
    fn a_box_stands_for_what_no_font_has() {
        let mut fonts = without_system_fonts();
        let widths = ["李", "李小", "ab"].map(|text| fonts.width_px(text, 10));
        assert_eq!(
            widths[..2],
            [10.0 * layout::BOX_WIDTH, 20.0 * layout::BOX_WIDTH]
        );
        for name in ["李", "👨‍👩‍👧", "דוד", "a\u{301}\u{323}"] {
            assert!(drawn(&mut fonts, name) > 20, "{name}");
        }
        // A box is a character: a name of several, one of which is missing, keeps the others.
        assert!(fonts.width_px("ab李", 10) > widths[2]);
    }

    #[test]
    fn nothing_is_drawn_beside_a_narrow_picture() {
        let mut fonts = without_system_fonts();
        let spot = Spot {
            width_px: 20,
            height_px: 10,
            left_px: -30.0,
            baseline_px: 4.0,
        };
        assert_eq!(fonts.pixels("Wide and high 李", 40, spot).len(), 800);
    }
}
