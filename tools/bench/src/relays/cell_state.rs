//! The clients' replicas of a cell, computed once for all clients that have received the same bytes.
//!
//! A state is a function of the one before it and of the payload that arrived. So states form a
//! tree: a client that receives a payload that another one at the same state has received (all
//! its bytes are compared) goes on to that one's next state, and neither decodes nor checks it
//! again. Thousands of clients of one room then cost a comparison of bytes each.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use anyhow::{Context, Result, bail};
use cubesync_protocol::{CellId, CubeId, Keyframe, Snapshot};

use crate::check::Cubes;
use crate::score::Score;
use crate::truth::Truth;

/// Sample times that are this near each other are counted together, in microseconds.
const SAMPLED_RESOLUTION_US: u64 = 64;

/// A client's replica of a cell right after its frame of a tick.
#[derive(Debug)]
pub(crate) struct CellState {
    /// The cell.
    pub(crate) cell: CellId,
    /// The tick.
    pub(crate) tick: u64,
    /// The score, inside the measurement, of the frame and of the ticks without one before it.
    pub(crate) measured: Score,
    /// The states that the frame delivered, by sample time. Empty outside the measurement.
    pub(crate) sampled: Vec<Sampled>,
    interval_ticks: u64,
    cubes: Cubes,
    next: RefCell<Vec<Step>>,
    /// The last result of [`silent_until`](Self::silent_until): many clients ask for the same tick.
    silence: Cell<Option<(u64, Score)>>,
}

/// States that were sampled at about the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sampled {
    /// The time of the sample, in the workload's microseconds.
    pub(crate) at_us: u64,
    /// The server of the clients that sampled them.
    pub(crate) server: usize,
    /// Number of states.
    pub(crate) count: u64,
}

/// A payload and the state after it.
type Step = (Box<[u8]>, Rc<CellState>);

/// The states of the clients of one thread.
#[derive(Debug, Default)]
pub(crate) struct CellStates {
    /// The newest states by cell and by the interval of its frames in ticks.
    newest: HashMap<(CellId, u8), Newest>,
}

/// The newest tick of a cell and its states. Clients that subscribed to it at different ticks soon have
/// the same one.
#[derive(Debug, Default)]
struct Newest {
    tick: u64,
    /// The keyframes of the tick and the states after them.
    keyframes: Vec<Step>,
    states: Vec<Weak<CellState>>,
}

impl CellState {
    /// Returns the state after this payload, if a client has received it before.
    pub(crate) fn known_next(&self, payload: &[u8]) -> Option<Rc<CellState>> {
        find(&self.next.borrow(), payload)
    }

    /// Returns the cubes of the cell by rising id.
    pub(crate) fn cubes(&self) -> impl ExactSizeIterator<Item = CubeId> {
        self.cubes.stream.motion().iter().map(|(cube, _)| cube)
    }

    /// Returns the score of the ticks after this one, up to `until`, if no frame arrives.
    pub(crate) fn silent_until(&self, until: u64, truth: &impl Truth) -> Score {
        match self.silence.get() {
            Some((known_until, score)) if known_until == until => score,
            _ => {
                let mut cubes = self.cubes.clone();
                let score = cubes.pass(until, self.interval_ticks, truth);
                self.silence.set(Some((until, score)));
                score
            }
        }
    }

    /// Returns the score of the ticks after `received` and this one, if nothing arrives any more: states
    /// are expected, and none is delivered.
    pub(crate) fn lost_after(&self, received: u64, last: u64, truth: &impl Truth) -> Score {
        let players = self.cubes().filter(|&cube| truth.client(cube).is_some());
        let ticks = (received.max(self.tick) + 1..=last).filter(|&tick| {
            tick.is_multiple_of(self.interval_ticks)
                && truth.is_measured(tick)
                && truth.step(tick).is_some()
        });
        Score {
            expected: players.count() as u64 * ticks.count() as u64,
            ..Score::default()
        }
    }
}

