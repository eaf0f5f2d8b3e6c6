//! The network lab in the window: a panel that makes the network worse, and a badge that is shown
//! while it does.

use std::time::Duration;

use cubesync_client::Client;
use cubesync_client::lab::Conditions;
use cubesync_client::playout::Display;
use macroquad::math::{Rect, Vec2};

use crate::canvas::Canvas;
use crate::input::{Edit, InputFrame};
use crate::theme;
use crate::widgets::{self, ButtonStyle};

/// Networks to choose from.
const PRESETS: [(&str, Conditions); 5] = [
    ("as it is", network(0, 0, 0)),
    ("LAN", network(1, 1, 0)),
    ("Wi-Fi", network(8, 7, 5)),
    ("60 ± 20 ms, 2 %", network(60, 20, 20)),
    ("150 ± 50 ms, 5 %", network(150, 50, 50)),
];
/// Bandwidths to choose from, in bits per second. 0 is no limit, so it comes after the fastest.
const BANDWIDTHS: [u32; 8] = [
    16_000, 32_000, 64_000, 128_000, 256_000, 512_000, 1_000_000, 0,
];
const DISPLAYS: [(&str, Display); 3] = [
    ("interpolated", Display::Smooth),
    ("raw snapshots", Display::Raw),
    ("extrapolated", Display::Extrapolated),
];
const LATENCY_STEP_MS: u64 = 10;
const MAX_LATENCY_MS: u64 = 500;
const LOSS_STEP_PERMILLE: u16 = 5;
const MAX_LOSS_PERMILLE: u16 = 200;
const NOTE: &str = "Times and losses are of each way. A lost datagram is gone. TCP sends a lost \
                    segment again, and everything behind it waits. The wire frames are the newest poses from the \
                    server, without the playout delay.";

const ROWS: [LabRow; 8] = [
    LabRow::Network,
    LabRow::Latency,
    LabRow::Jitter,
    LabRow::Loss,
    LabRow::Bandwidth,
    LabRow::Datagrams,
    LabRow::Display,
    LabRow::WireFrames,
];

/// The settings in the panel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LabRow {
    Network,
    Latency,
    Jitter,
    Loss,
    Bandwidth,
    Datagrams,
    Display,
    WireFrames,
}

/// The panel's state.
#[derive(Debug, Default)]
pub(crate) struct LabPanel {
    /// Whether the panel is open.
    pub(crate) is_open: bool,
    /// Whether the newest poses from the server are drawn as wire frames.
    pub(crate) shows_wire_frames: bool,
    focus: usize,
    area: Rect,
}

impl LabPanel {
    /// Whether a place belongs to the open panel.
    pub(crate) fn covers(&self, place: Vec2) -> bool {
        self.is_open && self.area.contains(place)
    }

    /// Draws the open panel and applies the input to it.
    pub(crate) fn show(
        &mut self,
        canvas: &Canvas,
        client: &mut Client,
        input: &InputFrame,
        screen: Vec2,
    ) {
        let row_height = if input.by_touch { 40.0 } else { 32.0 };
        let width = 332.0_f32.min(screen.x - 16.0);
        let top = if screen.y < 480.0 { 8.0 } else { 64.0 };
        let note = canvas.wrapped(NOTE, width - 32.0, theme::SMALL);
        let rows_height = 52.0 + ROWS.len() as f32 * row_height;
        let note_height = 14.0 + note.len() as f32 * 17.0;
        let has_note = top + rows_height + note_height < screen.y - 30.0;
        let height = rows_height + if has_note { note_height } else { 8.0 };
        let left = 16.0_f32.min((screen.x - width) / 2.0);
        self.area = Rect::new(left, top, width, height);
        canvas.panel(self.area);
        let (x, right) = (self.area.x + 16.0, self.area.right() - 16.0);
        canvas.text("Network lab", x, top + 26.0, theme::BODY, theme::TEXT);
        let mut step = self.keys(input).map(|up| (self.focus, up));
        let button = |area, label: &str, focused| {
            widgets::button(canvas, input, area, label, ButtonStyle::Quiet, focused)
        };
        if button(
            Rect::new(right - 64.0, top + 10.0, 64.0, 30.0),
            "Close",
            false,
        ) {
            self.is_open = false;
        }
        for (index, row) in ROWS.into_iter().enumerate() {
            let y = top + 48.0 + index as f32 * row_height;
            let side = row_height - 4.0;
            let focused = index == self.focus && !input.by_touch;
            let minus = Rect::new(right - 200.0, y, side, side);
            let plus = Rect::new(right - side, y, side, side);
            if button(minus, "−", focused) {
                step = Some((index, false));
            }
            if button(plus, "+", focused) {
                step = Some((index, true));
            }
            let middle = y + side / 2.0;
            let colour = if focused { theme::ACCENT } else { theme::MUTED };
            canvas.text(row.label(), x, middle, theme::SMALL, colour);
            let centre = (minus.right() + plus.x) / 2.0;
            let value = self.value(row, client);
            canvas.text_centred(&value, centre, middle, theme::SMALL, theme::TEXT);
        }
        if has_note {
            for (index, line) in note.iter().enumerate() {
                let y = top + rows_height + 10.0 + index as f32 * 17.0;
                canvas.text(line, x, y, theme::SMALL, theme::MUTED);
            }
        }
        if let Some((index, up)) = step {
            self.focus = index;
            self.change(ROWS[index], up, client);
        }
    }

