//! The bus under test: a nats-server and its counters.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::ops::Sub;
use std::time::Duration;

use anyhow::{Context, Result};
use cubesync_harness::nats::Nats;
use cubesync_harness::programs::{find_installed, free_address};
use cubesync_harness::{http, usage};
use serde::Deserialize;

/// A running nats-server.
#[derive(Debug)]
pub(crate) struct Bus {
    nats: Nats,
    monitoring: SocketAddr,
}

/// Counters of a nats-server since its start, or over some time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counters {
    /// Its CPU time.
    pub(crate) cpu: Duration,
    /// All bytes that it wrote, including its protocol's lines.
    pub(crate) written_bytes: u64,
    /// What each server published and received, by the number of its connection.
    connections: BTreeMap<u64, Connection>,
}

/// The counters of a server's connection, as the page `/connz` names them. The bytes are those of payloads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Connection {
    cid: u64,
    /// Messages that the server published.
    #[serde(rename = "in_msgs")]
    pub(crate) published: u64,
    /// Their bytes.
    #[serde(rename = "in_bytes")]
    pub(crate) published_bytes: u64,
    /// Bytes of the messages that the server received.
    #[serde(rename = "out_bytes")]
    pub(crate) received_bytes: u64,
}

/// The fields that are used of the page `/connz`.
#[derive(Deserialize)]
struct Connz {
    connections: Vec<Connection>,
}

impl Bus {
    /// Starts a nats-server for this machine only.
    pub(crate) fn start() -> Result<Self> {
        let file = find_installed("nats-server").context("nats-server is not installed")?;
        let monitoring = free_address()?;
        let flag = format!("--http_port={}", monitoring.port());
        let nats = Nats::start(&file, free_address()?, &[flag])?;
        Ok(Self { nats, monitoring })
    }

    /// Returns the value of `--bus` for servers.
    pub(crate) fn url(&self) -> String {
        self.nats.url()
    }

    /// Returns the counters so far.
    pub(crate) fn counters(&self) -> Result<Counters> {
        let id = self.nats.program.id();
        let io = fs::read_to_string(format!("/proc/{id}/io")).context("nats-server has ended")?;
        let page = http::get(self.monitoring, "/connz")?.body;
        let connz: Connz =
            serde_json::from_slice(&page).context("nats-server's monitoring gave no page")?;
        let by_number = connz.connections.into_iter().map(|one| (one.cid, one));
        Ok(Counters {
            cpu: usage::process_cpu(id)?,
            written_bytes: io_field(&io, "wchar:")?,
            connections: by_number.collect(),
        })
    }
}

impl Counters {
    /// Returns the connections of all servers but the owner. Servers connect in the order of their numbers.
    pub(crate) fn edges(&self, owner: usize) -> Vec<Connection> {
        let all = self.connections.values().copied().enumerate();
        let edges = all.filter(|(number, _)| *number != owner);
        edges.map(|(_, connection)| connection).collect()
    }
}

impl Sub for Counters {
    type Output = Self;

    fn sub(mut self, before: Self) -> Self {
        for (number, now) in &mut self.connections {
            let before = before.connections.get(number).copied().unwrap_or_default();
            now.published -= before.published;
            now.published_bytes -= before.published_bytes;
            now.received_bytes -= before.received_bytes;
        }
        Self {
            cpu: self.cpu.saturating_sub(before.cpu),
            written_bytes: self.written_bytes - before.written_bytes,
            connections: self.connections,
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

    fn counters(text: &str) -> Counters {
        let connz: Connz = serde_json::from_str(text).unwrap();
        let by_number = connz.connections.into_iter().map(|one| (one.cid, one));
        Counters {
            connections: by_number.collect(),
            ..Counters::default()
        }
    }

    #[test]
    fn bytes_of_the_kernel_are_read_by_name() {
        let text = "rchar: 12\nwchar: 345\nsyscr: 6\n";
        assert_eq!(io_field(text, "wchar:").unwrap(), 345);
        assert!(io_field(text, "nothing:").is_err());
    }

    #[test]
    fn edges_are_all_servers_but_the_owner() {
        let before = counters(
            r#"{"connections": [
            {"cid": 3, "in_msgs": 900, "in_bytes": 90000, "out_msgs": 1, "out_bytes": 10},
            {"cid": 4, "in_msgs": 5, "in_bytes": 50, "out_msgs": 1, "out_bytes": 10}]}"#,
        );
        let now = counters(
            r#"{"connections": [
            {"cid": 3, "in_msgs": 910, "in_bytes": 90100, "out_msgs": 9, "out_bytes": 700},
            {"cid": 4, "in_msgs": 15, "in_bytes": 5050, "out_msgs": 2, "out_bytes": 20}]}"#,
        );
        let edge = Connection {
            cid: 3,
            published: 10,
            published_bytes: 100,
            received_bytes: 690,
        };
        assert_eq!((now - before).edges(1), [edge]);
    }
}
