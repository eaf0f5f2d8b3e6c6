//! `cargo bench-cluster scale`: many simulated servers and cells in one process.
//!
//! All servers, the players and the bus are in this process, and its clock is simulated. Rooms, cells,
//! sessions and their messages on the bus are the real ones; NATS and the network are not. So the
//! simulation counts messages, subscriptions and bytes, but no milliseconds.

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

use self::player::{PlayerCounts, PlayerPlan};
use self::wire::{Counts, Wire};
use crate::measure::is_stopped;
use crate::motions::{self, Motion};
use crate::options::{Scale, World};

/// The time in which all players join and see each other.
const SETTLE: Duration = Duration::from_secs(6);
/// The time from the first server's start to the last one's.
const START: Duration = Duration::from_secs(1);
/// Distance between neighbouring players' homes: 4,000 fill the world.
const SPACING_M: f32 = 7.8;
/// Number of ticks of a player's way; then it goes back the same way.
const STEPS: usize = 200;
/// Servers with four players each, in one room of many cells.
const IN_ONE_ROOM: [usize; 4] = [10, 30, 100, 300];
/// The invariant of writing to a string.
const CANNOT_FAIL: &str = "writing to a string cannot fail";

/// The setting of one simulation.
#[derive(Debug, Clone, Copy)]
struct Setting {
    servers: usize,
    players_each: usize,
    /// Number of servers that share a room.
    share: usize,
    /// The view distance in metres; `None` if players see everything.
    view_m: Option<f32>,
    /// Whether the players of a server are near each other.
    is_by_place: bool,
}

/// The results of a simulation.
struct Results {
    setting: Setting,
    ticks: f64,
    counts: Counts,
    subscriptions: u64,
    topics: usize,
    /// Average number of players that a player sees.
    in_sight: f64,
    /// Smallest number of players that any player sees.
    least_in_sight: usize,
    /// Bytes per player and tick.
    player_bytes: f64,
}

/// Simulates the settings of each table and prints it.
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

fn line(results: &Results) -> String {
    let Results {
        setting,
        ticks,
        counts,
        ..
    } = results;
    let servers = setting.servers as f64;
    let players = (setting.servers * setting.players_each) as f64;
    let per_tick = |count: u64| count as f64 / ticks;
    let to_each = |count: u64| count as f64 / ticks / servers;
    let mut text = format!(
        "{:>7}  {:>7}  {:>6.1} / {:<4}",
        setting.servers, players, results.in_sight, results.least_in_sight
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
        results.subscriptions as f64 / servers,
        results.topics,
        results.player_bytes,
    )
    .expect(CANNOT_FAIL);
    if counts.lost > 0 {
        write!(text, "  {} lost", counts.lost).expect(CANNOT_FAIL);
    }
    text
}

/// Simulates one setting from its start until enough ticks are counted.
fn simulate(setting: Setting, options: &Scale) -> Result<Results> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    let results = LocalSet::new().block_on(&runtime, watch(setting, options));
    // The remaining tasks end with the runtime.
    runtime.shutdown_background();
    results
}

async fn watch(setting: Setting, options: &Scale) -> Result<Results> {
    let wire = Wire::default();
    let shutdown = CancellationToken::new();
    let period = Duration::from_secs(1) / options.hz;
    let mut players = Vec::new();
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
            let plan = PlayerPlan {
                host: host.clone(),
                room: format!("room {}", server / setting.share),
                name: format!("player {number}"),
                poses,
                period,
            };
            let own = Rc::new(PlayerCounts::default());
            players.push(Rc::clone(&own));
            tokio::task::spawn_local(async move { player::play(plan, &own).await });
        }
        // Real servers do not start at the same moment.
        sleep(START / setting.servers as u32).await;
    }
    sleep(SETTLE).await;
    let (before, bytes_before) = (wire.counts(), bytes(&players));
    let began = Instant::now();
    sleep(period * options.ticks).await;
    let ticks = began.elapsed().as_secs_f64() * f64::from(options.hz);
    let counts = wire.counts() - before;
    let player_bytes = (bytes(&players) - bytes_before) as f64 / ticks / players.len() as f64;
    let (subscriptions, topics) = wire.subscriptions();
    let in_sight = players.iter().map(|player| player.in_sight.get());
    let least_in_sight = in_sight.clone().min().context("there is nobody")?;
    Ok(Results {
        setting,
        ticks,
        counts,
        subscriptions,
        topics,
        in_sight: in_sight.sum::<usize>() as f64 / players.len() as f64,
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

fn bytes(players: &[Rc<PlayerCounts>]) -> u64 {
    players.iter().map(|player| player.bytes.get()).sum()
}

/// Returns the home of a player. Places follow each other along rows that fill a square, so that those of
/// one server are near each other.
fn home(setting: &Setting, place: usize) -> Position {
    let players = setting.share * setting.players_each;
    let side = (players as f32).sqrt().ceil() as usize;
    let (row, column) = (place / side, place % side);
    let metres = |index: usize| (index as f32 - (side - 1) as f32 / 2.0) * SPACING_M;
    Position::from_metres([metres(column), metres(row), 0.5])
}
