//! The faults of a cluster.

use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cubesync_harness::http;
use cubesync_harness::players::{Among, Players, ROOM, owner};
use cubesync_harness::wait::comes_true;
use rustix::process::Signal;

use super::intruder::Intruder;
use super::island::Island;
use super::machine::{Service, Site};
use super::{Fault, Trial};
use crate::harness::proxy::Proxy;

/// Something that should happen at once happens in this time on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(40);
/// The longest time for which players of one server may not see each other move while the bus is away, on a
/// busy machine too. A server that has lost the owner becomes an island after a second.
const LOCAL_GAP: Duration = Duration::from_secs(5);
const SERVERS: usize = 3;

/// The goals for the time until everybody sees everybody again. A longer time is marked, and is no failure: how
/// busy the machine is decides it too.
const AT_ONCE: Duration = Duration::from_millis(500);
const AFTER_A_KILL: Duration = Duration::from_secs(2);
const AFTER_A_CUT: Duration = Duration::from_secs(2);

pub(super) const FAULTS: &[Fault] = &[
    Fault::new("owner-killed", |trial| lose(trial, true, Way::Killed)),
    Fault::new("owner-stopped", |trial| lose(trial, true, Way::Stopped)),
    Fault::new("owner-paused", |trial| lose(trial, true, Way::Paused)),
    Fault::new("edge-killed", |trial| lose(trial, false, Way::Killed)),
    Fault::new("edge-stopped", |trial| lose(trial, false, Way::Stopped)),
    Fault::new("owner-killed-and-back", owner_back),
    Fault::new("rolling-restart", rolling_restart),
    Fault::new("nats-away", |trial| nats_away(trial, Way::Killed)),
    Fault::new("nats-paused", |trial| nats_away(trial, Way::Paused)),
    Fault::new("nats-slow", nats_slow),
    Fault::new("garbage-on-the-bus", garbage),
    Fault::new("flood-on-the-bus", flood),
    Fault::new("owner-cut-off", |trial| cut_off(trial, &[0])).needs_root(),
    Fault::new("edge-cut-off", |trial| cut_off(trial, &[2])).needs_root(),
    Fault::new("two-and-one", |trial| cut_off(trial, &[0, 1])).needs_root(),
];

/// The way in which a process is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Killed,
    Stopped,
    Paused,
}

/// A nats-server, servers, and players on each that see each other. Server 0 owns their room.
struct Cluster {
    // The fields are dropped in this order.
    players: Players,
    servers: Vec<Service>,
    nats: Service,
}

impl Cluster {
    fn start(trial: &Trial<'_>) -> Result<Self> {
        let site = Site::here(trial.folder);
        let nats = site.nats(Ipv4Addr::LOCALHOST)?;
        let bus = nats.address;
        Self::playing(trial, nats, |_| site.server(trial.binary, bus))
    }

    /// Starts servers, the first of which owns the room, and lets players join them.
    fn playing(
        trial: &Trial<'_>,
        nats: Service,
        start: impl Fn(usize) -> Result<Service>,
    ) -> Result<Self> {
        let mut servers = vec![start(0)?];
        let first: Vec<_> = servers.iter().filter_map(|server| server.pages).collect();
        ensure!(
            comes_true(PATIENCE, || owner(&first, ROOM).is_ok()),
            "the first server does not own the room"
        );
        for number in 1..SERVERS {
            servers.push(start(number)?);
        }
        let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
        let know_all = |pages: &[SocketAddr]| pages.iter().all(|&pages| knows(pages, SERVERS));
        let pages: Vec<_> = servers.iter().filter_map(|server| server.pages).collect();
        ensure!(
            comes_true(PATIENCE, || know_all(&pages)),
            "the servers do not find each other"
        );
        let cluster = Self {
            players: Players::join(&addresses, trial.players / SERVERS),
            servers,
            nats,
        };
        cluster.whole(Instant::now(), PATIENCE)?;
        cluster.players.begin();
        ensure!(
            owner(&cluster.pages(), ROOM)?.0 == 0,
            "the first server does not own the room any more"
        );
        Ok(cluster)
    }

    /// Returns the addresses of the running servers' pages.
    fn pages(&self) -> Vec<SocketAddr> {
        let running = self.servers.iter().filter(|server| server.is_running());
        running.filter_map(|server| server.pages).collect()
    }

    /// Waits until everybody sees everybody, and describes how long after `since` that was.
    fn whole(&self, since: Instant, goal: Duration) -> Result<String> {
        let took = self.players.outage(since, Among::All, PATIENCE)?;
        Ok(against(took, goal))
    }

