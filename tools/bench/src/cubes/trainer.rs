//! The training of a table.
//!
//! The model is log-linear, so its loss is convex: stochastic gradient descent with a step of its
//! own for each entry (AdaGrad; Duchi, Hazan, Singer 2011) finds the table in some passes.

use cubesync_protocol::motion::{Decide, GROUPS, LOGIT_PARTS, Rows, TABLE_BYTES};

/// Longest step of an entry, in nats.
const RATE: f32 = 0.2;
/// Longest step of an entry in the last passes.
const FINE_RATE: f32 = 0.04;
/// Start of each entry's sum of squared gradients: entries that hardly occur stay near 0.
const PRIOR: f32 = 4.0;
/// The limit of sums, as in the codec.
const SUM_MAX: f32 = 11.0;

/// A table that learns from each decision.
pub(crate) struct Trainer {
    entries: Vec<f32>,
    squares: Vec<f32>,
    rate: f32,
    bits: [f64; GROUPS.len()],
    group: usize,
}

impl Trainer {
    /// Returns a table in which every decision is even.
    pub(crate) fn new() -> Self {
        Self {
            entries: vec![0.0; TABLE_BYTES],
            squares: vec![PRIOR; TABLE_BYTES],
            rate: RATE,
            bits: [0.0; GROUPS.len()],
            group: 0,
        }
    }

    /// Sets whether steps are small, so that the entries converge.
    pub(crate) fn set_fine(&mut self, fine: bool) {
        self.rate = if fine { FINE_RATE } else { RATE };
    }

    /// Returns the bits of each group of decisions since the last call.
    pub(crate) fn take_bits(&mut self) -> [f64; GROUPS.len()] {
        std::mem::take(&mut self.bits)
    }

    /// Returns the table in the form of the codec, with entries that are multiples of a step.
    pub(crate) fn table(&self, step: f32) -> Vec<u8> {
        let parts = self.entries.iter().map(|entry| entry * LOGIT_PARTS as f32);
        let whole = |part: f32| (part.round() / step).round_ties_even() * step;
        // `as` saturates.
        parts.map(|part| (whole(part) as i8) as u8).collect()
    }
}

impl Decide for Trainer {
    fn decide(&mut self, rows: &Rows, node: usize, bit: bool) -> bool {
        let at = rows.map(|row| row as usize + node);
        let sum = at.iter().map(|&at| self.entries[at]).sum::<f32>();
        let yes = 1.0 / (1.0 + (-sum.clamp(-SUM_MAX, SUM_MAX)).exp());
        let row = rows[0] as usize;
        self.group = GROUPS
            .iter()
            .rposition(|&(_, start)| start <= row)
            .unwrap_or(0);
        self.bits[self.group] -= f64::from(if bit { yes } else { 1.0 - yes }).log2();
        let gradient = f32::from(u8::from(bit)) - yes;
        for at in at {
            self.squares[at] += gradient * gradient;
            self.entries[at] += self.rate * gradient / self.squares[at].sqrt();
        }
        bit
    }

    fn raw(&mut self, bits: u32, count: u32) -> u32 {
        self.bits[self.group] += f64::from(count);
        bits
    }
}
