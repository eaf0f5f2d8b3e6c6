//! Applies the client's events to the own cube, to the carried one, and to the feed.

use std::time::Duration;

use cubesync_client::protocol::{CubeId, CubePose, Welcome};
use cubesync_client::{ClientEvent, Controller, Status};

use super::PlayScreen;
use crate::carry::Carry;
use crate::platform::{self, tell};

impl PlayScreen {
    /// Applies one event of the client.
    pub(super) fn on_event(&mut self, event: ClientEvent, now: Duration) {
        match event {
            ClientEvent::Joined(welcome) => {
                self.on_joined(&welcome, now);
                self.controller = Controller::new(welcome.pose);
                self.camera.jump_to(self.controller.position().into());
            }
            ClientEvent::Rejoined(welcome) => self.on_joined(&welcome, now),
            ClientEvent::CubeJoined(info) => self.feed.push(now, format!("{} joined", info.name)),
            ClientEvent::CubeLeft(info) => {
                self.carry.taken_away(info.cube);
                self.feed.push(now, format!("{} left", info.name));
            }
            ClientEvent::CubeTaken { cube, by } => self.on_taken(cube, by, now),
            ClientEvent::CubeFreed { cube } => {
                self.carry.taken_away(cube);
            }
            // A key that was pressed twice asks for a cube that is already ours.
            ClientEvent::Refused { cube, holder } if holder != self.client.own_cube() => {
                self.carry.taken_away(cube);
                let who = holder.and_then(|holder| self.name_of(holder, now));
                let who = who.unwrap_or_else(|| "somebody".to_owned());
                self.feed.push(now, format!("{who} was faster"));
            }
            ClientEvent::Refused { .. } => {}
            ClientEvent::Corrected(CubePose { cube, pose }) => {
                if self.client.own_cube() == Some(cube) {
                    self.controller.set_pose(pose);
                } else if self.carry == Carry::Held(cube) {
                    let cubes = self.client.cubes(now);
                    let held = cubes.iter().find(|view| view.cube == cube);
                    let width_m = held.map_or(1.0, |held| held.width_m);
                    self.controller.pick_up(pose, width_m);
                }
            }
            ClientEvent::Disconnected { reason } => {
                self.carry = Carry::Empty;
                self.lost = Some(now);
                let retry = match self.client.status() {
                    Status::Waiting { retry_in, .. } => {
                        format!(", retrying in {:.1} s", retry_in.as_secs_f64())
                    }
                    _ => format!(", trying {}", self.client.server()),
                };
                tell(&format!("connection lost{retry} ({reason})"));
            }
        }
    }

    fn on_joined(&mut self, welcome: &Welcome, now: Duration) {
        let Welcome {
            room, name, cube, ..
        } = welcome;
        let server = self.client.server().to_owned();
        tell(&format!(
            "joined room {room} as {name} (cube {cube}) at {server}"
        ));
        platform::joined(self.client.options(), name);
        match &self.was_at {
            Some(before) if *before == server => self.feed.push(now, "Connected again".to_owned()),
            Some(_) => self.feed.push(now, format!("Playing on at {server}")),
            None => self.first_join = Some(now),
        }
        self.was_at = Some(server);
        self.lost = None;
        self.carry = Carry::Empty;
        self.physics = welcome.physics;
    }

    fn on_taken(&mut self, cube: CubeId, by: CubeId, now: Duration) {
        if self.client.own_cube() == Some(by) {
            if !self.carry.given(cube) {
                let cubes = self.client.cubes(now);
                if let Some(taken) = cubes.iter().find(|view| view.cube == cube) {
                    self.controller.pick_up(taken.pose(), taken.width_m);
                }
            }
            return;
        }
        self.carry.taken_away(cube);
        let is_named = self.name_of(cube, now).is_some_and(|name| !name.is_empty());
        if let Some(name) = self.name_of(by, now).filter(|_| is_named) {
            self.feed.push(now, format!("{name} took the cube"));
        }
    }

    fn name_of(&self, cube: CubeId, now: Duration) -> Option<String> {
        let cubes = self.client.cubes(now);
        cubes
            .iter()
            .find(|view| view.cube == cube)
            .map(|view| view.name.to_owned())
    }
}
