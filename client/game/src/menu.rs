//! The menu and the list of keys, which are drawn over the game.

use macroquad::math::{Rect, Vec2};

use crate::canvas::Canvas;
use crate::input::{Edit, InputFrame};
use crate::platform::{self, Invite};
use crate::theme;
use crate::widgets::{self, ButtonStyle};

const MARGIN: f32 = 32.0;
const WIDTH: f32 = 356.0;

/// An item of the menu.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Go on playing.
    Resume,
    /// Copy the invite link to the clipboard.
    Copy,
    /// Enter or leave full screen.
    Fullscreen,
    /// Show the keys.
    Help,
    /// Show or hide the net graph.
    Figures,
    /// Open or close the network lab.
    Lab,
    /// Leave the game for the join screen.
    Leave,
    /// Close the window.
    Quit,
}

/// All keys, as the help shows them.
const HELP: [(&str, &str); 12] = [
    ("W A S D   ← ↑ → ↓", "move; push what is in the way"),
    ("Shift", "move faster"),
    ("Space", "jump"),
    ("E", "take a loose cube, throw it"),
    ("Mouse button", "hold and drag to look around"),
    ("Wheel", "nearer and farther"),
    ("F1", "this help"),
    ("F3", "net graph"),
    ("F4", "network lab"),
    ("F11", "fill the screen"),
    ("Esc", "menu"),
    ("Tab   Enter", "choose in menus"),
];

/// The open menu.
#[derive(Debug)]
pub(crate) struct Menu {
    choices: Vec<Choice>,
    focus: usize,
    invite: Option<Invite>,
    is_copied: bool,
}

impl Menu {
    /// Creates the menu of a game, with its invite link if it has one. By touch it leaves out the
    /// list of keys, and offers what keys open otherwise.
    pub(crate) fn new(invite: Option<Invite>, by_touch: bool) -> Self {
        let choices = [
            (Choice::Resume, true),
            (Choice::Copy, invite.is_some()),
            (Choice::Fullscreen, platform::can_fullscreen()),
            (Choice::Help, !by_touch),
            (Choice::Figures, by_touch),
            (Choice::Lab, by_touch),
            (Choice::Leave, true),
            (Choice::Quit, platform::CAN_QUIT),
        ];
        let possible = choices.into_iter().filter(|(_, is_possible)| *is_possible);
        Self {
            choices: possible.map(|(choice, _)| choice).collect(),
            focus: 0,
            invite,
            is_copied: false,
        }
    }

    /// Draws the menu, and returns the item that was chosen.
    pub(crate) fn show(
        &mut self,
        canvas: &Canvas,
        input: &InputFrame,
        screen: Vec2,
    ) -> Option<Choice> {
        let mut chosen = self.edit(input);
        canvas.rounded(Rect::new(0.0, 0.0, screen.x, screen.y), 0.0, theme::VEIL);
        let width = WIDTH.min(screen.x - 16.0);
        let note = self.note(canvas, width - 2.0 * MARGIN);
        let above = 66.0 + note.len() as f32 * 19.0 + 8.0;
        let room = screen.y - above - 30.0;
        let row = (room / self.choices.len() as f32).clamp(34.0, 54.0);
        let height = above + self.choices.len() as f32 * row + 14.0;
        let panel = centred(screen, Vec2::new(width, height));
        canvas.panel(panel);
        let left = panel.x + MARGIN;
        canvas.text("cubesync", left, panel.y + 38.0, theme::TITLE, theme::TEXT);
        for (index, line) in note.iter().enumerate() {
            let y = panel.y + 72.0 + index as f32 * 19.0;
            canvas.text(line, left, y, theme::SMALL, theme::MUTED);
        }
        for (index, &choice) in self.choices.iter().enumerate() {
            let top = panel.y + above + index as f32 * row;
            let area = Rect::new(left, top, panel.w - 2.0 * MARGIN, row - 10.0);
            let style = if choice == Choice::Resume {
                ButtonStyle::Primary
            } else {
                ButtonStyle::Quiet
            };
            let focused = self.focus == index && !input.by_touch;
            if widgets::button(canvas, input, area, self.label(choice), style, focused) {
                chosen = Some(choice);
            }
        }
        if chosen == Some(Choice::Copy)
            && let Some(invite) = &self.invite
        {
            platform::copy(&invite.link);
            self.is_copied = true;
            return None;
        }
        chosen
    }

    fn edit(&mut self, input: &InputFrame) -> Option<Choice> {
        let count = self.choices.len();
        let mut chosen = None;
        for edit in &input.edits {
            match edit {
                Edit::Next => self.focus = (self.focus + 1) % count,
                Edit::Previous => self.focus = (self.focus + count - 1) % count,
                Edit::Confirm => chosen = Some(self.choices[self.focus]),
                _ => {}
            }
        }
        chosen
    }

    /// Returns how other players join this game, broken into lines.
    fn note(&self, canvas: &Canvas, width: f32) -> Vec<String> {
        let text = match &self.invite {
            None => return Vec::new(),
            Some(Invite {
                link,
                is_local: true,
            }) => {
                format!("Open {link} on this computer. Others need its network address instead.")
            }
            Some(Invite { link, .. }) => format!("To play along, open {link} in a browser."),
        };
        canvas.wrapped(&text, width, theme::SMALL)
    }

    fn label(&self, choice: Choice) -> &'static str {
        match choice {
            Choice::Resume => "Resume",
            Choice::Copy if self.is_copied => "Copied",
            Choice::Copy => "Copy invite link",
            Choice::Fullscreen => "Full screen",
            Choice::Help => "Keys",
            Choice::Figures => "Net graph",
            Choice::Lab => "Network lab",
            Choice::Leave => "Leave to the join screen",
            Choice::Quit => "Quit",
        }
    }
}

/// Draws the list of keys.
pub(crate) fn show_help(canvas: &Canvas, screen: Vec2) {
    let line_height = if screen.y < 480.0 { 25.0 } else { 32.0 };
    let height = 92.0 + HELP.len() as f32 * line_height;
    let panel = centred(screen, Vec2::new(520.0_f32.min(screen.x - 16.0), height));
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
