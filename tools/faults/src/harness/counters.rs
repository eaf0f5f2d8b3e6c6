//! The server's counters, as `/metrics` shows them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Result, ensure};
use cubesync_harness::http;

const DISCONNECTS: &str = "cubesync_disconnects_total{reason=\"";

/// All counters at one time, by their name with labels.
#[derive(Debug, Clone)]
pub(crate) struct Counters(BTreeMap<String, f64>);

impl Counters {
    /// Asks the server.
    pub(crate) fn scrape(http: SocketAddr) -> Result<Self> {
        let answer = http::get(http, "/metrics")?;
        ensure!(answer.status == Some(200), "/metrics: {:?}", answer.status);
        Ok(Self::read(&String::from_utf8_lossy(&answer.body)))
    }

    fn read(metrics: &str) -> Self {
        let value = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Self(metrics.lines().filter_map(value).collect())
    }

    /// One value by its short name; 0 when it was never counted.
    pub(crate) fn value(&self, short: &str) -> f64 {
        self.0.get(&full_name(short)).copied().unwrap_or(0.0)
    }

    /// How much a sum of counters has grown since.
    pub(crate) fn growth(&self, before: &Self, short: &[&str]) -> u64 {
        let grown = short
            .iter()
            .map(|name| self.value(name) - before.value(name));
        grown.sum::<f64>() as u64
    }

    /// The reasons of disconnects that have grown since, and by how much.
    pub(crate) fn disconnects_since(&self, before: &Self) -> Vec<(String, u64)> {
        let reasons = self.0.iter().filter_map(|(name, value)| {
            let reason = name.strip_prefix(DISCONNECTS)?.strip_suffix("\"}")?;
            let grown = (value - before.0.get(name).unwrap_or(&0.0)) as u64;
            (grown > 0).then(|| (reason.to_owned(), grown))
        });
        reasons.collect()
    }

    /// All disconnects by reason.
    pub(crate) fn disconnects(&self) -> Vec<(String, u64)> {
        self.disconnects_since(&Self(BTreeMap::new()))
    }

    /// Everything that has grown since, for who looks for a lost counter.
    pub(crate) fn all_since(&self, before: &Self) -> String {
        let grown = self.0.iter().filter_map(|(name, value)| {
            let grown = value - before.0.get(name).unwrap_or(&0.0);
            let is_fault = name.contains("reason=") || name.contains("listener=");
            let is_told = is_fault || name.contains("status=") || name.contains("outcome=");
            (grown > 0.0 && is_told).then(|| format!("{name} +{grown}"))
        });
        grown.collect::<Vec<_>>().join(", ")
    }
}

fn full_name(short: &str) -> String {
    match short.split_once(' ') {
        Some(("http", status)) => format!("cubesync_http_responses_total{{status=\"{status}\"}}"),
        Some(("cut", reason)) => format!("cubesync_http_cuts_total{{reason=\"{reason}\"}}"),
        Some(("resume", outcome)) => format!("cubesync_resumes_total{{outcome=\"{outcome}\"}}"),
        Some(("correction", reason)) => {
            format!("cubesync_corrections_total{{reason=\"{reason}\"}}")
        }
        Some(("accept", listener)) => {
            format!("cubesync_accept_errors_total{{listener=\"{listener}\"}}")
        }
        Some(("gauge", name)) => format!("cubesync_{name}"),
        _ => format!("{DISCONNECTS}{short}\"}}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_grown_is_told_by_its_short_name() {
        let before = Counters::read("cubesync_disconnects_total{reason=\"lost\"} 3\n");
        let after = Counters::read(
            "# HELP cubesync_disconnects Ended connections\n\
             cubesync_disconnects_total{reason=\"lost\"} 4\n\
             cubesync_disconnects_total{reason=\"left\"} 2\n\
             cubesync_http_cuts_total{reason=\"full\"} 7\n\
             cubesync_connections 5\n",
        );
        assert_eq!(after.growth(&before, &["lost", "left"]), 3);
        assert_eq!(after.growth(&before, &["cut full"]), 7);
        assert_eq!(after.value("gauge connections"), 5.0);
        let lost_and_left = [("left".to_owned(), 2), ("lost".to_owned(), 1)];
        assert_eq!(after.disconnects_since(&before), lost_and_left);
    }
}
