//! The texts that people may give: player and room names and operators' reasons, as others will see them.
//!
//! One rule for all programs, from Unicode's own data: `docs/PROTOCOL.md` says it for clients in other
//! languages. What shows nothing is removed, what could disguise a name is refused, and [`folded`] is
//! equal for two names that look alike. Browsers leave the rule to the server, because its tables would
//! be a fifth of what they load (69 kB).

mod character;
#[cfg(test)]
mod tests;

use caseless::Caseless;
use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

pub(crate) use self::character::is_ignorable;
use self::character::{
    BLACK_FLAG, Class, ZERO_WIDTH_JOINER, class, forbidden, is_emoji_part, is_letter, is_mark,
    is_pictograph, is_stacking_mark, is_virama, joins, tag_sequence_len,
};
use crate::limits::{
    MAX_NAME_BYTES, MAX_NAME_CHARS, MAX_REASON_BYTES, MAX_REASON_CHARS, MAX_ROOM_BYTES,
    MAX_ROOM_CHARS, MAX_STACKED_MARKS,
};

/// How far a joiner reaches over marks and the like: an endless row of them would cost everybody time.
const MAX_REACH: usize = 8;

/// How much longer a typed name may be than a clean one.
const MAX_TYPED_FACTOR: usize = 4;

/// Why a text cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Nothing in it can be seen.
    #[error("a {what} needs at least one visible character")]
    Empty {
        /// Which text: "name" or "room name".
        what: &'static str,
    },
    /// More characters than the limit.
    #[error("a {what} has at most {limit} characters, this one has {chars}")]
    TooLong {
        /// Which text.
        what: &'static str,
        /// Grapheme clusters it has.
        chars: usize,
        /// Grapheme clusters it may have.
        limit: usize,
    },
    /// More bytes than the limit, though not more characters.
    #[error("a {what} has at most {limit} bytes, the characters of this one have {bytes}")]
    TooManyBytes {
        /// Which text.
        what: &'static str,
        /// Bytes of UTF-8 it has.
        bytes: usize,
        /// Bytes it may have.
        limit: usize,
    },
    /// Holds a character that could disguise it, break a line of output, or mean anything.
    #[error("a {what} cannot contain {kind} (U+{code:04X})")]
    Forbidden {
        /// Which text.
        what: &'static str,
        /// What the character is.
        kind: &'static str,
        /// The character's code point.
        code: u32,
    },
    /// A combining mark without a letter.
    #[error("a {what} cannot contain a combining mark without a letter before it (U+{code:04X})")]
    LoneMark {
        /// Which text.
        what: &'static str,
        /// The mark's code point.
        code: u32,
    },
    /// Too many combining marks on one letter.
    #[error("a {what} has at most {MAX_STACKED_MARKS} combining marks on one letter")]
    TooManyMarks {
        /// Which text.
        what: &'static str,
    },
}

/// Returns a player's name as others see it: 1 to [`MAX_NAME_CHARS`] grapheme clusters in NFC, without
/// anything that shows nothing.
///
/// # Errors
/// [`TextError`] says what is wrong in words for the person who typed it.
pub fn clean_name(name: &str) -> Result<String, TextError> {
    clean("name", name, (MAX_NAME_CHARS, MAX_NAME_BYTES))
}

/// Returns a room's name as others see it: 1 to [`MAX_ROOM_CHARS`] grapheme clusters in NFC, without
/// anything that shows nothing.
///
/// # Errors
/// [`TextError`] says what is wrong in words for the person who typed it.
pub fn clean_room(room: &str) -> Result<String, TextError> {
    clean("room name", room, (MAX_ROOM_CHARS, MAX_ROOM_BYTES))
}

/// Returns an operator's reason as the player reads it: one line of 1 to [`MAX_REASON_CHARS`] grapheme
/// clusters in NFC, without anything that shows nothing.
///
/// # Errors
/// [`TextError`] says what is wrong in words for the person who typed it.
pub fn clean_reason(reason: &str) -> Result<String, TextError> {
    clean("reason", reason, (MAX_REASON_CHARS, MAX_REASON_BYTES))
}

/// Returns a player's name as it was typed, for a server that applies the rest of the rule: for programs
/// without Unicode's tables.
///
/// # Errors
/// Nothing was typed, or more than any name can be made of.
pub fn typed_name(name: &str) -> Result<String, TextError> {
    typed("name", name, MAX_NAME_BYTES)
}

/// Returns a room's name as it was typed, as [`typed_name`] does.
///
/// # Errors
/// Nothing was typed, or more than any name can be made of.
pub fn typed_room(room: &str) -> Result<String, TextError> {
    typed("room name", room, MAX_ROOM_BYTES)
}

/// Returns what texts that look alike have in common: compatibility forms (NFKC) and case are folded,
/// and nothing is left that shows nothing.
pub fn folded(text: &str) -> String {
    let shown = |character: &char| !is_ignorable(*character);
    // Definition D146 of the Unicode Standard, compatibility caseless matching.
    let folded = text.chars().filter(shown).nfd().default_case_fold();
    let folded = folded.nfkc().filter(shown).default_case_fold();
    folded.nfkc().collect()
}

