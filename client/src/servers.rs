//! Which server to try next, and when: the one that a person gave, and those that the newest
//! [`Welcome`](cubesync_protocol::Welcome) named.
//!
//! After a lost connection comes one fast round: the same server again, since the network may
//! have been at fault, then every other one, without a wait and with little patience. Whoever
//! found nobody goes on around them all with growing waits.

use std::time::Duration;

use cubesync_protocol::ServerAddress;
use cubesync_protocol::limits::{MAX_ADDRESS_CHARS, MAX_SERVERS};

use crate::backoff::Backoff;
use crate::session_event::Retry;

/// How long a server may take to answer while others wait: several round trips across an ocean,
/// and short enough that a player hardly notices a machine that is silent.
const PATIENCE: Duration = Duration::from_secs(1);

/// The servers that a client knows.
#[derive(Debug, Clone)]
pub struct Servers {
    given: String,
    /// The one that let the client in last, and the others that it named.
    last: String,
    others: Vec<String>,
    at: String,
    /// Still to be tried in this round, each not before its time.
    round: Vec<(String, Duration)>,
    is_fast: bool,
    /// Why the given server refuses for good, if it did in this round.
    refused: Option<String>,
    backoff: Backoff,
}

impl Servers {
    /// Only the one that was given. `seed` varies the waits.
    pub fn new(given: impl Into<String>, seed: u64) -> Self {
        let given = given.into();
        Self {
            at: given.clone(),
            last: given.clone(),
            given,
            others: Vec::new(),
            round: Vec::new(),
            is_fast: false,
            refused: None,
            backoff: Backoff::new(seed),
        }
    }

    /// The server of the connection, or of the next try.
    pub fn at(&self) -> &str {
        &self.at
    }

    /// How long it may take to connect, and again to be let in; `None` while nobody else is worth
    /// the hurry.
    pub fn patience(&self) -> Option<Duration> {
        self.is_fast.then_some(PATIENCE)
    }

    /// The server let the client in and names the others.
    pub fn joined(&mut self, others: Vec<String>) {
        self.last.clone_from(&self.at);
        self.others = others;
        self.round.clear();
        self.is_fast = false;
        self.refused = None;
    }

    /// A connection or a try is over; `lasted` says how long the client was in the room. Returns
    /// when to try the server that it is [`at`](Self::at) now.
    ///
    /// # Errors
    /// It is of no use: why, for a person.
    pub fn next(
        &mut self,
        now: Duration,
        reason: String,
        retry: Retry,
        lasted: Option<Duration>,
    ) -> Result<Duration, String> {
        if retry == Retry::Never {
            return Err(reason);
        }
        if lasted.is_some() {
            self.plan_fast_round(now, retry);
        } else if retry == Retry::Elsewhere && self.at == self.given {
            self.refused = Some(reason);
        }
        if self.round.is_empty() {
            if let Some(reason) = self.refused.take() {
                return Err(reason);
            }
            self.is_fast = false;
            self.round = self.all().map(|server| (server, now)).collect();
        }
        let wait = match retry {
            _ if self.is_fast => Duration::ZERO,
            Retry::After(wait) => wait,
            _ => self.backoff.next(lasted.unwrap_or_default()),
        };
        // The given one at least is there.
        let (server, not_before) = self.round.remove(0);
        self.at = server;
        Ok(not_before.max(now + wait))
    }

    /// The server that was left first, unless it said goodbye or nothing.
    fn plan_fast_round(&mut self, now: Duration, retry: Retry) {
        let others = self.all().filter(|server| *server != self.last);
        self.round = others.map(|server| (server, now)).collect();
        self.is_fast = !self.round.is_empty();
        match retry {
            Retry::After(wait) if !wait.is_zero() => {
                self.round.push((self.last.clone(), now + wait));
            }
            Retry::OthersFirst => self.round.push((self.last.clone(), now)),
            _ => self.round.insert(0, (self.last.clone(), now)),
        }
    }

    /// Each once: the others in their order, the last one, the given one.
    fn all(&self) -> impl Iterator<Item = String> {
        let mut all = Vec::with_capacity(self.others.len() + 2);
        for server in self.others.iter().chain([&self.last, &self.given]) {
            if !all.contains(server) {
                all.push(server.clone());
            }
        }
        all.into_iter()
    }
}

