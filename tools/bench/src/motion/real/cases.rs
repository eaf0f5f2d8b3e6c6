//! The cases: networks, and who is behind them.

use std::time::Duration;

use super::conditions::{Bottleneck, Conditions, Loss};

/// The players who are behind the bad network; the others have a perfect one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behind {
    Viewer,
    Walker,
    /// Each of the two is behind a network of its own.
    Both,
}

impl Behind {
    const ALL: [Self; 3] = [Self::Viewer, Self::Walker, Self::Both];

    fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Walker => "walker",
            Self::Both => "both",
        }
    }
}

/// A network and the players behind it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Case {
    /// The name on the command line and in the table.
    pub(super) name: String,
    pub(super) behind: Behind,
    pub(super) conditions: Conditions,
    /// Linux's name of the congestion control of both ends.
    pub(super) congestion_control: &'static str,
    /// Whether somebody else's transfers take the same way: from the walker, and to the viewer.
    pub(super) has_transfers: bool,
}

/// The case of the short form.
pub(super) const QUICK: &str = "60-2-both";

/// Returns all cases in the order of the table.
pub(super) fn all() -> Vec<Case> {
    let case = |network: &str, conditions, behind: Behind| Case {
        name: format!("{network}-{}", behind.name()),
        behind,
        conditions,
        congestion_control: "cubic",
        has_transfers: false,
    };
    let mut cases = vec![Case {
        name: "lan".into(),
        ..case("lan", Conditions::PERFECT, Behind::Viewer)
    }];
    let networks = [
        ("60", around(60, 20)),
        ("60-2", lossy(around(60, 20), 0.02)),
        ("60-5", lossy(around(60, 20), 0.05)),
        ("150-5", lossy(around(150, 50), 0.05)),
    ];
    for (network, conditions) in networks {
        cases.extend(Behind::ALL.map(|behind| case(network, conditions, behind)));
    }
    let reorders = Conditions {
        reorders: true,
        ..lossy(around(60, 20), 0.02)
    };
    cases.push(case("60-2-reorder", reorders, Behind::Both));
    cases.push(Case {
        congestion_control: "bbr",
        ..case("60-2-bbr", lossy(around(60, 20), 0.02), Behind::Both)
    });
    // About every two seconds hardly anything arrives for 80 ms on average.
    let bursts = Conditions {
        loss: Loss::Bursts {
            good: Duration::from_secs(2),
            bad: Duration::from_millis(80),
            probability: 0.8,
        },
        ..around(60, 20)
    };
    cases.push(case("bursts", bursts, Behind::Both));
    // 4 Mbit/s and a buffer of a quarter of a second.
    let bloat = Conditions {
        bottleneck: Some(Bottleneck {
            bytes_per_s: 500_000,
            buffer_bytes: 125_000,
        }),
        ..around(20, 5)
    };
    cases.push(Case {
        has_transfers: true,
        ..case("bloat", bloat, Behind::Both)
    });
    cases
}

/// Returns a network of this latency and jitter, in ms.
fn around(latency_ms: u64, jitter_ms: u64) -> Conditions {
    Conditions {
        latency: Duration::from_millis(latency_ms),
        jitter: Duration::from_millis(jitter_ms),
        ..Conditions::PERFECT
    }
}

fn lossy(conditions: Conditions, probability: f64) -> Conditions {
    Conditions {
        loss: Loss::Independent(probability),
        ..conditions
    }
}
