//! One trial of an attack: two good players measure the server before, during and after it.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cubesync_client::{ClientOptions, Trust};
use cubesync_harness::usage;
use cubesync_harness::wait::comes_true;
use serde::Serialize;
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;

use super::attack::Attack;
use super::attackers::{AtWork, Attacker, Plan, Tally, Way};
use super::field::{Field, SERVER, SERVER_V6};
use crate::harness::bystanders::{Bystanders, Flow};
use crate::harness::namespace::enter;
use crate::harness::process::{self, Process};
use crate::harness::server::Server;
use crate::harness::trial::hello;
use crate::runner::{MEMORY_TOLERANCE_KIB, Verdict};

/// Smallest part of the good players' rate that an attack may leave.
const LEAST_RATE: f64 = 0.95;
/// The longest gap that good players may have.
const LONGEST_GAP_MS: f64 = 150.0;
/// Memory is back after this long: ghosts, which the attackers leave, stay for 15 s.
const SETTLE_WITHIN: Duration = Duration::from_secs(25);
/// How often memory is read during an attack.
const READING_INTERVAL: Duration = Duration::from_millis(50);
/// CPU seconds per second of others on this machine from which on a failure may be theirs.
const BUSY: f64 = 0.25;
/// How often an attack is tried while others use the machine.
const TRIES: usize = 3;

/// The times of a thorough run, and of a quick one.
const THOROUGH: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(8)];
const QUICK: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(5)];

/// What is seen of the server in a while.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Seen {
    #[serde(flatten)]
    pub(super) flow: Flow,
    /// The server's CPU seconds per second.
    pub(super) cpu: f64,
    /// Bytes a second to the watcher, in thousands.
    pub(super) watcher_kb_per_s: f64,
    /// CPU seconds per second of everything else on this machine but this program.
    pub(super) others_cpu: f64,
}

/// The result of an attack.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    pub(super) attack: &'static str,
    pub(super) addresses: usize,
    pub(super) before: Option<Seen>,
    pub(super) during: Option<Seen>,
    /// Resident memory before, at most, and after, in KiB.
    pub(super) memory_kib: Option<[u64; 3]>,
    /// Whether the allocator keeps more than before, and needed no more for the same again.
    pub(super) keeps_memory: bool,
    /// What the attackers achieved and the server counted.
    pub(super) force: String,
    /// What else was tried.
    pub(super) saw: String,
    /// The number of tries.
    pub(super) tries: usize,
    #[serde(flatten)]
    pub(super) verdict: Verdict,
}

/// What an attack's checks can use.
pub(super) struct Scene<'a> {
    pub(super) field: &'a Field,
    pub(super) server: &'a Server,
    /// The server's resident memory before the attack, in KiB.
    pub(super) memory_kib: u64,
}

impl Scene<'_> {
    /// Returns the address of the port for clients, seen from outside.
    pub(super) fn tcp(&self) -> SocketAddr {
        SocketAddr::new(SERVER.into(), self.server.tcp.port())
    }

    /// Returns the address of the port for pages, seen from outside.
    pub(super) fn http(&self) -> SocketAddr {
        SocketAddr::new(SERVER.into(), self.server.http.port())
    }
}

/// Tries an attack until it passes, or fails while nobody else uses the machine.
pub(super) fn run(
    field: &Field,
    binary: &Path,
    attack: &Attack,
    addresses: usize,
    is_quick: bool,
) -> Line {
    let mut tries = 0;
    loop {
        tries += 1;
        let mut line = Line {
            attack: attack.name,
            addresses,
            before: None,
            during: None,
            memory_kib: None,
            keeps_memory: false,
            force: String::new(),
            saw: String::new(),
            tries,
            verdict: Verdict::Survived,
        };
        if let Err(error) = try_once(field, binary, attack, is_quick, &mut line) {
            line.verdict = Verdict::Failed(format!("{error:#}"));
        }
        let seen = [line.before, line.during];
        let is_disturbed = |seen: &Seen| seen.others_cpu > BUSY;
        let is_final = line.verdict == Verdict::Survived || tries == TRIES;
        if is_final || !seen.iter().flatten().any(is_disturbed) {
            return line;
        }
    }
}

