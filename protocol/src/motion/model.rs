//! The probabilities of the range coder: a sum of trained numbers per decision.
//!
//! Each decision is seen in [`FEATURES`] contexts at once. A table gives each context's opinion as
//! a log-odds number; their sum, through the logistic function, is the probability: a log-linear
//! model, trained offline on recorded motion and never changed. So a keyframe carries no
//! statistics and a cursor can join at any.

use super::range::BitCoder;
use super::syntax::TABLE_BYTES;

/// Contexts per decision.
pub const FEATURES: usize = 6;

/// Where the contexts of a group of decisions begin in the table.
pub type Rows = [u32; FEATURES];

/// Something that takes modelled decisions: it writes them, reads them, or learns from them. One
/// function describes the syntax for all: a writer returns the decision that it was given, a reader
/// ignores that and returns what it read.
pub trait Decide {
    /// Takes decision number `node` of the group at `rows`.
    fn decide(&mut self, rows: &Rows, node: usize, bit: bool) -> bool;

    /// Takes the lowest `count` bits, at most 24, of a number that nothing is known about.
    fn raw(&mut self, bits: u32, count: u32) -> u32;
}

/// A trained table: a signed byte for each decision in each context, [`LOGIT_PARTS`] to the unit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Table(pub(super) &'static [u8; TABLE_BYTES]);

impl Table {
    /// The table of live play, trained on people who walk, run, turn, jump and stand, and on loose cubes that they push,
    /// carry and throw. The file is in `protocol/vectors/`, where other languages read it.
    pub const LIVE: Self = Self::new(include_bytes!("../../vectors/motion_table.bin"));

    /// Returns the table that a trainer wrote.
    pub const fn new(bytes: &'static [u8; TABLE_BYTES]) -> Self {
        Self(bytes)
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Table")
    }
}

/// Parts of a table's unit: an entry is the natural logarithm of odds in sixteenths.
pub const LOGIT_PARTS: i32 = 16;

/// A sum is cut here: the odds of 11 are 60,000 to 1, the coder's finest.
const SUM_MAX: i32 = 11 * LOGIT_PARTS;

/// The logistic function, of 65,536, for sums from -[`SUM_MAX`] up.
const PROBABILITIES: [u16; 2 * SUM_MAX as usize + 1] = {
    // e^(-1/16) of 2^60; its powers are exact enough for the 16 bits that are kept.
    const DECAY: u128 = 1_083_069_521_826_238_951;
    let mut table = [0; 2 * SUM_MAX as usize + 1];
    let mut power: u128 = 1 << 60;
    let mut sum = 0;
    while sum <= SUM_MAX as usize {
        let probability = ((1u128 << 76) + ((1 << 60) + power) / 2) / ((1 << 60) + power);
        let probability = if probability > 65_535 {
            65_535
        } else {
            probability as u16
        };
        table[SUM_MAX as usize + sum] = probability;
        table[SUM_MAX as usize - sum] = (65_536 - probability as u32) as u16;
        power = (power * DECAY) >> 60;
        sum += 1;
    }
    table
};

/// The range coder of one direction together with the trained table.
#[derive(Debug)]
pub(super) struct Modelled<C> {
    pub(super) coder: C,
    pub(super) table: Table,
}

impl<C: BitCoder> Decide for Modelled<C> {
    #[inline]
    fn decide(&mut self, rows: &Rows, node: usize, bit: bool) -> bool {
        let table = self.table.0;
        let mut sum = 0;
        for &row in rows {
            sum += i32::from(table[row as usize + node] as i8);
        }
        let index = sum.clamp(-SUM_MAX, SUM_MAX) + SUM_MAX;
        self.coder
            .bit(u32::from(PROBABILITIES[index as usize]), bit)
    }

    fn raw(&mut self, bits: u32, count: u32) -> u32 {
        self.coder.raw(bits, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_the_logistic_function() {
        for (index, &probability) in PROBABILITIES.iter().enumerate() {
            let sum = f64::from(index as i32 - SUM_MAX) / f64::from(LOGIT_PARTS);
            let exact = 65_536.0 / (1.0 + (-sum).exp());
            assert!(
                (f64::from(probability) - exact).abs() < 1.01,
                "{sum}: {probability}, not {exact}"
            );
            assert!(probability > 0);
        }
    }
}
