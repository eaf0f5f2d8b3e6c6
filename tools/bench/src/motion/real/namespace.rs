//! Networks apart from the machine's own, and threads that are woken on time.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::gettid;

/// A network namespace without a name: the kernel removes it, and the devices in it, when no thread and
/// no descriptor refers to it any more, however this program ends.
#[derive(Debug)]
pub(super) struct Namespace {
    file: File,
}

impl Namespace {
    /// Makes a namespace and moves the calling thread into it.
    pub(super) fn new() -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET)
            .context("cannot make a network namespace; only root may")?;
        ip("link set lo up")?;
        let file = File::open("/proc/thread-self/ns/net").context("no namespaces in /proc")?;
        Ok(Self { file })
    }

    /// Moves the calling thread into the namespace. Sockets that it makes, threads and programs that it
    /// starts are in it as well.
    pub(super) fn enter(&self) -> Result<()> {
        setns(&self.file, CloneFlags::CLONE_NEWNET).context("cannot enter a network namespace")
    }
}

/// Runs `ip` in the namespace of the calling thread.
pub(super) fn ip(arguments: &str) -> Result<()> {
    run(Command::new("ip").args(arguments.split(' ')))
}

/// Makes the scheduler wake the calling thread, and those that it starts, before any other. They sleep
/// nearly always and measure time, so other work on this machine must not delay them: beside compilers,
/// even at nice -10 one wake-up in a thousand comes 50 ms late.
pub(super) fn be_punctual() -> Result<()> {
    let thread = gettid().to_string();
    let [policy, priority] = policy();
    run(Command::new("chrt").args([policy, "--pid", priority, &thread]))
}

/// Returns a command that runs a program as punctually, and no longer than the calling thread.
pub(super) fn punctual(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "chrt"])
        .args(policy())
        .arg(program);
    command
}

/// The priority among real-time threads, which counts only beside others of them.
const PRIORITY: &str = "10";

/// Returns `chrt`'s options for punctual threads: ordinary ones where the machine allows no others, as
/// some containers do.
fn policy() -> [&'static str; 2] {
    static POLICY: OnceLock<[&str; 2]> = OnceLock::new();
    *POLICY.get_or_init(|| {
        let real_time = ["--fifo", PRIORITY];
        match run(Command::new("chrt").args(real_time).arg("true")) {
            Ok(()) => real_time,
            Err(error) => {
                eprintln!("without real-time priority, so other work disturbs this: {error}");
                ["--other", "0"]
            }
        }
    })
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}", error.trim());
    Ok(())
}