    /// Does the same, and then checks that every view is the owner's world.
    fn healed(&self, since: Instant, goal: Duration) -> Result<String> {
        let whole = self.whole(since, goal)?;
        let agreed = self.players.agree(&self.pages(), PATIENCE)?;
        for server in &self.servers {
            server.is_well()?;
        }
        let mut text = format!(
            "all see all after {whole}, exact {} ms after the last move",
            agreed.as_millis()
        );
        let (ids, losses) = self.players.changes();
        if ids + losses > 0 {
            write!(text, ", {ids} other ids, the held cube lost {losses} times")?;
        }
        Ok(text)
    }

    /// Checks that the players of each server have always seen each other move.
    fn locals(&self) -> Result<String> {
        let gaps = (0..SERVERS).map(|server| self.players.longest_gap(Among::Server(server)));
        let gap = gaps.max().unwrap_or_default();
        ensure!(
            gap < LOCAL_GAP,
            "players of one server did not see each other for {gap:?}"
        );
        Ok(format!(
            "players of one server see each other, longest gap {} ms",
            gap.as_millis()
        ))
    }
}

/// Returns whether the server with these pages has found this number of servers.
fn knows(pages: SocketAddr, servers: usize) -> bool {
    let line = format!("\ncubesync_cluster_servers {servers}\n");
    let page = http::get(pages, "/metrics");
    page.is_ok_and(|page| String::from_utf8_lossy(&page.body).contains(&line))
}

/// Writes a time, and the goal if it was missed.
fn against(took: Duration, goal: Duration) -> String {
    let mut text = format!("{:.2} s", took.as_secs_f64());
    if took > goal {
        text += &format!(" (GOAL {:.1} s)", goal.as_secs_f64());
    }
    text
}

/// Loses the owner or an edge, and lets it come back.
fn lose(trial: &Trial<'_>, is_owner: bool, way: Way) -> Result<String> {
    let mut cluster = Cluster::start(trial)?;
    let number = if is_owner { 0 } else { SERVERS - 1 };
    let began = Instant::now();
    let (goal, others_goal) = match (is_owner, way) {
        (_, Way::Stopped) => (AT_ONCE, AT_ONCE),
        (true, _) => (AFTER_A_KILL, AFTER_A_KILL),
        (false, _) => (AFTER_A_KILL, AT_ONCE),
    };
    let server = &mut cluster.servers[number];
    match way {
        Way::Killed => server.kill(),
        Way::Stopped => server.signal(Signal::TERM)?,
        Way::Paused => server.signal(Signal::STOP)?,
    }
    let others = cluster
        .players
        .outage(began, Among::Others(number), PATIENCE)?;
    let others = against(others, others_goal);
    // Players notice a silent server after 3 s.
    let noticed = if way == Way::Paused {
        goal + Duration::from_secs(3)
    } else {
        goal
    };
    let mut text = format!("the others see each other after {others}, ");
    match way {
        Way::Paused => {
            let pause = trial.pick(8, 30);
            let whole = cluster.whole(began, noticed)?;
            std::thread::sleep(pause.saturating_sub(began.elapsed()));
            cluster.servers[number].signal(Signal::CONT)?;
            write!(
                text,
                "all see all after {whole}; after {} s it goes on: ",
                pause.as_secs()
            )?;
        }
        way => {
            if way == Way::Stopped {
                cluster.servers[number].ends()?;
            }
            text += &cluster.healed(began, goal)?;
            cluster.servers[number].start_again()?;
            text += "; it starts again: ";
        }
    }
    text += &cluster.healed(Instant::now(), AT_ONCE)?;
    Ok(text)
}

/// Starts a killed owner again before the others have noticed.
fn owner_back(trial: &Trial<'_>) -> Result<String> {
    let mut cluster = Cluster::start(trial)?;
    let began = Instant::now();
    cluster.servers[0].kill();
    cluster.servers[0].start_again()?;
    cluster.healed(began, AFTER_A_KILL)
}

fn rolling_restart(trial: &Trial<'_>) -> Result<String> {
    let mut cluster = Cluster::start(trial)?;
    let mut times = Vec::new();
    for number in 0..SERVERS {
        let began = Instant::now();
        let server = &mut cluster.servers[number];
        server.signal(Signal::TERM)?;
        server.ends()?;
        server.start_again()?;
        times.push(cluster.whole(began, AT_ONCE)?);
    }
    let healed = cluster.healed(Instant::now(), AT_ONCE)?;
    Ok(format!(
        "after each all see all after {}; at the end {healed}",
        times.join(", ")
    ))
}

fn nats_away(trial: &Trial<'_>, way: Way) -> Result<String> {
    let mut cluster = Cluster::start(trial)?;
    let lasts = trial.pick(8, 60);
    if way == Way::Paused {
        cluster.nats.signal(Signal::STOP)?;
    } else {
        cluster.nats.kill();
    }
    std::thread::sleep(lasts);
    let locals = cluster.locals()?;
    let began = Instant::now();
    if way == Way::Paused {
        cluster.nats.signal(Signal::CONT)?;
    } else {
        cluster.nats.start_again()?;
    }
    let healed = cluster.healed(began, AFTER_A_CUT)?;
    Ok(format!("for {} s {locals}; then {healed}", lasts.as_secs()))
}

