//! What goes wrong in a cluster, and when.

use std::time::Duration;

use super::bus::Trouble;

/// Until then all is well, so that there is something to lose.
const BEGIN: Duration = Duration::from_secs(3);
/// Players have no trouble from here on: what they lost is known to be lost in the end.
const PLAYERS_END: Duration = Duration::from_secs(9);
/// From here on everything is in order.
pub const HEAL: Duration = Duration::from_secs(20);

/// Something is wrong for a while.
#[derive(Debug, Clone)]
pub enum Fault {
    /// With the bus.
    Bus(Trouble),
    /// A server hears nobody and is heard by nobody, and then hears and says all of it at once.
    Stall(usize),
    /// A server is killed, and starts again.
    Crash(usize),
    /// A server is asked to stop, and starts again by itself.
    Close(usize),
    /// What is sent between a player and the servers is lost.
    Partition(String),
    /// It waits.
    Hold(String),
    /// A player's program is killed, and starts again.
    Kill(String),
}

/// A fault and its time.
#[derive(Debug, Clone)]
pub struct Spell {
    pub fault: Fault,
    pub from: Duration,
    pub to: Duration,
}

/// What kinds of faults a run has.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    pub bus: bool,
    pub stalls: bool,
    pub servers: bool,
    /// Whether it is whole machines that die: nobody tells their players.
    pub machines: bool,
    pub players: bool,
}

impl Weather {
    pub fn roll(dice: &mut fastrand::Rng) -> Self {
        Self {
            bus: dice.u8(..4) > 0,
            stalls: dice.u8(..4) == 0,
            servers: dice.bool(),
            machines: dice.u8(..3) == 0,
            players: dice.bool(),
        }
    }

    /// Whether servers hear each other all the time.
    pub fn has_clear_bus(self) -> bool {
        !self.bus && !self.stalls
    }
}

/// Faults for each server, each player and the bus; all of them are over at [`HEAL`].
pub fn script(
    dice: &mut fastrand::Rng,
    weather: Weather,
    servers: usize,
    players: &[String],
) -> Vec<Spell> {
    let mut script = Vec::new();
    if weather.bus {
        for _ in 0..dice.usize(1..=2) {
            let fault = |dice: &mut fastrand::Rng| Fault::Bus(trouble(dice, servers));
            timeline(dice, &mut script, HEAL, fault);
        }
    }
    for server in 0..servers {
        if weather.stalls && dice.bool() {
            timeline(dice, &mut script, HEAL, |_| Fault::Stall(server));
        }
        if weather.servers && dice.bool() {
            // Who comes back needs a moment before the end.
            let end = HEAL - Duration::from_secs(1);
            timeline(dice, &mut script, end, |dice| match dice.bool() {
                true => Fault::Crash(server),
                false => Fault::Close(server),
            });
        }
    }
    for player in players {
        if weather.players && dice.bool() {
            timeline(dice, &mut script, PLAYERS_END, |dice| match dice.u8(..3) {
                0 => Fault::Partition(player.clone()),
                1 => Fault::Hold(player.clone()),
                _ => Fault::Kill(player.clone()),
            });
        }
    }
    script
}

/// One fault after the other.
fn timeline(
    dice: &mut fastrand::Rng,
    script: &mut Vec<Spell>,
    end: Duration,
    fault: impl Fn(&mut fastrand::Rng) -> Fault,
) {
    let mut from = BEGIN + Duration::from_millis(dice.u64(..6_000));
    while from < end {
        let lasts = match dice.u8(..3) {
            0 => dice.u64(50..900),
            1 => dice.u64(900..4_000),
            _ => dice.u64(4_000..15_000),
        };
        let to = (from + Duration::from_millis(lasts)).min(end);
        let fault = fault(dice);
        script.push(Spell { fault, from, to });
        from = to + Duration::from_millis(dice.u64(20..6_000));
    }
}

fn trouble(dice: &mut fastrand::Rng, servers: usize) -> Trouble {
    let one = dice.usize(..servers);
    match dice.u8(..8) {
        0 => Trouble::Slow(Duration::from_millis(dice.u64(5..1_500))),
        1 => Trouble::Loss(dice.u8(1..60)),
        2 => Trouble::Gone((0..servers).collect()),
        3 => Trouble::Gone(vec![one]),
        4 | 5 => Trouble::Cut((0..servers).filter(|_| dice.bool()).collect()),
        6 => Trouble::OneWay(one, (one + dice.usize(1..servers)) % servers),
        _ => Trouble::Held(one),
    }
}
