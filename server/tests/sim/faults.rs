//! What goes wrong, and when.

use std::time::Duration;

use turmoil::Sim;

use crate::run::SERVER;

/// From here on everything is in order.
pub const END: Duration = Duration::from_secs(30);

/// Something is done to the network or to a program.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// What is sent is lost.
    Partition(String),
    /// What is sent to this one is lost.
    PartitionTo(String),
    /// What is sent by this one is lost.
    PartitionFrom(String),
    /// Nothing is lost any more.
    Repair(String),
    /// What is sent waits.
    Hold(String),
    /// It comes.
    Release(String),
    /// The way gets so long, at most.
    Latency(String, Duration),
    /// A program is killed.
    Crash(String),
    /// It starts again.
    Bounce(String),
    /// The server is asked to stop, and starts again.
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
            Self::Close => unreachable!("it is no matter of the network"),
        }
    }
}

/// One fault after the other for each player, and now and then one of the server; all of them are
/// over at the [`END`].
pub fn script(dice: &mut fastrand::Rng, names: &[String]) -> Vec<(Duration, Action)> {
    let mut script = Vec::new();
    for name in names {
        let mut at = Duration::from_millis(dice.u64(..8_000));
        while at < END {
            let lasts = Duration::from_millis(match dice.u8(..3) {
                0 => dice.u64(50..500),
                1 => dice.u64(500..5_000),
                _ => dice.u64(5_000..25_000),
            });
            let over = (at + lasts).min(END);
            let name = || name.clone();
            let (begin, end) = match dice.u8(..7) {
                0 => (Action::Partition(name()), Action::Repair(name())),
                1 => (Action::PartitionTo(name()), Action::Repair(name())),
                2 => (Action::PartitionFrom(name()), Action::Repair(name())),
                3 | 4 => (Action::Hold(name()), Action::Release(name())),
                5 => (Action::Crash(name()), Action::Bounce(name())),
                _ => {
                    let slow = Duration::from_millis(dice.u64(200..3_000));
                    let fast = Duration::from_millis(dice.u64(1..100));
                    (Action::Latency(name(), slow), Action::Latency(name(), fast))
                }
            };
            script.push((at, begin));
            script.push((over, end));
            at = over + Duration::from_millis(dice.u64(20..8_000));
        }
    }
    if dice.bool() {
        let at = Duration::from_millis(dice.u64(1_000..END.as_millis() as u64 - 6_000));
        if dice.bool() {
            script.push((at, Action::Close));
        } else {
            let over = at + Duration::from_millis(dice.u64(..5_000));
            script.push((at, Action::Crash(SERVER.to_owned())));
            script.push((over, Action::Bounce(SERVER.to_owned())));
        }
    }
    script.sort_by_key(|(at, _)| *at);
    script
}
