//! One run with a cluster: servers on a bus, players, and a schedule of faults.

mod bus;
mod faults;
mod servers;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use cubesync_protocol::{CubeKind, Position};
use turmoil::{Builder, Sim};

use self::bus::{BusFault, SimulatedBus};
use self::faults::{Fault, FaultKinds, HEAL, TimedFault};
use self::servers::ClusterUnderTest;
use crate::checks;
use crate::event_log::EventLog;
use crate::player::{self, Environment, PlayerState};
use crate::run::Outcome;

/// Time step of the simulated network. Clocks have no steps.
const STEP: Duration = Duration::from_millis(5);
/// Time until which all servers must agree at some moment.
const AGREED: Duration = Duration::from_millis(HEAL.as_millis() as u64 + 2_000);
/// Time after which one side gives a connection up that takes no data.
const GIVEN_UP: Duration = Duration::from_secs(10);
/// Time after which both sides have given such a connection up.
const GIVEN_UP_BY_BOTH: Duration = Duration::from_secs(15);
/// End of a run. A connection that is lost at the end of the players' faults has been given up by both
/// sides, its ghost is removed 4 s later, and no client waits longer than 10 s to reconnect.
const END: Duration = Duration::from_secs(36);

/// Runs a seed.
///
/// # Panics
/// A check failed.
pub fn play(seed: u64, is_printed: bool) -> Outcome {
    // The servers' own random numbers.
    fastrand::seed(seed);
    let mut random = fastrand::Rng::with_seed(seed);
    let log = EventLog::new(is_printed);
    let mut sim = Builder::new()
        .rng_seed(seed)
        .tick_duration(STEP)
        .simulation_duration(2 * END)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(random.u64(2..100)))
        .tcp_capacity(24)
        .enable_random_order()
        .build();

    let servers = random.usize(2..=5);
    let fault_kinds = FaultKinds::choose(&mut random);
    let bus = SimulatedBus::new(servers, random.u64(..));
    let cluster = Rc::new(RefCell::new(ClusterUnderTest::new(
        servers,
        fault_kinds,
        &mut random,
    )));
    let closing: Vec<_> = (0..servers).map(|_| Rc::new(Cell::new(false))).collect();
    for (server, is_closing) in closing.iter().enumerate() {
        let (cluster, bus, log) = (cluster.clone(), bus.clone(), log.clone());
        let is_closing = is_closing.clone();
        sim.host(name_of(server), move || {
            let (cluster, bus, log) = (cluster.clone(), bus.clone(), log.clone());
            servers::serve(server, cluster, bus, is_closing.clone(), log)
        });
    }
    let environment = Rc::new(Environment {
        servers: (0..servers).map(name_of).collect(),
        is_calm: Cell::new(false),
        cheats: false,
        unruly_until: HEAL,
        log: log.clone(),
        observer: Box::new(cluster.clone()),
    });
    let names: Vec<_> = (0..random.usize(2..=5))
        .map(|number| format!("player{number}"))
        .collect();
    let mut players = Vec::new();
    for name in &names {
        let player = Rc::new(RefCell::new(PlayerState::new(name.clone(), random.u64(..))));
        players.push(player.clone());
        let environment = environment.clone();
        sim.host(name.as_str(), move || {
            player::play(player.clone(), environment.clone())
        });
    }

    let timed_faults = faults::script(&mut random, fault_kinds, servers, &names);
    let mut script = script(&timed_faults).into_iter().peekable();
    let mut has_agreed = false;
    while sim.elapsed() < END {
        while let Some((_, number, begins)) = script.next_if(|(at, ..)| *at <= sim.elapsed()) {
            let fault = &timed_faults[number].fault;
            log.record(sim.elapsed(), if begins { "begins" } else { "ends" }, fault);
            let run = Run {
                sim: &mut sim,
                cluster: &cluster,
                bus: &bus,
                closing: &closing,
                names: &names,
            };
            run.apply(number, &timed_faults[number], begins);
        }
        environment.is_calm.set(sim.elapsed() >= HEAL);
        sim.step().unwrap();
        if sim.elapsed() >= HEAL && !has_agreed {
            let agreement = agreement(&cluster.borrow(), &players, sim.elapsed());
            has_agreed = agreement.is_ok();
            if let Err(difference) = agreement {
                assert!(
                    sim.elapsed() < AGREED,
                    "two seconds after the last fault {difference}{}",
                    rooms(&cluster.borrow())
                );
            } else {
                let delay = sim.elapsed() - HEAL;
                log.record(sim.elapsed(), "all", ("agree after", delay));
            }
        }
    }
    let cluster = cluster.borrow();
    cluster.agreement(false).unwrap();
    let room = cluster.room().unwrap();
    log.record(sim.elapsed(), "in the end", Verbatim(rooms(&cluster)));
    checks::check_players(&room, &players);
    for player in &players {
        checks::check_view(&room, cluster.view_distance_m, &player.borrow());
    }
    Outcome {
        hash: log.hash(),
        counts: log.counts(),
        kills_servers: timed_faults
            .iter()
            .any(|timed| matches!(timed.fault, Fault::Crash(_))),
    }
}

