//! The faults of a cluster.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::islands::Islands;
use super::machine::{Service, Site};
use super::players::{Pair, Players};
use super::{Fault, Trial};
use crate::harness::proxy::Proxy;

/// Something that should happen at once happens in this time on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(40);
/// A cube of a silent server is a ghost after 1 s and leaves 15 s later.
const LEAVES_WITHIN: Duration = Duration::from_secs(60);
/// A server that is asked to stop does within its drain time.
const STOPS_WITHIN: Duration = Duration::from_secs(20);
/// The longest time for which a player may see a moving cube of the same server stand, on a busy machine
/// too.
const LOCAL_GAP: Duration = Duration::from_secs(2);
const SERVERS: usize = 3;
const PLAYERS_EACH: usize = 2;

pub(super) const FAULTS: &[Fault] = &[
    Fault::new("nats-gone", nats_gone),
    Fault::new("nats-stopped", nats_stopped),
    Fault::new("nats-slow", nats_slow),
    Fault::new("garbage-on-the-bus", garbage),
    Fault::new("server-killed", server_killed),
    Fault::new("server-killed-and-back", server_restarted),
    Fault::new("server-paused", server_paused),
    Fault::new("rolling-restart", rolling_restart),
    Fault::new("servers-cut-apart", cut_apart).needs_root(),
];

/// A nats-server, servers, and players on each that see each other.
struct Cluster {
    // The fields are dropped in this order.
    players: Players,
    servers: Vec<Service>,
    nats: Service,
}

impl Cluster {
    fn start(trial: &Trial<'_>) -> Result<Self> {
        let site = Site::here(trial.folder);
        let nats = site.nats(&[])?;
        let bus = nats.address;
        Self::on(trial, nats, bus)
    }

    /// Starts servers that reach the nats-server at `bus`, and players on each.
    fn on(trial: &Trial<'_>, nats: Service, bus: std::net::SocketAddr) -> Result<Self> {
        let site = Site::here(trial.folder);
        let servers: Result<Vec<_>> = (0..SERVERS)
            .map(|_| site.server(trial.binary, bus))
            .collect();
        Self::playing(servers?, nats)
    }

    fn playing(servers: Vec<Service>, nats: Service) -> Result<Self> {
        let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
        let players = Players::join(&addresses, PLAYERS_EACH);
        let cluster = Self {
            players,
            servers,
            nats,
        };
        cluster.players.are_together(PATIENCE)?;
        cluster.players.begin();
        Ok(cluster)
    }

    /// Waits until all players see each other again, and describes how long it took.
    fn healed(&self) -> Result<String> {
        let took = self.players.are_together(PATIENCE)?;
        let agreed = self.players.agree(PATIENCE)?;
        self.players.have_kept_their_cubes()?;
        Ok(format!(
            "whole again after {} ms, exact {} ms after the last move",
            took.as_millis(),
            agreed.as_millis()
        ))
    }

    /// Checks that players of the same server have always seen each other move.
    fn locals(&self) -> Result<String> {
        let gap = self.players.longest_gap(Pair::Local);
        ensure!(
            gap < LOCAL_GAP,
            "players of one server stood still for {gap:?}"
        );
        let put = self.players.corrections();
        ensure!(put == 0, "{put} corrections for nothing wrong");
        Ok(format!("locals' longest gap {} ms", gap.as_millis()))
    }
}

/// Checks that, while servers cannot reach each other, cubes of other servers become ghosts and then leave.
fn silence(cluster: &Cluster, began: Instant, lasts: Duration) -> Result<String> {
    cluster.players.see_ghosts(PATIENCE)?;
    let ghosts = began.elapsed();
    cluster.players.see_nobody_else(LEAVES_WITHIN)?;
    let left = began.elapsed();
    std::thread::sleep(lasts.saturating_sub(began.elapsed()));
    let locals = cluster.locals()?;
    Ok(format!(
        "ghosts after {:.1} s, gone after {:.1} s, {locals}",
        ghosts.as_secs_f64(),
        left.as_secs_f64()
    ))
}

fn nats_gone(trial: &Trial<'_>) -> Result<String> {
    let mut cluster = Cluster::start(trial)?;
    let began = Instant::now();
    cluster.nats.kill();
    let silence = silence(&cluster, began, trial.pick(20, 60))?;
    cluster.nats.start_again()?;
    Ok(format!("{silence}; {}", cluster.healed()?))
}

fn nats_stopped(trial: &Trial<'_>) -> Result<String> {
    let cluster = Cluster::start(trial)?;
    let began = Instant::now();
    cluster.nats.signal(Signal::STOP)?;
    let silence = silence(&cluster, began, trial.pick(20, 60))?;
    cluster.nats.signal(Signal::CONT)?;
    Ok(format!("{silence}; {}", cluster.healed()?))
}

