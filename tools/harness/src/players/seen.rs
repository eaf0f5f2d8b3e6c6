//! What the players see of each other, and since when it is right.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cubesync_client::CubeView;
use cubesync_client::protocol::{CubeId, CubeKind, Pose};

use super::room::{Cube, World};
use super::{Among, Player, RADIUS_M, centre_of, name_of, pose_at};

/// A cube this near to its player is seen as it is now, half a second old at most.
const NEAR_M: f32 = 1.0;
/// A cube farther away from its circle is only predicted.
const OFF_CIRCLE_M: f64 = 0.15;
/// What was wrong within this time is wrong, and so many pairs are described.
const LATELY: Duration = Duration::from_millis(100);
const DESCRIBED: usize = 6;
/// What is wrong with a player whose cube is not there at all.
const MISSING: &str = "does not see";
/// The largest error of a cube in the owner's world: the codec's bound, and rounding. Between two views, of which
/// one may be from afar, it is twice that.
const BOUND_QUANTA: f32 = 2.5;

/// Everything that the players see.
#[derive(Debug)]
pub(super) struct Seen {
    /// Number of players of each server.
    each: usize,
    /// Each player's cube and where it is.
    own: Vec<(Option<CubeId>, Pose)>,
    /// For each viewer, what it sees of each player.
    pairs: Vec<Vec<Pair>>,
    /// For each viewer, all that it sees, while everybody stands.
    views: Vec<World>,
    pub(super) changed_ids: u64,
    pub(super) losses: u64,
}

/// What one player sees of another one.
#[derive(Debug, Clone, Copy)]
struct Pair {
    right_at: Instant,
    /// The longest time from one moment at which it was right to the next one.
    longest_gap: Duration,
    /// When it was wrong for the last time, and why: what the viewer does not see or sees instead.
    wrong: Option<(Instant, &'static str)>,
}

impl Seen {
    pub(super) fn new(count: usize, each: usize) -> Self {
        let pair = Pair {
            right_at: Instant::now(),
            longest_gap: Duration::ZERO,
            wrong: Some((Instant::now(), "is not in the room with")),
        };
        Self {
            each,
            own: vec![(None, Pose::default()); count],
            pairs: vec![vec![pair; count]; count],
            views: vec![World::new(); count],
            changed_ids: 0,
            losses: 0,
        }
    }

    /// Looks at every player's view.
    pub(super) fn look(
        &mut self,
        players: &[Player],
        walked: Duration,
        now: Duration,
        is_calm: bool,
    ) {
        for (number, (player, own)) in players.iter().zip(&mut self.own).enumerate() {
            *own = (player.client.own_cube(), pose_at(number, walked));
        }
        self.changed_ids = players.iter().map(|player| player.changed_ids).sum();
        self.losses = players.iter().map(|player| player.losses).sum();
        for (number, player) in players.iter().enumerate() {
            let views = player.client.cubes(now);
            self.views[number] = if is_calm && player.is_joined() {
                views.iter().map(|view| shown(player, view)).collect()
            } else {
                World::new()
            };
            self.look_at_all(number, player, &views);
        }
    }

