//! A game in a room: it moves the own cube by the input, shows events in the feed, and draws.

mod events;

use std::time::Duration;

use cubesync_client::protocol::{CubeId, CubeKind, CubePose, Pose, ResumeToken};
use cubesync_client::{Client, Controller, CubeView, Input, Status};
use macroquad::input::KeyCode;
use macroquad::math::{Vec2, Vec3, vec3};
use macroquad::miniquad::TouchPhase;
use macroquad::window::screen_dpi_scale;

use crate::camera::Camera;
use crate::canvas::Canvas;
use crate::carry::{Carry, CarryStep};
use crate::clock::FrameTime;
use crate::fade::Fades;
use crate::feed::NewsFeed;
use crate::figures::FiguresPanel;
use crate::hud::{self, Banner};
use crate::input::InputFrame;
use crate::lab::{self, LabPanel};
use crate::menu::{self, Choice, Menu};
use crate::platform;
use crate::pointer::TouchEvent;
use crate::renderer::Renderer;
use crate::touch::{TouchControls, TouchInput};
use crate::{names, scene, widgets, wire_frames};

/// Largest distance at which a free cube can be taken, in metres.
const REACH_M: f32 = 4.0;
/// Longest loss of the connection that is not shown: most are over by then.
const BRIEF: Duration = Duration::from_millis(250);
/// Least width of a screen with room for two panels side by side, in logical pixels.
const TWO_PANELS_PX: f32 = 720.0;

/// A client with everything that a person needs around it.
#[derive(Debug)]
pub(crate) struct PlayScreen {
    client: Client,
    controller: Controller,
    carry: Carry,
    /// Whether free cubes of the room fall and roll by themselves.
    physics: bool,
    camera: Camera,
    fades: Fades,
    feed: NewsFeed,
    figures: FiguresPanel,
    lab: LabPanel,
    /// The newest token with which the player could come back, as the platform has it.
    resume: Option<ResumeToken>,
    first_join: Option<Duration>,
    /// The server at which the client joined last.
    was_at: Option<String>,
    /// When the connection was lost, until the client has joined again.
    lost: Option<Duration>,
    menu: Option<Menu>,
    touch: TouchControls,
    by_touch: bool,
    shows_help: bool,
    shows_figures: bool,
}

/// The way in which a screen ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ScreenExit {
    /// The join screen comes next, with a reason unless the person chose to leave.
    Left(Option<String>),
    /// The window closes.
    Quit,
}

/// The action that the take key has at the moment.
#[derive(Debug, Clone, Copy)]
struct Hint {
    /// The text of the button.
    label: &'static str,
    /// The words beside the key.
    text: &'static str,
    /// The cube that would be taken.
    takes: Option<CubeId>,
}

