//! Which glyphs make up a line of text, and where they are.

use std::ops::Range;
use std::sync::Arc;

use harfrust::{Buffer, Direction, Script, ShapeOptions, ShaperFont, shape};
use read_fonts::model::Font;
use read_fonts::types::{GlyphId, Tag};
use unicode_bidi::{Level, ParagraphBidiInfo};
use unicode_script::UnicodeScript;
use unicode_segmentation::UnicodeSegmentation;

use super::Typesetter;
use super::fonts::Han;

/// Width of the box in place of a character that no font has, in ems.
pub(super) const BOX_WIDTH: f32 = 0.6;

/// The glyphs of a line.
#[derive(Default)]
pub(super) struct Layout {
    pub(super) glyphs: Vec<Glyph>,
    /// The line's width, in ems.
    pub(super) width: f32,
}

/// A glyph and its place.
pub(super) struct Glyph {
    /// The font, unless this is the box for a character that no font has.
    pub(super) font: Option<Arc<Font>>,
    pub(super) id: GlyphId,
    /// The place of the glyph's origin from the line's beginning on the baseline, in ems, upwards.
    pub(super) x: f32,
    pub(super) y: f32,
}

/// A part of a line in one font, one script and one direction.
struct Run {
    font: Option<Arc<Font>>,
    script: unicode_script::Script,
    text: Range<usize>,
}

/// Lays out a line. The line as a whole runs to the right, whatever is in it: a sentence of ours
/// may begin with the name of a player in Hebrew.
pub(super) fn layout(fonts: &mut Typesetter, text: &str) -> Layout {
    let mut line = Layout::default();
    if let Some(glyphs) = fonts.simple_glyphs(text) {
        for (font, id, advance) in glyphs {
            line.push_glyph(Some(font), id, (0.0, 0.0), advance);
        }
        return line;
    }
    let bidi = ParagraphBidiInfo::new(text, Some(Level::ltr()));
    let (levels, parts) = bidi.visual_runs(0..text.len());
    let han = Han::of(text);
    for part in parts {
        let is_rtl = levels[part.start].is_rtl();
        let mut runs = runs(fonts, text, part, han);
        if is_rtl {
            runs.reverse();
        }
        for run in &runs {
            line.push(run, text, is_rtl);
        }
    }
    line
}

/// Divides a part of a text, in its own order, where its font or script changes.
fn runs(fonts: &mut Typesetter, text: &str, part: Range<usize>, han: Han) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (start, cluster) in text[part.clone()].grapheme_indices(true) {
        let font = fonts.font(cluster, han);
        let script = script(cluster);
        let start = part.start + start;
        let text = start..start + cluster.len();
        let last = runs.last_mut().filter(|last| last.takes(&font, script));
        if let Some(last) = last {
            if is_shared(last.script) {
                last.script = script;
            }
            last.text.end = text.end;
        } else {
            runs.push(Run { font, script, text });
        }
    }
    runs
}

impl Run {
    /// Whether a character in this font and script may follow. What all scripts share adapts
    /// itself to its neighbours.
    fn takes(&self, font: &Option<Arc<Font>>, script: unicode_script::Script) -> bool {
        let is_same_font = match (&self.font, font) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        };
        is_same_font && (self.script == script || is_shared(self.script) || is_shared(script))
    }
}

impl Layout {
    fn push(&mut self, run: &Run, text: &str, is_rtl: bool) {
        let text = &text[run.text.clone()];
        let Some(font) = &run.font else {
            for _ in text.graphemes(true) {
                self.push_glyph(None, GlyphId::NOTDEF, (0.0, 0.0), BOX_WIDTH);
            }
            return;
        };
        let mut buffer = Buffer::new();
        buffer.push_str(text);
        buffer.set_direction(if is_rtl {
            Direction::RightToLeft
        } else {
            Direction::LeftToRight
        });
        let tag = run.script.short_name().as_bytes().try_into().ok();
        buffer.set_script(tag.and_then(|tag| Script::from_iso15924_tag(Tag::new(tag))));
        if shape(&ShaperFont::new(font), &mut buffer, ShapeOptions::new()).is_err() {
            return;
        }
        let em = f32::from(font.units_per_em()).max(1.0);
        let units = |units: i32| units as f32 / em;
        for (glyph, place) in buffer.glyph_infos().iter().zip(buffer.glyph_positions()) {
            let offset = (units(place.x_offset), units(place.y_offset));
            let id = GlyphId::new(glyph.glyph_id);
            let font = Some(font.clone()).filter(|_| id != GlyphId::NOTDEF);
            self.push_glyph(font, id, offset, units(place.x_advance));
        }
    }

    fn push_glyph(
        &mut self,
        font: Option<Arc<Font>>,
        id: GlyphId,
        offset: (f32, f32),
        advance: f32,
    ) {
        self.glyphs.push(Glyph {
            font,
            id,
            x: self.width + offset.0,
            y: offset.1,
        });
        self.width += advance;
    }
}

/// Returns the script of a character with its marks.
fn script(cluster: &str) -> unicode_script::Script {
    let scripts = cluster.chars().map(|letter| letter.script());
    scripts
        .clone()
        .find(|&script| !is_shared(script))
        .unwrap_or(unicode_script::Script::Common)
}

fn is_shared(script: unicode_script::Script) -> bool {
    use unicode_script::Script::{Common, Inherited};
    matches!(script, Common | Inherited)
}
