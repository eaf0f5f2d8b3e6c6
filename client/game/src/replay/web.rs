//! The recording's screen in a browser tab, which never exists.

use macroquad::math::Vec2;

use crate::canvas::Canvas;
use crate::clock::FrameTime;
use crate::input::InputFrame;
use crate::platform::Recording;
use crate::play::ScreenExit;
use crate::renderer::Renderer;

/// The screen of a recording, which never exists.
pub(crate) enum ReplayScreen {}

impl ReplayScreen {
    /// Never called: there is no recording.
    pub(crate) fn new(recording: Recording) -> Box<Self> {
        match recording {}
    }

    /// Never called.
    pub(crate) fn update(&mut self, _: &InputFrame, _: FrameTime, _: Vec2) -> Option<ScreenExit> {
        match *self {}
    }

    /// Never called.
    pub(crate) fn draw(&mut self, _: &mut Renderer, _: &Canvas, _: FrameTime, _: Vec2) {
        match *self {}
    }
}
