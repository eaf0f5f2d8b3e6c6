//! One bot: a client, its cube, and its errands with free cubes.

use std::time::Duration;

use clap::ValueEnum;
use cubesync_client::protocol::{CubeId, CubeKind};
use cubesync_client::{Client, ClientEvent, ClientOptions, Controller, CubeView, Input, Status};

use crate::wander::{FIELD_M, Wander, beyond, walk_to};

/// Largest distance at which a bot takes a free cube, in metres.
const REACH_M: f32 = 2.5;
/// How long a bot runs before it throws what it carries.
const RUN_UP_S: f32 = 0.8;
/// How long a bot runs at what it shoves, at most.
const SHOVE_S: f32 = 4.0;

/// A bot's play besides wandering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Play {
    /// Nothing
    Wander,
    /// Run into loose cubes, where the room has some
    Shove,
    /// Take a free cube, carry it about, and throw it
    Carry,
}

/// A headless client that wanders about, and plays with free cubes.
#[derive(Debug)]
pub(crate) struct Bot {
    pub(crate) client: Client,
    /// Whether the bot has been in the room at any time.
    has_joined: bool,
    cube: Option<Controller>,
    /// Whether free cubes of the room fall and roll by themselves.
    physics: bool,
    wander: Wander,
    play: Play,
    errand: Errand,
    stepped: Duration,
}

#[derive(Debug)]
enum Errand {
    /// The bot leaves free cubes alone for the next seconds.
    None { left_s: f32 },
    /// The bot runs to a point for the next seconds, through what stands before it.
    Shove { to: [f32; 3], left_s: f32 },
    /// The bot goes to a free cube.
    Fetch,
    /// The bot has asked for a free cube.
    Asked,
    /// The bot holds a free cube for the next seconds.
    Carry { cube: CubeId, left_s: f32 },
}

impl Bot {
    pub(crate) fn new(options: ClientOptions, seed: u64, play: Play) -> Self {
        let mut wander = Wander::new(seed);
        let left_s = wander.seconds(2.0, 6.0);
        Self {
            client: Client::new(options, seed),
            has_joined: false,
            cube: None,
            physics: false,
            wander,
            play,
            errand: Errand::None { left_s },
            stepped: Duration::ZERO,
        }
    }

    pub(crate) fn is_joined(&self) -> bool {
        self.client.status() == Status::Joined
    }

