//! The schedule of faults.

use std::ops::Range;
use std::time::Duration;

use crate::bus::BusFault;

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
    /// Everything sent to a player is lost.
    PartitionTo(String),
    /// Everything sent by a player is lost.
    PartitionFrom(String),
    /// Everything between a player and the servers waits.
    Hold(String),
    /// Messages between a player and the servers take up to this time.
    Slow(String, Duration),
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
    /// Chooses kinds of faults for a single server.
    pub fn alone(random: &mut fastrand::Rng) -> Self {
        Self {
            bus: false,
            stalls: false,
            servers: random.bool(),
            machines: false,
            players: true,
        }
    }

    /// Chooses kinds of faults for servers on a bus.
    pub fn cluster(random: &mut fastrand::Rng) -> Self {
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

/// Returns a schedule of faults for servers, players and the bus.
pub fn script(
    random: &mut fastrand::Rng,
    kinds: FaultKinds,
    servers: usize,
    players: &[String],
    time: Range<Duration>,
    players_until: Duration,
) -> Vec<TimedFault> {
    let mut script = Vec::new();
    if kinds.bus {
        for _ in 0..random.usize(1..=2) {
            timeline(random, &mut script, &time, |random| {
                Fault::Bus(bus_fault(random, servers))
            });
        }
    }
    // A server that starts again needs a moment before the end.
    let restarts = time.start..time.end - Duration::from_secs(1);
    if kinds.servers && servers > 1 && random.u8(..3) == 0 {
        let mut at = time.start;
        for server in 0..servers {
            at += Duration::from_millis(random.u64(500..4_000));
            let fault = Fault::Close(server);
            script.push(TimedFault {
                fault,
                from: at,
                to: at,
            });
        }
    } else if kinds.servers {
        for server in (0..servers)
            .filter(|_| servers == 1 || random.bool())
            .collect::<Vec<_>>()
        {
            timeline(random, &mut script, &restarts, |random| {
                match random.bool() {
                    true => Fault::Crash(server),
                    false => Fault::Close(server),
                }
            });
        }
    }
    for server in 0..servers {
        if kinds.stalls && random.bool() {
            timeline(random, &mut script, &time, |_| Fault::Stall(server));
        }
    }
    for name in players {
        if kinds.players && (servers == 1 || random.bool()) {
            timeline(
                random,
                &mut script,
                &(time.start..players_until),
                |random| player_fault(random, name.clone()),
            );
        }
    }
    script
}

/// Adds consecutive faults to a schedule.
fn timeline(
    random: &mut fastrand::Rng,
    script: &mut Vec<TimedFault>,
    time: &Range<Duration>,
    fault: impl Fn(&mut fastrand::Rng) -> Fault,
) {
    let mut from = time.start + Duration::from_millis(random.u64(..7_000));
    while from < time.end {
        let duration_ms = match random.u8(..3) {
            0 => random.u64(50..500),
            1 => random.u64(500..5_000),
            _ => random.u64(5_000..25_000),
        };
        let to = (from + Duration::from_millis(duration_ms)).min(time.end);
        let fault = fault(random);
        script.push(TimedFault { fault, from, to });
        from = to + Duration::from_millis(random.u64(20..7_000));
    }
}

fn player_fault(random: &mut fastrand::Rng, name: String) -> Fault {
    match random.u8(..7) {
        0 => Fault::Partition(name),
        1 => Fault::PartitionTo(name),
        2 => Fault::PartitionFrom(name),
        3 | 4 => Fault::Hold(name),
        5 => Fault::Kill(name),
        _ => Fault::Slow(name, Duration::from_millis(random.u64(200..3_000))),
    }
}

fn bus_fault(random: &mut fastrand::Rng, servers: usize) -> BusFault {
    let one = random.usize(..servers);
    match random.u8(..9) {
        0 => BusFault::Slow(Duration::from_millis(random.u64(5..1_500))),
        1 => BusFault::Loss(random.u8(1..60)),
        2 => BusFault::Gone((0..servers).collect()),
        3 => BusFault::Restart,
        4 => BusFault::Gone(vec![one]),
        5 | 6 => BusFault::Cut((0..servers).filter(|_| random.bool()).collect()),
        7 => BusFault::OneWay(one, (one + random.usize(1..servers)) % servers),
        _ => BusFault::Held(one),
    }
}
