//! One run with a single server: players, and a schedule of faults.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use turmoil::Builder;

use crate::checks;
use crate::event_log::{Count, EventLog};
use crate::faults::{self, Action};
use crate::player::{self, Environment, PlayerState};
use crate::server::{self, ServerUnderTest};

pub const SERVER: &str = "server";
/// Time step of the simulated network. Clocks have no steps.
const STEP: Duration = Duration::from_millis(10);
/// Time from which on players do not move. Both sides give a connection up within 15 s, its ghost is
/// removed 15 s later, and no client waits longer than 10 s to reconnect.
const CALM: Duration = Duration::from_secs(faults::END.as_secs() + 33);
/// Time at which every view must match the room.
const END: Duration = Duration::from_secs(CALM.as_secs() + 4);

/// The result of a run.
pub struct Outcome {
    /// The hash of all events.
    pub hash: u64,
    pub counts: Vec<Count>,
    /// Whether a server was killed.
    pub kills_servers: bool,
}

/// Runs a seed.
///
/// # Panics
/// A check failed.
pub fn play(seed: u64, is_printed: bool) -> Outcome {
    // The server's own random numbers.
    fastrand::seed(seed);
    let mut random = fastrand::Rng::with_seed(seed);
    let log = EventLog::new(is_printed);
    let mut sim = Builder::new()
        .rng_seed(seed)
        .tick_duration(STEP)
        .simulation_duration(2 * END)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(random.u64(2..150)))
        // Few segments may wait for a reader, so that a connection that is held up soon blocks.
        .tcp_capacity(24)
        .enable_random_order()
        .build();

    let view_distance_m = [None, Some(16), Some(40)][random.usize(..3)];
    let tick_hz = [10, 20, 30, 60][random.usize(..4)];
    let server = Rc::new(RefCell::new(ServerUnderTest::new(tick_hz, view_distance_m)));
    let is_closing = Rc::new(Cell::new(false));
    sim.host(SERVER, {
        let (server, is_closing, log) = (server.clone(), is_closing.clone(), log.clone());
        let random = random.fork();
        move || {
            let random = random.clone();
            server::serve(server.clone(), is_closing.clone(), log.clone(), random)
        }
    });
    let environment = Rc::new(Environment {
        servers: vec![SERVER.to_owned()],
        is_calm: Cell::new(false),
        cheats: true,
        unruly_until: faults::END,
        log: log.clone(),
        observer: Box::new(server.clone()),
    });
    let names: Vec<_> = (0..random.usize(2..=4))
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

    let script = faults::script(&mut random, &names);
    let kill = Action::Crash(SERVER.to_owned());
    let kills_servers = script.iter().any(|(_, action)| *action == kill);
    let mut script = script.into_iter().peekable();
    while sim.elapsed() < END {
        while let Some((_, action)) = script.next_if(|(at, _)| *at <= sim.elapsed()) {
            log.record(sim.elapsed(), "fault", &action);
            match action {
                Action::Close => is_closing.set(true),
                action => action.apply(&mut sim),
            }
        }
        environment.is_calm.set(sim.elapsed() >= CALM);
        sim.step().unwrap();
    }
    checks::check(&server.borrow(), &players);
    Outcome {
        hash: log.hash(),
        counts: log.counts(),
        kills_servers,
    }
}
