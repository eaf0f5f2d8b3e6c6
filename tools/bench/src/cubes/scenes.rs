//! Rooms with loose cubes, played by seeds: the server's mechanics, and players that the client's controller moves as
//! bots do.

use cubesync_client::{Controller, Input};
use cubesync_mechanics::{arrangement, create};
use cubesync_protocol::{Colour, CubeId, Pose, Position, Rotation, Width};
use cubesync_relay::mechanics::{FieldCube, LooseCube, Mechanics, Pusher, Step, Velocity};

use crate::wander::{FIELD_M, Wander, beyond, walk_to};

/// Frames of a player's screen per tick.
const FRAMES_PER_TICK: u32 = 2;
const BRICK_M: f32 = 0.625;
const GAP_M: f32 = 0.01;
/// Largest distance at which a player takes a cube.
const REACH_M: f32 = 2.5;
/// How long a heap falls and settles before its recording begins.
const SETTLE_S: u32 = 20;

/// A kind of play.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A player runs through a wall of 60.
    Wall,
    /// Ten players run into what a room of 900 begins with.
    Shove,
    /// A dense pile of 216 flies apart.
    Blast,
    /// Four players take cubes, carry them about and throw them, in the default room of 60.
    Carry,
    /// A heap of 100 that has come to rest, and nobody touches.
    Heap,
    /// Two players run through piles of another shape, cubes of all widths.
    Ruin,
    /// 250 cubes that are thrown again and again.
    Tumble,
}

impl Kind {
    pub(crate) const ALL: [Self; 7] = [
        Self::Wall,
        Self::Shove,
        Self::Blast,
        Self::Carry,
        Self::Heap,
        Self::Ruin,
        Self::Tumble,
    ];

    /// The kinds of which other seeds train the table of live play. It sees none of the others.
    pub(crate) const TRAINED: [Self; 4] = [Self::Wall, Self::Shove, Self::Blast, Self::Carry];

    /// What happens in it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Wall => "a player runs through a wall of 60",
            Self::Shove => "10 players shove 900 cubes",
            Self::Blast => "a pile of 216 flies apart",
            Self::Carry => "4 players carry and throw, 60 cubes",
            Self::Heap => "a quiet heap of 100",
            Self::Ruin => "2 players run through towers of all widths",
            Self::Tumble => "250 cubes are thrown again and again",
        }
    }

    /// How long it is played, in seconds.
    pub(crate) fn seconds(self) -> u32 {
        match self {
            Self::Wall | Self::Blast => 8,
            Self::Shove => 60,
            _ => 20,
        }
    }

    fn players(self) -> usize {
        match self {
            Self::Wall => 1,
            Self::Shove => 10,
            Self::Carry => 4,
            Self::Ruin => 2,
            Self::Blast | Self::Heap | Self::Tumble => 0,
        }
    }
}

/// Plays a room, the same for the same seed. Returns a pose of each cube at each tick, those of players last.
pub(crate) fn play(kind: Kind, seed: u64, hz: u8) -> Vec<Vec<Pose>> {
    let mut room = Room::new(kind, seed, hz);
    if kind == Kind::Heap {
        for _ in 0..SETTLE_S * u32::from(hz) {
            room.step();
        }
    }
    let mut tracks: Vec<Vec<Pose>> = room.all().map(|pose| vec![pose]).collect();
    for _ in 1..kind.seconds() * u32::from(hz) {
        room.step();
        for (track, pose) in tracks.iter_mut().zip(room.all()) {
            track.push(pose);
        }
    }
    tracks
}

struct Room {
    kind: Kind,
    hz: u8,
    random: fastrand::Rng,
    mechanics: Box<dyn Mechanics>,
    widths: Vec<Width>,
    poses: Vec<Pose>,
    /// When each loose cube is thrown again, in seconds.
    throws_s: Vec<f32>,
    players: Vec<Player>,
    released: Vec<LooseCube>,
}

struct Player {
    cube: Controller,
    wander: Wander,
    errand: Errand,
}

