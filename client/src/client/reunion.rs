//! What stays the same for a player whose client was away for a moment and is in the room again, at
//! the same server or at another one.

use std::time::Duration;

use cubesync_protocol::{CubeId, CubeInfo, Pose, Welcome};

use super::Client;
use crate::session::Session;

/// Who knows nothing newer than this was away: everybody saw the cube stand, and there it is. Bytes
/// may come late, as to a tab that wakes up; ticks say how old they are.
const BRIEF: Duration = Duration::from_secs(5);
/// So long after the join, a server may still learn from the others who is in the room.
const LASTS: Duration = Duration::from_secs(5);

/// Who was there before.
#[derive(Debug, Default)]
pub(super) struct Reunion {
    /// Their names.
    familiar: Vec<(CubeId, String)>,
    ends_at: Duration,
    /// Where others are shown until the new session says where they are.
    shown_m: Vec<(CubeId, [f32; 3])>,
}

impl Reunion {
    /// Whether the news that a cube joined is none: it was there before. Once for each.
    pub(super) fn is_old_news(&mut self, info: &CubeInfo, now: Duration) -> bool {
        let is_it = |(cube, name): &(CubeId, String)| *cube == info.cube && *name == info.name;
        let known = self.familiar.iter().position(is_it);
        let known = known.filter(|_| now < self.ends_at);
        known
            .map(|index| self.familiar.swap_remove(index))
            .is_some()
    }
}

impl Client {
    /// Takes note of what is shown of the last session, which a new one is about to replace.
    pub(super) fn remember(&mut self, previous: &Session, now: Duration) {
        let (Some(replica), Some(clock)) = (previous.replica(), previous.clock()) else {
            return;
        };
        let clock_tick = clock.tick_at(now);
        self.reunion.ends_at = now + LASTS;
        let names = replica.cubes().map(|info| (info.cube, info.name.clone()));
        self.reunion.familiar = names.collect();
        let others = replica
            .cubes()
            .filter(|info| !self.view.is_controlled(info.cube));
        let shown = others.map(|info| (info.cube, self.drawn(info, now, clock_tick).position));
        self.reunion.shown_m = shown.collect();
    }

    /// Lets what is shown come to where the new session says that it is.
    pub(super) fn reunite(&mut self, now: Duration) {
        for (cube, shown_m) in std::mem::take(&mut self.reunion.shown_m) {
            if let Some(to_m) = self.place_m(cube, now) {
                self.ahead.corrected(cube, shown_m, to_m, now);
            }
        }
    }
}

/// Where the own cube goes on after a moment: where it is shown, if it can have come there from where
/// the server knows it to be within half a second; a server lets a cube cover a second's way at once.
pub(super) fn pose_to_go_on(
    previous: Option<&Session>,
    welcome: &Welcome,
    now: Duration,
) -> Option<Pose> {
    let previous = previous?;
    let away_ticks = previous.clock()?.tick_at(now) - previous.replica()?.tick() as f64;
    if away_ticks > BRIEF.as_secs_f64() * f64::from(welcome.tick_hz) {
        return None;
    }
    let pose = previous.own_pose()?;
    let way = pose.position.distance(welcome.pose.position);
    let is_near = welcome.max_speed == 0 || way <= u64::from(welcome.max_speed / 2);
    is_near.then_some(pose)
}
