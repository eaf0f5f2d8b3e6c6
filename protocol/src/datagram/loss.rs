//! The measurement of how many datagrams are lost.

/// Number of datagrams by which one may be overtaken before it counts as lost.
const REORDERED: u32 = 32;

/// Number of datagrams over which the share is averaged.
const AVERAGED: f32 = 128.0;

/// The share of a peer's datagrams that are lost, by the numbers of those that come.
#[derive(Debug, Clone, Default)]
pub struct LossMeter {
    /// The number of the newest datagram; `None` before the first one.
    newest: Option<u8>,
    /// Of the last [`REORDERED`] datagrams, those that have come: the newest is bit 0.
    came: u32,
    /// The number of datagrams of which it is known whether they have come.
    judged: f32,
    share: f32,
}

impl LossMeter {
    /// Notes that the datagram of this number has come.
    pub fn received(&mut self, number: u8) {
        let Some(newest) = self.newest else {
            self.newest = Some(number);
            self.came = u32::MAX;
            return;
        };
        // Numbers wrap around: the one that is less than 128 ahead is the newer one.
        let ahead = number.wrapping_sub(newest);
        if ahead >= 128 {
            let behind = u32::from(newest.wrapping_sub(number));
            self.came |= 1u32.checked_shl(behind).unwrap_or(0);
            return;
        }
        for _ in 0..ahead {
            self.judge(self.came & 1 << (REORDERED - 1) == 0);
            self.came <<= 1;
        }
        self.came |= 1;
        self.newest = Some(number);
    }

    /// Returns the share of datagrams that were lost lately, in 1/255.
    pub fn share(&self) -> u8 {
        // `as` saturates.
        (self.share * 255.0).round() as u8
    }

    fn judge(&mut self, is_lost: bool) {
        self.judged = (self.judged + 1.0).min(AVERAGED);
        let outcome = if is_lost { 1.0 } else { 0.0 };
        self.share += (outcome - self.share) / self.judged.max(REORDERED as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the share after 1,000 datagrams, each delayed by up to `late` places.
    fn share(loss: f32, late: usize) -> f32 {
        let mut random = 1u32;
        let mut next = move || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 8) as f32 / (1 << 24) as f32
        };
        let mut numbers: Vec<_> = (0..1_000usize)
            .filter_map(|number| {
                let is_lost = next() < loss;
                let place = number as f32 + next() * late as f32;
                (!is_lost).then_some((place, number as u8))
            })
            .collect();
        numbers.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let mut meter = LossMeter::default();
        for (_, number) in numbers {
            meter.received(number);
        }
        f32::from(meter.share()) / 255.0
    }

    #[test]
    fn the_share_is_that_of_the_lost_ones_however_the_others_are_reordered() {
        for late in [0, 5, 20] {
            assert_eq!(share(0.0, late), 0.0);
            assert!((0.01..0.1).contains(&share(0.04, late)), "{late}");
            assert!((0.2..0.4).contains(&share(0.3, late)), "{late}");
        }
    }

    #[test]
    fn the_first_loss_is_noticed_and_soon_forgotten() {
        let mut meter = LossMeter::default();
        for number in 0..=255 {
            if number != 100 {
                meter.received(number);
            }
            if number == 150 {
                assert_eq!(meter.share(), 2);
            }
        }
        for number in 0..=255 {
            meter.received(number);
        }
        assert_eq!(meter.share(), 0);
    }

    #[test]
    fn duplicates_and_old_numbers_change_nothing() {
        let mut meter = LossMeter::default();
        for number in (0..=255).cycle().take(2_000) {
            meter.received(number);
            meter.received(number);
            meter.received(number.wrapping_sub(40));
        }
        assert_eq!(meter.share(), 0);
    }
}
