//! The texts over the game while it is played.

use std::time::Duration;

use cubesync_client::{Client, Status};
use macroquad::math::{Rect, Vec2};

use crate::canvas::Canvas;
use crate::clock::FrameTime;
use crate::feed::NewsFeed;
use crate::join::{dots, sentence};
use crate::theme;

/// Time for which the keys are shown after the first join.
const KEYS_SHOWN: Duration = Duration::from_secs(12);
const KEYS_FADE_S: f32 = 1.5;
/// The most important keys, where nothing can be pushed and where loose cubes can.
const KEYS: [&str; 2] = [
    "WASD or arrows move  ·  Space jumps  ·  drag to look around  ·  F1 help",
    "WASD or arrows move  ·  run into cubes to push them  ·  drag to look around  ·  F1 help",
];
const TOUCH_KEYS: [&str; 2] = [
    "Drag to look around  ·  pinch to zoom",
    "Run into cubes  ·  drag to look around",
];
const SHORT_KEYS: [&str; 2] = [
    "WASD or arrows move  ·  F1 help",
    "Arrows move and push cubes  ·  F1 help",
];

/// The message about a connection that is being made or was lost.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Banner {
    title: String,
    detail: Option<String>,
    /// Whether the client is at work, which moving dots after the title show.
    busy: bool,
}

impl Banner {
    /// Returns the message for a status, or nothing while all is well. `was_at` is the server at
    /// which the client joined before, if it has.
    pub(crate) fn new(status: Status, server: &str, was_at: Option<&str>) -> Option<Self> {
        let busy = |title| Self {
            title,
            detail: None,
            busy: true,
        };
        match status {
            Status::Joined | Status::Failed { .. } => None,
            Status::Connecting | Status::Joining if was_at == Some(server) => {
                Some(busy("Connection lost, reconnecting".to_owned()))
            }
            Status::Connecting | Status::Joining if was_at.is_some() => Some(Self {
                detail: Some(server.to_owned()),
                ..busy("Reconnecting to another server".to_owned())
            }),
            Status::Connecting => Some(busy(format!("Connecting to {server}"))),
            Status::Joining => Some(busy("Joining the room".to_owned())),
            Status::Waiting { retry_in, reason } => {
                let what = if was_at.is_some() {
                    "Connection lost"
                } else {
                    "No connection"
                };
                let seconds = retry_in.as_secs_f64().ceil().max(1.0);
                Some(Self {
                    title: format!("{what}, retrying in {seconds} s"),
                    detail: Some(sentence(&reason)),
                    busy: false,
                })
            }
        }
    }

    /// Adds why the try before this one failed, which may take longer than the wait between them.
    pub(crate) fn after(mut self, trouble: Option<&str>) -> Self {
        if self.detail.is_none() {
            self.detail = trouble.map(sentence);
        }
        self
    }

    /// Draws the banner below the upper edge.
    pub(crate) fn show(&self, canvas: &Canvas, screen: Vec2, time: FrameTime) {
        let widest = (screen.x - 96.0).clamp(120.0, 560.0);
        let detail = self.detail.as_deref().unwrap_or_default();
        let detail = canvas.wrapped(detail, widest, theme::SMALL);
        let detail = if self.detail.is_some() {
            detail
        } else {
            Vec::new()
        };
        let title = canvas.fitted(&self.title, widest, theme::BODY);
        let title_width = canvas.width(&title, theme::BODY) + 16.0;
        let detail_width = detail
            .iter()
            .map(|line| canvas.width(line, theme::SMALL))
            .fold(0.0, f32::max);
        let width = title_width.max(detail_width) + 64.0;
        let height = 52.0 + detail.len() as f32 * 20.0;
        let area = Rect::new(((screen.x - width) / 2.0).floor(), 64.0, width, height);
        canvas.panel(area);
        let (x, mut y) = (area.x + 44.0, area.y + 26.0);
        let light = if self.busy {
            theme::ACCENT
        } else {
            theme::ERROR
        };
        let beat = 0.6 + 0.4 * (time.now.as_secs_f32() * 5.0).sin();
        canvas.rounded(
            Rect::new(area.x + 22.0, y - 5.0, 10.0, 10.0),
            5.0,
            theme::faded(light, beat),
        );
        let dots = if self.busy { dots(time) } else { "" };
        canvas.text(&format!("{title}{dots}"), x, y, theme::BODY, theme::TEXT);
        for line in detail {
            y += 20.0;
            canvas.text(&line, x, y + 2.0, theme::SMALL, theme::MUTED);
        }
    }
}

/// Draws the room's name, the number of players in sight and the round trip to the server.
pub(crate) fn show_room(canvas: &Canvas, client: &Client, screen: Vec2) {
    let Some(welcome) = client.welcome() else {
        return;
    };
    let statistics = client.statistics();
    let players = match statistics.players {
        1 => "1 player in sight".to_owned(),
        count => format!("{count} players in sight"),
    };
    let round_trip = statistics.round_trip.map_or(String::new(), |time| {
        format!("{} ms", time.as_millis().max(1))
    });
    let gap = 14.0;
    let figures = [&players, &round_trip].map(|text| canvas.width(text, theme::SMALL) + gap);
    let beside = figures.iter().sum::<f32>() + gap + 34.0 + 32.0;
    let room = canvas.fitted(&welcome.room, (screen.x - beside).max(80.0), theme::SMALL);
    let parts = [
        (&*room, theme::TEXT),
        (players.as_str(), theme::MUTED),
        (round_trip.as_str(), theme::MUTED),
    ];
    let parts: Vec<_> = parts
        .into_iter()
        .filter(|(text, _)| !text.is_empty())
        .map(|(text, colour)| (text, colour, canvas.width(text, theme::SMALL)))
        .collect();
    let width = parts.iter().map(|(.., width)| width + gap).sum::<f32>() + 34.0;
    let (mut x, y) = (16.0 + 32.0, 32.0);
    canvas.rounded(Rect::new(16.0, y - 16.0, width, 32.0), 16.0, theme::PILL);
    canvas.rounded(Rect::new(16.0 + 14.0, y - 4.0, 8.0, 8.0), 4.0, theme::GOOD);
    for (text, colour, width) in parts {
        canvas.text(text, x, y, theme::SMALL, colour);
        x += width + gap;
    }
}