impl PlayScreen {
    /// Creates the game of a client that has joined or is about to.
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            controller: Controller::new(Pose::default()),
            carry: Carry::Empty,
            physics: false,
            camera: Camera::new(vec3(0.0, 0.0, 0.5)),
            fades: Fades::default(),
            feed: NewsFeed::default(),
            figures: FiguresPanel::default(),
            lab: LabPanel::default(),
            resume: None,
            first_join: None,
            was_at: None,
            lost: None,
            menu: None,
            touch: TouchControls::default(),
            by_touch: false,
            shows_help: false,
            shows_figures: false,
        }
    }

    /// Advances the game by a frame: network, input, motion.
    pub(crate) fn update(
        &mut self,
        input: &InputFrame,
        time: FrameTime,
        screen: Vec2,
    ) -> Option<ScreenExit> {
        self.client.poll(time.now);
        while let Some(event) = self.client.next_event() {
            self.on_event(event, time.now);
        }
        // A room that goes on at another server may give a new token without an event.
        let resume = self.client.options().resume;
        if resume != self.resume {
            self.resume = resume;
            platform::can_resume(resume);
        }
        self.feed.retire(time.now);
        self.figures.count(&self.client, time);
        if let Status::Failed { reason } = self.client.status() {
            platform::left(false);
            return Some(ScreenExit::Left(Some(reason)));
        }
        if input.is_pressed(KeyCode::Escape) {
            self.on_escape(input.by_touch);
        }
        let wanted = self.wanted(input, time.now, screen);
        self.step(wanted, time.step_s());
        self.client.send(time.now);
        None
    }

    /// Draws the scene, and over it everything flat but the lab's panel and the menu.
    pub(crate) fn draw(
        &mut self,
        renderer: &mut Renderer,
        canvas: &Canvas,
        time: FrameTime,
        screen: Vec2,
    ) {
        let cubes = self.client.cubes(time.now);
        let screen_px = screen * screen_dpi_scale();
        let view = self.camera.view(screen_px);
        let hint = self.hint(&cubes);
        let takes = hint.and_then(|hint| hint.takes);
        let in_sight = cubes.iter().map(|view| view.cube);
        let in_sight = in_sight.zip(scene::scene(&cubes));
        let in_sight = in_sight.map(|(cube, drawn)| match takes {
            Some(takes) if takes == cube => (cube, scene::marked(drawn)),
            _ => (cube, drawn),
        });
        let scene = self.fades.step(in_sight, time.step_s());
        renderer.draw(&view, screen_px, time.now.as_secs_f32(), &scene);

        let view = self.camera.view(screen);
        if self.lab.shows_wire_frames {
            wire_frames::show(canvas, &view, &self.client, &cubes);
        }
        names::show(canvas, &view, screen, &cubes);
        hud::show_room(canvas, &self.client, screen);
        if platform::is_unverified(self.client.options()) {
            hud::show_unverified(canvas);
        }
        hud::show_feed(canvas, &self.feed, time.now, screen, self.by_touch);
        if let Some(joined) = self.first_join {
            let since_join = time.now.saturating_sub(joined);
            hud::show_keys(canvas, since_join, screen, self.by_touch, self.physics);
        }
        if self.by_touch {
            if self.menu.is_none() {
                let take = hint.map(|hint| hint.label);
                self.touch.show(canvas, screen, take);
            }
        } else if let Some(Hint { text, .. }) = hint {
            widgets::key_hint(canvas, "E", text, screen.x / 2.0, screen.y - 92.0);
        }
        if self.shows_figures {
            self.figures
                .show(canvas, &self.client, time, screen, self.by_touch);
        }
        let (status, server) = (self.client.status(), self.client.server());
        let is_brief = |lost| time.now.saturating_sub(lost) < BRIEF;
        if !self.lost.is_some_and(is_brief)
            && let Some(banner) = Banner::new(status, server, self.was_at.as_deref())
        {
            let banner = banner.after(self.client.trouble());
            banner.show(canvas, screen, time);
        }
        lab::show_badge(canvas, &self.client, screen);
        if self.shows_help {
            menu::show_help(canvas, screen);
        }
    }

    /// Draws the lab and the menu when they are open, and applies what is chosen in them.
    pub(crate) fn show_panels(
        &mut self,
        canvas: &Canvas,
        input: &InputFrame,
        screen: Vec2,
    ) -> Option<ScreenExit> {
        if self.lab.is_open {
            let nothing = InputFrame::default();
            let input = if self.menu.is_none() { input } else { &nothing };
            self.lab.show(canvas, &mut self.client, input, screen);
        }
        let choice = self.menu.as_mut()?.show(canvas, input, screen)?;
        self.menu = None;
        let exit = match choice {
            Choice::Resume | Choice::Copy => return None,
            Choice::Fullscreen => {
                platform::toggle_fullscreen();
                return None;
            }
            Choice::Help => {
                self.shows_help = true;
                return None;
            }
            Choice::Figures => {
                self.toggle_figures(screen);
                return None;
            }
            Choice::Lab => {
                self.toggle_lab(screen);
                return None;
            }
            Choice::Leave => ScreenExit::Left(None),
            Choice::Quit => ScreenExit::Quit,
        };
        self.client.close();
        platform::left(true);
        Some(exit)
    }

    /// Closes the menu or the help, or opens the menu.
    fn on_escape(&mut self, by_touch: bool) {
        let was_open = self.menu.take().is_some() || std::mem::take(&mut self.shows_help);
        if !was_open {
            let invite = platform::invite(self.client.options());
            self.menu = Some(Menu::new(invite, by_touch));
        }
    }

    /// Applies keys, mouse and fingers, and returns how the own cube is to move.
    fn wanted(&mut self, input: &InputFrame, now: Duration, screen: Vec2) -> Input {
        self.by_touch = input.by_touch;
        if self.menu.is_some() {
            self.touch.release();
            return Input::default();
        }
        let is_begun = |touch: &TouchEvent| touch.phase == TouchPhase::Started;
        let mut touches = input.touches.clone();
        touches.retain(|touch| !(is_begun(touch) && self.lab.covers(touch.place)));
        let touch = self.touch.update(&touches, screen);
        self.on_keys(input, touch, now, screen);
        if !self.lab.covers(input.mouse) {
            self.camera.drag(input.drag);
            self.camera.zoom(input.wheel);
        }
        self.camera.drag(touch.drag);
        self.camera.zoom(touch.zoom);
        if touch.menu {
            self.on_escape(input.by_touch);
        }
        let direction = (input.direction + touch.direction).clamp_length_max(1.0);
        Input {
            direction: self.camera.on_floor(direction).into(),
            jump: input.jump || touch.jump,
            fast: input.fast || touch.fast,
        }
    }

    fn on_keys(&mut self, input: &InputFrame, touch: TouchInput, now: Duration, screen: Vec2) {
        if input.is_pressed(KeyCode::F1) {
            self.shows_help = !self.shows_help;
        }
        if input.is_pressed(KeyCode::F3) {
            self.toggle_figures(screen);
        }
        if input.is_pressed(KeyCode::F4) {
            self.toggle_lab(screen);
        }
        if input.take || touch.take {
            self.take_or_drop(now);
        }
    }

    /// Shows or hides the net graph. On a small screen it takes the place of the lab.
    fn toggle_figures(&mut self, screen: Vec2) {
        self.shows_figures = !self.shows_figures;
        self.lab.is_open &= screen.x >= TWO_PANELS_PX;
    }

    /// Opens or closes the lab. On a small screen it takes the place of the net graph.
    fn toggle_lab(&mut self, screen: Vec2) {
        self.lab.is_open = !self.lab.is_open;
        self.shows_figures &= screen.x >= TWO_PANELS_PX;
    }

    fn take_or_drop(&mut self, now: Duration) {
        match self.carry {
            Carry::Held(cube) if self.physics => {
                self.client.release(cube);
                self.carry = Carry::Empty;
            }
            Carry::Held(_) => {
                let (from, floor) = (self.controller.carry_pose(), self.controller.drop_pose());
                self.carry.let_go(from, floor);
            }
            Carry::Asked(_) | Carry::Falling { .. } => {}
            Carry::Empty => {
                let cubes = self.client.cubes(now);
                let view = self.cube_in_reach(&cubes);
                if let Some((cube, pose, width_m)) = view.map(|it| (it.cube, it.pose(), it.width_m))
                {
                    drop(cubes);
                    self.client.take(cube);
                    self.controller.pick_up(pose, width_m);
                    self.carry = Carry::Asked(cube);
                }
            }
        }
    }

    /// Returns the nearest cube that can be taken.
    fn cube_in_reach<'a>(&self, cubes: &'a [CubeView<'a>]) -> Option<&'a CubeView<'a>> {
        // To its nearest side, about.
        let distance = |cube: &CubeView<'_>| {
            let centre = Vec3::from(cube.position).distance(self.controller.position().into());
            centre - (cube.width_m - 1.0) / 2.0
        };
        cubes
            .iter()
            .filter(|cube| matches!(cube.kind, CubeKind::Free { holder: None }))
            .filter(|cube| distance(cube) < REACH_M)
            .min_by(|a, b| distance(a).total_cmp(&distance(b)))
    }

    fn hint(&self, cubes: &[CubeView<'_>]) -> Option<Hint> {
        if self.menu.is_some() || self.client.status() != Status::Joined {
            return None;
        }
        match self.carry {
            Carry::Held(_) if self.physics => Some(Hint {
                label: "Throw",
                text: "let go: it flies as you move",
                takes: None,
            }),
            Carry::Held(_) => Some(Hint {
                label: "Drop",
                text: "drop the cube",
                takes: None,
            }),
            Carry::Asked(_) | Carry::Falling { .. } => None,
            Carry::Empty => self.cube_in_reach(cubes).map(|view| Hint {
                label: "Take",
                text: "take the cube",
                takes: Some(view.cube),
            }),
        }
    }

    /// Moves the own cube and the one that it carries.
    fn step(&mut self, wanted: Input, dt_s: f32) {
        let Some(own) = self.client.own_cube() else {
            // Without a connection nobody would see the motion.
            return;
        };
        self.controller.step(wanted, dt_s);
        self.client.set_pose(own, self.controller.pose());
        match self.carry.step(dt_s) {
            CarryStep::Nothing => {}
            CarryStep::Carry(cube) => self.client.set_pose(cube, self.controller.carry_pose()),
            CarryStep::Move(CubePose { cube, pose }) => self.client.set_pose(cube, pose),
            CarryStep::Release(CubePose { cube, pose }) => {
                self.client.set_pose(cube, pose);
                self.client.release(cube);
            }
        }
        self.camera.follow(self.controller.position().into(), dt_s);
    }
}
