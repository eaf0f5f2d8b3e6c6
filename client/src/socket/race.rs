//! The order and the times of the tries to connect to a server with several addresses (RFC 8305),
//! without I/O and without a clock.

use std::collections::VecDeque;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

/// Time after which the next address is tried beside one that has not answered (RFC 8305, 5).
const NEXT_TRY_AFTER: Duration = Duration::from_millis(250);
/// Time after which the next address is tried beside one that has answered and still exchanges keys.
/// It has room for a handshake across an ocean: only a network that loses it gets a second one.
const NEXT_TRY_AFTER_ANSWER: Duration = Duration::from_secs(1);
/// Largest number of addresses that an error names.
const MAX_NAMED: usize = 4;

/// The tries to reach one server.
#[derive(Debug)]
pub(super) struct Race {
    waiting: VecDeque<SocketAddr>,
    next_at: Duration,
    /// Why the tries failed that did.
    failures: Vec<(SocketAddr, String)>,
    running: usize,
}

impl Race {
    /// Starts with addresses in the order in which the system prefers them. Their families take turns,
    /// so that a family that does not work costs one wait (RFC 8305, 4).
    pub(super) fn new(addresses: Vec<SocketAddr>, now: Duration) -> Self {
        Self {
            waiting: interleaved(addresses),
            next_at: now,
            failures: Vec::new(),
            running: 0,
        }
    }

    /// Returns the address to try now. Call it until there is none.
    pub(super) fn next(&mut self, now: Duration) -> Option<SocketAddr> {
        if now < self.next_at {
            return None;
        }
        let address = self.waiting.pop_front()?;
        self.running += 1;
        self.next_at = now + NEXT_TRY_AFTER;
        Some(address)
    }

    /// Notes that an address has answered, so that the next one is needed less soon.
    pub(super) fn answered(&mut self, now: Duration) {
        self.next_at = self.next_at.max(now + NEXT_TRY_AFTER_ANSWER);
    }

    /// Notes why a try failed. The next one is due at once.
    pub(super) fn failed(&mut self, address: SocketAddr, reason: String, now: Duration) {
        self.running -= 1;
        self.next_at = now;
        self.failures.push((address, reason));
    }

    /// Returns whether every address has been tried in vain.
    pub(super) fn is_lost(&self) -> bool {
        self.running == 0 && self.waiting.is_empty()
    }

    /// Describes for a person why the server cannot be reached: by the only reason, or by those of
    /// each address.
    pub(super) fn verdict(&self, server: &str) -> String {
        let Self {
            failures, waiting, ..
        } = self;
        if let ([(_, reason)], true) = (&failures[..], waiting.is_empty()) {
            return reason.clone();
        }
        let count = failures.len();
        let all = count + waiting.len();
        let mut text = match waiting.is_empty() {
            true => format!("none of the {count} addresses of {server} can be reached: "),
            false => format!("{count} of the {all} addresses of {server} were tried in vain: "),
        };
        let named: Vec<_> = failures.iter().take(MAX_NAMED).collect();
        let reasons = named.iter().map(|(_, reason)| reason.as_str());
        text.push_str(&reasons.collect::<Vec<_>>().join("; "));
        if count > MAX_NAMED {
            // Writing to a string cannot fail.
            let _ = write!(text, "; and {} more", count - MAX_NAMED);
        }
        text
    }
}

/// Lets the families take turns, beginning with that of the first address. Each family keeps its
/// order, and each address comes once.
fn interleaved(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let mut unique = Vec::new();
    for address in addresses {
        if !unique.contains(&address) {
            unique.push(address);
        }
    }
    let is_first_v6 = unique.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = unique
        .into_iter()
        .partition(|address| address.is_ipv6() == is_first_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut turns = VecDeque::new();
    loop {
        match (first.next(), second.next()) {
            (None, None) => return turns,
            (one, other) => turns.extend(one.into_iter().chain(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const V6: [&str; 3] = ["[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8::3]:1"];
    const V4: [&str; 2] = ["192.0.2.1:1", "192.0.2.2:1"];

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn race(texts: &[&str]) -> Race {
        Race::new(addresses(texts), Duration::ZERO)
    }

    #[test]
    fn families_take_turns_and_the_systems_first_begins() {
        let order = |texts: &[&str]| Vec::from(interleaved(addresses(texts)));
        let [a, b, c] = V6;
        let [x, y] = V4;
        assert_eq!(order(&[a, b, c, x, y]), addresses(&[a, x, b, y, c]));
        assert_eq!(order(&[x, y, a, b]), addresses(&[x, a, y, b]));
        assert_eq!(order(&[x, y]), addresses(&[x, y]));
        // A name that is in a file twice, and for streams as well as for datagrams.
        assert_eq!(order(&[a, a, x, a, x]), addresses(&[a, x]));
    }

    #[test]
    fn a_silent_address_is_not_waited_for_longer_than_a_quarter_of_a_second() {
        let mut race = race(&V4);
        let [first, second] = addresses(&V4)[..] else {
            unreachable!()
        };
        assert_eq!(race.next(Duration::ZERO), Some(first));
        assert_eq!(race.next(249 * MS), None);
        assert_eq!(race.next(250 * MS), Some(second));
        assert_eq!(race.next(10_000 * MS), None);
        assert!(!race.is_lost());
    }

    #[test]
    fn after_a_failure_the_next_address_is_tried_at_once() {
        let mut race = race(&V4);
        let first = race.next(Duration::ZERO).unwrap();
        race.failed(first, "refused".to_owned(), 5 * MS);
        assert!(race.next(5 * MS).is_some());
    }

    #[test]
    fn an_address_that_answers_has_a_second_to_exchange_keys_and_none_once_it_fails() {
        let mut race = race(&V6);
        let first = race.next(Duration::ZERO).unwrap();
        race.answered(100 * MS);
        assert_eq!(race.next(1_099 * MS), None);
        assert!(race.next(1_100 * MS).is_some());
        race.answered(1_150 * MS);
        race.failed(first, "cut".to_owned(), 1_200 * MS);
        assert!(race.next(1_200 * MS).is_some());
    }

    #[test]
    fn a_single_reason_stands_alone_and_several_are_counted() {
        let mut one = race(&V4[..1]);
        let address = one.next(Duration::ZERO).unwrap();
        one.failed(address, "no server runs there".to_owned(), MS);
        assert!(one.is_lost());
        assert_eq!(one.verdict("a:1"), "no server runs there");

        let mut two = race(&V4);
        for reason in ["no answer from x", "no server runs at y"] {
            let address = two.next(1_000 * MS).unwrap();
            two.failed(address, reason.to_owned(), 1_000 * MS);
        }
        assert_eq!(
            two.verdict("a:1"),
            "none of the 2 addresses of a:1 can be reached: no answer from x; no server runs at y"
        );
    }

    #[test]
    fn an_error_names_a_few_addresses_and_counts_those_that_were_never_tried() {
        let texts: Vec<_> = (1..=7).map(|last| format!("192.0.2.{last}:1")).collect();
        let mut race = race(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        for _ in 0..6 {
            let address = race.next(Duration::ZERO).unwrap();
            race.failed(address, "no".to_owned(), Duration::ZERO);
        }
        assert!(!race.is_lost());
        assert_eq!(
            race.verdict("a:1"),
            "6 of the 7 addresses of a:1 were tried in vain: no; no; no; no; and 2 more"
        );
    }
}
