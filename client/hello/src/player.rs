//! The player's part: moves the own cube, takes a loose cube and lets it go.

use std::time::Duration;

use cubesync_client::protocol::CubeKind;
use cubesync_client::{Client, ClientEvent, Controller, CubeView, Input};
use macroquad::prelude::*;

const REACH_M: f32 = 3.0; // How far away a loose cube can be taken.

/// The player at this keyboard.
#[derive(Default)]
pub(crate) struct Player {
    /// Speed, jumps and turns of the own cube. They are computed here, not on the server, so a key
    /// has its effect in this frame and not a round trip later. `None` until we are in a room.
    cube: Option<Controller>,
    /// The newest event, in words.
    pub(crate) news: String,
}

impl Player {
    /// Handles something that happened in the room or to the connection.
    pub(crate) fn on_event(&mut self, event: ClientEvent, client: &Client) {
        self.news = match event {
            ClientEvent::Joined(welcome) => {
                self.cube = Some(Controller::new(welcome.pose));
                format!("joined room {} as {}", welcome.room, welcome.name)
            }
            // The connection was away for a moment only: the cube goes on from where it is.
            ClientEvent::Rejoined(_) => "connected again".to_owned(),
            ClientEvent::Disconnected { reason } => format!("connection lost: {reason}"),
            ClientEvent::CubeJoined(info) => format!("{} joined", info.name),
            ClientEvent::CubeLeft(info) => format!("{} left", info.name),
            // The picture shows who has a loose cube.
            ClientEvent::CubeTaken { .. } | ClientEvent::CubeFreed { .. } => return,
            ClientEvent::Refused { .. } => "somebody else was faster".to_owned(),
            // The server corrects a cube that moves too fast. We go on from its answer.
            ClientEvent::Corrected(to) => {
                let is_own = client.own_cube() == Some(to.cube);
                if let Some(cube) = self.cube.as_mut().filter(|_| is_own) {
                    cube.set_pose(to.pose);
                }
                return;
            }
        };
    }

    /// Moves on by a frame and hands the new places to the client, which sends them with the
    /// server's next tick: thirty times a second or so, however fast the frames are.
    pub(crate) fn step(&mut self, client: &mut Client, now: Duration) {
        let (Some(own), Some(cube)) = (client.own_cube(), &mut self.cube) else {
            return; // There is no room to move in, or the connection has been lost for a while.
        };
        cube.step(input(), get_frame_time());
        client.set_pose(own, cube.pose());
        // Enter does the same, for keyboards whose letters are not Latin.
        let is_asked = is_key_pressed(KeyCode::E) || is_key_pressed(KeyCode::Enter);
        let way_m = |view: &CubeView| Vec3::from(view.position).distance(cube.position().into());
        let cubes = client.cubes(now);
        let of = |holder| move |view: &&CubeView<'_>| view.kind == CubeKind::Free { holder };
        let held = cubes.iter().find(of(Some(own))).map(|view| view.cube);
        let free = cubes.iter().filter(of(None));
        let free = free.min_by(|a, b| way_m(a).total_cmp(&way_m(b)));
        let free = free.filter(|view| way_m(view) < REACH_M);
        let free = free.map(|view| (view.cube, view.pose(), view.width_m));
        match (held, free) {
            (Some(held), _) if is_asked => {
                // With physics it flies on with the speed that it has. Without, nothing would bring it down.
                if client.welcome().is_some_and(|welcome| !welcome.physics) {
                    client.set_pose(held, cube.drop_pose());
                }
                client.release(held);
            }
            (Some(held), _) => client.set_pose(held, cube.carry_pose()),
            // This only asks. Who gets the cube is for the server to say, since somebody else may
            // have asked before us; its answer is in the cube's kind, a round trip later.
            (None, Some((free, from, width_m))) if is_asked => {
                cube.pick_up(from, width_m);
                client.take(free);
            }
            _ => {}
        }
    }
}

/// Reads the keys. The camera looks along the world's y axis, so forward is y.
fn input() -> Input {
    let is_down = |keys: [KeyCode; 2]| f32::from(u8::from(keys.into_iter().any(is_key_down)));
    let right = is_down([KeyCode::D, KeyCode::Right]) - is_down([KeyCode::A, KeyCode::Left]);
    let forward = is_down([KeyCode::W, KeyCode::Up]) - is_down([KeyCode::S, KeyCode::Down]);
    Input {
        direction: [right, forward],
        jump: is_key_down(KeyCode::Space),
        fast: is_key_down(KeyCode::LeftShift),
    }
}
