//! One run of a cluster: servers on a bus, players, and faults at their times.

mod bus;
mod faults;
mod servers;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use cubesync_protocol::{CubeKind, Position};
use turmoil::{Builder, Sim};

use self::bus::Net;
use self::faults::{Fault, HEAL, Spell, Weather};
use self::servers::City;
use crate::checks;
use crate::event_log::Journal;
use crate::player::{self, Seat, Stage};
use crate::run::Outcome;

/// The network moves in such steps, clocks do not.
const STEP: Duration = Duration::from_millis(5);
/// At some moment until here all servers show the same.
const AGREED: Duration = Duration::from_millis(HEAL.as_millis() as u64 + 2_000);
/// Who takes nothing for so long is given up; both sides know after this.
const GIVEN_UP: Duration = Duration::from_secs(10);
const GIVEN_UP_BY_BOTH: Duration = Duration::from_secs(15);
/// Who lost their connection in the last moment of players' troubles is given up by both sides, the
/// ghost is gone 4 s later, and nobody waits for longer than 10 s.
const END: Duration = Duration::from_secs(36);

/// Plays a seed.
///
/// # Panics
/// When something was not as it must be.
pub fn play(seed: u64, is_told: bool) -> Outcome {
    // The servers' own dice.
    fastrand::seed(seed);
    let mut dice = fastrand::Rng::with_seed(seed);
    let journal = Journal::new(is_told);
    let mut sim = Builder::new()
        .rng_seed(seed)
        .tick_duration(STEP)
        .simulation_duration(2 * END)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(dice.u64(2..100)))
        .tcp_capacity(24)
        .enable_random_order()
        .build();

    let servers = dice.usize(2..=5);
    let weather = Weather::roll(&mut dice);
    let net = Net::new(servers, dice.u64(..));
    let city = Rc::new(RefCell::new(City::new(servers, weather, &mut dice)));
    let closing: Vec<_> = (0..servers).map(|_| Rc::new(Cell::new(false))).collect();
    for (server, is_closing) in closing.iter().enumerate() {
        let (city, net, journal) = (city.clone(), net.clone(), journal.clone());
        let is_closing = is_closing.clone();
        sim.host(name_of(server), move || {
            let (city, net, journal) = (city.clone(), net.clone(), journal.clone());
            servers::serve(server, city, net, is_closing.clone(), journal)
        });
    }
    let stage = Rc::new(Stage {
        servers: (0..servers).map(name_of).collect(),
        is_calm: Cell::new(false),
        cheats: false,
        unruly_until: HEAL,
        journal: journal.clone(),
        watch: Box::new(city.clone()),
    });
    let names: Vec<_> = (0..dice.usize(2..=5))
        .map(|number| format!("player{number}"))
        .collect();
    let mut seats = Vec::new();
    for name in &names {
        let seat = Rc::new(RefCell::new(Seat::new(name.clone(), dice.u64(..))));
        seats.push(seat.clone());
        let stage = stage.clone();
        sim.host(name.as_str(), move || {
            player::play(seat.clone(), stage.clone())
        });
    }

    let spells = faults::script(&mut dice, weather, servers, &names);
    let mut script = script(&spells).into_iter().peekable();
    let mut has_agreed = false;
    while sim.elapsed() < END {
        while let Some((_, number, begins)) = script.next_if(|(at, ..)| *at <= sim.elapsed()) {
            let fault = &spells[number].fault;
            journal.note(sim.elapsed(), if begins { "begins" } else { "ends" }, fault);
            let scene = Scene {
                sim: &mut sim,
                city: &city,
                net: &net,
                closing: &closing,
                names: &names,
            };
            scene.apply(number, &spells[number], begins);
        }
        stage.is_calm.set(sim.elapsed() >= HEAL);
        sim.step().unwrap();
        if sim.elapsed() >= HEAL && !has_agreed {
            let agreement = agreement(&city.borrow(), &seats, sim.elapsed());
            has_agreed = agreement.is_ok();
            if let Err(difference) = agreement {
                assert!(
                    sim.elapsed() < AGREED,
                    "two seconds later {difference}{}",
                    rooms(&city.borrow())
                );
            } else {
                let took = sim.elapsed() - HEAL;
                journal.note(sim.elapsed(), "all", ("agree after", took));
            }
        }
    }
    let city = city.borrow();
    city.agreement(false).unwrap();
    let room = city.room().unwrap();
    journal.note(sim.elapsed(), "in the end", Words(rooms(&city)));
    checks::check_players(&room, &seats);
    for seat in &seats {
        checks::check_view(&room, city.view_distance_m, &seat.borrow());
    }
    Outcome {
        hash: journal.hash(),
        counts: journal.counts(),
        kills_servers: spells
            .iter()
            .any(|spell| matches!(spell.fault, Fault::Crash(_))),
    }
}

