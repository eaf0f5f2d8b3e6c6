//! Flat drawing over the scene: text in one font, and rounded shapes with smooth edges.
//!
//! Positions and sizes are in logical pixels. On a HiDPI screen the glyphs are rasterized larger,
//! so that they stay sharp.

use std::f32::consts::TAU;

use anyhow::Context;
use macroquad::color::Color;
use macroquad::math::{Rect, Vec2, vec2};
use macroquad::models::{Mesh, Vertex, draw_mesh};
use macroquad::shapes::{draw_line, draw_rectangle};
use macroquad::text::{Font, TextParams, draw_text_ex, load_ttf_font_from_bytes, measure_text};
use macroquad::window::screen_dpi_scale;

use crate::theme;

const FONT: &[u8] = include_bytes!("../../../assets/fonts/DejaVuSans-subset.ttf");
/// Height of the capital letters in DejaVu Sans, in font sizes.
const CAPITAL_HEIGHT: f32 = 0.73;
/// Number of straight pieces that make up a rounded corner.
const CORNER_PIECES: usize = 6;

/// The font with which texts are drawn; the shapes need no state.
#[derive(Debug)]
pub(crate) struct Canvas {
    font: Font,
}

impl Canvas {
    /// Loads the built-in font.
    ///
    /// # Errors
    /// When the font is damaged.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let font = load_ttf_font_from_bytes(FONT).context("cannot read the built-in font")?;
        // The font's atlas grows when it is full, which garbles the texts that were drawn earlier
        // in the same frame. So the usual letters are put into it before the first frame.
        let letters: Vec<char> = (' '..='~')
            .chain('А'..='я')
            .chain("ёЁ·–—…±−".chars())
            .collect();
        for size in [theme::SMALL, theme::BODY, theme::TITLE] {
            let size_px = (f32::from(size) * screen_dpi_scale()).ceil();
            font.populate_font_cache(&letters, size_px as u16);
        }
        Ok(Self { font })
    }

    /// Draws a line of text from `x` to the right, its capitals centred on `y`.
    pub(crate) fn text(&self, text: &str, x: f32, y: f32, size: u16, colour: Color) {
        // A glyph is sharp when its pixels fall on pixels of the screen.
        let scale = screen_dpi_scale();
        let on_pixel = |position: f32| (position * scale).round() / scale;
        let parameters = TextParams {
            font: Some(&self.font),
            font_size: size,
            color: colour,
            ..TextParams::default()
        };
        let baseline = y + f32::from(size) * CAPITAL_HEIGHT / 2.0;
        draw_text_ex(text, on_pixel(x), on_pixel(baseline), parameters);
    }

    /// Draws a line of text centred on a point.
    pub(crate) fn text_centred(&self, text: &str, x: f32, y: f32, size: u16, colour: Color) {
        self.text(text, x - self.width(text, size) / 2.0, y, size, colour);
    }

    /// Returns the width of a line of text.
    pub(crate) fn width(&self, text: &str, size: u16) -> f32 {
        measure_text(text, Some(&self.font), size, 1.0).width
    }

    /// Breaks a text between words into lines of at most `width`. A longer word has a line of its
    /// own.
    pub(crate) fn wrapped(&self, text: &str, width: f32, size: u16) -> Vec<String> {
        wrap(text, |line| self.width(line, size) <= width)
    }

    /// Draws a filled rectangle with round corners.
    pub(crate) fn rounded(&self, area: Rect, radius: f32, colour: Color) {
        draw_mesh(&rounded_mesh(
            area,
            radius,
            1.0 / screen_dpi_scale(),
            colour,
        ));
    }

    /// Draws a line around a rounded rectangle, `width` wide and inside of it.
    pub(crate) fn outline(&self, area: Rect, radius: f32, width: f32, colour: Color) {
        draw_mesh(&outline_mesh(area, radius, width, colour));
    }

    /// Draws a filled rectangle with hard edges, which is cheap enough for hundreds a frame.
    pub(crate) fn bar(&self, area: Rect, colour: Color) {
        draw_rectangle(area.x, area.y, area.w, area.h, colour);
    }

    /// Draws a straight line.
    pub(crate) fn line(&self, from: Vec2, to: Vec2, width: f32, colour: Color) {
        draw_line(from.x, from.y, to.x, to.y, width, colour);
    }

    /// Draws a panel: its shadow, its ground and the hairline around it.
    pub(crate) fn panel(&self, area: Rect) {
        let shadow = Rect::new(area.x, area.y + 6.0, area.w, area.h);
        let dark = Color::new(0.0, 0.0, 0.0, 0.35);
        draw_mesh(&rounded_mesh(shadow, 26.0, 36.0, dark));
        self.rounded(area, 14.0, theme::PANEL);
        self.outline(area, 14.0, 1.0, theme::LINE);
    }
}

