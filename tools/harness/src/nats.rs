//! A nats-server with JetStream, in which cubesync's servers keep the leases of their rooms.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{env, fs, process};

use anyhow::{Context, Result, ensure};

use crate::Program;

/// A nats-server needs milliseconds to start; this only ends the wait for one that hangs.
const START_WITHIN: Duration = Duration::from_secs(10);
/// Says that JetStream is on, in the first line that a nats-server sends.
const HAS_JETSTREAM: &str = "\"jetstream\":true";

/// A running nats-server. Dropping it kills it and removes its storage.
#[derive(Debug)]
pub struct Nats {
    /// The process.
    pub program: Program,
    /// The address at which servers reach it.
    pub address: SocketAddr,
    _storage: Storage,
}

/// A folder for JetStream, which is removed when this is dropped.
#[derive(Debug)]
struct Storage(PathBuf);

impl Nats {
    /// Starts the nats-server `file` on `address`, with further flags.
    ///
    /// # Errors
    ///
    /// It does not start, or has no JetStream. The error says which version is needed.
    pub fn start(file: &Path, address: SocketAddr, further: &[String]) -> Result<Self> {
        let storage = Storage::new()?;
        let mut command = Command::new(file);
        command
            .args(arguments(address, &storage.0))
            .args(further)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut program = Program::start("nats-server", &mut command)?;
        let started = program.wait_until(START_WITHIN, || TcpStream::connect(address).is_ok());
        started
            .and_then(|()| check_jetstream(address))
            .with_context(|| format!("{} cannot be used", file.display()))?;
        Ok(Self {
            program,
            address,
            _storage: storage,
        })
    }

    /// Returns the value of the servers' flag `--bus`.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }
}

impl Storage {
    fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("cubesync-jetstream-{}-{number}", process::id());
        let folder = env::temp_dir().join(name);
        fs::create_dir_all(&folder).context("no folder for JetStream")?;
        Ok(Self(folder))
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        // What cannot be removed stays in the system's folder for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns the flags of a nats-server that listens on `address` and keeps JetStream's files in `storage`.
pub fn arguments(address: SocketAddr, storage: &Path) -> [String; 5] {
    [
        format!("--addr={}", address.ip()),
        format!("--port={}", address.port()),
        "--jetstream".to_owned(),
        "--store_dir".to_owned(),
        storage.display().to_string(),
    ]
}

/// Checks that the nats-server at `address` has JetStream.
///
/// # Errors
///
/// It has not. The error says how to turn it on.
pub fn check_jetstream(address: SocketAddr) -> Result<()> {
    let stream = TcpStream::connect_timeout(&address, START_WITHIN)?;
    stream.set_read_timeout(Some(START_WITHIN))?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    ensure!(
        line.contains(HAS_JETSTREAM),
        "it runs without JetStream, in which servers keep who owns a room: nats-server 2.9 or later does \
         with `nats-server -js -sd FOLDER`"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn checked(info: &'static str) -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let nats = thread::spawn(move || listener.accept().unwrap().0.write_all(info.as_bytes()));
        let checked = check_jetstream(address);
        nats.join().unwrap().unwrap();
        checked
    }

    #[test]
    fn a_nats_server_without_jetstream_is_an_error_that_names_the_flag() {
        checked("INFO {\"version\":\"2.9.10\",\"jetstream\":true,\"domain\":\"\"} \r\n").unwrap();
        let error = checked("INFO {\"version\":\"2.1.0\"} \r\n").unwrap_err();
        assert!(error.to_string().contains("-js -sd"), "{error}");
    }

    #[test]
    fn storage_is_removed_with_its_nats_server() {
        let storage = Storage::new().unwrap();
        let folder = storage.0.clone();
        fs::write(folder.join("stream"), "x").unwrap();
        drop(storage);
        assert!(!folder.exists());
    }
}
