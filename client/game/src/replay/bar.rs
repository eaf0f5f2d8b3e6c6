//! The bar below a recording: where it is in time, and how to get elsewhere.

use std::time::Duration;

use macroquad::input::{MouseButton, is_mouse_button_down};
use macroquad::math::{Rect, Vec2, vec2};
use macroquad::shapes::draw_triangle;

use crate::canvas::Canvas;
use crate::input::InputFrame;
use crate::theme;

const HEIGHT: f32 = 72.0;
const MARGIN: f32 = 16.0;
/// The least width for the line that names the keys.
const HINTS_FROM: f32 = 760.0;
const HINTS: &str = "Space pause  ·  , . step  ·  arrows skip and speed  ·  Tab follow  ·  \
                     WASD, drag and wheel look  ·  Esc quit";

/// What is told by the bar.
#[derive(Debug)]
pub(crate) struct Shown<'a> {
    /// Since the beginning.
    pub(crate) position: Duration,
    /// Of everything.
    pub(crate) length: Duration,
    /// The server's tick.
    pub(crate) tick: u64,
    /// It stands still.
    pub(crate) is_paused: bool,
    /// How much faster than it was.
    pub(crate) speed: f64,
    /// The name of the cube that the camera follows.
    pub(crate) following: Option<&'a str>,
}

/// What a person wants of the bar.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Asked {
    /// Pause, or go on.
    Toggle,
    /// Go to this part of the whole.
    Seek(f32),
}

/// The bar, which may be held.
#[derive(Debug, Default)]
pub(crate) struct ReplayBar {
    is_held: bool,
}

impl ReplayBar {
    /// What the mouse asks for in this frame.
    pub(crate) fn update(&mut self, input: &InputFrame, screen: Vec2) -> Option<Asked> {
        let track = track(screen);
        if input.clicked && grown(track).contains(input.mouse) {
            self.is_held = true;
        } else if !is_mouse_button_down(MouseButton::Left) {
            self.is_held = false;
        }
        if self.is_held {
            return Some(Asked::Seek(part(track, input.mouse.x)));
        }
        (input.clicked && button(screen).contains(input.mouse)).then_some(Asked::Toggle)
    }

    /// Draws it above the lower edge.
    pub(crate) fn show(&self, canvas: &Canvas, shown: &Shown<'_>, screen: Vec2) {
        let area = area(screen);
        canvas.panel(area);
        show_button(canvas, button(screen), shown.is_paused);
        let track = track(screen);
        canvas.rounded(track, 3.0, theme::FIELD_HOVER);
        let length_s = shown.length.as_secs_f32();
        let part = match length_s {
            0.0 => 1.0,
            _ => (shown.position.as_secs_f32() / length_s).clamp(0.0, 1.0),
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
        let time = format!("{} / {}", clock(shown.position), clock(shown.length));
        canvas.text(&time, track.x, y, theme::SMALL, theme::TEXT);
        let tick = format!("tick {}", shown.tick);
        let tick_x = track.x + canvas.width(&time, theme::SMALL).max(110.0) + 18.0;
        canvas.text(&tick, tick_x, y, theme::SMALL, theme::MUTED);
        let camera = match shown.following {
            Some(name) => format!("following {name}"),
            None => "free camera".to_owned(),
        };
        let from = tick_x + canvas.width(&tick, theme::SMALL) + 12.0;
        let speed = format!("{}x", shown.speed);
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

/// Where a track can be held.
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

/// Minutes, seconds and tenths.
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
    fn every_place_of_the_bar_is_a_part_of_the_whole() {
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