/// Delays messages a little at first, and then for longer than servers wait for each other.
fn nats_slow(trial: &Trial<'_>) -> Result<String> {
    let nats = Site::here(trial.folder).nats(&[])?;
    let proxy = Proxy::to(nats.address)?;
    let cluster = Cluster::on(trial, nats, proxy.address)?;
    proxy.delay(Duration::from_millis(100));
    std::thread::sleep(trial.pick(6, 30));
    let together = cluster.players.are_together(PATIENCE)?;
    let gap = cluster.players.longest_gap(Pair::Remote);
    proxy.delay(Duration::from_secs(2));
    std::thread::sleep(trial.pick(6, 30));
    let locals = cluster.locals()?;
    proxy.delay(Duration::ZERO);
    let healed = cluster.healed()?;
    Ok(format!(
        "100 ms each way: all seen {} ms later, longest gap {} ms; 2 s each way: {locals}; {healed}",
        together.as_millis(),
        gap.as_millis()
    ))
}

/// Publishes random, truncated and repeated messages on the bus, and then others' messages with a changed
/// bit. The servers believe the latter, but no room may end.
fn garbage(trial: &Trial<'_>) -> Result<String> {
    let cluster = Cluster::start(trial)?;
    let mut intruder = Intruder::on(&cluster.nats)?;
    let published = intruder.publish(trial.pick(5, 60), false)?;
    let locals = cluster.locals()?;
    let healed = cluster.healed()?;
    // Changed times move the cluster's clock, changed claims its cubes.
    let changed = intruder.publish(trial.pick(5, 60), true)?;
    for server in &cluster.servers {
        ensure!(
            !server.has_logged("panicked"),
            "{}",
            server.last_log_lines()
        );
        // A bent claim may name the very cube that one of them gets, and is believed. Not all of them.
        Players::join(&[server.address], 4).one_is_in(PATIENCE)?;
    }
    Ok(format!(
        "{published} broken and repeated payloads: {locals}; {healed}; {changed} changed ones: no server panics, \
         newcomers can join"
    ))
}

/// A client of the bus that publishes everything that it receives, in another form.
struct Intruder {
    bus: TcpStream,
    received: Vec<u8>,
    random: fastrand::Rng,
}

impl Intruder {
    fn on(nats: &Service) -> Result<Self> {
        let mut bus = TcpStream::connect(nats.address)?;
        bus.set_read_timeout(Some(Duration::from_millis(20)))?;
        bus.write_all(b"CONNECT {\"verbose\":false,\"echo\":false}\r\nSUB > 1\r\n")?;
        Ok(Self {
            bus,
            received: Vec::new(),
            random: fastrand::Rng::with_seed(7),
        })
    }

    /// Publishes for `duration` what it receives, with a changed bit or otherwise broken. Returns the number
    /// of messages.
    fn publish(&mut self, duration: Duration, changes_bits: bool) -> Result<usize> {
        let (mut published, end) = (0, Instant::now() + duration);
        while Instant::now() < end {
            let mut chunk = [0; 16 * 1024];
            if let Ok(count @ 1..) = self.bus.read(&mut chunk) {
                self.received.extend_from_slice(&chunk[..count]);
            }
            while let Some((subject, mut payload)) = take_message(&mut self.received) {
                let random = &mut self.random;
                if changes_bits && !payload.is_empty() {
                    let at = random.usize(..payload.len());
                    payload[at] ^= 1 << random.u8(..8);
                } else {
                    match random.u8(..3) {
                        0 => payload = (0..random.usize(..64)).map(|_| random.u8(..)).collect(),
                        1 => payload.truncate(random.usize(..=payload.len())),
                        _ => {}
                    }
                }
                let head = format!("PUB {subject} {}\r\n", payload.len());
                let whole = [head.as_bytes(), &payload, b"\r\n"].concat();
                self.bus.write_all(&whole)?;
                published += 1;
            }
        }
        ensure!(published > 0, "no message was received from the bus");
        Ok(published)
    }
}

/// Removes a complete `MSG` from the front of what a nats-server sent, and returns its subject and payload.
fn take_message(received: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    loop {
        let end = received.windows(2).position(|two| two == b"\r\n")?;
        let line = String::from_utf8_lossy(&received[..end]).into_owned();
        let mut words = line.split(' ');
        if words.next() != Some("MSG") {
            received.drain(..end + 2);
            continue;
        }
        let subject = words.next()?.to_owned();
        let length: usize = words.next_back()?.parse().ok()?;
        let (from, to) = (end + 2, end + 2 + length);
        if received.len() < to + 2 {
            return None;
        }
        let payload = received[from..to].to_vec();
        received.drain(..to + 2);
        return Some((subject, payload));
    }
}

