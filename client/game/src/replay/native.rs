//! The screen that plays a recording: it can be paused, stepped and searched, and seen from any
//! side.

use std::time::Duration;

use cubesync_client::protocol::CubeId;
use cubesync_client::{CubeView, replay};
use macroquad::input::{KeyCode, is_key_down};
use macroquad::math::{Rect, Vec2, Vec3, vec2, vec3};
use macroquad::window::screen_dpi_scale;

use super::bar::{BarCommand, PlaybackState, ReplayBar};
use crate::camera::Camera;
use crate::canvas::Canvas;
use crate::clock::FrameTime;
use crate::fade::Fades;
use crate::input::{Edit, InputFrame};
use crate::join::sentence;
use crate::platform::Recording;
use crate::play::ScreenExit;
use crate::renderer::Renderer;
use crate::{names, scene, theme};

/// Speeds to choose from: 1 is the original one.
const SPEEDS: [f64; 5] = [0.25, 0.5, 1.0, 2.0, 4.0];
const USUAL_SPEED: usize = 2;
/// Time that an arrow key skips.
const SKIP: Duration = Duration::from_secs(5);
/// Speed of the free camera.
const CAMERA_SPEED_MPS: f32 = 12.0;

/// The screen of a recording.
#[derive(Debug)]
pub(crate) struct ReplayScreen {
    replay: replay::Replay,
    is_paused: bool,
    /// The index of the speed.
    speed: usize,
    camera: Camera,
    /// The point that the camera looks at.
    target: Vec3,
    /// The cube that the camera follows.
    follows: Option<CubeId>,
    /// Whether the person has chosen what to follow. Until then it is the recording player's cube.
    has_chosen: bool,
    bar: ReplayBar,
    fades: Fades,
}

impl ReplayScreen {
    /// Makes a screen that begins to play a recording.
    pub(crate) fn new(recording: Recording) -> Box<Self> {
        let target = vec3(0.0, 0.0, 0.5);
        Box::new(Self {
            replay: replay::Replay::new(recording),
            is_paused: false,
            speed: USUAL_SPEED,
            camera: Camera::new(target),
            target,
            follows: None,
            has_chosen: false,
            bar: ReplayBar::default(),
            fades: Fades::default(),
        })
    }

    /// Advances by a frame, and returns how the screen ends if it does.
    pub(crate) fn update(
        &mut self,
        input: &InputFrame,
        time: FrameTime,
        screen: Vec2,
    ) -> Option<ScreenExit> {
        if input.is_pressed(KeyCode::Escape) {
            return Some(ScreenExit::Quit);
        }
        if !self.has_chosen {
            self.follows = self.replay.own_cube();
        }
        let command = self.bar.update(input, screen);
        self.on_keys(input);
        match command {
            Some(BarCommand::Toggle) => self.toggle(),
            Some(BarCommand::Seek(part)) => {
                let length = self.replay.end() - self.replay.start();
                self.replay.seek(self.replay.start() + length.mul_f32(part));
            }
            None => {}
        }
        if !self.is_paused {
            let passed = Duration::from_secs_f32(time.step_s()).mul_f64(SPEEDS[self.speed]);
            self.replay.advance(self.replay.now() + passed);
            self.is_paused = self.replay.now() == self.replay.end();
        }
        if command.is_none() {
            self.camera.drag(input.drag);
        }
        self.camera.zoom(input.wheel);
        self.look(time.step_s());
        None
    }

    /// Draws the scene, and the names and the bar over it.
    pub(crate) fn draw(
        &mut self,
        renderer: &mut Renderer,
        canvas: &Canvas,
        time: FrameTime,
        screen: Vec2,
    ) {
        let cubes = self.replay.cubes();
        let screen_px = screen * screen_dpi_scale();
        let in_sight = cubes.iter().map(|view| view.cube);
        let in_sight = in_sight.zip(scene::scene(&cubes));
        let scene = self.fades.step(in_sight, time.step_s());
        let view = self.camera.view(screen_px);
        renderer.draw(&view, screen_px, time.now.as_secs_f32(), &scene);
        names::show(canvas, &self.camera.view(screen), screen, &cubes);
        let following = self.follows.and_then(|cube| find(&cubes, cube));
        let playback = PlaybackState {
            position: self.replay.now() - self.replay.start(),
            length: self.replay.end() - self.replay.start(),
            tick: self.replay.tick().map_or(0, |tick| tick as u64),
            is_paused: self.is_paused,
            speed: SPEEDS[self.speed],
            following: following.map(|view| view.name),
        };
        self.bar.show(canvas, &playback, screen);
        if let Some(damage) = self.replay.damage() {
            show_damage(canvas, &sentence(&damage), screen);
        }
    }

