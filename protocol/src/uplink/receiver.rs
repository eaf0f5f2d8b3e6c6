//! What a player's client says about its cubes: samples in, states at ticks out.
//!
//! Client and server hold the same motion set and advance it alike, as in the other direction. A
//! tick without a sample says that everything goes on as believed.

use std::collections::VecDeque;

use crate::cube::{CubeId, CubePose};
use crate::limits::{MAX_CUBES_PER_SAMPLE, MOVING_HEARTBEAT_INTERVAL};
use crate::motion::{Codec, MotionError, MotionSet, MotionState};

/// A moving cube whose client says nothing for this part of a second stands. Two heartbeats and
/// most hiccups of a network are shorter.
const GRACE_PER_SECOND: u64 = 2;

/// When a sample came, against the tick that it describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Within the tick before its own: as it should.
    OnTime,
    /// More than a tick too early.
    Early,
    /// After its tick had begun.
    Late,
}

/// A sample that no client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    /// Each sample is later than the one before.
    #[error("the sample of tick {tick} came after that of tick {before}")]
    Tick {
        /// The sample's tick.
        tick: u64,
        /// The tick of the one before.
        before: u64,
    },
    /// A client moves its own cube and the one it holds.
    #[error("a client tells of more than {MAX_CUBES_PER_SAMPLE} cubes")]
    TooManyCubes,
    /// The surprises make no sense.
    #[error(transparent)]
    Motion(#[from] MotionError),
}

/// Cubes, and how they are believed to move, from a tick on.
pub type Told = (u64, Vec<(CubeId, MotionState)>);

/// One player's side of the room.
#[derive(Debug)]
pub struct Uplink {
    /// At the newest sample's tick.
    believed: MotionSet,
    /// Samples whose tick has not come: at most a second's.
    pending: VecDeque<Told>,
    /// How many samples have come after their tick.
    pub late_samples: u32,
}

impl Uplink {
    /// Takes in a sample while the room is in tick `now`. It counts at its tick, or at the next
    /// one when it comes late.
    ///
    /// # Errors
    /// [`SampleError`]: from now on nothing that this client says can be understood.
    pub fn sample(
        &mut self,
        tick: u64,
        placed: &[CubePose],
        surprises: &[u8],
        now: u64,
        tick_hz: u64,
    ) -> Result<Arrival, SampleError> {
        let before = self.believed.tick();
        if tick <= before {
            return Err(SampleError::Tick { tick, before });
        }
        self.believed.advance_to(tick);
        let mut changed = Vec::new();
        for (cube, state) in at_rest(placed) {
            self.believed.insert(cube, state);
            changed.push(cube);
        }
        if self.believed.len() > MAX_CUBES_PER_SAMPLE {
            return Err(SampleError::TooManyCubes);
        }
        if !surprises.is_empty() {
            self.believed
                .decode_tick(surprises, |cube| changed.push(cube))?;
        }
        // What moves is told of again: the room may have thought that the network was gone.
        changed.extend(self.believed.active().map(|(cube, _)| cube));
        changed.sort_unstable();
        changed.dedup();
        let state = |cube| Some((cube, *self.believed.get(cube)?));
        let told: Vec<_> = changed.into_iter().filter_map(state).collect();
        // Further ahead than a second is no clock of ours.
        let due = tick.min(now + tick_hz);
        match self.pending.back_mut() {
            Some((last, waiting)) if *last >= due => waiting.extend(told),
            _ => self.pending.push_back((due, told)),
        }
        Ok(if tick <= now {
            self.late_samples = self.late_samples.saturating_add(1);
            Arrival::Late
        } else if tick > now + 1 {
            Arrival::Early
        } else {
            Arrival::OnTime
        })
    }

    /// Takes in, while the room is in tick `now`, where cubes stand from a tick on: the samples of
    /// people who type coordinates. They need not be in order.
    pub fn place(&mut self, tick: u64, placed: &[CubePose], now: u64, tick_hz: u64) {
        let due = tick.clamp(now + 1, now + tick_hz);
        self.pending.push_back((due, at_rest(placed).collect()));
    }

    /// The next sample whose tick is not after `until`.
    pub fn next_due(&mut self, until: u64) -> Option<Told> {
        let is_due = self.pending.front().is_some_and(|(tick, _)| *tick <= until);
        if is_due {
            self.pending.pop_front()
        } else {
            None
        }
    }

    /// Whether samples wait for their tick.
    pub fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The client does not tell of this cube any more.
    pub fn release(&mut self, cube: CubeId) {
        self.believed.remove(cube);
    }

    /// For how many ticks nothing has been heard.
    pub fn silent_ticks(&self, now: u64) -> u64 {
        now.saturating_sub(self.believed.tick())
    }
}