/// Returns the grapheme clusters of a text: what people count as its characters.
pub fn clusters(text: &str) -> impl DoubleEndedIterator<Item = &str> {
    text.graphemes(true)
}

fn typed(what: &'static str, text: &str, limit: usize) -> Result<String, TextError> {
    let (text, bytes) = (text.trim(), text.trim().len());
    if text.is_empty() {
        return Err(TextError::Empty { what });
    }
    // What shows nothing may be removed, and decomposed letters are longer.
    match bytes > MAX_TYPED_FACTOR * limit {
        true => Err(TextError::TooManyBytes { what, bytes, limit }),
        false => Ok(text.to_owned()),
    }
}

fn clean(what: &'static str, text: &str, limits: (usize, usize)) -> Result<String, TextError> {
    let text = tidy(text);
    check_characters(what, &text)?;
    let (limit, limit_bytes) = limits;
    let (chars, bytes) = (clusters(&text).count(), text.len());
    if chars > limit {
        return Err(TextError::TooLong { what, chars, limit });
    }
    if bytes > limit_bytes {
        return Err(TextError::TooManyBytes {
            what,
            bytes,
            limit: limit_bytes,
        });
    }
    Ok(text)
}

/// Returns a text in NFC without what shows nothing.
fn tidy(text: &str) -> String {
    let mut text = text.to_owned();
    loop {
        // What was removed may have kept a letter and its mark apart.
        let next = visible(&text).trim_matches(is_end).nfc().collect();
        if next == text {
            return text;
        }
        text = next;
    }
}

/// Whether a character is removed at the ends of a text.
fn is_end(character: char) -> bool {
    character.is_whitespace() || class(character) == Class::Direction
}

/// Returns a text without the characters that show nothing where they are, and with one space for each
/// run of spaces.
fn visible(text: &str) -> String {
    let candidates = text.chars().filter(|&c| class(c) != Class::Invisible);
    let candidates: Vec<_> = candidates.collect();
    let mut kept = String::with_capacity(text.len());
    let mut rest = candidates.as_slice();
    while let Some((&character, after)) = rest.split_first() {
        rest = after;
        match class(character) {
            Class::Space if kept.ends_with(' ') => {}
            Class::Space => kept.push(' '),
            Class::Joiner if !is_joiner_needed(&kept, character, after) => {}
            Class::Selector if !is_selector_needed(&kept) => {}
            Class::Tag => {}
            _ => kept.push(character),
        }
        if character == BLACK_FLAG {
            let (tags, after) = rest.split_at(tag_sequence_len(rest));
            kept.extend(tags);
            rest = after;
        }
    }
    kept
}

/// Whether a joiner between these texts changes what is seen: it is beside a virama, between letters
/// that join (both as in RFC 5892, appendix A, but for any kind of joining letter), or between two emoji.
fn is_joiner_needed(before: &str, joiner: char, after: &[char]) -> bool {
    let mut before = before.chars().rev().take(MAX_REACH);
    let Some(previous) = before.clone().next() else {
        return false;
    };
    let (next, mut after) = (after.first().copied(), after.iter().take(MAX_REACH));
    if is_virama(previous) || (is_letter(previous) && next.is_some_and(is_virama)) {
        return true;
    }
    if joiner == ZERO_WIDTH_JOINER && next.is_some_and(is_pictograph) {
        return before
            .find(|&c| !is_emoji_part(c))
            .is_some_and(is_pictograph);
    }
    let letter_before = before.find(|&character| !is_mark(character));
    let letter_after = after.find(|&&character| !is_mark(character));
    letter_before.is_some_and(joins) && letter_after.copied().is_some_and(joins)
}

/// Whether a variation selector after this text can change what is seen.
fn is_selector_needed(before: &str) -> bool {
    let previous = before.chars().next_back();
    previous.is_some_and(|c| class(c) == Class::Other && !is_mark(c))
}

/// Checks the characters of a tidy text.
fn check_characters(what: &'static str, text: &str) -> Result<(), TextError> {
    let (mut is_empty, mut has_base, mut stacked) = (true, false, 0);
    for character in text.chars() {
        let code = character.into();
        if let Some(kind) = forbidden(character) {
            return Err(TextError::Forbidden { what, kind, code });
        }
        match class(character) {
            Class::Space => (has_base, stacked) = (false, 0),
            Class::Other if is_mark(character) && !has_base => {
                return Err(TextError::LoneMark { what, code });
            }
            Class::Other if is_stacking_mark(character) => stacked += 1,
            Class::Other => (is_empty, has_base, stacked) = (false, true, 0),
            // Those that are left belong to the character before them.
            _ => {}
        }
        if stacked > MAX_STACKED_MARKS {
            return Err(TextError::TooManyMarks { what });
        }
    }
    match is_empty {
        true => Err(TextError::Empty { what }),
        false => Ok(()),
    }
}