fn server_killed(trial: &Trial<'_>) -> Result<String> {
    let mut cluster = Cluster::start(trial)?;
    cluster.servers[0].kill();
    cluster.players.leap();
    let back = cluster.players.are_together_again(PATIENCE)?;
    let gap = cluster.players.longest_gap(Pair::Remote);
    cluster.players.have_kept_their_cubes()?;
    cluster.servers[0].start_again()?;
    let healed = cluster.healed()?;
    Ok(format!(
        "everybody plays on after {} ms, longest gap {} ms; it starts again: {healed}",
        back.as_millis(),
        gap.as_millis()
    ))
}

/// Restarts a killed server before the others have noticed; its players come back to it.
fn server_restarted(trial: &Trial<'_>) -> Result<String> {
    let mut cluster = Cluster::start(trial)?;
    cluster.servers[0].kill();
    cluster.players.leap();
    cluster.servers[0].start_again()?;
    let back = cluster.players.are_together_again(PATIENCE)?;
    let gap = cluster.players.longest_gap(Pair::Remote);
    let healed = cluster.healed()?;
    Ok(format!(
        "everybody plays on after {} ms, longest gap {} ms; {healed}",
        back.as_millis(),
        gap.as_millis()
    ))
}

fn server_paused(trial: &Trial<'_>) -> Result<String> {
    let cluster = Cluster::start(trial)?;
    let began = Instant::now();
    cluster.servers[0].signal(Signal::STOP)?;
    cluster.players.leap();
    let moved = cluster.players.are_together_again(PATIENCE)?;
    let pause = trial.pick(20, 30);
    std::thread::sleep(pause.saturating_sub(began.elapsed()));
    cluster.servers[0].signal(Signal::CONT)?;
    let healed = cluster.healed()?;
    Ok(format!(
        "its players play on elsewhere after {:.1} s; after {} s it goes on: {healed}",
        moved.as_secs_f64(),
        pause.as_secs()
    ))
}

fn rolling_restart(trial: &Trial<'_>) -> Result<String> {
    let mut cluster = Cluster::start(trial)?;
    let mut longest = Duration::ZERO;
    for number in 0..SERVERS {
        let server = &mut cluster.servers[number];
        server.signal(Signal::TERM)?;
        let status = server.ended(STOPS_WITHIN).context("it does not stop")?;
        ensure!(status.code() == Some(0), "it ended with {status}");
        cluster.players.leap();
        server.start_again()?;
        longest = longest.max(cluster.players.are_together(PATIENCE)?);
        cluster.players.have_kept_their_cubes()?;
    }
    let gap = cluster.players.longest_gap(Pair::Remote);
    let healed = cluster.healed()?;
    Ok(format!(
        "all three, everybody kept their cube, longest gap {} ms; {healed}",
        gap.as_millis()
    ))
}

/// Cuts the cable between two nats-servers of one cluster, with one server at the first and two at the
/// second.
fn cut_apart(trial: &Trial<'_>) -> Result<String> {
    let islands = Islands::new()?;
    let route_port = 6_222;
    let mut nats = Vec::new();
    for number in 0..2 {
        let (name, address, [own, other]) = islands.island(number);
        let site = Site {
            address,
            netns: Some(name),
            folder: trial.folder,
        };
        // The nats-servers then notice a dead cable in seconds, not in minutes.
        let config = trial.folder.join(format!("{name}.conf"));
        std::fs::write(
            &config,
            format!(
                "ping_interval: \"1s\"\nping_max: 2\ncluster {{ name: faults, listen: \"{own}:{route_port}\", \
                 routes: [\"nats://{other}:{route_port}\"] }}\n"
            ),
        )?;
        nats.push(site.nats(&[format!("--config={}", config.display())])?);
    }
    let mut servers = Vec::new();
    for number in [0, 1, 1] {
        let (name, address, _) = islands.island(number);
        let site = Site {
            address,
            netns: Some(name),
            folder: trial.folder,
        };
        servers.push(site.server(trial.binary, nats[number].address)?);
    }
    let second = nats.pop().context("there are two")?;
    let cluster = Cluster::playing(servers, nats.pop().context("there are two")?)?;
    let began = Instant::now();
    islands.cut()?;
    let alone = cluster.players.see_apart(PATIENCE, PLAYERS_EACH)?;
    std::thread::sleep(trial.pick(20, 60).saturating_sub(began.elapsed()));
    let locals = cluster.locals()?;
    islands.mend()?;
    let healed = cluster.healed()?;
    drop((cluster, second));
    Ok(format!(
        "the sides see each other's cubes leave {:.1} s after the cut, {locals}; {healed}",
        alone.as_secs_f64()
    ))
}
