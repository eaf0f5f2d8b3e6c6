//! What the own cube touches, as this screen shows it.
//!
//! The server moves loose cubes, and they are shown a playout delay in the past: without more, the own cube would run
//! into them for a while before they give way. So what overlaps the own cube, or the one that it carries, is pushed out
//! here in the same frame. Such a cube keeps the way from where the server's news show it to where it is shown. The way
//! becomes shorter as the news come after it, and fades. A cube that this client lets go flies on at once, until the
//! news of its flight come.

use std::collections::BTreeMap;
use std::time::Duration;

use cubesync_protocol::CubeId;
use cubesync_protocol::interpolation::DrawnPose;

/// Time within which a cube goes two thirds of its way back to where the news show it.
const FADES_S: f32 = 0.08;
/// The same for a cube that has flown: the news follow it on its whole flight.
const FLIGHT_FADES_S: f32 = 0.25;
/// Longest time that a cube flies without news of it.
const LONGEST_FLIGHT_S: f32 = 1.0;
/// Motion of a cube that is faster than what pushes it and than its news, and how much farther it may get in a frame.
/// Where server and screen push to different sides, it goes around the own cube in some frames instead of jumping.
const PUSH_MPS: f32 = 4.0;
const JUMP_M: f32 = 0.04;
/// How far the news move a cube of which they know that it flies.
const NEWS_M: f32 = 0.03;
const GRAVITY_MPS2: f32 = 9.81;
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
    flights: BTreeMap<CubeId, Flight>,
    /// Where the cubes that push were a frame ago.
    pushers_m: Vec<[f32; 3]>,
    /// Where the carried cube is, and its velocity.
    carried: Option<(CubeId, [f32; 3], [f32; 3])>,
    at: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Pushed {
    /// From where the news show the cube to where it is shown.
    way_m: [f32; 3],
    /// Where the news showed it a frame ago.
    news_m: [f32; 3],
    has_flown: bool,
}

/// The flight of a cube of which the news know nothing yet.
#[derive(Debug, Clone, Copy)]
struct Flight {
    from_m: [f32; 3],
    velocity_mps: [f32; 3],
    began: Duration,
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
        let dt_s = dt_s.min(LONGEST_FRAME_S);
        let before = std::mem::take(&mut self.pushed);
        let places = pushers.iter().map(|pusher| pusher.centre_m).collect();
        let places_before = std::mem::replace(&mut self.pushers_m, places);
        let pusher_steps_m = self.pushers_m.iter().zip(places_before);
        let pusher_steps_m =
            pusher_steps_m.map(|(now_m, before_m)| length(difference(*now_m, before_m)));
        let pusher_step_m = pusher_steps_m.fold(0.0, f32::max);
        for (cube, news, width_m) in loose {
            let pushed = before.get(&cube);
            let mut way_m = pushed.map_or([0.0; 3], |pushed| pushed.left(news.position, dt_s));
            let mut has_flown = pushed.is_some_and(|pushed| pushed.has_flown);
            if let Some(flown_m) = self.flown(cube, news.position, width_m) {
                way_m = difference(flown_m, news.position);
                has_flown = true;
            }
            for pusher in pushers {
                let shown = Block::new(news, width_m).moved(way_m);
                if pusher.may_touch(&shown) {
                    let [x, y] = shown.way_out_of(pusher);
                    way_m = [way_m[0] + x, way_m[1] + y, way_m[2]];
                }
            }
            way_m = within(way_m, LONGEST_M);
            if length(way_m) < SHORTEST_M && pushed.is_none() {
                continue;
            }
            let shown_before = pushed.map_or(news.position, Pushed::shown_m);
            let news_step_m = pushed.map_or(0.0, |it| length(difference(news.position, it.news_m)));
            let longest_m = news_step_m.max(pusher_step_m) + PUSH_MPS * dt_s + JUMP_M;
            let step_m = difference(sum(news.position, way_m), shown_before);
            let shown_m = sum(shown_before, within(step_m, longest_m));
            let pushed = Pushed {
                way_m: difference(shown_m, news.position),
                news_m: news.position,
                has_flown,
            };
            if length(pushed.way_m) >= SHORTEST_M {
                self.pushed.insert(cube, pushed);
            }
        }
    }

    /// Notes where the cube is that this client carries, in each frame.
    pub(crate) fn carry(&mut self, now: Duration, carried: Option<(CubeId, [f32; 3])>) {
        let dt_s = now.saturating_sub(self.at).as_secs_f32();
        self.carried = carried.map(|(cube, place_m)| {
            let before = self
                .carried
                .filter(|(before, ..)| *before == cube && dt_s > 0.0);
            let velocity_mps = before.map_or([0.0; 3], |(_, before_m, _)| {
                difference(place_m, before_m).map(|way_m| way_m / dt_s)
            });
            (cube, place_m, velocity_mps)
        });
    }

    /// Lets a cube that was carried fly on.
    pub(crate) fn let_go(&mut self, cube: CubeId) {
        let carried = self.carried.take_if(|(carried, ..)| *carried == cube);
        if let Some((_, from_m, velocity_mps)) = carried {
            let flight = Flight {
                from_m,
                velocity_mps,
                began: self.at,
            };
            self.flights.insert(cube, flight);
        }
    }

    /// Returns whether a cube flies of which the news know nothing yet.
    pub(crate) fn flies(&self, cube: CubeId) -> bool {
        self.flights.contains_key(&cube)
    }

    /// Returns where a cube is on its flight, unless the news know of it or it has come to the floor.
    fn flown(&mut self, cube: CubeId, news_m: [f32; 3], width_m: f32) -> Option<[f32; 3]> {
        let flight = self.flights.get(&cube)?;
        let seconds = self.at.saturating_sub(flight.began).as_secs_f32();
        let [x, y, z] =
            std::array::from_fn(|axis| flight.from_m[axis] + flight.velocity_mps[axis] * seconds);
        let z = z - GRAVITY_MPS2 / 2.0 * seconds * seconds;
        let is_known = length(difference(news_m, flight.from_m)) > NEWS_M;
        if is_known || seconds > LONGEST_FLIGHT_S || z <= width_m / 2.0 {
            self.flights.remove(&cube);
            return None;
        }
        Some([x, y, z])
    }

    /// Returns where a cube is shown that the news show at a place.
    pub(crate) fn shown_m(&self, cube: CubeId, [x, y, z]: [f32; 3]) -> [f32; 3] {
        match self.pushed.get(&cube) {
            Some(Pushed { way_m, .. }) => sum([x, y, z], *way_m),
            None => [x, y, z],
        }
    }
}