impl CellStates {
    /// Returns the state after this keyframe, if a client has received it before.
    pub(crate) fn known_keyframe(
        &self,
        cell: CellId,
        interval_ticks: u8,
        payload: &[u8],
    ) -> Option<Rc<CellState>> {
        let newest = self.newest.get(&(cell, interval_ticks))?;
        find(&newest.keyframes, payload)
    }

    /// Returns the state after a keyframe.
    ///
    /// # Errors
    ///
    /// The keyframe is invalid.
    pub(crate) fn keyframe(
        &mut self,
        payload: &[u8],
        keyframe: Keyframe,
        truth: &impl Truth,
    ) -> Result<Rc<CellState>> {
        if keyframe.interval_ticks == 0 {
            bail!("a keyframe has an interval of 0 ticks");
        }
        let cubes = Cubes::new(&keyframe);
        let cell = (keyframe.cell, keyframe.interval_ticks);
        let state = self.add(cell, keyframe.tick, Score::default(), cubes, truth);
        let newest = self.newest.entry(cell).or_default();
        if newest.tick == keyframe.tick {
            newest
                .keyframes
                .push((Box::from(payload), Rc::clone(&state)));
        }
        Ok(state)
    }

    /// Returns the state after a snapshot.
    ///
    /// # Errors
    ///
    /// The snapshot is invalid.
    pub(crate) fn snapshot(
        &mut self,
        known: &CellState,
        payload: &[u8],
        snapshot: Snapshot,
        truth: &impl Truth,
    ) -> Result<Rc<CellState>> {
        let mut cubes = known.cubes.clone();
        let silent = cubes.pass(snapshot.tick.saturating_sub(1), known.interval_ticks, truth);
        let taken_in = cubes.stream.take_in(&snapshot, |_| {});
        taken_in.context("a snapshot is invalid")?;
        let cell = (known.cell, known.interval_ticks as u8);
        let state = self.add(cell, snapshot.tick, silent, cubes, truth);
        let step = (Box::from(payload), Rc::clone(&state));
        known.next.borrow_mut().push(step);
        Ok(state)
    }

    fn add(
        &mut self,
        (cell, interval_ticks): (CellId, u8),
        tick: u64,
        silent: Score,
        mut cubes: Cubes,
        truth: &impl Truth,
    ) -> Rc<CellState> {
        let mut sampled = Vec::new();
        let step = truth.step(tick);
        let step = step.filter(|_| tick.is_multiple_of(interval_ticks.into()));
        let fresh = step.map(|step| {
            cubes.check(step, truth, |client, step| {
                if let Some(sampled_us) = truth.sampled_us(client, step) {
                    add_sampled(&mut sampled, sampled_us, truth.server(client));
                }
            })
        });
        let mut measured = silent;
        if truth.is_measured(tick) {
            measured += fresh.unwrap_or_default();
        } else {
            sampled.clear();
        }
        let newest = self.newest.entry((cell, interval_ticks)).or_default();
        if tick > newest.tick {
            newest.tick = tick;
            newest.keyframes.clear();
            newest.states.clear();
        }
        let mut alive = newest.states.iter().filter_map(Weak::upgrade);
        let same = alive.find(|other| {
            (other.tick, other.measured) == (tick, measured)
                && (&other.cubes, &other.sampled) == (&cubes, &sampled)
        });
        same.unwrap_or_else(|| {
            let state = Rc::new(CellState {
                cell,
                tick,
                measured,
                sampled,
                interval_ticks: interval_ticks.into(),
                cubes,
                next: RefCell::default(),
                silence: Cell::default(),
            });
            newest.states.push(Rc::downgrade(&state));
            state
        })
    }
}

fn find(steps: &[Step], payload: &[u8]) -> Option<Rc<CellState>> {
    let found = steps.iter().find(|(bytes, _)| **bytes == *payload);
    found.map(|(_, state)| Rc::clone(state))
}

fn add_sampled(sampled: &mut Vec<Sampled>, sampled_us: u64, server: usize) {
    let at_us = sampled_us / SAMPLED_RESOLUTION_US * SAMPLED_RESOLUTION_US;
    match sampled.last_mut() {
        Some(last) if (last.at_us, last.server) == (at_us, server) => last.count += 1,
        _ => sampled.push(Sampled {
            at_us,
            server,
            count: 1,
        }),
    }
}

