//! `cargo bench-cluster scale`: more servers and cells than there are machines here.
//!
//! All servers, players and the bus are in this process, and its clock is simulated: rooms, cells,
//! sessions and what they say on the bus are the real ones, NATS and the network are not. So it
//! counts messages, subscriptions and bytes, and no milliseconds.

mod player;
mod wire;

use std::fmt::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use cubesync_cluster::bus::Bus;
use cubesync_protocol::Position;
use cubesync_server::Config;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use self::player::{Seat, Told};
use self::wire::{Counts, Wire};
use crate::measure::is_stopped;
use crate::motions::{self, Motion};
use crate::options::{Scale, World};

/// Until all have joined and everybody knows everybody.
const SETTLE: Duration = Duration::from_secs(6);
/// From the first server's start to the last one's.
const START: Duration = Duration::from_secs(1);
/// Distance of neighbouring players' homes: 4,000 fill the world.
const SPACING_M: f32 = 7.8;
/// Ticks of a player's way; then it goes back the same way.
const STEPS: usize = 200;
/// Servers with four players each, in one room of many cells.
const IN_ONE_ROOM: [usize; 4] = [10, 30, 100, 300];
/// What is written to a string.
const CANNOT_FAIL: &str = "writing to a string cannot fail";

/// A number of servers and players, and how they meet.
#[derive(Debug, Clone, Copy)]
struct Setting {
    servers: usize,
    players_each: usize,
    /// Servers that share a room; the next ones share the next.
    share: usize,
    /// How far players see, in metres; `None`: everything.
    view_m: Option<f32>,
    /// Players of a server are near each other, or anywhere.
    is_by_place: bool,
}

/// What a simulation counted.
struct Findings {
    setting: Setting,
    ticks: f64,
    counts: Counts,
    subscriptions: u64,
    topics: usize,
    /// Players that players had in sight, on average.
    in_sight: f64,
    /// The least that any had.
    least_in_sight: usize,
    /// Bytes per player and tick.
    player_bytes: f64,
}

/// Simulates each table's settings and prints it.
pub(crate) fn run(options: &Scale) -> Result<()> {
    println!(
        "{} Hz, everybody wanders; messages and payload per tick\n",
        options.hz
    );
    for &world in &options.worlds {
        println!("{}\n{}", world.title(), HEAD.trim_end());
        for setting in world.settings() {
            if setting.servers > options.most as usize {
                continue;
            }
            if is_stopped() {
                bail!("stopped");
            }
            println!("{}", line(&simulate(setting, options)?));
        }
        println!();
    }
    Ok(())
}

impl World {
    fn title(self) -> &'static str {
        match self {
            Self::One => "One room on one server",
            Self::Players => "More players on 10 servers: one room, everybody sees everybody",
            Self::Servers => "400 players on more servers: one room, everybody sees everybody",
            Self::Near => {
                "4 players on each server, near each other: one room of 1,089 cells of 16 m"
            }
            Self::Anywhere => "The same, but players are anywhere whatever their server",
            Self::Rooms => "Many rooms, each on 3 servers with 4 players of each",
        }
    }

    fn settings(self) -> Vec<Setting> {
        let whole = |servers, players: usize| Setting {
            servers,
            players_each: players / servers,
            share: servers,
            view_m: None,
            is_by_place: true,
        };
        let fours = |share: Option<usize>, view_m, is_by_place| {
            move |&servers: &usize| Setting {
                servers,
                players_each: 4,
                share: share.unwrap_or(servers),
                view_m,
                is_by_place,
            }
        };
        let cells = Some(16.0);
        match self {
            Self::One => [10, 20, 50, 100, 1_000]
                .map(|players| whole(1, players))
                .into(),
            Self::Players => [100, 200, 400, 800]
                .map(|players| whole(10, players))
                .into(),
            Self::Servers => [1, 2, 5, 10, 20, 50]
                .map(|servers| whole(servers, 400))
                .into(),
            Self::Near => IN_ONE_ROOM.iter().map(fours(None, cells, true)).collect(),
            Self::Anywhere => IN_ONE_ROOM.iter().map(fours(None, cells, false)).collect(),
            Self::Rooms => [3, 30, 300, 1_000]
                .iter()
                .map(fours(Some(3), None, true))
                .collect(),
        }
    }
}

const HEAD: &str = "\
servers  players   in sight     published                     to each server                  subscriptions    player
                 mean / least    cells    beats   bytes/cube   cells   beats   others   bytes  each    topics    bytes
";

