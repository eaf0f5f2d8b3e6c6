//! The schedule of faults in a cluster.

use std::time::Duration;

use super::bus::BusFault;

/// Time of the first fault, which leaves time to join before it.
const BEGIN: Duration = Duration::from_secs(3);
/// Time at which players' faults are over, early enough for all ghosts to be removed by the end.
const PLAYERS_END: Duration = Duration::from_secs(9);
/// Time at which all faults are over.
pub const HEAL: Duration = Duration::from_secs(20);

/// A fault that lasts for a while.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The bus has a fault.
    Bus(BusFault),
    /// A server neither receives nor sends, and at the end does all of it at once.
    Stall(usize),
    /// A server is killed and starts again at the end.
    Crash(usize),
    /// A server is asked to stop, and starts again by itself.
    Close(usize),
    /// Everything between a player and the servers is lost.
    Partition(String),
    /// Everything between a player and the servers waits.
    Hold(String),
    /// A player's program is killed and starts again at the end.
    Kill(String),
}

/// A fault and its time.
#[derive(Debug, Clone)]
pub struct TimedFault {
    pub fault: Fault,
    pub from: Duration,
    pub to: Duration,
}

/// The kinds of faults that a run has.
#[derive(Debug, Clone, Copy)]
pub struct FaultKinds {
    pub bus: bool,
    pub stalls: bool,
    pub servers: bool,
    /// Whether whole machines fail, so that their connections are not reset.
    pub machines: bool,
    pub players: bool,
}

impl FaultKinds {
    pub fn choose(random: &mut fastrand::Rng) -> Self {
        Self {
            bus: random.u8(..4) > 0,
            stalls: random.u8(..4) == 0,
            servers: random.bool(),
            machines: random.u8(..3) == 0,
            players: random.bool(),
        }
    }

    /// Returns whether servers receive each other's messages all the time.
    pub fn has_clear_bus(self) -> bool {
        !self.bus && !self.stalls
    }
}

/// Returns a schedule of faults for servers, players and the bus. All of them are over at [`HEAL`].
pub fn script(
    random: &mut fastrand::Rng,
    fault_kinds: FaultKinds,
    servers: usize,
    players: &[String],
) -> Vec<TimedFault> {
    let mut script = Vec::new();
    if fault_kinds.bus {
        for _ in 0..random.usize(1..=2) {
            let fault = |random: &mut fastrand::Rng| Fault::Bus(bus_fault(random, servers));
            timeline(random, &mut script, HEAL, fault);
        }
    }
    for server in 0..servers {
        if fault_kinds.stalls && random.bool() {
            timeline(random, &mut script, HEAL, |_| Fault::Stall(server));
        }
        if fault_kinds.servers && random.bool() {
            // A server that starts again needs a moment before the end.
            let end = HEAL - Duration::from_secs(1);
            timeline(random, &mut script, end, |random| match random.bool() {
                true => Fault::Crash(server),
                false => Fault::Close(server),
            });
        }
    }
    for player in players {
        if fault_kinds.players && random.bool() {
            timeline(random, &mut script, PLAYERS_END, |random| {
                match random.u8(..3) {
                    0 => Fault::Partition(player.clone()),
                    1 => Fault::Hold(player.clone()),
                    _ => Fault::Kill(player.clone()),
                }
            });
        }
    }
    script
}

/// Adds consecutive faults to a schedule.
fn timeline(
    random: &mut fastrand::Rng,
    script: &mut Vec<TimedFault>,
    end: Duration,
    fault: impl Fn(&mut fastrand::Rng) -> Fault,
) {
    let mut from = BEGIN + Duration::from_millis(random.u64(..6_000));
    while from < end {
        let duration_ms = match random.u8(..3) {
            0 => random.u64(50..900),
            1 => random.u64(900..4_000),
            _ => random.u64(4_000..15_000),
        };
        let to = (from + Duration::from_millis(duration_ms)).min(end);
        let fault = fault(random);
        script.push(TimedFault { fault, from, to });
        from = to + Duration::from_millis(random.u64(20..6_000));
    }
}

fn bus_fault(random: &mut fastrand::Rng, servers: usize) -> BusFault {
    let one = random.usize(..servers);
    match random.u8(..8) {
        0 => BusFault::Slow(Duration::from_millis(random.u64(5..1_500))),
        1 => BusFault::Loss(random.u8(1..60)),
        2 => BusFault::Gone((0..servers).collect()),
        3 => BusFault::Gone(vec![one]),
        4 | 5 => BusFault::Cut((0..servers).filter(|_| random.bool()).collect()),
        6 => BusFault::OneWay(one, (one + random.usize(1..servers)) % servers),
        _ => BusFault::Held(one),
    }
}
