//! The schedule of faults with a single server.

use std::time::Duration;

use turmoil::Sim;

use crate::run::SERVER;

/// Time at which all faults are over.
pub const END: Duration = Duration::from_secs(30);

/// A change of the network or of a program.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Loses everything between a player and the server.
    Partition(String),
    /// Loses everything sent to a player.
    PartitionTo(String),
    /// Loses everything sent by a player.
    PartitionFrom(String),
    /// Ends the loss.
    Repair(String),
    /// Holds everything between a player and the server.
    Hold(String),
    /// Delivers everything that was held.
    Release(String),
    /// Sets the largest latency between a player and the server.
    Latency(String, Duration),
    /// Kills a program.
    Crash(String),
    /// Starts a killed program again.
    Bounce(String),
    /// Asks the server to stop and start again.
    Close,
}

impl Action {
    pub fn apply(self, sim: &mut Sim<'_>) {
        match self {
            Self::Partition(name) => sim.partition(name, SERVER),
            Self::PartitionTo(name) => sim.partition_oneway(SERVER, name),
            Self::PartitionFrom(name) => sim.partition_oneway(name, SERVER),
            Self::Repair(name) => sim.repair(name, SERVER),
            Self::Hold(name) => sim.hold(name, SERVER),
            Self::Release(name) => sim.release(name, SERVER),
            Self::Latency(name, most) => sim.set_link_max_message_latency(name, SERVER, most),
            Self::Crash(name) => sim.crash(name),
            Self::Bounce(name) => sim.bounce(name),
            Self::Close => unreachable!("the run applies this one itself"),
        }
    }
}

/// Returns a schedule with consecutive faults for each player, and sometimes one of the server. All of
/// them are over at [`END`].
pub fn script(random: &mut fastrand::Rng, names: &[String]) -> Vec<(Duration, Action)> {
    let mut script = Vec::new();
    for name in names {
        let mut at = Duration::from_millis(random.u64(..8_000));
        while at < END {
            let duration = Duration::from_millis(match random.u8(..3) {
                0 => random.u64(50..500),
                1 => random.u64(500..5_000),
                _ => random.u64(5_000..25_000),
            });
            let end_at = (at + duration).min(END);
            let name = || name.clone();
            let (begin, end) = match random.u8(..7) {
                0 => (Action::Partition(name()), Action::Repair(name())),
                1 => (Action::PartitionTo(name()), Action::Repair(name())),
                2 => (Action::PartitionFrom(name()), Action::Repair(name())),
                3 | 4 => (Action::Hold(name()), Action::Release(name())),
                5 => (Action::Crash(name()), Action::Bounce(name())),
                _ => {
                    let slow = Duration::from_millis(random.u64(200..3_000));
                    let fast = Duration::from_millis(random.u64(1..100));
                    (Action::Latency(name(), slow), Action::Latency(name(), fast))
                }
            };
            script.push((at, begin));
            script.push((end_at, end));
            at = end_at + Duration::from_millis(random.u64(20..8_000));
        }
    }
    if random.bool() {
        let at = Duration::from_millis(random.u64(1_000..END.as_millis() as u64 - 6_000));
        if random.bool() {
            script.push((at, Action::Close));
        } else {
            let end_at = at + Duration::from_millis(random.u64(..5_000));
            script.push((at, Action::Crash(SERVER.to_owned())));
            script.push((end_at, Action::Bounce(SERVER.to_owned())));
        }
    }
    script.sort_by_key(|(at, _)| *at);
    script
}
