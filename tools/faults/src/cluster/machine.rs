//! The processes of a cluster: nats-servers and cubesync-servers, here or in a network of their own.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use cubesync_harness::programs::free_address;
use cubesync_harness::{Program, http};
use rustix::process::Signal;

use crate::harness::process::Process;

/// A server that does not answer after this long has failed.
const START_WITHIN: Duration = Duration::from_secs(20);

/// A server that can be stopped and started again. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Service {
    /// The whole command line.
    line: Vec<String>,
    log: PathBuf,
    program: Option<Program>,
    /// The address on which it listens.
    pub(super) address: SocketAddr,
}

impl Service {
    /// Starts a server that listens on `address`, in the network `netns` if there is one.
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
        let mut service = Self {
            line,
            log,
            program: None,
            address,
        };
        service.start_again()?;
        Ok(service)
    }

    /// Starts the server again with the same command line; it must have ended.
    pub(super) fn start_again(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.line[0]);
        command
            .args(&self.line[1..])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let address = self.address;
        self.program = Some(Program::start(self.line[0].as_str(), &mut command)?);
        self.wait_until(|| TcpStream::connect(address).is_ok())
    }

    fn wait_until(&mut self, is_ready: impl FnMut() -> bool) -> Result<()> {
        let program = self.program.as_mut().context("the server does not run")?;
        let outcome = program.wait_until(START_WITHIN, is_ready);
        outcome.with_context(|| format!("its log: {}", self.last_log_lines()))
    }

    /// Sends a signal to the server.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let program = self.program.as_ref().context("the server does not run")?;
        Process::of(program).signal(signal)
    }

    /// Kills the server.
    pub(super) fn kill(&mut self) {
        self.program = None;
    }

    /// Returns how the server ended, or `None` if it still runs after `within`.
    pub(super) fn ended(&mut self, within: Duration) -> Option<ExitStatus> {
        let status = self.program.as_mut()?.ends_within(within)?;
        self.program = None;
        Some(status)
    }

    /// Returns whether the log contains `word`.
    pub(super) fn has_logged(&self, word: &str) -> bool {
        std::fs::read_to_string(&self.log).is_ok_and(|text| text.contains(word))
    }

    /// Returns the last lines of the log.
    pub(super) fn last_log_lines(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}

/// The place where servers run: an address, and a network if it is not the machine's own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Site<'a> {
    pub(super) address: IpAddr,
    pub(super) netns: Option<&'a str>,
    pub(super) folder: &'a Path,
}

impl<'a> Site<'a> {
    /// Returns this machine's loopback.
    pub(super) fn here(folder: &'a Path) -> Self {
        Self {
            address: Ipv4Addr::LOCALHOST.into(),
            netns: None,
            folder,
        }
    }

    /// Starts a nats-server with further flags.
    pub(super) fn nats(self, flags: &[String]) -> Result<Service> {
        let address = SocketAddr::new(self.address, free_address()?.port());
        let line = [
            "nats-server".to_owned(),
            format!("--addr={}", self.address),
            format!("--port={}", address.port()),
        ];
        let line = line.into_iter().chain(flags.iter().cloned()).collect();
        let log = self.folder.join(format!("nats-{}", address.port()));
        Service::start(self.netns, line, log, address)
    }

    /// Starts a cubesync-server on a bus, and waits until it serves.
    pub(super) fn server(self, binary: &Path, bus: SocketAddr) -> Result<Service> {
        let [tcp, pages] = [free_address()?, free_address()?]
            .map(|free| SocketAddr::new(self.address, free.port()));
        let line = vec![
            binary.display().to_string(),
            format!("--listen={tcp}"),
            format!("--http={pages}"),
            format!("--bus=nats://{bus}"),
        ];
        let log = self.folder.join(format!("server-{}", tcp.port()));
        let mut service = Service::start(self.netns, line, log, tcp)?;
        service.wait_until(|| http::is_serving(pages))?;
        Ok(service)
    }
}