impl Default for Uplink {
    /// The state of a player who has just come in.
    fn default() -> Self {
        Self {
            believed: MotionSet::new(&Codec::LIVE),
            pending: VecDeque::new(),
            late_samples: 0,
        }
    }
}

fn at_rest(placed: &[CubePose]) -> impl Iterator<Item = (CubeId, MotionState)> {
    placed
        .iter()
        .map(|placed| (placed.cube, MotionState::at_rest(placed.pose)))
}

/// The longest silence, in ticks, that says that a moving cube goes on as believed.
pub fn grace(tick_hz: u64) -> u64 {
    (tick_hz / GRACE_PER_SECOND).max(2)
}

/// The longest silence, in ticks, that is to be expected while a cube moves.
pub fn heartbeat(tick_hz: u64) -> u64 {
    (MOVING_HEARTBEAT_INTERVAL.as_millis() as u64 * tick_hz / 1_000).max(1)
}

#[cfg(test)]
mod tests {
    use super::super::testing::Teller;
    use super::*;

    const CUBE: CubeId = CubeId(7);
    const HZ: u64 = 30;

    struct Line {
        uplink: Uplink,
        teller: Teller,
    }

    impl Line {
        fn new() -> Self {
            Self {
                uplink: Uplink::default(),
                teller: Teller::default(),
            }
        }

        /// Says in tick `now` where the cube is at `tick`.
        fn say(&mut self, now: u64, tick: u64, x: i32) -> Result<Arrival, SampleError> {
            let (placed, surprises) = self.teller.sample(tick, CUBE, Teller::at(x));
            self.uplink.sample(tick, &placed, &surprises, now, HZ)
        }

        /// What is due: the tick, and the cube's x there.
        fn due(&mut self, until: u64) -> Option<(u64, Option<i32>)> {
            let (tick, told) = self.uplink.next_due(until)?;
            let x = told
                .first()
                .map(|(_, state)| state.pose(&Codec::LIVE).position.x);
            Some((tick, x))
        }
    }

    #[test]
    fn a_sample_counts_at_its_own_tick_whenever_it_came_before() {
        let mut line = Line::new();
        let said = [2, 3, 4, 5].map(|tick| line.say(1, tick, 10 * tick as i32));
        assert_eq!(said[0], Ok(Arrival::OnTime));
        assert_eq!(said[1..], [Ok(Arrival::Early); 3]);
        assert_eq!(line.due(1), None);
        for tick in 2..=5 {
            assert_eq!(line.due(tick), Some((tick, Some(10 * tick as i32))));
            assert_eq!(line.due(tick), None);
        }
        assert_eq!(line.say(8, 7, 100), Ok(Arrival::Late));
        assert_eq!(line.due(8), Some((7, Some(100))));
        assert_eq!(line.uplink.late_samples, 1);
    }

    #[test]
    fn ticks_must_rise_and_a_tick_beyond_any_clock_is_bounded() {
        let mut line = Line::new();
        line.say(1, 2, 0).unwrap();
        let again = line.say(1, 2, 50);
        assert_eq!(again, Err(SampleError::Tick { tick: 2, before: 2 }));

        let mut line = Line::new();
        for tick in 0..1_000 {
            line.say(1, u64::MAX - 1_000 + tick, 90 * (tick % 7) as i32)
                .unwrap();
        }
        assert_eq!(line.uplink.pending.len(), 1);
        assert!(line.due(HZ).is_none() && line.due(1 + HZ).is_some());
    }

    #[test]
    fn more_cubes_than_a_client_can_have_and_nonsense_are_errors() {
        let mut line = Line::new();
        let pose = Teller::at(0);
        let placed = |range: std::ops::Range<u64>| -> Vec<_> {
            range
                .map(|id| CubePose {
                    cube: CubeId(id),
                    pose,
                })
                .collect()
        };
        let mut say = |tick, placed: Vec<CubePose>, surprises: &[u8]| {
            line.uplink.sample(tick, &placed, surprises, 1, HZ)
        };
        assert_eq!(say(2, placed(0..8), &[]), Ok(Arrival::OnTime));
        let again = say(3, placed(0..8), &[]);
        assert_eq!(again, Ok(Arrival::Early), "the same ones again");
        let nonsense = say(4, vec![], &[0xFF; 40]);
        assert!(
            matches!(nonsense, Err(SampleError::Motion(_))),
            "{nonsense:?}"
        );
        assert_eq!(say(5, placed(8..9), &[]), Err(SampleError::TooManyCubes));
    }

    #[test]
    fn a_released_cube_is_told_of_no_more() {
        let mut line = Line::new();
        line.say(1, 2, 0).unwrap();
        line.uplink.release(CUBE);
        let surprises = [0x55; 3];
        let sample = line.uplink.sample(3, &[], &surprises, 1, HZ);
        assert!(sample.is_err());
    }
}