fn line(findings: &Findings) -> String {
    let Findings {
        setting,
        ticks,
        counts,
        ..
    } = findings;
    let servers = setting.servers as f64;
    let players = (setting.servers * setting.players_each) as f64;
    let per_tick = |count: u64| count as f64 / ticks;
    let to_each = |count: u64| count as f64 / ticks / servers;
    let mut text = format!(
        "{:>7}  {:>7}  {:>6.1} / {:<4}",
        setting.servers, players, findings.in_sight, findings.least_in_sight
    );
    write!(
        text,
        "  {:>7.1}  {:>7.1}  {:>10.2}",
        per_tick(counts.cells.published),
        per_tick(counts.rooms.published),
        per_tick(counts.cells.published_bytes) / players,
    )
    .expect(CANNOT_FAIL);
    let bytes = [counts.cells, counts.rooms, counts.servers].map(|kind| kind.delivered_bytes);
    write!(
        text,
        "  {:>6.1}  {:>6.1}  {:>7.1}  {:>6.0}  {:>5.1}  {:>7}  {:>7.1}",
        to_each(counts.cells.delivered),
        to_each(counts.rooms.delivered),
        to_each(counts.servers.delivered),
        to_each(bytes.iter().sum()),
        findings.subscriptions as f64 / servers,
        findings.topics,
        findings.player_bytes,
    )
    .expect(CANNOT_FAIL);
    if counts.lost > 0 {
        write!(text, "  {} lost", counts.lost).expect(CANNOT_FAIL);
    }
    text
}

/// One world, from its start until enough ticks are counted.
fn simulate(setting: Setting, options: &Scale) -> Result<Findings> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    let findings = LocalSet::new().block_on(&runtime, watch(setting, options));
    // Tasks that are left end with the runtime; nobody is there to say goodbye to.
    runtime.shutdown_background();
    findings
}

async fn watch(setting: Setting, options: &Scale) -> Result<Findings> {
    let wire = Wire::default();
    let shutdown = CancellationToken::new();
    let period = Duration::from_secs(1) / options.hz;
    let mut told = Vec::new();
    let mut places: Vec<_> = (0..setting.share * setting.players_each).collect();
    if !setting.is_by_place {
        fastrand::Rng::with_seed(1).shuffle(&mut places);
    }
    for server in 0..setting.servers {
        let bus: Arc<dyn Bus> = wire.end(server);
        let host = cubesync_server::host_on_bus(&config(&setting, options), bus, shutdown.clone());
        for player in 0..setting.players_each {
            let number = server * setting.players_each + player;
            let mut poses = Vec::new();
            let home = home(&setting, places[number % places.len()]);
            let seed = number as u64;
            motions::append_trace(&mut poses, Motion::Wander, seed, home, options.hz, STEPS);
            let seat = Seat {
                host: host.clone(),
                room: format!("room {}", server / setting.share),
                name: format!("player {number}"),
                poses,
                period,
            };
            let own = Rc::new(Told::default());
            told.push(Rc::clone(&own));
            tokio::task::spawn_local(async move { player::play(seat, &own).await });
        }
        // Machines do not start in the same moment.
        sleep(START / setting.servers as u32).await;
    }
    sleep(SETTLE).await;
    let (before, bytes_before) = (wire.counts(), bytes(&told));
    let began = Instant::now();
    sleep(period * options.ticks).await;
    let ticks = began.elapsed().as_secs_f64() * f64::from(options.hz);
    let counts = wire.counts() - before;
    let player_bytes = (bytes(&told) - bytes_before) as f64 / ticks / told.len() as f64;
    let (subscriptions, topics) = wire.subscriptions();
    let in_sight = told.iter().map(|told| told.in_sight.get());
    let least_in_sight = in_sight.clone().min().context("there is nobody")?;
    Ok(Findings {
        setting,
        ticks,
        counts,
        subscriptions,
        topics,
        in_sight: in_sight.sum::<usize>() as f64 / told.len() as f64,
        least_in_sight,
        player_bytes,
    })
}

fn config(setting: &Setting, options: &Scale) -> Config {
    let view = setting
        .view_m
        .map(|metres| format!("--view-distance={metres}"));
    let flags = ["cubesync-server", "--max-speed=1000000"].map(str::to_owned);
    Config::parse_from(
        flags
            .into_iter()
            .chain([format!("--tick={}", options.hz)])
            .chain(view),
    )
}

fn bytes(told: &[Rc<Told>]) -> u64 {
    told.iter().map(|told| told.bytes.get()).sum()
}

/// Where a player lives. Places follow each other along rows that fill a square, so that those of
/// one server are near each other.
fn home(setting: &Setting, place: usize) -> Position {
    let players = setting.share * setting.players_each;
    let side = (players as f32).sqrt().ceil() as usize;
    let (row, column) = (place / side, place % side);
    let metres = |index: usize| (index as f32 - (side - 1) as f32 / 2.0) * SPACING_M;
    Position::from_metres([metres(column), metres(row), 0.5])
}
