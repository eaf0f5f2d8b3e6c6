//! Join keys: the server's, and those of rooms that have one of their own.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cubesync_protocol::folded;
use cubesync_protocol::limits::MAX_JOIN_KEY_BYTES;
use cubesync_protocol::normal_key;
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use crate::by_address::{Address, ByAddress, WhenFull};
use crate::ending::{Ending, Problem};
use crate::key::{Key, RoomKey};
use crate::token_bucket::TokenBucket;

/// Wrong keys that one address may show within [`TRIES_FORGOTTEN_AFTER`]: a person mistypes a few
/// times, and a dozen guesses a minute find no key.
const MAX_TRIES: u32 = 10;

/// After this time of its first wrong key, an address starts anew.
const TRIES_FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// Networks whose wrong keys are remembered, which take 2 MB. An offender is not forgotten for another
/// one: then somebody with more networks than this could guess with each for ever.
const MAX_OFFENDERS: usize = 28_000;

/// Addresses that are remembered because they have shown a right key, which take 1 MB. Only somebody who has
/// a key can fill this, and then those are forgotten that have shown theirs the longest ago.
const MAX_KNOWN: usize = 14_000;

/// Time for which an address that has shown a right key is remembered.
const KNOWN_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// Keys a second that are checked while the memory of offenders is full, for all addresses together
/// that are in neither memory. With them, some who have never been here can still come in; and they
/// are few beside what those who fill the memory may guess.
const CHECKS_WHEN_FULL: NonZeroU32 = NonZeroU32::new(100).expect("it is not zero");

/// A burst of them is what may come in this time.
const BURST_WHEN_FULL: Duration = Duration::from_secs(1);

/// Join keys, and the addresses that have shown some.
#[derive(Debug)]
pub struct Keys {
    server: Option<Key>,
    /// By the room's folded name.
    rooms: BTreeMap<String, Key>,
    shown: Mutex<Shown>,
}

/// What addresses have shown.
#[derive(Debug)]
struct Shown {
    wrong: ByAddress<Tries>,
    /// When addresses have shown a right key, and no wrong one since then.
    right: ByAddress<std::time::Instant>,
    when_full: TokenBucket,
}

#[derive(Debug)]
struct Tries {
    wrong: u32,
    since: std::time::Instant,
}

impl Tries {
    fn forgotten_at(&self) -> std::time::Instant {
        self.since + TRIES_FORGOTTEN_AFTER
    }
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
            shown: Mutex::new(Shown::new()),
        }
    }

    /// Checks the key with which a player at an address wants to enter a room. A room's own key replaces
    /// the server's. This machine's own address is limited too.
    ///
    /// # Errors
    /// The key is missing or wrong, or too many wrong ones came from the address.
    pub(super) fn check(
        &self,
        room: &str,
        given: Option<&str>,
        address: Address,
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
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if !shown.may_tell(address.limited(), is_right) {
            return Err(Ending::TooManyTries.into());
        }
        if !is_right {
            let message = format!("this {place} asks for a join key, and it is wrong");
            return Err(Problem::new(Ending::WrongKey, message));
        }
        Ok(())
    }
}

impl Shown {
    fn new() -> Self {
        let now = Instant::now().into_std();
        Self {
            wrong: ByAddress::new(MAX_OFFENDERS, WhenFull::Refuse),
            right: ByAddress::new(MAX_KNOWN, WhenFull::Forget),
            when_full: TokenBucket::per_second(CHECKS_WHEN_FULL, BURST_WHEN_FULL, now),
        }
    }

