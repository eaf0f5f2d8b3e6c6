//! A fault: what is done to the server, what it may cost, and what must be counted.

use anyhow::Result;

use crate::harness::server::Setup;
use crate::harness::trial::Trial;

/// One way to be a bad peer, or bad luck.
pub(crate) struct Fault {
    /// The unique name, for `--only`.
    pub(crate) name: &'static str,
    /// Counters whose sum must have gone up by [`Outcome::faulty`]: a reason of
    /// `cubesync_disconnects_total`, or a family and its label, such as `http 404`.
    pub(crate) counters: &'static [&'static str],
    /// Reasons of disconnects that may be counted besides.
    pub(crate) also: &'static [&'static str],
    /// Programs without which it cannot be run; `root` stands for that user.
    pub(crate) needs: &'static [&'static str],
    /// How the server is started.
    pub(crate) setup: &'static Setup,
    /// The largest impact that it may have.
    pub(crate) impact: Impact,
    /// Does it, checks what the peer saw, and describes it.
    pub(crate) run: fn(&mut Trial<'_>) -> Result<Outcome>,
}

impl Fault {
    /// Returns a fault for which `counters` count one for each faulty connection.
    pub(crate) const fn new(
        name: &'static str,
        counters: &'static [&'static str],
        run: fn(&mut Trial<'_>) -> Result<Outcome>,
    ) -> Self {
        Self {
            name,
            counters,
            also: &[],
            needs: &[],
            setup: &Setup::PLAIN,
            impact: Impact::Nothing,
            run,
        }
    }

    /// Allows these disconnects besides.
    pub(crate) const fn also(mut self, reasons: &'static [&'static str]) -> Self {
        self.also = reasons;
        self
    }

    /// Requires these programs.
    pub(crate) const fn needs(mut self, programs: &'static [&'static str]) -> Self {
        self.needs = programs;
        self
    }

    /// Chooses another server.
    pub(crate) const fn on(mut self, setup: &'static Setup) -> Self {
        self.setup = setup;
        self
    }

    /// Allows an impact on others.
    pub(crate) const fn with_impact(mut self, impact: Impact) -> Self {
        self.impact = impact;
        self
    }
}

/// The impact of a fault on others than its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Impact {
    /// None.
    Nothing,
    /// The bystanders may lose their connections, and reconnect by themselves.
    Connections,
    /// The process ends by design, and is started again.
    Process,
}

/// The number that the counters must show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    /// Exactly this number.
    Exactly(u64),
    /// At least this number; the exact one depends on timing.
    AtLeast(u64),
}

/// The outcome of a fault as its peer saw it.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// A description of what the peer saw.
    pub(crate) saw: String,
    /// The number that the counters must show.
    pub(crate) faulty: Count,
}

impl Outcome {
    /// Returns the outcome of one faulty connection.
    pub(crate) fn one(saw: impl Into<String>) -> Self {
        Self::of(1, saw)
    }

    /// Returns the outcome of `faulty` connections.
    pub(crate) fn of(faulty: u64, saw: impl Into<String>) -> Self {
        Self {
            saw: saw.into(),
            faulty: Count::Exactly(faulty),
        }
    }

    /// Returns the outcome of at least `faulty` connections.
    pub(crate) fn at_least(faulty: u64, saw: impl Into<String>) -> Self {
        Self {
            saw: saw.into(),
            faulty: Count::AtLeast(faulty),
        }
    }
}
