//! The processes of a cluster: nats-servers and cubesync-servers, here or in a network of their own.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cubesync_harness::programs::free_address;
use cubesync_harness::{Program, http, nats};
use rustix::process::Signal;

use crate::harness::process::Process;

/// A server that does not answer after this long has failed.
const START_WITHIN: Duration = Duration::from_secs(20);
/// A server that is asked to stop does within its drain time.
const STOPS_WITHIN: Duration = Duration::from_secs(20);

/// A server that can be stopped and started again. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Service {
    /// The whole command line.
    line: Vec<String>,
    log: PathBuf,
    program: Option<Program>,
    /// The address on which it listens.
    pub(super) address: SocketAddr,
    /// The address of its pages, if it has any.
    pub(super) pages: Option<SocketAddr>,
}

impl Service {
    /// Starts the server again with the same command line; it must have ended.
    pub(super) fn start_again(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.line[0]);
        command
            .args(&self.line[1..])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let (address, pages) = (self.address, self.pages);
        let mut program = Program::start(self.line[0].as_str(), &mut command)?;
        let outcome = program.wait_until(START_WITHIN, || match pages {
            Some(pages) => http::is_serving(pages),
            None => TcpStream::connect(address).is_ok(),
        });
        self.program = Some(program);
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

    /// Waits until the server has ended, and checks that it did so well.
    pub(super) fn ends(&mut self) -> Result<()> {
        let mut program = self.program.take().context("the server does not run")?;
        let status = program.ends_within(STOPS_WITHIN);
        let status = status.context("the server does not stop")?;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }

    pub(super) fn is_running(&self) -> bool {
        self.program.is_some()
    }

    /// Checks that no part of the server has panicked.
    pub(super) fn is_well(&self) -> Result<()> {
        let log = std::fs::read_to_string(&self.log)?;
        ensure!(!log.contains("panicked"), "{}", self.last_log_lines());
        Ok(())
    }

    fn last_log_lines(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}

/// The place where servers run: an address, and a network if it is not the machine's own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Site<'a> {
    pub(super) folder: &'a Path,
    pub(super) address: Ipv4Addr,
    pub(super) netns: Option<&'a str>,
}

impl<'a> Site<'a> {
    /// Returns this machine's loopback.
    pub(super) fn here(folder: &'a Path) -> Self {
        Self {
            folder,
            address: Ipv4Addr::LOCALHOST,
            netns: None,
        }
    }

    /// Starts a nats-server with JetStream that listens on `address`.
    pub(super) fn nats(self, address: Ipv4Addr) -> Result<Service> {
        let address = SocketAddr::new(address.into(), free_address()?.port());
        let mut line = vec!["nats-server".to_owned()];
        line.extend(nats::arguments(address, &self.folder.join("jetstream")));
        let nats = self.start(line, address, None)?;
        nats::check_jetstream(address)?;
        Ok(nats)
    }

    /// Starts a cubesync-server on a bus.
    pub(super) fn server(self, binary: &Path, bus: SocketAddr) -> Result<Service> {
        let [tcp, pages] = [self.free()?, self.free()?];
        let line = vec![
            binary.display().to_string(),
            format!("--listen={tcp}"),
            format!("--http={pages}"),
            format!("--bus=nats://{bus}"),
            // Players step from where they come in to their circles, however far that is.
            "--max-speed=0".to_owned(),
            "--cubes=0".to_owned(),
            // The players are in four cells then.
            "--view-distance=20".to_owned(),
        ];
        self.start(line, tcp, Some(pages))
    }

    fn start(
        self,
        mut line: Vec<String>,
        address: SocketAddr,
        pages: Option<SocketAddr>,
    ) -> Result<Service> {
        let program = Path::new(&line[0]).file_name().unwrap_or_default();
        let log = format!("{}-{}", program.display(), address.port());
        if let Some(name) = self.netns {
            line.splice(0..0, ["ip", "netns", "exec", name].map(str::to_owned));
        }
        let mut service = Service {
            line,
            log: self.folder.join(log),
            program: None,
            address,
            pages,
        };
        service.start_again()?;
        Ok(service)
    }

    fn free(self) -> Result<SocketAddr> {
        Ok(SocketAddr::new(self.address.into(), free_address()?.port()))
    }
}
