//! The system's fonts, and which of them is best for a character.
// Font files are mapped into memory, which is a promise that nobody cuts them off meanwhile.
#![allow(unsafe_code)]

use std::cmp::Ordering;
use std::collections::HashMap;
use std::env;
use std::sync::Arc;

use fontdb::{Database, FaceInfo, Stretch, Style, Weight};
use read_fonts::model::{Blob, Font};
use read_fonts::types::Tag;

/// Characters are looked up in blocks of this many, so that few fonts are asked for each.
const BLOCK_CHARS: u32 = 256;

/// Families that are drawn for screens and for many languages, by the beginnings of their names.
const GOOD: [&str; 12] = [
    "Noto Sans",
    "Segoe UI",
    "Nirmala",
    "Leelawadee",
    "Microsoft YaHei",
    "PingFang",
    "Hiragino Sans",
    "Helvetica",
    "Geneva",
    "Kohinoor",
    "Thonburi",
    "DejaVu Sans",
];
/// Parts of the names of families that are worse for a line of text than others.
const WORSE: [&str; 7] = [
    "Serif",
    "Mono",
    "Condensed",
    "Display",
    "Nastaliq",
    "Kufi",
    "Looped",
];
/// Parts of the names of families that show other things than the character itself.
const USELESS: [&str; 4] = ["LastResort", "Last Resort", "Adobe Blank", "NotDef"];

/// The country whose forms Chinese characters have: one character has several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Han {
    Simplified,
    Traditional,
    Japanese,
    Korean,
}

/// The fonts of this computer, the best ones first.
pub(super) struct SystemFonts {
    faces: Vec<Face>,
    /// The faces that have any character of a block.
    blocks: HashMap<u32, Vec<u16>>,
}

struct Face {
    font: Arc<Font>,
    family: String,
    is_emoji: bool,
}

impl SystemFonts {
    /// Reads all fonts in the system's and the user's folders.
    pub(super) fn read() -> Self {
        let mut files = Database::new();
        files.load_system_fonts();
        let mut found: Vec<FaceInfo> = files.faces().cloned().collect();
        found.retain(|face| !USELESS.iter().any(|part| family(face).contains(part)));
        found.sort_by(better);
        let mut fonts = Self {
            faces: Vec::new(),
            blocks: HashMap::new(),
        };
        for face in found.into_iter().take(u16::MAX.into()) {
            // SAFETY: packages and people replace font files as a whole, and then the old file
            // stays as it was for whoever has it mapped.
            let Some((file, index)) = (unsafe { files.make_shared_face_data(face.id) }) else {
                continue;
            };
            if let Some(font) = Font::new(Blob::Shared(file), index) {
                fonts.add(regular(font), family(&face));
            }
        }
        fonts
    }

    fn add(&mut self, font: Font, family: &str) {
        let letters = font.charmap();
        let draws_nothing = font.outline_glyphs().is_empty()
            && font.bitmap_strikes().is_empty()
            && font.color_glyphs().is_empty();
        // In a symbol font an A is anything but an A.
        if draws_nothing || letters.unicode_is_symbol() || !letters.has_unicode() {
            return;
        }
        let index = self.faces.len() as u16;
        for (letter, _) in letters.unicodes() {
            let block = self.blocks.entry(letter / BLOCK_CHARS).or_default();
            if block.last() != Some(&index) {
                block.push(index);
            }
        }
        self.faces.push(Face {
            family: family.to_owned(),
            is_emoji: family.contains("Emoji"),
            font: Arc::new(font),
        });
    }

    /// Returns the best font for a character with its marks: one that has all of it, else one that
    /// has its beginning.
    pub(super) fn choose(&self, cluster: &str, han: Han) -> Option<Arc<Font>> {
        let first = visible(cluster).next()?;
        let block = self.blocks.get(&(u32::from(first) / BLOCK_CHARS))?;
        let begins = |face: &&Face| face.font.charmap().map_unicode(first).is_some();
        let as_emoji = is_emoji(cluster);
        let worth = |face: &&Face| {
            (
                !shows(&face.font, cluster),
                face.is_emoji != as_emoji,
                !han.is_in(&face.family),
            )
        };
        let faces = block.iter().map(|&index| &self.faces[usize::from(index)]);
        let chosen = faces.filter(begins).min_by_key(worth)?;
        Some(chosen.font.clone())
    }
}

