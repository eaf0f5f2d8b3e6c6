//! The parts of both demos: building programs, finding free addresses, and Ctrl-C, which ends a demo at any
//! time.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::process::ExitStatus;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use cubesync_harness::programs::build_command;
use cubesync_harness::{Program, http};

/// How often the programs are checked: too short for a person to notice, long enough to cost nothing.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// A server needs milliseconds to serve; this only ends the wait for one that hangs.
const START_TIMEOUT: Duration = Duration::from_secs(15);

/// Returns a channel that Ctrl-C and SIGTERM write to.
pub(crate) fn stop_at_ctrl_c() -> Result<Receiver<()>> {
    let (stop_sender, stop) = sync_channel(1);
    ctrlc::set_handler(move || {
        // A full channel holds a stop already.
        let _ = stop_sender.try_send(());
    })?;
    Ok(stop)
}

/// Waits a moment and returns whether Ctrl-C was pressed meanwhile. Call it before a program is
/// checked: Ctrl-C reaches the programs as well, and their end is no failure then.
pub(crate) fn stopped(stop: &Receiver<()>) -> bool {
    stop.recv_timeout(CHECK_INTERVAL) != Err(RecvTimeoutError::Timeout)
}

/// Builds these packages with these flags of cargo, in the profile of this program, so that theirs lie
/// beside it. Returns false if Ctrl-C was pressed meanwhile.
pub(crate) fn build(packages: &[&str], flags: &[&str], stop: &Receiver<()>) -> Result<bool> {
    let mut command = build_command(packages, !cfg!(debug_assertions));
    command.args(flags);
    println!("Building the server and the clients (the first time takes a few minutes) ...");
    let mut cargo = Program::start("cargo build", &mut command)?;
    loop {
        if stopped(stop) {
            return Ok(false);
        }
        match cargo.ended()? {
            None => {}
            Some(status) if status.success() => return Ok(true),
            Some(status) => bail!("the build failed ({status}); what it said is above"),
        }
    }
}

/// Waits until a server serves its pages at `address`. Returns false if Ctrl-C was pressed meanwhile.
pub(crate) fn wait_until_serving(
    server: &mut Program,
    address: SocketAddr,
    stop: &Receiver<()>,
) -> Result<bool> {
    let mut is_stopped = false;
    server.wait_until(START_TIMEOUT, || {
        // In this order, so that Ctrl-C while asking is no server that ended by itself.
        http::is_serving(address) || {
            is_stopped = stopped(stop);
            is_stopped
        }
    })?;
    Ok(!is_stopped)
}

/// Returns the error of a demo whose server ended.
pub(crate) fn server_ended(status: ExitStatus) -> anyhow::Error {
    anyhow!("the server ended by itself ({status}); what it said last is above")
}

/// Returns `wanted`, with a free port for port 0.
///
/// # Errors
///
/// A port that is in use: the error says what to do about it.
pub(crate) fn free_address(wanted: SocketAddr, flag: &str) -> Result<SocketAddr> {
    match TcpListener::bind(wanted) {
        Ok(listener) => Ok(listener.local_addr()?),
        Err(error) if error.kind() == ErrorKind::AddrInUse => bail!(
            "port {} is in use: end the program that has it (another demo?), or take another \
             port: cargo demo {flag} {}:0",
            wanted.port(),
            written_ip(wanted.ip()),
        ),
        Err(error) => Err(error).with_context(|| format!("cannot listen on {wanted} ({flag})")),
    }
}

/// Returns where a program on this machine reaches a server that listens on `address`.
pub(crate) fn local(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Writes an address as it stands before a colon and a port.
fn written_ip(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// Returns a program that every machine with tests has, and that waits for its standard input.
#[cfg(test)]
pub(crate) fn waiting_program() -> std::process::Command {
    let mut command = std::process::Command::new("rustc");
    command.arg("-").stdin(std::process::Stdio::piped());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn server_on_every_address_is_reached_by_loopback() {
        assert_eq!(local(address("0.0.0.0:14900")), address("127.0.0.1:14900"));
        assert_eq!(local(address("[::]:14900")), address("[::1]:14900"));
        assert_eq!(local(address("192.0.2.7:1")), address("192.0.2.7:1"));
    }

    #[test]
    fn port_in_use_is_named_with_the_flag_to_change_it() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = holder.local_addr().unwrap();
        let text = free_address(taken, "--http").unwrap_err().to_string();
        assert!(
            text.contains(&format!("port {} is in use", taken.port())),
            "{text}"
        );
        assert!(text.contains("cargo demo --http 127.0.0.1:0"), "{text}");
        assert!(!text.contains('\n'), "{text}");
    }

    #[test]
    fn port_0_becomes_a_free_port() {
        assert_ne!(
            free_address(address("127.0.0.1:0"), "--listen")
                .unwrap()
                .port(),
            0
        );
    }

    #[test]
    fn ipv6_address_is_written_in_brackets() {
        assert_eq!(written_ip(address("[::1]:1").ip()), "[::1]");
    }
}