    fn on_keys(&mut self, input: &InputFrame) {
        if input.is_pressed(KeyCode::Space) {
            self.toggle();
        }
        if input.is_pressed(KeyCode::Up) {
            self.speed = (self.speed + 1).min(SPEEDS.len() - 1);
        }
        if input.is_pressed(KeyCode::Down) {
            self.speed = self.speed.saturating_sub(1);
        }
        if input.is_pressed(KeyCode::Tab) {
            self.follows = next(&self.replay.cubes(), self.follows);
            self.has_chosen = true;
        }
        for edit in &input.edits {
            let (now, tick) = (self.replay.now(), self.replay.tick_length());
            match edit {
                Edit::Left => self.replay.seek(now.saturating_sub(SKIP)),
                Edit::Right => self.replay.seek(now + SKIP),
                Edit::Type('.') => {
                    self.is_paused = true;
                    self.replay.advance(now + tick);
                }
                Edit::Type(',') => {
                    self.is_paused = true;
                    self.replay.seek(now.saturating_sub(tick));
                }
                _ => {}
            }
        }
    }

    /// Pauses or goes on, from the beginning if the recording is at its end.
    fn toggle(&mut self) {
        self.is_paused = !self.is_paused;
        if !self.is_paused && self.replay.now() == self.replay.end() {
            self.replay.seek(self.replay.start());
        }
    }

    /// Moves the camera: with the cube it follows, or with the keys.
    fn look(&mut self, dt_s: f32) {
        // `InputFrame::direction` includes the arrow keys, which skip here, so the letters are
        // asked for one by one.
        let axis = |plus, minus| {
            f32::from(u8::from(is_key_down(plus))) - f32::from(u8::from(is_key_down(minus)))
        };
        let keys = vec2(axis(KeyCode::D, KeyCode::A), axis(KeyCode::W, KeyCode::S));
        if keys != Vec2::ZERO {
            self.follows = None;
            self.has_chosen = true;
        }
        let cubes = self.replay.cubes();
        match self.follows.and_then(|cube| find(&cubes, cube)) {
            Some(view) => self.target = view.position.into(),
            None => {
                let way = self.camera.on_floor(keys.clamp_length_max(1.0));
                self.target += (way * CAMERA_SPEED_MPS * dt_s).extend(0.0);
            }
        }
        self.camera.follow(self.target, dt_s);
    }
}

fn find<'a, 'b>(cubes: &'b [CubeView<'a>], cube: CubeId) -> Option<&'b CubeView<'a>> {
    cubes.iter().find(|view| view.cube == cube)
}

/// Returns the cube to follow after this one: the next one in the list, and none after the last.
fn next(cubes: &[CubeView<'_>], follows: Option<CubeId>) -> Option<CubeId> {
    let mut ids = cubes.iter().map(|view| view.cube);
    ids.find(|&id| follows.is_none_or(|before| id > before))
}

/// Draws a recording's damage below the screen's upper edge.
fn show_damage(canvas: &Canvas, damage: &str, screen: Vec2) {
    let widest = (screen.x - 64.0).clamp(120.0, 640.0);
    let lines = canvas.wrapped(damage, widest, theme::SMALL);
    let widths = lines.iter().map(|line| canvas.width(line, theme::SMALL));
    let width = widths.fold(0.0, f32::max) + 32.0;
    let height = lines.len() as f32 * 20.0 + 16.0;
    let area = Rect::new(((screen.x - width) / 2.0).floor(), 16.0, width, height);
    canvas.panel(area);
    for (index, line) in lines.iter().enumerate() {
        let y = area.y + 18.0 + index as f32 * 20.0;
        canvas.text_centred(line, area.center().x, y, theme::SMALL, theme::ERROR);
    }
}

#[cfg(test)]
mod tests {
    use cubesync_client::protocol::{Colour, CubeKind};

    use super::*;

    #[test]
    fn tab_follows_one_cube_after_the_other_and_then_none() {
        let view = |id| CubeView {
            cube: CubeId(id),
            kind: CubeKind::Player,
            name: "",
            colour: Colour::from([0; 3]),
            width_m: 1.0,
            position: [0.0; 3],
            rotation: [0.0, 0.0, 0.0, 1.0],
            own: false,
            stale: false,
        };
        let cubes = [view(0), view(4), view(9)];
        let mut follows = None;
        for expected in [Some(0), Some(4), Some(9), None, Some(0)] {
            follows = next(&cubes, follows);
            assert_eq!(follows, expected.map(CubeId));
        }
        // The followed cube may be gone.
        assert_eq!(next(&cubes, Some(CubeId(5))), Some(CubeId(9)));
        assert_eq!(next(&[], Some(CubeId(5))), None);
    }
}