    fn look_at_all(&mut self, viewer: usize, player: &Player, views: &[CubeView<'_>]) {
        let is_joined = player.is_joined();
        let count = self.own.len();
        let mut wrong: Vec<_> = vec![Some(MISSING); count];
        let mut others = 0;
        for view in views {
            let Some(seen) = number_of(view.name).filter(|&seen| seen < count) else {
                others += 1;
                continue;
            };
            wrong[seen] = match wrong[seen] {
                Some(MISSING) => self.wrong(seen, player, view),
                _ => Some("sees twice"),
            };
        }
        // The free cube is the only other one.
        if others != 1 {
            wrong[viewer] = Some("sees more than the free cube beside");
        }
        let now = Instant::now();
        for (pair, wrong) in self.pairs[viewer].iter_mut().zip(wrong) {
            match wrong.or((!is_joined).then_some("is not in the room with")) {
                None => {
                    pair.longest_gap = pair.longest_gap.max(now - pair.right_at);
                    pair.right_at = now;
                }
                Some(wrong) => pair.wrong = Some((now, wrong)),
            }
        }
    }

    /// Returns what is wrong with the cube that a player sees under the name of player `seen`.
    fn wrong(&self, seen: usize, player: &Player, view: &CubeView<'_>) -> Option<&'static str> {
        let (own, pose) = self.own[seen];
        if view.kind != CubeKind::Player {
            return Some("sees as a ghost");
        }
        if own.is_some_and(|own| own != view.cube) {
            return Some("sees with another id");
        }
        let known = player.client.server_pose(view.cube).unwrap_or_default();
        let (at, there) = (known.position.to_metres(), pose.position.to_metres());
        let off_m = [0, 1, 2].map(|axis| at[axis] - there[axis]);
        let distance_m = off_m[0].hypot(off_m[1]).hypot(off_m[2]);
        let [x, y] = centre_of(seen);
        let radius_m = (f64::from(at[0]) - x).hypot(f64::from(at[1]) - y);
        let is_there = distance_m < NEAR_M && (radius_m - RADIUS_M).abs() < OFF_CIRCLE_M;
        (!is_there).then_some("sees elsewhere")
    }

    /// Returns when one of these players did not see another one for the last time.
    pub(super) fn last_wrong(&self, among: Among) -> Option<Instant> {
        let wrong = self.among(among).filter_map(|(_, _, pair)| pair.wrong);
        wrong.map(|(at, _)| at).max()
    }

    /// Describes what is wrong among these players.
    pub(super) fn describe(&self, among: Among) -> String {
        let last = self.last_wrong(among);
        let wrong = self.among(among).filter_map(|(viewer, seen, pair)| {
            let (_, why) = pair
                .wrong
                .filter(|(at, _)| last.is_some_and(|last| last - *at < LATELY))?;
            Some(format!("{} {why} {}", name_of(viewer), name_of(seen)))
        });
        let mut wrong: Vec<_> = wrong.collect();
        let count = wrong.len();
        wrong.truncate(DESCRIBED);
        format!("{count} wrong: {}", wrong.join(", "))
    }

    pub(super) fn begin(&mut self) {
        for pair in self.pairs.iter_mut().flatten() {
            (pair.right_at, pair.longest_gap) = (Instant::now(), Duration::ZERO);
        }
    }

    pub(super) fn longest_gap(&self, among: Among) -> Duration {
        let gaps = self.among(among);
        let gaps = gaps.map(|(_, _, pair)| pair.longest_gap.max(pair.right_at.elapsed()));
        gaps.max().unwrap_or_default()
    }

    fn among(&self, among: Among) -> impl Iterator<Item = (usize, usize, &Pair)> {
        let is_among = move |number: usize| match among {
            Among::All => true,
            Among::Server(server) => number / self.each == server,
            Among::Others(server) => number / self.each != server,
        };
        let viewers = self.pairs.iter().enumerate();
        let viewers = viewers.filter(move |&(viewer, _)| is_among(viewer));
        viewers.flat_map(move |(viewer, pairs)| {
            let pairs = pairs.iter().enumerate();
            let pairs = pairs.filter(move |&(seen, _)| is_among(seen));
            pairs.map(move |(seen, pair)| (viewer, seen, pair))
        })
    }

    /// Checks that a world has each player's cube once and where the player is, and that each player sees
    /// exactly this world.
    pub(super) fn compare(&self, world: &World) -> Result<()> {
        let count = world.len();
        ensure!(
            count == self.own.len() + 1,
            "the owner's world has {count} cubes"
        );
        for (number, (own, pose)) in self.own.iter().enumerate() {
            let name = name_of(number);
            let own = own.with_context(|| format!("{name} has no cube"))?;
            let cube = world.get(&own.0);
            let cube = cube.with_context(|| format!("the owner does not have {own} of {name}"))?;
            let place = pose.position.to_metres();
            ensure!(
                cube.name == name && cube.kind == "player" && cube.is_at(place, BOUND_QUANTA),
                "the owner has {name} as {cube:?}, not at {place:?}"
            );
        }
        let last = self.own.last().and_then(|(own, _)| *own);
        let holder = last.map(|cube| cube.0);
        let free = world.values().find(|cube| cube.kind == "free");
        ensure!(
            free.is_some_and(|cube| cube.holder == holder),
            "the owner has {free:?}, which {holder:?} should hold"
        );
        for (number, view) in self.views.iter().enumerate() {
            let name = name_of(number);
            ensure!(
                view.len() == count,
                "{name} sees {} cubes of {count}",
                view.len()
            );
            for (id, cube) in world {
                let seen = view.get(id);
                let is_same = |seen: &Cube| {
                    let is_there = seen.is_at(cube.position, 2.0 * BOUND_QUANTA);
                    let looks = |cube: &Cube| (cube.name.clone(), cube.kind.clone(), cube.holder);
                    is_there && looks(seen) == looks(cube)
                };
                ensure!(
                    seen.is_some_and(is_same),
                    "{name} sees {seen:?}, the owner {cube:?}"
                );
            }
        }
        Ok(())
    }
}

/// Returns the number of the player with this name.
fn number_of(name: &str) -> Option<usize> {
    name.strip_prefix("player")?.parse().ok()
}

/// Returns a cube as a page shows it.
fn shown(player: &Player, view: &CubeView<'_>) -> (u64, Cube) {
    let (kind, holder) = match view.kind {
        CubeKind::Player => ("player", None),
        CubeKind::Ghost => ("ghost", None),
        CubeKind::Free { holder } => ("free", holder.map(|holder| holder.0)),
    };
    let pose = player.client.server_pose(view.cube).unwrap_or_default();
    let cube = Cube {
        name: view.name.to_owned(),
        kind: kind.to_owned(),
        holder,
        position: pose.position.to_metres(),
    };
    (view.cube.0, cube)
}