    /// Moves the focus with Tab, and returns whether plus (true) or minus was typed.
    fn keys(&mut self, input: &InputFrame) -> Option<bool> {
        if input.is_pressed(macroquad::input::KeyCode::Tab) {
            let by = if input.fast { ROWS.len() - 1 } else { 1 };
            self.focus = (self.focus + by) % ROWS.len();
        }
        input.edits.iter().find_map(|edit| match edit {
            Edit::Type('+' | '=') => Some(true),
            Edit::Type('-' | '_') => Some(false),
            _ => None,
        })
    }

    fn change(&mut self, row: LabRow, up: bool, client: &mut Client) {
        match row {
            LabRow::WireFrames => self.shows_wire_frames = !self.shows_wire_frames,
            LabRow::Display => {
                let displays = DISPLAYS.map(|(_, display)| display);
                client.set_display(neighbour(&displays, client.display(), up));
            }
            _ => client.set_lab(changed(client.lab(), row, up)),
        }
    }

    fn value(&self, row: LabRow, client: &Client) -> String {
        let lab = client.lab();
        let ms = |time: Duration| format!("{} ms", time.as_millis());
        match row {
            LabRow::Network => {
                let preset = PRESETS.iter().find(|(_, network)| *network == lab);
                preset.map_or("as below", |(name, _)| name).to_owned()
            }
            LabRow::Latency => ms(lab.latency),
            LabRow::Jitter => format!("± {}", ms(lab.jitter)),
            LabRow::Loss => percent(lab.loss_permille),
            LabRow::Bandwidth => bandwidth(lab.bandwidth_bps),
            LabRow::Datagrams => {
                let blocked = if lab.blocks_datagrams {
                    "blocked"
                } else {
                    "pass"
                };
                blocked.to_owned()
            }
            LabRow::Display => display_name(client.display()).to_owned(),
            LabRow::WireFrames => if self.shows_wire_frames { "on" } else { "off" }.to_owned(),
        }
    }
}

impl LabRow {
    fn label(self) -> &'static str {
        match self {
            Self::Network => "Network",
            Self::Latency => "Latency",
            Self::Jitter => "Jitter",
            Self::Loss => "Loss",
            Self::Bandwidth => "Bandwidth",
            Self::Datagrams => "Datagrams",
            Self::Display => "Others shown",
            Self::WireFrames => "Wire frames",
        }
    }
}

/// Draws a frame around the window with the changed settings, if any are.
pub(crate) fn show_badge(canvas: &Canvas, client: &Client, screen: Vec2) {
    let Some(text) = badge(client.lab(), client.display()) else {
        return;
    };
    let bottom = 20.0;
    for edge in [
        Rect::new(0.0, 0.0, screen.x, 4.0),
        Rect::new(0.0, 0.0, 4.0, screen.y),
        Rect::new(screen.x - 4.0, 0.0, 4.0, screen.y),
        Rect::new(0.0, screen.y - bottom, screen.x, bottom),
    ] {
        canvas.bar(edge, theme::ACCENT);
    }
    let y = screen.y - bottom / 2.0;
    canvas.text_centred(&text, screen.x / 2.0, y, theme::SMALL, theme::ON_ACCENT);
}

/// Returns the badge's text while the network or the picture is changed.
fn badge(lab: Conditions, display: Display) -> Option<String> {
    if lab.is_perfect() && display == Display::Smooth {
        return None;
    }
    let mut parts = vec!["NETWORK LAB".to_owned()];
    if !lab.latency.is_zero() || !lab.jitter.is_zero() {
        let (latency, jitter) = (lab.latency.as_millis(), lab.jitter.as_millis());
        parts.push(format!("{latency} ± {jitter} ms"));
    }
    if lab.loss_permille > 0 {
        parts.push(format!("{} loss", percent(lab.loss_permille)));
    }
    if lab.bandwidth_bps > 0 {
        parts.push(bandwidth(lab.bandwidth_bps));
    }
    if lab.blocks_datagrams {
        parts.push("no datagrams".to_owned());
    }
    if display != Display::Smooth {
        parts.push(display_name(display).to_owned());
    }
    Some(parts.join("  ·  "))
}

