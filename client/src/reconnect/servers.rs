//! Chooses the server to try next, and when: the server that a person gave, and those that the
//! newest [`Welcome`](cubesync_protocol::Welcome) named.
//!
//! After a session comes a first round, with short timeouts and, where there are other servers,
//! without a wait: the same server again, since the network may have been at fault, then each other
//! one. A client that reached none goes around them all with growing waits, beginning with the
//! server that was given: behind that name may be servers that no list has yet.

use std::time::Duration;

use super::backoff::{Backoff, LASTING};
use crate::session::Retry;

/// Longest time for connecting while there are other servers to try. It has room for several round
/// trips across an ocean, and is so short that a player hardly notices a silent machine.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// Longest silence of a server that has not let a player in while there are others to try. Where the
/// room's owner is gone, players wait until there is another one: a lease's age, and a moment.
const JOIN_WITHIN: Duration = Duration::from_secs(3);
/// Largest number of brief sessions in a row before the client waits. Servers that restart one after
/// the other move a player a few times; a server that lets players in and breaks does so for ever.
const MAX_QUICK_MOVES: u32 = 3;

/// The servers that a client knows.
#[derive(Debug, Clone)]
pub struct Servers {
    /// The server that a person gave.
    given: String,
    /// The server that let the client in last, and the others that it named.
    last: String,
    others: Vec<String>,
    /// The server of the connection or of the next try.
    at: String,
    /// The servers still to be tried in this round, each not before its time.
    round: Vec<(String, Duration)>,
    /// Whether short timeouts apply, because there are other servers to try.
    is_hasty: bool,
    /// The number of brief sessions in a row.
    brief: u32,
    /// Why the given server refuses for good, if it did in this round.
    refused: Option<String>,
    backoff: Backoff,
}

impl Servers {
    /// Makes a list of the given server alone. `seed` varies the waits.
    pub fn new(given: impl Into<String>, seed: u64) -> Self {
        let given = given.into();
        Self {
            at: given.clone(),
            last: given.clone(),
            given,
            others: Vec::new(),
            round: Vec::new(),
            is_hasty: false,
            brief: 0,
            refused: None,
            backoff: Backoff::new(seed),
        }
    }

    /// Returns the server of the connection or of the next try.
    pub fn at(&self) -> &str {
        &self.at
    }

    /// Returns how long connecting may take; `None` while there is no other server to try.
    pub fn connect_within(&self) -> Option<Duration> {
        self.is_hasty.then_some(CONNECT_WITHIN)
    }

    /// Returns how long the server may then take to let the client in; `None` as above.
    pub fn join_within(&self) -> Option<Duration> {
        self.is_hasty.then_some(JOIN_WITHIN)
    }

    /// Notes that the server has let the client in, and the others that it has named.
    pub fn joined(&mut self, others: Vec<String>) {
        self.last.clone_from(&self.at);
        self.others = others;
        self.round.clear();
        self.is_hasty = false;
        self.refused = None;
    }

    /// Chooses the next server after a connection or a try has ended; `lasted` says how long the
    /// client was in the room. Returns when to try the server that [`at`](Self::at) names then.
    ///
    /// # Errors
    /// Another try would be of no use; the text says why to a person.
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
        if let Some(lasted) = lasted {
            self.count(lasted);
            self.plan_first_round(now, retry);
        } else if retry == Retry::Elsewhere && self.at == self.given {
            self.refused = Some(reason);
        }
        if self.round.is_empty() {
            if let Some(reason) = self.refused.take() {
                return Err(reason);
            }
            self.plan_later_round(now, retry);
        }
        // The given server at least is in each round.
        let (server, not_before) = self.round.remove(0);
        self.at = server;
        Ok(not_before.max(now))
    }

    fn count(&mut self, lasted: Duration) {
        if lasted < LASTING {
            self.brief += 1;
        } else {
            self.brief = 0;
            self.backoff.reset();
        }
    }

    /// Plans a round that begins with the last server, unless it closed the connection, was silent
    /// or broke soon.
    fn plan_first_round(&mut self, now: Duration, retry: Retry) {
        let others = self.others.iter().chain([&self.given]);
        let others = others.filter(|&server| *server != self.last);
        self.round = each_once(others, now);
        self.is_hasty = !self.round.is_empty();
        let asked = asked_wait(retry);
        let is_first = self.brief == 0 && retry != Retry::OthersFirst && asked.is_zero();
        let place = if is_first { 0 } else { self.round.len() };
        self.round.insert(place, (self.last.clone(), now + asked));
        let has_reason_to_hurry = self.is_hasty || matches!(retry, Retry::After(_));
        if self.brief > MAX_QUICK_MOVES || !has_reason_to_hurry {
            self.put_off_round(now, retry);
        }
    }

    /// Plans a round that begins with the given server and ends with the last one.
    fn plan_later_round(&mut self, now: Duration, retry: Retry) {
        let others = self.others.iter().filter(|&server| *server != self.last);
        let all = [&self.given].into_iter().chain(others).chain([&self.last]);
        self.round = each_once(all, now);
        self.is_hasty = false;
        self.put_off_round(now, retry);
    }

    fn put_off_round(&mut self, now: Duration, retry: Retry) {
        let wait = self.backoff.next_wait().max(asked_wait(retry));
        self.round[0].1 = now + wait;
    }
}