    /// Counts a key, and returns whether it may be told what it is. Where it may not, a right key is
    /// refused too: else guessing would go on.
    fn may_tell(&mut self, address: Address, is_right: bool) -> bool {
        let (now, own) = (Instant::now().into_std(), address.prefix());
        let since = self.right.get(own);
        let is_known = since.is_some_and(|&since| now - since < KNOWN_FOR);
        // Neighbours who guess cannot lock out an address that is known.
        let counts = |prefix| !is_known || prefix == own;
        let judged = || address.prefixes().filter(|&prefix| counts(prefix));
        let mut is_spent = false;
        for prefix in judged() {
            let tries = self.wrong.get(prefix);
            let tries = tries.filter(|tries| tries.forgotten_at() > now);
            is_spent |= tries.is_some_and(|tries| tries.wrong >= MAX_TRIES * prefix.times());
        }
        let wrong = &mut self.wrong;
        let has_place =
            is_known || judged().all(|prefix| wrong.has_place(prefix, now, Tries::forgotten_at));
        if is_spent || !has_place && !self.when_full.take(1, now) {
            return false;
        }
        if is_right {
            let known = self
                .right
                .entry(own, now, |&since| since + KNOWN_FOR, || now);
            known.into_iter().for_each(|since| *since = now);
            return true;
        }
        self.right.remove(own);
        let mut is_last = false;
        for prefix in address.prefixes() {
            let first = || Tries {
                wrong: 0,
                since: now,
            };
            if let Some(tries) = self.wrong.entry(prefix, now, Tries::forgotten_at, first) {
                if tries.forgotten_at() <= now {
                    *tries = first();
                }
                tries.wrong += 1;
                is_last |= tries.wrong >= MAX_TRIES * prefix.times();
            }
        }
        !is_last
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
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::*;

    fn keys(server: Option<&str>, rooms: &[&str]) -> Keys {
        let rooms = rooms.iter().map(|&key| RoomKey::from(key));
        Keys::new(server.map(Key::from), rooms)
    }

    fn address(last: u8) -> Address {
        IpAddr::from([192, 0, 2, last]).into()
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

    fn numbered(number: u32) -> Address {
        IpAddr::from(Ipv4Addr::from_bits(number)).into()
    }

    #[tokio::test(start_paused = true)]
    async fn all_networks_of_a_customer_of_ipv6_have_the_tries_of_a_few_households() {
        let keys = keys(Some("right"), &[]);
        let check = |key, network: u16| {
            let ip = Ipv6Addr::new(0x2001, 0xdb8, 7, network, 0, 0, 0, 1);
            reason(keys.check("lobby", Some(key), IpAddr::from(ip).into()))
        };
        assert_eq!(check("right", 0xffff), None);
        let guessed = |networks: std::ops::Range<u16>| {
            let tries = networks.step_by(9).flat_map(|network| [network; 12]);
            let told = tries.filter(|&network| check("wrong", network) == Some(Ending::WrongKey));
            told.count() as u32
        };
        assert_eq!(guessed(0..1), MAX_TRIES - 1);
        assert_eq!(guessed(1..256), MAX_TRIES - 1, "a /56");
        assert_eq!(guessed(256..60_000), 2 * MAX_TRIES - 2, "a /48");
        assert_eq!(check("right", 5_000), Some(Ending::TooManyTries));
        assert_eq!(
            check("right", 0xffff),
            None,
            "a player who was there before"
        );
        let known = keys.shown.lock().unwrap().wrong.len();
        assert!(known < 20, "{known} networks are remembered");
    }

    #[tokio::test(start_paused = true)]
    async fn when_too_many_guess_only_those_who_are_known_come_in_freely() {
        let keys = keys(Some("right"), &[]);
        let check = |key, number: u32| reason(keys.check("lobby", Some(key), numbered(number)));
        let offenders = MAX_OFFENDERS as u32;
        assert_eq!(check("right", offenders), None);
        for number in 0..offenders {
            assert_eq!(check("wrong", number), Some(Ending::WrongKey));
        }
        let mut next = offenders;
        let mut told = |key: &'static str, tries: u32| {
            let numbers = std::iter::repeat_with(|| {
                next += 1;
                next
            });
            let outcomes = numbers
                .take(tries as usize)
                .map(|number| check(key, number));
            let told = outcomes.filter(|outcome| *outcome != Some(Ending::TooManyTries));
            told.count() as u32
        };
        let at_once = CHECKS_WHEN_FULL.get();
        assert_eq!(
            told("wrong", 2_000),
            at_once,
            "however many addresses guess"
        );
        assert_eq!(told("right", 2_000), 0, "what is refused tells nothing");
        assert_eq!(
            check("right", offenders),
            None,
            "a player who was there before"
        );
        for _ in 0..20 {
            tokio::time::advance(Duration::from_secs(1) / CHECKS_WHEN_FULL.get()).await;
            assert_eq!(told("right", 1), 1, "newcomers come in too");
        }
        assert_eq!(
            check("wrong", 0),
            Some(Ending::WrongKey),
            "within its own tries"
        );
        tokio::time::advance(TRIES_FORGOTTEN_AFTER).await;
        assert_eq!(told("wrong", 2_000), 2_000);
        let shown = keys.shown.lock().unwrap();
        assert_eq!((shown.wrong.len(), shown.right.len()), (2_000, 21));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrong_key_makes_a_known_address_a_stranger_again() {
        let keys = keys(Some("right"), &[]);
        let check = |key, number: u32| reason(keys.check("lobby", Some(key), numbered(number)));
        assert_eq!(check("right", 1), None);
        assert_eq!(keys.shown.lock().unwrap().right.len(), 1);
        assert_eq!(check("wrong", 1), Some(Ending::WrongKey));
        assert!(keys.shown.lock().unwrap().right.is_empty());
    }
}
