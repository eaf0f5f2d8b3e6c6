//! The other servers of a cluster, each of which announces itself once a second.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use cubesync_protocol::ServerAddress;

use super::presence::{Presence, Rules};
use crate::bus::ServerId;

/// The silence after which a server counts as gone. Meanwhile it should have announced itself three
/// times.
const GONE_AFTER: Duration = Duration::from_secs(3);

/// The maximum number of servers that are remembered, so that invented ones cannot fill the memory.
const MAX_OTHERS: usize = 1_024;

/// The maximum number of servers that are gone but whose pages may still be open in browsers, and
/// how long these are remembered.
const MAX_LATE: usize = 64;
const LATE_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// The other servers of a cluster.
#[derive(Debug, Default)]
pub(super) struct Others {
    by_id: BTreeMap<ServerId, Seen>,
    /// The addresses of the pages of servers that are gone.
    late: VecDeque<(String, Instant)>,
}

#[derive(Debug)]
struct Seen {
    presence: Presence,
    at: Instant,
}

impl Others {
    /// Stores the presence of a server, and returns whether the server is a new one.
    pub(super) fn hear(&mut self, presence: Presence, now: Instant) -> bool {
        let is_new = !self.by_id.contains_key(&presence.id);
        if is_new && self.by_id.len() >= MAX_OTHERS {
            return false;
        }
        let seen = Seen { presence, at: now };
        self.by_id.insert(seen.presence.id, seen);
        is_new
    }

    /// Removes a server that has stopped, and returns its presence if it was known.
    pub(super) fn remove(&mut self, id: ServerId, now: Instant) -> Option<Presence> {
        let presence = self.by_id.remove(&id)?.presence;
        let page = presence.address.web.clone();
        self.late.retain(|(other, _)| *other != page);
        self.late.push_front((page, now));
        self.late.truncate(MAX_LATE);
        Some(presence)
    }

    /// Removes and returns the servers that have been silent for too long.
    pub(super) fn remove_silent(&mut self, now: Instant) -> Vec<Presence> {
        let silent = self
            .by_id
            .iter()
            .filter(|(_, seen)| now >= seen.at + GONE_AFTER);
        let silent: Vec<_> = silent.map(|(id, _)| *id).collect();
        silent
            .into_iter()
            .filter_map(|id| self.remove(id, now))
            .collect()
    }

    /// Returns one of them.
    pub(super) fn get(&self, id: ServerId) -> Option<&Presence> {
        self.by_id.get(&id).map(|seen| &seen.presence)
    }

    /// Returns all of them, ordered by id.
    pub(super) fn all(&self) -> impl Iterator<Item = &Presence> {
        self.by_id.values().map(|seen| &seen.presence)
    }

    /// Returns the addresses at which players reach those with these rules, each once: a server that
    /// was killed and is back is there twice for a moment, and those behind a load balancer have one
    /// address.
    pub(super) fn addresses(&self, rules: &Rules) -> Vec<ServerAddress> {
        let is_good = |other: &&Presence| other.is_reachable() && other.rules == *rules;
        let good = self.all().filter(is_good);
        let mut addresses: Vec<_> = good.map(|other| other.address.clone()).collect();
        addresses.sort_by(|a, b| (&a.tcp, &a.web).cmp(&(&b.tcp, &b.web)));
        addresses.dedup();
        addresses
    }

    /// Returns where their pages are, each once and in alphabetical order.
    pub(super) fn pages(&self) -> BTreeSet<&str> {
        let pages = self.all().map(|other| &*other.address.web);
        pages.filter(|page| !page.is_empty()).collect()
    }

    /// Returns whether one of them has its pages at `host:port`, or had them there lately.
    pub(super) fn have_page(&self, authority: &str, now: Instant) -> bool {
        let is_here = |presence: &Presence| presence.address.web == authority;
        let is_late = |(page, since): &(String, Instant)| {
            page == authority && now.saturating_duration_since(*since) < LATE_FOR
        };
        !authority.is_empty() && (self.all().any(is_here) || self.late.iter().any(is_late))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{presence, rules};
    use super::*;

    #[test]
    fn a_server_is_there_until_it_ends_or_is_silent() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut others = Others::default();
        assert!(others.hear(presence(1), start) && others.hear(presence(2), after(500)));
        assert!(!others.hear(presence(1), after(1_000)), "it was known");
        assert!(others.remove_silent(after(3_499)).is_empty());
        assert_eq!(others.remove_silent(after(3_500)), [presence(2)]);
        assert_eq!(others.remove(ServerId(1), after(3_600)), Some(presence(1)));
        assert_eq!(others.remove(ServerId(1), after(3_600)), None);
        assert_eq!(others.all().count(), 0);
    }

    #[test]
    fn players_are_told_each_address_of_a_server_with_the_same_rules_once() {
        let mut others = Others::default();
        let killed = presence(1);
        let back = Presence {
            id: ServerId(3),
            ..killed.clone()
        };
        for server in [&killed, &presence(2), &back] {
            others.hear(server.clone(), Instant::now());
        }
        let mut other = presence(4);
        other.rules.tick_hz = 60;
        others.hear(other, Instant::now());
        let expected = [killed.address, presence(2).address];
        assert_eq!(others.addresses(&rules()), expected);
        assert_eq!(others.pages().len(), 3);
    }

    #[test]
    fn pages_outlive_their_servers_for_a_day() {
        let start = Instant::now();
        let mut others = Others::default();
        others.hear(presence(1), start);
        let page = presence(1).address.web;
        assert!(others.have_page(&page, start));
        others.remove(ServerId(1), start);
        assert!(others.addresses(&rules()).is_empty());
        assert!(others.have_page(&page, start + LATE_FOR / 2));
        assert!(!others.have_page(&page, start + LATE_FOR));
        assert!(!others.have_page("elsewhere:80", start));
        for id in 2..100 {
            others.hear(presence(id), start);
            others.remove(ServerId(id), start);
        }
        assert!(!others.have_page(&page, start), "the oldest are forgotten");
    }

    #[test]
    fn who_invents_servers_fills_no_memory() {
        let now = Instant::now();
        let mut others = Others::default();
        for id in 0..2_000 {
            others.hear(presence(id), now);
        }
        assert_eq!(others.all().count(), MAX_OTHERS);
    }
}