/// The part of a server's list that can be used.
pub fn usable(mut servers: Vec<ServerAddress>) -> Vec<ServerAddress> {
    servers.truncate(MAX_SERVERS);
    servers.retain(|server| is_address(&server.tcp) && is_address(&server.web));
    servers
}

/// Whether a stranger's text is `host:port`, with nothing in it that an address of the web could
/// mean otherwise.
fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let is_ipv6 = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':');
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let is_host = match bracketed {
        Some(address) => address.contains(':') && address.bytes().all(is_ipv6),
        None => !host.is_empty() && host.bytes().all(is_name),
    };
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    is_host
        && is_number
        && port.parse::<u16>().is_ok_and(|port| port > 0)
        && text.len() <= MAX_ADDRESS_CHARS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GIVEN: &str = "given:1";
    const NOW: Duration = Duration::from_secs(100);
    const LASTED: Option<Duration> = Some(Duration::from_secs(60));

    fn servers(others: &[&str]) -> Servers {
        let mut servers = Servers::new(GIVEN, 1);
        servers.joined(others.iter().map(|&other| other.to_owned()).collect());
        servers
    }

    impl Servers {
        /// Where to go after an end, and after what wait.
        fn then(&mut self, retry: Retry, lasted: Option<Duration>) -> (String, Duration) {
            let at = self.next(NOW, "why".to_owned(), retry, lasted).unwrap();
            (self.at.clone(), at - NOW)
        }

        /// The next tries, all of which fail.
        fn tries(&mut self, count: usize) -> Vec<(String, Duration)> {
            (0..count)
                .map(|_| self.then(Retry::Backoff, None))
                .collect()
        }
    }

    fn at_once(server: &str) -> (String, Duration) {
        (server.to_owned(), Duration::ZERO)
    }

    #[test]
    fn after_a_loss_the_same_server_and_then_every_other_one_are_tried_at_once() {
        let mut servers = servers(&["b:1", "c:1"]);
        assert_eq!(servers.patience(), None);
        assert_eq!(servers.then(Retry::Backoff, LASTED), at_once(GIVEN));
        assert_eq!(servers.patience(), Some(PATIENCE));
        assert_eq!(servers.tries(2), [at_once("b:1"), at_once("c:1")]);
        // From here on around them all, with waits and as much patience as ever.
        let later = servers.tries(6);
        let order: Vec<_> = later.iter().map(|(server, _)| server.as_str()).collect();
        assert_eq!(order, ["b:1", "c:1", GIVEN, "b:1", "c:1", GIVEN]);
        assert!(later.iter().all(|(_, wait)| !wait.is_zero()));
        assert_eq!(servers.patience(), None);
    }

    #[test]
    fn a_server_that_said_goodbye_or_nothing_is_tried_last_and_not_before_it_asked_for() {
        let mut servers = servers(&["b:1"]);
        let wait = Duration::from_secs(2);
        assert_eq!(servers.then(Retry::After(wait), LASTED), at_once("b:1"));
        assert_eq!(servers.tries(1), [(GIVEN.to_owned(), wait)]);
        servers.joined(vec!["b:1".to_owned()]);
        assert_eq!(servers.then(Retry::OthersFirst, LASTED), at_once("b:1"));
        assert_eq!(servers.tries(1), [at_once(GIVEN)]);
    }

    #[test]
    fn who_moved_tries_that_server_first_its_list_counts_and_the_given_one_is_not_forgotten() {
        let mut servers = servers(&["b:1", "c:1"]);
        servers.then(Retry::Backoff, LASTED);
        servers.tries(1);
        assert_eq!(servers.at(), "b:1");
        servers.joined(vec!["d:1".to_owned()]);
        assert_eq!(servers.then(Retry::Backoff, LASTED), at_once("b:1"));
        assert_eq!(servers.tries(2), [at_once("d:1"), at_once(GIVEN)]);
        let order = servers.tries(3).into_iter().map(|(server, _)| server);
        assert!(order.eq(["d:1", "b:1", GIVEN]));
    }

    #[test]
    fn a_refusal_by_another_server_ends_nothing_and_one_by_the_given_one_only_if_nobody_else_helps()
    {
        let mut servers = servers(&["b:1", "c:1"]);
        servers.then(Retry::Backoff, LASTED);
        let moves = servers.then(Retry::Elsewhere, None);
        assert_eq!(moves, at_once("b:1"));
        assert_eq!(servers.then(Retry::Elsewhere, None), at_once("c:1"));
        let end = servers.next(NOW, "no answer".to_owned(), Retry::Backoff, None);
        assert_eq!(end, Err("why".to_owned()));
    }

    #[test]
    fn alone_it_waits_as_the_server_asks_or_longer_and_longer() {
        let mut alone = servers(&[]);
        let wait = Duration::from_secs(2);
        let here = |wait| (GIVEN.to_owned(), wait);
        assert_eq!(alone.then(Retry::After(wait), LASTED), here(wait));
        let mut backoff = Backoff::new(1);
        for lasted in [LASTED, None, None] {
            let expected = backoff.next(lasted.unwrap_or_default());
            assert_eq!(alone.then(Retry::Backoff, lasted), here(expected));
        }
        assert_eq!(alone.patience(), None);
        for retry in [Retry::Elsewhere, Retry::Never] {
            let end = alone.next(NOW, "wrong key".to_owned(), retry, None);
            assert_eq!(end, Err("wrong key".to_owned()));
        }
    }

    #[test]
    fn who_was_sent_away_for_good_goes_nowhere() {
        let mut servers = servers(&["b:1"]);
        let end = servers.next(NOW, "replaced".to_owned(), Retry::Never, LASTED);
        assert_eq!(end, Err("replaced".to_owned()));
    }

    #[test]
    fn an_address_is_host_and_port_and_nothing_else() {
        let longest = format!("{}:65535", "a".repeat(253));
        for good in [
            "b.game.example:14900",
            "10.0.0.1:1",
            "[2001:db8::2]:8080",
            &longest,
        ] {
            assert!(is_address(good), "{good}");
        }
        let longer = format!("{}:65535", "a".repeat(254));
        for bad in [
            "",
            "b",
            ":1",
            "b:",
            "b:0",
            "b:65536",
            "b:+1",
            "b c:1",
            "a@b:1",
            "b/c:1",
            "b:1/c",
            "b:1 ",
            "::1:1",
            "[b]:1",
            "[::1:1",
            "tls://b:1",
            "b\n:1",
            "b?c:1",
            "б:1",
            &longer,
        ] {
            assert!(!is_address(bad), "{bad:?}");
        }
    }

    #[test]
    fn of_a_list_what_is_too_much_or_no_address_is_left_out() {
        let address = |tcp: &str, web: &str| ServerAddress {
            tcp: tcp.to_owned(),
            web: web.to_owned(),
        };
        let good = address("b:1", "b:2");
        let mut list = vec![address("b", "b:2"), good.clone(), address("b:1", "evil/:2")];
        list.extend(vec![good.clone(); 100]);
        assert_eq!(usable(list), vec![good; MAX_SERVERS - 2]);
    }

    proptest! {
        #[test]
        fn whatever_fails_every_server_has_its_turn_in_each_round(
            others in prop::collection::btree_set("[a-f]:1", 0..6),
            failures in prop::collection::vec(0..4, 1..60),
        ) {
            let others: Vec<_> = others.into_iter().collect();
            let mut servers = Servers::new(GIVEN, 1);
            servers.joined(others.clone());
            let mut lasted = LASTED;
            let mut tried = Vec::new();
            for failure in failures {
                // Refused for good, others do not help the given one: that end is tested above.
                let retry = match failure {
                    0 if servers.at() != GIVEN => Retry::Elsewhere,
                    1 => Retry::After(Duration::from_millis(1_500)),
                    _ => Retry::Backoff,
                };
                let (server, wait) = servers.then(retry, lasted.take());
                prop_assert!(wait <= Duration::from_secs(10));
                prop_assert!(server == GIVEN || others.contains(&server));
                tried.push(server);
            }
            for round in tried.chunks_exact(others.len() + 1) {
                let mut round = round.to_vec();
                round.sort_unstable();
                round.dedup();
                prop_assert_eq!(round.len(), others.len() + 1);
            }
        }
    }
}