/// A text that is printed without quotes.
struct Verbatim(String);

impl fmt::Debug for Verbatim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns a description of all rooms, for debugging.
fn rooms(cluster: &ClusterUnderTest) -> String {
    let mut text = String::new();
    for (server, state) in cluster.servers.iter().enumerate() {
        text += &format!("\nserver{server}");
        for cube in state.truth.iter().flat_map(|truth| &truth.cubes) {
            let Position { x, y, .. } = cube.pose.position;
            let is_owned = state
                .truth
                .iter()
                .any(|truth| truth.owned.contains(&cube.cube));
            let owner = if is_owned { "own" } else { "remote" };
            text += &format!(
                "; {owner} {} {:?} {} {x} {y}",
                cube.cube, cube.kind, cube.name
            );
        }
    }
    text
}

fn name_of(server: usize) -> String {
    format!("server{server}")
}

/// Returns the beginnings and ends of faults by time.
fn script(timed_faults: &[TimedFault]) -> Vec<(Duration, usize, bool)> {
    let both = |(number, timed): (usize, &TimedFault)| {
        [(timed.from, number, true), (timed.to, number, false)]
    };
    let mut script: Vec<_> = timed_faults.iter().enumerate().flat_map(both).collect();
    script.sort_by_key(|(at, number, begins)| (*at, *begins, *number));
    script
}

/// Checks that all servers show the same room, and that players who joined a while ago see all of it.
fn agreement(
    cluster: &ClusterUnderTest,
    players: &[Rc<RefCell<PlayerState>>],
    now: Duration,
) -> Result<(), String> {
    cluster.agreement(true)?;
    let room = cluster.room()?;
    for player in players {
        let player = player.borrow();
        let Some(session) = player
            .session
            .as_ref()
            .filter(|session| session.is_joined())
        else {
            continue;
        };
        // A player may not have noticed yet that the connection is dead.
        let is_connected = now < session.last_received() + Duration::from_millis(1_500);
        let is_new = now < player.joined + Duration::from_secs(1);
        if !is_connected || is_new || cluster.view_distance_m.is_some() {
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
            return Err(format!("{} does not see the room", player.name));
        }
    }
    Ok(())
}

/// The parts of a run that faults change.
struct Run<'a, 'sim> {
    sim: &'a mut Sim<'sim>,
    cluster: &'a RefCell<ClusterUnderTest>,
    bus: &'a SimulatedBus,
    closing: &'a [Rc<Cell<bool>>],
    names: &'a [String],
}

impl Run<'_, '_> {
    fn apply(self, number: usize, timed: &TimedFault, begins: bool) {
        let now = self.sim.elapsed();
        match &timed.fault {
            Fault::Bus(fault) if begins => self.bus.begin(number, fault.clone()),
            Fault::Bus(_) => self.bus.end(number),
            Fault::Stall(server) => {
                let until = match begins {
                    true => Duration::MAX / 2,
                    false if timed.to - timed.from >= GIVEN_UP => now + GIVEN_UP_BY_BOTH - GIVEN_UP,
                    false => now,
                };
                self.cluster.borrow_mut().stall(*server, until);
                if begins {
                    self.bus.begin(number, BusFault::Held(*server));
                } else {
                    self.bus.end(number);
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
                self.cluster.borrow_mut().kill(*server, now);
            }
            Fault::Crash(server) => self.sim.bounce(name_of(*server)),
            Fault::Close(server) if begins => self.closing[*server].set(true),
            Fault::Close(_) => {}
            Fault::Kill(name) if begins => self.sim.crash(name.as_str()),
            Fault::Kill(name) => self.sim.bounce(name.as_str()),
            Fault::Partition(name) => self.at_each_server(|sim, server| match begins {
                true => sim.partition(name.as_str(), server),
                false => sim.repair(name.as_str(), server),
            }),
            Fault::Hold(name) => self.at_each_server(|sim, server| match begins {
                true => sim.hold(name.as_str(), server),
                false => sim.release(name.as_str(), server),
            }),
        }
    }

    fn at_each_server(self, change: impl Fn(&Sim<'_>, String)) {
        for server in 0..self.closing.len() {
            change(self.sim, name_of(server));
        }
    }
}