/// Returns points around a rounded rectangle, clockwise and `grow` outside of it.
fn rim(area: Rect, radius: f32, grow: f32) -> Vec<Vec2> {
    let radius = radius.clamp(0.0, area.w.min(area.h) / 2.0);
    let inner = vec2(area.w / 2.0 - radius, area.h / 2.0 - radius);
    let reach = (radius + grow).max(0.0);
    let signs = [
        vec2(1.0, 1.0),
        vec2(-1.0, 1.0),
        vec2(-1.0, -1.0),
        vec2(1.0, -1.0),
    ];
    let corner = |(quarter, sign): (usize, Vec2)| {
        (0..=CORNER_PIECES).map(move |piece| {
            let turn = (quarter as f32 + piece as f32 / CORNER_PIECES as f32) * TAU / 4.0;
            area.center() + inner * sign + Vec2::from_angle(turn) * reach
        })
    };
    signs.into_iter().enumerate().flat_map(corner).collect()
}

/// Builds a rounded rectangle whose edge fades over `feather`.
fn rounded_mesh(area: Rect, radius: f32, feather: f32, colour: Color) -> Mesh {
    let solid = rim(area, radius, -feather / 2.0);
    let mut mesh = ring_mesh(
        &solid,
        &rim(area, radius, feather / 2.0),
        [colour, theme::faded(colour, 0.0)],
    );
    let last = solid.len() as u16;
    mesh.indices
        .extend((1..last - 1).flat_map(|point| [0, point, point + 1]));
    mesh
}

fn outline_mesh(area: Rect, radius: f32, width: f32, colour: Color) -> Mesh {
    ring_mesh(
        &rim(area, radius, -width),
        &rim(area, radius, 0.0),
        [colour; 2],
    )
}

/// Builds the band between two rims with the same number of points, with a colour for each rim.
fn ring_mesh(inner: &[Vec2], outer: &[Vec2], [inside, outside]: [Color; 2]) -> Mesh {
    let vertex = |colour| move |point: &Vec2| Vertex::new(point.x, point.y, 0.0, 0.0, 0.0, colour);
    let count = inner.len() as u16;
    let band = (0..count).flat_map(|point| {
        let next = (point + 1) % count;
        [
            point,
            next,
            point + count,
            next,
            next + count,
            point + count,
        ]
    });
    Mesh {
        vertices: inner
            .iter()
            .map(vertex(inside))
            .chain(outer.iter().map(vertex(outside)))
            .collect(),
        indices: band.collect(),
        texture: None,
    }
}

fn wrap(text: &str, fits: impl Fn(&str) -> bool) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always a line");
        let longer = if line.is_empty() {
            word.to_owned()
        } else {
            format!("{line} {word}")
        };
        if line.is_empty() || fits(&longer) {
            *line = longer;
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_and_a_long_word_stands_alone() {
        let fits = |line: &str| line.len() <= 9;
        assert_eq!(
            wrap("one two three extraordinary x", fits),
            ["one two", "three", "extraordinary", "x"]
        );
        assert_eq!(wrap("", fits), [""]);
    }

    #[test]
    fn a_shape_reaches_half_its_feather_beyond_its_area_and_no_farther() {
        let area = Rect::new(10.0, 20.0, 100.0, 40.0);
        let mesh = rounded_mesh(area, 12.0, 2.0, theme::TEXT);
        let right = mesh
            .vertices
            .iter()
            .map(|vertex| vertex.position.x)
            .fold(f32::MIN, f32::max);
        let top = mesh
            .vertices
            .iter()
            .map(|vertex| vertex.position.y)
            .fold(f32::MAX, f32::min);
        assert!((right - 111.0).abs() < 1e-3 && (top - 19.0).abs() < 1e-3);
        let points = mesh.vertices.len() as u16;
        assert!(mesh.indices.iter().all(|&index| index < points));
    }

    #[test]
    fn a_radius_too_large_makes_a_pill() {
        let area = Rect::new(0.0, 0.0, 100.0, 40.0);
        let bounds = |point: &Vec2| {
            (-0.01..=100.01).contains(&point.x) && (-0.01..=40.01).contains(&point.y)
        };
        assert!(rim(area, 1000.0, 0.0).iter().all(bounds));
    }
}