    /// Whether the server has refused the bot for good.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(self.client.status(), Status::Failed { .. })
    }

    /// Returns why the bot is not in the room.
    pub(crate) fn failure(&self) -> String {
        let name = &self.client.options().name;
        let what = if self.has_joined {
            "lost its connection"
        } else {
            "never joined"
        };
        match self.client.trouble() {
            Some(reason) => format!("{name} {what}: {reason}"),
            None => format!("{name} {what}: {}", self.client.status()),
        }
    }

    /// Plays one frame.
    pub(crate) fn step(&mut self, now: Duration) {
        let dt_s = now.saturating_sub(self.stepped).as_secs_f32();
        self.stepped = now;
        self.client.poll(now);
        while let Some(event) = self.client.next_event() {
            self.on_event(event, now);
        }
        let Some(own) = self.client.own_cube() else {
            return;
        };
        let Some(mut cube) = self.cube.take() else {
            return;
        };
        let mut input = self.wander.input(cube.position(), dt_s);
        match self.errand {
            Errand::Fetch => {
                if let Some(free) = self.free_cube(now, cube.position()) {
                    input = walk_to(cube.position(), free.position);
                }
            }
            Errand::Shove { to, .. } => {
                input = Input {
                    fast: true,
                    ..walk_to(cube.position(), to)
                }
            }
            Errand::Carry { left_s, .. } if self.physics && left_s < RUN_UP_S => {
                input = self.wander.run();
            }
            _ => {}
        }
        cube.step(input, dt_s);
        self.client.set_pose(own, cube.pose());
        self.go_on(&cube, now, dt_s);
        self.cube = Some(cube);
        self.client.send(now);
    }

    fn on_event(&mut self, event: ClientEvent, now: Duration) {
        match event {
            ClientEvent::Joined(welcome) => {
                self.has_joined = true;
                self.cube = Some(Controller::new(welcome.pose));
                self.physics = welcome.physics;
                self.rest();
            }
            ClientEvent::Corrected(corrected) if Some(corrected.cube) == self.client.own_cube() => {
                if let Some(own) = &mut self.cube {
                    own.set_pose(corrected.pose);
                }
            }
            ClientEvent::CubeTaken { cube, by } if Some(by) == self.client.own_cube() => {
                let left_s = self.wander.seconds(4.0, 12.0);
                self.errand = Errand::Carry { cube, left_s };
                let views = self.client.cubes(now);
                let taken = views.iter().find(|view| view.cube == cube);
                if let (Some(own), Some(taken)) = (&mut self.cube, taken) {
                    own.pick_up(taken.pose(), taken.width_m);
                }
            }
            ClientEvent::Refused { .. } | ClientEvent::Disconnected { .. } => self.rest(),
            _ => {}
        }
    }

    /// Goes on with the errand; `cube` is the own one.
    fn go_on(&mut self, cube: &Controller, now: Duration, dt_s: f32) {
        match &mut self.errand {
            Errand::None { left_s } => {
                *left_s -= dt_s;
                if *left_s <= 0.0 {
                    self.begin(now, cube.position());
                }
            }
            Errand::Shove { to, left_s } => {
                *left_s -= dt_s;
                if *left_s <= 0.0 || distance_m(*to, cube.position()) < 1.0 {
                    self.rest();
                }
            }
            Errand::Fetch => match self
                .free_cube(now, cube.position())
                .map(|free| (free.cube, free.position))
            {
                None => self.rest(),
                Some((free, at)) if distance_m(at, cube.position()) < REACH_M => {
                    self.client.take(free);
                    self.errand = Errand::Asked;
                }
                Some(_) => {}
            },
            Errand::Asked => {}
            Errand::Carry { cube: held, left_s } => {
                *left_s -= dt_s;
                let (held, is_done) = (*held, *left_s <= 0.0);
                if is_done {
                    // With physics it flies on.
                    if !self.physics {
                        self.client.set_pose(held, cube.drop_pose());
                    }
                    self.client.release(held);
                    self.rest();
                } else {
                    self.client.set_pose(held, cube.carry_pose());
                }
            }
        }
    }

    /// Begins another errand at a place.
    fn begin(&mut self, now: Duration, own: [f32; 3]) {
        let to = match self.play {
            Play::Carry => {
                self.errand = Errand::Fetch;
                return;
            }
            Play::Shove if self.physics => self.choose(now).map(|to| beyond(own, to)),
            Play::Shove | Play::Wander => None,
        };
        match to {
            Some(to) => {
                let left_s = SHOVE_S;
                self.errand = Errand::Shove { to, left_s };
            }
            None => self.rest(),
        }
    }

    fn rest(&mut self) {
        let (least, most) = match self.play {
            Play::Shove => (0.5, 4.0),
            Play::Carry | Play::Wander => (5.0, 15.0),
        };
        let left_s = self.wander.seconds(least, most);
        self.errand = Errand::None { left_s };
    }

    /// Returns where one of the free cubes is that nobody holds.
    fn choose(&mut self, now: Duration) -> Option<[f32; 3]> {
        let views = self.client.cubes(now);
        let free = views
            .iter()
            .filter(|view| view.kind == CubeKind::Free { holder: None });
        let places = free.map(|view| view.position);
        let near: Vec<_> = places.filter(|at| at[0].hypot(at[1]) < FIELD_M).collect();
        let number = self.wander.seconds(0.0, near.len() as f32) as usize;
        near.get(number).copied()
    }

    /// Returns the nearest free cube that nobody holds.
    fn free_cube(&self, now: Duration, own: [f32; 3]) -> Option<CubeView<'_>> {
        let is_free = |view: &CubeView<'_>| view.kind == CubeKind::Free { holder: None };
        let way_m = |view: &CubeView<'_>| distance_m(view.position, own);
        let free = self.client.cubes(now).into_iter().filter(is_free);
        free.min_by(|a, b| way_m(a).total_cmp(&way_m(b)))
    }
}

fn distance_m([x, y, _]: [f32; 3], [to_x, to_y, _]: [f32; 3]) -> f32 {
    (to_x - x).hypot(to_y - y)
}
