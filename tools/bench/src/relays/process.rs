//! A server under test: started, measured and ended with its guard.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A server that does not listen after this long has failed.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a server that starts is asked.
const START_POLL: Duration = Duration::from_millis(20);

/// A running server. Dropping it kills and reaps it, so none outlives an error or Ctrl-C.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// Where its clients connect.
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts a server that prints its address: the first word after `label` on a line of its
    /// standard output.
    pub(crate) fn start_announced(command: &mut Command, label: &str) -> Result<Self> {
        let mut server = Self::spawn(command.stdout(Stdio::piped()), unknown_address())?;
        let stdout = server.child.stdout.take().context("no standard output")?;
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            if let Some((_, rest)) = line.split_once(label)
                && let Some(Ok(address)) = rest.split_whitespace().next().map(str::parse)
            {
                server.address = address;
                return Ok(server);
            }
        }
        let program = command.get_program().display();
        bail!("{program} ended without saying where it listens")
    }

    /// Starts a server that was told to listen on `address`, and waits until it does.
    pub(crate) fn start_at(command: &mut Command, address: SocketAddr) -> Result<Self> {
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut server = Self::spawn(command, address)?;
        let program = command.get_program().display();
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(address).is_err() {
            if let Some(status) = server.child.try_wait()? {
                bail!("{program} ended at once: {status}");
            }
            if Instant::now() > deadline {
                bail!("{program} does not listen on {address}");
            }
            std::thread::sleep(START_POLL);
        }
        Ok(server)
    }

    /// The number that the system knows it by.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// CPU time used so far, of the kernel on its behalf too.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        process_cpu(self.child.id())
    }

    /// The largest resident memory so far, in bytes.
    pub(crate) fn peak_memory_bytes(&self) -> Result<u64> {
        self.memory_field("VmHWM:")
    }

    /// The resident memory now, in bytes.
    pub(crate) fn memory_bytes(&self) -> Result<u64> {
        self.memory_field("VmRSS:")
    }

    fn spawn(command: &mut Command, address: SocketAddr) -> Result<Self> {
        // The pipe's end tells our own modes that we are gone, however that came.
        let child = command
            .stdin(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Self { child, address })
    }

    fn memory_field(&self, field: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .context("the server has ended")?;
        let kibibytes = status
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .and_then(|value| value.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Ok(1024 * kibibytes.with_context(|| format!("no {field} for the server"))?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port nobody listens on at the moment.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// A program's path, where it is installed.
pub(crate) fn find_program(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Servers often lie where only root's PATH points to.
    let usual = ["/usr/sbin", "/usr/local/sbin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path)
        .chain(usual)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// CPU time of everything on this machine.
pub(crate) fn machine_cpu() -> Result<Duration> {
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

/// CPU time of the calling thread.
pub(crate) fn thread_cpu() -> Result<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    schedstat_cpu(&text).context("the kernel keeps no times of threads (CONFIG_SCHED_INFO)")
}

/// CPU time of a process. utime and stime count hundredths of a second and know threads that have
/// ended; schedstat counts nanoseconds of those that live. The larger is nearer.
fn process_cpu(id: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).context("the server has ended")?;
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

fn schedstat_cpu(text: &str) -> Option<Duration> {
    let nanoseconds = text.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

fn unknown_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
}

#[cfg(test)]
mod tests {
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
    fn a_dropped_server_is_gone() {
        let server = Server::spawn(&mut Command::new("cat"), unknown_address()).unwrap();
        let stat = format!("/proc/{}/stat", server.child.id());
        assert!(server.memory_bytes().unwrap() > 0);
        drop(server);
        assert!(fs::read_to_string(stat).is_err());
    }
}
