//! What the own cube touches, as this screen shows it.
//!
//! The server moves loose cubes, and they are shown a playout delay in the past: without more, the own cube would run
//! into them for a while before they give way. So what overlaps the own cube, or the one that it carries, is pushed out
//! here in the same frame. Such a cube keeps the way from where the server's news show it to where it is shown. The way
//! becomes shorter as the news come after it, and fades.

use std::collections::BTreeMap;
use std::time::Duration;

use cubesync_protocol::CubeId;
use cubesync_protocol::interpolation::DrawnPose;

/// Time within which a cube goes two thirds of its way back to where the news show it.
const FADES_S: f32 = 0.08;
/// A shorter way is none.
const SHORTEST_M: f32 = 0.002;
/// A cube is not shown farther from where the news show it than this.
const LONGEST_M: f32 = 2.5;
/// Longest time between two frames that counts.
const LONGEST_FRAME_S: f32 = 0.1;

/// The loose cubes that are shown elsewhere than the server's news show them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Contacts {
    pushed: BTreeMap<CubeId, Pushed>,
    at: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Pushed {
    /// From where the news show the cube to where it is shown, level with the floor.
    way_m: [f32; 2],
    /// Where the news showed it a frame ago.
    news_m: [f32; 3],
}

/// A cube somewhere in a room.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    centre_m: [f32; 3],
    /// The directions of its edges, each as long as half an edge.
    halves: [[f32; 3]; 3],
}

impl Contacts {
    /// Goes on to a frame, in which these are the cubes that push, and where the news show loose ones.
    pub(crate) fn advance(
        &mut self,
        now: Duration,
        pushers: &[Block],
        loose: impl Iterator<Item = (CubeId, DrawnPose, f32)>,
    ) {
        let dt_s = now.saturating_sub(self.at).as_secs_f32();
        self.at = now;
        let kept = (-dt_s.min(LONGEST_FRAME_S) / FADES_S).exp();
        let before = std::mem::take(&mut self.pushed);
        for (cube, news, width_m) in loose {
            let pushed = before.get(&cube);
            let mut way_m = pushed.map_or([0.0; 2], |pushed| {
                shortened(pushed.way_m, pushed.news_m, news.position)
            });
            way_m = way_m.map(|way| way * kept);
            for pusher in pushers {
                if !pusher.may_touch(news.position, way_m, width_m) {
                    continue;
                }
                let shown = Block::new(news, width_m).moved(way_m);
                let out_m = shown.way_out_of(pusher);
                way_m = [way_m[0] + out_m[0], way_m[1] + out_m[1]];
            }
            let length_m = way_m[0].hypot(way_m[1]);
            if (SHORTEST_M..=LONGEST_M).contains(&length_m) {
                let news_m = news.position;
                self.pushed.insert(cube, Pushed { way_m, news_m });
            }
        }
    }

    /// Returns where a cube is shown that the news show at a place.
    pub(crate) fn shown_m(&self, cube: CubeId, [x, y, z]: [f32; 3]) -> [f32; 3] {
        match self.pushed.get(&cube) {
            Some(Pushed { way_m, .. }) => [x + way_m[0], y + way_m[1], z],
            None => [x, y, z],
        }
    }
}

impl Block {
    /// Returns the cube of this width that is drawn like this.
    pub(crate) fn new(drawn: DrawnPose, width_m: f32) -> Self {
        let [x, y, z, w] = drawn.rotation;
        let turned = [
            [
                1.0 - 2.0 * (y * y + z * z),
                2.0 * (x * y + w * z),
                2.0 * (x * z - w * y),
            ],
            [
                2.0 * (x * y - w * z),
                1.0 - 2.0 * (x * x + z * z),
                2.0 * (y * z + w * x),
            ],
            [
                2.0 * (x * z + w * y),
                2.0 * (y * z - w * x),
                1.0 - 2.0 * (x * x + y * y),
            ],
        ];
        Self {
            centre_m: drawn.position,
            halves: turned.map(|edge| edge.map(|part| part * width_m / 2.0)),
        }
    }

