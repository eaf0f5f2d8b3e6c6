//! The CPU time and the memory that Linux counts for processes and threads.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Returns the resident memory of a process, in bytes.
pub fn resident_bytes(id: u32) -> Result<u64> {
    memory_field(id, "VmRSS:")
}

/// Returns the largest resident memory that a process has had, in bytes.
pub fn peak_resident_bytes(id: u32) -> Result<u64> {
    memory_field(id, "VmHWM:")
}

/// Returns the CPU time of a process, including that of the kernel on its behalf. utime and stime count
/// hundredths of a second and include threads that have ended; schedstat counts nanoseconds of the
/// living ones. The larger one is nearer.
pub fn process_cpu(id: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).context("the process has ended")?;
    // The second field is the program's name in parentheses and may hold spaces.
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let mut fields = after_name.split_whitespace().skip(11);
    let mut next = || fields.next().and_then(|field| field.parse::<u64>().ok());
    let (user, system) = next().zip(next()).context("unreadable /proc/PID/stat")?;
    let coarse = Duration::from_millis(10 * (user + system));

    let mut fine = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{id}/task"))? {
        // A thread may end between the two calls.
        if let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) {
            fine += schedstat_cpu(&text).unwrap_or_default();
        }
    }
    Ok(coarse.max(fine))
}

/// Returns the CPU time of the calling thread.
pub fn thread_cpu() -> Result<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    schedstat_cpu(&text).context("the kernel keeps no times of threads (CONFIG_SCHED_INFO)")
}

/// Returns the CPU time of everything on this machine.
pub fn machine_cpu() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("empty /proc/stat")?;
    // User, nice, system, idle, waiting, interrupts, soft interrupts, stolen by other machines.
    let fields = line.split_whitespace().skip(1).take(8);
    let times = fields.map(str::parse).collect::<Result<Vec<u64>, _>>()?;
    let [
        user,
        nice,
        system,
        _,
        _,
        interrupts,
        soft_interrupts,
        stolen,
    ] = times[..]
    else {
        bail!("unreadable /proc/stat");
    };
    let hundredths = user + nice + system + interrupts + soft_interrupts + stolen;
    Ok(Duration::from_millis(10 * hundredths))
}

fn memory_field(id: u32, field: &str) -> Result<u64> {
    let status =
        fs::read_to_string(format!("/proc/{id}/status")).context("the process has ended")?;
    let kibibytes = status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .and_then(|value| value.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(1024 * kibibytes.with_context(|| format!("no {field} for process {id}"))?)
}

fn schedstat_cpu(text: &str) -> Option<Duration> {
    let nanoseconds = text.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn cpu_time_of_this_process_grows_with_work() {
        let before = process_cpu(std::process::id()).unwrap();
        let thread_before = thread_cpu().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while thread_cpu().unwrap() < thread_before + Duration::from_millis(30) {
            assert!(Instant::now() < deadline);
        }
        assert!(process_cpu(std::process::id()).unwrap() > before);
    }

    #[test]
    fn memory_of_this_process_is_known_and_no_larger_than_its_peak() {
        let id = std::process::id();
        let resident = resident_bytes(id).unwrap();
        assert!(resident > 0 && resident <= peak_resident_bytes(id).unwrap());
    }
}
