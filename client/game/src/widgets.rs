//! The controls of the join screen, the menu and the lab.

use macroquad::color::Color;
use macroquad::math::{Rect, vec2};

use crate::canvas::Canvas;
use crate::input::InputFrame;
use crate::text_field::TextField;
use crate::theme;

const RADIUS: f32 = 9.0;

/// How a button looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ButtonStyle {
    /// The choice that most people want.
    Primary,
    /// Any other choice.
    Quiet,
}

/// Draws a button, and returns whether it was clicked.
pub(crate) fn button(
    canvas: &Canvas,
    input: &InputFrame,
    area: Rect,
    label: &str,
    style: ButtonStyle,
    focused: bool,
) -> bool {
    let hover = area.contains(input.mouse);
    let (ground, text) = match style {
        ButtonStyle::Primary if hover => (Color::new(1.0, 0.82, 0.44, 1.0), theme::ON_ACCENT),
        ButtonStyle::Primary => (theme::ACCENT, theme::ON_ACCENT),
        ButtonStyle::Quiet if hover => (theme::FIELD_HOVER, theme::TEXT),
        ButtonStyle::Quiet => (theme::FIELD, theme::TEXT),
    };
    canvas.rounded(area, RADIUS, ground);
    if focused {
        let ring = match style {
            ButtonStyle::Primary => theme::TEXT,
            ButtonStyle::Quiet => theme::ACCENT,
        };
        canvas.outline(area, RADIUS, 2.0, ring);
    }
    let middle = area.center();
    canvas.text_centred(label, middle.x, middle.y, theme::BODY, text);
    hover && input.clicked
}

/// Draws a field, with a hint while it is empty, and returns whether it was clicked. The caret
/// blinks with `time_s`.
pub(crate) fn text_field(
    canvas: &Canvas,
    input: &InputFrame,
    area: Rect,
    field: &TextField,
    hint: &str,
    focused: bool,
    time_s: f32,
) -> bool {
    let hover = area.contains(input.mouse);
    let ground = if hover {
        theme::FIELD_HOVER
    } else {
        theme::FIELD
    };
    canvas.rounded(area, RADIUS, ground);
    if focused {
        canvas.outline(area, RADIUS, 2.0, theme::ACCENT);
    }
    // A long text scrolls so that the caret stays in sight. It is cut between characters at either
    // end.
    let room = area.w - 24.0;
    let fits = |text: &str| canvas.width(text, theme::BODY) <= room;
    let before = tail(field.before_caret(), fits);
    let start = field.before_caret().len() - before.len();
    let shown = head(&field.text()[start..], fits);
    // What is before the caret fits; what follows may join with it and be a little wider.
    let shown = if shown.len() < before.len() {
        before
    } else {
        shown
    };
    let (x, y) = (area.x + 12.0, area.center().y);
    if field.text().is_empty() {
        canvas.text(hint, x, y, theme::SMALL, theme::faded(theme::MUTED, 0.7));
    }
    canvas.text(shown, x, y, theme::BODY, theme::TEXT);
    if focused && time_s.fract() < 0.6 {
        let after = &shown[before.len()..];
        let caret = x + caret_x(before, after, |text| canvas.width(text, theme::BODY));
        canvas.rounded(Rect::new(caret, y - 10.0, 2.0, 20.0), 0.0, theme::ACCENT);
    }
    hover && input.clicked
}

/// Draws a key and what it does, centred on a point. The key looks like a cap, so that it is not
/// read as a word.
pub(crate) fn key_hint(canvas: &Canvas, key: &str, text: &str, x: f32, y: f32) {
    let cap_width = canvas.width(key, theme::BODY) + 18.0;
    let width = cap_width + canvas.width(text, theme::BODY) + 34.0;
    let area = Rect::new(x - width / 2.0, y - 20.0, width, 40.0);
    canvas.rounded(area, 20.0, theme::PANEL);
    let cap = Rect::new(area.x + 8.0, y - 13.0, cap_width, 26.0);
    canvas.rounded(cap, 7.0, theme::ACCENT);
    let middle = cap.center();
    canvas.text_centred(key, middle.x, middle.y, theme::BODY, theme::ON_ACCENT);
    canvas.text(text, cap.right() + 10.0, y, theme::BODY, theme::TEXT);
}

/// Draws a colour to choose, and returns whether it was clicked.
pub(crate) fn swatch(
    canvas: &Canvas,
    input: &InputFrame,
    area: Rect,
    colour: Color,
    chosen: bool,
    focused: bool,
) -> bool {
    if chosen {
        let ring = if focused { theme::ACCENT } else { theme::TEXT };
        canvas.outline(grown(area, 4.0), RADIUS + 3.0, 2.0, ring);
    }
    let hover = area.contains(input.mouse);
    canvas.rounded(
        if hover && !chosen {
            grown(area, 1.5)
        } else {
            area
        },
        RADIUS,
        colour,
    );
    hover && input.clicked
}

fn grown(area: Rect, by: f32) -> Rect {
    let corner = area.point() - vec2(by, by);
    Rect::new(corner.x, corner.y, area.w + 2.0 * by, area.h + 2.0 * by)
}

/// Returns the caret's distance from the beginning of a line. Within words that run to the left,
/// it is at the left end of what was typed.
fn caret_x(before: &str, after: &str, width: impl Fn(&str) -> f32) -> f32 {
    if !before.ends_with(runs_left) {
        return width(before);
    }
    let is_within = |letter: char| runs_left(letter) || letter == ' ';
    let start = before.trim_end_matches(is_within).len();
    let words = before[start..].trim_start();
    let start = before.len() - words.len();
    let rest = after.len() - after.trim_start_matches(is_within).len();
    let all = format!("{words}{}", after[..rest].trim_end());
    width(&before[..start]) + width(&all) - width(words)
}

/// Whether a letter is Hebrew, Arabic or of another script that runs to the left.
fn runs_left(letter: char) -> bool {
    matches!(letter, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{feff}'
        | '\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1efff}')
}

/// Returns the longest end of a text that fits.
fn tail(text: &str, fits: impl Fn(&str) -> bool) -> &str {
    let starts = text.char_indices().map(|(start, _)| start);
    starts
        .map(|start| &text[start..])
        .find(|tail| fits(tail))
        .unwrap_or_default()
}

/// Returns the longest beginning of a text that fits.
fn head(text: &str, fits: impl Fn(&str) -> bool) -> &str {
    let ends = text
        .char_indices()
        .map(|(start, character)| start + character.len_utf8());
    ends.rev()
        .map(|end| &text[..end])
        .find(|head| fits(head))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_is_at_the_left_of_words_that_run_to_the_left() {
        let caret = |before, after| caret_x(before, after, |text| text.chars().count() as f32);
        assert_eq!(caret("Вас", "я"), 3.0);
        assert_eq!(caret("", "דוד"), 0.0);
        assert_eq!(caret("דוד", ""), 0.0);
        assert_eq!(caret("דו", "ד"), 1.0);
        assert_eq!(caret("ab דו", "ד c"), 4.0);
        // A blank at the end is to the right of the words, and so is what follows it.
        assert_eq!(caret("דוד ", ""), 4.0);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let fits = |text: &str| text.chars().count() <= 3;
        assert_eq!(tail("Привет", fits), "вет");
        assert_eq!(head("Привет", fits), "При");
        assert_eq!((tail("", fits), head("", fits)), ("", ""));
        assert_eq!((tail("я", fits), head("я", fits)), ("я", "я"));
    }
}
