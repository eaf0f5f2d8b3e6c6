//! Draws glyphs: outlines in white, emoji in their own colours.

use ab_glyph_rasterizer::{Point, Rasterizer, point};
use macroquad::prelude::ImageFormat;
use macroquad::texture::Image;
use read_fonts::model::Font;
use read_fonts::model::glyph::bitmap::{BitmapGlyph, Origin, Pixels};
use read_fonts::model::glyph::color::{Brush, ColorGlyph, PaintSink};
use read_fonts::model::glyph::outline::{DrawMemory, DrawOptions, PathElement, PathSink};
use read_fonts::tables::colr::CompositeMode;
use read_fonts::types::{BoundingBox, GlyphId, Matrix};

use super::layout::{BOX_WIDTH, Glyph};
use crate::text::Spot;

/// Height of the box in place of a character that no font has, in ems.
const BOX_HEIGHT: f32 = 0.7;
/// Greatest width and height of a glyph, in pixels: several times that of any text here.
const MAX_GLYPH_PX: f32 = 1024.0;
const WHITE: [f32; 4] = [1.0; 4];

/// A line's pixels while glyphs are drawn into them.
pub(super) struct Picture {
    spot: Spot,
    /// Red, green, blue and opacity; the colours are multiplied by the opacity.
    pixels: Vec<[f32; 4]>,
}

impl Picture {
    /// Creates an empty picture.
    pub(super) fn new(spot: Spot) -> Self {
        Self {
            pixels: vec![[0.0; 4]; spot.width_px * spot.height_px],
            spot,
        }
    }

    /// Draws glyphs at a size.
    pub(super) fn draw(&mut self, glyphs: &[Glyph], size_px: f32) {
        for glyph in glyphs {
            let origin = point(
                self.spot.left_px + glyph.x * size_px,
                self.spot.baseline_px - glyph.y * size_px,
            );
            match &glyph.font {
                None => self.draw_box(placed(origin, size_px)),
                Some(font) => self.draw_glyph(font, glyph.id, origin, size_px),
            }
        }
    }

    /// Returns the pixels with colours that are not multiplied by the opacity.
    pub(super) fn into_pixels(self) -> Vec<u8> {
        let pixel = |[red, green, blue, opacity]: [f32; 4]| {
            let whole = 255.0 / opacity.max(1.0 / 255.0);
            [red * whole, green * whole, blue * whole, opacity * 255.0]
                .map(|part| part.round() as u8)
        };
        self.pixels.into_iter().flat_map(pixel).collect()
    }

    fn draw_glyph(&mut self, font: &Font, id: GlyphId, origin: Point, size_px: f32) {
        let em = f32::from(font.units_per_em()).max(1.0);
        let in_units = placed(origin, size_px / em);
        if let Some(glyph) = font.color_glyphs().get(id) {
            return self.paint(font, &glyph, in_units);
        }
        if let Some(bitmap) = font.bitmap_strikes().select_bitmap(id, Some(size_px))
            && let Pixels::Png(png) = bitmap.pixels()
            && let Ok(image) = Image::from_file_with_format(png, Some(ImageFormat::Png))
        {
            return self.draw_bitmap(&bitmap, &image, origin, size_px, em);
        }
        self.fill(&outline(font, id), in_units, WHITE);
    }

    /// Paints the layers of a glyph with colours, each in one colour: at this size nobody sees
    /// gradients.
    fn paint(&mut self, font: &Font, glyph: &ColorGlyph<'_>, in_units: Matrix<f32>) {
        let mut painter = Painter {
            picture: self,
            font,
            transforms: vec![in_units],
            clips: Vec::new(),
        };
        // A damaged glyph is drawn as far as it can be read.
        let _ = glyph.paint(&mut painter);
    }

    /// Draws a picture of a glyph, scaled down.
    fn draw_bitmap(
        &mut self,
        bitmap: &BitmapGlyph<'_>,
        image: &Image,
        origin: Point,
        size_px: f32,
        em: f32,
    ) {
        let scale = size_px / f32::from(bitmap.ppem().max(1));
        let (width, height) = (usize::from(image.width), usize::from(image.height));
        let above = match bitmap.origin() {
            Origin::TopLeft => bitmap.inner_y_bearing() as f32,
            Origin::BottomLeft => bitmap.inner_y_bearing() as f32 + height as f32,
        };
        let left = origin.x
            + bitmap.inner_x_bearing() as f32 * scale
            + bitmap.x_bearing() as f32 * size_px / em;
        let top = origin.y - above * scale - bitmap.y_bearing() as f32 * size_px / em;
        let pixel = |x: usize, y: usize| {
            let at = 4 * (y * width + x);
            let [red, green, blue, opacity] =
                [0, 1, 2, 3].map(|part| f32::from(image.bytes[at + part]) / 255.0);
            [red * opacity, green * opacity, blue * opacity, opacity]
        };
        for (y, row) in covered(top, height, scale, self.spot.height_px) {
            for (x, column) in covered(left, width, scale, self.spot.width_px) {
                let mut sum = [0.0; 4];
                for (source_y, share_y) in row.clone() {
                    for (source_x, share_x) in column.clone() {
                        let part = pixel(source_x, source_y);
                        (0..4).for_each(|index| sum[index] += part[index] * share_x * share_y);
                    }
                }
                self.blend(x, y, sum);
            }
        }
    }