/// Draws a warning below the room's name that the server's identity is not verified.
pub(crate) fn show_unverified(canvas: &Canvas) {
    let text = "server not verified";
    let (x, y) = (16.0, 72.0);
    let width = canvas.width(text, theme::SMALL) + 48.0;
    canvas.rounded(Rect::new(x, y - 14.0, width, 28.0), 14.0, theme::PILL);
    canvas.rounded(Rect::new(x + 14.0, y - 4.0, 8.0, 8.0), 4.0, theme::ERROR);
    canvas.text(text, x + 32.0, y, theme::SMALL, theme::ERROR);
}

/// Draws the feed into the lower left corner, with the newest line at the bottom. By touch the
/// stick is in that corner, so the feed is drawn below the room's name.
pub(crate) fn show_feed(
    canvas: &Canvas,
    feed: &NewsFeed,
    now: Duration,
    screen: Vec2,
    by_touch: bool,
) {
    let (mut y, next) = if by_touch {
        (74.0, 34.0)
    } else {
        (screen.y - 36.0, -34.0)
    };
    for (line, opacity) in feed.lines(now) {
        let line = canvas.fitted(line, screen.x - 56.0, theme::SMALL);
        let width = canvas.width(&line, theme::SMALL) + 24.0;
        canvas.rounded(
            Rect::new(16.0, y - 14.0, width, 28.0),
            14.0,
            theme::faded(theme::PILL, opacity),
        );
        canvas.text(
            &line,
            28.0,
            y,
            theme::SMALL,
            theme::faded(theme::TEXT, opacity),
        );
        y += next;
    }
}

/// Draws the most important keys in the first seconds of a game.
pub(crate) fn show_keys(
    canvas: &Canvas,
    since_join: Duration,
    screen: Vec2,
    by_touch: bool,
    physics: bool,
) {
    let left_s = KEYS_SHOWN.saturating_sub(since_join).as_secs_f32();
    let opacity = (left_s / KEYS_FADE_S).min(1.0);
    if opacity <= 0.0 {
        return;
    }
    let (keys, bottom) = match screen.x {
        // On an upright phone the controls are at the bottom.
        ..600.0 if by_touch => (TOUCH_KEYS, 250.0),
        _ if by_touch => (TOUCH_KEYS, 52.0),
        // News have room beside the short ones.
        ..1000.0 => (SHORT_KEYS, 52.0),
        _ => (KEYS, 52.0),
    };
    let keys = keys[usize::from(physics)];
    let width = canvas.width(keys, theme::SMALL) + 32.0;
    let area = Rect::new((screen.x - width) / 2.0, screen.y - bottom, width, 32.0);
    canvas.rounded(area, 16.0, theme::faded(theme::PILL, opacity));
    let middle = area.center();
    canvas.text_centred(
        keys,
        middle.x,
        middle.y,
        theme::SMALL,
        theme::faded(theme::TEXT, opacity),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(milliseconds: u64) -> Status {
        Status::Waiting {
            retry_in: Duration::from_millis(milliseconds),
            reason: "connection refused".into(),
        }
    }

    fn title(status: Status, was_at: Option<&str>) -> String {
        Banner::new(status, "host:1", was_at).unwrap().title
    }

    #[test]
    fn a_wait_is_counted_down_in_whole_seconds() {
        assert_eq!(
            title(waiting(2_100), Some("host:2")),
            "Connection lost, retrying in 3 s"
        );
        assert_eq!(
            title(waiting(0), Some("host:1")),
            "Connection lost, retrying in 1 s"
        );
        assert_eq!(title(waiting(900), None), "No connection, retrying in 1 s");
    }

    #[test]
    fn a_first_connection_names_its_server_and_a_joined_client_has_no_banner() {
        assert_eq!(title(Status::Connecting, None), "Connecting to host:1");
        assert_eq!(Banner::new(Status::Joined, "host:1", Some("host:1")), None);
    }

    #[test]
    fn the_reason_of_the_last_try_stays_during_the_next_one() {
        let banner = Banner::new(Status::Connecting, "host:1", None).unwrap();
        assert_eq!(banner.after(None).detail, None);
        let banner = Banner::new(Status::Connecting, "host:1", None).unwrap();
        let detail = banner.after(Some("no answer")).detail;
        assert_eq!(detail.as_deref(), Some("No answer"));
    }

    #[test]
    fn the_banner_names_another_server_that_the_client_goes_on_at() {
        assert_eq!(
            title(Status::Joining, Some("host:1")),
            "Connection lost, reconnecting"
        );
        let banner = Banner::new(Status::Connecting, "host:1", Some("host:2")).unwrap();
        assert_eq!(banner.title, "Reconnecting to another server");
        assert_eq!(banner.detail.as_deref(), Some("host:1"));
    }
}
