//! The feed: short lines about what other players did, which fade away.

use std::collections::VecDeque;
use std::time::Duration;

/// Time for which a line is shown.
const LIFETIME: Duration = Duration::from_secs(7);
/// Time that a line takes to appear and to fade.
const FADE: Duration = Duration::from_millis(700);
/// Most lines at once. A hundred joins in a row are not worth more.
const MAX_LINES: usize = 5;

/// The lines, oldest first.
#[derive(Debug, Default)]
pub(crate) struct NewsFeed {
    lines: VecDeque<(Duration, String)>,
}

impl NewsFeed {
    /// Adds a line, and drops the oldest one if there are too many.
    pub(crate) fn push(&mut self, now: Duration, line: String) {
        self.lines.push_back((now, line));
        if self.lines.len() > MAX_LINES {
            self.lines.pop_front();
        }
    }

    /// Removes the lines that have faded.
    pub(crate) fn retire(&mut self, now: Duration) {
        self.lines
            .retain(|(since, _)| now.saturating_sub(*since) < LIFETIME);
    }

    /// Returns each line and its opacity at a time, newest first.
    pub(crate) fn lines(&self, now: Duration) -> impl Iterator<Item = (&str, f32)> {
        self.lines.iter().rev().map(move |(since, line)| {
            let age = now.saturating_sub(*since);
            let left = LIFETIME.saturating_sub(age);
            let share = |time: Duration| time.as_secs_f32() / FADE.as_secs_f32();
            // A new line is readable at once, and then gains its full strength.
            (
                line.as_str(),
                (0.4 + share(age)).min(share(left)).clamp(0.0, 1.0),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_line_is_clear_in_its_life_then_fades_and_goes() {
        let mut feed = NewsFeed::default();
        feed.push(SECOND, "Вася joined".into());
        assert_eq!(
            feed.lines(3 * SECOND).collect::<Vec<_>>(),
            [("Вася joined", 1.0)]
        );
        let (_, late) = feed.lines(SECOND + LIFETIME - FADE / 2).next().unwrap();
        assert!((late - 0.5).abs() < 0.01);
        feed.retire(SECOND + LIFETIME);
        assert_eq!(feed.lines(SECOND + LIFETIME).count(), 0);
    }

    #[test]
    fn only_the_newest_lines_are_kept() {
        let mut feed = NewsFeed::default();
        for number in 0..100 {
            feed.push(SECOND, format!("{number}"));
        }
        let kept: Vec<_> = feed
            .lines(SECOND)
            .map(|(line, _)| line.to_owned())
            .collect();
        assert_eq!(kept, ["99", "98", "97", "96", "95"]);
    }
}