    /// Draws the box for a character that no font has.
    fn draw_box(&mut self, in_ems: Matrix<f32>) {
        let mut path = Vec::new();
        let thin = 0.06;
        for (inset, turns_back) in [(0.0, false), (thin, true)] {
            let (left, right) = (0.06 + inset, BOX_WIDTH - 0.06 - inset);
            let (bottom, top) = (inset, BOX_HEIGHT - inset);
            let mut corners = [(left, bottom), (right, bottom), (right, top), (left, top)];
            if turns_back {
                corners.reverse();
            }
            path.move_to(corners[0].0, corners[0].1);
            corners[1..].iter().for_each(|&(x, y)| path.line_to(x, y));
        }
        self.fill(&path, in_ems, WHITE);
    }

    /// Fills an outline with a colour that is multiplied by its opacity. `transform` is the way of
    /// its points into the picture.
    fn fill(&mut self, path: &[PathElement], transform: Matrix<f32>, colour: [f32; 4]) {
        let points = path.iter().flat_map(points);
        let placed = points.map(|(x, y)| transform.transform(x, y));
        let (mut least, mut most) = ([f32::MAX; 2], [f32::MIN; 2]);
        for (x, y) in placed {
            least = [least[0].min(x), least[1].min(y)];
            most = [most[0].max(x), most[1].max(y)];
        }
        let [left, top] = least.map(|edge| edge.floor() - 1.0);
        let (width, height) = (most[0] - left + 2.0, most[1] - top + 2.0);
        // Without points there is nothing to fill; a damaged outline may be anywhere.
        if !(0.0..MAX_GLYPH_PX).contains(&width) || !(0.0..MAX_GLYPH_PX).contains(&height) {
            return;
        }
        let mut filling = Filling {
            rasterizer: Rasterizer::new(width as usize, height as usize),
            start: point(0.0, 0.0),
            at: point(0.0, 0.0),
        };
        for &element in path {
            filling.add(element, |x, y| {
                let (x, y) = transform.transform(x, y);
                point(x - left, y - top)
            });
        }
        filling.line(filling.start);
        filling.rasterizer.for_each_pixel_2d(|x, y, covered| {
            let (x, y) = (x as f32 + left, y as f32 + top);
            let covered = covered.min(1.0);
            if covered > 0.0 && x >= 0.0 && y >= 0.0 {
                self.blend(x as usize, y as usize, colour.map(|part| part * covered));
            }
        });
    }

    /// Draws a colour over a pixel, if it is in the picture.
    fn blend(&mut self, x: usize, y: usize, over: [f32; 4]) {
        if x >= self.spot.width_px || y >= self.spot.height_px {
            return;
        }
        let under = &mut self.pixels[y * self.spot.width_px + x];
        let left = 1.0 - over[3];
        (0..4).for_each(|part| under[part] = over[part] + under[part] * left);
    }
}

/// Returns the way of points into the picture: from an origin, upwards, and at a size.
fn placed(origin: Point, scale: f32) -> Matrix<f32> {
    Matrix::from_elements([scale, 0.0, 0.0, -scale, origin.x, origin.y])
}

/// Returns the outline of a glyph, or as much of a damaged one as can be read.
fn outline(font: &Font, id: GlyphId) -> Vec<PathElement> {
    let mut path = Vec::new();
    if let Some(glyph) = font.outline_glyphs().get(id) {
        let _ = glyph.draw(&DrawOptions::new(), DrawMemory::Scratch, &mut path);
    }
    path
}

/// An outline that is being filled, on a grid that has room for all of it.
struct Filling {
    rasterizer: Rasterizer,
    start: Point,
    at: Point,
}

impl Filling {
    fn line(&mut self, to: Point) {
        self.rasterizer.draw_line(self.at, to);
        self.at = to;
    }

