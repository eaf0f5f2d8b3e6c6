//! What clients believe, computed once for all clients that have received the same bytes.
//!
//! A belief is a function of the one before it and of the payload that came. So beliefs form a
//! tree: a client that receives a payload that another one at the same belief has received (all
//! its bytes are compared) goes on to that one's next belief, and neither decodes nor checks it
//! again. Thousands of clients of one room then cost a comparison of bytes each.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use anyhow::{Context, Result};
use cubesync_protocol::motion::{Codec, MotionSet};
use cubesync_protocol::{CubeId, Event, Keyframe, Pose, Snapshot};

use crate::error::Error;

/// A state that is like the truth of one of this many steps before its own is late, not wrong:
/// 2 seconds at 20 Hz, which only an overload reaches.
const LATE_STEPS: usize = 40;

/// Sample times that are this near each other are counted together, in microseconds.
const SAMPLED_RESOLUTION_US: u64 = 64;

/// Where the cubes really are.
pub(crate) trait Truth {
    /// A receiver's state stands for the truth when it is no farther from it than this.
    fn bound(&self) -> Error;
    /// Whose cube it is; `None` for one that no client moves.
    fn client(&self, cube: CubeId) -> Option<usize>;
    /// The step whose samples belong to a tick; `None` before the first.
    fn step(&self, tick: u64) -> Option<usize>;
    /// Where a client's cube is at a step.
    fn pose(&self, client: usize, step: usize) -> Pose;
    /// When that was sampled.
    fn sampled_us(&self, client: usize, step: usize) -> Option<u64>;
}

/// What a client believes right after a tick's frame.
#[derive(Debug)]
pub(crate) struct Belief {
    /// The tick.
    pub(crate) tick: u64,
    /// What the frame delivered.
    pub(crate) score: Score,
    /// The ticks before it that came without a frame: the tick, and how many states were right.
    pub(crate) silent: Vec<(u64, u64)>,
    cubes: Cubes,
    next: RefCell<Vec<Step>>,
}

/// A payload, and what a client believes after it.
type Step = (Box<[u8]>, Rc<Belief>);

/// What became right by a frame.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Score {
    /// Cubes of clients that were compared.
    pub(crate) compared: u64,
    /// Cubes whose state is that of a newer step than before.
    pub(crate) delivered: u64,
    /// Those whose step is older than the tick's.
    pub(crate) late: u64,
    /// Cubes whose state is like no recent truth.
    pub(crate) wrong: u64,
    /// The largest distance from the nearest recent truth.
    pub(crate) largest: Error,
    /// When the delivered ones were sampled, and how many then.
    pub(crate) sampled: Vec<(u64, u64)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Cubes {
    motion: MotionSet,
    /// By cube id: the newest step that was delivered, plus one.
    seen: Vec<usize>,
}

/// The beliefs of one thread's clients.
#[derive(Debug, Default)]
pub(crate) struct Beliefs {
    /// First keyframes and what they lead to.
    first: Vec<Step>,
    /// The newest tick and its beliefs: clients that came in at different ticks believe the same
    /// soon.
    newest_tick: u64,
    newest: Vec<Weak<Belief>>,
}

impl Beliefs {
    /// The belief that this payload led to before.
    pub(crate) fn known_next(
        &self,
        known: Option<&Rc<Belief>>,
        payload: &[u8],
    ) -> Option<Rc<Belief>> {
        let find = |next: &[Step]| {
            let found = next.iter().find(|(bytes, _)| **bytes == *payload);
            found.map(|(_, belief)| Rc::clone(belief))
        };
        match known {
            Some(known) => find(&known.next.borrow()),
            None => find(&self.first),
        }
    }

    /// The belief after a keyframe.
    pub(crate) fn keyframe(
        &mut self,
        known: Option<&Rc<Belief>>,
        payload: &[u8],
        keyframe: Keyframe,
        truth: &impl Truth,
    ) -> Rc<Belief> {
        let mut cubes = Cubes {
            motion: MotionSet::new(&Codec::LIVE),
            seen: known.map_or(Vec::new(), |known| known.cubes.seen.clone()),
        };
        for info in keyframe.cubes {
            cubes.motion.insert(info.cube, info.motion);
        }
        // What lies between is lost, so no tick before counts as silent.
        self.add(known, payload, keyframe.tick, Vec::new(), cubes, truth)
    }

