//! Who knows the key: of the server, or of a room that has one of its own.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cubesync_protocol::limits::MAX_JOIN_KEY_BYTES;
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use crate::Config;
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

/// The keys, and who has shown wrong ones.
#[derive(Debug)]
pub(crate) struct Keys {
    server: Option<Key>,
    rooms: BTreeMap<String, Key>,
    tries: Mutex<HashMap<IpAddr, Tries>>,
}

#[derive(Debug)]
struct Tries {
    wrong: u32,
    since: Instant,
}

impl Keys {
    /// The keys of a configuration.
    pub(crate) fn new(config: &Config) -> Self {
        let room_key = |key: &RoomKey| (key.room.clone(), key.key.clone());
        Self {
            server: config.join_key.clone(),
            rooms: config.room_key.iter().map(room_key).collect(),
            tries: Mutex::default(),
        }
    }

    /// Whether somebody at an address may come into a room. A room's own key stands in for the
    /// server's.
    ///
    /// # Errors
    /// They may not: the key is missing or wrong, or too many were wrong.
    pub(super) fn check(
        &self,
        room: &str,
        given: Option<&str>,
        address: IpAddr,
    ) -> Result<(), Problem> {
        let (expected, place) = match self.rooms.get(room) {
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
        let is_right = is_equal(expected, given);
        if !self.may_try(address, is_right) {
            return Err(Ending::TooManyTries.into());
        }
        if !is_right {
            let message = format!("this {place} asks for a join key, and it is wrong");
            return Err(Problem::new(Ending::WrongKey, message));
        }
        Ok(())
    }

    /// Counts a try; whether its outcome may be told. Where it may not, a right key is refused
    /// too: else guessing would go on.
    fn may_try(&self, address: IpAddr, is_right: bool) -> bool {
        let now = Instant::now();
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = |tries: &Tries| now - tries.since >= TRIES_FORGOTTEN_AFTER;
        if tries.get(&address).is_some_and(is_old) {
            tries.remove(&address);
        }
        if let Some(known) = tries.get_mut(&address) {
            known.wrong += u32::from(!is_right && known.wrong < MAX_TRIES);
            return known.wrong < MAX_TRIES;
        }
        if is_right {
            return true;
        }
        if tries.len() >= MAX_ADDRESSES {
            tries.retain(|_, tries| !is_old(tries));
        }
        let has_place = tries.len() < MAX_ADDRESSES;
        if has_place {
            let first = Tries {
                wrong: 1,
                since: now,
            };
            tries.insert(address, first);
        }
        has_place
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
    use clap::Parser;

    use super::*;

    fn keys(flags: &[&str]) -> Keys {
        Keys::new(&Config::parse_from(["cubesync-server"].iter().chain(flags)))
    }

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn reason(outcome: Result<(), Problem>) -> Option<Ending> {
        outcome.err().map(|problem| problem.ending)
    }

    #[tokio::test]
    async fn a_rooms_own_key_stands_in_for_the_servers() {
        let keys = keys(&["--join-key", "all", "--room-key", "den=cave=1"]);
        for (room, key, right) in [
            ("lobby", Some("all"), true),
            ("lobby", Some("cave=1"), false),
            ("den", Some("cave=1"), true),
            ("den", Some("all"), false),
            ("den", Some("cave"), false),
            ("den", Some("cave=1\0"), false),
            ("lobby", None, false),
        ] {
            let checked = keys.check(room, key, address(1));
            assert_eq!(checked.is_ok(), right, "{room} {key:?}: {checked:?}");
        }
    }

    #[tokio::test]
    async fn without_a_key_anybody_may_come() {
        let keys = keys(&["--room-key", "den=cave"]);
        assert_eq!(keys.check("lobby", None, address(1)), Ok(()));
        assert_eq!(keys.check("lobby", Some("any"), address(1)), Ok(()));
        assert!(keys.check("den", None, address(1)).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn after_too_many_wrong_keys_even_the_right_one_must_wait() {
        let keys = keys(&["--join-key", "right"]);
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
        let keys = keys(&["--join-key", "right"]);
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