fn changed(lab: Conditions, row: LabRow, up: bool) -> Conditions {
    let step = |time: Duration| {
        let now_ms = time.as_millis() as u64;
        let next_ms = match up {
            true => (now_ms / LATENCY_STEP_MS + 1) * LATENCY_STEP_MS,
            false => now_ms.saturating_sub(1) / LATENCY_STEP_MS * LATENCY_STEP_MS,
        };
        Duration::from_millis(next_ms.min(MAX_LATENCY_MS))
    };
    match row {
        LabRow::Network => neighbour(&PRESETS.map(|(_, network)| network), lab, up),
        LabRow::Latency => Conditions {
            latency: step(lab.latency),
            ..lab
        },
        LabRow::Jitter => Conditions {
            jitter: step(lab.jitter),
            ..lab
        },
        LabRow::Loss => {
            let loss = match up {
                true => lab.loss_permille + LOSS_STEP_PERMILLE,
                false => lab.loss_permille.saturating_sub(LOSS_STEP_PERMILLE),
            };
            Conditions {
                loss_permille: loss.min(MAX_LOSS_PERMILLE),
                ..lab
            }
        }
        LabRow::Bandwidth => Conditions {
            bandwidth_bps: neighbour(&BANDWIDTHS, lab.bandwidth_bps, up),
            ..lab
        },
        LabRow::Datagrams => Conditions {
            blocks_datagrams: !lab.blocks_datagrams,
            ..lab
        },
        LabRow::Display | LabRow::WireFrames => lab,
    }
}

/// Returns the item after or before another one, going round at the ends; the first item if the
/// other one is not in the list.
fn neighbour<T: Copy + PartialEq>(items: &[T], item: T, up: bool) -> T {
    let by = if up { 1 } else { items.len() - 1 };
    let at = items.iter().position(|other| *other == item);
    items[at.map_or(0, |at| (at + by) % items.len())]
}

fn percent(permille: u16) -> String {
    match (permille / 10, permille % 10) {
        (percent, 0) => format!("{percent} %"),
        (percent, tenths) => format!("{percent}.{tenths} %"),
    }
}

fn bandwidth(bps: u32) -> String {
    match bps {
        0 => "no limit".to_owned(),
        _ => format!("{} kbit/s", bps / 1_000),
    }
}

fn display_name(display: Display) -> &'static str {
    let known = DISPLAYS.iter().find(|(_, other)| *other == display);
    known.map_or("", |(name, _)| name)
}

const fn network(latency_ms: u64, jitter_ms: u64, loss_permille: u16) -> Conditions {
    Conditions {
        latency: Duration::from_millis(latency_ms),
        jitter: Duration::from_millis(jitter_ms),
        loss_permille,
        bandwidth_bps: 0,
        blocks_datagrams: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_follow_each_other_and_other_values_lead_back_to_the_network_as_it_is() {
        let mut lab = Conditions::default();
        for (_, expected) in PRESETS.into_iter().skip(1).chain([PRESETS[0]]) {
            lab = changed(lab, LabRow::Network, true);
            assert_eq!(lab, expected);
        }
        assert_eq!(changed(lab, LabRow::Network, false), PRESETS[4].1);
        let own = changed(PRESETS[3].1, LabRow::Latency, true);
        assert_eq!(own.latency, Duration::from_millis(70));
        assert!(changed(own, LabRow::Network, true).is_perfect());
    }

    #[test]
    fn values_go_in_round_steps_and_stay_within_bounds() {
        let steps = |from_ms, up| {
            let lab = changed(network(from_ms, 0, 0), LabRow::Latency, up);
            lab.latency.as_millis()
        };
        assert_eq!((steps(8, true), steps(8, false)), (10, 0));
        assert_eq!((steps(60, true), steps(60, false)), (70, 50));
        assert_eq!((steps(500, true), steps(0, false)), (500, 0));
        assert_eq!(
            changed(network(0, 0, 200), LabRow::Loss, true).loss_permille,
            200
        );
        assert_eq!(
            changed(network(0, 0, 3), LabRow::Loss, false).loss_permille,
            0
        );
        let blocked = changed(Conditions::default(), LabRow::Datagrams, true);
        assert!(blocked.blocks_datagrams);
        assert!(changed(blocked, LabRow::Datagrams, true).is_perfect());
        let slow = changed(Conditions::default(), LabRow::Bandwidth, false);
        assert_eq!(slow.bandwidth_bps, 1_000_000);
        assert!(changed(slow, LabRow::Bandwidth, true).is_perfect());
    }

    #[test]
    fn the_badge_names_every_changed_setting() {
        assert_eq!(badge(Conditions::default(), Display::Smooth), None);
        let said = |lab, display| badge(lab, display).unwrap();
        assert_eq!(
            said(network(150, 50, 50), Display::Smooth),
            "NETWORK LAB  ·  150 ± 50 ms  ·  5 % loss"
        );
        let slow = Conditions {
            bandwidth_bps: 64_000,
            blocks_datagrams: true,
            ..Conditions::default()
        };
        assert_eq!(
            said(slow, Display::Raw),
            "NETWORK LAB  ·  64 kbit/s  ·  no datagrams  ·  raw snapshots"
        );
    }
}
