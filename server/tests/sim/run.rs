//! One run: servers, players, and a schedule of faults.
//!
//! Several servers must be of one mind [`AGREED_WITHIN`] after the last fault is over. That time begins
//! anew while a lease is held by a server that does not know it, because it must expire first: its
//! holder has been killed or paused, or its answer was lost.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use turmoil::{Builder, Sim};

use crate::bus::{BusFault, SimulatedBus};
use crate::checks::{self, Checked};
use crate::event_log::{Count, EventLog};
use crate::faults::{self, Fault, FaultKinds, TimedFault};
use crate::player::{self, Environment, PlayerState};
use crate::server::{self, Servers};

/// Time step of the simulated network. Clocks have no steps, but one server may be ahead of another by this.
pub const STEP: Duration = Duration::from_millis(10);
/// Largest latency between a player and the servers after it was larger for a while.
const USUAL_LATENCY: Duration = Duration::from_millis(50);
/// Time from the end of all faults until all servers and players must agree: 2 s, and what a slow bus has added
/// to the playout delays. With a view distance, what is out of
/// sight is gone with the next heartbeat, a second later.
const AGREED_WITHIN: Duration = Duration::from_millis(2_500);
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Time after which everybody has seen that a loose cube rests.
const SEEN_AT_REST: Duration = Duration::from_secs(3);
/// Time after which one side gives a connection up that takes no data.
const GIVEN_UP: Duration = Duration::from_secs(10);
/// Time after which both sides have given such a connection up.
const GIVEN_UP_BY_BOTH: Duration = Duration::from_secs(15);

/// The result of a run.
pub struct Outcome {
    /// The hash of all events.
    pub hash: u64,
    pub counts: Vec<Count>,
    /// Whether a server was killed.
    pub kills_servers: bool,
}

/// The times and faults of a run.
struct Plan {
    servers: usize,
    kinds: FaultKinds,
    /// Time of the first fault.
    begin: Duration,
    /// Time at which players' faults are over.
    players_heal: Duration,
    /// Time at which all faults are over.
    heal: Duration,
    /// Time from which on players do not move.
    calm: Duration,
    /// Time at which every view must match the room. Until then a connection that is lost at the end of
    /// the players' faults has been given up by both sides, its ghost has been removed, and no client waits
    /// any longer to reconnect.
    end: Duration,
    resume_within: Duration,
}

/// Runs a seed with one server.
///
/// # Panics
/// A check failed.
pub fn alone(seed: u64, is_printed: bool) -> Outcome {
    let mut random = fastrand::Rng::with_seed(seed);
    let plan = Plan {
        servers: 1,
        kinds: FaultKinds::alone(&mut random),
        begin: Duration::ZERO,
        players_heal: Duration::from_secs(30),
        heal: Duration::from_secs(30),
        calm: Duration::from_secs(63),
        end: Duration::from_secs(67),
        resume_within: Duration::from_secs(15),
    };
    play(&plan, None, seed, random, is_printed)
}

/// Runs a seed with several servers on a bus.
///
/// # Panics
/// A check failed.
pub fn cluster(seed: u64, is_printed: bool) -> Outcome {
    let mut random = fastrand::Rng::with_seed(seed);
    let servers = random.usize(2..=5);
    let plan = Plan {
        servers,
        kinds: FaultKinds::cluster(&mut random),
        begin: Duration::from_secs(3),
        players_heal: Duration::from_secs(9),
        heal: Duration::from_secs(20),
        calm: Duration::from_secs(20),
        end: Duration::from_secs(36),
        resume_within: Duration::from_secs(4),
    };
    let bus = SimulatedBus::new(servers, random.u64(..));
    play(&plan, Some(bus), seed, random, is_printed)
}