enum Errand {
    /// Wander for so many seconds.
    None { left_s: f32 },
    /// Run to a point.
    Run { to: [f32; 3], left_s: f32 },
    /// Go to the nearest cube and take it.
    Fetch,
    /// Carry a cube.
    Carry { cube: usize, left_s: f32 },
}

impl Room {
    fn new(kind: Kind, seed: u64, hz: u8) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let cubes = cubes(kind, &mut random);
        let loose = cubes.iter().enumerate().map(|(index, cube)| LooseCube {
            cube: CubeId(index as u64),
            width: cube.width,
            pose: cube.pose,
            velocity: start(kind, cube.pose, &mut random),
        });
        let loose: Vec<_> = loose.collect();
        let players = (0..kind.players()).map(|number| {
            let mut wander = Wander::new(seed * 100 + number as u64);
            let at = [random.f32() * 8.0 - 4.0, -6.0 - random.f32() * 6.0, 0.5];
            let errand = match kind {
                Kind::Wall => Errand::Run {
                    to: [at[0] / 2.0, 8.0, 0.5],
                    left_s: 6.0,
                },
                _ => Errand::None {
                    left_s: wander.seconds(0.0, 3.0),
                },
            };
            Player {
                cube: Controller::new(pose_at(at)),
                wander,
                errand,
            }
        });
        Self {
            kind,
            hz,
            players: players.collect(),
            throws_s: loose.iter().map(|_| random.f32() * 2.0).collect(),
            random,
            mechanics: create(hz, &loose),
            widths: loose.iter().map(|cube| cube.width).collect(),
            poses: loose.iter().map(|cube| cube.pose).collect(),
            released: Vec::new(),
        }
    }

    /// Returns the pose of every cube.
    fn all(&self) -> impl Iterator<Item = Pose> {
        let players = self.players.iter().map(|player| player.cube.pose());
        self.poses.iter().copied().chain(players)
    }

    fn step(&mut self) {
        for number in 0..self.players.len() {
            self.step_player(number);
        }
        if self.kind == Kind::Tumble {
            self.throw();
        }
        let held = self
            .players
            .iter()
            .filter_map(|player| match player.errand {
                Errand::Carry { cube, .. } => Some((CubeId(cube as u64), self.widths[cube])),
                _ => None,
            });
        let mut pushers: Vec<_> = held
            .map(|(cube, width)| Pusher {
                cube,
                width,
                pose: self.poses[cube.0 as usize],
            })
            .collect();
        pushers.sort_by_key(|pusher| pusher.cube);
        let first = self.poses.len() as u64;
        pushers.extend(self.players.iter().zip(first..).map(|(player, id)| Pusher {
            cube: CubeId(id),
            width: Width::METRE,
            pose: player.cube.pose(),
        }));
        let released = std::mem::take(&mut self.released);
        let stepped = self.mechanics.step(&Step {
            pushers,
            released,
            ..Step::default()
        });
        for moved in stepped.moved {
            self.poses[moved.cube.0 as usize] = moved.pose;
        }
    }

    fn step_player(&mut self, number: usize) {
        let held: Vec<_> = self.players.iter().filter_map(Player::held).collect();
        let player = &mut self.players[number];
        let tick_s = 1.0 / f32::from(self.hz);
        let own = player.cube.position();
        let fetched = match player.errand {
            Errand::Fetch => nearest(&self.poses, &held, own),
            _ => None,
        };
        for _ in 0..FRAMES_PER_TICK {
            let frame_s = tick_s / FRAMES_PER_TICK as f32;
            let at = player.cube.position();
            let wandering = player.wander.input(at, frame_s);
            let input = match player.errand {
                Errand::Run { to, .. } => Input {
                    fast: true,
                    ..walk_to(at, to)
                },
                Errand::Fetch => fetched.map_or(wandering, |cube| {
                    walk_to(at, self.poses[cube].position.to_metres())
                }),
                Errand::Carry { left_s, .. } if left_s < 0.8 => player.wander.run(),
                _ => wandering,
            };
            player.cube.step(input, frame_s);
        }
        match &mut player.errand {
            Errand::None { left_s } => {
                *left_s -= tick_s;
                if *left_s <= 0.0 {
                    player.errand = match self.kind {
                        Kind::Carry => Errand::Fetch,
                        Kind::Shove | Kind::Ruin => target(&self.poses, &mut self.random, own),
                        _ => Errand::None { left_s: 9.0 },
                    };
                }
            }
            Errand::Run { to, left_s } => {
                *left_s -= tick_s;
                if *left_s <= 0.0 || away(*to, own) < 1.0 {
                    let left_s = player.wander.seconds(0.5, 4.0);
                    player.errand = Errand::None { left_s };
                }
            }
            Errand::Fetch => {
                let near = fetched
                    .filter(|&cube| away(self.poses[cube].position.to_metres(), own) < REACH_M);
                if let Some(cube) = near {
                    let left_s = player.wander.seconds(2.0, 6.0);
                    player
                        .cube
                        .pick_up(self.poses[cube], self.widths[cube].to_metres());
                    player.errand = Errand::Carry { cube, left_s };
                }
            }
            Errand::Carry { cube, left_s } => {
                *left_s -= tick_s;
                let pose = player.cube.carry_pose();
                let before = std::mem::replace(&mut self.poses[*cube], pose);
                if *left_s <= 0.0 {
                    let [from, to] = [before, pose].map(|pose| pose.position.to_metres());
                    let linear_mps = std::array::from_fn(|axis| (to[axis] - from[axis]) / tick_s);
                    self.released.push(LooseCube {
                        cube: CubeId(*cube as u64),
                        width: self.widths[*cube],
                        pose,
                        velocity: Velocity {
                            linear_mps,
                            ..Velocity::default()
                        },
                    });
                    let left_s = player.wander.seconds(0.5, 3.0);
                    player.errand = Errand::None { left_s };
                }
            }
        }
    }

    /// Throws cubes whose time has come, up and roughly towards the middle.
    fn throw(&mut self) {
        for index in 0..self.poses.len() {
            self.throws_s[index] -= 1.0 / f32::from(self.hz);
            if self.throws_s[index] > 0.0 {
                continue;
            }
            self.throws_s[index] = 0.7 + self.random.f32() * 1.3;
            let pose = self.poses[index];
            let [x, y, _] = pose.position.to_metres();
            let mut any = |size: f32| (self.random.f32() * 2.0 - 1.0) * size;
            let velocity = Velocity {
                linear_mps: [any(4.0) - x / 2.0, any(4.0) - y / 2.0, 6.0 + any(2.0)],
                angular_radps: [any(6.0), any(6.0), any(6.0)],
            };
            self.released.push(LooseCube {
                cube: CubeId(index as u64),
                width: self.widths[index],
                pose,
                velocity,
            });
        }
    }
}

