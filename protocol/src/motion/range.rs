//! A binary range coder: turns yes/no decisions and the probability of each into bytes, at a
//! cost close to -log2 of the probability.
//!
//! Method: G. N. N. Martin, "Range encoding" (1979); renormalization as in Igor Pavlov's LZMA,
//! with the carry written back into the bytes already produced, which saves LZMA's leading zero.

/// Something that takes decisions of given probabilities: the encoder, which returns the decision
/// that it was given, or the decoder, which ignores that and returns what it read.
pub(super) trait BitCoder {
    /// Takes one decision; `probability` that it is a yes is of 65,536, 1 ..= 65,535.
    fn bit(&mut self, probability: u32, bit: bool) -> bool;

    /// Takes the lowest `count` bits of a number that nothing is known about, `count` at most 24.
    fn raw(&mut self, bits: u32, count: u32) -> u32 {
        (0..count).rev().fold(0, |read, place| {
            read << 1 | u32::from(self.bit(1 << 15, bits >> place & 1 == 1))
        })
    }
}

/// The range is renormalized below this, so that it always has 24 bits.
const RANGE_MIN: u32 = 1 << 24;

/// An encoder that writes behind whatever a buffer holds already.
#[derive(Debug)]
pub(super) struct RangeEncoder<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    low: u32,
    range: u32,
}

impl<'a> RangeEncoder<'a> {
    /// Begins behind the buffer's end.
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        Self {
            out,
            start,
            low: 0,
            range: u32::MAX,
        }
    }

    /// Writes what is still pending: the fewest bytes, at least one, that a decoder which reads
    /// zeros behind the end understands.
    pub(super) fn finish(mut self) {
        let end = u64::from(self.low) + u64::from(self.range);
        let value = (0..=4)
            .map(|bytes| {
                let below = (1u64 << (32 - 8 * bytes)) - 1;
                (u64::from(self.low) + below) & !below
            })
            .find(|&value| value < end)
            .expect("with all four bytes the value is low itself");
        if value > u64::from(u32::MAX) {
            self.carry();
        }
        self.out.extend((value as u32).to_be_bytes());
        let used = self.out[self.start + 1..]
            .iter()
            .rposition(|&byte| byte != 0);
        self.out
            .truncate(self.start + 1 + used.map_or(0, |last| last + 1));
    }

    fn carry(&mut self) {
        for byte in self.out[self.start..].iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                return;
            }
        }
    }
}

impl BitCoder for RangeEncoder<'_> {
    #[inline]
    fn bit(&mut self, probability: u32, bit: bool) -> bool {
        let bound = (self.range >> 16) * probability;
        if bit {
            self.range = bound;
        } else {
            let (low, carried) = self.low.overflowing_add(bound);
            if carried {
                self.carry();
            }
            self.low = low;
            self.range -= bound;
        }
        while self.range < RANGE_MIN {
            self.out.push((self.low >> 24) as u8);
            self.low <<= 8;
            self.range <<= 8;
        }
        bit
    }
}

/// A decoder. Behind the end of its bytes it reads zeros for ever, so its user bounds how much is
/// read.
#[derive(Debug)]
pub(super) struct RangeDecoder<'a> {
    bytes: &'a [u8],
    next: usize,
    code: u32,
    range: u32,
}

impl<'a> RangeDecoder<'a> {
    /// Begins at the bytes' start.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let mut decoder = Self {
            bytes,
            next: 0,
            code: 0,
            range: u32::MAX,
        };
        for _ in 0..4 {
            decoder.shift();
        }
        decoder
    }

    /// Whether every byte was needed, as it is with whatever an encoder wrote.
    pub(super) fn is_at_end(&self) -> bool {
        self.next >= self.bytes.len()
    }

    fn shift(&mut self) {
        let byte = self.bytes.get(self.next).copied().unwrap_or(0);
        self.code = self.code << 8 | u32::from(byte);
        self.next += 1;
    }
}

impl BitCoder for RangeDecoder<'_> {
    #[inline]
    fn bit(&mut self, probability: u32, _: bool) -> bool {
        let bound = (self.range >> 16) * probability;
        let bit = self.code < bound;
        if bit {
            self.range = bound;
        } else {
            self.code -= bound;
            self.range -= bound;
        }
        while self.range < RANGE_MIN {
            self.shift();
            self.range <<= 8;
        }
        bit
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(decisions: &[(u32, bool)]) -> Vec<u8> {
        let mut out = b"before".to_vec();
        let mut encoder = RangeEncoder::new(&mut out);
        for &(probability, bit) in decisions {
            encoder.bit(probability, bit);
        }
        encoder.finish();
        assert!(out.starts_with(b"before"), "a carry left its own bytes");
        out.split_off(6)
    }

    #[test]
    fn likely_decisions_cost_almost_nothing() {
        assert_eq!(encode(&[(65_535, true); 4_000]).len(), 1);
        assert_eq!(encode(&[(65_535, false); 8]).len(), 16);
    }

    #[test]
    fn raw_bits_come_back_and_cost_what_they_are() {
        let mut out = Vec::new();
        let mut encoder = RangeEncoder::new(&mut out);
        encoder.raw(0xABCDEF, 24);
        encoder.finish();
        assert_eq!(out.len(), 3);
        assert_eq!(RangeDecoder::new(&out).raw(0, 24), 0xABCDEF);
    }

    proptest! {
        #[test]
        fn decisions_come_back_and_every_byte_is_needed(
            decisions in prop::collection::vec((1u32..65_536, any::<bool>()), 0..400),
        ) {
            let bytes = encode(&decisions);
            let mut decoder = RangeDecoder::new(&bytes);
            for &(probability, bit) in &decisions {
                prop_assert_eq!(decoder.bit(probability, false), bit);
            }
            prop_assert!(decoder.is_at_end());
        }

        #[test]
        fn carries_run_through_full_bytes(
            tail in prop::collection::vec((1u32..65_536, any::<bool>()), 0..40),
            ones in 1usize..60,
        ) {
            // Taking the upper part again and again keeps `low` just below a carry.
            let mut decisions = vec![(1u32, false); ones * 40];
            decisions.extend(tail);
            let bytes = encode(&decisions);
            let mut decoder = RangeDecoder::new(&bytes);
            for &(probability, bit) in &decisions {
                prop_assert_eq!(decoder.bit(probability, false), bit);
            }
        }

        #[test]
        fn any_bytes_can_be_read_for_ever(
            bytes: Vec<u8>, probabilities in prop::collection::vec(1u32..65_536, 0..2_000),
        ) {
            let mut decoder = RangeDecoder::new(&bytes);
            for probability in probabilities {
                decoder.bit(probability, false);
            }
        }
    }
}
