//! A real server process, and its answers over HTTP.

use std::io::{Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use cubesync_harness::programs::free_address;
use serde_json::Value;

use crate::process::{Program, server_program, until};

/// A server on loopback.
pub(crate) struct Server {
    /// The address for clients.
    pub(crate) tcp: SocketAddr,
    /// The address of the text protocol.
    pub(crate) text: SocketAddr,
    http: SocketAddr,
    loose_cubes: usize,
    program: Program,
}

impl Server {
    /// Starts a server on free ports, with nothing that players could run into, and waits until it serves.
    pub(crate) fn start() -> Self {
        Self::with_loose_cubes(0)
    }

    /// Starts a server with loose cubes on the field.
    pub(crate) fn with_loose_cubes(count: usize) -> Self {
        Self::start_at([(); 3].map(|()| free_address().unwrap()), count)
    }

    /// Ends the server at once, as `kill -9` does, and starts it again after `meanwhile`.
    pub(crate) fn restart(self, meanwhile: impl FnOnce()) -> Self {
        drop(self.program);
        meanwhile();
        Self::start_at([self.tcp, self.http, self.text], self.loose_cubes)
    }

    /// Returns where the cube of the player with this name is now, in metres.
    pub(crate) fn position(&self, name: &str) -> Option<[f64; 3]> {
        let cubes = self.cubes();
        let cube = cubes.iter().find(|cube| cube["name"] == name)?;
        Some(place_of(cube))
    }

    /// Returns every cube as `/cubes.json` has it.
    pub(crate) fn cubes(&self) -> Vec<Value> {
        let answer = get(self.http, "/cubes.json").unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let mut room: Value = serde_json::from_str(body).unwrap();
        serde_json::from_value(room["cubes"].take()).unwrap()
    }

    fn start_at([tcp, http, text]: [SocketAddr; 3], loose_cubes: usize) -> Self {
        let mut command = Command::new(server_program());
        command
            .args(["--listen", &tcp.to_string()])
            .args(["--http", &http.to_string()])
            .args(["--text", &text.to_string()])
            .args(["--cubes", &loose_cubes.to_string()]);
        let program = Program::start("the server", &mut command);
        until("the server serves", || {
            let answer = get(http, "/healthz").ok()?;
            answer.starts_with("HTTP/1.1 200 ").then_some(())
        });
        Self {
            tcp,
            text,
            http,
            loose_cubes,
            program,
        }
    }
}

/// Returns where a cube of `/cubes.json` is, in metres.
pub(crate) fn place_of(cube: &Value) -> [f64; 3] {
    [0, 1, 2].map(|axis| cube["position"][axis].as_f64().unwrap())
}

/// Sends a request and returns the whole answer.
fn get(http: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(http)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