impl Player {
    fn held(&self) -> Option<usize> {
        match self.errand {
            Errand::Carry { cube, .. } => Some(cube),
            _ => None,
        }
    }
}

fn cubes(kind: Kind, random: &mut fastrand::Rng) -> Vec<FieldCube> {
    let step = BRICK_M + GAP_M;
    let mut block = |[length, width, height]: [usize; 3], [x, y, z]: [f32; 3], loose: f32| {
        let mut cubes = Vec::new();
        for number in 0..length * width * height {
            let (row, place) = (number / (length * width), number % (length * width));
            // Each second row of a wall is half a brick farther.
            let shift = if width == 1 {
                (row % 2) as f32 / 2.0
            } else {
                0.0
            };
            let mut jitter = || (random.f32() - 0.5) * loose;
            cubes.push(cube(
                BRICK_M,
                [
                    x + ((place % length) as f32 + shift - length as f32 / 2.0) * step + jitter(),
                    y + ((place / length) as f32 - width as f32 / 2.0) * step + jitter(),
                    z + (row as f32 + 0.5) * (BRICK_M + loose),
                ],
            ));
        }
        cubes
    };
    match kind {
        Kind::Wall => block([10, 1, 6], [0.0; 3], 0.0),
        Kind::Shove => arrangement(900),
        Kind::Carry => arrangement(60),
        Kind::Blast => block([6, 6, 6], [0.0; 3], 0.0),
        Kind::Heap => block([4, 4, 7], [0.0, 0.0, 0.5], 0.1)
            .into_iter()
            .take(100)
            .collect(),
        Kind::Tumble => block([10, 5, 5], [0.0, 0.0, 1.0], 0.3),
        Kind::Ruin => (0..16)
            .flat_map(|tower| {
                let (x, y) = (
                    (tower % 4) as f32 * 5.0 - 7.5,
                    (tower / 4) as f32 * 5.0 - 7.5,
                );
                let mut floor = 0.0;
                let widths: Vec<f32> = (0..6).map(|_| 0.4 + random.f32() * 0.8).collect();
                widths.into_iter().map(move |width| {
                    floor += width;
                    cube(width, [x, y, floor - width / 2.0])
                })
            })
            .collect(),
    }
}

