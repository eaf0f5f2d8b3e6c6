//! The server's counters, read from `/metrics`.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use cubesync_harness::http::Answer;

const DISCONNECTS: &str = "cubesync_disconnects_total{reason=\"";

/// The values of all counters at one time, by name with labels.
#[derive(Debug, Clone)]
pub(crate) struct Counters(BTreeMap<String, f64>);

impl Counters {
    /// Reads the counters on the page `/metrics`.
    pub(crate) fn of(answer: &Answer) -> Result<Self> {
        ensure!(answer.status == Some(200), "/metrics: {:?}", answer.status);
        Ok(Self::parse(&String::from_utf8_lossy(&answer.body)))
    }

    fn parse(metrics: &str) -> Self {
        let value = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Self(metrics.lines().filter_map(value).collect())
    }

    /// Returns a value by its short name; 0 if it was never counted.
    pub(crate) fn value(&self, short: &str) -> f64 {
        self.0.get(&full_name(short)).copied().unwrap_or(0.0)
    }

    /// Returns by how much the sum of some counters has grown since `before`.
    pub(crate) fn growth(&self, before: &Self, short: &[&str]) -> u64 {
        let grown = short
            .iter()
            .map(|name| self.value(name) - before.value(name));
        grown.sum::<f64>() as u64
    }

    /// Returns the reasons of disconnects that were counted since `before`, and how often each was.
    pub(crate) fn disconnects_since(&self, before: &Self) -> Vec<(String, u64)> {
        let reasons = self.0.iter().filter_map(|(name, value)| {
            let reason = name.strip_prefix(DISCONNECTS)?.strip_suffix("\"}")?;
            let grown = (value - before.0.get(name).unwrap_or(&0.0)) as u64;
            (grown > 0).then(|| (reason.to_owned(), grown))
        });
        reasons.collect()
    }

    /// Returns all disconnects by reason.
    pub(crate) fn disconnects(&self) -> Vec<(String, u64)> {
        self.disconnects_since(&Self(BTreeMap::new()))
    }

    /// Describes every counter of ends, errors and answers that has grown since `before`: a fault that
    /// was counted as something else is found here.
    pub(crate) fn all_since(&self, before: &Self) -> String {
        let grown = self.0.iter().filter_map(|(name, value)| {
            let grown = value - before.0.get(name).unwrap_or(&0.0);
            let is_fault = name.contains("reason=") || name.contains("listener=");
            let is_listed = is_fault || name.contains("status=") || name.contains("outcome=");
            (grown > 0.0 && is_listed).then(|| format!("{name} +{grown}"))
        });
        grown.collect::<Vec<_>>().join(", ")
    }
}

/// Returns the name in `/metrics` of a counter that faults name shortly: a reason of
/// `cubesync_disconnects_total`, or a family and its label.
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
        Some(("udp", outcome)) => format!("cubesync_udp_received_total{{outcome=\"{outcome}\"}}"),
        Some(("gauge", name)) => format!("cubesync_{name}"),
        _ => format!("{DISCONNECTS}{short}\"}}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_read_by_short_names() {
        let before = Counters::parse("cubesync_disconnects_total{reason=\"lost\"} 3\n");
        let after = Counters::parse(
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
