//! The panel behind F3: the net graph, with figures that are measured over half a second.

use std::time::Duration;

use cubesync_client::{Client, Statistics};
use macroquad::math::{Rect, Vec2, vec2};

use crate::canvas::Canvas;
use crate::clock::FrameTime;
use crate::{net_graph, theme};

const PERIOD: Duration = Duration::from_millis(500);
const ROW_HEIGHT: f32 = 20.0;
/// Height of the four large figures, in logical pixels.
const HEADS_HEIGHT: f32 = 54.0;

/// The panel, and the counters behind its figures.
#[derive(Debug, Default)]
pub(crate) struct FiguresPanel {
    since: Duration,
    before: Statistics,
    frames: u32,
    longest_frame: Duration,
    heads: [(&'static str, String); 4],
    rows: Vec<(&'static str, String)>,
}

impl FiguresPanel {
    /// Counts a frame, and renews the figures at the end of each period.
    pub(crate) fn count(&mut self, client: &Client, time: FrameTime) {
        self.frames += 1;
        self.longest_frame = self.longest_frame.max(time.elapsed);
        let period = time.now.saturating_sub(self.since);
        if period < PERIOD {
            return;
        }
        let now = client.statistics();
        self.heads = heads(&now);
        self.rows = self.rows(client, &now, period.as_secs_f64());
        self.since = time.now;
        self.before = now;
        self.frames = 0;
        self.longest_frame = Duration::ZERO;
    }

    /// Draws the panel into the upper right corner, with as many rows as there is room for. On a
    /// small screen and by touch it lies below what is in that corner already.
    pub(crate) fn show(
        &self,
        canvas: &Canvas,
        client: &Client,
        time: FrameTime,
        screen: Vec2,
        by_touch: bool,
    ) {
        let top = if by_touch || screen.x < 720.0 {
            64.0
        } else {
            16.0
        };
        let width = 340.0_f32.min(screen.x - 16.0);
        let above = HEADS_HEIGHT + net_graph::HEIGHT + 18.0;
        // Fingers need the lower part of the screen.
        let below = if by_touch { 190.0 } else { 36.0 };
        let room = (screen.y - top - above - below).max(0.0);
        let shown = self.rows.len().min((room / ROW_HEIGHT) as usize);
        let height = above + shown as f32 * ROW_HEIGHT + 6.0;
        let left = (screen.x - 16.0 - width).max(8.0);
        let panel = Rect::new(left, top, width, height);
        canvas.panel(panel);
        let (x, inside) = (panel.x + 16.0, panel.w - 32.0);
        for (index, (label, value)) in self.heads.iter().enumerate() {
            let x = x + index as f32 * inside / self.heads.len() as f32;
            // The same colours as in the graph.
            let colour = match index {
                1 => theme::ACCENT,
                2 => theme::ERROR,
                _ => theme::TEXT,
            };
            canvas.text(value, x, top + 22.0, theme::BODY, colour);
            canvas.text(label, x, top + 42.0, theme::SMALL, theme::MUTED);
        }
        let corner = vec2(x, top + HEADS_HEIGHT);
        net_graph::show(canvas, client, time, corner, inside);
        for (index, (label, value)) in self.rows.iter().take(shown).enumerate() {
            let y = top + above + 6.0 + index as f32 * ROW_HEIGHT;
            canvas.text(label, x, y, theme::SMALL, theme::MUTED);
            let x = panel.right() - 16.0 - canvas.width(value, theme::SMALL);
            canvas.text(value, x, y, theme::SMALL, theme::TEXT);
        }
    }

    fn rows(
        &self,
        client: &Client,
        now: &Statistics,
        period_s: f64,
    ) -> Vec<(&'static str, String)> {
        let per_second = |now: u64, before: u64| now.saturating_sub(before) as f64 / period_s;
        let traffic = |bytes: f64, frames: f64| format!("{}/s   {frames:.0} frames/s", size(bytes));
        let before = &self.before;
        let welcome = client.welcome();
        vec![
            (
                "frames",
                format!(
                    "{:.0}/s   longest {}",
                    f64::from(self.frames) / period_s,
                    milliseconds(self.longest_frame)
                ),
            ),
            (
                "in",
                traffic(
                    per_second(now.bytes_in, before.bytes_in),
                    per_second(now.frames_in, before.frames_in),
                ),
            ),
            (
                "out",
                traffic(
                    per_second(now.bytes_out, before.bytes_out),
                    per_second(now.frames_out, before.frames_out),
                ),
            ),
            (
                "datagrams",
                match now.datagram_loss {
                    None => "none".to_owned(),
                    Some(loss) => format!(
                        "{:.0}/s in   {:.0}/s out   {:.1} % lost",
                        per_second(now.datagrams_in, before.datagrams_in),
                        per_second(now.datagrams_out, before.datagrams_out),
                        f64::from(loss) / 2.55
                    ),
                },
            ),
            (
                "cube updates",
                format!(
                    "{:.0}/s in   {:.0}/s out",
                    per_second(now.updates_in, before.updates_in),
                    per_second(now.updates_out, before.updates_out)
                ),
            ),
            (
                "sample lead",
                format!("{}   {} late", milliseconds(now.lead), now.late_samples),
            ),
            (
                "tick rate",
                welcome.map_or("—".to_owned(), |welcome| {
                    format!("{} Hz", welcome.tick_hz)
                }),
            ),
        ]
    }
}

/// Returns the four large figures, each with its label before it.
fn heads(now: &Statistics) -> [(&'static str, String); 4] {
    let ms = |time: Duration| format!("{} ms", time.as_millis());
    [
        ("round trip", now.round_trip.map_or("—".to_owned(), ms)),
        ("playout", ms(now.playout_delay)),
        ("late ticks", now.late_ticks.to_string()),
        ("missing", now.missing_ticks.to_string()),
    ]
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}

fn size(bytes: f64) -> String {
    if bytes < 1e3 {
        format!("{bytes:.0} B")
    } else {
        format!("{:.1} kB", bytes / 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        assert_eq!(
            (size(0.4), size(999.0), size(12_345.0)),
            ("0 B".into(), "999 B".into(), "12.3 kB".into())
        );
    }
}
