//! A server under test: started, measured and ended with its guard.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cubesync_harness::{Program, usage};

use crate::samples::Samples;

/// A server that does not listen after this long has failed.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// The address of a server that has not announced its own yet.
const UNKNOWN_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// A running server. Dropping it kills and reaps it, so none outlives an error or Ctrl-C.
#[derive(Debug)]
pub(crate) struct Server {
    program: Program,
    /// The address for clients.
    pub(crate) address: SocketAddr,
    /// The address of its pages, if it has metrics.
    pub(crate) pages: Option<SocketAddr>,
}

impl Server {
    /// Starts a server that prints its address: the first word after `label` on a line of its
    /// standard output.
    pub(crate) fn start_announced(command: &mut Command, label: &str) -> Result<Self> {
        let mut server = Self::spawn(command.stdout(Stdio::piped()), UNKNOWN_ADDRESS)?;
        let stdout = server.program.take_stdout().context("no standard output")?;
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            if let Some((_, rest)) = line.split_once(label)
                && let Some(Ok(address)) = rest.split_whitespace().next().map(str::parse)
            {
                server.address = address;
                return Ok(server);
            }
        }
        let program = server.program.name();
        bail!("{program} ended without saying where it listens")
    }

    /// Starts a server that was told to listen on `address`, and waits until it does.
    pub(crate) fn start_at(command: &mut Command, address: SocketAddr) -> Result<Self> {
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut server = Self::spawn(command, address)?;
        let listens = || TcpStream::connect(address).is_ok();
        server.program.wait_until(START_TIMEOUT, listens)?;
        Ok(server)
    }

    /// Returns the process id.
    pub(crate) fn id(&self) -> u32 {
        self.program.id()
    }

    /// Returns the CPU time used so far, including that of the kernel on the server's behalf.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        usage::process_cpu(self.id())
    }

    /// Returns the largest resident memory so far, in bytes.
    pub(crate) fn peak_memory_bytes(&self) -> Result<u64> {
        usage::peak_resident_bytes(self.id())
    }

    /// Returns the resident memory now, in bytes.
    pub(crate) fn memory_bytes(&self) -> Result<u64> {
        usage::resident_bytes(self.id())
    }

    /// Returns the samples that have come so far, or `None` if the server does not count them.
    pub(crate) fn samples(&self) -> Result<Option<Samples>> {
        self.pages.map(Samples::of).transpose()
    }

    fn spawn(command: &mut Command, address: SocketAddr) -> Result<Self> {
        let name = command.get_program().display().to_string();
        // The baselines end when this pipe does, however this program ends.
        let program = Program::start(name, command.stdin(Stdio::piped()))?;
        Ok(Self {
            program,
            address,
            pages: None,
        })
    }
}
