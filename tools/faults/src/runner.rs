//! Runs one fault after the other, with measurements before and after each.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cubesync_harness::programs::find_installed;
use cubesync_harness::wait::comes_true;
use serde::Serialize;

use crate::fault::{Count, Fault, Impact, Outcome};
use crate::harness::bystanders::{Bystanders, Lags};
use crate::harness::counters::Counters;
use crate::harness::server::Server;
use crate::harness::trial::Trial;

/// Largest growth of memory, in KiB, that counts as none: the names and the ghosts of the players of the
/// last seconds still take memory.
pub(crate) const MEMORY_TOLERANCE_KIB: u64 = 4 * 1024;
/// Counters, memory and descriptors must reach their expected values in this time.
const SETTLE_WITHIN: Duration = Duration::from_secs(10);
/// How often the counters are read.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// A p99 that grows by more than this factor is marked.
const NOTICEABLE: f64 = 1.2;

/// The verdict on a fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "verdict", content = "why")]
pub(crate) enum Verdict {
    /// The server survived it as it must.
    Survived,
    /// The server did not.
    Failed(String),
    /// A program or a right is missing on this machine.
    NotRun(String),
}

/// The result of a fault.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) list: &'static str,
    pub(crate) fault: &'static str,
    pub(crate) saw: String,
    /// The counters of the fault and by how much they grew.
    pub(crate) counted: String,
    pub(crate) before: Option<Lags>,
    pub(crate) after: Option<Lags>,
    /// Resident memory before and after, in KiB.
    pub(crate) memory_kib: Option<[u64; 2]>,
    pub(crate) took_s: f64,
    #[serde(flatten)]
    pub(crate) verdict: Verdict,
}

impl Line {
    /// Returns whether the bystanders could notice the fault.
    pub(crate) fn is_noticed(&self) -> bool {
        let both = self.before.zip(self.after);
        both.is_some_and(|(before, after)| after.p99_ms > NOTICEABLE * before.p99_ms)
    }
}

/// The runner, which keeps the server from one fault to the next.
pub(crate) struct Runner<'a> {
    binary: &'a Path,
    is_quick: bool,
    /// The running server with its bystanders, in the order in which they must end.
    running: Option<(Bystanders, Server)>,
}

/// The values that a fault must leave as they are.
struct Normal {
    counters: Counters,
    joins: u64,
    memory_kib: u64,
    descriptors: u64,
    lags: Lags,
}

impl<'a> Runner<'a> {
    pub(crate) fn new(binary: &'a Path, is_quick: bool) -> Self {
        Self {
            binary,
            is_quick,
            running: None,
        }
    }

    /// Runs a fault. Any error becomes its verdict.
    pub(crate) fn run(&mut self, list: &'static str, fault: &Fault) -> Line {
        let began = Instant::now();
        let mut line = Line {
            list,
            fault: fault.name,
            saw: String::new(),
            counted: String::new(),
            before: None,
            after: None,
            memory_kib: None,
            took_s: 0.0,
            verdict: Verdict::Survived,
        };
        let missing: Vec<_> = fault.needs.iter().filter(|need| !is_here(need)).collect();
        if !missing.is_empty() {
            line.verdict = Verdict::NotRun(format!("needs {missing:?}"));
        } else if let Err(error) = self.try_run(fault, &mut line) {
            line.verdict = Verdict::Failed(format!("{error:#}"));
            // The next fault begins with a new server.
            self.running = None;
        }
        line.took_s = began.elapsed().as_secs_f64();
        line
    }

