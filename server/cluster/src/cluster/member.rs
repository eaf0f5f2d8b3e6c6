//! A member of a cluster, without I/O: it processes messages about servers, and says what to send.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::presence::Others;
use super::profile::{Load, ServerProfile};
use super::words::{Presence, Word};
use crate::bus::{ServerId, Topic};

/// The interval at which a server announces itself.
const SPEAK_EVERY: Duration = Duration::from_secs(1);

/// The shortest time between two announcements: a new server is answered soon.
const SPEAK_AFTER: Duration = Duration::from_millis(50);

/// The maximum number of servers that a page's policy names. The policy is a header of every
/// response and has each address twice: 64 of the length of `eu1.game.example:8080` are 3.4 KiB,
/// and nginx passes on no headers of more than 4 or 8 KiB unless it is configured to.
const MAX_PAGES: usize = 64;

/// Messages and their topics.
pub(super) type Said = Vec<(Topic, Word)>;

/// The last announcement of this server, and its time.
#[derive(Debug)]
struct Spoken {
    presence: Presence,
    load: Load,
    at: Instant,
}

/// A server's knowledge of its cluster.
#[derive(Debug)]
pub(super) struct Member {
    id: ServerId,
    pub(super) others: Others,
    speak_at: Instant,
    spoken: Option<Spoken>,
}

impl Member {
    /// Creates a member that knows no other servers.
    pub(super) fn new(id: ServerId, now: Instant) -> Self {
        Self {
            id,
            others: Others::default(),
            speak_at: now,
            spoken: None,
        }
    }

    /// Returns its last announcement.
    pub(super) fn spoken(&self) -> Option<&Presence> {
        self.spoken.as_ref().map(|spoken| &spoken.presence)
    }

    /// Returns where the pages of all servers are, each once: its own come first, the others'
    /// follow in alphabetical order.
    pub(super) fn pages(&self) -> Vec<String> {
        let own = self.spoken().map(|own| own.address.web.clone());
        let others = self.others.addresses().into_iter();
        let others: BTreeSet<_> = others.map(|other| other.web).collect();
        let others = others.into_iter().filter(|page| own.as_ref() != Some(page));
        own.iter().cloned().chain(others).take(MAX_PAGES).collect()
    }

    /// Does what is due, and returns the messages to send.
    pub(super) fn turn(&mut self, profile: &ServerProfile, load: Load, now: Instant) -> Said {
        for silent in self.others.remove_silent(now) {
            let (id, players) = (silent.id, silent.address.tcp);
            warn!(%id, players, "a server of the cluster is silent");
        }
        let mut said = Said::new();
        if now >= self.speak_at {
            let presence = self.presence(profile, load, now);
            self.spoken = Some(Spoken {
                presence: presence.clone(),
                load,
                at: now,
            });
            said.push((Topic::Servers, Word::Here(Box::new(presence))));
            self.speak_at = now + SPEAK_EVERY;
        }
        said
    }

    /// Returns when the next turn is due.
    pub(super) fn turn_at(&self) -> Instant {
        let silent = self.others.next_silent();
        silent.map_or(self.speak_at, |silent| silent.min(self.speak_at))
    }

    /// Processes a message.
    pub(super) fn hear(&mut self, word: Word, profile: &ServerProfile, now: Instant) {
        match word {
            Word::Here(presence) if presence.id == self.id => {
                error!(id = %self.id, "another server has drawn the same number: start one of them again");
            }
            Word::Here(presence) => self.meet(presence.clean(), profile, now),
            Word::Gone(id) => {
                if let Some(gone) = self.others.remove(id, now) {
                    info!(%id, players = gone.address.tcp, "a server has left the cluster");
                }
            }
        }
    }

    fn presence(&self, profile: &ServerProfile, load: Load, now: Instant) -> Presence {
        Presence {
            id: self.id,
            rules: profile.rules,
            address: profile.address.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            players: load.players,
            rooms: load.rooms,
            cubes: load.cubes,
            sent_bytes_per_s: self.rate(|load| load.sent_bytes, load, now),
            received_bytes_per_s: self.rate(|load| load.received_bytes, load, now),
        }
    }

    /// Returns how fast a number has grown since the last announcement.
    fn rate(&self, number: impl Fn(&Load) -> u64, load: Load, now: Instant) -> u64 {
        let rate = self.spoken.as_ref().map(|spoken| {
            let more = number(&load).saturating_sub(number(&spoken.load));
            let since = now.saturating_duration_since(spoken.at);
            // `as` saturates; two announcements never have the same time.
            (more as f64 / since.as_secs_f64().max(0.001)) as u64
        });
        rate.unwrap_or_default()
    }

    fn meet(&mut self, presence: Presence, profile: &ServerProfile, now: Instant) {
        let (id, rules) = (presence.id, presence.rules);
        let (players, version) = (presence.address.tcp.clone(), presence.version.clone());
        if !self.others.hear(presence, now) {
            return;
        }
        info!(%id, players, version, "a server of the cluster is there");
        if rules != profile.rules {
            error!(
                %id,
                players,
                theirs = ?rules,
                ours = ?profile.rules,
                "that server has another --tick or --view-distance: the rooms will not be the same"
            );
        }
        // The new server should soon know of this one, but a flood of messages must not cause a
        // flood of answers.
        let spoken = self.spoken.as_ref();
        let soonest = spoken.map_or(now, |spoken| spoken.at + SPEAK_AFTER);
        self.speak_at = self.speak_at.min(soonest.max(now));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{address, presence, rules};
    use super::*;

    #[test]
    fn a_policy_names_all_servers_and_always_the_same_ones() {
        let now = Instant::now();
        let profile = ServerProfile {
            rules: rules(),
            address: address(30),
        };
        let mut member = Member::new(ServerId(30), now);
        member.turn(&profile, Load::default(), now);
        for id in (0..30).rev() {
            member.others.hear(presence(id), now);
        }
        let page = |id| address(id).web;
        let expected: Vec<_> = [30].into_iter().chain(0..30).map(page).collect();
        assert_eq!(member.pages(), expected);
        // This is another server at the same address, such as one that was killed and is back.
        let back = Presence {
            address: address(30),
            ..presence(200)
        };
        member.others.hear(back, now);
        assert_eq!(member.pages(), expected);
    }

    #[test]
    fn a_policy_has_an_end() {
        let now = Instant::now();
        let mut member = Member::new(ServerId(0), now);
        for id in 1..200 {
            member.others.hear(presence(id), now);
        }
        let expected: Vec<_> = (1..=64).map(|id| address(id).web).collect();
        assert_eq!(member.pages(), expected);
    }
}
