//! One run: namespaces, wires, a server and players, and what came of them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use cubesync_harness::{Program, http};

use super::cases::{Behind, Case};
use super::figures::{Figures, WireBytes, figures};
use super::link::Conditions;
use super::namespace::{Namespace, be_punctual, punctual};
use super::player::{Frame, Role, Shared, Walk, play};
use super::wire::{GAME_PORT, Wire, carry};
use crate::trace::{Motion, Trace};

/// The time of the walk before which nothing is scored: clocks, lead and buffers settle first.
const WARM_UP_S: f64 = 8.0;
/// A server or a player that is not ready after this long has failed.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// The address of the server's pages, in its own namespace.
const PAGES: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8_080);

/// What came of a run.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) figures: Figures,
    /// What should not have happened.
    pub(super) trouble: Vec<String>,
}

/// Sets a flag when it is dropped, in a panic as well.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs a case with a seed. The calling thread is in a network namespace afterwards.
///
/// # Errors
///
/// Something that a run needs failed, or `is_stopped` was set meanwhile.
pub(super) fn run(
    case: &Case,
    seed: u64,
    seconds: f64,
    server: &Path,
    is_stopped: &AtomicBool,
) -> Result<Run> {
    let servers = Namespace::new()?;
    let players = Namespace::new()?;
    let wire = |role: Role| {
        let is_behind = match role {
            Role::Walker => case.behind != Behind::Viewer,
            Role::Viewer => case.behind != Behind::Walker,
            Role::Witness => false,
        };
        let conditions = match is_behind {
            true => case.conditions,
            false => Conditions::PERFECT,
        };
        let sides = [&players, &servers];
        Wire::new(role as u8, sides, conditions, case.congestion_control, seed)
    };
    let mut wires = Role::ALL
        .into_iter()
        .map(wire)
        .collect::<Result<Vec<_>>>()?;
    let addresses: Vec<_> = wires.iter().map(|wire| wire.server).collect();
    let game_bytes: Vec<_> = wires.iter().map(|wire| wire.game_bytes.clone()).collect();
    let game_bytes = || {
        let of = |role: Role, end: usize| game_bytes[role as usize][end].load(Ordering::Relaxed);
        WireBytes {
            walker: [0, 1].map(|end| of(Role::Walker, end)),
            viewer: [0, 1].map(|end| of(Role::Viewer, end)),
        }
    };

    servers.enter()?;
    let _server = start(server)?;
    players.enter()?;
    let shared = Shared::new();
    let trace = Trace::new(Motion::People, seed, WARM_UP_S + seconds);
    let (frames, wire_bytes) = thread::scope(|scope| -> Result<(Vec<Vec<Frame>>, WireBytes)> {
        let _end = SetOnDrop(&shared.is_over);
        let carrier = scope.spawn(|| {
            let _end = SetOnDrop(&shared.is_over);
            be_punctual()?;
            carry(&mut wires, shared.epoch, &shared.is_over)
        });
        let player = |role: Role| {
            let (shared, address) = (&shared, addresses[role as usize]);
            scope.spawn(move || -> Result<Vec<Frame>> {
                let _end = SetOnDrop(&shared.is_over);
                be_punctual()?;
                Ok(play(role, address, seed << 2 | role as u64, shared))
            })
        };
        let threads = Role::ALL.map(player);
        let wire_bytes = conduct(&shared, trace, seconds, is_stopped, game_bytes);
        shared.is_over.store(true, Ordering::Relaxed);
        let crash = |_| anyhow!("a thread panicked");
        carrier.join().map_err(crash)??;
        let frames = threads.map(|thread| thread.join().map_err(crash)?);
        let frames = frames.into_iter().collect::<Result<Vec<_>>>()?;
        Ok((frames, wire_bytes?))
    })?;

    let (walk, _) = shared.walk.get().context("nobody walked")?;
    let [walker, viewer, witness] = Role::ALL.map(|role| frames[role as usize].as_slice());
    let truth = |time_s| walk.at(time_s).position;
    let window_s = WARM_UP_S..WARM_UP_S + seconds;
    let figures = figures(walker, viewer, witness, &truth, window_s, wire_bytes)?;
    let trouble = shared.trouble.into_inner().unwrap_or_default();
    Ok(Run { figures, trouble })
}

fn start(server: &Path) -> Result<Program> {
    let mut command = punctual(server);
    command
        .arg(format!("--listen=0.0.0.0:{GAME_PORT}"))
        .arg(format!("--http={PAGES}"))
        .env("CUBESYNC_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let mut server = Program::start("the server", &mut command)?;
    server.wait_until(READY_WITHIN, || http::is_serving(PAGES))?;
    Ok(server)
}

/// Waits for the players, lets the walk begin, waits for its end, and returns the bytes that were on the
/// wire in the scored time.
fn conduct(
    shared: &Shared,
    trace: Trace,
    seconds: f64,
    is_stopped: &AtomicBool,
    game_bytes: impl Fn() -> WireBytes,
) -> Result<WireBytes> {
    let wait_until = |at: Duration| -> Result<()> {
        while shared.epoch.elapsed() < at {
            ensure!(!is_stopped.load(Ordering::Relaxed), "stopped");
            ensure!(
                !shared.is_over.load(Ordering::Relaxed),
                "a part of the run failed"
            );
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    };
    let mut next = shared.epoch.elapsed();
    while shared.joined.load(Ordering::Relaxed) < Role::ALL.len() {
        next += Duration::from_millis(5);
        wait_until(next)?;
        ensure!(next < READY_WITHIN, "not all players have joined");
    }
    let &(_, home) = shared.walker.get().context("the walker has not joined")?;
    let start = shared.epoch.elapsed();
    // Nobody else sets it.
    let _ = shared.walk.set((Walk::new(trace, home), start));
    wait_until(start + Duration::from_secs_f64(WARM_UP_S))?;
    let before = game_bytes();
    wait_until(start + Duration::from_secs_f64(WARM_UP_S + seconds))?;
    Ok(game_bytes().since(before))
}