    /// The belief after a snapshot.
    pub(crate) fn snapshot(
        &mut self,
        known: &Rc<Belief>,
        payload: &[u8],
        snapshot: Snapshot,
        truth: &impl Truth,
    ) -> Result<Rc<Belief>> {
        let mut cubes = known.cubes.clone();
        let mut silent = Vec::new();
        for tick in known.tick + 1..snapshot.tick {
            cubes.motion.advance(1);
            if let Some(step) = truth.step(tick) {
                silent.push((tick, cubes.check(step, truth).delivered));
            }
        }
        cubes.motion.advance(1);
        for event in snapshot.events {
            match event {
                Event::Joined(info) => drop(cubes.motion.insert(info.cube, info.motion)),
                Event::Left { cube } => drop(cubes.motion.remove(cube)),
                // Who holds or has lost a cube does not matter here.
                _ => {}
            }
        }
        if !snapshot.surprises.is_empty() {
            let decoded = cubes.motion.decode_tick(&snapshot.surprises, |_| {});
            decoded.context("the surprises of a snapshot make no sense")?;
        }
        Ok(self.add(Some(known), payload, snapshot.tick, silent, cubes, truth))
    }

    fn add(
        &mut self,
        known: Option<&Rc<Belief>>,
        payload: &[u8],
        tick: u64,
        silent: Vec<(u64, u64)>,
        mut cubes: Cubes,
        truth: &impl Truth,
    ) -> Rc<Belief> {
        let score = truth
            .step(tick)
            .map(|step| cubes.check(step, truth))
            .unwrap_or_default();
        if tick > self.newest_tick {
            self.newest_tick = tick;
            self.newest.clear();
        }
        let alive = self.newest.iter().filter_map(Weak::upgrade);
        let same = alive
            .filter(|other| other.tick == tick && other.silent == silent)
            .find(|other| other.cubes == cubes && other.score == score);
        let belief = same.unwrap_or_else(|| {
            let belief = Rc::new(Belief {
                tick,
                score,
                silent,
                cubes,
                next: RefCell::default(),
            });
            self.newest.push(Rc::downgrade(&belief));
            belief
        });
        let entry = (Box::from(payload), Rc::clone(&belief));
        match known {
            Some(known) => known.next.borrow_mut().push(entry),
            None => self.first.push(entry),
        }
        belief
    }
}

impl Cubes {
    /// Compares every cube with the truth of a step, and the newest ones before it.
    fn check(&mut self, step: usize, truth: &impl Truth) -> Score {
        let mut score = Score::default();
        for (id, pose) in self.motion.poses() {
            let Some(client) = truth.client(id) else {
                continue;
            };
            let index = id.0 as usize;
            if self.seen.len() <= index {
                self.seen.resize(index + 1, 0);
            }
            let seen = &mut self.seen[index];
            score.compared += 1;
            let recent = (step.saturating_sub(LATE_STEPS)..=step).rev();
            let mut nearest = None;
            let mut found = None;
            for step in recent {
                let error = Error::between(pose, truth.pose(client, step));
                let nearer = nearest.is_none_or(|nearest: Error| error.quanta < nearest.quanta);
                if nearer || error.is_within(truth.bound()) {
                    nearest = Some(error);
                }
                if error.is_within(truth.bound()) {
                    found = Some(step);
                    break;
                }
            }
            score.largest = score.largest.max(nearest.unwrap_or_default());
            match found {
                None => score.wrong += 1,
                Some(found) if found < *seen => {}
                Some(found) => {
                    *seen = found + 1;
                    score.delivered += 1;
                    score.late += u64::from(found < step);
                    if let Some(sampled_us) = truth.sampled_us(client, found) {
                        score.add_sampled(sampled_us);
                    }
                }
            }
        }
        score
    }
}

impl Score {
    /// The part of the compared cubes whose sample was there in time; `None` before any step.
    pub(crate) fn in_time(&self) -> Option<f64> {
        let in_time = (self.delivered - self.late) as f64;
        (self.compared > 0).then_some(in_time / self.compared as f64)
    }

