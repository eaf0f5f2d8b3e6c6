//! Join keys: which ones a person can type.

use unicode_normalization::UnicodeNormalization;

use crate::limits::MAX_JOIN_KEY_BYTES;
use crate::text::is_ignorable;

/// Why a text is no join key. Says nothing of the key itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// There is nothing in it.
    #[error("a join key cannot be empty")]
    Empty,
    /// It is longer than a message may carry.
    #[error("a join key has at most {MAX_JOIN_KEY_BYTES} bytes")]
    TooLong,
    /// It has several lines, a tab or another control character.
    #[error("a join key is one line, without tabs or other control characters")]
    Control,
    /// A form would remove the blank.
    #[error("a join key cannot begin or end with a blank; did you mean it without?")]
    Blank,
    /// Somebody who reads it could not type it.
    #[error("a join key cannot have invisible characters or unusual blanks, which nobody can type")]
    Invisible,
    /// Quotes of a shell or a file would count as part of it.
    #[error("quotes around a join key would be part of it; did you mean it without the quotes?")]
    Quoted,
}

/// Returns a join key as it was meant, without the line ends around it that files and variables often
/// have, and without the mark of UTF-8 in front. Everybody who is told the key can type it.
///
/// # Errors
/// [`KeyError`] if nobody could show such a key.
pub fn clean_key(text: &str) -> Result<&str, KeyError> {
    let key = text
        .trim_start_matches('\u{FEFF}')
        .trim_matches(['\r', '\n']);
    let is_quoted = |[open, close]: [char; 2]| {
        let inner = key
            .strip_prefix(open)
            .and_then(|rest| rest.strip_suffix(close));
        inner.is_some()
    };
    if key.is_empty() {
        Err(KeyError::Empty)
    } else if key.contains(char::is_control) {
        Err(KeyError::Control)
    } else if key.starts_with(char::is_whitespace) || key.ends_with(char::is_whitespace) {
        Err(KeyError::Blank)
    } else if key.contains(is_untypable) {
        Err(KeyError::Invisible)
    } else if QUOTES.into_iter().any(is_quoted) {
        Err(KeyError::Quoted)
    } else if key.len() > MAX_JOIN_KEY_BYTES {
        Err(KeyError::TooLong)
    } else {
        Ok(key)
    }
}

/// Returns the form in which a server compares two keys (NFC): systems differ in whether the é that is typed
/// is one character or two.
pub fn normal_key(key: &str) -> String {
    key.nfc().collect()
}

/// Pairs of quotes that people and word processors put around a text.
const QUOTES: [[char; 2]; 7] = [
    ['"', '"'],
    ['\'', '\''],
    ['`', '`'],
    ['“', '”'],
    ['‘', '’'],
    ['„', '“'],
    ['«', '»'],
];

/// A character of six dots, of which none is there.
const BRAILLE_BLANK: char = '\u{2800}';

/// Whether a character is a blank other than the space bar's, or one that shows nothing and joins
/// nothing. Joiners and the selector of emoji are part of what people type.
fn is_untypable(character: char) -> bool {
    (character.is_whitespace() && character != ' ' && character != '\u{3000}')
        || character == BRAILLE_BLANK
        || (is_ignorable(character) && !matches!(character, '\u{200C}' | '\u{200D}' | '\u{FE0F}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_around_a_key_are_not_part_of_it() {
        for text in ["sesame", "sesame\n", "\nsesame\r\n", "\u{FEFF}sesame\r\n\n"] {
            assert_eq!(clean_key(text), Ok("sesame"), "{text:?}");
        }
    }

    #[test]
    fn what_people_can_type_is_a_key() {
        for key in [
            "a",
            "open sesame",
            "\"",
            "it's",
            "'a' or 'b",
            "-key",
            "пароль",
            "क्‍ष",
            "a=b,c#d",
        ] {
            assert_eq!(clean_key(key), Ok(key), "{key}");
        }
        let longest = "a".repeat(MAX_JOIN_KEY_BYTES);
        assert_eq!(clean_key(&longest), Ok(&*longest));
    }

    #[test]
    fn a_letter_with_its_accent_is_the_same_however_it_is_typed() {
        let (composed, decomposed) = ("caf\u{e9}", "cafe\u{301}");
        assert_eq!(normal_key(composed), normal_key(decomposed));
        assert_ne!(normal_key("a"), normal_key("A"));
    }

    #[test]
    fn what_nobody_can_type_is_refused() {
        let too_long = "a".repeat(MAX_JOIN_KEY_BYTES + 1);
        for (text, expected) in [
            ("", KeyError::Empty),
            ("\r\n", KeyError::Empty),
            ("one\ntwo", KeyError::Control),
            ("a\tb", KeyError::Control),
            ("a\u{7f}", KeyError::Control),
            (" a", KeyError::Blank),
            ("a \n", KeyError::Blank),
            ("a\u{a0}", KeyError::Blank),
            (" ", KeyError::Blank),
            ("a\u{a0}b", KeyError::Invisible),
            ("a\u{200b}", KeyError::Invisible),
            ("a\u{202e}b", KeyError::Invisible),
            ("a\u{3164}b", KeyError::Invisible),
            ("a\u{2800}b", KeyError::Invisible),
            ("\"a\"", KeyError::Quoted),
            ("'a b'", KeyError::Quoted),
            ("“a”", KeyError::Quoted),
            ("\"\"", KeyError::Quoted),
            (&too_long, KeyError::TooLong),
        ] {
            assert_eq!(clean_key(text), Err(expected), "{text:?}");
        }
    }
}
