//! Keeps the picture steady when a client joins again after a moment without a connection, at the
//! same server or at another one.

use std::time::Duration;

use cubesync_protocol::{CubeId, CubeInfo, Pose, Welcome};

use super::Client;
use crate::session::{Session, can_go_on_from};

/// Longest absence after which the own cube keeps its place. After a longer one everybody has seen
/// it stand at its old place. The age is counted in ticks: bytes may arrive late, as in a tab that
/// wakes up.
const SHORT_ABSENCE: Duration = Duration::from_secs(5);
/// Time after the join in which the server may still learn from other servers who is in the room.
const LATE_NEWS: Duration = Duration::from_secs(5);

/// The picture from before the client joined again.
#[derive(Debug, Default)]
pub(super) struct Rejoin {
    /// The ids and names of the players.
    known_players: Vec<(CubeId, String)>,
    ends_at: Duration,
    /// Where the others are shown until the new session has their places.
    shown_m: Vec<(CubeId, [f32; 3])>,
}

impl Rejoin {
    /// Whether a cube that is reported to have joined was there before. Says so once for each.
    pub(super) fn was_here(&mut self, info: &CubeInfo, now: Duration) -> bool {
        let is_it = |(cube, name): &(CubeId, String)| *cube == info.cube && *name == info.name;
        let known = self.known_players.iter().position(is_it);
        let known = known.filter(|_| now < self.ends_at);
        known
            .map(|index| self.known_players.swap_remove(index))
            .is_some()
    }
}

impl Client {
    /// Remembers what is shown of the last session, which a new one is about to replace.
    pub(super) fn remember(&mut self, previous: &Session, now: Duration) {
        let (Some(replica), Some(clock)) = (previous.replica(), previous.clock()) else {
            return;
        };
        let clock_tick = self.view_tick(clock, now);
        self.rejoin.ends_at = now + LATE_NEWS;
        let names = replica.cubes().map(|info| (info.cube, info.name.clone()));
        self.rejoin.known_players = names.collect();
        let others = replica
            .cubes()
            .filter(|info| !self.view.is_controlled(info.cube));
        let shown = others.map(|info| (info.cube, self.drawn(info, now, clock_tick).position));
        self.rejoin.shown_m = shown.collect();
    }

    /// Blends the shown cubes to where the new session has them.
    pub(super) fn blend_from_previous(&mut self, now: Duration) {
        for (cube, shown_m) in std::mem::take(&mut self.rejoin.shown_m) {
            if let Some(to_m) = self.place_m(cube, now) {
                self.reconciliation.corrected(cube, shown_m, to_m, now);
            }
        }
    }
}

/// Returns where the own cube goes on after a short absence: where it is shown, if it can have come there.
pub(super) fn pose_to_keep(
    previous: Option<&Session>,
    welcome: &Welcome,
    now: Duration,
) -> Option<Pose> {
    let previous = previous?;
    let away_ticks = previous.clock()?.tick_at(now) - previous.replica()?.tick() as f64;
    if away_ticks > SHORT_ABSENCE.as_secs_f64() * f64::from(welcome.tick_hz) {
        return None;
    }
    let pose = previous.own_pose()?;
    can_go_on_from(pose, welcome).then_some(pose)
}
