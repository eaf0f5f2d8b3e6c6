//! Join keys: the server's, and those of rooms that have one of their own.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cubesync_protocol::folded;
use cubesync_protocol::limits::MAX_JOIN_KEY_BYTES;
use cubesync_protocol::normal_key;
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use crate::by_address::ByAddress;
use crate::ending::{Ending, Problem};
use crate::key::{Key, RoomKey};

/// Wrong keys that one address may show within [`TRIES_FORGOTTEN_AFTER`]: a person mistypes a few
/// times, and a dozen guesses a minute find no key.
const MAX_TRIES: u32 = 10;

/// After this time of its first wrong key, an address starts anew.
const TRIES_FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// Addresses whose wrong keys are remembered: 1 MB. When there are more, wrong keys of further
/// ones count as too many.
const MAX_ADDRESSES: usize = 10_000;

/// Join keys, and the addresses that have shown wrong ones.
#[derive(Debug)]
pub struct Keys {
    server: Option<Key>,
    /// By the room's folded name.
    rooms: BTreeMap<String, Key>,
    tries: Mutex<ByAddress<Tries>>,
}

#[derive(Debug)]
struct Tries {
    wrong: u32,
    since: std::time::Instant,
}

impl Keys {
    /// Keeps the server's key, and those of rooms that have one of their own.
    pub fn new(server: Option<Key>, rooms: impl IntoIterator<Item = RoomKey>) -> Self {
        let rooms = rooms
            .into_iter()
            .map(|RoomKey { room, key }| (folded(&room), key));
        Self {
            server,
            rooms: rooms.collect(),
            tries: Mutex::new(ByAddress::new(MAX_ADDRESSES)),
        }
    }

    /// Checks the key with which a player at an address wants to enter a room. A room's own key replaces
    /// the server's.
    ///
    /// # Errors
    /// The key is missing or wrong, or too many wrong ones came from the address.
    pub(super) fn check(
        &self,
        room: &str,
        given: Option<&str>,
        address: IpAddr,
    ) -> Result<(), Problem> {
        let (expected, place) = match self.rooms.get(&folded(room)) {
            Some(key) => (key, "room"),
            None => match &self.server {
                Some(key) => (key, "server"),
                None => return Ok(()),
            },
        };
        let Some(given) = given else {
            let message = format!("this {place} asks for a join key, and it is missing");
            return Err(Problem::new(Ending::WrongKey, message));
        };
        let is_right = is_equal(expected, &normal_key(given));
        if !self.may_try(address, is_right) {
            return Err(Ending::TooManyTries.into());
        }
        if !is_right {
            let message = format!("this {place} asks for a join key, and it is wrong");
            return Err(Problem::new(Ending::WrongKey, message));
        }
        Ok(())
    }

    /// Counts a try, and returns whether its outcome may be told. Where it may not, a right key is
    /// refused too: else guessing would go on.
    fn may_try(&self, address: IpAddr, is_right: bool) -> bool {
        let now = Instant::now().into_std();
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = |tries: &Tries| now - tries.since >= TRIES_FORGOTTEN_AFTER;
        if tries.get(address).is_some_and(is_old) {
            tries.remove(address);
        }
        if is_right {
            let known = tries.get(address);
            return known.is_none_or(|tries| tries.wrong < MAX_TRIES);
        }
        let first = || Tries {
            wrong: 0,
            since: now,
        };
        let Some(known) = tries.entry(address, now, is_old, first) else {
            return false;
        };
        known.wrong = MAX_TRIES.min(known.wrong + 1);
        known.wrong < MAX_TRIES
    }
}

/// Compares in a time that depends neither on the keys nor on their lengths, so that answers do
/// not tell how much of a guess was right.
fn is_equal(expected: &str, given: &str) -> bool {
    let padded = |key: &str| {
        let mut padded = [0; MAX_JOIN_KEY_BYTES];
        for (to, from) in padded.iter_mut().zip(key.bytes()) {
            *to = from;
        }
        padded
    };
    let same_bytes = padded(expected).ct_eq(&padded(given));
    let same_length = expected.len().ct_eq(&given.len());
    (same_bytes & same_length).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(server: Option<&str>, rooms: &[&str]) -> Keys {
        let rooms = rooms.iter().map(|&key| RoomKey::from(key));
        Keys::new(server.map(Key::from), rooms)
    }

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn reason(outcome: Result<(), Problem>) -> Option<Ending> {
        outcome.err().map(|problem| problem.ending)
    }

    #[tokio::test]
    async fn a_rooms_own_key_stands_in_for_the_servers() {
        let keys = keys(Some("all"), &["den=cave=1"]);
        for (room, key, right) in [
            ("lobby", Some("all"), true),
            ("lobby", Some("cave=1"), false),
            ("den", Some("cave=1"), true),
            ("den", Some("all"), false),
            ("Den", Some("all"), false),
            ("ｄｅｎ\u{FE0F}", Some("all"), false),
            ("DEN", Some("cave=1"), true),
            ("den", Some("cave"), false),
            ("den", Some("cave=1\0"), false),
            ("lobby", None, false),
        ] {
            let checked = keys.check(room, key, address(1));
            assert_eq!(checked.is_ok(), right, "{room} {key:?}: {checked:?}");
        }
    }

    #[tokio::test]
    async fn a_key_is_right_however_its_accents_were_typed() {
        for (configured, shown) in [("caf\u{e9}", "cafe\u{301}"), ("cafe\u{301}", "caf\u{e9}")] {
            let keys = keys(Some(configured), &[]);
            assert_eq!(keys.check("lobby", Some(shown), address(1)), Ok(()));
        }
    }

    #[tokio::test]
    async fn without_a_key_anybody_may_come() {
        let keys = keys(None, &["den=cave"]);
        assert_eq!(keys.check("lobby", None, address(1)), Ok(()));
        assert_eq!(keys.check("lobby", Some("any"), address(1)), Ok(()));
        assert!(keys.check("den", None, address(1)).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn after_too_many_wrong_keys_even_the_right_one_must_wait() {
        let keys = keys(Some("right"), &[]);
        let check = |key, last| reason(keys.check("lobby", Some(key), address(last)));
        for _ in 1..MAX_TRIES {
            assert_eq!(check("wrong", 1), Some(Ending::WrongKey));
            assert_eq!(check("right", 1), None);
        }
        assert_eq!(check("wrong", 1), Some(Ending::TooManyTries));
        assert_eq!(check("right", 1), Some(Ending::TooManyTries));
        assert_eq!(check("right", 2), None, "somebody else's tries");
        tokio::time::advance(TRIES_FORGOTTEN_AFTER).await;
        assert_eq!(check("right", 1), None);
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_what_cannot_be_remembered_is_refused() {
        let keys = keys(Some("right"), &[]);
        let check = |key, number: u32| {
            let address = std::net::Ipv4Addr::from_bits(number).into();
            reason(keys.check("lobby", Some(key), address))
        };
        for number in 0..MAX_ADDRESSES as u32 {
            assert_eq!(check("wrong", number), Some(Ending::WrongKey));
        }
        let next = MAX_ADDRESSES as u32;
        assert_eq!(check("wrong", next), Some(Ending::TooManyTries));
        assert_eq!(check("right", next), None);
        tokio::time::advance(TRIES_FORGOTTEN_AFTER).await;
        assert_eq!(check("wrong", next), Some(Ending::WrongKey));
        assert_eq!(keys.tries.lock().unwrap().len(), 1);
    }
}