/// Returns the velocity with which a cube begins.
fn start(kind: Kind, pose: Pose, random: &mut fastrand::Rng) -> Velocity {
    let [x, y, z] = pose.position.to_metres();
    let mut any = |size: f32| (random.f32() * 2.0 - 1.0) * size;
    match kind {
        Kind::Blast => {
            let out = 1.0 / (x.hypot(y).hypot(z) + 0.3) * (9.0 + any(2.0));
            Velocity {
                linear_mps: [x * out + any(1.0), y * out + any(1.0), z * out + 2.0],
                angular_radps: [any(5.0), any(5.0), any(5.0)],
            }
        }
        Kind::Heap | Kind::Tumble => Velocity {
            linear_mps: [any(0.5), any(0.5), -0.1],
            angular_radps: [any(1.0), any(1.0), any(1.0)],
        },
        _ => Velocity::default(),
    }
}

fn cube(metres: f32, at: [f32; 3]) -> FieldCube {
    FieldCube {
        width: Width::from_metres(metres),
        colour: Colour::from([200, 90, 60]),
        pose: pose_at(at),
    }
}

fn pose_at(at: [f32; 3]) -> Pose {
    Pose {
        position: Position::from_metres(at),
        rotation: Rotation::IDENTITY,
    }
}

/// Returns the nearest cube that nobody holds.
fn nearest(poses: &[Pose], held: &[usize], own: [f32; 3]) -> Option<usize> {
    let own = Position::from_metres(own);
    let free = (0..poses.len()).filter(|index| !held.contains(index));
    free.min_by_key(|&index| poses[index].position.distance(own))
}

/// Returns an errand through one of the cubes of the field.
fn target(poses: &[Pose], random: &mut fastrand::Rng, own: [f32; 3]) -> Errand {
    let places = poses.iter().map(|pose| pose.position.to_metres());
    let near: Vec<_> = places.filter(|at| at[0].hypot(at[1]) < FIELD_M).collect();
    if near.is_empty() {
        return Errand::None { left_s: 1.0 };
    }
    Errand::Run {
        to: beyond(own, near[random.usize(0..near.len())]),
        left_s: 4.0,
    }
}

fn away([x, y, _]: [f32; 3], [to_x, to_y, _]: [f32; 3]) -> f32 {
    (to_x - x).hypot(to_y - y)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::moves;

    #[test]
    fn the_same_seed_plays_the_same_and_another_one_does_not() {
        let tracks = play(Kind::Carry, 1, 20);
        assert!(tracks == play(Kind::Carry, 1, 20));
        assert!(tracks != play(Kind::Carry, 2, 20));
        // Cubes are carried and thrown, and not only players move.
        assert!(moves(&tracks[..60]) > 100, "{}", moves(&tracks[..60]));
    }

    #[test]
    fn a_wall_falls_and_a_heap_stays() {
        let bricks = &play(Kind::Wall, 1, 30)[..60];
        assert!(moves(bricks) > 1_000, "{}", moves(bricks));
        assert_eq!(moves(&play(Kind::Heap, 1, 30)), 0);
    }
}
