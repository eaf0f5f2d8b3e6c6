//! The client under test as a process, whatever its language.

use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cubesync_harness::wait::wait_for;
use rustix::process::{Pid, Signal, kill_process_group};

/// Output of a client that is kept: more than enough for what it says in a case.
const MAX_OUTPUT_BYTES: usize = 64 * 1024;
/// Longest wait for the output of a client that has ended.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Words by which the runtimes of common languages report that a program has failed inside.
const CRASHES: [&str; 6] = [
    "panicked at",
    "Traceback (most recent call last)",
    "Uncaught",
    "AddressSanitizer",
    "Exception in thread",
    "goroutine 1 [running]",
];

/// Where a client is to connect, and which cube it is to follow.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) port: u16,
    pub(crate) follow: String,
}

/// A client that has been started. It is ended with this.
pub(crate) trait Client: Send {
    /// Returns how it ended, in words, or `None` while it runs.
    fn ended(&mut self) -> Option<String>;
    /// Returns what it has printed.
    fn output(&self) -> String;
    /// Returns how it failed inside, in words, if it did.
    fn crash(&mut self) -> Option<String>;
}

/// Starts a client for a case.
pub(crate) type Start = dyn Fn(&Task) -> Result<Box<dyn Client>> + Sync;

/// Returns what starts a command, in which the task's values replace placeholders.
pub(crate) fn command(words: Vec<String>) -> Result<Box<Start>> {
    ensure!(
        words.iter().any(|word| ["{port}", "{address}", "{url}"]
            .iter()
            .any(|name| word.contains(name))),
        "the command must tell the client where to connect: by {{address}}, {{host}} and {{port}}, or {{url}}"
    );
    Ok(Box::new(move |task| {
        let words: Vec<_> = words.iter().map(|word| filled(word, task)).collect();
        Ok(Box::new(Process::start(&words)?))
    }))
}

fn filled(word: &str, task: &Task) -> String {
    let Task { port, follow } = task;
    word.replace("{host}", "127.0.0.1")
        .replace("{port}", &port.to_string())
        .replace("{address}", &format!("127.0.0.1:{port}"))
        .replace("{url}", &format!("ws://127.0.0.1:{port}/ws"))
        .replace("{follow}", follow)
}

/// A client in a process, with its children in a group of their own.
struct Process {
    child: Child,
    output: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Process {
    fn start(words: &[String]) -> Result<Self> {
        let (mut reader, writer) = std::io::pipe()?;
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .process_group(0);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", words[0]))?;
        // It holds the pipe's other end, which would never end.
        drop(command);
        let output = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&output);
        let reader = thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                let room = MAX_OUTPUT_BYTES.saturating_sub(kept.len());
                kept.extend_from_slice(&bytes[..count.min(room)]);
            }
        });
        Ok(Self {
            child,
            output,
            reader,
        })
    }
}

impl Client for Process {
    fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        // Its last words may still be in the pipe, which children of it may hold open for ever.
        wait_for(LAST_WORDS, || self.reader.is_finished().then_some(()));
        Some(status.to_string())
    }

    fn output(&self) -> String {
        let output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&output).into_owned()
    }

    fn crash(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten();
        if let Some(signal) = status.and_then(|status| status.signal()) {
            return Some(format!("it was ended by signal {signal}"));
        }
        let output = self.output();
        let line = output
            .lines()
            .find(|line| CRASHES.iter().any(|crash| line.contains(crash)))?;
        Some(format!("it failed inside: {line}"))
    }
}

impl Drop for Process {
    /// Ends the client and its children.
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // Fails only if all of them have ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}
