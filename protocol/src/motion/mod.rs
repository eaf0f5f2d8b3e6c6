//! The surprise-only motion codec.
//!
//! Sender and receivers hold the same [`MotionState`] of each cube and advance it alike. A cube
//! that is where it is believed to be costs nothing; of one that surprises, the difference is
//! sent, and all sides believe that from then on. Whole numbers only, so that all of them agree
//! to the bit on every machine.
//!
//! In the order of the data: a [`MotionSet`] compares the truth with what each [`MotionState`]
//! predicts, and writes the surprises of a tick as the [`Codec`] says: as varints, or through a
//! model of what to expect and a range coder.

mod jump;
mod model;
mod number;
mod range;
mod rotation;
mod set;
mod state;
mod syntax;
mod varint;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

pub use model::{Decide, FEATURES, LOGIT_PARTS, Rows, Table};
pub use set::{MotionError, MotionSet};
pub use state::MotionState;
pub use syntax::{GROUPS, TABLE_BYTES};

/// How the surprises of a tick become bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Varints: simple enough to write by hand in any language, two to three times the bytes.
    Varints,
    /// The range coder with a trained table.
    Range(Table),
}

/// The parameters that sender and receiver must share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Codec {
    /// How surprises become bytes.
    pub encoding: Encoding,
    /// A position may be off by this along each axis, in quanta. What is told is told exactly:
    /// in steps of 5 the velocities are worse, and people's motion costs 15 % (20 Hz) to 23 %
    /// (30 Hz) more bytes.
    pub position_bound: i32,
    /// A component of a rotation may be off by this, in steps of its ten bits (0.16° each).
    pub rotation_bound: i32,
    /// The components of all rotations are known to have so many zeros at the end.
    pub rotation_grid_bits: u32,
    /// What part of a change of velocity, of 256, is expected again in the next tick: who starts
    /// to run or falls goes on doing so, what tumbles does not.
    pub acceleration_gain: i32,
}

impl Codec {
    /// Live play: within 2 quanta (4 mm) along each axis, and 1.7° (measured: 1.0° while
    /// people move, 1.6° after jumps).
    ///
    /// Measured on people's motion at 20 and 30 Hz, bytes per cube and tick as varints: gains of
    /// 0 / 64 / 128 / 192 / 256 give 1.91 / 2.02 / 1.85 / 1.68 / 1.67 and 1.66 / 1.72 / 1.57 /
    /// 1.44 / 1.48; rotation bounds of 2 / 3 / 4 / 5 steps give 1.72 / 1.70 / 1.70 / 1.70 at 0.6°
    /// / 0.9° / 1.3° / 1.6°.
    pub const LIVE: Self = Self {
        encoding: Encoding::Range(Table::LIVE),
        position_bound: 2,
        rotation_bound: 3,
        rotation_grid_bits: 0,
        acceleration_gain: 192,
    };

    /// The same as varints.
    pub const LIVE_VARINTS: Self = Self {
        encoding: Encoding::Varints,
        ..Self::LIVE
    };

    /// Tumbling bodies without loss, their rotations in nine bits, as in Glenn Fiedler's trace.
    /// There a gain of 32 / 64 / 128 costs 3 / 5 / 6 % more bytes than none.
    pub const PHYSICS: Self = Self {
        encoding: Encoding::Range(Table::PHYSICS),
        position_bound: 0,
        rotation_bound: 0,
        rotation_grid_bits: 1,
        acceleration_gain: 0,
    };

    /// The same as varints.
    pub const PHYSICS_VARINTS: Self = Self {
        encoding: Encoding::Varints,
        ..Self::PHYSICS
    };
}
