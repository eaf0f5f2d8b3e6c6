//! Draws the join screen, in a high and in a low window.

use macroquad::input::KeyCode;
use macroquad::math::{Rect, Vec2, vec2};

use super::{Focus, JoinScreen, dots, order};
use crate::canvas::Canvas;
use crate::clock::FrameTime;
use crate::input::InputFrame;
use crate::platform;
use crate::theme;
use crate::widgets::{self, ButtonStyle};

/// The panel's width, unless the window is narrower.
const WIDTH: f32 = 420.0;
const MARGIN: f32 = 32.0;
const SWATCH: f32 = 34.0;
const BUTTON_HEIGHT: f32 = 44.0;
const ERROR_LINE: f32 = 18.0;
/// Least height of a window with room for labels above their fields.
const ROOMY: f32 = 580.0;

/// The row of the name's field: it is below the server's, where a person chooses the server.
const FIRST_ROW: usize = if platform::CHOOSES_SERVER { 1 } else { 0 };

/// The places of the controls on the panel.
struct Layout {
    /// The distance from the panel's top to the first field.
    first: f32,
    /// The distance from one field to the next.
    row: f32,
    field_height: f32,
    /// The place of a field's label, from the middle of the field's left edge.
    label: Vec2,
    /// The width that labels take from a field.
    beside: f32,
}

impl Layout {
    fn new(screen: Vec2) -> Self {
        if screen.y < ROOMY {
            Self {
                first: 64.0,
                row: 46.0,
                field_height: 36.0,
                label: vec2(-96.0, 0.0),
                beside: 96.0,
            }
        } else {
            Self {
                first: 90.0,
                row: 68.0,
                field_height: 40.0,
                label: vec2(0.0, -32.0),
                beside: 0.0,
            }
        }
    }

    fn field(&self, panel: Rect, row: usize) -> Rect {
        Rect::new(
            panel.x + MARGIN + self.beside,
            panel.y + self.first + self.row * row as f32,
            panel.w - 2.0 * MARGIN - self.beside,
            self.field_height,
        )
    }
}

impl JoinScreen {
    /// Draws the screen and applies the input to it.
    pub(crate) fn show(
        &mut self,
        canvas: &Canvas,
        input: &InputFrame,
        time: FrameTime,
        screen: Vec2,
    ) {
        for &edit in &input.edits {
            // Nothing can be typed while the client is joining: the fields show what was sent.
            if self.joining.is_none() {
                self.edit(edit);
            }
        }
        let layout = Layout::new(screen);
        let width = WIDTH.min(screen.x - 16.0);
        let error = self.error.as_deref().unwrap_or_default();
        let mut error = canvas.wrapped(error, width - 2.0 * MARGIN, theme::SMALL);
        error.retain(|line| !line.is_empty());
        let error_height = error.len() as f32 * ERROR_LINE;
        let last_row = FIRST_ROW + 2;
        let rows = layout.first + layout.row * last_row as f32 + layout.field_height + 20.0;
        let size = vec2(width, rows + error_height + BUTTON_HEIGHT + 28.0);
        let corner = ((screen - size) / 2.0).floor().max(vec2(0.0, 4.0));
        let panel = Rect::new(corner.x, corner.y, size.x, size.y);

        canvas.panel(panel);
        show_title(canvas, panel, layout.first / 2.0 - 6.0);
        self.show_fields(canvas, input, time, panel, &layout);
        self.show_colours(canvas, input, &layout, layout.field(panel, last_row));
        let left = panel.x + MARGIN;
        for (index, line) in error.iter().enumerate() {
            let y = panel.y + rows + index as f32 * ERROR_LINE - 2.0;
            canvas.text(line, left, y, theme::SMALL, theme::ERROR);
        }
        let top = panel.y + rows + error_height;
        let button = Rect::new(left, top, width - 2.0 * MARGIN, BUTTON_HEIGHT);
        self.show_join(canvas, input, button, time);
    }

    fn show_fields(
        &mut self,
        canvas: &Canvas,
        input: &InputFrame,
        time: FrameTime,
        panel: Rect,
        layout: &Layout,
    ) {
        let row = |row| layout.field(panel, row);
        let (server, name, last) = (row(0), row(FIRST_ROW), row(FIRST_ROW + 1));
        let room = Rect::new(last.x, last.y, (last.w * 0.55).floor(), last.h);
        let key_left = room.right() + 10.0;
        let key = Rect::new(key_left, last.y, last.right() - key_left, last.h);
        let key_hint = if key.w < 130.0 {
            "join key"
        } else {
            "join key, if any"
        };
        let fields = [
            (Focus::Server, server, "Server", platform::SERVER_HINT),
            (Focus::Name, name, "Your name", ""),
            (Focus::Room, room, "Room", ""),
            (Focus::JoinKey, key, "", key_hint),
        ];
        let idle = self.joining.is_none();
        let blink_s = time.now.as_secs_f32();
        for (index, (focus, area, label, hint)) in fields.into_iter().enumerate() {
            if !order().contains(&focus) {
                continue;
            }
            show_label(canvas, layout, area, label);
            let focused = self.focus == focus && idle;
            let Some(field) = self.field(focus) else {
                continue;
            };
            let mut is_chosen =
                widgets::text_field(canvas, input, area, field, hint, focused, blink_s);
            if idle && let Some(text) = platform::typed(index, area, field.text()) {
                field.replace(&text);
                is_chosen = true;
            }
            if is_chosen && idle {
                self.focus = focus;
            }
        }
    }

    fn show_colours(&mut self, canvas: &Canvas, input: &InputFrame, layout: &Layout, area: Rect) {
        show_label(canvas, layout, area, "Colour");
        let step = (area.w - SWATCH) / (self.colours.len() - 1) as f32;
        let side = SWATCH.min(step - 7.0);
        for (index, &colour) in self.colours.iter().enumerate() {
            let x = area.x + (area.w - side) / (self.colours.len() - 1) as f32 * index as f32;
            let swatch = Rect::new(x, area.center().y - side / 2.0, side, side);
            let focused = self.focus == Focus::Colour;
            let shown = theme::screen_colour(colour);
            if widgets::swatch(canvas, input, swatch, shown, self.chosen == index, focused) {
                self.chosen = index;
                self.focus = Focus::Colour;
            }
        }
    }

    fn show_join(&mut self, canvas: &Canvas, input: &InputFrame, area: Rect, time: FrameTime) {
        let focused = self.focus == Focus::Join;
        if self.joining.is_some() {
            let cancel = if input.by_touch { "a tap" } else { "Esc" };
            let label = format!("Connecting{}   {cancel} cancels", dots(time));
            let pressed = widgets::button(canvas, input, area, &label, ButtonStyle::Quiet, false);
            if pressed || input.is_pressed(KeyCode::Escape) {
                self.joining = None;
            }
        } else if widgets::button(canvas, input, area, "Join", ButtonStyle::Primary, focused) {
            self.join();
        }
    }
}

fn show_title(canvas: &Canvas, panel: Rect, below_top: f32) {
    let (left, y) = (panel.x + MARGIN, panel.y + below_top);
    canvas.text("cubesync", left, y, theme::TITLE, theme::TEXT);
    let hint = "move a cube together";
    let x = panel.right() - MARGIN - canvas.width(hint, theme::SMALL);
    canvas.text(hint, x, y + 3.0, theme::SMALL, theme::MUTED);
}

fn show_label(canvas: &Canvas, layout: &Layout, field: Rect, label: &str) {
    let (x, y) = (field.x + layout.label.x, field.center().y + layout.label.y);
    canvas.text(label, x, y, theme::SMALL, theme::MUTED);
}
