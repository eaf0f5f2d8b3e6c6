//! Figures of faults: how soon a dead peer is noticed, how fast all clients are back, and how much memory
//! a connection takes.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cubesync_protocol::{CubeId, Event, ServerMessage};

use crate::harness::bystanders::Bystanders;
use crate::harness::crowd::{Behaviour, Crowd, CrowdPlan};
use crate::harness::peer::Peer;
use crate::harness::server::Server;
use crate::harness::server::Setup;
use crate::harness::trial::{PATIENCE, Trial};
use crate::{operation, transport};

/// The time from the last connection to the reading of the memory.
const SETTLED: Duration = Duration::from_secs(2);

/// A server that keeps connections without a `Hello`, so that their memory can be measured.
const PATIENT: Setup = Setup {
    flags: &["--hello-deadline", "10m", "--max-pending", "20000"],
    ..Setup::PLAIN
};

/// Measures everything and prints it, a figure a line.
pub(crate) fn figures(binary: &Path) -> Result<()> {
    let cut =
        |is_websocket| move |trial: &mut Trial<'_>| said(transport::half_open(trial, is_websocket));
    show(
        "dead peer, TCP",
        on(binary, &transport::REACHABLE, cut(false)),
    );
    show(
        "dead peer, WebSocket",
        on(binary, &transport::REACHABLE, cut(true)),
    );
    show(
        "removal after FIN",
        on(binary, &Setup::PLAIN, |trial| removal(trial, drop_it)),
    );
    show(
        "removal after RST",
        on(binary, &Setup::PLAIN, |trial| removal(trial, Peer::reset)),
    );
    show(
        "drain",
        on(binary, &Setup::PLAIN, |trial| {
            said(operation::sigterm_under_load(trial))
        }),
    );
    show(
        "drain, deaf clients",
        on(binary, &operation::DEAF, |trial| {
            said(operation::sigterm_with_deaf(trial))
        }),
    );
    show(
        "storm",
        on(binary, &Setup::PLAIN, |trial| {
            said(operation::reconnect_storm(trial))
        }),
    );
    show(
        "memory per pending connection",
        pending_memory(binary, 5_000),
    );
    show(
        "memory per idle player, TCP",
        idle_memory(binary, 5_000, false),
    );
    show(
        "memory per idle player, WebSocket",
        idle_memory(binary, 2_000, true),
    );
    Ok(())
}

fn show(what: &str, figure: Result<String>) {
    match figure {
        Ok(figure) => println!("{what:<34} {figure}"),
        Err(error) => println!("{what:<34} not measured: {error:#}"),
    }
}

fn said(outcome: Result<crate::fault::Outcome>) -> Result<String> {
    outcome.map(|outcome| outcome.saw)
}

/// Measures something on a server of its own.
fn on(
    binary: &Path,
    setup: &'static Setup,
    measure: impl FnOnce(&mut Trial<'_>) -> Result<String>,
) -> Result<String> {
    let mut server = Server::start(binary, setup, false)?;
    let bystanders = Bystanders::join(server.tcp, setup.join_key)?;
    measure(&mut Trial {
        server: &mut server,
        bystanders: &bystanders,
        is_quick: false,
        binary,
    })
}

fn drop_it(peer: Peer) -> Result<()> {
    drop(peer);
    Ok(())
}

/// Measures the time from a connection's end until another player learns that its cube is a ghost or has
/// left.
fn removal(trial: &mut Trial<'_>, end: fn(Peer) -> Result<()>) -> Result<String> {
    const TRIES: usize = 50;
    let (mut watcher, _) = trial.player("watching")?;
    // A player that joins in the same tick is in the first keyframe and has no event.
    watcher.find(PATIENCE, |message| {
        matches!(message, ServerMessage::Snapshot(_)).then_some(())
    })?;
    let mut times_ms = Vec::new();
    for _ in 0..TRIES {
        let (peer, welcome) = trial.player("going")?;
        let cube = welcome.cube;
        watcher.find(PATIENCE, |message| {
            has_event(message, |event| is_joined(event, cube))
        })?;
        // The end then comes at any time of a tick.
        std::thread::sleep(Duration::from_micros(fastrand::u64(..40_000)));
        let began = Instant::now();
        end(peer)?;
        watcher.find(PATIENCE, |message| {
            let gone = [Event::Ghost { cube }, Event::Left { cube }];
            has_event(message, |event| gone.contains(event))
        })?;
        times_ms.push(began.elapsed().as_secs_f64() * 1e3);
    }
    times_ms.sort_by(f64::total_cmp);
    let (median, worst) = (times_ms[TRIES / 2], times_ms[TRIES - 1]);
    Ok(format!(
        "median {median:.1} ms, worst of {TRIES} {worst:.1} ms, at 60 ticks/s"
    ))
}

fn has_event(message: &ServerMessage, wanted: impl Fn(&Event) -> bool) -> Option<()> {
    match message {
        ServerMessage::Snapshot(snapshot) => snapshot.events.iter().any(wanted).then_some(()),
        _ => None,
    }
}

fn is_joined(event: &Event, cube: CubeId) -> bool {
    matches!(event, Event::Joined(info) if info.cube == cube)
}

fn pending_memory(binary: &Path, count: u64) -> Result<String> {
    let server = Server::start(binary, &PATIENT, false)?;
    let before = server.process().resident_kib()?;
    let peers = transport::silent_peers(server.tcp, count)?;
    std::thread::sleep(SETTLED);
    let pending = server.counters()?.value("gauge pending_connections");
    ensure!(pending == count as f64, "only {pending} are pending");
    let after = server.process().resident_kib()?;
    drop(peers);
    Ok(each(before, after, count))
}

fn idle_memory(binary: &Path, count: u64, is_websocket: bool) -> Result<String> {
    const PLAYERS_PER_ROOM: u64 = 50;
    let server = Server::start(binary, &PATIENT, false)?;
    let before = server.process().resident_kib()?;
    let crowd = Crowd::join(CrowdPlan {
        server: if is_websocket {
            server.http
        } else {
            server.tcp
        },
        count: count as usize,
        rooms: (count / PLAYERS_PER_ROOM) as usize,
        behaviour: Behaviour::Rest,
        is_websocket,
        returns: false,
        over: Duration::from_secs(count / 500),
    })?;
    std::thread::sleep(SETTLED);
    let after = server.process().resident_kib()?;
    drop(crowd);
    let rooms = count / PLAYERS_PER_ROOM;
    Ok(format!(
        "{}, {rooms} rooms included",
        each(before, after, count)
    ))
}

fn each(before_kib: u64, after_kib: u64, count: u64) -> String {
    let kib = after_kib.saturating_sub(before_kib) as f64 / count as f64;
    format!("{kib:.2} KiB ({count} connections: RSS {before_kib} to {after_kib} KiB)")
}
