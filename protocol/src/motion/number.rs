//! A signed number as a row of decisions: is it zero, its sign, its size in unary, the rest in
//! bits.
//!
//! A size is a number of its own up to 4, then each power of two has two, as the exponential
//! Golomb codes with one bit of the mantissa drawn into the size.

use super::model::{Decide, Rows};

/// Decisions of a number in each context.
pub(super) const NUMBER_NODES: usize = MANTISSA_NODE + MANTISSA_NODES;

/// Sizes that have a decision of their own; the larger share the last. With 16 of them and 8
/// mantissas the tables are 40 % larger, and people's motion costs 0.8 % less.
const UNARY_NODES: usize = 12;
const ZERO_NODE: usize = 0;
const SIGN_NODE: usize = 1;
const UNARY_NODE: usize = 2;
const MANTISSA_NODE: usize = UNARY_NODE + 2 * UNARY_NODES;
const MANTISSA_NODES: usize = 4;
/// Sizes without a mantissa.
const PLAIN_SIZES: u32 = 4;
/// The last size ends at 2^19, twice the world's side.
const LAST_SIZE: u32 = PLAIN_SIZES + 2 * 17 - 1;

/// Codes a number that is at most 2^19 from zero.
pub(super) fn number(decide: &mut impl Decide, rows: &Rows, value: i32) -> i32 {
    if decide.decide(rows, ZERO_NODE, value == 0) {
        return 0;
    }
    let negative = decide.decide(rows, SIGN_NODE, value < 0);
    let unary = UNARY_NODE + if negative { UNARY_NODES } else { 0 };
    // Counted from 1; when reading, value and all that follows from it mean nothing.
    let wanted = value.unsigned_abs().wrapping_sub(1);
    let wanted_size = size_of(wanted);
    let mut size = 0;
    while size < LAST_SIZE {
        let node = unary + (size as usize).min(UNARY_NODES - 1);
        if !decide.decide(rows, node, wanted_size > size) {
            break;
        }
        size += 1;
    }
    let (start, bits) = start_of(size);
    let mut rest = 0;
    if bits > 0 {
        let wanted = wanted.wrapping_sub(start);
        let node = MANTISSA_NODE + ((size - PLAIN_SIZES) as usize).min(MANTISSA_NODES - 1);
        let high = decide.decide(rows, node, (wanted >> (bits - 1)) & 1 == 1);
        let low = decide.raw(wanted & ((1 << (bits - 1)) - 1), bits - 1);
        rest = (u32::from(high) << (bits - 1)) | low;
    }
    let magnitude = (start + rest + 1) as i32;
    if negative { -magnitude } else { magnitude }
}

fn size_of(number: u32) -> u32 {
    if number < PLAIN_SIZES {
        return number;
    }
    let bits = number.ilog2() - 1;
    (PLAIN_SIZES + 2 * (bits - 1) + ((number >> bits) & 1)).min(LAST_SIZE)
}

/// Returns the first number of a size, and the bits of the rest.
fn start_of(size: u32) -> (u32, u32) {
    if size < PLAIN_SIZES {
        return (size, 0);
    }
    let bits = (size - PLAIN_SIZES) / 2 + 1;
    ((2 + (size - PLAIN_SIZES) % 2) << bits, bits)
}

#[cfg(test)]
mod tests {
    use super::super::model::FEATURES;
    use super::*;

    /// Writes down the decisions, or reads them back.
    #[derive(Default)]
    struct Tape {
        bits: std::collections::VecDeque<u32>,
        reads: bool,
        longest: usize,
    }

    impl Decide for Tape {
        fn decide(&mut self, _: &Rows, node: usize, bit: bool) -> bool {
            assert!(node < NUMBER_NODES);
            self.raw(bit.into(), 1) == 1
        }

        fn raw(&mut self, bits: u32, count: u32) -> u32 {
            if self.reads {
                return self.bits.pop_front().unwrap();
            }
            assert!(count == 32 || bits >> count == 0);
            self.bits.push_back(bits);
            self.longest = self.longest.max(self.bits.len());
            bits
        }
    }

    #[test]
    fn numbers_come_back() {
        let edges = (0..20).flat_map(|bits| [(1 << bits) - 1, 1 << bits, (1 << bits) + 1]);
        let numbers = edges.filter(|&number| number <= 1 << 19).chain(0..2_000);
        for number_in in numbers.flat_map(|number| [number, -number]) {
            let mut tape = Tape::default();
            assert_eq!(number(&mut tape, &[0; FEATURES], number_in), number_in);
            tape.reads = true;
            assert_eq!(number(&mut tape, &[0; FEATURES], 77), number_in);
            assert!(tape.bits.is_empty());
            assert!(tape.longest <= 42);
        }
    }
}