impl Han {
    /// Returns the forms for a text: Japanese and Korean ones have letters of their own, and the
    /// user's language decides about the others.
    pub(super) fn of(text: &str) -> Self {
        let has = |from, to| text.chars().any(|letter| (from..=to).contains(&letter));
        if has('\u{3040}', '\u{30ff}') {
            return Self::Japanese;
        }
        if has('\u{1100}', '\u{11ff}') || has('\u{ac00}', '\u{d7a3}') {
            return Self::Korean;
        }
        let language = ["LC_ALL", "LC_CTYPE", "LANG"]
            .into_iter()
            .filter_map(|name| env::var(name).ok())
            .find(|language| !language.is_empty())
            .unwrap_or_default();
        match language.get(..5).unwrap_or_default() {
            "zh_TW" | "zh_HK" => Self::Traditional,
            language if language.starts_with("ja") => Self::Japanese,
            language if language.starts_with("ko") => Self::Korean,
            _ => Self::Simplified,
        }
    }

    /// Whether a family has these forms.
    fn is_in(self, family: &str) -> bool {
        let names: &[&str] = match self {
            Self::Simplified => &["CJK SC", "Noto Sans SC", "YaHei", "PingFang SC"],
            Self::Traditional => &["CJK TC", "Noto Sans TC", "JhengHei", "PingFang TC"],
            Self::Japanese => &[
                "CJK JP",
                "Noto Sans JP",
                "Yu Gothic",
                "Meiryo",
                "Hiragino Sans",
            ],
            Self::Korean => &["CJK KR", "Noto Sans KR", "Malgun", "SD Gothic"],
        };
        names.iter().any(|name| family.contains(name))
    }
}

/// Whether a font has a character with its marks.
pub(super) fn shows(font: &Font, cluster: &str) -> bool {
    let letters = font.charmap();
    visible(cluster).all(|letter| letters.map_unicode(letter).is_some())
}

/// Returns the characters of a text that need a glyph: joiners and variation selectors do not.
fn visible(text: &str) -> impl Iterator<Item = char> {
    text.chars()
        .filter(|letter| !matches!(letter, '\u{200b}'..='\u{200f}' | '\u{fe00}'..='\u{fe0f}'))
}

/// Whether a character is to be shown in colour: where it says so, and for the planes of emoji.
fn is_emoji(cluster: &str) -> bool {
    let says_so = cluster.contains('\u{fe0f}');
    says_so || cluster.starts_with(|first| first >= '\u{1f000}') && !cluster.contains('\u{fe0e}')
}

/// Returns the font with letters of ordinary weight, if it has several.
fn regular(font: Font) -> Font {
    let weight = (Tag::new(b"wght"), 400.0);
    if font.axes().iter().any(|axis| axis.tag() == weight.0) {
        font.instance_builder().variations([weight]).build()
    } else {
        font
    }
}

fn family(face: &FaceInfo) -> &str {
    face.families.first().map_or("", |(name, _)| name.as_str())
}

/// Orders faces by how well they suit a line of ordinary text.
fn better(one: &FaceInfo, other: &FaceInfo) -> Ordering {
    let rank = |face: &FaceInfo| {
        let name = family(face);
        let is_good = GOOD.iter().any(|good| name.starts_with(good));
        let is_worse = WORSE.iter().any(|part| name.contains(part)) || face.monospaced;
        (
            // Names with a dot are for the system's own use.
            name.starts_with('.'),
            is_worse,
            !is_good,
            face.style != Style::Normal,
            face.stretch != Stretch::Normal,
            face.weight.0.abs_diff(Weight::NORMAL.0),
        )
    };
    let names = |face: &FaceInfo| (family(face).to_owned(), face.index);
    rank(one)
        .cmp(&rank(other))
        .then_with(|| names(one).cmp(&names(other)))
}
