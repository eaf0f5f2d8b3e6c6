//! The time from the kill of a room's owner until everybody sees everybody again.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cubesync_harness::players::{Among, Players, ROOM, owner};

use super::start;
use crate::bus::Bus;
use crate::measure::Setting;

const SERVERS: u32 = 3;
const PLAYERS_EACH: usize = 10;
/// The measurement fails if everybody does not see everybody after this time.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts three servers with players, kills the owner of their room, and returns how long it took until each
/// player saw all others where they were.
pub(super) fn measure(setting: &Setting) -> Result<Duration> {
    let bus = Bus::start()?;
    let mut servers = start(setting, Some(&bus), SERVERS)?;
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    let players = Players::join(&addresses, PLAYERS_EACH);
    players.outage(Instant::now(), Among::All, PATIENCE)?;
    let pages = servers.iter().map(|server| server.pages);
    let pages: Option<Vec<_>> = pages.collect();
    let (owner, _) = owner(&pages.context("every server has pages")?, ROOM)?;
    let killed_at = Instant::now();
    drop(servers.remove(owner));
    players.outage(killed_at, Among::All, PATIENCE)
}
