//! A server process of our own.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::counters::Counters;
use super::process::{Process, await_some};
use super::web;

/// A server that does not answer after this long has failed.
const START_WITHIN: Duration = Duration::from_secs(15);

/// How the server of a fault is started. Faults with the same one share a server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Setup {
    /// Flags besides the ports.
    pub(crate) flags: &'static [&'static str],
    /// Further ones for `--quick`.
    pub(crate) quick_flags: &'static [&'static str],
    /// A line for bash that ends in running `"$0" "$@"`; empty: the server is run as it is.
    /// `$SCRATCH` is a folder that goes with the server.
    pub(crate) shell: &'static str,
    /// Whether it listens on every address, not only on loopback.
    pub(crate) is_open: bool,
    /// The key that the bystanders show.
    pub(crate) join_key: Option<&'static str>,
}

impl Setup {
    /// More ticks than by default, so that the bystanders' percentiles stand on more of them.
    pub(crate) const PLAIN: Self = Self {
        flags: &["--tick", "60"],
        quick_flags: &[],
        shell: "",
        is_open: false,
        join_key: None,
    };
}

static NEXT_FOLDER: AtomicU32 = AtomicU32::new(0);

/// A running server. Dropping it kills it and removes its folder.
#[derive(Debug)]
pub(crate) struct Server {
    binary: PathBuf,
    setup: &'static Setup,
    is_quick: bool,
    child: Child,
    /// Where clients connect.
    pub(crate) tcp: SocketAddr,
    /// Where pages are.
    pub(crate) http: SocketAddr,
    /// Logs, and what a fault needs.
    pub(crate) folder: PathBuf,
}

impl Server {
    /// Starts one on free ports and waits until it answers.
    pub(crate) fn start(binary: &Path, setup: &'static Setup, is_quick: bool) -> Result<Self> {
        let number = NEXT_FOLDER.fetch_add(1, Ordering::Relaxed);
        let name = format!("cubesync-faults-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).context("no folder for the server")?;
        let (tcp, http) = (free_address()?, free_address()?);
        let command = &mut command(binary, setup, is_quick, [tcp, http], &folder)?;
        let server = Self {
            binary: binary.to_owned(),
            setup,
            is_quick,
            child: command.spawn().context("cannot start the server")?,
            tcp,
            http,
            folder,
        };
        server.answering()
    }

    /// What it was started with.
    pub(crate) fn setup(&self) -> &'static Setup {
        self.setup
    }

    /// Starts it again on the same ports; it must have ended.
    pub(crate) fn restart(&mut self) -> Result<()> {
        let addresses = [self.tcp, self.http];
        let command = &mut command(
            &self.binary,
            self.setup,
            self.is_quick,
            addresses,
            &self.folder,
        )?;
        self.child = command.spawn().context("cannot start the server again")?;
        self.wait_until_it_answers()
    }

    /// What the kernel knows of it.
    pub(crate) fn process(&self) -> Process {
        Process::of(&self.child)
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        self.process().signal(signal)
    }

    /// How it ended, if it has or does in time.
    pub(crate) fn ended(&mut self, within: Duration) -> Option<ExitStatus> {
        await_some(within, || self.child.try_wait().ok().flatten())
    }

    /// The counters now.
    pub(crate) fn counters(&self) -> Result<Counters> {
        Counters::scrape(self.http)
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        let bytes = fs::read(self.folder.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn answering(mut self) -> Result<Self> {
        self.wait_until_it_answers()?;
        Ok(self)
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        let http = self.http;
        let child = &mut self.child;
        let answer = await_some(START_WITHIN, || match child.try_wait() {
            Ok(Some(status)) => Some(Err(status)),
            _ => web::get(http, "/healthz").ok().map(Ok),
        });
        match answer {
            Some(Ok(_)) => Ok(()),
            Some(Err(status)) => bail!("the server ended at once ({status}): {}", self.log()),
            None => bail!("the server does not answer: {}", self.log()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // All of it fails only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The command that runs a server.
fn command(
    binary: &Path,
    setup: &Setup,
    is_quick: bool,
    [tcp, http]: [SocketAddr; 2],
    folder: &Path,
) -> Result<Command> {
    let mut command = if setup.shell.is_empty() {
        Command::new(binary)
    } else {
        let mut bash = Command::new("bash");
        bash.arg("-c").arg(setup.shell).arg(binary);
        bash
    };
    let listening = |address: SocketAddr| match setup.is_open {
        true => SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())).to_string(),
        false => address.to_string(),
    };
    command
        .args(["--listen", &listening(tcp), "--http", &listening(http)])
        .args(setup.flags)
        .args(setup.quick_flags.iter().filter(|_| is_quick))
        .env("SCRATCH", folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(
            File::options()
                .create(true)
                .append(true)
                .open(folder.join("log"))?,
        );
    Ok(command)
}

/// A port of loopback that nobody listens on at the moment.
pub(crate) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), 0))?;
    Ok(listener.local_addr()?)
}
