//! A network namespace with one cable to this machine, which can be cut; and what all namespaces of this program
//! have in common.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{self, Command, Stdio};

use anyhow::{Context, Result, ensure};
use cubesync_harness::Program;
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::process::SessionPrecedence;

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
            name: format!("csf{}", process::id()),
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

/// What the names of namespaces begin with, before the number of the process that made them. Those of clusters
/// are [numbered](is_of_a_cluster) as well.
const NAMES: [&str; 3] = ["csf", "csfew-in", "csfew-out"];

/// The exit code of a program that a signal has ended, as shells tell it of SIGINT.
const INTERRUPTED: i32 = 130;

/// Removes the namespaces of runs that were killed, and lets a signal that ends this one remove its own first.
pub(crate) fn leave_nothing() -> Result<()> {
    let own = process::id();
    // Whether another program has the number by now cannot be told: runs have names of all kinds.
    let is_gone = |maker: u32| !Path::new(&format!("/proc/{maker}")).exists();
    for name in named(is_gone) {
        end_programs(&name);
        // Another run may do the same.
        let _ = ip(&format!("netns del {name}"));
    }
    ctrlc::set_handler(move || {
        let names = named(|maker| maker == own);
        // The run goes on meanwhile, and may have started another program.
        for name in names.iter().chain(&names) {
            end_programs(name);
        }
        for name in &names {
            let _ = ip(&format!("netns del {name}"));
        }
        SessionPrecedence::give_back();
        process::exit(INTERRUPTED);
    })
    .context("cannot wait for signals")
}

/// Returns the names of namespaces that such programs of this kind have made.
fn named(is_meant: impl Fn(u32) -> bool) -> Vec<String> {
    // There is no such folder before the first namespace.
    let entries = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| maker(name).is_some_and(&is_meant))
        .collect()
}

/// Returns the number of the process that made a namespace, if a program of this kind has.
fn maker(name: &str) -> Option<u32> {
    let beginning = name.trim_end_matches(|last: char| last.is_ascii_digit());
    let is_ours = NAMES.contains(&beginning) || is_of_a_cluster(beginning);
    let number = name.strip_prefix(beginning).filter(|_| is_ours)?;
    number.parse().ok()
}

/// Returns whether a name begins as those of a cluster's namespaces: `cs`, a number and a hyphen.
fn is_of_a_cluster(beginning: &str) -> bool {
    let number = beginning
        .strip_prefix("cs")
        .and_then(|rest| rest.strip_suffix('-'));
    number.is_some_and(|number| number.parse::<u32>().is_ok())
}

/// Ends the programs in a namespace, but for this one.
fn end_programs(namespace: &str) {
    let own = Some(rustix::process::getpid());
    let listed = ip(&format!("netns pids {namespace}")).unwrap_or_default();
    let programs = listed
        .lines()
        .filter_map(|line| Pid::from_raw(line.trim().parse().ok()?));
    for program in programs.filter(|program| Some(*program) != own) {
        // It may have ended by itself.
        let _ = kill_process(program, Signal::KILL);
    }
}

/// Runs `ip` and returns its output.
pub(crate) fn ip(arguments: &str) -> Result<String> {
    let output = Command::new("ip").args(arguments.split(' ')).output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {arguments}: {}", error.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_namespaces_of_this_program_have_a_maker() {
        for (name, expected) in [
            ("csf4711", Some(4_711)),
            ("csfew-in4711", Some(4_711)),
            ("csfew-out4711", Some(4_711)),
            ("cs2-4711", Some(4_711)),
            ("csf", None),
            ("cs4711", None),
            ("cs-4711", None),
            ("csx-4711", None),
            ("docker-4711", None),
            ("other4711", None),
        ] {
            assert_eq!(maker(name), expected, "{name}");
        }
    }
}
