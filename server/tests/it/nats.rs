//! A real nats-server on a port of its own, which can be taken away and brought back.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

/// Dropping it ends it.
pub struct NatsServer {
    port: u16,
    flags: Vec<String>,
    child: Option<Child>,
}

impl NatsServer {
    /// One that anybody on loopback may use.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// One with further flags.
    pub fn with(flags: &[&str]) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut server = Self {
            port: free.local_addr().unwrap().port(),
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            child: None,
        };
        drop(free);
        server.bring_back();
        server
    }

    /// Where it is, as `--bus` takes it.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Host and port.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Ends it at once, as a crash would.
    pub fn take_away(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts it again on the same port.
    pub fn bring_back(&mut self) {
        let port = self.port.to_string();
        let child = Command::new("nats-server")
            .args(["--addr", "127.0.0.1", "--port", &port])
            .args(&self.flags)
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
        self.take_away();
    }
}
