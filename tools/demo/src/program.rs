//! The programs that a demo starts. None of them outlives it.

use std::process::{Child, Command, ExitStatus};

use anyhow::{Context, Result};

/// A program that runs until it ends by itself or its `Program` is dropped.
pub(crate) struct Program {
    name: &'static str,
    child: Child,
}

impl Program {
    /// Starts `command`, which shares our standard output and error. Messages call it `name`.
    pub(crate) fn start(name: &'static str, command: &mut Command) -> Result<Self> {
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Self { name, child })
    }

    /// Returns the name of the program in messages.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns how the program ended, or `None` while it runs. Never blocks.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .with_context(|| format!("cannot check {}", self.name))
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

/// Returns a program that every machine with tests has, and that waits for its standard input.
#[cfg(test)]
pub(crate) fn waiting_program() -> Command {
    let mut command = Command::new("rustc");
    command.arg("-").stdin(std::process::Stdio::piped());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_program_has_not_ended() {
        let mut program = Program::start("rustc", &mut waiting_program()).unwrap();
        assert!(program.ended().unwrap().is_none());
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
}
