//! What a character is to the rule for names.

use unicode_joining_type::{JoiningType, get_joining_type};
use unicode_normalization::char::canonical_combining_class;
use unicode_properties::{
    EmojiStatus, GeneralCategory, GeneralCategoryGroup, UnicodeEmoji, UnicodeGeneralCategory,
};

/// Joins two emoji to one picture, and letters to a ligature.
pub(super) const ZERO_WIDTH_JOINER: char = '\u{200D}';
/// The emoji that tag characters make a flag of a part of a country.
pub(super) const BLACK_FLAG: char = '\u{1F3F4}';

/// Longest code of a part of a country: two letters of the country, up to four of the part.
const MAX_FLAG_TAGS: usize = 6;
const LAST_TAG: char = '\u{E007F}';
/// The canonical combining class of the signs that take a letter's vowel away.
const VIRAMA_CLASS: u8 = 9;

/// What becomes of a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// A space, or a character that looks like one.
    Space,
    /// Reorders the text around it (UAX 9).
    Direction,
    /// ZERO WIDTH JOINER or NON-JOINER.
    Joiner,
    /// Chooses a form of the character before it.
    Selector,
    /// Spells the code of a flag.
    Tag,
    /// Shows nothing: every other default-ignorable code point.
    Invisible,
    /// Everything else.
    Other,
}

/// Returns a character's class.
pub(super) fn class(character: char) -> Class {
    match character {
        // Space separators, BRAILLE PATTERN BLANK, a note without a head, Egyptian blanks.
        ' '
        | '\u{A0}'
        | '\u{1680}'
        | '\u{2000}'..='\u{200A}'
        | '\u{202F}'
        | '\u{205F}'
        | '\u{2800}'
        | '\u{3000}'
        | '\u{13441}'..='\u{13442}'
        | '\u{1D159}' => Class::Space,
        '\u{61C}' | '\u{200E}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => {
            Class::Direction
        }
        '\u{200C}' | ZERO_WIDTH_JOINER => Class::Joiner,
        '\u{180B}'..='\u{180F}' | '\u{FE00}'..='\u{FE0F}' | '\u{E0100}'..='\u{E01EF}' => {
            Class::Selector
        }
        '\u{E0020}'..=LAST_TAG => Class::Tag,
        character if is_ignorable(character) => Class::Invisible,
        _ => Class::Other,
    }
}

/// Whether a character shows nothing by itself: Default_Ignorable_Code_Point (a test compares).
pub(crate) fn is_ignorable(character: char) -> bool {
    matches!(character, '\u{AD}'
        | '\u{34F}'
        | '\u{61C}'
        | '\u{115F}'..='\u{1160}'
        | '\u{17B4}'..='\u{17B5}'
        | '\u{180B}'..='\u{180F}'
        | '\u{200B}'..='\u{200F}'
        | '\u{202A}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}'
        | '\u{3164}'
        | '\u{FE00}'..='\u{FE0F}'
        | '\u{FEFF}'
        | '\u{FFA0}'
        | '\u{FFF0}'..='\u{FFF8}'
        | '\u{1BCA0}'..='\u{1BCA3}'
        | '\u{1D173}'..='\u{1D17A}'
        | '\u{E0000}'..='\u{E0FFF}')
}

/// Returns what a character is if no name may contain it.
pub(super) fn forbidden(character: char) -> Option<&'static str> {
    let class = class(character);
    if class == Class::Direction {
        return Some("a character that changes the direction of text");
    }
    if class != Class::Other {
        return None;
    }
    match character.general_category() {
        GeneralCategory::Control
        | GeneralCategory::LineSeparator
        | GeneralCategory::ParagraphSeparator => Some("a control character"),
        GeneralCategory::Format => Some("a format character"),
        GeneralCategory::PrivateUse => {
            Some("a private character, which looks different everywhere")
        }
        GeneralCategory::Unassigned if !is_pictograph(character) => {
            Some("a code that stands for no character")
        }
        _ if matches!(character, '\u{FFFC}' | '\u{FFFD}') => {
            Some("the sign for something that could not be read")
        }
        _ => None,
    }
}

/// Whether a character is a letter.
pub(super) fn is_letter(character: char) -> bool {
    character.general_category_group() == GeneralCategoryGroup::Letter
}

/// Whether a character is a combining mark.
pub(super) fn is_mark(character: char) -> bool {
    character.general_category_group() == GeneralCategoryGroup::Mark
}

/// Whether a character is a combining mark that takes no place of its own.
pub(super) fn is_stacking_mark(character: char) -> bool {
    is_mark(character) && character.general_category() != GeneralCategory::SpacingMark
}

/// Whether a character takes the vowel of the letter before it away.
pub(super) fn is_virama(character: char) -> bool {
    canonical_combining_class(character) == VIRAMA_CLASS
}

/// Whether a character is written in one stroke with a neighbour.
pub(super) fn joins(character: char) -> bool {
    use JoiningType::{DualJoining, JoinCausing, LeftJoining, RightJoining};
    let joining = get_joining_type(character);
    character != ZERO_WIDTH_JOINER
        && matches!(
            joining,
            DualJoining | JoinCausing | LeftJoining | RightJoining
        )
}

/// Whether a character is an emoji that can be joined to others (Extended_Pictographic), or kept for one.
pub(super) fn is_pictograph(character: char) -> bool {
    use EmojiStatus::{
        EmojiModifierBase, EmojiOther, EmojiPresentation, EmojiPresentationAndModifierBase,
    };
    match character.emoji_status() {
        EmojiModifierBase | EmojiOther | EmojiPresentation | EmojiPresentationAndModifierBase => {
            true
        }
        _ => {
            let is_reserved =
                matches!(character, '\u{1F000}'..='\u{1FAFF}' | '\u{1FC00}'..='\u{1FFFD}');
            is_reserved && character.general_category() == GeneralCategory::Unassigned
        }
    }
}

/// Whether a character changes the emoji before it: a selector, a skin tone, or a flag's tag.
pub(super) fn is_emoji_part(character: char) -> bool {
    let is_skin_tone = matches!(character, '\u{1F3FB}'..='\u{1F3FF}');
    is_skin_tone || is_mark(character) || class(character) == Class::Tag
}

/// Returns how many of these characters, which follow a black flag, choose another flag (UTS 51, ED-14a).
pub(super) fn tag_sequence_len(after: &[char]) -> usize {
    let is_code = |c: &&char| matches!(c, '\u{E0030}'..='\u{E0039}' | '\u{E0061}'..='\u{E007A}');
    let len = after.iter().take_while(is_code).count();
    let is_whole = (1..=MAX_FLAG_TAGS).contains(&len) && after.get(len) == Some(&LAST_TAG);
    if is_whole { len + 1 } else { 0 }
}
