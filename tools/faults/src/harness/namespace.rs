//! A network of its own with one cable to this machine, which can be cut.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The cable's network, for tests between networks (RFC 2544): no machine's own, one hopes.
pub(crate) const NETWORK: &str = "198.18.";
const HERE: Ipv4Addr = Ipv4Addr::new(198, 18, 77, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(198, 18, 77, 2);

/// A network namespace. Dropping it removes it and its cable.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one; only root may.
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

    /// Runs this program's `peer` there, against a server here.
    pub(crate) fn peer(&self, server: SocketAddr, further: &[&str]) -> Result<Child> {
        let server = SocketAddr::new(IpAddr::V4(HERE), server.port());
        Command::new("ip")
            .args(["netns", "exec", &self.name])
            .arg(std::env::current_exe()?)
            .args(["peer", &server.to_string()])
            .args(further)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run a peer in the namespace")
    }

    /// Cuts the cable: from now on nothing arrives, and nobody is told.
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

/// Runs `ip`, and returns what it said.
pub(crate) fn ip(arguments: &str) -> Result<String> {
    let output = Command::new("ip").args(arguments.split(' ')).output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {arguments}: {}", error.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
