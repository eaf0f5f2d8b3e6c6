//! How cubes look that a player touches.

use std::collections::BTreeMap;

use cubesync_client::playout::Solid;
use cubesync_protocol::CubeId;

use crate::player::Loose;

/// A gap up to which cubes touch.
const TOUCH_M: f32 = 0.02;
/// A cube agrees with its published pose up to this distance.
const AGREES_M: f32 = 0.01;

/// The figures of a player.
#[derive(Debug, Default)]
pub(super) struct Measure {
    /// The deepest overlap of each frame in which the player touches a loose cube.
    pub(super) overlaps_m: Vec<f64>,
    /// The farthest that a cube moved in a frame, beyond the way of the player's cubes, that of the published cube, and
    /// its own in the frame before.
    pub(super) jump_m: f64,
    /// How far cubes were shown from where they are published: the farthest of each of these frames.
    pub(super) off_m: Vec<f64>,
    /// The times from the end of all contacts until every cube agreed.
    pub(super) agreed_s: Vec<f64>,
    /// The end of contacts after which not all cubes have agreed.
    ended_s: Option<f64>,
    /// Whether the player touches a cube.
    pub(super) is_touching: bool,
    before: BTreeMap<CubeId, Before>,
}

/// A cube in the frame before.
#[derive(Debug, Clone, Copy)]
struct Before {
    shown_m: [f32; 3],
    published_m: [f32; 3],
    way_m: f32,
}

impl Measure {
    /// Adds a frame: what the player moves, and what is shown of loose cubes.
    pub(super) fn add(&mut self, now_s: f64, pushers: &[Loose], loose: &[Loose]) {
        let solid = |it: &Loose| Solid::new(it.width_m, &it.shown);
        let own: Vec<_> = pushers.iter().map(solid).collect();
        let overlap_m = |it: &Loose| {
            let depths = own.iter().map(|own| own.overlap_m(&solid(it)));
            depths.fold(f32::NEG_INFINITY, f32::max)
        };
        let deepest_m = loose
            .iter()
            .map(overlap_m)
            .fold(f32::NEG_INFINITY, f32::max);
        let all_agree = loose.iter().all(|it| off_m(it) <= AGREES_M);
        self.is_touching = deepest_m > -TOUCH_M;
        if self.is_touching {
            self.overlaps_m.push(deepest_m.max(0.0).into());
            self.off_m
                .push(loose.iter().map(off_m).fold(0.0, f32::max).into());
            self.ended_s = Some(now_s);
        } else if let Some(ended_s) = self.ended_s.filter(|_| all_agree) {
            self.agreed_s.push(now_s - ended_s);
            self.ended_s = None;
        }
        let own_way_m = pushers
            .iter()
            .map(|it| self.ways_m(it)[0])
            .fold(0.0, f32::max);
        for it in loose {
            let [way_m, published_way_m, way_before_m] = self.ways_m(it);
            let before = self.before.get(&it.cube);
            let was_off_m =
                before.map_or(0.0, |before| distance_m(before.shown_m, before.published_m));
            if off_m(it) > 0.0 || was_off_m > 0.0 {
                let explained_m = own_way_m.max(published_way_m).max(way_before_m);
                self.jump_m = self.jump_m.max((way_m - explained_m).into());
            }
        }
        let before = pushers.iter().chain(loose).map(|it| {
            let before = Before {
                shown_m: it.shown.position,
                published_m: it.published.position,
                way_m: self.ways_m(it)[0],
            };
            (it.cube, before)
        });
        self.before = before.collect();
    }

    /// Returns how far a cube has come since the frame before, where it is shown and where it is published, and
    /// how far it came in that frame.
    fn ways_m(&self, it: &Loose) -> [f32; 3] {
        self.before.get(&it.cube).map_or([0.0; 3], |before| {
            let way_m = distance_m(it.shown.position, before.shown_m);
            let published_m = distance_m(it.published.position, before.published_m);
            [way_m, published_m, before.way_m]
        })
    }
}

fn off_m(it: &Loose) -> f32 {
    distance_m(it.shown.position, it.published.position)
}

fn distance_m(a: [f32; 3], b: [f32; 3]) -> f32 {
    let parts = a.iter().zip(b).map(|(a, b)| (a - b).powi(2));
    parts.sum::<f32>().sqrt()
}
