//! A network namespace with one cable to this machine, which can be cut.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use cubesync_harness::Program;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

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
        lay_cable([name, "far"], name, [HERE, THERE])?;
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

/// Lays a cable between this network and a namespace. Devices and addresses are those of the near and of the
/// far end; together the addresses are a network of 30 bits.
pub(crate) fn lay_cable(
    [near, far]: [&str; 2],
    namespace: &str,
    [here, there]: [Ipv4Addr; 2],
) -> Result<()> {
    for command in [
        format!("link add {near} type veth peer name {far} netns {namespace}"),
        format!("addr add {here}/30 dev {near}"),
        format!("link set {near} up"),
        format!("-n {namespace} addr add {there}/30 dev {far}"),
        format!("-n {namespace} link set {far} up"),
    ] {
        ip(&command)?;
    }
    Ok(())
}

/// Moves the calling thread into a namespace, and with it the threads and programs that it starts afterwards.
pub(crate) fn enter(namespace: &str) -> Result<()> {
    let file = File::open(format!("/run/netns/{namespace}")).context("no such namespace")?;
    let kind = Some(LinkNameSpaceType::Network);
    move_into_link_name_space(file.as_fd(), kind).context("cannot enter a namespace")
}

/// Runs `ip` and returns its output.
pub(crate) fn ip(arguments: &str) -> Result<String> {
    let output = Command::new("ip").args(arguments.split(' ')).output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {arguments}: {}", error.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
