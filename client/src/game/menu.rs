//! What lies over the game: the menu and the help.

use macroquad::math::{Rect, Vec2};

use crate::canvas::Canvas;
use crate::input::{Edit, InputFrame};
use crate::theme;
use crate::widgets::{self, ButtonStyle};

/// What was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Go on playing.
    Resume,
    /// Back to the join screen.
    Leave,
    /// Close the window.
    Quit,
}

const CHOICES: [(Choice, &str); 3] = [
    (Choice::Resume, "Resume"),
    (Choice::Leave, "Leave to the join screen"),
    (Choice::Quit, "Quit"),
];

/// Every key, as the help shows it.
const HELP: [(&str, &str); 10] = [
    ("W A S D   ← ↑ → ↓", "move, as the camera looks"),
    ("Shift", "move faster"),
    ("Space", "jump"),
    ("E", "take and drop the free cube"),
    ("Mouse button", "hold and drag to look around"),
    ("Wheel", "nearer and farther"),
    ("F1", "this help"),
    ("F3", "network figures"),
    ("Esc", "menu"),
    ("Tab   Enter", "choose in menus"),
];

/// The open menu.
#[derive(Debug, Default)]
pub(crate) struct Menu {
    focus: usize,
}

impl Menu {
    /// Draws the menu and reacts to what is done on it.
    pub(crate) fn show(
        &mut self,
        canvas: &Canvas,
        input: &InputFrame,
        screen: Vec2,
    ) -> Option<Choice> {
        let mut chosen = None;
        for edit in &input.edits {
            match edit {
                Edit::Next => self.focus = (self.focus + 1) % CHOICES.len(),
                Edit::Previous => self.focus = (self.focus + CHOICES.len() - 1) % CHOICES.len(),
                Edit::Confirm => chosen = Some(CHOICES[self.focus].0),
                _ => {}
            }
        }
        canvas.rounded(Rect::new(0.0, 0.0, screen.x, screen.y), 0.0, theme::VEIL);
        let panel = centred(screen, Vec2::new(340.0, 256.0));
        canvas.panel(panel);
        canvas.text(
            "cubesync",
            panel.x + 32.0,
            panel.y + 40.0,
            theme::TITLE,
            theme::TEXT,
        );
        for (index, (choice, label)) in CHOICES.into_iter().enumerate() {
            let top = panel.y + 74.0 + index as f32 * 54.0;
            let area = Rect::new(panel.x + 32.0, top, panel.w - 64.0, 44.0);
            let style = if index == 0 {
                ButtonStyle::Primary
            } else {
                ButtonStyle::Quiet
            };
            if widgets::button(canvas, input, area, label, style, self.focus == index) {
                chosen = Some(choice);
            }
        }
        chosen
    }
}

/// Draws the list of keys.
pub(crate) fn show_help(canvas: &Canvas, screen: Vec2) {
    let line_height = if screen.y < 480.0 { 25.0 } else { 32.0 };
    let height = 92.0 + HELP.len() as f32 * line_height;
    let panel = centred(screen, Vec2::new(520.0, height));
    canvas.panel(panel);
    canvas.text(
        "Keys",
        panel.x + 32.0,
        panel.y + 38.0,
        theme::TITLE,
        theme::TEXT,
    );
    for (index, (key, text)) in HELP.into_iter().enumerate() {
        let y = panel.y + 84.0 + index as f32 * line_height;
        canvas.text(key, panel.x + 32.0, y, theme::BODY, theme::ACCENT);
        canvas.text(text, panel.x + 220.0, y, theme::BODY, theme::TEXT);
    }
}

fn centred(screen: Vec2, size: Vec2) -> Rect {
    let corner = ((screen - size) / 2.0).floor();
    Rect::new(corner.x, corner.y, size.x, size.y)
}