/// Returns how long the server asked the client to stay away.
fn asked_wait(retry: Retry) -> Duration {
    match retry {
        Retry::After(wait) => wait,
        _ => Duration::ZERO,
    }
}

fn each_once<'a>(
    servers: impl Iterator<Item = &'a String>,
    not_before: Duration,
) -> Vec<(String, Duration)> {
    let mut round: Vec<(String, Duration)> = Vec::new();
    for server in servers {
        if round.iter().all(|(known, _)| known != server) {
            round.push((server.clone(), not_before));
        }
    }
    round
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GIVEN: &str = "given:1";
    const NOW: Duration = Duration::from_secs(100);
    const LASTED: Option<Duration> = Some(LASTING);
    const BRIEF: Option<Duration> = Some(Duration::from_millis(9_999));

    fn servers(others: &[&str]) -> Servers {
        let mut servers = Servers::new(GIVEN, 1);
        servers.joins(others);
        servers
    }

    impl Servers {
        fn joins(&mut self, others: &[&str]) {
            self.joined(others.iter().map(|&other| other.to_owned()).collect());
        }

        /// Returns the server to try after an end, and the wait before that.
        fn then(&mut self, retry: Retry, lasted: Option<Duration>) -> (String, Duration) {
            let at = self.next(NOW, "why".to_owned(), retry, lasted).unwrap();
            (self.at.clone(), at - NOW)
        }

        /// Returns the next tries, all of which fail.
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
        assert_eq!(servers.connect_within().or(servers.join_within()), None);
        assert_eq!(servers.then(Retry::Backoff, LASTED), at_once(GIVEN));
        let second = Duration::from_secs(1);
        assert_eq!(servers.connect_within(), Some(second));
        assert_eq!(servers.join_within(), Some(3 * second));
        assert_eq!(servers.tries(2), [at_once("b:1"), at_once("c:1")]);
    }

    #[test]
    fn later_rounds_begin_with_a_growing_wait_and_the_given_server_and_go_on_at_once() {
        let mut servers = servers(&["b:1", "c:1"]);
        servers.then(Retry::Backoff, LASTED);
        servers.tries(2);
        let mut backoff = Backoff::new(1);
        for _ in 0..3 {
            let given = (GIVEN.to_owned(), backoff.next_wait());
            assert_eq!(servers.tries(3), [given, at_once("b:1"), at_once("c:1")]);
            assert_eq!(servers.connect_within().or(servers.join_within()), None);
        }
    }

    #[test]
    fn after_several_brief_sessions_the_client_waits_before_the_next_try() {
        let (mut servers, mut backoff) = (servers(&["b:1"]), Backoff::new(1));
        let mut wait_after = |retry, lasted| {
            let (_, wait) = servers.then(retry, lasted);
            servers.joins(&["b:1"]);
            wait
        };
        let [none, long] = [0, 60].map(Duration::from_secs);
        for _ in 0..2 {
            for _ in 0..3 {
                assert_eq!(wait_after(Retry::Backoff, BRIEF), none);
            }
            for retry in [Retry::Backoff, Retry::OthersFirst, Retry::After(none)] {
                assert_eq!(wait_after(retry, BRIEF), backoff.next_wait());
            }
            assert_eq!(wait_after(Retry::After(long), BRIEF), long);
            assert_eq!(wait_after(Retry::Backoff, LASTED), none);
            backoff.next_wait();
            backoff.reset();
        }
    }

    #[test]
    fn a_server_that_broke_soon_is_tried_last_however_often_it_does() {
        let mut servers = servers(&["b:1", "c:1"]);
        for _ in 0..5 {
            assert_eq!(servers.then(Retry::Backoff, BRIEF).0, "b:1");
            assert_eq!(servers.tries(2), [at_once("c:1"), at_once(GIVEN)]);
            servers.joins(&["b:1", "c:1"]);
        }
    }

    #[test]
    fn after_a_lasting_session_the_waits_are_short_again() {
        let (mut servers, mut backoff) = (servers(&["b:1"]), Backoff::new(1));
        servers.then(Retry::Backoff, LASTED);
        servers.tries(1);
        for _ in 0..20 {
            servers.tries(2);
            backoff.next_wait();
        }
        servers.joins(&["b:1"]);
        servers.then(Retry::Backoff, LASTED);
        servers.tries(1);
        backoff.reset();
        assert_eq!(servers.tries(1)[0].1, backoff.next_wait());
    }

    #[test]
    fn a_server_that_said_goodbye_or_nothing_is_tried_last_and_not_before_it_asked_for() {
        let mut servers = servers(&["b:1"]);
        let wait = Duration::from_secs(2);
        assert_eq!(servers.then(Retry::After(wait), LASTED), at_once("b:1"));
        assert_eq!(servers.tries(1), [(GIVEN.to_owned(), wait)]);
        servers.joins(&["b:1"]);
        assert_eq!(servers.then(Retry::OthersFirst, LASTED), at_once("b:1"));
        assert_eq!(servers.tries(1), [at_once(GIVEN)]);
    }

    #[test]
    fn after_a_move_that_server_comes_first_then_those_it_named_then_the_given_one() {
        let mut servers = servers(&["b:1", "c:1"]);
        servers.then(Retry::Backoff, LASTED);
        servers.tries(1);
        assert_eq!(servers.at(), "b:1");
        servers.joins(&["d:1"]);
        assert_eq!(servers.then(Retry::Backoff, LASTED), at_once("b:1"));
        assert_eq!(servers.tries(2), [at_once("d:1"), at_once(GIVEN)]);
        let order = servers.tries(3).into_iter().map(|(server, _)| server);
        assert!(order.eq([GIVEN, "d:1", "b:1"]));
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
        for lasted in [LASTED, None, BRIEF] {
            assert_eq!(
                alone.then(Retry::Backoff, lasted),
                here(backoff.next_wait())
            );
        }
        let soon = Retry::After(Duration::ZERO);
        assert_eq!(alone.then(soon, LASTED), at_once(GIVEN));
        // A client that was not in the room has no reason to hurry.
        backoff.reset();
        assert_eq!(alone.then(soon, None), here(backoff.next_wait()));
        assert_eq!(alone.connect_within(), None);
        for retry in [Retry::Elsewhere, Retry::Never] {
            let end = alone.next(NOW, "wrong key".to_owned(), retry, None);
            assert_eq!(end, Err("wrong key".to_owned()));
        }
    }

    #[test]
    fn a_client_that_must_not_come_back_tries_no_server() {
        let mut servers = servers(&["b:1"]);
        let end = servers.next(NOW, "replaced".to_owned(), Retry::Never, LASTED);
        assert_eq!(end, Err("replaced".to_owned()));
    }

    proptest! {
        #[test]
        fn whatever_fails_every_server_has_its_turn_in_each_round(
            others in prop::collection::btree_set("[a-f]:1", 0..6),
            moved_after in 0..6_usize,
            failures in prop::collection::vec(0..4, 1..60),
        ) {
            let others: Vec<_> = others.into_iter().collect();
            let mut servers = Servers::new(GIVEN, 1);
            servers.joined(others.clone());
            servers.then(Retry::Backoff, LASTED);
            servers.tries(moved_after);
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
