//! A real nats-server with JetStream on a port of its own, which can be stopped and started again.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cubesync_harness::programs::free_address;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::support::{Folder, soon};

/// A running nats-server. Dropping it stops it.
pub struct NatsServer {
    port: u16,
    flags: Vec<String>,
    store: Option<Folder>,
    child: Option<Child>,
}

impl NatsServer {
    /// Starts one without a login.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts one with further flags.
    pub fn with(flags: &[&str]) -> Self {
        Self::with_store(flags, Some(Folder::new()))
    }

    /// Starts one without JetStream.
    pub fn without_jetstream() -> Self {
        Self::with_store(&[], None)
    }

    fn with_store(flags: &[&str], store: Option<Folder>) -> Self {
        let mut server = Self {
            port: free_address().unwrap().port(),
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            store,
            child: None,
        };
        server.restart();
        server
    }

    /// Returns the address in the form of `--bus`.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Returns the host and the port.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Waits until it accepts connections.
    pub async fn is_started(&self) {
        soon(async {
            while TcpStream::connect(self.address()).await.is_err() {
                sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    /// Kills it, as in a crash.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Kills it, and what JetStream knows is lost, as with its memory storage.
    pub fn lose(&mut self) {
        self.kill();
        self.store = Some(Folder::new());
    }

    /// Stops it without an end, as if its machine were paused.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it should run");
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
    }

    /// Starts it again on the same port.
    pub fn restart(&mut self) {
        let port = self.port.to_string();
        let store = self.store.iter();
        let jetstream = store.flat_map(|store| ["--jetstream", "--store_dir", store.path()]);
        let child = Command::new("nats-server")
            .args(["--addr", "127.0.0.1", "--port", &port])
            .args(&self.flags)
            .args(jetstream)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nats-server should be installed: apt-get install nats-server");
        self.child = Some(child);
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}