fn try_once(
    field: &Field,
    binary: &Path,
    attack: &Attack,
    is_quick: bool,
    line: &mut Line,
) -> Result<()> {
    let [calm, lasts] = if is_quick { QUICK } else { THOROUGH };
    let server = Server::start(binary, attack.setup, is_quick)?;
    stand_ghosts(&server, attack.ghosts)?;
    let bystanders = good_players(field, &server, attack.setup.join_key)?;
    let process = server.process();
    let begin = || Reading::of(process, &bystanders);
    let before = begin()?;
    std::thread::sleep(calm);
    line.before = Some(before.until(&begin()?, &bystanders));
    let counters = server.counters()?;
    let memory_kib = process.resident_kib()?;

    let plan = plan(&server, attack, line.addresses)?;
    let scene = Scene {
        field,
        server: &server,
        memory_kib,
    };
    let began = begin()?;
    let at_work = AtWork::start(field.outside(), plan.clone(), attack.start);
    let (is_over, peak_kib) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let now = process.resident_kib().unwrap_or_default();
                peak_kib.fetch_max(now, Ordering::Relaxed);
                std::thread::sleep(READING_INTERVAL);
            }
        });
        std::thread::sleep(lasts.max(attack.lasts));
        line.saw = match attack.meanwhile {
            Some(meanwhile) => {
                meanwhile(&scene).unwrap_or_else(|error| format!("FAILED: {error:#}"))
            }
            None => String::new(),
        };
        is_over.store(true, Ordering::Relaxed);
    });
    let ended = begin()?;
    line.during = Some(began.until(&ended, &bystanders));
    let grown = server.counters()?;
    at_work.stop()?;
    let now = || process.resident_kib().unwrap_or(u64::MAX);
    let comes_below = |limit| comes_true(SETTLE_WITHIN, || now() <= limit);
    let is_back = comes_below(memory_kib + MEMORY_TOLERANCE_KIB);
    line.memory_kib = Some([memory_kib, peak_kib.load(Ordering::Relaxed), now()]);

    let seconds = ended.at.duration_since(began.at).as_secs_f64();
    let tally = plan.tally.counts();
    let achieved = tally
        .iter()
        .map(|(what, count)| format!("{what} {:.0}/s", *count as f64 / seconds));
    let limits = attack.limits.iter().filter_map(|limit| {
        let count = grown.growth(&counters, &[limit]);
        (count > 0).then(|| format!("{limit} +{count}"))
    });
    line.force = achieved.chain(limits).collect::<Vec<_>>().join(", ");
    for (what, least) in attack.least {
        let count = tally.get(what).copied().unwrap_or_default();
        let least = least * plan.sources.len() as u64;
        ensure!(
            count >= least,
            "not at full force: {count} {what}, not {least}"
        );
    }
    ensure!(
        attack.limits.is_empty() || grown.growth(&counters, attack.limits) > 0,
        "not at full force: no limit was reached ({})",
        grown.all_since(&counters)
    );
    if !is_back {
        // The allocator may keep what many connections once needed, but a leak takes more each time.
        let once = now();
        let again = AtWork::start(field.outside(), plan.clone(), attack.start);
        std::thread::sleep(lasts.max(attack.lasts));
        again.stop()?;
        line.keeps_memory = comes_below(once + MEMORY_TOLERANCE_KIB);
        ensure!(
            line.keeps_memory,
            "memory was {memory_kib} KiB, then {once}, then {} KiB",
            now()
        );
    }
    judge(line)?;
    if let Some(what) = attack.never.iter().find(|what| tally.contains_key(**what)) {
        bail!("{what} {} times", tally[what]);
    }
    if let Some(afterwards) = attack.afterwards {
        line.saw += &afterwards(&scene)?;
    }
    ensure!(bystanders.joins() == 2, "a good player lost the connection");
    Ok(())
}

