//! A member of a cluster, without I/O: it processes messages about servers and the time, and
//! produces the answers.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::clock::ClusterClock;
use super::presence::Others;
use super::profile::{Load, ServerProfile};
use super::words::{Presence, Word};
use crate::bus::{ServerId, Topic};

/// The intervals at which a server announces itself: the first for one that is new, the second for
/// all others.
const SPEAK_EVERY: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];

/// The maximum time for which a new server waits until others send it the time.
const SETTLE_WITHIN: Duration = Duration::from_secs(1);

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
    pub(super) clock: ClusterClock,
    pub(super) others: Others,
    began: Instant,
    speak_at: Instant,
    spoken: Option<Spoken>,
}

impl Member {
    /// Creates a member that knows neither other servers nor the time.
    pub(super) fn new(id: ServerId, now: Instant) -> Self {
        Self {
            id,
            clock: ClusterClock::new(now),
            others: Others::default(),
            began: now,
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
        if now >= self.began + SETTLE_WITHIN {
            self.clock.settle(now);
        }
        self.clock.follow(self.reference(), now);
        let mut said = Said::new();
        if now >= self.speak_at {
            let presence = self.presence(profile, load, now);
            self.spoken = Some(Spoken {
                presence: presence.clone(),
                load,
                at: now,
            });
            said.push((Topic::Servers, Word::Here(Box::new(presence))));
            self.speak_at = now + SPEAK_EVERY[usize::from(self.is_settled())];
        }
        if let Some((whom, ping)) = self.clock.ask(self.id, now) {
            said.push((Topic::Server(whom), Word::Ping(ping)));
        }
        said
    }

    /// Returns when the next turn is due.
    pub(super) fn turn_at(&self) -> Instant {
        let settle = (!self.is_settled()).then_some(self.began + SETTLE_WITHIN);
        let dues = [settle, self.clock.ask_at(), self.others.next_silent()];
        dues.into_iter().flatten().fold(self.speak_at, Instant::min)
    }

    /// Processes a message that arrived at `came`, and returns the answer, if there is one.
    pub(super) fn hear(
        &mut self,
        word: Word,
        profile: &ServerProfile,
        came: Instant,
        now: Instant,
    ) -> Said {
        match word {
            Word::Here(presence) if presence.id == self.id => {
                error!(id = %self.id, "another server has drawn the same number: start one of them again");
            }
            Word::Here(presence) => {
                self.clock.hear(presence.time_ns, now);
                self.meet(presence.clean(), profile, now);
            }
            Word::Gone(id) => {
                if let Some(gone) = self.others.remove(id, now) {
                    info!(%id, players = gone.address.tcp, "a server has left the cluster");
                }
            }
            Word::Ping(ping) => {
                self.clock.hear(ping.time_ns, now);
                let pong = self.clock.answer(self.id, ping, came, now);
                return vec![(Topic::Server(ping.from), Word::Pong(pong))];
            }
            Word::Pong(pong) => self.clock.learn(pong, came, now),
        }
        Said::new()
    }

    /// Returns whether it knows the time.
    pub(super) fn is_settled(&self) -> bool {
        self.clock.joined_ns().is_some()
    }

    fn presence(&self, profile: &ServerProfile, load: Load, now: Instant) -> Presence {
        Presence {
            id: self.id,
            time_ns: self.clock.timeline().time_ns(now),
            joined_ns: self.clock.joined_ns(),
            rules: profile.rules,
            address: profile.address.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            players: load.players,
            rooms: load.rooms,
            cubes: load.cubes,
            sent_bytes_per_s: self.rate(|load| load.sent_bytes, load, now),
            received_bytes_per_s: self.rate(|load| load.received_bytes, load, now),
            clock_offset_us: self.clock.found_ns() / 1_000,
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
        let soonest = spoken.map_or(now, |spoken| spoken.at + SPEAK_EVERY[0]);
        self.speak_at = self.speak_at.min(soonest.max(now));
    }

    /// Returns the server that the others follow, which is the one that has been in the cluster for
    /// the longest time. `None` means this one. Servers that do not know the time yet come last.
    fn reference(&self) -> Option<ServerId> {
        let rank = |joined_ns: Option<u64>, id| (joined_ns.unwrap_or(u64::MAX), id);
        let others = self.others.all();
        let first = others.map(|other| rank(other.joined_ns, other.id)).min()?;
        (first < rank(self.clock.joined_ns(), self.id)).then_some(first.1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{address, presence, rules};
    use super::super::timeline::MAX_TIME_NS;
    use super::super::words::{Ping, Pong};
    use super::*;

    /// Generates small and huge numbers, and some that could be real.
    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![
            0..3_u64,
            0..10_000_000_000_u64,
            u64::MAX - 2..=u64::MAX,
            any::<u64>()
        ]
    }

    fn word() -> impl Strategy<Value = Word> {
        let id = || (0..4_u32).prop_map(ServerId);
        let here = (id(), number(), prop::option::of(number()), any::<i64>());
        let here = here.prop_map(|(id, time_ns, joined_ns, clock_offset_us)| {
            Word::Here(Box::new(Presence {
                id,
                time_ns,
                joined_ns,
                clock_offset_us,
                ..presence(1)
            }))
        });
        let ping = (id(), number(), number()).prop_map(|(from, sent_ns, time_ns)| {
            Word::Ping(Ping {
                from,
                sent_ns,
                time_ns,
            })
        });
        let pong = (id(), number(), number(), number(), any::<bool>());
        let pong = pong.prop_map(|(from, sent_ns, received_ns, answered_ns, is_settled)| {
            Word::Pong(Pong {
                from,
                sent_ns,
                received_ns,
                answered_ns,
                is_settled,
            })
        });
        prop_oneof![here, ping, pong, id().prop_map(Word::Gone)]
    }

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

    proptest! {
        #[test]
        fn whatever_is_said_time_goes_on_and_not_back(
            words in prop::collection::vec((word(), 0..2_000_u64), 1..60)
        ) {
            let profile = ServerProfile { rules: rules(), address: address(0) };
            let began = Instant::now();
            let mut now = began;
            let mut member = Member::new(ServerId(0), now);
            let mut last_ns = 0;
            for (word, pause_ms) in words {
                let heard = Word::decode(&word.encode()).unwrap();
                prop_assert_eq!(&heard, &word);
                member.hear(heard, &profile, now, now);
                now += Duration::from_millis(pause_ms);
                member.turn(&profile, Load::default(), now);
                prop_assert!(member.turn_at() > now);
                if member.is_settled() {
                    let time_ns = member.clock.timeline().time_ns(now);
                    prop_assert!(time_ns >= last_ns);
                    last_ns = time_ns;
                }
            }
            let longest_ns = MAX_TIME_NS + 2 * u64::try_from((now - began).as_nanos()).unwrap();
            prop_assert!(last_ns <= longest_ns);
        }
    }
}