/// Delays messages a little at first, and then for longer than a lease lasts.
fn nats_slow(trial: &Trial<'_>) -> Result<String> {
    let site = Site::here(trial.folder);
    let nats = site.nats(Ipv4Addr::LOCALHOST)?;
    let proxy = Proxy::to(nats.address)?;
    let cluster = Cluster::playing(trial, nats, |_| site.server(trial.binary, proxy.address))?;
    proxy.delay(Duration::from_millis(50));
    std::thread::sleep(trial.pick(4, 20));
    let gap = cluster.players.longest_gap(Among::All);
    proxy.delay(Duration::from_secs(2));
    std::thread::sleep(trial.pick(6, 20));
    let locals = cluster.locals()?;
    proxy.delay(Duration::ZERO);
    // For two seconds the late messages still arrive.
    let healed = cluster.healed(Instant::now(), Duration::from_secs(2) + AFTER_A_CUT)?;
    Ok(format!(
        "50 ms each way: longest gap {} ms; 2 s each way: {locals}; then {healed}",
        gap.as_millis()
    ))
}

/// Publishes random, truncated and repeated messages on the bus, and then others' messages with a changed
/// bit. The servers believe some of the latter, but no room may end, and the world must be whole afterwards.
fn garbage(trial: &Trial<'_>) -> Result<String> {
    let cluster = Cluster::start(trial)?;
    let mut intruder = Intruder::on(cluster.nats.address)?;
    let broken = intruder.publish(trial.pick(5, 30), false)?;
    let healed = cluster.healed(Instant::now(), AFTER_A_CUT)?;
    let changed = intruder.publish(trial.pick(5, 30), true)?;
    let healed_again = cluster.healed(Instant::now(), AFTER_A_CUT)?;
    Ok(format!(
        "{broken} broken and repeated payloads: {healed}; {changed} changed ones: {healed_again}"
    ))
}

/// Asks the ends of all links for their packets, and repeats requests, far more often than servers do. Players
/// must go on seeing each other.
fn flood(trial: &Trial<'_>) -> Result<String> {
    let cluster = Cluster::start(trial)?;
    let mut intruder = Intruder::on(cluster.nats.address)?;
    let published = intruder.flood(trial.pick(5, 30))?;
    let gap = cluster.players.longest_gap(Among::All);
    let resent: u64 = cluster.pages().into_iter().map(resent_packets).sum();
    ensure!(resent > 0, "no server answered");
    ensure!(
        gap < LOCAL_GAP,
        "players did not see each other for {gap:?}"
    );
    let healed = cluster.healed(Instant::now(), AFTER_A_CUT)?;
    Ok(format!(
        "{published} requests, {resent} packets sent again: longest gap {} ms; then {healed}",
        gap.as_millis()
    ))
}

/// Returns how many packets a server has sent again.
fn resent_packets(pages: SocketAddr) -> u64 {
    let body = http::get(pages, "/metrics").map_or(Vec::new(), |page| page.body);
    let page = String::from_utf8_lossy(&body);
    let count = page
        .lines()
        .find_map(|line| line.strip_prefix("cubesync_link_resent_total "));
    count
        .and_then(|count| count.parse().ok())
        .unwrap_or_default()
}

/// Cuts servers off from their nats-server, in a network of their own.
fn cut_off(trial: &Trial<'_>, inside: &[usize]) -> Result<String> {
    let island = Island::new()?;
    let folder = trial.folder;
    let here = Site::here(folder);
    let there = Site {
        folder,
        address: island.address,
        netns: Some(&island.name),
    };
    let nats = here.nats(Ipv4Addr::UNSPECIFIED)?;
    let far_bus = SocketAddr::new(island.harbour.into(), nats.address.port());
    let near_bus = nats.address;
    let cluster = Cluster::playing(trial, nats, |number| match inside.contains(&number) {
        true => there.server(trial.binary, far_bus),
        false => here.server(trial.binary, near_bus),
    })?;
    let began = Instant::now();
    island.cut()?;
    let mut text = String::new();
    if let &[lonely] = inside {
        let others = cluster
            .players
            .outage(began, Among::Others(lonely), PATIENCE)?;
        let goal = if lonely == 0 { AFTER_A_KILL } else { AT_ONCE };
        text = format!(
            "the others see each other after {}; ",
            against(others, goal)
        );
    }
    let lasts = trial.pick(8, 60);
    std::thread::sleep(lasts.saturating_sub(began.elapsed()));
    text += &cluster.locals().context("during the cut")?;
    let mended = Instant::now();
    island.mend()?;
    let healed = cluster.healed(mended, AFTER_A_CUT)?;
    // Its processes would keep the namespace.
    drop((cluster, island));
    Ok(format!("for {} s: {text}; then {healed}", lasts.as_secs()))
}
