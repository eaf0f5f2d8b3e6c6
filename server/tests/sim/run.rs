//! One run: a server, players, and faults at their times.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use turmoil::Builder;

use crate::checks;
use crate::event_log::{Count, Journal};
use crate::faults::{self, Action};
use crate::player::{self, Seat, Stage};
use crate::server::{self, Venue};

pub const SERVER: &str = "server";
/// The network moves in such steps, clocks do not.
const STEP: Duration = Duration::from_millis(10);
/// From here on nobody moves. A connection that was lost at the end of the faults is given up by
/// both sides after 15 s, its ghost is gone 15 s later, and nobody waits for longer than 10 s.
const CALM: Duration = Duration::from_secs(faults::END.as_secs() + 33);
/// Here every view is the truth.
const END: Duration = Duration::from_secs(CALM.as_secs() + 4);

/// What a run was.
pub struct Outcome {
    /// Of everything that happened.
    pub hash: u64,
    pub counts: Vec<Count>,
    /// Whether a server was killed.
    pub kills_servers: bool,
}

/// Plays a seed.
///
/// # Panics
/// When something was not as it must be.
pub fn play(seed: u64, is_told: bool) -> Outcome {
    // The server's own dice.
    fastrand::seed(seed);
    let mut dice = fastrand::Rng::with_seed(seed);
    let journal = Journal::new(is_told);
    let mut sim = Builder::new()
        .rng_seed(seed)
        .tick_duration(STEP)
        .simulation_duration(2 * END)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(dice.u64(2..150)))
        // Segments that wait for a reader: few, so that who is held up soon takes nothing more. As
        // many greetings may wait as well.
        .tcp_capacity(24)
        .enable_random_order()
        .build();

    let view_distance_m = [None, Some(16), Some(40)][dice.usize(..3)];
    let tick_hz = [10, 20, 30, 60][dice.usize(..4)];
    let venue = Rc::new(RefCell::new(Venue::new(tick_hz, view_distance_m)));
    let is_closing = Rc::new(Cell::new(false));
    sim.host(SERVER, {
        let (venue, is_closing, journal) = (venue.clone(), is_closing.clone(), journal.clone());
        move || server::serve(venue.clone(), is_closing.clone(), journal.clone())
    });
    let stage = Rc::new(Stage {
        servers: vec![SERVER.to_owned()],
        is_calm: Cell::new(false),
        cheats: true,
        unruly_until: faults::END,
        journal: journal.clone(),
        watch: Box::new(venue.clone()),
    });
    let names: Vec<_> = (0..dice.usize(2..=4))
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

    let script = faults::script(&mut dice, &names);
    let kill = Action::Crash(SERVER.to_owned());
    let kills_servers = script.iter().any(|(_, action)| *action == kill);
    let mut script = script.into_iter().peekable();
    while sim.elapsed() < END {
        while let Some((_, action)) = script.next_if(|(at, _)| *at <= sim.elapsed()) {
            journal.note(sim.elapsed(), "fault", &action);
            match action {
                Action::Close => is_closing.set(true),
                action => action.apply(&mut sim),
            }
        }
        stage.is_calm.set(sim.elapsed() >= CALM);
        sim.step().unwrap();
    }
    checks::check(&venue.borrow(), &seats);
    Outcome {
        hash: journal.hash(),
        counts: journal.counts(),
        kills_servers,
    }
}
