//! What a fault is: who does what to the server, and what must be counted.

use anyhow::Result;

use crate::harness::scene::Scene;
use crate::harness::server::Setup;

/// One way to be a bad peer, or bad luck.
pub(crate) struct Fault {
    /// Unique, for `--only`.
    pub(crate) name: &'static str,
    /// Counters whose sum must have gone up by [`Outcome::faulty`]: a reason of
    /// `cubesync_disconnects_total`, or a family and its label, such as `http 404`.
    pub(crate) counters: &'static [&'static str],
    /// Reasons of disconnects that may be counted besides.
    pub(crate) also: &'static [&'static str],
    /// Programs without which it cannot be run; `root` stands for that user.
    pub(crate) needs: &'static [&'static str],
    /// The server that it is done to.
    pub(crate) setup: &'static Setup,
    /// What it may cost.
    pub(crate) toll: Toll,
    /// Does it, checks what the peer saw, and says it.
    pub(crate) run: fn(&mut Scene<'_>) -> Result<Outcome>,
}

impl Fault {
    /// A fault of which `counters` count one for each faulty connection.
    pub(crate) const fn new(
        name: &'static str,
        counters: &'static [&'static str],
        run: fn(&mut Scene<'_>) -> Result<Outcome>,
    ) -> Self {
        Self {
            name,
            counters,
            also: &[],
            needs: &[],
            setup: &Setup::PLAIN,
            toll: Toll::Nothing,
            run,
        }
    }

    /// The same where these disconnects may be counted besides.
    pub(crate) const fn also(mut self, reasons: &'static [&'static str]) -> Self {
        self.also = reasons;
        self
    }

    /// The same where it needs these programs.
    pub(crate) const fn needs(mut self, programs: &'static [&'static str]) -> Self {
        self.needs = programs;
        self
    }

    /// The same on another server.
    pub(crate) const fn on(mut self, setup: &'static Setup) -> Self {
        self.setup = setup;
        self
    }

    /// The same where it may cost more than nothing.
    pub(crate) const fn costs(mut self, toll: Toll) -> Self {
        self.toll = toll;
        self
    }
}

/// What a fault costs those who did nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Toll {
    /// Nobody's connection.
    Nothing,
    /// The bystanders may lose their connections, and come back by themselves.
    Connections,
    /// The process ends by design, and is started again.
    Process,
}

/// How often something must have been counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    /// Exactly so often.
    Exactly(u64),
    /// It depends on timing how often, but this often at least.
    AtLeast(u64),
}

/// What a fault looked like from the outside.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What the peer saw, for a person.
    pub(crate) saw: String,
    /// How often the counters must have counted.
    pub(crate) faulty: Count,
}

impl Outcome {
    /// Of one faulty connection.
    pub(crate) fn one(saw: impl Into<String>) -> Self {
        Self::of(1, saw)
    }

    /// Of so many.
    pub(crate) fn of(faulty: u64, saw: impl Into<String>) -> Self {
        Self {
            saw: saw.into(),
            faulty: Count::Exactly(faulty),
        }
    }

    /// Of at least so many.
    pub(crate) fn at_least(faulty: u64, saw: impl Into<String>) -> Self {
        Self {
            saw: saw.into(),
            faulty: Count::AtLeast(faulty),
        }
    }
}
