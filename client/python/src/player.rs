//! A client and the cube that it carries.

use std::time::{Duration, Instant};

use cubesync_client::protocol::{CubeId, Pose};
use cubesync_client::{Client, ClientEvent, ClientOptions, Controller, Status};

/// A client in a room, with a clock.
pub(crate) struct Player {
    client: Client,
    start: Instant,
    /// The cube that this player holds.
    held: Option<CubeId>,
    /// Says where a held cube goes, unless the program does.
    carrier: Controller,
    /// Whether the program has moved the held cube by itself.
    is_placed: bool,
    /// Whether this frame's poses are sent.
    has_sent: bool,
}

impl Player {
    /// Makes a player who starts to connect at the first poll.
    pub(crate) fn new(options: ClientOptions) -> Self {
        Self {
            client: Client::new(options, fastrand::u64(..)),
            start: Instant::now(),
            held: None,
            carrier: Controller::new(Pose::default()),
            is_placed: false,
            has_sent: false,
        }
    }

    /// Returns the client.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Returns the time on the client's clock.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Returns the cube that this player holds.
    pub(crate) fn held(&self) -> Option<CubeId> {
        self.held
    }

    /// Begins a frame, and returns what has happened.
    ///
    /// # Errors
    /// It is over for good, and what happened before has been returned; the text says why to a person.
    pub(crate) fn poll(&mut self) -> Result<Vec<ClientEvent>, String> {
        let now = self.now();
        // A frame in which nothing was moved ends here.
        if !std::mem::take(&mut self.has_sent) {
            self.client.send(now);
        }
        self.client.poll(now);
        let mut events = Vec::new();
        while let Some(event) = self.client.next_event() {
            self.note(&event, now);
            events.push(event);
        }
        match self.client.status() {
            Status::Failed { reason } if events.is_empty() => Err(reason),
            _ => Ok(events),
        }
    }

    /// Moves the own cube, and a held one in front of it, unless that was moved by itself. Without a room it does
    /// nothing.
    pub(crate) fn move_own(&mut self, pose: Pose) {
        if let Some(own) = self.client.own_cube() {
            self.carrier.set_pose(pose);
            self.client.set_pose(own, pose);
            if let Some(held) = self.held.filter(|_| !self.is_placed) {
                self.client.set_pose(held, self.carrier.carry_pose());
            }
            self.send();
        }
    }

    /// Moves a held cube by itself. One that somebody else has stays where it is.
    pub(crate) fn move_held(&mut self, cube: CubeId, pose: Pose) {
        if self.client.own_cube().is_some() {
            self.is_placed |= self.held == Some(cube);
            self.client.set_pose(cube, pose);
            self.send();
        }
    }

    /// Asks for a cube.
    pub(crate) fn take(&mut self, cube: CubeId) {
        self.client.take(cube);
    }

    /// Lets the held cube go: it flies on with the speed that it has, or is put down where there is no physics.
    pub(crate) fn release(&mut self) {
        let Some(held) = self.held.take() else {
            return;
        };
        let flies = self.client.welcome().is_some_and(|welcome| welcome.physics);
        if !flies && !self.is_placed {
            self.client.set_pose(held, self.carrier.drop_pose());
        }
        self.client.release(held);
    }

    fn send(&mut self) {
        self.client.send(self.now());
        self.has_sent = true;
    }

    fn note(&mut self, event: &ClientEvent, now: Duration) {
        match *event {
            ClientEvent::Joined(ref welcome) | ClientEvent::Rejoined(ref welcome) => {
                self.held = None;
                self.carrier.set_pose(welcome.pose);
            }
            ClientEvent::CubeTaken { cube, by } if self.client.own_cube() == Some(by) => {
                (self.held, self.is_placed) = (Some(cube), false);
                let views = self.client.cubes(now);
                if let Some(taken) = views.iter().find(|view| view.cube == cube) {
                    self.carrier.pick_up(taken.pose(), taken.width_m);
                }
            }
            ClientEvent::CubeTaken { cube, .. } | ClientEvent::CubeFreed { cube } => {
                self.held = self.held.filter(|&held| held != cube);
            }
            ClientEvent::CubeLeft(ref info) => {
                self.held = self.held.filter(|&held| held != info.cube);
            }
            _ => {}
        }
    }
}

/// Leaves the room. Otherwise the server would keep the cube for a while, in case its player comes back.
impl Drop for Player {
    fn drop(&mut self) {
        self.client.close();
    }
}
