//! The figures of a run of bots.

use std::time::Duration;

use cubesync_client::Statistics;

/// The sums over all bots.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    pub(crate) bots: usize,
    pub(crate) joined: usize,
    pub(crate) updates_out: u64,
    pub(crate) updates_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) bytes_in: u64,
    datagrams_out: u64,
    datagrams_in: u64,
    /// Snapshots that a datagram brought first, and those that the stream did.
    first_by_datagram: u64,
    first_by_stream: u64,
    /// The round trips, by rising length.
    round_trips: Vec<Duration>,
}

impl Summary {
    /// Adds up bots, given whether each is in the room and its statistics.
    pub(crate) fn of(bots: impl Iterator<Item = (bool, Statistics)>) -> Self {
        let mut summary = Self::default();
        for (is_joined, statistics) in bots {
            summary.bots += 1;
            summary.joined += usize::from(is_joined);
            summary.updates_out += statistics.updates_out;
            summary.updates_in += statistics.updates_in;
            summary.bytes_out += statistics.bytes_out;
            summary.bytes_in += statistics.bytes_in;
            summary.datagrams_out += statistics.datagrams_out;
            summary.datagrams_in += statistics.datagrams_in;
            summary.first_by_datagram += statistics.snapshots_by_datagram;
            summary.first_by_stream += statistics.snapshots_by_stream;
            summary.round_trips.extend(statistics.round_trip);
        }
        summary.round_trips.sort_unstable();
        summary
    }

    /// Returns one line: the traffic per second since an earlier summary.
    pub(crate) fn status(&self, before: &Self, passed: Duration) -> String {
        let per_s = |now: u64, before: u64| rate(now.saturating_sub(before), passed);
        format!(
            "{} of {} joined, updates {} out {} in, bytes {} out {} in, datagrams {} out {} in, \
             round trip {}",
            self.joined,
            self.bots,
            per_s(self.updates_out, before.updates_out),
            per_s(self.updates_in, before.updates_in),
            per_s(self.bytes_out, before.bytes_out),
            per_s(self.bytes_in, before.bytes_in),
            per_s(self.datagrams_out, before.datagrams_out),
            per_s(self.datagrams_in, before.datagrams_in),
            milliseconds(self.round_trips.get(self.round_trips.len() / 2)),
        )
    }

    /// Returns the lines at the end of a run.
    pub(crate) fn lines(&self, ran: Duration) -> String {
        let line = |name, out: u64, received: u64| {
            format!(
                "{name} sent {out} ({}), received {received} ({})\n",
                rate(out, ran),
                rate(received, ran)
            )
        };
        let snapshots = self.first_by_datagram + self.first_by_stream;
        let first_percent = 100.0 * self.first_by_datagram as f64 / snapshots.max(1) as f64;
        format!(
            "connected {} of {} for {:.1} s\n{}{}{}\
             {first_percent:.0} % of the snapshots came first by datagram\n\
             round trip min {}, median {}, max {}, waits for a frame included",
            self.joined,
            self.bots,
            ran.as_secs_f32(),
            line("updates", self.updates_out, self.updates_in),
            line("bytes", self.bytes_out, self.bytes_in),
            line("datagrams", self.datagrams_out, self.datagrams_in),
            milliseconds(self.round_trips.first()),
            milliseconds(self.round_trips.get(self.round_trips.len() / 2)),
            milliseconds(self.round_trips.last()),
        )
    }
}

fn rate(count: u64, passed: Duration) -> String {
    let per_s = count as f64 / passed.as_secs_f64().max(1e-3);
    match per_s {
        0.0..10_000.0 => format!("{per_s:.0}/s"),
        10_000.0..10_000_000.0 => format!("{:.1} k/s", per_s / 1e3),
        _ => format!("{:.1} M/s", per_s / 1e6),
    }
}

fn milliseconds(duration: Option<&Duration>) -> String {
    match duration {
        Some(duration) => format!("{:.1} ms", duration.as_secs_f64() * 1e3),
        None => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        let bot = |round_trip_ms| Statistics {
            round_trip: Some(Duration::from_millis(round_trip_ms)),
            bytes_in: 50_000,
            bytes_out: 1_000,
            updates_in: 300,
            updates_out: 150,
            datagrams_in: 75,
            snapshots_by_datagram: 60,
            snapshots_by_stream: 20,
            ..Statistics::default()
        };
        let bots = [
            (true, bot(9)),
            (true, bot(1)),
            (false, Statistics::default()),
        ];
        Summary::of(bots.into_iter())
    }

    #[test]
    fn the_end_of_a_run_is_summed_up() {
        assert_eq!(
            summary().lines(Duration::from_secs(5)),
            "connected 2 of 3 for 5.0 s\n\
             updates sent 300 (60/s), received 600 (120/s)\n\
             bytes sent 2000 (400/s), received 100000 (20.0 k/s)\n\
             datagrams sent 0 (0/s), received 150 (30/s)\n\
             75 % of the snapshots came first by datagram\n\
             round trip min 1.0 ms, median 9.0 ms, max 9.0 ms, waits for a frame included"
        );
        let none = Summary::of([].into_iter()).lines(Duration::ZERO);
        assert!(none.contains("min unknown"), "{none}");
    }

    #[test]
    fn a_status_line_counts_from_the_one_before() {
        let line = summary().status(&summary(), Duration::from_secs(5));
        let expected = "2 of 3 joined, updates 0/s out 0/s in, bytes 0/s out 0/s in, \
                        datagrams 0/s out 0/s in, round trip";
        assert!(line.starts_with(expected), "{line}");
    }
}
