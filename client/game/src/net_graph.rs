//! The net graph: the lag of the last seconds' ticks, their bytes, and the playout delay.
//!
//! Each tick is a column at the tick's own time, in one colour if a datagram brought it first and in
//! another if the stream did. A stall of the network is a slope, because all of its ticks arrive
//! together and the oldest has the longest lag. A tick above the line of the playout delay was late.

use cubesync_client::Client;
use cubesync_client::{ARRIVALS_KEPT, TickArrival, Way};
use macroquad::color::Color;
use macroquad::math::{Rect, Vec2, vec2};

use crate::canvas::Canvas;
use crate::clock::FrameTime;
use crate::theme;

const LAGS_HEIGHT: f32 = 84.0;
const BYTES_HEIGHT: f32 = 34.0;
const CAPTION_HEIGHT: f32 = 22.0;
/// The upper end of the bytes' scale, in means. On a scale with room for keyframes nothing else
/// could be seen.
const ON_SCALE: f64 = 2.0;

/// The height of the graph, in logical pixels.
pub(crate) const HEIGHT: f32 = 2.0 * CAPTION_HEIGHT + LAGS_HEIGHT + BYTES_HEIGHT + 6.0;

/// The mapping from ticks and shares to places on the screen.
struct Axis {
    area: Rect,
    now_tick: f64,
    tick_hz: f64,
}

/// Draws the graph, with its upper left corner at `corner`.
pub(crate) fn show(canvas: &Canvas, client: &Client, time: FrameTime, corner: Vec2, width: f32) {
    let (Some(now_tick), Some(welcome)) = (client.tick_at(time.now), client.welcome()) else {
        return;
    };
    let tick_hz = f64::from(welcome.tick_hz);
    let recent: Vec<&TickArrival> = client.arrivals().collect();
    let axis = |y: f32, height| Axis {
        area: Rect::new(corner.x, corner.y + y, width, height),
        now_tick,
        tick_hz,
    };
    show_lags(
        canvas,
        &axis(CAPTION_HEIGHT, LAGS_HEIGHT),
        &recent,
        client.statistics().playout_delay.as_secs_f64(),
    );
    let below = 2.0 * CAPTION_HEIGHT + LAGS_HEIGHT;
    show_bytes(canvas, &axis(below, BYTES_HEIGHT), &recent);
}

fn show_lags(canvas: &Canvas, axis: &Axis, recent: &[&TickArrival], delay_s: f64) {
    let lag_s = |arrival: &TickArrival| arrival.lag_ticks / axis.tick_hz;
    let longest_s = recent.iter().map(|arrival| lag_s(arrival));
    let top_s = nice_above(longest_s.fold(delay_s, f64::max).max(0.1));
    axis.show_frame(
        canvas,
        &[
            ("ticks", theme::MUTED),
            ("by datagram", theme::GOOD),
            ("by stream", theme::STREAM),
            ("late", theme::ERROR),
        ],
        &format!("{:.0} ms", top_s * 1e3),
    );
    for arrival in recent {
        let colour = match arrival.way {
            _ if arrival.is_late() => theme::ERROR,
            Way::Datagram => theme::GOOD,
            Way::Stream => theme::STREAM,
        };
        axis.show_bar(canvas, arrival.tick, lag_s(arrival) / top_s, colour);
    }
    let point = |tick: f64, delay_s: f64| vec2(axis.x(tick), axis.y(delay_s / top_s));
    let then = recent
        .iter()
        .map(|arrival| point(arrival.tick as f64, arrival.delay_ticks / axis.tick_hz));
    let line: Vec<Vec2> = then.chain([point(axis.now_tick, delay_s)]).collect();
    for pair in line.windows(2) {
        canvas.line(pair[0], pair[1], 2.0, theme::ACCENT);
    }
}

fn show_bytes(canvas: &Canvas, axis: &Axis, recent: &[&TickArrival]) {
    let sum: u64 = recent.iter().map(|arrival| arrival.bytes).sum();
    let mean = sum as f64 / recent.len().max(1) as f64;
    let top = nice_above((mean * ON_SCALE).max(10.0));
    let caption = [("bytes per tick", theme::MUTED)];
    axis.show_frame(canvas, &caption, &format!("{top:.0} B"));
    for arrival in recent {
        let share = arrival.bytes as f64 / top;
        axis.show_bar(canvas, arrival.tick, share, theme::MUTED);
    }
}

impl Axis {
    /// Draws the ground, and above it the words of the caption and the value at the upper edge.
    fn show_frame(&self, canvas: &Canvas, caption: &[(&str, Color)], top: &str) {
        let Rect { x, y, w, h } = self.area;
        canvas.bar(self.area, theme::FIELD);
        canvas.bar(Rect::new(x, y + h / 2.0, w, 1.0), theme::LINE);
        let mut left = x;
        for (words, colour) in caption {
            canvas.text(words, left, y - 10.0, theme::SMALL, *colour);
            left += canvas.width(words, theme::SMALL) + 7.0;
        }
        let right = x + w - canvas.width(top, theme::SMALL);
        canvas.text(top, right, y - 10.0, theme::SMALL, theme::MUTED);
    }

    fn show_bar(&self, canvas: &Canvas, tick: u64, share: f64, colour: Color) {
        let left = self.x(tick as f64);
        let pitch = self.area.w / (ARRIVALS_KEPT.as_secs_f32() * self.tick_hz as f32);
        let (top, bottom) = (self.y(share), self.area.bottom());
        let width = (pitch - 0.6).max(1.0).min(self.area.right() - left);
        if left >= self.area.x && width > 0.0 {
            let height = (bottom - top).max(1.0);
            let bar = Rect::new(left, bottom - height, width, height);
            canvas.bar(bar, colour);
        }
    }

    fn x(&self, tick: f64) -> f32 {
        let age_s = (self.now_tick - tick) / self.tick_hz;
        let share = 1.0 - (age_s as f32) / ARRIVALS_KEPT.as_secs_f32();
        self.area.x + self.area.w * share.clamp(0.0, 1.0)
    }

    fn y(&self, share: f64) -> f32 {
        self.area.bottom() - self.area.h * (share as f32).clamp(0.0, 1.0)
    }
}

/// Returns the least of 0.1, 0.2, 0.5, 1, 2, ... that is not below a value.
fn nice_above(value: f64) -> f64 {
    let (mut nice, mut steps) = (0.1, [2.0, 2.5, 2.0].into_iter().cycle());
    while nice < value * 0.999 && nice < 1e9 {
        nice *= steps.next().unwrap_or(10.0);
    }
    nice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_ends_at_a_round_number() {
        for (value, expected) in [
            (0.1, 0.1),
            (0.101, 0.2),
            (0.34, 0.5),
            (0.7, 1.0),
            (10.0, 10.0),
            (21.0, 50.0),
        ] {
            let nice = nice_above(value);
            assert!((nice - expected).abs() < 1e-9, "{value}: {nice}");
        }
    }

    #[test]
    fn the_present_is_at_the_right_edge_and_nothing_leaves_the_graph() {
        let axis = Axis {
            area: Rect::new(10.0, 20.0, 400.0, 80.0),
            now_tick: 1_000.0,
            tick_hz: 30.0,
        };
        assert_eq!(axis.x(1_000.0), 410.0);
        assert_eq!(axis.x(970.0), 310.0);
        assert_eq!((axis.x(0.0), axis.x(2_000.0)), (10.0, 410.0));
        assert_eq!((axis.y(0.0), axis.y(0.5), axis.y(9.0)), (100.0, 60.0, 20.0));
    }
}
