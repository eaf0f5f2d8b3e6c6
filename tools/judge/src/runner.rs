//! Runs cases, several at a time, each with a port and a client of its own.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::cases::{Ability, Case, Need};
use crate::client::Start;
use crate::trial::Trial;
use cubesync_protocol::Encoding;

/// The client under test, as its author describes it.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    pub(crate) encoding: Encoding,
    pub(crate) is_web: bool,
    pub(crate) abilities: Vec<Ability>,
}

/// The outcome of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Right,
    /// The words of what the client did, and the end of the conversation.
    Wrong {
        words: String,
        transcript: Vec<String>,
    },
    /// The ability that the client is not said to have.
    NotApplicable(String),
}

/// Runs cases and returns their verdicts in the same order. Calls `done` with each as it is known.
pub(crate) fn run(
    cases: &[Case],
    profile: &Profile,
    start: &Start,
    jobs: usize,
    done: impl Fn(&Case, &Verdict) + Sync,
) -> Vec<Verdict> {
    let next = AtomicUsize::new(0);
    let verdicts = Mutex::new(vec![None; cases.len()]);
    thread::scope(|scope| {
        for _ in 0..jobs.min(cases.len()) {
            scope.spawn(|| {
                while let Some((index, case)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    cases.get(index).map(|case| (index, case))
                } {
                    let verdict = judge(case, profile, start);
                    done(case, &verdict);
                    if let Ok(mut verdicts) = verdicts.lock() {
                        verdicts[index] = Some(verdict);
                    }
                }
            });
        }
    });
    let verdicts = verdicts.into_inner().unwrap_or_default();
    verdicts.into_iter().flatten().collect()
}

/// Runs one case.
fn judge(case: &Case, profile: &Profile, start: &Start) -> Verdict {
    if let Some(missing) = case.needs.iter().find_map(|need| missing(*need, profile)) {
        return Verdict::NotApplicable(missing);
    }
    let trial = Trial::new(start, profile.encoding, profile.is_web);
    let mut trial = match trial {
        Ok(trial) => trial,
        Err(error) => return wrong(&error, Vec::new()),
    };
    let outcome = (case.run)(&mut trial).and_then(|()| trial.is_sound());
    match outcome {
        Ok(()) => Verdict::Right,
        Err(error) => wrong(&error, trial.transcript()),
    }
}

fn wrong(error: &anyhow::Error, transcript: Vec<String>) -> Verdict {
    let words = format!("{error:#}");
    Verdict::Wrong { words, transcript }
}

/// Returns what the client lacks, in words.
fn missing(need: Need, profile: &Profile) -> Option<String> {
    match need {
        Need::Can(ability) if !profile.abilities.contains(&ability) => {
            Some(format!("needs --can {ability:?}").to_lowercase())
        }
        Need::Uses(encoding) if encoding != profile.encoding => {
            Some(format!("is about the {encoding:?} encoding").to_lowercase())
        }
        Need::Web if !profile.is_web => Some("is about WebSockets".to_owned()),
        _ => None,
    }
}
