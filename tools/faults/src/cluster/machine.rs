//! The processes of a cluster: nats-servers and cubesync-servers, here or in a network of their own.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::harness::process::{Process, await_some};
use crate::harness::server::free_address;
use crate::harness::web;

/// What does not answer after this long has failed.
const START_WITHIN: Duration = Duration::from_secs(20);

/// A program that can be stopped and started again. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Program {
    /// The whole command line.
    line: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
    /// Where it answers.
    pub(super) address: SocketAddr,
}

impl Program {
    /// Starts one, in the network `netns` where one is named.
    fn start(
        netns: Option<&str>,
        mut line: Vec<String>,
        log: PathBuf,
        address: SocketAddr,
    ) -> Result<Self> {
        if let Some(name) = netns {
            let prefix = ["ip", "netns", "exec", name].map(str::to_owned);
            line.splice(0..0, prefix);
        }
        let mut program = Self {
            line,
            log,
            child: None,
            address,
        };
        program.start_again()?;
        Ok(program)
    }

    /// Starts it again as it was; it must have ended.
    pub(super) fn start_again(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let child = Command::new(&self.line[0])
            .args(&self.line[1..])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot run {}", self.line[0]))?;
        self.child = Some(child);
        let address = self.address;
        let answers = await_some(START_WITHIN, || TcpStream::connect(address).ok());
        if answers.is_none() {
            bail!("no answer from {:?}: {}", self.line, self.said());
        }
        Ok(())
    }

    /// Sends a signal.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().context("it does not run")?;
        Process::of(child).signal(signal)
    }

    /// Kills it.
    pub(super) fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// How it ended, if it does in time.
    pub(super) fn ended(&mut self, within: Duration) -> Option<ExitStatus> {
        let child = self.child.as_mut()?;
        let status = await_some(within, || child.try_wait().ok().flatten())?;
        self.child = None;
        Some(status)
    }

    /// Whether a word is in what it has said.
    pub(super) fn has_said(&self, word: &str) -> bool {
        std::fs::read_to_string(&self.log).is_ok_and(|text| text.contains(word))
    }

    /// The last of what it has said.
    pub(super) fn said(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It fails only when it is gone already. Whatever was stopped dies of this, too.
        let _ = self.kill();
    }
}

/// Where programs run: on which address, and in which network.
#[derive(Debug, Clone, Copy)]
pub(super) struct Site<'a> {
    pub(super) address: IpAddr,
    pub(super) netns: Option<&'a str>,
    pub(super) folder: &'a Path,
}

impl<'a> Site<'a> {
    /// This machine's loopback.
    pub(super) fn here(folder: &'a Path) -> Self {
        Self {
            address: Ipv4Addr::LOCALHOST.into(),
            netns: None,
            folder,
        }
    }

    /// A nats-server with further flags.
    pub(super) fn nats(self, flags: &[String]) -> Result<Program> {
        let address = SocketAddr::new(self.address, free_address()?.port());
        let line = [
            "nats-server".to_owned(),
            format!("--addr={}", self.address),
            format!("--port={}", address.port()),
        ];
        let line = line.into_iter().chain(flags.iter().cloned()).collect();
        let log = self.folder.join(format!("nats-{}", address.port()));
        Program::start(self.netns, line, log, address)
    }

    /// A cubesync-server on a bus.
    pub(super) fn server(self, binary: &Path, bus: SocketAddr) -> Result<Program> {
        let [tcp, http] = [free_address()?, free_address()?]
            .map(|free| SocketAddr::new(self.address, free.port()));
        let line = vec![
            binary.display().to_string(),
            format!("--listen={tcp}"),
            format!("--http={http}"),
            format!("--bus=nats://{bus}"),
        ];
        let log = self.folder.join(format!("server-{}", tcp.port()));
        let program = Program::start(self.netns, line, log, tcp)?;
        let answers = await_some(START_WITHIN, || web::get(http, "/healthz").ok());
        answers.with_context(|| format!("the server does not answer: {}", program.said()))?;
        Ok(program)
    }
}
