//! A simulation of servers with bad clocks on a bad network, and the time they agree on.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use fastrand::Rng;
use proptest::prelude::*;

use super::member::{Member, Said};
use super::profile::{Load, ServerProfile};
use super::testing::{address, rules};
use super::words::Word;
use crate::bus::{ServerId, Topic};

const SECOND_NS: u64 = 1_000_000_000;

/// A server with a clock of its own.
struct Server {
    member: Member,
    profile: ServerProfile,
    /// The true times at which it starts and stops.
    life_ns: std::ops::Range<u64>,
    /// Its clock relative to true time: the instant it shows at 0, and by how much it runs too
    /// fast.
    zero: Instant,
    drift_ppm: i64,
    /// The delay to it and from it, without jitter.
    way_ns: [u64; 2],
    last_ns: u64,
    /// The time of its next turn. Turns that were scheduled before are void.
    turn_ns: u64,
}

/// An event at a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Turn,
    /// The arrival of the message with that index.
    Heard(usize),
}

struct World {
    now_ns: u64,
    servers: Vec<Server>,
    events: BinaryHeap<Reverse<(u64, usize, Event)>>,
    words: Vec<Word>,
    rng: Rng,
    /// The time in which no message arrives.
    cut_ns: std::ops::Range<u64>,
    /// The server whose outgoing messages are held up, and the time until whose end they wait.
    held_up_ns: (usize, std::ops::Range<u64>),
    jitter_ns: u64,
    loss_percent: u32,
}

impl Server {
    fn own(&self, true_ns: u64) -> Instant {
        let drifted = i128::from(true_ns) * i128::from(self.drift_ppm) / 1_000_000;
        let own_ns = i128::from(true_ns) + drifted;
        self.zero + Duration::from_nanos(u64::try_from(own_ns).unwrap())
    }

    /// Returns the first true time at which its clock shows that instant.
    fn true_ns(&self, own: Instant) -> u64 {
        let own_ns = own.saturating_duration_since(self.zero).as_nanos();
        let rate = u128::try_from(1_000_000 + self.drift_ppm).unwrap();
        u64::try_from(own_ns * 1_000_000 / rate).unwrap() + 1
    }

    fn time_ns(&self, true_ns: u64) -> u64 {
        self.member.clock.timeline().time_ns(self.own(true_ns))
    }
}

impl World {
    fn run(&mut self, until_ns: u64) {
        while let Some(&Reverse((at_ns, index, event))) = self.events.peek() {
            if at_ns > until_ns {
                break;
            }
            self.events.pop();
            self.now_ns = at_ns;
            self.happen(index, event);
        }
        self.now_ns = until_ns;
    }

    fn happen(&mut self, index: usize, event: Event) {
        let now_ns = self.now_ns;
        let server = &mut self.servers[index];
        let is_due = event != Event::Turn || server.turn_ns == now_ns;
        if !server.life_ns.contains(&now_ns) || !is_due {
            return;
        }
        let now = server.own(now_ns);
        let mut said = Said::new();
        if let Event::Heard(word) = event {
            let word = self.words[word].clone();
            said.extend(server.member.hear(word, &server.profile, now, now));
        }
        said.extend(server.member.turn(&server.profile, Load::default(), now));
        if server.member.is_settled() {
            let time_ns = server.time_ns(now_ns);
            assert!(time_ns >= server.last_ns, "time went back");
            server.last_ns = time_ns;
        }
        let turn_ns = server.true_ns(server.member.turn_at()).max(now_ns + 1);
        if turn_ns != server.turn_ns {
            server.turn_ns = turn_ns;
            self.events.push(Reverse((turn_ns, index, Event::Turn)));
        }
        said.into_iter()
            .for_each(|(topic, word)| self.carry(index, topic, word));
    }

    fn carry(&mut self, from: usize, topic: Topic, word: Word) {
        if self.cut_ns.contains(&self.now_ns) {
            return;
        }
        self.words.push(word);
        for to in (0..self.servers.len()).filter(|&to| to != from) {
            let is_for = match topic {
                Topic::Server(id) => id == id_of(to),
                _ => true,
            };
            if is_for && self.rng.u32(..100) >= self.loss_percent {
                let jitter_ns = (self.rng.f64().powi(4) * self.jitter_ns as f64) as u64;
                let way_ns = self.servers[from].way_ns[0] + self.servers[to].way_ns[1];
                let at_ns = match &self.held_up_ns {
                    (server, time) if *server == from && time.contains(&self.now_ns) => time.end,
                    _ => self.now_ns + way_ns + jitter_ns,
                };
                let event = Event::Heard(self.words.len() - 1);
                self.events.push(Reverse((at_ns, to, event)));
            }
        }
    }

    /// Returns by how much the times of the running servers differ.
    fn difference_ns(&self) -> u64 {
        let live = self
            .servers
            .iter()
            .filter(|server| server.life_ns.contains(&self.now_ns));
        let times: Vec<_> = live.map(|server| server.time_ns(self.now_ns)).collect();
        times.iter().max().unwrap() - times.iter().min().unwrap()
    }
}

fn id_of(index: usize) -> ServerId {
    ServerId(index as u32 + 1)
}

