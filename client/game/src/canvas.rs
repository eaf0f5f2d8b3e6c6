//! Flat drawing over the scene: text, and rounded shapes with smooth edges.
//!
//! Positions and sizes are in logical pixels. On a HiDPI screen text is rasterized larger, so that
//! it stays sharp.

use std::borrow::Cow;
use std::cell::RefCell;
use std::f32::consts::TAU;

use macroquad::color::Color;
use macroquad::math::{Rect, Vec2, vec2};
use macroquad::models::{Mesh, Vertex, draw_mesh};
use macroquad::shapes::{draw_line, draw_rectangle};
use macroquad::window::screen_dpi_scale;

use crate::text::{self, Lines};
use crate::theme;

/// Height of the capital letters in DejaVu Sans, in font sizes.
const CAPITAL_HEIGHT: f32 = 0.73;
/// Number of straight pieces that make up a rounded corner.
const CORNER_PIECES: usize = 6;

/// What texts are drawn with; the shapes need no state.
pub(crate) struct Canvas {
    lines: RefCell<Lines>,
}

impl Canvas {
    /// Makes the fonts ready.
    ///
    /// # Errors
    /// When the built-in font is damaged.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let lines = RefCell::new(Lines::new()?);
        Ok(Self { lines })
    }

    /// Begins a frame.
    pub(crate) fn begin_frame(&self) {
        self.lines.borrow_mut().begin_frame(screen_dpi_scale());
    }

    /// Draws a line of text from `x` to the right, its capitals centred on `y`.
    pub(crate) fn text(&self, text: &str, x: f32, y: f32, size: u16, colour: Color) {
        // A glyph is sharp when its pixels fall on pixels of the screen.
        let scale = screen_dpi_scale();
        let baseline = y + f32::from(size) * CAPITAL_HEIGHT / 2.0;
        let place_px = [x, baseline].map(|position| (position * scale).round());
        let size_px = text::device(size, scale);
        let mut lines = self.lines.borrow_mut();
        lines.draw(text, place_px, size_px, scale, colour);
    }

    /// Draws a line of text centred on a point.
    pub(crate) fn text_centred(&self, text: &str, x: f32, y: f32, size: u16, colour: Color) {
        self.text(text, x - self.width(text, size) / 2.0, y, size, colour);
    }

    /// Returns the width of a line of text.
    pub(crate) fn width(&self, text: &str, size: u16) -> f32 {
        let scale = screen_dpi_scale();
        let mut lines = self.lines.borrow_mut();
        lines.width_px(text, text::device(size, scale)) / scale
    }

    /// Returns the width of a player's name, or nothing when too many were new in this frame: then
    /// it has to wait for one of the next.
    pub(crate) fn name_width(&self, name: &str, size: u16) -> Option<f32> {
        let scale = screen_dpi_scale();
        let mut lines = self.lines.borrow_mut();
        let width_px = lines.name_width_px(name, text::device(size, scale))?;
        Some(width_px / scale)
    }

    /// Whether a player's name can be drawn in this frame.
    pub(crate) fn is_name_ready(&self, name: &str, size: u16) -> bool {
        let size_px = text::device(size, screen_dpi_scale());
        self.lines.borrow_mut().is_name_ready(name, size_px)
    }

    /// Returns a line of text, or as much of its beginning as has room in `width` with an ellipsis.
    pub(crate) fn fitted<'a>(&self, text: &'a str, width: f32, size: u16) -> Cow<'a, str> {
        shorten(text, |line| self.width(line, size) <= width)
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

fn shorten(text: &str, fits: impl Fn(&str) -> bool) -> Cow<'_, str> {
    if fits(text) {
        return text.into();
    }
    let shorter = text
        .char_indices()
        .rev()
        .map(|(end, _)| format!("{}…", text[..end].trim_end()));
    shorter
        .map(Cow::from)
        .find(|line| fits(line))
        .unwrap_or_default()
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
    fn a_line_too_wide_ends_with_an_ellipsis() {
        let fits = |line: &str| line.chars().count() <= 5;
        assert_eq!(shorten("Вася", fits), "Вася");
        assert_eq!(shorten("Вася и все", fits), "Вася…");
        assert_eq!(shorten("wide", |_| false), "");
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
