//! The motion codec: a tick's residuals as bytes.
//!
//! Sender and receivers hold the same [`MotionState`] of each cube and advance it alike. A cube
//! whose true pose is as predicted costs nothing; of any other one, the [`Residual`] is sent, and
//! all sides update their state with it. Whole numbers only, so that all of them agree to the bit
//! on every machine.
//!
//! In the order of the data: a [`MotionSet`] compares the truth with what each [`MotionState`]
//! predicts, and codes the residuals of a tick through a model of what to expect and a range coder.
//! [`Codec`] holds the parameters.

mod jump;
mod model;
mod number;
mod range;
mod residual;
mod rotation;
mod set;
mod state;
mod syntax;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

pub use jump::{Jump, Turn};
pub use model::{Decide, FEATURES, LOGIT_PARTS, Rows, Table};
pub use residual::{Correction, Residual};
pub use set::{MotionError, MotionSet, Updated};
pub use state::MotionState;
pub use syntax::{GROUPS, TABLE_BYTES};

/// The parameters that sender and receiver must share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Codec {
    /// The trained table of the model.
    pub table: Table,
    /// Largest error of a position along each axis, in quanta. A residual is exact nevertheless:
    /// in steps of 5 the velocities are worse, and people's motion costs 15 % (20 Hz) to 23 %
    /// (30 Hz) more bytes.
    pub position_bound: i32,
    /// Largest error of a rotation's component, in steps of its ten bits (0.16° each).
    pub rotation_bound: i32,
    /// Number of zeros at the end of every component of every rotation.
    pub rotation_grid_bits: u32,
    /// The part of a change of velocity, of 256, that is expected again in the next tick: a person
    /// who starts to run or falls goes on doing so, a body that tumbles does not.
    pub acceleration_gain: i32,
}

impl Codec {
    /// The parameters of live play: within 2 quanta (4 mm) along each axis, and 1.7° (measured:
    /// 1.0° while people move, 1.6° after jumps).
    ///
    /// Measured on people's motion at 20 and 30 Hz, bytes per cube and tick as plain varints: gains
    /// of 0 / 64 / 128 / 192 / 256 give 1.91 / 2.02 / 1.85 / 1.68 / 1.67 and 1.66 / 1.72 / 1.57 /
    /// 1.44 / 1.48; rotation bounds of 2 / 3 / 4 / 5 steps give 1.72 / 1.70 / 1.70 / 1.70 at 0.6°
    /// / 0.9° / 1.3° / 1.6°.
    pub const LIVE: Self = Self {
        table: Table::LIVE,
        position_bound: 2,
        rotation_bound: 3,
        rotation_grid_bits: 0,
        acceleration_gain: 192,
    };
}
