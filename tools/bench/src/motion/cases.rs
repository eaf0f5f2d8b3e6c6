//! The cases: every display with every trace through every network.

use crate::network::Network;
use crate::play::{self, Shown};
use crate::rivals::{DeadReckoning, Dynamic, Fixed, Latest, Rival};
use crate::score::{Samples, Score, WARM_UP_S};
use crate::trace::{Motion, Trace};
use crate::whole_way::{self, Behind, Transport};

/// The length of a run, of which two minutes are scored.
pub(crate) const SECONDS: f64 = 120.0 + WARM_UP_S;

/// A method of displaying cubes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum System {
    Ours(Behind, Transport),
    Fixed,
    Dynamic,
    Latest,
    DeadReckoning,
}

impl System {
    /// All systems in the order of the table.
    pub(crate) const ALL: [Self; 10] = [
        Self::Ours(Behind::Viewer, Transport::Tcp),
        Self::Ours(Behind::Walker, Transport::Tcp),
        Self::Ours(Behind::Both, Transport::Tcp),
        Self::Ours(Behind::Viewer, Transport::Datagrams),
        Self::Ours(Behind::Walker, Transport::Datagrams),
        Self::Ours(Behind::Both, Transport::Datagrams),
        Self::Fixed,
        Self::Dynamic,
        Self::Latest,
        Self::DeadReckoning,
    ];

    /// Returns the name in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours(Behind::Viewer, Transport::Tcp) => "TCP, viewer",
            Self::Ours(Behind::Walker, Transport::Tcp) => "TCP, walker",
            Self::Ours(Behind::Both, Transport::Tcp) => "TCP, both",
            Self::Ours(Behind::Viewer, Transport::Datagrams) => "UDP, viewer",
            Self::Ours(Behind::Walker, Transport::Datagrams) => "UDP, walker",
            Self::Ours(Behind::Both, Transport::Datagrams) => "UDP, both",
            Self::Fixed => "fixed 100 ms",
            Self::Dynamic => "Mirror-style",
            Self::Latest => "latest",
            Self::DeadReckoning => "dead reckoning",
        }
    }

    /// Returns whether it is cubesync.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Ours(..))
    }

    /// Returns whether it is another than one before it over this network: where all are on a LAN,
    /// nobody else is behind the network.
    fn differs_over(self, network: &Network) -> bool {
        let is_lan = network.name == Network::LAN.name;
        !is_lan || !matches!(self, Self::Ours(Behind::Walker | Behind::Both, _))
    }

    /// Plays a trace through a network and returns what the system shows.
    pub(crate) fn play(
        self,
        trace: &Trace,
        network: &Network,
        seed: u64,
        seconds: f64,
    ) -> Vec<Shown> {
        let rival = |rival: &mut dyn Rival| play::rival(rival, trace, network, seed, seconds);
        match self {
            Self::Ours(behind, transport) => {
                whole_way::play(trace, network, (behind, transport), seed, seconds)
            }
            Self::Fixed => rival(&mut Fixed::default()),
            Self::Dynamic => rival(&mut Dynamic::default()),
            Self::Latest => at_mean_lag(rival(&mut Latest::default())),
            Self::DeadReckoning => rival(&mut DeadReckoning::default()),
        }
    }
}

/// A system on a trace, or on all of them, through a network.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Case {
    pub(crate) network: String,
    pub(crate) motion: String,
    pub(crate) system: System,
    pub(crate) score: Score,
}

/// The name of the motion in the rows of all traces together.
pub(crate) const ALL_MOTIONS: &str = "all";

/// Plays all cases. For each network, the rows of all traces together come first, then those of each trace.
pub(crate) fn run(seed: u64) -> Vec<Case> {
    let traces = Motion::ALL.map(|motion| (motion.name(), Trace::new(motion, seed, SECONDS)));
    let mut cases = Vec::new();
    for network in &Network::ALL {
        let ends_s = network.outage_ends_s(SECONDS);
        let samples = |system: System| {
            let samples = |(name, trace): &(&'static str, Trace)| {
                let shown = system.play(trace, network, seed, SECONDS);
                (*name, Samples::new(&shown, trace, &ends_s))
            };
            traces.iter().map(samples).collect::<Vec<_>>()
        };
        let systems = System::ALL.into_iter();
        let systems = systems.filter(|system| system.differs_over(network));
        let samples: Vec<_> = systems.map(|system| (system, samples(system))).collect();
        let mut case = |motion: &str, system: System, samples: &Samples| {
            cases.push(Case {
                network: network.name.to_owned(),
                motion: motion.to_owned(),
                system,
                score: samples.score(),
            });
        };
        for (system, samples) in &samples {
            let mut all = Samples::default();
            for (_, samples) in samples {
                all.add(samples);
            }
            case(ALL_MOTIONS, *system, &all);
        }
        for (index, (name, _)) in traces.iter().enumerate() {
            for (system, samples) in &samples {
                case(name, *system, &samples[index].1);
            }
        }
    }
    cases
}

/// Returns the delay of a display without a clock: the average age of the snapshots.
fn at_mean_lag(mut shown: Vec<Shown>) -> Vec<Shown> {
    let lag_s = |shown: &Shown| shown.time_s - shown.truth_s;
    let mean_s = shown.iter().map(lag_s).sum::<f64>() / shown.len().max(1) as f64;
    for shown in &mut shown {
        shown.truth_s = shown.time_s - mean_s;
    }
    shown
}
