//! The programs that are started: where they lie, how they are built, and free addresses for them.

use std::env;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};

/// Returns the path of this program's neighbour `name`: cargo puts all programs of one profile into
/// one folder.
pub fn neighbour(name: &str) -> Result<PathBuf> {
    let own = env::current_exe().context("cannot find out where this program lies")?;
    Ok(own.with_file_name(file_name(name)))
}

/// Returns the file name of the program `name` on this system.
pub fn file_name(name: &str) -> String {
    format!("{name}{}", env::consts::EXE_SUFFIX)
}

/// Returns the path of an installed program.
pub fn find_installed(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // Debian puts servers where only root's PATH points to.
    let usual = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(usual)
        .map(|folder| folder.join(file_name(name)))
        .find(|file| file.is_file())
}

/// Returns the cargo command that builds the programs of these packages of the workspace.
pub fn build_command(packages: &[&str], is_release: bool) -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--bins"])
        .args(packages.iter().flat_map(|package| ["--package", package]))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
    if is_release {
        command.arg("--release");
    }
    // `cargo run` tells its program about its own package. A build script that asks for the same
    // variables, as ring's does, would be run again, and all that is above it compiled again.
    for (name, _) in env::vars_os() {
        let is_about_package =
            |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
        if name.to_str().is_some_and(is_about_package) {
            command.env_remove(name);
        }
    }
    command
}

/// The ports that [`free_address`] chooses from. They lie below those that Linux, macOS and Windows give
/// to whoever connects or listens without naming one, so none of them is taken between the choice and
/// the start of the program that it is for.
const FREE_PORTS: Range<u16> = 10_000..32_000;

/// Returns an address of loopback with a port that nobody listens on, and that this process has not had
/// before.
///
/// # Errors
///
/// All ports that it may choose are in use.
pub fn free_address() -> Result<SocketAddr> {
    static CHOICES: AtomicU32 = AtomicU32::new(0);
    // Processes that choose at the same time begin far from each other.
    let first = process::id().wrapping_mul(977);
    let count = u32::from(FREE_PORTS.end - FREE_PORTS.start);
    for _ in FREE_PORTS {
        let choice = first.wrapping_add(CHOICES.fetch_add(1, Ordering::Relaxed)) % count;
        let port = FREE_PORTS.start + u16::try_from(choice)?;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return Ok(listener.local_addr()?);
        }
    }
    bail!("no port of {FREE_PORTS:?} is free")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn free_addresses_differ_and_can_be_listened_on() {
        let addresses = [(); 100].map(|()| free_address().unwrap());
        let different: HashSet<_> = addresses.iter().collect();
        assert_eq!(different.len(), addresses.len());
        for address in addresses {
            assert!(FREE_PORTS.contains(&address.port()), "{address}");
            TcpListener::bind(address).unwrap();
        }
    }

    #[test]
    fn a_port_in_use_is_not_free() {
        let holder = TcpListener::bind(free_address().unwrap()).unwrap();
        let held = holder.local_addr().unwrap();
        assert!((0..100).all(|_| free_address().unwrap() != held));
    }

    #[test]
    fn a_build_does_not_depend_on_the_program_that_starts_it() {
        let command = build_command(&["cubesync-server"], true);
        for name in ["CARGO_PKG_NAME", "CARGO_MANIFEST_DIR"] {
            assert!(env::var_os(name).is_some(), "cargo sets {name} for tests");
            let removed = (OsStr::new(name), None);
            assert!(command.get_envs().any(|entry| entry == removed), "{name}");
        }
    }
}