    fn moved(mut self, [x, y]: [f32; 2]) -> Self {
        self.centre_m[0] += x;
        self.centre_m[1] += y;
        self
    }

    /// Returns whether a cube that is at a place may touch this one, in any turn.
    fn may_touch(&self, [x, y, _]: [f32; 3], way_m: [f32; 2], width_m: f32) -> bool {
        let away = [
            x + way_m[0] - self.centre_m[0],
            y + way_m[1] - self.centre_m[1],
        ];
        let half_m = length(self.halves[0]);
        // Half of a cube's diagonal is 0.87 of its width.
        away[0].hypot(away[1]) < 1.75 * half_m + 0.875 * width_m
    }

    /// Returns the shortest way, level with the floor, by which this cube must move so that the other one does not
    /// overlap it. It may be a little too long where edges cross.
    fn way_out_of(&self, other: &Self) -> [f32; 2] {
        let away: [f32; 3] = std::array::from_fn(|axis| self.centre_m[axis] - other.centre_m[axis]);
        let reach = |direction| self.reach(direction) + other.reach(direction);
        if away[2].abs() >= reach([0.0, 0.0, 1.0]) {
            return [0.0; 2];
        }
        let mut shortest: Option<(f32, [f32; 2])> = None;
        for [x, y, _] in self.halves.into_iter().chain(other.halves) {
            let length = x.hypot(y);
            // An upright edge has no direction along the floor.
            if length < 0.05 {
                continue;
            }
            let [x, y] = [x / length, y / length];
            let along = away[0] * x + away[1] * y;
            let depth = reach([x, y, 0.0]) - along.abs();
            if depth <= 0.0 {
                return [0.0; 2];
            }
            if shortest.is_none_or(|(shortest, _)| depth < shortest) {
                shortest = Some((depth, [x, y].map(|part| part * along.signum())));
            }
        }
        shortest.map_or([0.0; 2], |(depth, direction)| {
            direction.map(|part| part * depth)
        })
    }

    /// Returns how far the cube reaches from its centre in a direction.
    fn reach(&self, direction: [f32; 3]) -> f32 {
        let along = |half: [f32; 3]| dot(half, direction).abs();
        self.halves.map(along).iter().sum()
    }
}

/// Returns what is left of a way when the news have come from one place to another: their part along the way is
/// the push, which they bring late.
fn shortened(way_m: [f32; 2], before_m: [f32; 3], now_m: [f32; 3]) -> [f32; 2] {
    let length_m = way_m[0].hypot(way_m[1]);
    let moved = [now_m[0] - before_m[0], now_m[1] - before_m[1]];
    let along_m = (moved[0] * way_m[0] + moved[1] * way_m[1]) / length_m;
    let left = 1.0 - (along_m / length_m).clamp(0.0, 1.0);
    way_m.map(|way| way * left)
}

