//! Colours and text sizes of everything that is drawn flat.

use cubesync_client::protocol::Colour;
use macroquad::color::Color;

/// Text on a panel.
pub(crate) const TEXT: Color = Color::new(0.94, 0.96, 0.99, 1.0);
/// Labels and hints.
pub(crate) const MUTED: Color = Color::new(0.64, 0.71, 0.81, 1.0);
/// The focused control, the primary button, and the free cube's name.
pub(crate) const ACCENT: Color = Color::new(1.0, 0.76, 0.30, 1.0);
/// Text on the accent.
pub(crate) const ON_ACCENT: Color = Color::new(0.13, 0.09, 0.02, 1.0);
/// Errors and warnings.
pub(crate) const ERROR: Color = Color::new(1.0, 0.52, 0.45, 1.0);
/// A good state.
pub(crate) const GOOD: Color = Color::new(0.42, 0.87, 0.58, 1.0);
/// What the stream brought, where [`GOOD`] is what datagrams did.
pub(crate) const STREAM: Color = Color::new(0.45, 0.68, 1.0, 1.0);
/// A panel.
pub(crate) const PANEL: Color = Color::new(0.055, 0.075, 0.115, 0.93);
/// A field or a quiet button on a panel.
pub(crate) const FIELD: Color = Color::new(0.115, 0.145, 0.205, 1.0);
/// A field or a quiet button under the mouse.
pub(crate) const FIELD_HOVER: Color = Color::new(0.155, 0.190, 0.265, 1.0);
/// A hairline.
pub(crate) const LINE: Color = Color::new(1.0, 1.0, 1.0, 0.10);
/// The ground under text in the scene.
pub(crate) const PILL: Color = Color::new(0.04, 0.055, 0.09, 0.62);
/// The veil between the scene and an open menu.
pub(crate) const VEIL: Color = Color::new(0.02, 0.03, 0.06, 0.45);

/// Ordinary text.
pub(crate) const BODY: u16 = 16;
/// Labels, hints and figures.
pub(crate) const SMALL: u16 = 13;
/// A panel's title.
pub(crate) const TITLE: u16 = 24;

/// Colours to choose from for a cube. They differ from each other, from the floor and from the
/// free cube.
pub(crate) const PALETTE: [Colour; 8] = [
    rgb(0xE2, 0x4B, 0x4B),
    rgb(0xF0, 0x7F, 0x2E),
    rgb(0x4F, 0xB8, 0x5F),
    rgb(0x23, 0xB5, 0xA9),
    rgb(0x3F, 0x8E, 0xF0),
    rgb(0x7B, 0x6C, 0xF2),
    rgb(0xD8, 0x5A, 0xC4),
    rgb(0xE8, 0xE4, 0xDA),
];

/// Converts a cube's colour into macroquad's.
pub(crate) fn screen_colour(colour: Colour) -> Color {
    Color::from_rgba(colour.red, colour.green, colour.blue, 255)
}

/// Multiplies a colour's opacity.
pub(crate) fn faded(colour: Color, opacity: f32) -> Color {
    Color {
        a: colour.a * opacity.clamp(0.0, 1.0),
        ..colour
    }
}

const fn rgb(red: u8, green: u8, blue: u8) -> Colour {
    Colour { red, green, blue }
}