/// Printed as it is.
struct Words(String);

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// All rooms in words, for who looks for a fault.
fn rooms(city: &City) -> String {
    let mut words = String::new();
    for (server, site) in city.sites.iter().enumerate() {
        words += &format!("\nserver{server}");
        for cube in site.truth.iter().flat_map(|truth| &truth.cubes) {
            let Position { x, y, .. } = cube.pose.position;
            let home = site
                .truth
                .iter()
                .any(|truth| truth.owned.contains(&cube.cube));
            let home = if home { "here" } else { "elsewhere" };
            words += &format!(
                "; {home} {} {:?} {} {x} {y}",
                cube.cube, cube.kind, cube.name
            );
        }
    }
    words
}

fn name_of(server: usize) -> String {
    format!("server{server}")
}

/// When faults begin and end, by time.
fn script(spells: &[Spell]) -> Vec<(Duration, usize, bool)> {
    let both =
        |(number, spell): (usize, &Spell)| [(spell.from, number, true), (spell.to, number, false)];
    let mut script: Vec<_> = spells.iter().enumerate().flat_map(both).collect();
    script.sort_by_key(|(at, number, begins)| (*at, *begins, *number));
    script
}

/// Whether all servers show the same, and who has been in for a while sees all of it.
fn agreement(city: &City, seats: &[Rc<RefCell<Seat>>], now: Duration) -> Result<(), String> {
    city.agreement(true)?;
    let room = city.room()?;
    for seat in seats {
        let seat = seat.borrow();
        let Some(session) = seat.session.as_ref().filter(|session| session.is_joined()) else {
            continue;
        };
        // Whose connection is dead has perhaps not noticed yet.
        let is_heard = now < session.last_received() + Duration::from_millis(1_500);
        let is_new = now < seat.joined + Duration::from_secs(1);
        if !is_heard || is_new || city.view_distance_m.is_some() {
            continue;
        }
        let replica = session.replica().expect("it has joined");
        let is_there = |cube| room.cubes.iter().any(|known| known.cube == cube);
        let is_same = replica
            .cubes()
            .all(|seen| seen.kind == CubeKind::Ghost || is_there(seen.cube))
            && room.cubes.iter().all(|cube| {
                let seen = replica.cube(cube.cube);
                seen.is_some_and(|seen| (seen.kind, &seen.name) == (cube.kind, &cube.name))
            });
        if !is_same {
            return Err(format!("{} does not see the room", seat.name));
        }
    }
    Ok(())
}

/// What faults are done to.
struct Scene<'a, 'sim> {
    sim: &'a mut Sim<'sim>,
    city: &'a RefCell<City>,
    net: &'a Net,
    closing: &'a [Rc<Cell<bool>>],
    names: &'a [String],
}

impl Scene<'_, '_> {
    fn apply(self, number: usize, spell: &Spell, begins: bool) {
        let now = self.sim.elapsed();
        match &spell.fault {
            Fault::Bus(trouble) if begins => self.net.begin(number, trouble.clone()),
            Fault::Bus(_) => self.net.end(number),
            Fault::Stall(server) => {
                let until = match begins {
                    true => Duration::MAX / 2,
                    false if spell.to - spell.from >= GIVEN_UP => now + GIVEN_UP_BY_BOTH - GIVEN_UP,
                    false => now,
                };
                self.city.borrow_mut().stall(*server, until);
                if begins {
                    self.net.begin(number, bus::Trouble::Held(*server));
                } else {
                    self.net.end(number);
                }
                for name in self.names {
                    if begins {
                        self.sim.hold(name.as_str(), name_of(*server));
                    } else {
                        self.sim.release(name.as_str(), name_of(*server));
                    }
                }
            }
            Fault::Crash(server) if begins => {
                self.sim.crash(name_of(*server));
                self.city.borrow_mut().kill(*server, now);
            }
            Fault::Crash(server) => self.sim.bounce(name_of(*server)),
            Fault::Close(server) if begins => self.closing[*server].set(true),
            Fault::Close(_) => {}
            Fault::Kill(name) if begins => self.sim.crash(name.as_str()),
            Fault::Kill(name) => self.sim.bounce(name.as_str()),
            Fault::Partition(name) => self.at_each(|sim, server| match begins {
                true => sim.partition(name.as_str(), server),
                false => sim.repair(name.as_str(), server),
            }),
            Fault::Hold(name) => self.at_each(|sim, server| match begins {
                true => sim.hold(name.as_str(), server),
                false => sim.release(name.as_str(), server),
            }),
        }
    }

    fn at_each(self, change: impl Fn(&Sim<'_>, String)) {
        for server in 0..self.closing.len() {
            change(self.sim, name_of(server));
        }
    }
}
