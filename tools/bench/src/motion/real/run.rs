//! One run: namespaces, wires, a server and players, and the figures that came of them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use cubesync_client::{Client, ClientOptions};
use cubesync_harness::{Program, http};
use serde::Serialize;

use super::cases::{Behind, Case};
use super::conditions::Conditions;
use super::figures::{Figures, WireBytes, figures};
use super::namespace::{Namespace, be_punctual, punctual};
use super::player::{Role, Shared, Walk, play};
use super::transfer;
use super::wire::{GAME_PORT, Wire, carry};
use crate::trace::{Motion, Trace};

/// The time of the walk before which nothing is scored: clocks, lead and buffers settle first.
const WARM_UP_S: f64 = 8.0;
/// A server or a player that is not ready after this long has failed.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// The address of the server's pages, in its own namespace.
const PAGES: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8_080);
/// A frame that takes longer, or a packet that is later: the threads were not woken on time.
const LATEST: Duration = Duration::from_millis(40);

/// What all runs have in common.
#[derive(Debug)]
pub(super) struct Plan {
    /// The server's program.
    pub(super) server: PathBuf,
    /// The scored time.
    pub(super) seconds: f64,
    /// Whether the players ask for datagrams.
    pub(super) asks_for_datagrams: bool,
    /// Whether no UDP passes the wires of the walker and of the viewer.
    pub(super) blocks_udp: bool,
}

/// The outcome of a run.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Run {
    pub(super) seed: u64,
    #[serde(flatten)]
    pub(super) figures: Figures,
    /// Whether other programs kept this one from measuring.
    pub(super) is_disturbed: bool,
    /// What should not have happened.
    pub(super) trouble: Vec<String>,
}

impl Run {
    /// Returns what a person wants to know while others still run.
    pub(super) fn summary(&self) -> String {
        let Figures {
            rms_cm, delay_ms, ..
        } = self.figures;
        let mut lines = vec![format!(
            "seed {}: {rms_cm:.1} cm at {delay_ms:.0} ms",
            self.seed
        )];
        lines.extend(self.trouble.iter().cloned());
        lines.join("\n  ")
    }
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
pub(super) fn run(case: &Case, seed: u64, plan: &Plan, is_stopped: &AtomicBool) -> Result<Run> {
    let servers = Namespace::new()?;
    let players = Namespace::new()?;
    let sides = [&players, &servers];
    let mut wires = lay_wires(case, seed, plan, sides)?;
    let addresses = Role::ALL.map(|role| wires[role as usize].server);
    let counts = Role::ALL.map(|role| wires[role as usize].game_bytes.clone());
    let wire_bytes = || {
        let of = |role: Role| {
            counts[role as usize]
                .each_ref()
                .map(|sum| sum.load(Ordering::Relaxed))
        };
        WireBytes {
            walker: of(Role::Walker),
            viewer: of(Role::Viewer),
        }
    };
    servers.enter()?;
    let _server = start(plan)?;
    players.enter()?;
    let shared = &Shared::new();
    let (epoch, is_over) = (shared.epoch, &shared.is_over);
    let trace = Trace::new(Motion::People, seed, WARM_UP_S + plan.seconds);
    let (frames, wire_bytes, latest) = thread::scope(|scope| -> Result<_> {
        let _end = SetOnDrop(is_over);
        let carrier = part(scope, is_over, || {
            be_punctual()?;
            carry(&mut wires, epoch, is_over)
        });
        for role in Role::ALL {
            if case.has_transfers && is_behind(role, case.behind) {
                let mut ends = transfer::connect(addresses[role as usize], sides)?;
                if role == Role::Viewer {
                    ends.reverse();
                }
                let [from, to] = ends;
                part(scope, is_over, move || {
                    transfer::write(from, epoch, is_over)
                });
                part(scope, is_over, move || transfer::read(to, is_over));
            }
        }
        let players = Role::ALL.map(|role| {
            let server = addresses[role as usize].to_string();
            let options = ClientOptions {
                datagrams: plan.asks_for_datagrams,
                ..ClientOptions::new(server, role.name())
            };
            part(scope, is_over, move || {
                be_punctual()?;
                let client = Client::new(options, seed << 2 | role as u64);
                Ok(play(role, client, shared))
            })
        });
        let wire_bytes = run_walk(shared, trace, plan.seconds, is_stopped, wire_bytes);
        is_over.store(true, Ordering::Relaxed);
        let frames = players
            .map(finish)
            .into_iter()
            .collect::<Result<Vec<_>>>()?;
        Ok((frames, wire_bytes?, finish(carrier)?))
    })?;

    let (walk, _) = shared.walk.get().context("nobody walked")?;
    let [walker, viewer, witness] = Role::ALL.map(|role| frames[role as usize].as_slice());
    let truth = |time_s| walk.at(time_s).position;
    let window_s = WARM_UP_S..WARM_UP_S + plan.seconds;
    let figures = figures(walker, viewer, witness, &truth, window_s, wire_bytes)?;
    let latest = latest.max(Duration::from_secs_f64(figures.longest_frame_ms / 1e3));
    let mut trouble = shared.trouble.lock().expect("no player panicked with it");
    let is_disturbed = latest > LATEST;
    if is_disturbed {
        let ms = latest.as_millis();
        trouble.push(format!(
            "this machine is too busy: a frame or a packet was {ms} ms late"
        ));
    }
    Ok(Run {
        seed,
        figures,
        is_disturbed,
        trouble: trouble.clone(),
    })
}

fn lay_wires(case: &Case, seed: u64, plan: &Plan, sides: [&Namespace; 2]) -> Result<Vec<Wire>> {
    let wire = |role: Role| {
        let conditions = Conditions {
            blocks_udp: plan.blocks_udp && role != Role::Witness,
            ..match is_behind(role, case.behind) {
                true => case.conditions,
                false => Conditions::PERFECT,
            }
        };
        Wire::new(role as u8, sides, conditions, case.congestion_control, seed)
    };
    Role::ALL.into_iter().map(wire).collect()
}

/// Starts a thread of the run, which is over as soon as one of them ends.
fn part<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    is_over: &'scope AtomicBool,
    work: impl FnOnce() -> Result<T> + Send + 'scope,
) -> ScopedJoinHandle<'scope, Result<T>> {
    scope.spawn(|| {
        let _end = SetOnDrop(is_over);
        work()
    })
}

