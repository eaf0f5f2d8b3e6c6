//! A server that a fault is tried on, in a process of its own.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use cubesync_harness::Program;
use cubesync_harness::http::{self, Answer};
use cubesync_harness::programs::free_address;
use rustix::process::Signal;

use super::counters::Counters;
use super::encryption::Encryption;
use super::process::Process;

/// The name of the server in messages.
const NAME: &str = "the server";
/// A server that does not serve after this long has failed.
const START_WITHIN: Duration = Duration::from_secs(15);

/// The way in which the server of a fault is started. Faults with the same one share a server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Setup {
    /// Flags besides the ports.
    pub(crate) flags: &'static [&'static str],
    /// Further flags for `--quick`.
    pub(crate) quick_flags: &'static [&'static str],
    /// A line for bash that ends in running `"$0" "$@"`. Without one the program is run directly.
    /// `$SCRATCH` is a folder that is removed with the server.
    pub(crate) shell: &'static str,
    /// The address on which the server listens.
    pub(crate) address: IpAddr,
    /// Whether it encrypts, with the certificate in `$SCRATCH/cert.pem`.
    pub(crate) is_encrypted: bool,
    /// The join key of the bystanders.
    pub(crate) join_key: Option<&'static str>,
}

impl Setup {
    /// More ticks than by default, so that the bystanders' percentiles stand on more of them.
    pub(crate) const PLAIN: Self = Self {
        flags: &["--tick", "60"],
        quick_flags: &[],
        shell: "",
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        is_encrypted: false,
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
    program: Program,
    /// The address for clients.
    pub(crate) tcp: SocketAddr,
    /// The address of its pages.
    pub(crate) http: SocketAddr,
    /// How to speak TLS with it, if it does.
    pub(crate) encryption: Option<Encryption>,
    /// The folder of its log and of what a fault needs.
    pub(crate) folder: PathBuf,
}

impl Server {
    /// Starts a server on free ports and waits until it serves.
    pub(crate) fn start(binary: &Path, setup: &'static Setup, is_quick: bool) -> Result<Self> {
        let number = NEXT_FOLDER.fetch_add(1, Ordering::Relaxed);
        let name = format!("cubesync-faults-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).context("no folder for the server")?;
        let (tcp, http) = (free_address()?, free_address()?);
        let command = &mut command(binary, setup, is_quick, [tcp, http], &folder)?;
        let mut server = Self {
            binary: binary.to_owned(),
            setup,
            is_quick,
            program: Program::start(NAME, command)?,
            tcp,
            http,
            encryption: None,
            folder,
        };
        server.wait_until_it_serves()?;
        Ok(server)
    }

    /// Returns what the server was started with.
    pub(crate) fn setup(&self) -> &'static Setup {
        self.setup
    }

    /// Starts the server again on the same ports; it must have ended.
    pub(crate) fn restart(&mut self) -> Result<()> {
        let addresses = [self.tcp, self.http];
        let command = &mut command(
            &self.binary,
            self.setup,
            self.is_quick,
            addresses,
            &self.folder,
        )?;
        self.program = Program::start(NAME, command)?;
        self.wait_until_it_serves()
    }

    /// Returns the process as the kernel sees it.
    pub(crate) fn process(&self) -> Process {
        Process::of(&self.program)
    }

    /// Sends a signal to the server.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        self.process().signal(signal)
    }

    /// Returns how the server ended, or `None` if it still runs after `within`.
    pub(crate) fn ended(&mut self, within: Duration) -> Option<ExitStatus> {
        self.program.ends_within(within)
    }

    /// Reads the counters.
    pub(crate) fn counters(&self) -> Result<Counters> {
        Counters::of(&self.page("/metrics")?)
    }

    /// Requests a page.
    pub(crate) fn page(&self, path: &str) -> Result<Answer> {
        match &self.encryption {
            Some(encryption) => encryption.get(self.http, path),
            None => http::get(self.http, path),
        }
    }

    /// Returns the log so far.
    pub(crate) fn log(&self) -> String {
        let bytes = fs::read(self.folder.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn wait_until_it_serves(&mut self) -> Result<()> {
        let (address, certificate) = (self.http, self.folder.join("cert.pem"));
        let (is_encrypted, found) = (self.setup.is_encrypted, &mut self.encryption);
        let outcome = self.program.wait_until(START_WITHIN, || {
            if !is_encrypted {
                return http::is_serving(address);
            }
            // The certificate is made before the server starts.
            *found = Encryption::trusting(&certificate).ok();
            let health = found.as_ref().map(|found| found.get(address, "/healthz"));
            health.is_some_and(|health| health.is_ok_and(|answer| answer.status == Some(200)))
        });
        outcome.with_context(|| format!("its log: {}", self.log()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only when the folder is gone already.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Returns the command that runs a server.
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
    let listening = |address: SocketAddr| SocketAddr::new(setup.address, address.port());
    command
        .args(["--listen", &listening(tcp).to_string()])
        .args(["--http", &listening(http).to_string()])
        .args(setup.flags)
        .args(setup.quick_flags.iter().filter(|_| is_quick))
        .env("SCRATCH", folder)
        // Faults are tried on the room of players alone, unless a flag says otherwise.
        .env("CUBESYNC_CUBES", "0")
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
