//! One bot: a client, its cube, and its errand with the free cube.

use std::time::Duration;

use cubesync_client::protocol::{CubeId, CubeKind};
use cubesync_client::{Client, ClientEvent, ClientOptions, Controller, CubeView, Status};

use crate::wander::{Wander, walk_to};

/// Largest distance at which a bot takes the free cube, in metres.
const REACH_M: f32 = 2.5;

/// A headless client that wanders about.
#[derive(Debug)]
pub(crate) struct Bot {
    pub(crate) client: Client,
    /// Whether the bot has been in the room at any time.
    has_joined: bool,
    cube: Option<Controller>,
    /// Whether free cubes of the room fall and roll by themselves.
    physics: bool,
    wander: Wander,
    /// Whether this bot plays with the free cube.
    is_carrier: bool,
    errand: Errand,
    stepped: Duration,
}

#[derive(Debug)]
enum Errand {
    /// The bot leaves the free cube alone for the next seconds.
    None { left_s: f32 },
    /// The bot goes to the free cube.
    Fetch,
    /// The bot has asked for the free cube.
    Asked,
    /// The bot holds the free cube for the next seconds.
    Carry { cube: CubeId, left_s: f32 },
}

impl Bot {
    pub(crate) fn new(options: ClientOptions, seed: u64, is_carrier: bool) -> Self {
        let mut wander = Wander::new(seed);
        let left_s = wander.seconds(2.0, 6.0);
        Self {
            client: Client::new(options, seed),
            has_joined: false,
            cube: None,
            physics: false,
            wander,
            is_carrier,
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
        if let Errand::Fetch = self.errand
            && let Some(to) = self
                .free_cube(now, cube.position())
                .map(|free| free.position)
        {
            input = walk_to(cube.position(), to);
        }
        cube.step(input, dt_s);
        self.client.set_pose(own, cube.pose());
        if self.is_carrier {
            self.go_on(&cube, now, dt_s);
        }
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
                self.cube = Some(Controller::new(corrected.pose));
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
                    self.errand = Errand::Fetch;
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

    fn rest(&mut self) {
        let left_s = self.wander.seconds(5.0, 15.0);
        self.errand = Errand::None { left_s };
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
