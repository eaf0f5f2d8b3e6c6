//! The programs that are started: where they lie, how they are built, and free addresses for them.

use std::env;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

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

/// Returns an address of loopback with a port that nobody listens on at the moment.
pub fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    Ok(listener.local_addr()?)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

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
