//! How cubes and the cells that they stand in are named, and what a cube looks like.

use serde::{Deserialize, Serialize};

use crate::limits::{MAX_CUBE_WIDTH, MIN_CUBE_WIDTH};
use crate::quantize::Pose;

/// Units of a [`Width`] in a metre.
const WIDTHS_PER_METRE: u8 = 32;

/// The name of a cube in its room, and of the player whose own cube it is. The server chooses it and
/// never uses one twice in a room's life; it is below 2^53, so that every language's numbers hold it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct CubeId(pub u64);

impl std::fmt::Display for CubeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a cell: a square of a room's floor whose cubes share a stream. A receiver need not
/// know which square it is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct CellId(pub u16);

/// The pose of one cube.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CubePose {
    /// The cube.
    pub cube: CubeId,
    /// Its pose.
    pub pose: Pose,
}

/// The edge length of a cube, in units of 1/32 m, 1/8 m ..= 4 m. A byte from the wire beyond that counts as the
/// nearest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "u8", into = "u8")]
pub struct Width(u8);

impl Width {
    /// A metre: the width of players' cubes.
    pub const METRE: Self = Self(WIDTHS_PER_METRE);

    /// Returns the nearest width to a length in metres; NaN counts as 0.
    pub fn from_metres(metres: f32) -> Self {
        // `as` saturates and turns NaN into 0.
        Self::from((metres * f32::from(WIDTHS_PER_METRE)).round() as u8)
    }

    /// Returns the length in metres.
    pub fn to_metres(self) -> f32 {
        f32::from(self.0) / f32::from(WIDTHS_PER_METRE)
    }
}

impl Default for Width {
    fn default() -> Self {
        Self::METRE
    }
}

impl From<u8> for Width {
    fn from(units: u8) -> Self {
        Self(units.clamp(MIN_CUBE_WIDTH, MAX_CUBE_WIDTH))
    }
}

impl From<Width> for u8 {
    fn from(Width(units): Width) -> Self {
        units
    }
}

/// A colour in sRGB, 0 ..= 255 each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "[u8; 3]", into = "[u8; 3]")]
pub struct Colour {
    /// Red.
    pub red: u8,
    /// Green.
    pub green: u8,
    /// Blue.
    pub blue: u8,
}

impl From<[u8; 3]> for Colour {
    fn from([red, green, blue]: [u8; 3]) -> Self {
        Self { red, green, blue }
    }
}

impl From<Colour> for [u8; 3] {
    fn from(Colour { red, green, blue }: Colour) -> Self {
        [red, green, blue]
    }
}

impl std::fmt::Display for Colour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "#{:02x}{:02x}{:02x}", self.red, self.green, self.blue)
    }
}

/// Returned when a colour cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no colour; write it as #rrggbb, for example #e08020")]
pub struct ColourError(String);

impl std::str::FromStr for Colour {
    type Err = ColourError;

    /// Parses `#rrggbb`; the `#` is optional.
    fn from_str(text: &str) -> Result<Self, ColourError> {
        let error = || ColourError(text.to_owned());
        let digits = text.strip_prefix('#').unwrap_or(text);
        if digits.len() != 6 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(error());
        }
        let number = u32::from_str_radix(digits, 16).map_err(|_| error())?;
        let [_, red, green, blue] = number.to_be_bytes();
        Ok(Self { red, green, blue })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_metres_within_bounds() {
        assert_eq!(Width::METRE.to_metres(), 1.0);
        assert_eq!(Width::from_metres(0.4).to_metres(), 13.0 / 32.0);
        for (metres, width) in [(f32::NAN, 0.125), (-1.0, 0.125), (1e9, 4.0)] {
            assert_eq!(Width::from_metres(metres).to_metres(), width);
        }
        assert_eq!(u8::from(Width::from(255)), MAX_CUBE_WIDTH);
    }

    #[test]
    fn colours_are_read_as_they_are_printed() {
        let colour = Colour {
            red: 0xE0,
            green: 0x08,
            blue: 0x2F,
        };
        assert_eq!(colour.to_string().parse(), Ok(colour));
        assert_eq!("E0082f".parse(), Ok(colour));
        for wrong in ["", "#", "#12345", "#1234567", "red", "+12345", "#ééé"] {
            assert!(wrong.parse::<Colour>().is_err(), "{wrong:?}");
        }
    }
}