    fn add_sampled(&mut self, sampled_us: u64) {
        let sampled_us = sampled_us / SAMPLED_RESOLUTION_US * SAMPLED_RESOLUTION_US;
        match self.sampled.last_mut() {
            Some((last_us, count)) if *last_us == sampled_us => *count += 1,
            _ => self.sampled.push((sampled_us, 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use cubesync_protocol::motion::MotionState;
    use cubesync_protocol::{Colour, CubeInfo, CubeKind, Position};

    use super::*;

    /// One client that owns cube 1 and moves by one quantum each step; tick 10 is step 0.
    struct OneCube;

    fn at(x: i32) -> Pose {
        let position = Position { x, y: 0, z: 256 };
        Pose {
            position,
            ..Pose::default()
        }
    }

    impl Truth for OneCube {
        fn bound(&self) -> Error {
            Error::default()
        }
        fn client(&self, cube: CubeId) -> Option<usize> {
            (cube.0 == 1).then_some(0)
        }
        fn step(&self, tick: u64) -> Option<usize> {
            tick.checked_sub(10).map(|step| step as usize)
        }
        fn pose(&self, _client: usize, step: usize) -> Pose {
            at(step as i32)
        }
        fn sampled_us(&self, _client: usize, step: usize) -> Option<u64> {
            Some(step as u64 * 1_000)
        }
    }

    fn resting(cube: u32, x: i32) -> CubeInfo {
        CubeInfo {
            cube: CubeId(cube),
            kind: CubeKind::Player,
            name: "a".into(),
            colour: Colour::from([0; 3]),
            motion: MotionState::at_rest(at(x)),
        }
    }

    fn first(beliefs: &mut Beliefs, x: i32) -> Rc<Belief> {
        let cubes = vec![resting(0, x), resting(1, x)];
        let keyframe = Keyframe { tick: 9, cubes };
        beliefs.keyframe(None, &[x as u8], keyframe, &OneCube)
    }

    /// From this tick on cube 1 is believed to rest exactly at `x`.
    fn moved(tick: u64, x: i32) -> Snapshot {
        Snapshot {
            tick,
            events: vec![Event::Joined(resting(1, x))],
            ..Snapshot::default()
        }
    }

    #[test]
    fn states_are_counted_once_and_told_apart_as_right_late_and_wrong() {
        let mut beliefs = Beliefs::default();
        let known = first(&mut beliefs, 500);
        let mut next = |known: &Rc<Belief>, tick, x| {
            let payload = [tick as u8, x as u8];
            beliefs
                .snapshot(known, &payload, moved(tick, x), &OneCube)
                .unwrap()
        };
        let right = next(&known, 12, 2);
        assert_eq!((right.score.delivered, right.score.late), (1, 0));
        assert_eq!(right.score.sampled, [(2_000 / 64 * 64, 1)]);
        // Two silent ticks passed, and what it believed then was not the truth.
        assert_eq!(right.silent, [(10, 0), (11, 0)]);
        let late = next(&right, 14, 3);
        assert_eq!((late.score.delivered, late.score.late), (1, 1));
        let again = next(&late, 15, 3);
        assert_eq!((again.score.delivered, again.score.wrong), (0, 0));
        let wrong = next(&again, 16, 77);
        assert_eq!((wrong.score.delivered, wrong.score.wrong), (0, 1));
        assert_eq!(wrong.score.largest.quanta, 71);
    }

    #[test]
    fn clients_with_the_same_bytes_share_a_belief_and_others_find_back_to_it() {
        let mut beliefs = Beliefs::default();
        let (one, other) = (first(&mut beliefs, 5), first(&mut beliefs, 6));
        let same = beliefs.known_next(None, &[5]).unwrap();
        assert!(Rc::ptr_eq(&one, &same));
        assert!(beliefs.known_next(Some(&one), b"frame").is_none());
        let snapshot = || moved(10, 0);
        let after_one = beliefs
            .snapshot(&one, b"frame", snapshot(), &OneCube)
            .unwrap();
        let after_other = beliefs
            .snapshot(&other, b"frame", snapshot(), &OneCube)
            .unwrap();
        let known = beliefs.known_next(Some(&one), b"frame").unwrap();
        assert!(Rc::ptr_eq(&after_one, &known));
        // Cube 0, which nobody moves, still differs; nothing else does.
        assert!(!Rc::ptr_eq(&after_one, &after_other));
    }
    #[test]
    fn surprises_are_believed_and_silent_ticks_pass_as_believed() {
        let mut beliefs = Beliefs::default();
        let known = first(&mut beliefs, 4_000);
        let mut server = known.cubes.motion.clone();
        let mut known = known;
        // A jump, and from the next tick on a quantum each step.
        for (tick, x) in [(10, 0), (11, 1)] {
            server.advance(1);
            let still = server.pose(CubeId(0)).unwrap();
            let truth = |cube: CubeId| if cube.0 == 1 { at(x) } else { still };
            let mut surprises = Vec::new();
            server.encode_tick(truth, &mut surprises);
            let snapshot = Snapshot {
                tick,
                surprises: surprises.into(),
                ..Snapshot::default()
            };
            let payload = [tick as u8];
            known = beliefs
                .snapshot(&known, &payload, snapshot, &OneCube)
                .unwrap();
        }
        assert_eq!(known.cubes.motion, server);
        let heartbeat = Snapshot {
            tick: 14,
            ..Snapshot::default()
        };
        let known = beliefs.snapshot(&known, b"", heartbeat, &OneCube).unwrap();
        server.advance(3);
        assert_eq!(known.cubes.motion, server);
        assert_eq!(known.silent.len(), 2);
        let nonsense = Snapshot {
            tick: 15,
            surprises: vec![0xFF; 40].into(),
            ..Snapshot::default()
        };
        assert!(beliefs.snapshot(&known, b"x", nonsense, &OneCube).is_err());
    }
}
