//! An attack: what a few addresses do, and how they prove that they really did it.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;

use super::attackers::Plan;
use super::field;
use super::trial::Scene;
use crate::harness::server::Setup;

/// Numbers of addresses of an attack of which nothing else is said.
const ADDRESSES: &[usize] = &[1, 4, 30];

/// Something that a few addresses do for a while.
pub(super) struct Attack {
    /// The unique name, for `--only`.
    pub(super) name: &'static str,
    /// How the server is started.
    pub(super) setup: &'static Setup,
    /// Number of ghosts that stand in the lobby beforehand.
    pub(super) ghosts: usize,
    /// The numbers of addresses with which it is tried.
    pub(super) addresses: &'static [usize],
    /// The addresses by their numbers.
    pub(super) source: fn(usize) -> IpAddr,
    /// Whether the quick form tries it.
    pub(super) is_quick: bool,
    /// How long it lasts at least.
    pub(super) lasts: Duration,
    /// What each address must have achieved, and how often; with less the attack has not really run.
    pub(super) least: &'static [(&'static str, u64)],
    /// Counters of the server of which one must have grown: limits that the attack reaches.
    pub(super) limits: &'static [&'static str],
    /// What must not have happened to the connections.
    pub(super) never: &'static [&'static str],
    /// Begins it, on the attackers' thread.
    pub(super) start: fn(&Plan),
    /// Tries what must be possible while it goes on, and describes that.
    pub(super) meanwhile: Option<fn(&Scene<'_>) -> Result<String>>,
    /// Tries what must be possible after it.
    pub(super) afterwards: Option<fn(&Scene<'_>) -> Result<String>>,
}

impl Attack {
    /// Returns an attack on a server with default limits.
    pub(super) const fn new(name: &'static str, start: fn(&Plan)) -> Self {
        Self {
            name,
            setup: &super::DEFAULT,
            ghosts: 0,
            addresses: ADDRESSES,
            source: field::source,
            is_quick: false,
            lasts: Duration::ZERO,
            least: &[],
            limits: &[],
            never: &[],
            start,
            meanwhile: None,
            afterwards: None,
        }
    }

    pub(super) const fn on(mut self, setup: &'static Setup) -> Self {
        self.setup = setup;
        self
    }

    pub(super) const fn among_ghosts(mut self, ghosts: usize) -> Self {
        self.ghosts = ghosts;
        self
    }

    pub(super) const fn from(mut self, addresses: &'static [usize]) -> Self {
        self.addresses = addresses;
        self
    }

    pub(super) const fn at(mut self, source: fn(usize) -> IpAddr) -> Self {
        self.source = source;
        self
    }

    pub(super) const fn quick(mut self) -> Self {
        self.is_quick = true;
        self
    }

    pub(super) const fn lasting_s(mut self, seconds: u64) -> Self {
        self.lasts = Duration::from_secs(seconds);
        self
    }

    pub(super) const fn achieving(mut self, least: &'static [(&'static str, u64)]) -> Self {
        self.least = least;
        self
    }

    pub(super) const fn reaching(mut self, limits: &'static [&'static str]) -> Self {
        self.limits = limits;
        self
    }

    pub(super) const fn never(mut self, never: &'static [&'static str]) -> Self {
        self.never = never;
        self
    }

    pub(super) const fn meanwhile(mut self, try_it: fn(&Scene<'_>) -> Result<String>) -> Self {
        self.meanwhile = Some(try_it);
        self
    }

    pub(super) const fn afterwards(mut self, try_it: fn(&Scene<'_>) -> Result<String>) -> Self {
        self.afterwards = Some(try_it);
        self
    }
}