fn dot(a: [f32; 3], b: [f32; 3]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn length(vector: [f32; 3]) -> f32 {
    dot(vector, vector).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUBE: CubeId = CubeId(7);
    const FRAME: Duration = Duration::from_micros(16_667);
    const WALK_MPS: f32 = 6.0;

    fn at(x: f32, y: f32) -> DrawnPose {
        DrawnPose {
            position: [x, y, 0.5],
            rotation: [0.0, 0.0, 0.0, 1.0],
        }
    }

    /// How far a cube of a metre at `shown` and the own one at `own` overlap.
    fn overlap_m(own: f32, shown: f32) -> f32 {
        (1.0 - (shown - own).abs()).max(0.0)
    }

    /// Walks into a cube two metres ahead for a second, then stands. The server's news of the cube, which it pushes
    /// ahead of the own one, come so many frames late. Returns the deepest overlap, the longest step of the shown cube
    /// beyond a walker's, and the number of frames after the last news until both agree within 2 cm.
    fn walk_into_a_cube(late_frames: usize) -> (f32, f32, usize) {
        let mut contacts = Contacts::default();
        let walk = |frame: usize| WALK_MPS * FRAME.as_secs_f32() * frame.min(60) as f32;
        let pushed = |frame: usize| (walk(frame) + 1.0).max(2.0);
        let (mut deepest, mut longest, mut disagrees) = (0.0_f32, 0.0_f32, 0);
        let mut before = 2.0;
        for frame in 0..180 {
            let own = walk(frame);
            let news = pushed(frame.saturating_sub(late_frames));
            let pushers = [Block::new(at(own, 0.0), 1.0)];
            let loose = [(CUBE, at(news, 0.0), 1.0)].into_iter();
            contacts.advance(FRAME * frame as u32, &pushers, loose);
            let [shown, ..] = contacts.shown_m(CUBE, [news, 0.0, 0.5]);
            deepest = deepest.max(overlap_m(own, shown));
            let step = (shown - before).abs() - WALK_MPS * FRAME.as_secs_f32();
            longest = longest.max(step);
            before = shown;
            if (shown - news).abs() > 0.02 {
                disagrees = frame;
            }
        }
        (deepest, longest, disagrees.saturating_sub(60 + late_frames))
    }

    #[test]
    fn what_the_own_cube_walks_into_gives_way_at_once_and_agrees_soon_with_the_server() {
        for late_frames in [0, 6, 12, 24] {
            let (deepest, longest, disagrees) = walk_into_a_cube(late_frames);
            let figures =
                format!("{late_frames} late: {deepest} m, {longest} m, {disagrees} frames");
            assert!(
                deepest < 0.001 && longest < 0.05 && disagrees <= 18,
                "{figures}"
            );
        }
    }

    #[test]
    fn a_cube_is_pushed_out_by_the_nearest_side_and_goes_back_if_the_server_does_not_move_it() {
        let mut contacts = Contacts::default();
        let pushers = [Block::new(at(0.0, 0.0), 1.0)];
        let loose = || [(CUBE, at(0.2, 0.9), 1.0)].into_iter();
        contacts.advance(FRAME, &pushers, loose());
        let [x, y, _] = contacts.shown_m(CUBE, [0.2, 0.9, 0.5]);
        assert!((x - 0.2).abs() < 1e-4 && (y - 1.0).abs() < 1e-4, "{x} {y}");
        for frame in 2..40 {
            contacts.advance(FRAME * frame, &[], loose());
        }
        assert_eq!(contacts.shown_m(CUBE, [0.2, 0.9, 0.5]), [0.2, 0.9, 0.5]);
        assert!(contacts.pushed.is_empty());
    }

    #[test]
    fn cubes_above_each_other_and_apart_do_not_touch() {
        let below = Block::new(at(0.0, 0.0), 1.0);
        let block = |position, width_m| {
            let drawn = DrawnPose {
                position,
                ..at(0.0, 0.0)
            };
            Block::new(drawn, width_m)
        };
        for (position, width_m) in [
            ([0.1, 0.0, 1.5], 1.0),
            ([1.6, 0.0, 0.5], 2.0),
            ([0.0, 0.8, 0.5], 0.5),
        ] {
            assert_eq!(block(position, width_m).way_out_of(&below), [0.0; 2]);
        }
        // Turned by 45° it reaches farther.
        let sine = (std::f32::consts::PI / 8.0).sin();
        let turned = DrawnPose {
            rotation: [0.0, 0.0, sine, (1.0 - sine * sine).sqrt()],
            ..at(1.1, 0.0)
        };
        let [x, y] = Block::new(turned, 1.0).way_out_of(&below);
        assert!((0.1..0.12).contains(&x.hypot(y)), "{x} {y}");
    }
}