/// Fails if the good players have suffered.
fn judge(line: &Line) -> Result<()> {
    let (before, during) = line
        .before
        .zip(line.during)
        .context("nothing was measured")?;
    let mut faults = Vec::new();
    let rate = during.flow.updates_per_s / before.flow.updates_per_s;
    if rate < LEAST_RATE {
        faults.push(format!(
            "{:.1} updates a second instead of {:.1}",
            during.flow.updates_per_s, before.flow.updates_per_s
        ));
    }
    if during.flow.longest_gap_ms > LONGEST_GAP_MS {
        faults.push(format!("a gap of {:.0} ms", during.flow.longest_gap_ms));
    }
    if line.saw.starts_with("FAILED") {
        faults.push(line.saw.clone());
    }
    ensure!(faults.is_empty(), "{}", faults.join("; "));
    Ok(())
}

/// Lets players join the lobby from this machine and lose their connections.
fn stand_ghosts(server: &Server, count: usize) -> Result<()> {
    const AT_ONCE: usize = 32;
    let way = match server.encryption {
        Some(_) => Way::Tls,
        None => Way::Tcp,
    };
    let player = Attacker {
        plan: Plan {
            sources: Vec::new(),
            tcp: server.tcp,
            http: server.http,
            tally: Arc::default(),
            encryption: server.encryption.clone(),
        },
        source: server.tcp.ip(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut coming = JoinSet::new();
        for number in 0..AT_ONCE {
            let player = player.clone();
            coming.spawn(async move {
                for _ in (number..count).step_by(AT_ONCE) {
                    let mut greeted = player.greet(way, hello("ghost")).await?;
                    // The welcome has come.
                    greeted.stream.read_u8().await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(outcome) = coming.join_next().await {
            outcome?.context("the ghosts do not come")?;
        }
        Ok(())
    })
}

fn good_players(field: &Field, server: &Server, key: Option<&str>) -> Result<Bystanders> {
    let address = SocketAddr::new(SERVER.into(), server.tcp.port());
    let mut options = ClientOptions {
        join_key: key.map(str::to_owned),
        ..ClientOptions::new(address.to_string(), "")
    };
    if server.encryption.is_some() {
        options.server = format!("{}{address}", ClientOptions::TLS);
        options.trust = Trust::Anybody;
    }
    let outside = field.outside().to_owned();
    Bystanders::join_after(options, move || {
        enter(&outside)?;
        process::run_first()
    })
}

fn plan(server: &Server, attack: &Attack, addresses: usize) -> Result<Plan> {
    let sources: Vec<_> = (0..addresses).map(attack.source).collect();
    let host = match sources.iter().any(IpAddr::is_ipv6) {
        true => SERVER_V6.into(),
        false => SERVER.into(),
    };
    Ok(Plan {
        sources,
        tcp: SocketAddr::new(host, server.tcp.port()),
        http: SocketAddr::new(host, server.http.port()),
        tally: Arc::new(Tally::default()),
        encryption: server.encryption.clone(),
    })
}

/// The counts at one time.
struct Reading {
    at: Instant,
    cpu: Duration,
    received_bytes: u64,
    own_cpu: Duration,
    machine_cpu: Duration,
}

impl Reading {
    fn of(server: Process, bystanders: &Bystanders) -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            cpu: server.cpu()?,
            received_bytes: bystanders.received_bytes(),
            own_cpu: usage::process_cpu(std::process::id())?,
            machine_cpu: usage::machine_cpu()?,
        })
    }

    fn until(&self, end: &Self, bystanders: &Bystanders) -> Seen {
        let seconds = (end.at - self.at).as_secs_f64();
        let share = |cpu: Duration| cpu.as_secs_f64() / seconds;
        let cpu = end.cpu - self.cpu;
        let own = end.own_cpu - self.own_cpu;
        let all = end.machine_cpu - self.machine_cpu;
        Seen {
            flow: bystanders.flow(self.at, end.at),
            cpu: share(cpu),
            watcher_kb_per_s: (end.received_bytes - self.received_bytes) as f64 / seconds / 1e3,
            others_cpu: share(all.saturating_sub(cpu + own)),
        }
    }
}
