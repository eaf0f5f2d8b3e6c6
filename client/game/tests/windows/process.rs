//! Programs under test, whose output is read and which end when they are dropped.

use std::cell::RefCell;
use std::env;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use cubesync_harness::programs::build_command;

/// Longest wait for anything. Only failing tests wait this long; windows that two busy cores draw in
/// software take seconds to open.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Repeats `look` until it returns something, and fails the test when that takes too long.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::sleep(LOOK_EVERY);
    }
}

/// A running program and the lines it prints.
pub(crate) struct Program {
    name: String,
    child: Child,
    lines: Receiver<String>,
    printed: RefCell<Vec<String>>,
}

impl Program {
    pub(crate) fn start(name: &str, command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let (sender, lines) = channel();
        read_lines(child.stdout.take().unwrap(), sender.clone());
        read_lines(child.stderr.take().unwrap(), sender);
        Self {
            name: name.to_owned(),
            child,
            lines,
            printed: RefCell::default(),
        }
    }

    /// Returns the result of `find` for the next line that it accepts. Lines before it are skipped
    /// for good, so waiting twice for the same words waits for two such lines.
    pub(crate) fn wait_for<T>(&self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(started.elapsed());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!(
                    "{} did not print {what}, only {:#?}",
                    self.name,
                    self.printed.borrow()
                );
            };
            let found = find(&line);
            self.printed.borrow_mut().push(line);
            if let Some(found) = found {
                return found;
            }
        }
    }

    /// Waits for a line with `part` in it.
    pub(crate) fn wait_for_line(&self, part: &str) -> String {
        self.wait_for(part, |line| line.contains(part).then(|| line.to_owned()))
    }
}

impl Drop for Program {
    /// Ends the program at once, as `kill -9` does.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends every line that a program prints until it ends.
fn read_lines(output: impl Read + Send + 'static, sender: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
}

/// Returns the server's program: `$CUBESYNC_SERVER_BIN`, if set. Cargo gives a test only the programs of its own
/// package, so otherwise this builds it, beside them and in their profile.
pub(crate) fn server_program() -> PathBuf {
    if let Some(program) = env::var_os("CUBESYNC_SERVER_BIN") {
        return program.into();
    }
    // Tests are in `deps`, which is in the folder of the programs.
    let test = env::current_exe().unwrap();
    let folder = test.ancestors().nth(2).unwrap();
    let mut build = build_command(&["cubesync-server"], folder.ends_with("release"));
    build.args(["--quiet", "--locked"]);
    assert!(
        build.status().unwrap().success(),
        "the server does not build"
    );
    folder.join("cubesync-server")
}
