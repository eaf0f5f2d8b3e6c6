//! The subjects of topics on NATS.
//!
//! Every message carries its subject twice, to NATS and from it, so subjects are short:
//!
//! | subject | topic |
//! |---|---|
//! | `NAME.s` | [`Topic::Servers`] |
//! | `NAME.r.ROOM` | [`Topic::Room`] |
//! | `NAME.r.ROOM.ID` | [`Topic::RoomAt`] |
//! | `NAME.i.ANY` | NATS's answers to a server |
//!
//! where `NAME` is the cluster's name.

use std::fmt::Write;

use super::Topic;

/// The maximum length of a cluster's name, which is in front of every message.
const MAX_CLUSTER_NAME_BYTES: usize = 32;

/// Checks the name of a cluster, which separates the clusters that share a NATS.
///
/// # Errors
/// Returns an error if the name could not be part of a subject.
pub fn cluster_name(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_name = (1..=MAX_CLUSTER_NAME_BYTES).contains(&text.len()) && text.bytes().all(is_plain);
    match is_name {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "expected 1 to {MAX_CLUSTER_NAME_BYTES} letters, digits, - and _"
        )),
    }
}

/// Returns a topic's subject.
pub(super) fn subject(cluster: &str, topic: &Topic) -> String {
    match topic {
        Topic::Servers => format!("{cluster}.s"),
        Topic::Room(room) => format!("{cluster}.r.{}", token(room)),
        Topic::RoomAt(room, id) => format!("{cluster}.r.{}.{id}", token(room)),
    }
}

/// Returns the beginning of the subjects to which NATS answers.
pub(super) fn inbox_prefix(cluster: &str) -> String {
    format!("{cluster}.i")
}

/// Returns a room's name as a part of a subject. Letters, digits, - and _ stay as they are; every
/// other byte becomes `=` and two digits. No two names become the same.
pub(super) fn token(room: &str) -> String {
    let mut token = String::with_capacity(room.len());
    for byte in room.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => token.push(byte.into()),
            byte => write!(token, "={byte:02x}").expect("writing to a string cannot fail"),
        }
    }
    token
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use cubesync_protocol::clean_room;
    use proptest::prelude::*;

    use super::super::ServerId;
    use super::*;

    #[test]
    fn subjects_are_short_and_differ() {
        let (room, id) = ("lobby".to_owned(), ServerId(0xa1));
        let topics = [
            (Topic::Servers, "world.s"),
            (Topic::Room(room.clone()), "world.r.lobby"),
            (Topic::RoomAt(room, id), "world.r.lobby.000000a1"),
        ];
        for (topic, expected) in &topics {
            assert_eq!(subject("world", topic), *expected);
        }
    }

    #[test]
    fn a_clusters_name_is_one_token() {
        for good in ["a", "cubesync", "EU-west_2"] {
            assert_eq!(cluster_name(good).as_deref(), Ok(good));
        }
        for wrong in ["", "a.b", "a b", "*", ">", "ä", &"a".repeat(33)] {
            assert!(cluster_name(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_rooms_name_is_one_token_of_its_own(names in prop::collection::btree_set("[ -~äж.*>=]{1,12}", 1..8)) {
            let names: BTreeSet<_> = names.iter().filter_map(|name| clean_room(name).ok()).collect();
            let tokens: BTreeSet<_> = names.iter().map(|name| token(name)).collect();
            prop_assert_eq!(tokens.len(), names.len());
            for token in tokens {
                prop_assert!(!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_=".contains(&byte)));
            }
        }
    }
}
