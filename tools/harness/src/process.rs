//! A started program, which ends with its guard.

use std::process::{Child, ChildStdout, Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::wait::wait_for;

/// A program that runs until it ends by itself or its `Program` is dropped.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
}

impl Program {
    /// Starts `command`. Messages call it `name`.
    pub fn start(name: impl Into<String>, command: &mut Command) -> Result<Self> {
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let name = name.into();
        Ok(Self { name, child })
    }

    /// Returns the name of the program in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Takes the program's standard output, if the command piped it and nobody has taken it yet.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Returns how the program ended, or `None` while it runs. Never blocks.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .with_context(|| format!("cannot check {}", self.name))
    }

    /// Returns how the program ended, or `None` if it still runs after `within`.
    pub fn ends_within(&mut self, within: Duration) -> Option<ExitStatus> {
        wait_for(within, || self.child.try_wait().ok().flatten())
    }

    /// Waits until `is_ready` returns true.
    ///
    /// # Errors
    ///
    /// The program ends meanwhile, or is not ready after `within`.
    pub fn wait_until(
        &mut self,
        within: Duration,
        mut is_ready: impl FnMut() -> bool,
    ) -> Result<()> {
        let outcome = wait_for(within, || {
            if is_ready() {
                return Some(Ok(None));
            }
            self.ended().map(|ended| ended.map(Some)).transpose()
        });
        let name = &self.name;
        match outcome.transpose()? {
            Some(None) => Ok(()),
            Some(Some(status)) => bail!("{name} ended before it was ready ({status})"),
            None => bail!("{name} is not ready after {} s", within.as_secs()),
        }
    }
}

impl Drop for Program {
    /// Kills the program if it still runs and reaps it. Both calls fail only on a program that has
    /// ended already.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    /// Returns a program that every machine with tests has, and that waits for its standard input.
    fn waiting_program() -> Command {
        let mut command = Command::new("rustc");
        command.arg("-").stdin(Stdio::piped());
        command
    }

    /// Returns a program that ends by itself.
    fn ending_program() -> Command {
        let mut command = Command::new("rustc");
        command.arg("--version").stdout(Stdio::null());
        command
    }

    #[test]
    fn running_program_has_not_ended() {
        let mut program = Program::start("rustc", &mut waiting_program()).unwrap();
        assert!(program.ended().unwrap().is_none());
        assert!(program.ends_within(Duration::ZERO).is_none());
    }

    #[test]
    fn end_of_a_program_is_noticed() {
        let mut program = Program::start("rustc", &mut ending_program()).unwrap();
        let status = program.ends_within(Duration::from_secs(30));
        assert!(status.unwrap().success());
    }

    #[cfg(unix)]
    #[test]
    fn dropped_program_is_killed_and_reaped() {
        let program = Program::start("rustc", &mut waiting_program()).unwrap();
        let id = program.id();
        drop(program);
        // Signal 0 only asks whether the process exists; a zombie would still answer.
        let exists = Command::new("sh")
            .args(["-c", &format!("kill -0 {id}")])
            .output();
        assert!(!exists.unwrap().status.success());
    }

    #[test]
    fn missing_program_is_named() {
        let error = Program::start("ghost", &mut Command::new("cubesync-no-such-program"));
        let text = format!("{:#}", error.err().unwrap());
        assert!(text.contains("cubesync-no-such-program"), "{text}");
    }

    #[test]
    fn waiting_ends_when_the_program_is_ready() {
        let mut program = Program::start("rustc", &mut waiting_program()).unwrap();
        let mut is_ready = [false, true].into_iter();
        program
            .wait_until(Duration::from_secs(30), || is_ready.next().unwrap())
            .unwrap();
    }

    #[test]
    fn waiting_for_a_program_that_ends_or_hangs_fails() {
        let mut ending = Program::start("the server", &mut ending_program()).unwrap();
        let error = ending.wait_until(Duration::from_secs(30), || false);
        let text = error.unwrap_err().to_string();
        assert!(text.contains("the server ended before"), "{text}");

        let mut hanging = Program::start("the server", &mut waiting_program()).unwrap();
        let error = hanging.wait_until(Duration::ZERO, || false);
        let text = error.unwrap_err().to_string();
        assert!(text.contains("the server is not ready"), "{text}");
    }
}
