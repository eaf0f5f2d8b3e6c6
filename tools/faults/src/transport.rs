//! Bad networks and bad sockets.

use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cubesync_harness::wait::comes_true;
use cubesync_protocol::CloseCode;

use crate::fault::{Fault, Outcome};
use crate::harness::crowd::{Behaviour, Crowd, CrowdPlan};
use crate::harness::namespace::Namespace;
use crate::harness::peer::Peer;
use crate::harness::server::Setup;
use crate::harness::trial::{PATIENCE, Trial, hello};

/// A server that peers in another network can reach, and that soon notices a dead one: a little after a
/// good client's next ping.
pub(crate) const REACHABLE: Setup = Setup {
    quick_flags: &["--dead-after", "6500ms"],
    address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    ..Setup::PLAIN
};

/// A server with much traffic: everybody may jump to any place at every tick.
const TALKATIVE: Setup = Setup {
    flags: &["--tick", "128", "--max-speed", "0", "--resume-within", "1s"],
    ..Setup::PLAIN
};

/// Number of bytes that the kernel's default buffers take for a client that never reads.
const KERNEL_BUFFER_BYTES: u64 = 4_300_000;

/// A server that cannot start must exit in this time, on a busy machine too.
const START_FAILS_WITHIN: Duration = Duration::from_secs(3);

pub(crate) const FAULTS: &[Fault] = &[
    Fault::new("half-open", &["silent"], |trial| half_open(trial, false))
        .needs(&["root", "ip"])
        .on(&REACHABLE),
    Fault::new("half-open-websocket", &["silent"], |trial| {
        half_open(trial, true)
    })
    .needs(&["root", "ip"])
    .on(&REACHABLE),
    Fault::new("rst-in-mid-frame", &["lost"], |trial| {
        let (mut peer, _) = trial.player("bad")?;
        peer.send_raw(&[0, 0, 0, 9, 1])?;
        peer.reset()?;
        Ok(Outcome::one("it reset the connection itself"))
    }),
    Fault::new("rst-before-hello", &["lost"], |trial| {
        let peer = trial.peer()?;
        // The server has accepted it by then.
        std::thread::sleep(Duration::from_millis(50));
        peer.reset()?;
        Ok(Outcome::one("it reset the connection itself"))
    }),
    Fault::new("never-reads", &["slow_reader"], never_reads).on(&TALKATIVE),
    Fault::new("reads-1-kb-a-second", &["slow_reader"], reads_slowly).on(&TALKATIVE),
    Fault::new(
        "descriptors-exhausted",
        &["accept tcp"],
        descriptors_exhausted,
    )
    .also(&["hello_timeout", "pending_full", "closed", "lost"]),
    Fault::new("rst-of-a-websocket", &["lost"], |trial| {
        let mut peer = trial.websocket()?;
        peer.join(hello("bad"))?;
        peer.reset()?;
        Ok(Outcome::one("it reset the connection itself"))
    }),
    Fault::new("privileged-port", &[], privileged_port)
        .needs(&["root", "unshare", "setpriv", "ip"]),
];

/// Cuts the cable of a peer that plays, without a message to the server.
pub(crate) fn half_open(trial: &mut Trial<'_>, is_websocket: bool) -> Result<Outcome> {
    let namespace = Namespace::new()?;
    let (address, further) = match is_websocket {
        true => (trial.server.http, &["--websocket"][..]),
        false => (trial.server.tcp, &[][..]),
    };
    let mut peer = namespace.peer(address, further)?;
    let output = peer.take_stdout().context("no output")?;
    let mut line = String::new();
    let joined = BufReader::new(output).read_line(&mut line);
    let cut = namespace.cut();
    let began = Instant::now();
    let before = trial.server.counters()?.value("silent");
    let is_noticed = comes_true(Duration::from_secs(40), || {
        let now = trial.server.counters();
        now.is_ok_and(|counters| counters.value("silent") > before)
    });
    drop(peer);
    joined?;
    cut?;
    ensure!(line.starts_with("joined"), "the peer did not join: {line}");
    ensure!(is_noticed, "the server does not notice it");
    let seconds = began.elapsed().as_secs_f64();
    Ok(Outcome::one(format!(
        "nothing; known to be dead {seconds:.1} s after the cut"
    )))
}

/// Lets a crowd join whose jumps are too much traffic for a slow reader.
pub(crate) fn jumping_crowd(trial: &Trial<'_>) -> Result<Crowd> {
    Crowd::join(CrowdPlan {
        server: trial.server.tcp,
        count: trial.pick(100, 300),
        rooms: 1,
        behaviour: Behaviour::Jump,
        is_websocket: false,
        returns: false,
        over: Duration::from_millis(500),
    })
}

fn never_reads(trial: &mut Trial<'_>) -> Result<Outcome> {
    let crowd = jumping_crowd(trial)?;
    let received_each = || {
        let all = crowd.counts.received_bytes.load(Ordering::Relaxed);
        all / crowd.counts.joined.load(Ordering::Relaxed).max(1)
    };
    let before = received_each();
    let (mut peer, _) = trial.player("sleeper")?;
    let slow = trial.server.counters()?.value("slow_reader");
    let is_cut = comes_true(Duration::from_secs(60), || {
        let now = trial.server.counters();
        now.is_ok_and(|now| now.value("slow_reader") > slow)
    });
    ensure!(is_cut, "the server does not close it");
    let enough = || received_each() - before > KERNEL_BUFFER_BYTES;
    ensure!(
        trial.is_quick || comes_true(Duration::from_secs(120), enough),
        "the room does not send {KERNEL_BUFFER_BYTES} bytes"
    );
    let sent = (received_each() - before) as f64 / 1e6;
    // The bytes that the kernel had taken before the server closed the connection.
    let mut waiting = Vec::new();
    peer.stream.set_read_timeout(Some(PATIENCE))?;
    let end = peer.stream.read_to_end(&mut waiting);
    let kilobytes = waiting.len() / 1_000;
    crowd.leave()?;
    let how = if end.is_ok() { "closed" } else { "reset" };
    Ok(Outcome::one(format!(
        "{how} while others received {sent:.1} MB; {kilobytes} kB lay in buffers"
    )))
}

