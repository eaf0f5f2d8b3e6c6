//! What Prometheus' own clients tell of every process.

use std::sync::atomic::AtomicU64;
use std::time::SystemTime;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// Registers the process's memory, descriptors and start, as far as the system tells them.
pub(super) fn register(registry: &mut Registry, started: SystemTime) {
    let process = registry.sub_registry_with_prefix("process");
    let number = |value: u64| {
        let gauge = Gauge::<f64, AtomicU64>::default();
        gauge.set(value as f64);
        gauge
    };
    if let Some(bytes) = resident_bytes() {
        let help = "Memory in use";
        process.register_with_unit("resident_memory", help, Unit::Bytes, number(bytes));
    }
    if let Some(count) = open_descriptors() {
        process.register("open_fds", "Open descriptors", number(count));
    }
    if let Ok((limit, _)) = rlimit::Resource::NOFILE.get() {
        process.register("max_fds", "Descriptors at most", number(limit));
    }
    let since = started.duration_since(SystemTime::UNIX_EPOCH);
    let seconds = number(since.unwrap_or_default().as_secs());
    process.register_with_unit("start_time", "Start since 1970", Unit::Seconds, seconds);
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1_024)
}

fn open_descriptors() -> Option<u64> {
    let count = std::fs::read_dir("/proc/self/fd").ok()?.count();
    // Looking opened one.
    Some(count.saturating_sub(1) as u64)
}
