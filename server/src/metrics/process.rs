//! The process metrics that Prometheus' own client libraries export.

use std::time::SystemTime;

use prometheus_client::registry::Unit;

use cubesync_relay::metrics::MetricSet;

/// Registers the process's memory, descriptors and start time, as far as the system reports them.
pub(super) fn register(set: &MetricSet) {
    let bytes = Some(Unit::Bytes);
    set.read_gauge(
        "process_resident_memory",
        "Memory in use",
        bytes,
        resident_bytes,
    );
    set.read_gauge(
        "process_open_fds",
        "Open descriptors",
        None,
        open_descriptors,
    );
    set.read_gauge("process_max_fds", "Descriptors at most", None, || {
        let (limit, _) = rlimit::Resource::NOFILE.get().ok()?;
        Some(limit as f64)
    });
    let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let started_s = started.unwrap_or_default().as_secs() as f64;
    let seconds = Some(Unit::Seconds);
    set.read_gauge(
        "process_start_time",
        "Start since 1970",
        seconds,
        move || Some(started_s),
    );
}

/// Returns the memory of the process that is in the machine; `None` where the system does not say.
pub(crate) fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some((kib * 1_024) as f64)
}

fn open_descriptors() -> Option<f64> {
    let count = std::fs::read_dir("/proc/self/fd").ok()?.count();
    // Listing the folder opened one.
    Some(count.saturating_sub(1) as f64)
}
