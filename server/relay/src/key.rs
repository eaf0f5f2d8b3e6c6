//! Join keys as they are configured.

use std::fmt::{self, Debug, Formatter};
use std::ops::Deref;

use cubesync_protocol::{KeyError, clean_key, clean_room, normal_key};

/// A join key, unchecked: a parser that refuses one would print it.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(String);

/// A room that has a key of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomKey {
    /// The clean name; empty if what was given is no `ROOM=KEY`.
    pub room: String,
    /// The key.
    pub key: Key,
}

impl Key {
    /// Checks that clients can show this key.
    ///
    /// # Errors
    /// Says what is wrong with it, without a character of it.
    pub fn check(&self) -> Result<(), KeyError> {
        clean_key(&self.0).map(drop)
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self(normal_key(clean_key(text).unwrap_or(text)))
    }
}

impl Deref for Key {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Debug for Key {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl RoomKey {
    /// Checks that it names a room and has a key that clients can show.
    ///
    /// # Errors
    /// Says what is wrong with it, without a character of the key.
    pub fn check(&self) -> Result<(), String> {
        if self.room.is_empty() {
            return Err(
                "expected ROOM=KEY without quotes: the name of a room, =, and its key".to_owned(),
            );
        }
        self.key.check().map_err(|problem| problem.to_string())
    }
}

impl From<&str> for RoomKey {
    fn from(text: &str) -> Self {
        let text = text.trim_start_matches('\u{FEFF}');
        let (room, key) = text.split_once('=').unwrap_or_default();
        // Quotes around the whole would be part of both.
        let room = match clean_key(text) {
            Err(KeyError::Quoted) => "",
            _ => room,
        };
        Self {
            room: clean_room(room).unwrap_or_default(),
            key: key.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_kept_out_of_every_output() {
        let keys = (Key::from("sesame"), RoomKey::from("den=sesame"));
        assert!(!format!("{keys:?}").contains("sesame"));
        let long = "sesame".repeat(100);
        for wrong in [
            RoomKey::from(&*format!("den={long}")),
            RoomKey::from(&*long),
        ] {
            let problem = wrong.check().unwrap_err();
            assert!(!problem.contains("sesame"), "{problem}");
        }
    }

    #[test]
    fn only_what_clients_can_show_is_a_key() {
        assert_eq!(Key::from("a").check(), Ok(()));
        assert_eq!(&*Key::from("\u{FEFF}sesame\r\n"), "sesame");
        for wrong in ["", " a", "a b ", "\"a\"", "a\tb"] {
            assert!(Key::from(wrong).check().is_err(), "{wrong}");
        }
        let room = RoomKey::from(" den =a=b\r\n");
        assert_eq!(
            (&*room.room, &*room.key, room.check()),
            ("den", "a=b", Ok(()))
        );
        for wrong in [
            "den",
            "den=",
            "=key",
            "\u{202e}=key",
            "den = key",
            "den=\"key\"",
            "\"den=key\"",
        ] {
            assert!(RoomKey::from(wrong).check().is_err(), "{wrong}");
        }
    }
}
