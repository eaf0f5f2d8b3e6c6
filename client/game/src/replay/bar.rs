//! The bar below a recording, with its position in time.

use std::time::Duration;

use macroquad::input::{MouseButton, is_mouse_button_down};
use macroquad::math::{Rect, Vec2, vec2};
use macroquad::shapes::draw_triangle;

use crate::canvas::Canvas;
use crate::input::InputFrame;
use crate::theme;

const HEIGHT: f32 = 72.0;
const MARGIN: f32 = 16.0;
/// Least width of a screen with room for the line about keys.
const HINTS_FROM: f32 = 760.0;
const HINTS: &str = "Space pause  ·  , . step  ·  arrows skip and speed  ·  Tab follow  ·  \
                     WASD, drag and wheel look  ·  Esc quit";

/// The state of the recording that the bar shows.
#[derive(Debug)]
pub(crate) struct PlaybackState<'a> {
    /// The time since the recording's beginning.
    pub(crate) position: Duration,
    /// The recording's length.
    pub(crate) length: Duration,
    /// The server's tick at this position.
    pub(crate) tick: u64,
    /// Whether the recording is paused.
    pub(crate) is_paused: bool,
    /// The speed: 1 is the original one.
    pub(crate) speed: f64,
    /// The name of the cube that the camera follows.
    pub(crate) following: Option<&'a str>,
}

/// A command that a person gave with the bar.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum BarCommand {
    /// Pause or go on.
    Toggle,
    /// Go to a position, from 0 for the beginning to 1 for the end.
    Seek(f32),
}

/// The bar's state.
#[derive(Debug, Default)]
pub(crate) struct ReplayBar {
    /// Whether the mouse holds the knob.
    is_held: bool,
}

impl ReplayBar {
    /// Returns the command that the mouse gives in this frame.
    pub(crate) fn update(&mut self, input: &InputFrame, screen: Vec2) -> Option<BarCommand> {
        let track = track(screen);
        if input.clicked && grown(track).contains(input.mouse) {
            self.is_held = true;
        } else if !is_mouse_button_down(MouseButton::Left) {
            self.is_held = false;
        }
        if self.is_held {
            return Some(BarCommand::Seek(part(track, input.mouse.x)));
        }
        (input.clicked && button(screen).contains(input.mouse)).then_some(BarCommand::Toggle)
    }

    /// Draws the bar above the screen's lower edge.
    pub(crate) fn show(&self, canvas: &Canvas, playback: &PlaybackState<'_>, screen: Vec2) {
        let area = area(screen);
        canvas.panel(area);
        show_button(canvas, button(screen), playback.is_paused);
        let track = track(screen);
        canvas.rounded(track, 3.0, theme::FIELD_HOVER);
        let length_s = playback.length.as_secs_f32();
        let part = match length_s {
            0.0 => 1.0,
            _ => (playback.position.as_secs_f32() / length_s).clamp(0.0, 1.0),
        };
        let past = Rect::new(track.x, track.y, track.w * part, track.h);
        canvas.rounded(past, 3.0, theme::ACCENT);
        let knob = vec2(track.x + track.w * part, track.center().y);
        canvas.rounded(
            Rect::new(knob.x - 7.0, knob.y - 7.0, 14.0, 14.0),
            7.0,
            theme::TEXT,
        );
        let y = track.y - 16.0;
        let time = format!("{} / {}", clock(playback.position), clock(playback.length));
        canvas.text(&time, track.x, y, theme::SMALL, theme::TEXT);
        let tick = format!("tick {}", playback.tick);
        let tick_x = track.x + canvas.width(&time, theme::SMALL).max(110.0) + 18.0;
        canvas.text(&tick, tick_x, y, theme::SMALL, theme::MUTED);
        let camera = match playback.following {
            Some(name) => format!("following {name}"),
            None => "free camera".to_owned(),
        };
        let from = tick_x + canvas.width(&tick, theme::SMALL) + 12.0;
        let speed = format!("{}x", playback.speed);
        for right in [format!("{camera}   {speed}"), speed] {
            let right_x = track.right() - canvas.width(&right, theme::SMALL);
            if right_x > from {
                canvas.text(&right, right_x, y, theme::SMALL, theme::TEXT);
                break;
            }
        }
        if screen.x >= HINTS_FROM {
            let y = track.bottom() + 17.0;
            canvas.text(HINTS, track.x, y, theme::SMALL, theme::MUTED);
        }
    }
}

fn area(screen: Vec2) -> Rect {
    let width = (screen.x - 2.0 * MARGIN).max(1.0);
    let y = screen.y - MARGIN - HEIGHT;
    Rect::new(MARGIN, y, width, HEIGHT)
}

fn button(screen: Vec2) -> Rect {
    let area = area(screen);
    Rect::new(area.x + 16.0, area.y + 16.0, 40.0, 40.0)
}

fn track(screen: Vec2) -> Rect {
    let (area, button) = (area(screen), button(screen));
    let x = button.right() + 20.0;
    Rect::new(x, area.y + 36.0, (area.right() - 24.0 - x).max(1.0), 6.0)
}

/// Returns the area in which the mouse can grab a track.
fn grown(track: Rect) -> Rect {
    Rect::new(
        track.x - 8.0,
        track.y - 10.0,
        track.w + 16.0,
        track.h + 20.0,
    )
}

fn part(track: Rect, x: f32) -> f32 {
    ((x - track.x) / track.w).clamp(0.0, 1.0)
}

fn show_button(canvas: &Canvas, area: Rect, is_paused: bool) {
    canvas.rounded(area, 20.0, theme::ACCENT);
    let middle = area.center();
    if is_paused {
        let corner = |x, y| middle + vec2(x, y);
        let corners = [corner(-5.0, -8.0), corner(-5.0, 8.0), corner(9.0, 0.0)];
        draw_triangle(corners[0], corners[1], corners[2], theme::ON_ACCENT);
        return;
    }
    for x in [middle.x - 7.0, middle.x + 2.0] {
        let stroke = Rect::new(x, middle.y - 8.0, 5.0, 16.0);
        canvas.rounded(stroke, 1.0, theme::ON_ACCENT);
    }
}

/// Formats a time as minutes, seconds and tenths.
fn clock(time: Duration) -> String {
    let tenths = time.as_millis() / 100;
    let (minutes, tenths) = (tenths / 600, tenths % 600);
    format!("{minutes}:{:02}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_minutes_and_tenths() {
        let times = [0, 999, 61_250, 3_600_000].map(|ms| clock(Duration::from_millis(ms)));
        assert_eq!(times, ["0:00.0", "0:00.9", "1:01.2", "60:00.0"]);
    }

    #[test]
    fn every_place_on_the_track_is_a_position_in_the_recording() {
        for screen in [vec2(1280.0, 720.0), vec2(360.0, 640.0)] {
            let track = track(screen);
            assert!(area(screen).contains(track.point()));
            assert!(!track.overlaps(&button(screen)));
            assert_eq!(part(track, 0.0), 0.0);
            assert_eq!(part(track, track.center().x), 0.5);
            assert_eq!(part(track, screen.x), 1.0);
        }
    }
}
