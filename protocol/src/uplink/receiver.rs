//! The server's end of one player's way up: samples in, states at ticks out.

use std::collections::VecDeque;

use crate::cube::{CubeId, CubePose};
use crate::datagram::{self, Uplink};
use crate::limits::{MAX_CUBES_PER_SAMPLE, MAX_SAMPLES_PER_DATAGRAM};
use crate::motion::{Codec, MotionError, MotionSet, MotionState};

/// Largest number of states that wait for their tick, 7 KiB: those of two moving cubes for half a second at
/// 60 Hz. No client's margin is longer.
const MAX_PENDING_STATES: usize = 64;

/// Number of states for which there is always place: more than an honest client's samples have.
const USUAL_PENDING_STATES: usize = 8;

/// When a sample arrived, compared with the tick that it describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Within the tick before its own, as it should.
    OnTime,
    /// More than a tick too early.
    Early,
    /// After its tick had begun.
    Late,
    /// On the stream, after a datagram has brought the same sample.
    Duplicate,
}

/// Why no client sends such a sample.
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
    #[error("a client sent more than {MAX_CUBES_PER_SAMPLE} cubes")]
    TooManyCubes,
    /// The residuals cannot be decoded.
    #[error(transparent)]
    Motion(#[from] MotionError),
}

/// The states of some cubes at a tick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimedStates {
    /// The tick that the states belong to.
    pub tick: u64,
    /// The cubes and their states.
    pub states: Vec<(CubeId, MotionState)>,
}

/// The server's copy of what a client predicts, and its samples whose tick has not come.
#[derive(Debug)]
pub struct UplinkReceiver {
    tick_hz: u64,
    /// At the newest sample's tick.
    predicted: MotionSet,
    /// By tick: at most a second's, and at most [`MAX_PENDING_STATES`].
    pending: VecDeque<Pending>,
    late_samples: u32,
    /// The number of releases.
    releases: u32,
    /// The tick of the newest sample that a datagram has brought; 0 before the first one.
    datagram_tick: u64,
}

/// A state that waits for its tick.
#[derive(Debug, Clone, Copy)]
struct Pending {
    tick: u64,
    cube: CubeId,
    state: MotionState,
}

impl UplinkReceiver {
    /// Returns the receiver of a player who has just come into a room of that many ticks a second.
    pub fn new(tick_hz: u64) -> Self {
        Self {
            tick_hz,
            predicted: MotionSet::new(&Codec::LIVE),
            pending: VecDeque::new(),
            late_samples: 0,
            releases: 0,
            datagram_tick: 0,
        }
    }

    /// Returns the receiver of a player who answers a second welcome with
    /// [`Continue`](crate::ClientMessage::Continue). Datagrams with another number of releases are from before.
    pub fn continued(tick_hz: u64, releases: u32) -> Self {
        Self {
            releases,
            ..Self::new(tick_hz)
        }
    }

    /// Decodes a sample while the room is in tick `now`. It counts at its tick, or at the next one
    /// if it comes late. `may_move` is asked about each cube that the sample moves; nothing is kept of
    /// cubes that the client may not move.
    ///
    /// # Errors
    /// [`SampleError`]: nothing that this client sends from now on can be decoded.
    pub fn sample(
        &mut self,
        now: u64,
        tick: u64,
        placed: &[CubePose],
        residuals: &[u8],
        may_move: impl FnMut(CubeId) -> bool,
    ) -> Result<Arrival, SampleError> {
        if (1..=self.datagram_tick).contains(&tick) {
            return Ok(Arrival::Duplicate);
        }
        self.take(now, tick, placed, residuals, may_move)
    }