#[cfg(test)]
mod tests {
    use cubesync_protocol::{CubeInfo, Event, Pose, Position};

    use super::*;
    use crate::truth::fixture::{Fixture, info};

    const INTERVAL: u8 = 4;

    fn at(x: i32) -> Pose {
        let position = Position { x, y: 0, z: 256 };
        Pose {
            position,
            ..Pose::default()
        }
    }

    /// One client that owns cube 1 and moves by one quantum each step; tick 10 is step 0, and all
    /// ticks before 100 count.
    const ONE_CUBE: Fixture = Fixture {
        cubes: 1..2,
        first_tick: 10,
        ticks: 0..100,
        pose: |_, step| at(step as i32),
    };

    fn resting(cube: u64, x: i32) -> CubeInfo {
        info(cube, at(x))
    }

    fn first(states: &mut CellStates, interval_ticks: u8, x: i32) -> Rc<CellState> {
        let keyframe = Keyframe {
            cell: CellId(7),
            interval_ticks,
            tick: 9,
            cubes: vec![resting(0, x), resting(1, x)],
        };
        states.keyframe(&[x as u8], keyframe, &ONE_CUBE).unwrap()
    }

    fn snapshot(tick: u64, events: Vec<Event>) -> Snapshot {
        Snapshot {
            cell: CellId(7),
            tick,
            events,
            ..Snapshot::default()
        }
    }

    /// Returns a snapshot after which cube 1 is predicted to rest exactly at `x`.
    fn moved(tick: u64, x: i32) -> Snapshot {
        snapshot(tick, vec![Event::Entered(resting(1, x))])
    }

    fn next(states: &mut CellStates, known: &CellState, snapshot: Snapshot) -> Rc<CellState> {
        let payload = [snapshot.tick as u8];
        states
            .snapshot(known, &payload, snapshot, &ONE_CUBE)
            .unwrap()
    }

    #[test]
    fn states_are_counted_once_as_right_late_or_wrong() {
        let mut states = CellStates::default();
        let known = first(&mut states, 1, 500);
        let mut next = |known: &CellState, tick, x| next(&mut states, known, moved(tick, x));
        let right = next(&known, 12, 2);
        let [sampled] = right.sampled[..] else {
            panic!("one state was delivered");
        };
        assert_eq!((sampled.at_us, sampled.count), (2_000 / 64 * 64, 1));
        // Two ticks passed without a frame, and the predictions for them were wrong.
        let Score {
            expected,
            delivered,
            wrong,
            ..
        } = right.measured;
        assert_eq!((expected, delivered, wrong), (3, 1, 2));
        assert_eq!(right.measured.right(), 1);
        // The state of tick 13 is still that of tick 12, and that of tick 14 what tick 13 should have had.
        let late = next(&right, 14, 3);
        assert_eq!((late.measured.delivered, late.measured.late), (1, 1));
        assert_eq!((late.measured.expected, late.measured.right()), (2, 0));
        let again = next(&late, 15, 3);
        assert_eq!((again.measured.delivered, again.measured.wrong), (0, 0));
        let wrong = next(&again, 16, 77);
        assert_eq!((wrong.measured.delivered, wrong.measured.wrong), (0, 1));
        assert_eq!(wrong.measured.largest.quanta, 71);
    }

    #[test]
    fn clients_with_the_same_bytes_share_a_state_and_others_come_back_to_it() {
        let mut states = CellStates::default();
        let (one, other) = (first(&mut states, 1, 5), first(&mut states, 1, 6));
        let same = states.known_keyframe(CellId(7), 1, &[5]).unwrap();
        assert!(Rc::ptr_eq(&one, &same));
        assert!(states.known_keyframe(CellId(7), INTERVAL, &[5]).is_none());
        assert!(one.known_next(&[10]).is_none());
        let after_one = next(&mut states, &one, moved(10, 0));
        let after_other = next(&mut states, &other, moved(10, 0));
        assert!(Rc::ptr_eq(&after_one, &one.known_next(&[10]).unwrap()));
        // Cube 0, which nobody moves, still differs; nothing else does.
        assert!(!Rc::ptr_eq(&after_one, &after_other));
        let left = || snapshot(11, vec![Event::Left { cube: CubeId(0) }]);
        let after_one = next(&mut states, &after_one, left());
        let after_other = next(&mut states, &after_other, left());
        assert!(Rc::ptr_eq(&after_one, &after_other));
    }