fn play(
    plan: &Plan,
    bus: Option<SimulatedBus>,
    seed: u64,
    mut random: fastrand::Rng,
    is_printed: bool,
) -> Outcome {
    // The servers' own random numbers.
    fastrand::seed(seed);
    let log = EventLog::new(is_printed);
    let mut sim = Builder::new()
        .rng_seed(seed)
        .tick_duration(STEP)
        .simulation_duration(2 * plan.end)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(random.u64(2..150)))
        // Few segments may wait for a reader, so that a connection that is held up soon blocks.
        .tcp_capacity(24)
        .enable_random_order()
        .build();

    let servers = Servers::new(
        plan.servers,
        plan.kinds,
        plan.resume_within,
        bus,
        &mut random,
    );
    let servers = Rc::new(RefCell::new(servers));
    let closing: Vec<_> = (0..plan.servers)
        .map(|_| Rc::new(Cell::new(false)))
        .collect();
    for (server, is_closing) in closing.iter().enumerate() {
        let (servers, is_closing, log) = (servers.clone(), is_closing.clone(), log.clone());
        let random = random.fork();
        sim.host(name_of(server), move || {
            let (servers, is_closing) = (servers.clone(), is_closing.clone());
            server::serve(server, servers, is_closing, log.clone(), random.clone())
        });
    }
    let environment = Rc::new(Environment {
        servers: (0..plan.servers).map(name_of).collect(),
        is_calm: Cell::new(false),
        cheats: plan.servers == 1,
        unruly_until: plan.heal,
        log: log.clone(),
        observer: Box::new(servers.clone()),
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

    let times = plan.begin..plan.heal;
    let faults = faults::script(
        &mut random,
        plan.kinds,
        plan.servers,
        &names,
        times,
        plan.players_heal,
    );
    let mut script = script(&faults).into_iter().peekable();
    let (mut healed, mut has_agreed) = (plan.heal, plan.servers == 1);
    // What is let go of shortly before the end rolls on.
    let is_over =
        |now: Duration| now >= plan.end && servers.borrow().heap_moved() + SEEN_AT_REST < now;
    while !is_over(sim.elapsed()) {
        while let Some((_, number, begins)) = script.next_if(|(at, ..)| *at <= sim.elapsed()) {
            let fault = &faults[number].fault;
            log.record(sim.elapsed(), if begins { "begins" } else { "ends" }, fault);
            let mut run = Run {
                sim: &mut sim,
                servers: &servers,
                closing: &closing,
                names: &names,
            };
            run.apply(number, &faults[number], begins);
        }
        environment.is_calm.set(sim.elapsed() >= plan.calm);
        sim.step().unwrap();
        let now = sim.elapsed();
        if now >= plan.heal && !has_agreed {
            if servers.borrow().has_orphaned_lease(now) {
                healed = now;
            }
            healed = healed.max(servers.borrow().heap_moved());
            match agreement(&servers.borrow(), &players, now) {
                Ok(()) => {
                    has_agreed = true;
                    log.record(now, "all", ("agree after", now - healed));
                }
                Err(difference) => {
                    let late = now - healed;
                    let is_partial = servers.borrow().view_distance_m.is_some();
                    let heartbeat = if is_partial {
                        HEARTBEAT
                    } else {
                        Duration::ZERO
                    };
                    assert!(
                        late < AGREED_WITHIN + heartbeat,
                        "{late:?} after the last fault or motion of a loose cube, {difference}"
                    );
                }
            }
        }
    }
    let servers = servers.borrow();
    let truth = servers.owner().unwrap();
    log.record(sim.elapsed(), "in the end", truth);
    checks::check_players(truth, &players).unwrap();
    for player in &players {
        checks::check_view(truth, servers.view_distance_m, &player.borrow()).unwrap();
        checks::check_own(truth, &player.borrow()).unwrap();
    }
    Outcome {
        hash: log.hash(),
        counts: log.counts(),
        kills_servers: faults
            .iter()
            .any(|timed| matches!(timed.fault, Fault::Crash(_))),
    }
}

fn name_of(server: usize) -> String {
    format!("server{server}")
}

/// Returns the beginnings and ends of faults by time.
fn script(faults: &[TimedFault]) -> Vec<(Duration, usize, bool)> {
    let both = |(number, timed): (usize, &TimedFault)| {
        [(timed.from, number, true), (timed.to, number, false)]
    };
    let mut script: Vec<_> = faults.iter().enumerate().flat_map(both).collect();
    script.sort_by_key(|(at, number, begins)| (*at, *begins, *number));
    script
}

/// Checks that the room has one owner, and that players who joined a while ago see it as the owner does.
fn agreement(servers: &Servers, players: &[Rc<RefCell<PlayerState>>], now: Duration) -> Checked {
    let truth = servers.owner()?;
    for player in players {
        let player = player.borrow();
        let session = player
            .session
            .as_ref()
            .filter(|session| session.is_joined());
        // A player may not have noticed yet that the connection is dead.
        let is_connected = |received| now < received + Duration::from_millis(1_500);
        let is_new = now < player.joined.max(player.paused) + Duration::from_secs(1);
        if session.is_some_and(|session| is_connected(session.last_received())) && !is_new {
            checks::check_view(truth, servers.view_distance_m, &player)?;
            // What a player sends after a loss does not arrive any more.
            if !servers.kinds.players {
                checks::check_own(truth, &player)?;
            }
        }
    }
    Ok(())
}

/// The parts of a run that faults change.
struct Run<'a, 'sim> {
    sim: &'a mut Sim<'sim>,
    servers: &'a RefCell<Servers>,
    closing: &'a [Rc<Cell<bool>>],
    names: &'a [String],
}

impl Run<'_, '_> {
    fn apply(&mut self, number: usize, timed: &TimedFault, begins: bool) {
        let now = self.sim.elapsed();
        match &timed.fault {
            Fault::Bus(fault) => self.change_bus(number, fault, begins),
            Fault::Stall(server) => {
                let until = match begins {
                    true => Duration::MAX / 2,
                    false if timed.to - timed.from >= GIVEN_UP => now + GIVEN_UP_BY_BOTH - GIVEN_UP,
                    false => now,
                };
                self.servers.borrow_mut().stall(*server, until);
                self.change_bus(number, &BusFault::Held(*server), begins);
                for name in self.names {
                    match begins {
                        true => self.sim.hold(name.as_str(), name_of(*server)),
                        false => self.sim.release(name.as_str(), name_of(*server)),
                    }
                }
            }
            Fault::Crash(server) if begins => {
                self.sim.crash(name_of(*server));
                self.servers.borrow_mut().kill(*server, now);
            }
            Fault::Crash(server) => self.sim.bounce(name_of(*server)),
            Fault::Close(server) if begins => self.closing[*server].set(true),
            Fault::Close(_) => {}
            Fault::Kill(name) if begins => self.sim.crash(name.as_str()),
            Fault::Kill(name) => self.sim.bounce(name.as_str()),
            Fault::Partition(name) if begins => {
                self.at_servers(|sim, at| sim.partition(name.as_str(), at));
            }
            Fault::PartitionTo(name) if begins => {
                self.at_servers(|sim, at| sim.partition_oneway(at, name.as_str()));
            }
            Fault::PartitionFrom(name) if begins => {
                self.at_servers(|sim, at| sim.partition_oneway(name.as_str(), at));
            }
            Fault::Partition(name) | Fault::PartitionTo(name) | Fault::PartitionFrom(name) => {
                self.at_servers(|sim, at| sim.repair(name.as_str(), at));
            }
            Fault::Hold(name) if begins => self.at_servers(|sim, at| sim.hold(name.as_str(), at)),
            Fault::Hold(name) => self.at_servers(|sim, at| sim.release(name.as_str(), at)),
            Fault::Slow(name, most) => self.at_servers(|sim, at| {
                let most = if begins { *most } else { USUAL_LATENCY };
                sim.set_link_max_message_latency(name.as_str(), at, most);
            }),
        }
    }

    fn change_bus(&self, number: usize, fault: &BusFault, begins: bool) {
        let servers = self.servers.borrow();
        let bus = servers.bus.as_ref().expect("only a bus has such faults");
        match begins {
            true => bus.begin(number, fault.clone()),
            false => bus.end(number),
        }
    }

    fn at_servers(&self, change: impl Fn(&Sim<'_>, String)) {
        for server in 0..self.closing.len() {
            change(self.sim, name_of(server));
        }
    }
}
