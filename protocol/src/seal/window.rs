//! The numbers of the packets that were received lately.

/// The window that refuses replays (RFC 4303, 3.4.3): the highest number received so far, and which of the
/// 64 up to it were. A number below them counts as received.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// The number after the highest one received; a number has 32 bits, so this may need one more.
    end: u64,
    /// Bit `i` says whether `end - 1 - i` was received.
    received: u64,
}

/// Size of the window: what RFC 4303 recommends, and two seconds of a room's packets.
const WINDOW: u64 = u64::BITS as u64;

impl Window {
    /// Returns whether no packet of this number can have come before.
    pub(super) fn is_new(&self, number: u32) -> bool {
        let number = u64::from(number);
        match self.end.checked_sub(number + 1) {
            None => true,
            Some(age) => age < WINDOW && self.received & (1 << age) == 0,
        }
    }

    /// Marks a new number as received, and returns whether it is the highest so far.
    pub(super) fn take(&mut self, number: u32) -> bool {
        let number = u64::from(number);
        let is_newest = number >= self.end;
        if is_newest {
            let by = number + 1 - self.end;
            self.received = match by {
                WINDOW.. => 0,
                _ => self.received << by,
            };
            self.end = number + 1;
        }
        self.received |= 1 << (self.end - 1 - number);
        is_newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(window: &mut Window, number: u32) -> Option<bool> {
        window.is_new(number).then(|| window.take(number))
    }

    #[test]
    fn a_number_is_new_once_and_never_when_it_is_too_old() {
        let mut window = Window::default();
        assert_eq!(take(&mut window, 0), Some(true));
        assert_eq!(take(&mut window, 0), None);
        assert_eq!(take(&mut window, 63), Some(true));
        assert_eq!(take(&mut window, 0), None, "the oldest that is known");
        assert_eq!(take(&mut window, 1), Some(false));
        assert_eq!(take(&mut window, 65), Some(true));
        assert_eq!(take(&mut window, 1), None, "too old");
        assert_eq!(
            take(&mut window, 2),
            Some(false),
            "the oldest that is known"
        );
        assert_eq!(take(&mut window, 64), Some(false));
        // Far ahead, all before is unknown and refused.
        assert_eq!(take(&mut window, u32::MAX), Some(true));
        for number in [65, 66, u32::MAX - 64, u32::MAX] {
            assert_eq!(take(&mut window, number), None, "{number}");
        }
        assert_eq!(take(&mut window, u32::MAX - 63), Some(false));
    }

    #[test]
    fn it_agrees_with_a_set_of_all_numbers() {
        let mut random = 1_u32;
        let (mut window, mut taken) = (Window::default(), std::collections::BTreeSet::new());
        for step in 0..20_000_u32 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let number = step / 2 + (random >> 16) % 100;
            let newest = taken.last().copied().unwrap_or(0_u32);
            let is_known = number + 63 >= newest;
            let expected = (is_known && !taken.contains(&number))
                .then_some(taken.is_empty() || number > newest);
            assert_eq!(
                take(&mut window, number),
                expected,
                "{number} after {newest}"
            );
            taken.insert(number);
        }
    }
}
