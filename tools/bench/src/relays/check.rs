//! The predicted cubes of a cell, compared with the truth.

use cubesync_protocol::replica::CellStream;
use cubesync_protocol::{CubeId, Keyframe, Pose};

use crate::error::Error;
use crate::score::Score;
use crate::truth::Truth;

/// A state that is like the truth of one of this many steps before its own is late, not wrong:
/// 2 seconds at 20 Hz, which only an overload reaches.
const LATE_STEPS: usize = 40;

/// A client's replica of a cell's stream, and the newest step that it has delivered of each cube.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cubes {
    pub(crate) stream: CellStream,
    /// By rising cube id: the newest step that was delivered, plus one.
    seen: Vec<(CubeId, usize)>,
}

impl Cubes {
    /// Returns the replica after a keyframe, of whose cubes nothing has been delivered yet.
    pub(crate) fn new(keyframe: &Keyframe) -> Self {
        Self {
            stream: CellStream::from(keyframe),
            seen: Vec::new(),
        }
    }

    /// Advances as predicted to `until`, and returns the score of these ticks.
    pub(crate) fn pass(&mut self, until: u64, interval_ticks: u64, truth: &impl Truth) -> Score {
        let mut score = Score::default();
        for tick in self.stream.tick() + 1..=until {
            self.stream.advance_to(tick);
            if tick.is_multiple_of(interval_ticks)
                && truth.is_measured(tick)
                && let Some(step) = truth.step(tick)
            {
                score += self.check(step, truth, |_, _| {});
            }
        }
        score
    }

    /// Compares every cube with the truth of a step and of the ones before it, and calls `delivered` with
    /// the client and the step of each new state.
    pub(crate) fn check(
        &mut self,
        step: usize,
        truth: &impl Truth,
        mut delivered: impl FnMut(usize, usize),
    ) -> Score {
        let mut score = Score::default();
        let before = std::mem::take(&mut self.seen);
        let mut before = before.into_iter().peekable();
        self.seen.reserve(self.stream.motion().len());
        for (cube, pose) in self.stream.motion().poses() {
            let Some(client) = truth.client(cube) else {
                continue;
            };
            while before.next_if(|(other, _)| *other < cube).is_some() {}
            let seen = before.next_if(|(other, _)| *other == cube);
            let mut seen = seen.map_or(0, |(_, seen)| seen);
            score.expected += 1;
            match find_step(pose, client, step, truth) {
                Ok((found, error)) => {
                    score.largest = score.largest.max(error);
                    if found >= seen {
                        seen = found + 1;
                        score.delivered += 1;
                        score.late += u64::from(found < step);
                        delivered(client, found);
                    }
                }
                Err(error) => {
                    score.largest = score.largest.max(error);
                    score.wrong += 1;
                    let own = Error::between(pose, truth.pose(client, step));
                    score.loose += u64::from(own.is_within(truth.bound().twice()));
                }
            }
            self.seen.push((cube, seen));
        }
        score
    }
}

/// Returns the newest step up to `step` for which a pose is right, and its error; or else the error from
/// the nearest step.
fn find_step(
    pose: Pose,
    client: usize,
    step: usize,
    truth: &impl Truth,
) -> Result<(usize, Error), Error> {
    let mut nearest: Option<Error> = None;
    for step in (step.saturating_sub(LATE_STEPS)..=step).rev() {
        let error = Error::between(pose, truth.pose(client, step));
        if error.is_within(truth.bound()) {
            return Ok((step, error));
        }
        if nearest.is_none_or(|nearest| error.quanta < nearest.quanta) {
            nearest = Some(error);
        }
    }
    Err(nearest.unwrap_or_default())
}
