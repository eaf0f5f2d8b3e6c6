//! Faults of a cluster, tried on a nats-server, three servers and players on each. After each of them all
//! players must see each other again, and their views must be the world of the room's owner.

mod faults;
mod intruder;
mod island;
mod machine;

use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::runner::{Verdict, is_here};

/// Number of players in a thorough run, and of faults at the same time: one, so that times are those of the
/// cluster.
const THOROUGH: (usize, usize) = (60, 1);
/// The same in a quick run.
const QUICK: (usize, usize) = (12, 4);

/// A fault of a cluster.
struct Fault {
    /// The unique name, for `--only`.
    name: &'static str,
    needs: &'static [&'static str],
    /// Does it, checks that the cluster heals, and describes it.
    run: fn(&Trial<'_>) -> Result<String>,
}

impl Fault {
    const fn new(name: &'static str, run: fn(&Trial<'_>) -> Result<String>) -> Self {
        Self {
            name,
            needs: &["nats-server"],
            run,
        }
    }

    const fn needs_root(mut self) -> Self {
        self.needs = &["nats-server", "root", "ip"];
        self
    }
}

/// One trial of a fault.
struct Trial<'a> {
    /// The server program.
    binary: &'a Path,
    /// The folder for logs and configurations.
    folder: &'a Path,
    /// Number of players.
    players: usize,
    is_quick: bool,
}

impl Trial<'_> {
    /// Returns the time in seconds for a quick run or the one for a thorough run.
    fn pick(&self, quick_s: u64, thorough_s: u64) -> Duration {
        Duration::from_secs(if self.is_quick { quick_s } else { thorough_s })
    }
}

/// The result of a fault.
#[derive(Debug, Serialize)]
struct Line {
    fault: &'static str,
    saw: String,
    took_s: f64,
    #[serde(flatten)]
    verdict: Verdict,
}

/// Tries the faults whose names contain one of `only`, several at a time. Returns whether the cluster
/// survived all of them.
pub(crate) fn run(
    binary: &Path,
    only: &[String],
    is_quick: bool,
    json: Option<&Path>,
) -> Result<bool> {
    let is_wanted = |fault: &&Fault| {
        only.is_empty() || only.iter().any(|part| fault.name.contains(part.as_str()))
    };
    let wanted: Vec<_> = faults::FAULTS.iter().filter(is_wanted).collect();
    ensure!(!wanted.is_empty(), "no fault of a cluster has such a name");
    let (players, at_once) = if is_quick { QUICK } else { THOROUGH };
    println!("{players} players on three servers, who walk and see each other");
    if is_quick {
        println!(
            "(quick: a cut, a pause or a silence lasts for 8 s, not for a minute or half of one)"
        );
    }
    let (next, lines) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..at_once.min(wanted.len()) {
            scope.spawn(|| {
                while let Some(fault) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let line = try_one(fault, binary, is_quick);
                    let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                    lines.push(line);
                }
            });
        }
    });
    let lines = lines.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(file) = json {
        let text = serde_json::to_string_pretty(&lines)?;
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let is_well = |line: &Line| matches!(line.verdict, Verdict::Survived);
    Ok(lines.iter().all(is_well))
}

fn try_one(fault: &Fault, binary: &Path, is_quick: bool) -> Line {
    let began = Instant::now();
    let missing: Vec<_> = fault.needs.iter().filter(|need| !is_here(need)).collect();
    let (saw, verdict) = if missing.is_empty() {
        match in_a_folder(fault, binary, is_quick) {
            Ok(saw) => (saw, Verdict::Survived),
            Err(error) => (String::new(), Verdict::Failed(format!("{error:#}"))),
        }
    } else {
        (String::new(), Verdict::NotRun(format!("needs {missing:?}")))
    };
    let line = Line {
        fault: fault.name,
        saw,
        took_s: began.elapsed().as_secs_f64(),
        verdict,
    };
    let verdict = match &line.verdict {
        Verdict::Survived => format!("ok: {}", line.saw),
        Verdict::Failed(why) => format!("FAILED: {why}"),
        Verdict::NotRun(why) => format!("not run: {why}"),
    };
    println!("{:<20} {:5.1} s  {verdict}", line.fault, line.took_s);
    line
}

fn in_a_folder(fault: &Fault, binary: &Path, is_quick: bool) -> Result<String> {
    let name = format!("cubesync-cluster-{}-{}", std::process::id(), fault.name);
    let folder = &std::env::temp_dir().join(name);
    std::fs::create_dir_all(folder).context("no folder for logs")?;
    let (players, _) = if is_quick { QUICK } else { THOROUGH };
    let trial = Trial {
        binary,
        folder,
        players,
        is_quick,
    };
    let saw = (fault.run)(&trial).with_context(|| format!("logs are in {}", folder.display()))?;
    // A fault that failed keeps its logs.
    let _ = std::fs::remove_dir_all(folder);
    Ok(saw)
}