    /// Adds a part of the outline, whose points `place` moves to the grid.
    fn add(&mut self, element: PathElement, place: impl Fn(f32, f32) -> Point) {
        match element {
            PathElement::MoveTo { x, y } => {
                self.line(self.start);
                self.start = place(x, y);
                self.at = self.start;
            }
            PathElement::LineTo { x, y } => self.line(place(x, y)),
            PathElement::QuadTo { cx0, cy0, x, y } => {
                let to = place(x, y);
                self.rasterizer.draw_quad(self.at, place(cx0, cy0), to);
                self.at = to;
            }
            PathElement::CurveTo {
                cx0,
                cy0,
                cx1,
                cy1,
                x,
                y,
            } => {
                let to = place(x, y);
                self.rasterizer
                    .draw_cubic(self.at, place(cx0, cy0), place(cx1, cy1), to);
                self.at = to;
            }
            PathElement::Close => self.line(self.start),
        }
    }
}

/// Returns the points of a part of an outline.
fn points(element: &PathElement) -> Vec<(f32, f32)> {
    match *element {
        PathElement::MoveTo { x, y } | PathElement::LineTo { x, y } => vec![(x, y)],
        PathElement::QuadTo { cx0, cy0, x, y } => vec![(cx0, cy0), (x, y)],
        PathElement::CurveTo {
            cx0,
            cy0,
            cx1,
            cy1,
            x,
            y,
        } => vec![(cx0, cy0), (cx1, cy1), (x, y)],
        PathElement::Close => Vec::new(),
    }
}

/// Fills the layers of a glyph that has colours.
struct Painter<'a> {
    picture: &'a mut Picture,
    font: &'a Font,
    transforms: Vec<Matrix<f32>>,
    /// The glyphs to whose outlines the painting is limited, with their transforms.
    clips: Vec<Option<(GlyphId, Matrix<f32>)>>,
}

impl Painter<'_> {
    fn transform(&self) -> Matrix<f32> {
        *self
            .transforms
            .last()
            .expect("the first one is never popped")
    }

    fn colour(&self, palette_index: u16, alpha: f32) -> [f32; 4] {
        let palette = self.font.palettes().get(0);
        let colours = palette.map_or(&[][..], |palette| palette.colors());
        // Entries that are not there stand for the text's own colour.
        let Some(colour) = colours.get(usize::from(palette_index)) else {
            return [alpha; 4];
        };
        let part = |value: u8| f32::from(value) / 255.0;
        let opacity = part(colour.alpha) * alpha;
        [colour.red, colour.green, colour.blue, 255].map(|value| part(value) * opacity)
    }
}

impl PaintSink for Painter<'_> {
    fn push_transform(&mut self, transform: Matrix<f32>) {
        self.transforms.push(self.transform() * transform);
    }

    fn pop_transform(&mut self) {
        if self.transforms.len() > 1 {
            self.transforms.pop();
        }
    }

    fn push_clip_glyph(&mut self, glyph: GlyphId) {
        self.clips.push(Some((glyph, self.transform())));
    }

    fn push_clip_box(&mut self, _clip_box: BoundingBox<f32>) {
        self.clips.push(None);
    }

    fn pop_clip(&mut self) {
        self.clips.pop();
    }

    fn fill(&mut self, brush: Brush<'_>) {
        let colour = match brush {
            Brush::Solid {
                palette_index,
                alpha,
            } => self.colour(palette_index, alpha),
            Brush::LinearGradient { color_stops, .. }
            | Brush::RadialGradient { color_stops, .. }
            | Brush::SweepGradient { color_stops, .. } => {
                let Some(middle) = color_stops.get(color_stops.len() / 2) else {
                    return;
                };
                self.colour(middle.palette_index, middle.alpha)
            }
        };
        // Only the innermost outline counts: the others are around the whole emoji.
        if let Some((glyph, transform)) = self.clips.iter().rev().find_map(|clip| *clip) {
            self.picture
                .fill(&outline(self.font, glyph), transform, colour);
        }
    }

    fn push_layer(&mut self, _composite_mode: CompositeMode) {}
}

/// Returns the pixels of a row or a column that a scaled picture covers, each with the source's
/// pixels under it and their shares.
fn covered(
    start: f32,
    count: usize,
    scale: f32,
    room: usize,
) -> impl Iterator<Item = (usize, Vec<(usize, f32)>)> {
    let first = start.max(0.0) as usize;
    let end = ((start + count as f32 * scale).ceil().max(0.0) as usize).min(room);
    (first..end).map(move |target| {
        let from = ((target as f32 - start) / scale).max(0.0);
        let to = ((target as f32 + 1.0 - start) / scale).min(count as f32);
        let sources = (from as usize)..(to.ceil() as usize).min(count);
        let share = |source: usize| {
            let overlap = to.min(source as f32 + 1.0) - from.max(source as f32);
            (source, overlap.max(0.0) * scale)
        };
        (target, sources.map(share).collect())
    })
}
