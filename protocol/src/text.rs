//! The texts that people may give: player and room names, as others will see them.

use crate::limits::{MAX_NAME_CHARS, MAX_ROOM_CHARS};

/// Why a text cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Nothing but white space.
    #[error("a {what} needs at least one visible character")]
    Empty {
        /// Which text: "name" or "room name".
        what: &'static str,
    },
    /// Longer than the limit.
    #[error("a {what} has at most {limit} characters, this one has {chars}")]
    TooLong {
        /// Which text.
        what: &'static str,
        /// Characters it has.
        chars: usize,
        /// Characters it may have.
        limit: usize,
    },
    /// Holds a character that could disguise it or break a line of output.
    #[error("a {what} cannot contain control or direction characters (U+{code:04X})")]
    Forbidden {
        /// Which text.
        what: &'static str,
        /// The character's code point.
        code: u32,
    },
}

/// Returns a player's name without surrounding white space: 1 to [`MAX_NAME_CHARS`] visible characters.
///
/// # Errors
/// [`TextError`] says what is wrong in words for the person who typed it.
pub fn clean_name(name: &str) -> Result<&str, TextError> {
    clean("name", name, MAX_NAME_CHARS)
}

/// Returns a room's name without surrounding white space: 1 to [`MAX_ROOM_CHARS`] visible characters.
///
/// # Errors
/// [`TextError`] says what is wrong in words for the person who typed it.
pub fn clean_room(room: &str) -> Result<&str, TextError> {
    clean("room name", room, MAX_ROOM_CHARS)
}

fn clean<'text>(
    what: &'static str,
    text: &'text str,
    limit: usize,
) -> Result<&'text str, TextError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(TextError::Empty { what });
    }
    let chars = text.chars().count();
    if chars > limit {
        return Err(TextError::TooLong { what, chars, limit });
    }
    match text.chars().find(|&character| is_forbidden(character)) {
        Some(character) => Err(TextError::Forbidden {
            what,
            code: character.into(),
        }),
        None => Ok(text),
    }
}

/// Whether a character is a control character or an invisible one that reorders or hides text
/// (Unicode TR 36).
fn is_forbidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{00AD}'
                | '\u{061C}'
                | '\u{200B}'..='\u{200F}'
                | '\u{2028}'..='\u{202E}'
                | '\u{2060}'..='\u{206F}'
                | '\u{FEFF}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_any_script_are_kept_and_trimmed() {
        for name in ["Anna", "Вася", "李小龙", "🦀 crab"] {
            assert_eq!(clean_name(&format!("  {name} \n")), Ok(name));
        }
    }

    #[test]
    fn a_name_of_the_longest_length_is_accepted_and_one_more_is_not() {
        assert!(clean_name(&"я".repeat(MAX_NAME_CHARS)).is_ok());
        assert_eq!(
            clean_name(&"я".repeat(MAX_NAME_CHARS + 1)),
            Err(TextError::TooLong {
                what: "name",
                chars: 25,
                limit: 24
            })
        );
    }

    #[test]
    fn disguising_names_are_refused() {
        assert_eq!(clean_name(" \t"), Err(TextError::Empty { what: "name" }));
        for name in ["a\nb", "a\u{202E}b", "\u{200B}a", "a\u{7}"] {
            assert!(
                matches!(clean_name(name), Err(TextError::Forbidden { .. })),
                "{name:?}"
            );
        }
    }
}
