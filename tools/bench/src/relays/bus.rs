//! The bus under test: a nats-server and its counters.

use std::fs;
use std::net::SocketAddr;
use std::ops::Sub;
use std::time::Duration;

use anyhow::{Context, Result};
use cubesync_harness::http;
use cubesync_harness::programs::free_address;
use serde::Deserialize;

use crate::process::Server;
use crate::systems::installed;

/// A running nats-server.
#[derive(Debug)]
pub(crate) struct Bus {
    server: Server,
    monitoring: SocketAddr,
}

/// Counters of a nats-server since its start, or over some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Its CPU time.
    pub(crate) cpu: Duration,
    /// Messages that were published and delivered to subscribers.
    pub(crate) messages: Flow,
    /// Bytes of their payload.
    pub(crate) payload: Flow,
    /// All bytes that it read and wrote, including its protocol's lines.
    pub(crate) wire: Flow,
}

/// A count of both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flow {
    /// From the servers to the bus.
    pub(crate) into: u64,
    /// From the bus to the servers.
    pub(crate) out: u64,
}

/// The fields that are used of the page `/varz`.
#[derive(Deserialize)]
struct Varz {
    in_msgs: u64,
    out_msgs: u64,
    in_bytes: u64,
    out_bytes: u64,
}

impl Bus {
    /// Starts a nats-server for this machine only.
    pub(crate) fn start() -> Result<Self> {
        let (address, monitoring) = (free_address()?, free_address()?);
        let mut command = installed("nats-server")?;
        command
            .args(["--addr", "127.0.0.1", "--port", &address.port().to_string()])
            .args(["--http_port", &monitoring.port().to_string()]);
        Ok(Self {
            server: Server::start_at(&mut command, address)?,
            monitoring,
        })
    }

    /// Returns the value of `--bus` for servers.
    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.server.address)
    }

    /// Returns the counters so far.
    pub(crate) fn counters(&self) -> Result<Counters> {
        let wire = fs::read_to_string(format!("/proc/{}/io", self.server.id()));
        let wire = wire.context("nats-server has ended")?;
        let varz: Varz = serde_json::from_slice(&http::get(self.monitoring, "/varz")?.body)
            .context("nats-server's monitoring gave no page")?;
        Ok(Counters {
            cpu: self.server.cpu()?,
            messages: Flow {
                into: varz.in_msgs,
                out: varz.out_msgs,
            },
            payload: Flow {
                into: varz.in_bytes,
                out: varz.out_bytes,
            },
            wire: Flow {
                into: io_field(&wire, "rchar:")?,
                out: io_field(&wire, "wchar:")?,
            },
        })
    }
}

impl Sub for Counters {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(before.cpu),
            messages: self.messages - before.messages,
            payload: self.payload - before.payload,
            wire: self.wire - before.wire,
        }
    }
}

impl Sub for Flow {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            into: self.into.saturating_sub(before.into),
            out: self.out.saturating_sub(before.out),
        }
    }
}

fn io_field(text: &str, field: &str) -> Result<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(field));
    let value = value.with_context(|| format!("no {field} for nats-server"))?;
    Ok(value.trim().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_the_kernel_are_read_by_name() {
        let text = "rchar: 12\nwchar: 345\nsyscr: 6\n";
        assert_eq!(io_field(text, "wchar:").unwrap(), 345);
        assert!(io_field(text, "nothing:").is_err());
    }
}