    #[test]
    fn residuals_are_applied_and_ticks_without_a_frame_are_predicted() {
        let mut states = CellStates::default();
        let mut known = first(&mut states, 1, 4_000);
        let mut server = known.cubes.stream.motion().clone();
        // A jump, and from the next tick on a quantum each step.
        for (tick, x) in [(10, 0), (11, 1)] {
            server.advance_to(server.tick() + 1);
            let still = server.pose(CubeId(0)).unwrap();
            let truth = |cube: CubeId| if cube.0 == 1 { at(x) } else { still };
            let mut residuals = Vec::new();
            server.encode_tick(truth, &mut residuals);
            let snapshot = Snapshot {
                residuals: residuals.into(),
                ..snapshot(tick, Vec::new())
            };
            known = next(&mut states, &known, snapshot);
        }
        assert_eq!(*known.cubes.stream.motion(), server);
        let known = next(&mut states, &known, snapshot(14, Vec::new()));
        server.advance_to(14);
        assert_eq!(*known.cubes.stream.motion(), server);
        assert_eq!(known.measured.expected, 3);
    }

    #[test]
    fn a_cube_that_exits_is_no_longer_expected_in_its_cell() {
        let mut states = CellStates::default();
        let known = first(&mut states, 1, 0);
        let exited = vec![Event::Exited { cube: CubeId(1) }];
        let known = next(&mut states, &known, snapshot(10, exited));
        assert_eq!(known.measured, Score::default());
        assert!(known.cubes().eq([CubeId(0)]));
        let known = next(&mut states, &known, moved(11, 1));
        assert!(known.cubes().eq([CubeId(0), CubeId(1)]));
        assert_eq!((known.measured.expected, known.measured.delivered), (1, 1));
    }

    #[test]
    fn far_cells_are_compared_at_their_ticks_only() {
        let mut states = CellStates::default();
        let known = first(&mut states, INTERVAL, 0);
        let known = next(&mut states, &known, moved(16, 6));
        // 12 and 16; at 12 it was at 2, not at 0.
        let Score {
            expected,
            delivered,
            ..
        } = known.measured;
        assert_eq!((expected, delivered), (2, 2));
        assert_eq!(known.measured.late, 1);
        let known = next(&mut states, &known, moved(18, 8));
        assert_eq!((known.measured, known.sampled.len()), (Score::default(), 0));
    }

    #[test]
    fn a_cell_that_stays_silent_counts_to_the_end() {
        let mut states = CellStates::default();
        let known = first(&mut states, INTERVAL, 0);
        let silent = known.silent_until(15, &ONE_CUBE);
        assert_eq!((silent.expected, silent.delivered), (1, 1));
        assert_eq!(known.silent_until(15, &ONE_CUBE), silent);
        assert_eq!(known.silent_until(21, &ONE_CUBE).expected, 3);
        // Nothing came after tick 21: 24, 28 and so on up to 96 are missing; 100 does not count.
        let lost = known.lost_after(21, 120, &ONE_CUBE);
        assert_eq!((lost.expected, lost.delivered), (19, 0));
    }

    #[test]
    fn invalid_message_is_an_error() {
        let mut states = CellStates::default();
        let known = first(&mut states, 1, 0);
        let garbage = Snapshot {
            residuals: vec![0xFF; 40].into(),
            ..snapshot(15, Vec::new())
        };
        for nonsense in [garbage, snapshot(9, Vec::new())] {
            let after = states.snapshot(&known, b"x", nonsense, &ONE_CUBE);
            assert!(after.is_err());
        }
        let never = Keyframe {
            cell: CellId(7),
            interval_ticks: 0,
            tick: 9,
            cubes: Vec::new(),
        };
        assert!(states.keyframe(b"x", never, &ONE_CUBE).is_err());
    }
}