fn reads_slowly(trial: &mut Trial<'_>) -> Result<Outcome> {
    let crowd = jumping_crowd(trial)?;
    let mut peer = Peer::connect_tight(trial.server.tcp)?;
    peer.join(hello("slow"))?;
    let before = trial.server.counters()?;
    let began = Instant::now();
    let mut read = 0;
    let is_cut = comes_true(Duration::from_secs(60), || {
        std::thread::sleep(Duration::from_millis(200));
        read += peer.stream.read(&mut [0; 205]).unwrap_or(0);
        let now = trial.server.counters();
        now.is_ok_and(|now| now.growth(&before, &["slow_reader"]) > 0)
    });
    ensure!(is_cut, "it still reads after {read} bytes");
    let seconds = began.elapsed().as_secs();
    crowd.leave()?;
    Ok(Outcome::one(format!(
        "cut after {seconds} s in which it read {read} bytes"
    )))
}

/// Opens connections from several addresses of this machine that send nothing.
pub(crate) fn silent_peers(server: SocketAddr, count: u64) -> Result<Vec<Peer>> {
    let source = |number: u64| IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2 + (number % 8) as u8));
    let peers = (0..count).map(|number| Peer::connect_from(source(number), server));
    peers.collect()
}

fn descriptors_exhausted(trial: &mut Trial<'_>) -> Result<Outcome> {
    const SPARE: u64 = 20;
    const LASTS: Duration = Duration::from_secs(2);
    let process = trial.server.process();
    let before = process.limit_descriptors(Some(process.descriptors()? + SPARE))?;
    let peers = silent_peers(trial.server.tcp, 100);
    let cpu = process.cpu()?;
    let lags = trial.bystanders.watch(LASTS);
    let busy = (process.cpu()? - cpu).as_secs_f64() / LASTS.as_secs_f64();
    process.limit_descriptors(before)?;
    drop(peers?);
    let is_open = || {
        trial
            .player("after")
            .is_ok_and(|(peer, _)| peer.leave().is_ok())
    };
    ensure!(comes_true(PATIENCE, is_open), "nobody can join any more");
    ensure!(lags.ticks > 0, "the bystanders saw nothing");
    ensure!(
        busy < 0.5,
        "the server spins: {:.0} % of a core",
        100.0 * busy
    );
    let percent = 100.0 * busy;
    Ok(Outcome::at_least(
        1,
        format!("had to wait; server at {percent:.0} % of a core; then let in again"),
    ))
}

/// Runs a server that cannot start: it must soon exit with 1 and give the reason in one line, and where
/// to read on in another.
fn fails_to_start(command: &mut Command, words: &str) -> Result<Outcome> {
    let began = Instant::now();
    let output = command.output().context("cannot start it")?;
    let took = began.elapsed();
    let error = String::from_utf8_lossy(&output.stderr);
    let error = error.trim();
    ensure!(
        output.status.code() == Some(1),
        "it ended with {}: {error}",
        output.status
    );
    let (reason, help) = error.split_once('\n').unwrap_or((error, ""));
    ensure!(
        reason.contains(words) && help.starts_with("more help: ") && help.lines().count() == 1,
        "it says: {error}"
    );
    ensure!(took < START_FAILS_WITHIN, "it took {took:?}");
    Ok(Outcome::of(
        0,
        format!("exit code 1 after {} ms, \"{reason}\"", took.as_millis()),
    ))
}

/// Starts a server without rights in a network where the usual ports are reserved for root.
fn privileged_port(trial: &mut Trial<'_>) -> Result<Outcome> {
    // A user without rights may not read the build folder.
    let copy = trial.server.folder.join("cubesync-server");
    std::fs::copy(trial.binary, &copy)?;
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&copy, open)?;
    let script = "ip link set lo up && echo 1024 > /proc/sys/net/ipv4/ip_unprivileged_port_start && \
                  exec setpriv --reuid 65534 --regid 65534 --clear-groups --bounding-set -all \
                  \"$0\" --listen 127.0.0.1:80 --http 127.0.0.1:8080";
    let mut command = Command::new("unshare");
    command.args(["-n", "bash", "-c", script]).arg(&copy);
    fails_to_start(&mut command, "no permission")
}

/// Plays in a namespace until the cable is cut and this process is killed: a player that pings.
pub(crate) fn play_half_open(server: SocketAddr, is_websocket: bool) -> Result<()> {
    let mut peer = match is_websocket {
        true => Peer::websocket(server)?,
        false => Peer::connect(server)?,
    };
    peer.join(hello("far away"))?;
    println!("joined");
    loop {
        peer.send(&cubesync_protocol::ClientMessage::Ping { sent_us: 0 })?;
        if let Ok(reason) = peer
            .ending(Duration::from_secs(1))?
            .closed_with(CloseCode::Silent)
        {
            anyhow::bail!("the server closed the connection: {reason}");
        }
    }
}
