//! How much datagrams repeat, by the share of them that is lost.

/// A share of lost datagrams that means that none come through.
pub const LOST_ALL: u8 = 255;

/// Share of lost datagrams, in 1/255, from which on the newest tick is sent twice: 0.4 %.
const SOME_LOST: u8 = 1;

/// The same for three times: 3 %.
const MANY_LOST: u8 = 8;

/// How much of the past each datagram repeats, and how often the newest tick is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redundancy {
    /// The number of ticks with content in a datagram.
    pub ticks: usize,
    /// The number of ticks after one with content in which it is sent again if they have none.
    pub repeats: u8,
}

impl Redundancy {
    /// Returns what is right where this share of the datagrams is lost, in 1/255.
    pub fn at_loss(lost: u8) -> Self {
        let (ticks, repeats) = if lost < SOME_LOST {
            (2, 0)
        } else if lost < MANY_LOST {
            (3, 1)
        } else {
            (4, 2)
        };
        Self { ticks, repeats }
    }
}
