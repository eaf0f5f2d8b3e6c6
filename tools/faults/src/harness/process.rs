//! What the kernel knows of a process.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Resource, Rlimit, Signal};

/// How often something that takes a moment is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// A process by its number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process(Pid);

impl Process {
    /// Of a child that has not been waited for.
    pub(crate) fn of(child: &std::process::Child) -> Self {
        Self(Pid::from_child(child))
    }

    /// Resident memory in KiB.
    pub(crate) fn resident_kib(self) -> Result<u64> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|value| value.trim().strip_suffix(" kB")?.parse().ok());
        kibibytes.context("no VmRSS for the server")
    }

    /// How many descriptors are open.
    pub(crate) fn descriptors(self) -> Result<u64> {
        let folder = fs::read_dir(self.path("fd")).context("the server has ended")?;
        Ok(folder.count() as u64)
    }

    /// CPU time used so far, to a hundredth of a second.
    pub(crate) fn cpu(self) -> Result<Duration> {
        let stat = self.read("stat")?;
        // The program's name stands in parentheses and may hold spaces.
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let hundredths = |index: usize| fields.get(index)?.parse::<u64>().ok();
        let (user, system) = hundredths(11).zip(hundredths(12)).context("bad stat")?;
        Ok(Duration::from_millis(10 * (user + system)))
    }

    /// Sends a signal.
    pub(crate) fn signal(self, signal: Signal) -> Result<()> {
        rustix::process::kill_process(self.0, signal).context("cannot send a signal")
    }

    /// Limits how many descriptors it may open; returns the limit before.
    pub(crate) fn limit_descriptors(self, limit: Option<u64>) -> Result<Option<u64>> {
        let set = |new| rustix::process::prlimit(Some(self.0), Resource::Nofile, new);
        let before = set(Rlimit {
            current: limit,
            maximum: rustix::process::getrlimit(Resource::Nofile).maximum,
        });
        Ok(before
            .context("cannot limit the server's descriptors")?
            .current)
    }

    fn path(self, entry: &str) -> String {
        format!("/proc/{}/{entry}", self.0.as_raw_nonzero())
    }

    fn read(self, entry: &str) -> Result<String> {
        fs::read_to_string(self.path(entry)).context("the server has ended")
    }
}

/// Lets this process open as many sockets as the system allows.
pub(crate) fn raise_descriptor_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let highest = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // With less, the faults that need more say so.
    let _ = rustix::process::setrlimit(Resource::Nofile, highest);
}

/// Looks again and again until there is something, for so long at most.
pub(crate) fn await_some<T>(within: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + within;
    loop {
        let found = look();
        if found.is_some() || Instant::now() >= deadline {
            return found;
        }
        std::thread::sleep(LOOK);
    }
}

/// Whether something comes true in time.
pub(crate) fn comes_true(within: Duration, mut look: impl FnMut() -> bool) -> bool {
    await_some(within, || look().then_some(())).is_some()
}