impl Pushed {
    /// Returns where the cube was shown a frame ago.
    fn shown_m(&self) -> [f32; 3] {
        sum(self.news_m, self.way_m)
    }

    /// Returns what is left of the way in the next frame. The part of the news along the way is the push, which they
    /// bring late.
    fn left(&self, news_m: [f32; 3], dt_s: f32) -> [f32; 3] {
        let (mut left, fades_s) = match self.has_flown {
            true => (1.0, FLIGHT_FADES_S),
            false => {
                let length_m = length(self.way_m);
                let along_m = dot(difference(news_m, self.news_m), self.way_m) / length_m;
                (1.0 - (along_m / length_m).clamp(0.0, 1.0), FADES_S)
            }
        };
        left *= (-dt_s / fades_s).exp();
        self.way_m.map(|way| way * left)
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

    fn moved(mut self, way_m: [f32; 3]) -> Self {
        for (centre_m, way_m) in self.centre_m.iter_mut().zip(way_m) {
            *centre_m += way_m;
        }
        self
    }

    /// Returns whether another cube may touch this one, in any turn.
    fn may_touch(&self, other: &Self) -> bool {
        let [x, y, _] = difference(other.centre_m, self.centre_m);
        // Half of a cube's diagonal is 1.74 times half of its edge.
        x.hypot(y) < 1.74 * (length(self.halves[0]) + length(other.halves[0]))
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

fn difference(a: [f32; 3], b: [f32; 3]) -> [f32; 3] {
    std::array::from_fn(|axis| a[axis] - b[axis])
}

fn sum(a: [f32; 3], b: [f32; 3]) -> [f32; 3] {
    std::array::from_fn(|axis| a[axis] + b[axis])
}

/// Returns the vector, shortened to at most `longest`.
fn within(vector: [f32; 3], longest: f32) -> [f32; 3] {
    let length = length(vector);
    match length <= longest {
        true => vector,
        false => vector.map(|part| part / length * longest),
    }
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
    fn a_thrown_cube_flies_at_once_and_comes_to_agree_with_the_news_of_its_flight() {
        let throw = |seconds: f32| {
            let fallen_m = GRAVITY_MPS2 / 2.0 * seconds * seconds;
            [6.0 * seconds, 0.0, 2.0 - fallen_m]
        };
        for late_frames in [6, 12] {
            let mut contacts = Contacts::default();
            let dt_s = FRAME.as_secs_f32();
            for frame in 0..4 {
                let carried = [-6.0 * dt_s * (3 - frame) as f32, 0.0, 2.0];
                contacts.carry(FRAME * frame, Some((CUBE, carried)));
                contacts.advance(FRAME * frame, &[], std::iter::empty());
            }
            contacts.let_go(CUBE);
            let (mut before, mut longest) = (0.0, 0.0_f32);
            for frame in 1..30 {
                let known = frame.max(late_frames) - late_frames;
                let [x, y, z] = throw(known as f32 * dt_s);
                let news = DrawnPose {
                    position: [x, y, z.max(0.5)],
                    ..at(0.0, 0.0)
                };
                let loose = [(CUBE, news, 1.0)].into_iter();
                contacts.advance(FRAME * (3 + frame), &[], loose);
                let shown = contacts.shown_m(CUBE, news.position);
                assert!(shown[0] > before, "{late_frames}: it stands at {frame}");
                longest = longest.max(shown[0] - before);
                before = shown[0];
            }
            assert!(longest < 6.0 * dt_s + 0.05, "{longest}");
        }
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