fn finish<T>(part: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    part.join()
        .map_err(|_| anyhow!("a part of the run panicked"))?
}

fn is_behind(role: Role, behind: Behind) -> bool {
    match role {
        Role::Walker => behind != Behind::Viewer,
        Role::Viewer => behind != Behind::Walker,
        Role::Witness => false,
    }
}

fn start(plan: &Plan) -> Result<Program> {
    let mut command = punctual(&plan.server);
    command
        .arg(format!("--listen=0.0.0.0:{GAME_PORT}"))
        .arg(format!("--http={PAGES}"))
        .arg("--cubes=0")
        .env("CUBESYNC_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let mut server = Program::start("the server", &mut command)?;
    server.wait_until(READY_WITHIN, || http::is_serving(PAGES))?;
    Ok(server)
}

/// Waits for the players, lets the walk begin, waits for its end, and returns the bytes that were on the
/// wires in the scored time.
fn run_walk(
    shared: &Shared,
    trace: Trace,
    seconds: f64,
    is_stopped: &AtomicBool,
    game_bytes: impl Fn() -> WireBytes,
) -> Result<WireBytes> {
    let wait_until = |is_time: &dyn Fn() -> bool| -> Result<()> {
        while !is_time() {
            ensure!(!is_stopped.load(Ordering::Relaxed), "stopped");
            ensure!(
                !shared.is_over.load(Ordering::Relaxed),
                "a part of it ended"
            );
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    };
    let give_up_at = shared.epoch.elapsed() + READY_WITHIN;
    let have_joined = || shared.joined.load(Ordering::Relaxed) >= Role::ALL.len();
    wait_until(&|| have_joined() || shared.epoch.elapsed() > give_up_at)?;
    ensure!(have_joined(), "not all players could join");
    let &(_, home) = shared.walker.get().context("the walker has not joined")?;
    let start = shared.epoch.elapsed();
    // Nobody else sets it.
    let _ = shared.walk.set((Walk::new(trace, home), start));
    let has_walked =
        |time_s| move || shared.epoch.elapsed() >= start + Duration::from_secs_f64(time_s);
    wait_until(&has_walked(WARM_UP_S))?;
    let before = game_bytes();
    wait_until(&has_walked(WARM_UP_S + seconds))?;
    Ok(game_bytes().since(before))
}
