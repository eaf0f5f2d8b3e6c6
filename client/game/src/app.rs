//! The window's screens and its frames.

use cubesync_client::{Client, ClientOptions};
use macroquad::input::KeyCode;
use macroquad::math::{Vec2, vec2, vec3};
use macroquad::window::{screen_dpi_scale, screen_height, screen_width};

use crate::camera::Camera;
use crate::canvas::Canvas;
use crate::clock::{FrameClock, FrameTime};
use crate::input::InputReader;
use crate::join::JoinScreen;
use crate::platform::{self, Start, tell};
use crate::play::{PlayScreen, ScreenExit};
use crate::renderer::Renderer;
use crate::replay::ReplayScreen;
use crate::scene;

/// The window's current screen, and what all screens share.
pub(crate) struct App {
    screen: Screen,
    options: ClientOptions,
    renderer: Renderer,
    canvas: Canvas,
    clock: FrameClock,
    input: InputReader,
}

enum Screen {
    Join(Box<JoinScreen>),
    Play(Box<PlayScreen>),
    Replay(Box<ReplayScreen>),
}

impl App {
    /// Opens the join screen, joins at once, or plays a recording.
    ///
    /// # Errors
    /// When the graphics driver cannot draw the scene.
    pub(crate) fn new(start: Start) -> anyhow::Result<Self> {
        let options = start.options;
        let screen = match start.recording {
            Some(recording) => Screen::Replay(ReplayScreen::new(recording)),
            None if start.joins_at_once => Screen::play(platform::client(options.clone())),
            None => Screen::join(options.clone(), start.trouble),
        };
        Ok(Self {
            screen,
            options,
            renderer: Renderer::new()?,
            canvas: Canvas::new()?,
            clock: FrameClock::new(),
            input: InputReader::new(),
        })
    }

    /// Runs one frame; returns false when the window is to close.
    pub(crate) fn frame(&mut self) -> bool {
        let time = self.clock.next_frame();
        let input = self.input.read();
        // Everything flat is measured in logical pixels.
        let size = vec2(screen_width(), screen_height());
        // In a browser this key fills the screen without us.
        if input.is_pressed(KeyCode::F11) {
            platform::toggle_fullscreen();
        }
        let draws = !platform::is_hidden();
        self.canvas.begin_frame();
        let exit = match &mut self.screen {
            Screen::Join(join) => {
                let joined = join.poll(time);
                if draws {
                    draw_showcase(&mut self.renderer, size, time);
                    join.show(&self.canvas, &input, time, size);
                }
                if let Some(client) = joined {
                    self.options = client.options().clone();
                    self.screen = Screen::play(client);
                }
                None
            }
            Screen::Play(play) => {
                let failed = play.update(&input, time, size);
                if draws {
                    play.draw(&mut self.renderer, &self.canvas, time, size);
                }
                failed.or_else(|| play.show_panels(&self.canvas, &input, size))
            }
            Screen::Replay(replay) => {
                let exit = replay.update(&input, time, size);
                if draws {
                    replay.draw(&mut self.renderer, &self.canvas, time, size);
                }
                exit
            }
        };
        match exit {
            Some(ScreenExit::Quit) => return false,
            Some(ScreenExit::Left(reason)) => {
                if let Some(reason) = &reason {
                    tell(&format!("disconnected: {reason}"));
                }
                self.screen = Screen::join(self.options.clone(), reason);
            }
            None => {}
        }
        true
    }
}

impl Screen {
    fn join(options: ClientOptions, error: Option<String>) -> Self {
        Self::Join(Box::new(JoinScreen::new(options, error)))
    }

    fn play(client: Client) -> Self {
        Self::Play(Box::new(PlayScreen::new(client)))
    }
}

/// Draws the scene behind the join screen from a camera that circles it.
fn draw_showcase(renderer: &mut Renderer, size: Vec2, time: FrameTime) {
    let time_s = time.now.as_secs_f32();
    let camera = Camera::new(vec3(0.0, 0.0, 0.5)).turned_to(0.9 + time_s * 0.05, 0.30, 13.0);
    let size_px = size * screen_dpi_scale();
    renderer.draw(
        &camera.view(size_px),
        size_px,
        time_s,
        &scene::showcase(time_s),
    );
}