    /// Returns the samples of a datagram that have not come yet, at most [`MAX_SAMPLES_PER_DATAGRAM`]: none if
    /// samples before them, or releases, have not come either.
    pub fn new_samples<'a>(&self, uplink: &'a Uplink) -> &'a [datagram::Sample] {
        let newest = self.predicted.tick();
        if uplink.releases != self.releases || uplink.base > newest {
            return &[];
        }
        let samples = &uplink.samples;
        let known = samples.iter().take_while(|sample| sample.tick <= newest);
        let new = &samples[known.count()..];
        &new[..new.len().min(MAX_SAMPLES_PER_DATAGRAM)]
    }

    /// Decodes one of the [new samples](Self::new_samples) of a datagram, as [`sample`](Self::sample) does.
    ///
    /// # Errors
    /// [`SampleError`]: nothing that this client sends from now on can be decoded.
    pub fn datagram_sample(
        &mut self,
        now: u64,
        sample: &datagram::Sample,
        may_move: impl FnMut(CubeId) -> bool,
    ) -> Result<Arrival, SampleError> {
        let (placed, residuals) = (&sample.placed, &sample.residuals);
        let arrival = self.take(now, sample.tick, placed, residuals, may_move)?;
        self.datagram_tick = sample.tick;
        Ok(arrival)
    }

    fn take(
        &mut self,
        now: u64,
        tick: u64,
        placed: &[CubePose],
        residuals: &[u8],
        mut may_move: impl FnMut(CubeId) -> bool,
    ) -> Result<Arrival, SampleError> {
        let before = self.predicted.tick();
        if tick <= before {
            return Err(SampleError::Tick { tick, before });
        }
        if placed.len() > MAX_CUBES_PER_SAMPLE {
            return Err(SampleError::TooManyCubes);
        }
        self.predicted.advance_to(tick);
        let mut updated = Vec::new();
        for (cube, state) in at_rest(placed) {
            self.predicted.insert(cube, state);
            updated.push(cube);
        }
        if self.predicted.len() > MAX_CUBES_PER_SAMPLE {
            return Err(SampleError::TooManyCubes);
        }
        if !residuals.is_empty() {
            self.predicted
                .decode_tick(residuals, |cube| updated.push(cube))?;
        }
        // Every moving cube is among the states: after a silence the room may have let it stand.
        updated.extend(self.predicted.active().map(|(cube, _)| cube));
        updated.sort_unstable();
        updated.dedup();
        updated.retain(|cube| may_move(*cube));
        // No client's clock is further ahead than a second.
        let due = tick.min(now + self.tick_hz);
        for cube in updated {
            if let Some(state) = self.predicted.get(cube).copied() {
                self.keep(due, cube, state);
            }
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

    /// Takes poses where cubes stand from a tick on, while the room is in tick `now`: the samples of
    /// [plain](crate::Encoding::Plain) clients and of people who type coordinates. They need not be in order.
    ///
    /// # Errors
    /// [`SampleError::TooManyCubes`].
    pub fn place(
        &mut self,
        now: u64,
        tick: u64,
        placed: &[CubePose],
        mut may_move: impl FnMut(CubeId) -> bool,
    ) -> Result<(), SampleError> {
        if placed.len() > MAX_CUBES_PER_SAMPLE {
            return Err(SampleError::TooManyCubes);
        }
        let due = tick.clamp(now + 1, now + self.tick_hz);
        for (cube, state) in at_rest(placed) {
            if may_move(cube) {
                self.keep(due, cube, state);
            }
        }
        Ok(())
    }

    /// Keeps a state until its tick. Where there are too many, the cube's newest one until now makes way, and
    /// its own tick is not seen.
    fn keep(&mut self, due: u64, cube: CubeId, state: MotionState) {
        let is_full = self.pending.len() >= MAX_PENDING_STATES;
        let mut known = self.pending.iter();
        let replaced = known.rposition(|old| old.cube == cube && (is_full || old.tick >= due));
        match replaced {
            Some(index) => drop(self.pending.remove(index)),
            None if is_full => drop(self.pending.pop_front()),
            None => {}
        }
        let last = self.pending.back().map_or(due, |last| last.tick);
        let tick = due.max(last);
        self.pending.push_back(Pending { tick, cube, state });
    }

    /// Takes out the next states whose tick is not after `until`.
    pub fn next_due(&mut self, until: u64) -> Option<TimedStates> {
        let tick = self.pending.front()?.tick;
        if tick > until {
            return None;
        }
        let due = self.pending.iter().take_while(|due| due.tick == tick);
        let due = self.pending.drain(..due.count());
        let states = due.map(|due| (due.cube, due.state)).collect();
        if self.pending.is_empty() {
            self.pending.shrink_to(USUAL_PENDING_STATES);
        }
        Some(TimedStates { tick, states })
    }

    /// Whether samples wait for their tick.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Forgets a cube that the client has released.
    pub fn release(&mut self, cube: CubeId) {
        self.releases = self.releases.wrapping_add(1);
        self.predicted.remove(cube);
    }

    /// Returns how many samples have come after their tick.
    pub fn late_samples(&self) -> u32 {
        self.late_samples
    }

    /// Returns the number of ticks since that of the newest sample.
    pub fn silent_ticks(&self, now: u64) -> u64 {
        now.saturating_sub(self.predicted.tick())
    }
}

fn at_rest(placed: &[CubePose]) -> impl Iterator<Item = (CubeId, MotionState)> {
    placed
        .iter()
        .map(|placed| (placed.cube, MotionState::at_rest(placed.pose)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::sender::UplinkSender;
    use super::super::testing::pose;
    use super::*;
    use crate::quantize::{Pose, Position};

    const CUBE: CubeId = CubeId(7);
    const HZ: u64 = 30;

    /// A client and its receiver.
    struct Line {
        sender: UplinkSender,
        receiver: UplinkReceiver,
        /// Grows with every sample: a cube is where it was put last.
        instant: Duration,
    }

    impl Line {
        fn new() -> Self {
            let mut sender = UplinkSender::default();
            sender.gain(CUBE, pose(1.0));
            Self {
                sender,
                receiver: UplinkReceiver::new(HZ),
                instant: Duration::ZERO,
            }
        }

        /// Sends in tick `now` where the cube is at `tick`.
        fn send(&mut self, now: u64, tick: u64, x: i32) -> Result<Arrival, SampleError> {
            self.instant += Duration::from_secs(1);
            self.sender.set_pose(CUBE, at(x), self.instant);
            let sample = self.sender.take_sample(tick, self.instant, true).unwrap();
            self.receiver
                .sample(now, tick, &sample.placed, &sample.residuals, |_| true)
        }

        /// Returns the tick that is due, and the cube's x there.
        fn due(&mut self, until: u64) -> Option<(u64, Option<i32>)> {
            let due = self.receiver.next_due(until)?;
            let first = due.states.first();
            let x = first.map(|(_, state)| state.pose(&Codec::LIVE).position.x);
            Some((due.tick, x))
        }
    }

    /// Upright on the floor.
    fn at(x: i32) -> Pose {
        Pose {
            position: Position { x, y: 0, z: 256 },
            ..Pose::default()
        }
    }

    #[test]
    fn a_sample_counts_at_its_own_tick_whenever_it_came_before() {
        let mut line = Line::new();
        let sent = [2, 3, 4, 5].map(|tick| line.send(1, tick, 10 * tick as i32));
        assert_eq!(sent[0], Ok(Arrival::OnTime));
        assert_eq!(sent[1..], [Ok(Arrival::Early); 3]);
        assert_eq!(line.due(1), None);
        for tick in 2..=5 {
            assert_eq!(line.due(tick), Some((tick, Some(10 * tick as i32))));
            assert_eq!(line.due(tick), None);
        }
        assert_eq!(line.send(8, 7, 100), Ok(Arrival::Late));
        assert_eq!(line.due(8), Some((7, Some(100))));
        assert_eq!(line.receiver.late_samples(), 1);
    }

    #[test]
    fn ticks_must_rise_and_a_tick_beyond_any_clock_is_bounded() {
        let mut line = Line::new();
        line.send(1, 2, 0).unwrap();
        let again = line.send(1, 2, 50);
        assert_eq!(again, Err(SampleError::Tick { tick: 2, before: 2 }));

        let mut line = Line::new();
        for tick in 0..1_000 {
            line.send(1, u64::MAX - 1_000 + tick, 90 * (tick % 7) as i32)
                .unwrap();
        }
        assert_eq!(line.receiver.pending.len(), 1);
        assert!(line.due(HZ).is_none() && line.due(1 + HZ).is_some());
    }

    #[test]
    fn what_waits_is_bounded_and_ends_where_the_newest_sample_says() {
        let mut receiver = UplinkReceiver::new(128);
        let place = |cube, x| CubePose {
            cube: CubeId(cube),
            pose: at(x),
        };
        let mut send = |tick: u64, x: i32, cubes: std::ops::Range<u64>| {
            let placed: Vec<_> = cubes.map(|cube| place(cube, x)).collect();
            receiver
                .sample(1, tick, &placed, &[], |cube| cube.0 < 4)
                .unwrap();
            assert!(receiver.pending.len() <= MAX_PENDING_STATES);
            receiver.pending.capacity()
        };
        for tick in 2..600 {
            send(tick, tick as i32, 0..8);
        }
        assert!(send(600, 600, 0..8) <= 2 * MAX_PENDING_STATES);
        let mut newest = std::collections::BTreeMap::new();
        let mut before = 0;
        while let Some(due) = receiver.next_due(u64::MAX) {
            assert!(due.tick > before);
            before = due.tick;
            newest.extend(due.states);
        }
        assert!(newest.keys().eq([0, 1, 2, 3].map(CubeId).iter()));
        let is_newest = |state: &MotionState| state.pose(&Codec::LIVE) == at(600);
        assert!(newest.values().all(is_newest));
        assert!(receiver.pending.capacity() <= USUAL_PENDING_STATES);
    }

    #[test]
    fn a_datagram_brings_no_more_samples_than_an_honest_client_sends() {
        let mut receiver = UplinkReceiver::new(HZ);
        let sample = |tick| datagram::Sample {
            tick,
            placed: Vec::new(),
            residuals: Default::default(),
        };
        let uplink = Uplink {
            samples: (2..300).map(sample).collect(),
            ..Uplink::default()
        };
        let mut taken = Vec::new();
        for sample in receiver.new_samples(&uplink).to_vec() {
            receiver.datagram_sample(1, &sample, |_| true).unwrap();
            taken.push(sample.tick);
        }
        assert!(taken.into_iter().eq(2..2 + MAX_SAMPLES_PER_DATAGRAM as u64));
        // The stream has the others.
        let next = 2 + MAX_SAMPLES_PER_DATAGRAM as u64;
        let sampled = receiver.sample(1, next, &[], &[], |_| true);
        assert_eq!(sampled, Ok(Arrival::Early));
    }

    #[test]
    fn more_cubes_than_a_client_can_have_and_nonsense_are_errors() {
        let mut line = Line::new();
        let pose = at(0);
        let placed = |range: std::ops::Range<u64>| -> Vec<_> {
            range
                .map(|id| CubePose {
                    cube: CubeId(id),
                    pose,
                })
                .collect()
        };
        let mut send = |tick, placed: Vec<CubePose>, residuals: &[u8]| {
            line.receiver.sample(1, tick, &placed, residuals, |_| true)
        };
        assert_eq!(send(2, placed(0..8), &[]), Ok(Arrival::OnTime));
        let again = send(3, placed(0..8), &[]);
        assert_eq!(again, Ok(Arrival::Early), "the same ones again");
        let nonsense = send(4, vec![], &[0xFF; 40]);
        assert!(
            matches!(nonsense, Err(SampleError::Motion(_))),
            "{nonsense:?}"
        );
        assert_eq!(send(5, placed(8..9), &[]), Err(SampleError::TooManyCubes));
        assert_eq!(send(6, placed(0..9), &[]), Err(SampleError::TooManyCubes));
    }

    #[test]
    fn after_a_second_welcome_only_datagrams_with_the_new_number_of_releases_count() {
        let receiver = UplinkReceiver::continued(HZ, 4);
        for (releases, expected) in [(3, 0), (4, 1), (5, 0)] {
            let sample = datagram::Sample {
                tick: 2,
                placed: Vec::new(),
                residuals: Default::default(),
            };
            let uplink = Uplink {
                releases,
                samples: vec![sample],
                ..Uplink::default()
            };
            assert_eq!(receiver.new_samples(&uplink).len(), expected);
        }
    }

    #[test]
    fn a_sample_of_a_released_cube_is_an_error() {
        let mut line = Line::new();
        line.send(1, 2, 0).unwrap();
        line.receiver.release(CUBE);
        assert!(matches!(line.send(1, 3, 50), Err(SampleError::Motion(_))));
    }
}
