//! The counts of samples by when they came, as cubesync's servers tell them.

use std::iter::Sum;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use cubesync_harness::http;

/// The metric, whose label is the time at which a sample came.
const METRIC: &str = "cubesync_samples_total{timing=";

/// Samples that have come to servers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Samples {
    /// All samples.
    pub(crate) all: u64,
    /// Those that came after their tick had begun.
    pub(crate) late: u64,
}

impl Samples {
    /// Asks the server whose pages are at this address.
    pub(crate) fn of(pages: SocketAddr) -> Result<Self> {
        let page = http::get(pages, "/metrics")?;
        let text = String::from_utf8(page.body).context("the metrics are no text")?;
        Ok(Self::read(&text))
    }

    /// Returns the share of late samples that came after `before`; `None` if none came.
    pub(crate) fn late_since(self, before: Self) -> Option<f64> {
        let [all, late] = [self.all - before.all, self.late - before.late];
        (all > 0).then(|| late as f64 / all as f64)
    }

    /// Ticks without an expected sample are not counted.
    fn read(metrics: &str) -> Self {
        let count = |timing: &str| {
            let lines = metrics.lines().filter_map(|line| line.strip_prefix(METRIC));
            let mut counts = lines.filter_map(|line| line.strip_prefix(timing));
            counts
                .find_map(|count| count.trim().parse().ok())
                .unwrap_or(0)
        };
        let late = count("\"late\"}");
        Self {
            all: count("\"on_time\"}") + count("\"early\"}") + late,
            late,
        }
    }
}

impl Sum for Samples {
    fn sum<I: Iterator<Item = Self>>(samples: I) -> Self {
        samples.fold(Self::default(), |sum, one| Self {
            all: sum.all + one.all,
            late: sum.late + one.late,
        })
    }
}

#[cfg(test)]
mod tests {
    use cubesync_relay::metrics::{Metrics, SampleTiming};

    use super::*;

    #[test]
    fn late_samples_are_read_from_the_servers_own_metrics() {
        let metrics = Metrics::default();
        let read = || Samples::read(&metrics.set.render());
        let before = read();
        assert_eq!(before.late_since(before), None);
        for (timing, count) in [
            (SampleTiming::OnTime, 15),
            (SampleTiming::Early, 3),
            (SampleTiming::Late, 2),
            (SampleTiming::Missing, 7),
        ] {
            metrics.samples.add(timing, count);
        }
        assert_eq!(read(), Samples { all: 20, late: 2 });
        assert_eq!(read().late_since(before), Some(0.1));
    }
}
