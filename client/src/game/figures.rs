//! The network figures behind F3, measured over half a second each.

use std::time::Duration;

use cubesync_client::{Client, Statistics};
use macroquad::math::{Rect, Vec2};

use crate::canvas::Canvas;
use crate::clock::FrameTime;
use crate::theme;

const PERIOD: Duration = Duration::from_millis(500);

/// Counts frames and traffic.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    since: Duration,
    before: Statistics,
    frames: u32,
    longest_frame: Duration,
    rows: Vec<(&'static str, String)>,
}

impl Figures {
    /// Counts a frame; at the end of a period the figures change.
    pub(crate) fn count(&mut self, client: &Client, time: FrameTime) {
        self.frames += 1;
        self.longest_frame = self.longest_frame.max(time.elapsed);
        let period = time.now.saturating_sub(self.since);
        if period < PERIOD {
            return;
        }
        let now = client.statistics();
        self.rows = self.rows(client, &now, period.as_secs_f64());
        self.since = time.now;
        self.before = now;
        self.frames = 0;
        self.longest_frame = Duration::ZERO;
    }

    /// Draws the panel into the upper right corner.
    pub(crate) fn show(&self, canvas: &Canvas, screen: Vec2) {
        let height = self.rows.len() as f32 * 20.0 + 24.0;
        let panel = Rect::new(screen.x - 286.0, 16.0, 270.0, height);
        canvas.panel(panel);
        for (index, (label, value)) in self.rows.iter().enumerate() {
            let y = panel.y + 22.0 + index as f32 * 20.0;
            canvas.text(label, panel.x + 16.0, y, theme::SMALL, theme::MUTED);
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
                "round trip",
                now.round_trip.map_or("—".to_owned(), milliseconds),
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
                "cube updates",
                format!(
                    "{:.0}/s in   {:.0}/s out",
                    per_second(now.updates_in, before.updates_in),
                    per_second(now.updates_out, before.updates_out)
                ),
            ),
            ("playout delay", milliseconds(now.playout_delay)),
            (
                "sample lead",
                format!("{}   {} late", milliseconds(now.lead), now.late_samples),
            ),
            ("players in sight", now.players.to_string()),
            (
                "room",
                welcome.map_or("—".to_owned(), |welcome| welcome.room.clone()),
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