    fn try_run(&mut self, fault: &Fault, line: &mut Line) -> Result<()> {
        let window = Duration::from_millis(if self.is_quick { 300 } else { 3_000 });
        let is_right = |server: &Server| server.setup() == fault.setup;
        if !self
            .running
            .as_ref()
            .is_some_and(|(_, server)| is_right(server))
        {
            self.running = None;
            let server = Server::start(self.binary, fault.setup, self.is_quick)?;
            self.running = Some((Bystanders::join(server.tcp, fault.setup.join_key)?, server));
        }
        let (bystanders, server) = self.running.as_mut().context("a server was started")?;
        let normal = Normal {
            lags: bystanders.watch(window),
            counters: server.counters()?,
            joins: bystanders.joins(),
            memory_kib: server.process().resident_kib()?,
            descriptors: server.process().descriptors()?,
        };
        line.before = Some(normal.lags);
        let began = Instant::now();
        let mut trial = Trial {
            server,
            bystanders,
            is_quick: self.is_quick,
            binary: self.binary,
        };
        let outcome = (fault.run)(&mut trial)?;
        line.saw = outcome.saw.clone();
        if fault.impact != Impact::Nothing {
            ensure!(bystanders.are_back(), "the bystanders do not come back");
        }
        std::thread::sleep(window);
        line.after = Some(bystanders.between(began, Instant::now()));
        ensure!(
            trial.server.ended(Duration::ZERO).is_none(),
            "the process has ended"
        );
        if fault.impact == Impact::Nothing {
            let is_whole = bystanders.are_playing() && bystanders.joins() == normal.joins;
            ensure!(is_whole, "a bystander was cut off");
            line.counted = settled_counters(trial.server, fault, &outcome, &normal.counters)?;
        }
        if fault.impact != Impact::Process {
            let [before, after] = [normal.memory_kib, memory_after(&mut trial, fault, &normal)?];
            line.memory_kib = Some([before, after]);
            let process = trial.server.process();
            let descriptors = || process.descriptors().unwrap_or(u64::MAX);
            ensure!(
                comes_true(SETTLE_WITHIN, || descriptors() <= normal.descriptors),
                "{} descriptors are open, there were {}",
                descriptors(),
                normal.descriptors
            );
        }
        Ok(())
    }
}

/// Returns the memory after a fault, in KiB. An allocator may keep what a crowd once needed, but a leak
/// takes more each time: where memory has grown, the fault is repeated and must not need more.
fn memory_after(trial: &mut Trial<'_>, fault: &Fault, normal: &Normal) -> Result<u64> {
    let process = trial.server.process();
    let memory = || process.resident_kib().unwrap_or(u64::MAX);
    let comes_below = |limit| comes_true(SETTLE_WITHIN, || memory() <= limit);
    if comes_below(normal.memory_kib + MEMORY_TOLERANCE_KIB) {
        return Ok(memory());
    }
    let once = memory();
    (fault.run)(trial)?;
    ensure!(
        comes_below(once + MEMORY_TOLERANCE_KIB),
        "memory was {} KiB, then {once}, then {} KiB",
        normal.memory_kib,
        memory()
    );
    Ok(memory())
}

/// Waits until the fault is counted as it must be, checks that nothing else is, and describes the counts.
fn settled_counters(
    server: &Server,
    fault: &Fault,
    outcome: &Outcome,
    before: &Counters,
) -> Result<String> {
    if fault.counters.is_empty() {
        return Ok("-".into());
    }
    let mut counters = server.counters()?;
    let is_counted = |counters: &Counters| {
        let grown = counters.growth(before, fault.counters);
        match outcome.faulty {
            Count::Exactly(count) => grown == count,
            Count::AtLeast(count) => grown >= count,
        }
    };
    comes_true(SETTLE_WITHIN, || {
        if is_counted(&counters) {
            return true;
        }
        // Reading without a pause would load the server.
        std::thread::sleep(ASK_AGAIN);
        if let Ok(now) = server.counters() {
            counters = now;
        }
        false
    });
    let grown = counters.growth(before, fault.counters);
    let names = fault.counters.join(", ");
    if !is_counted(&counters) {
        let all = counters.all_since(before);
        let wanted = outcome.faulty;
        bail!(
            "{names} went up by {grown}, not by {wanted:?} (saw {}; {all})",
            outcome.saw
        );
    }
    // A client that leaves is no fault.
    let is_explained =
        |reason: &str| reason == "left" || [fault.counters, fault.also].concat().contains(&reason);
    let other = counters
        .disconnects_since(before)
        .into_iter()
        .find(|(reason, _)| !is_explained(reason));
    if let Some((reason, count)) = other {
        bail!("{names} went up by {grown} as it should, but {reason} by {count} too");
    }
    let each = |name: &&str| match counters.growth(before, &[name]) {
        0 => None,
        grown => Some(format!("{name} +{grown}")),
    };
    let counted: Vec<String> = fault.counters.iter().filter_map(each).collect();
    Ok(counted.join(", "))
}

/// Returns whether a program is installed, or for `root`, whether this process runs as root.
pub(crate) fn is_here(need: &str) -> bool {
    if need == "root" {
        return rustix::process::geteuid().is_root();
    }
    find_installed(need).is_some()
}
