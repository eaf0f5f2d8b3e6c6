//! A process as the kernel sees it.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cubesync_harness::{Program, usage};
use rustix::process::{Pid, Resource, Rlimit, Signal};

/// A process by its number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process(Pid);

impl Process {
    /// Returns the process of a program that has not been waited for.
    pub(crate) fn of(program: &Program) -> Self {
        let id = i32::try_from(program.id()).ok().and_then(Pid::from_raw);
        Self(id.expect("a process that runs has a positive number"))
    }

    /// Returns the resident memory in KiB.
    pub(crate) fn resident_kib(self) -> Result<u64> {
        Ok(usage::resident_bytes(self.id())? / 1024)
    }

    /// Returns the number of open descriptors.
    pub(crate) fn descriptors(self) -> Result<u64> {
        let folder =
            fs::read_dir(format!("/proc/{}/fd", self.id())).context("the server has ended")?;
        Ok(folder.count() as u64)
    }

    /// Returns the CPU time used so far.
    pub(crate) fn cpu(self) -> Result<Duration> {
        usage::process_cpu(self.id())
    }

    /// Sends a signal.
    pub(crate) fn signal(self, signal: Signal) -> Result<()> {
        rustix::process::kill_process(self.0, signal).context("cannot send a signal")
    }

    /// Limits how many descriptors the process may open, and returns the previous limit.
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

    fn id(self) -> u32 {
        self.0.as_raw_nonzero().get().unsigned_abs()
    }
}

/// Lets the calling thread run before all others (`SCHED_FIFO`).
pub(crate) fn run_first() -> Result<()> {
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    let status = Command::new("chrt")
        .args(["--fifo", "--pid", "1", &thread])
        .status()
        .context("cannot run chrt")?;
    ensure!(status.success(), "the system gives no thread precedence");
    Ok(())
}

/// The precedence of the programs of this session before those of others, who share the processors with it
/// as a whole where the kernel groups programs by session (`sched_autogroup_enabled`). Dropping it gives it
/// back.
#[derive(Debug)]
pub(crate) struct SessionPrecedence(());

impl SessionPrecedence {
    const FILE: &str = "/proc/self/autogroup";

    /// Takes it. Only root may do so. A program whose session is that of the first program is in no group,
    /// and its file is empty: its priority alone counts.
    pub(crate) fn take() -> Result<Self> {
        let is_in_a_group = fs::read_to_string(Self::FILE).is_ok_and(|group| !group.is_empty());
        if is_in_a_group {
            fs::write(Self::FILE, "-15").context("this session cannot come first")?;
        }
        Ok(Self(()))
    }

    /// Gives it back, if it was taken.
    pub(crate) fn give_back() {
        // There are no groups, or the session is as it was.
        let _ = fs::write(Self::FILE, "0");
    }
}

impl Drop for SessionPrecedence {
    fn drop(&mut self) {
        Self::give_back();
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