/// Creates a simulated world. `lives_ms` are in milliseconds.
fn world(seed: u64, lives_ms: &[std::ops::Range<u64>], drifts_ppm: &[i64]) -> World {
    let mut rng = Rng::with_seed(seed);
    let base = Instant::now() + Duration::from_secs(100_000);
    let lives = lives_ms.iter().enumerate();
    let servers: Vec<_> = lives
        .map(|(index, life)| {
            let life_ns = life.start * 1_000_000..life.end * 1_000_000;
            let mut server = Server {
                member: Member::new(id_of(index), base),
                profile: ServerProfile {
                    rules: rules(),
                    address: address(index as u32),
                },
                zero: base + Duration::from_millis(rng.u64(..3_600_000)),
                drift_ppm: drifts_ppm[index],
                way_ns: [rng.u64(20_000..500_000), rng.u64(20_000..500_000)],
                last_ns: 0,
                turn_ns: life_ns.start,
                life_ns,
            };
            server.member = Member::new(id_of(index), server.own(server.life_ns.start));
            server
        })
        .collect();
    let starts = servers.iter().enumerate();
    let events = starts.map(|(index, server)| Reverse((server.life_ns.start, index, Event::Turn)));
    World {
        now_ns: 0,
        events: events.collect(),
        servers,
        words: Vec::new(),
        rng,
        cut_ns: 0..0,
        held_up_ns: (0, 0..0),
        jitter_ns: 20_000_000,
        loss_percent: 5,
    }
}

const ALWAYS: u64 = u64::MAX / 1_000_000;

#[test]
fn who_joins_knows_the_time_before_it_opens_a_room() {
    for seed in 0..50 {
        let mut world = world(
            seed,
            &[0..ALWAYS, 60_000..ALWAYS, 60_100..ALWAYS],
            &[50, -50, 0],
        );
        world.run(61 * SECOND_NS + SECOND_NS / 10);
        assert!(
            world
                .servers
                .iter()
                .all(|server| server.member.is_settled())
        );
        let difference_ns = world.difference_ns();
        assert!(difference_ns < 3_000_000, "{seed}: {difference_ns}");
        assert!(world.servers[0].time_ns(world.now_ns) > 61 * SECOND_NS);
    }
}

#[test]
fn who_joins_and_hears_late_turns_nobodys_clock() {
    for seed in 0..50 {
        let mut world = world(seed, &[0..ALWAYS, 10_000..ALWAYS], &[20, -20]);
        world.jitter_ns = 100_000;
        // The answers to the new server's first questions are held up, and few have come before.
        world.held_up_ns = (0, 10 * SECOND_NS + 1_000_000..10 * SECOND_NS + 600_000_000);
        world.run(14 * SECOND_NS);
        let time_ns = world.servers[0].time_ns(world.now_ns);
        let ahead_ns = time_ns.saturating_sub(14 * SECOND_NS);
        assert!(ahead_ns < 10_000_000, "{seed}: {ahead_ns}");
        assert!(world.difference_ns() < 3_000_000, "{seed}");
    }
}

#[test]
fn the_first_one_leaves_and_time_goes_on() {
    let mut world = world(
        7,
        &[0..20_000, 5_000..ALWAYS, 6_000..40_000, 30_000..ALWAYS],
        &[0, 80, -80, 40],
    );
    for second in 8..60 {
        world.run(second * SECOND_NS);
        let difference_ns = world.difference_ns();
        assert!(
            difference_ns < 4_000_000 || second == 30,
            "{second}: {difference_ns}"
        );
    }
    assert!(world.servers[1].time_ns(world.now_ns) > 58 * SECOND_NS);
}

#[test]
fn those_that_started_apart_agree_when_they_meet_and_who_is_behind_steps() {
    let mut world = world(
        3,
        &[0..ALWAYS, 9_000..ALWAYS, 9_100..ALWAYS],
        &[0, 100, -100],
    );
    world.cut_ns = 0..20 * SECOND_NS;
    world.run(20 * SECOND_NS);
    let ahead_ns = world.servers[0].time_ns(world.now_ns);
    world.run(22 * SECOND_NS);
    assert!(world.servers[2].time_ns(world.now_ns) >= ahead_ns);
    world.run(40 * SECOND_NS);
    assert!(world.difference_ns() < 3_000_000);
}

#[test]
fn who_hears_late_does_not_think_that_it_is_late() {
    for seed in 0..50 {
        let mut world = world(seed, &[0..ALWAYS, 100..ALWAYS, 200..ALWAYS], &[20, -20, 0]);
        world.jitter_ns = 100_000;
        // Silence comes first, so that no server remembers better answers.
        world.cut_ns = 10 * SECOND_NS..14 * SECOND_NS;
        world.held_up_ns = (1, 14 * SECOND_NS..15 * SECOND_NS - 100_000_000);
        for tenth in 100..250 {
            world.run(tenth * SECOND_NS / 10);
            let difference_ns = world.difference_ns();
            assert!(
                difference_ns < 8_000_000,
                "{seed}, {tenth}: {difference_ns}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn times_agree_within_milliseconds_whatever_clocks_and_network_do(
        seed: u64,
        starts_ms in prop::collection::vec(0..5_000_u64, 2..5),
        drifts_ppm in prop::collection::vec(-100..=100_i64, 4),
        jitter_ms in 0..50_u64,
        loss_percent in 0..20_u32,
        cut_s in prop_oneof![Just(0..0_u64), Just(0..10), Just(10..20)],
    ) {
        let lives: Vec<_> = starts_ms.iter().map(|&start| start..ALWAYS).collect();
        let mut world = world(seed, &lives, &drifts_ppm);
        world.jitter_ns = jitter_ms * 1_000_000;
        world.loss_percent = loss_percent;
        world.cut_ns = cut_s.start * SECOND_NS..cut_s.end * SECOND_NS;
        // The bound covers what the luckiest of eight answers cannot show, and the drift of clocks
        // in a second.
        let bound_ns = 4_000_000 + world.jitter_ns / 4;
        // The clocks may be 250 ms apart, which takes 12.5 s to correct.
        for second in 40..60 {
            world.run(second * SECOND_NS);
            let difference_ns = world.difference_ns();
            prop_assert!(difference_ns < bound_ns, "{}: {}", second, difference_ns);
        }
    }
}
