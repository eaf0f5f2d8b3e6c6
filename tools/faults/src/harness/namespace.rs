//! A network namespace with one cable to this machine, which can be cut.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use cubesync_harness::Program;

/// The beginning of the cable's addresses: a network for benchmarks (RFC 2544), which machines hardly use.
pub(crate) const NETWORK: &str = "198.18.";
const HERE: Ipv4Addr = Ipv4Addr::new(198, 18, 77, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(198, 18, 77, 2);

/// A network namespace. Dropping it removes it and its cable.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// Creates a namespace and its cable. Only root may do so.
    pub(crate) fn new() -> Result<Self> {
        let own = ip("-4 address show")? + &ip("-4 route show")?;
        ensure!(
            !own.contains(NETWORK),
            "this machine uses {NETWORK}0.0/15 itself"
        );
        let namespace = Self {
            // A device's name has at most 15 characters.
            name: format!("csf{}", std::process::id()),
        };
        let name = &namespace.name;
        ip(&format!("netns add {name}"))?;
        ip(&format!(
            "link add {name} type veth peer name far netns {name}"
        ))?;
        ip(&format!("addr add {HERE}/30 dev {name}"))?;
        ip(&format!("link set {name} up"))?;
        ip(&format!("-n {name} addr add {THERE}/30 dev far"))?;
        ip(&format!("-n {name} link set far up"))?;
        Ok(namespace)
    }

    /// Runs this program's `peer` in the namespace against a server outside.
    pub(crate) fn peer(&self, server: SocketAddr, further: &[&str]) -> Result<Program> {
        let server = SocketAddr::new(IpAddr::V4(HERE), server.port());
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.name])
            .arg(std::env::current_exe()?)
            .args(["peer", &server.to_string()])
            .args(further)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        Program::start("the peer in the namespace", &mut command)
    }

    /// Cuts the cable: nothing arrives any more, and neither end learns why.
    pub(crate) fn cut(&self) -> Result<()> {
        ip(&format!("-n {} link set far down", self.name))?;
        Ok(())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The cable goes with the namespace; it is gone already if making it failed.
        let _ = ip(&format!("netns del {}", self.name));
        let _ = ip(&format!("link del {}", self.name));
    }
}

/// Runs `ip` and returns its output.
pub(crate) fn ip(arguments: &str) -> Result<String> {
    let output = Command::new("ip").args(arguments.split(' ')).output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {arguments}: {}", error.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
