//! The time from the kill of a server until each of its players plays on at another one.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use cubesync_client::{Client, ClientEvent, ClientOptions};
use cubesync_protocol::{CubeId, Pose, Position};
use serde::Serialize;

use super::figures::median;
use super::start;
use crate::bus::Bus;
use crate::measure::{Setting, is_stopped};

/// Number of servers.
const SERVERS: usize = 3;
/// Number of players at each server.
const PLAYERS_EACH: usize = 10;
/// How often all players are polled: much shorter than the times that are measured.
const POLL_EVERY: Duration = Duration::from_millis(4);
/// The measurement fails if everybody does not see everybody after this time.
const PATIENCE: Duration = Duration::from_secs(30);
/// Each player goes around in a circle.
const RADIUS_M: f32 = 3.0;
const SPEED_MPS: f32 = 4.0;
/// A cube counts as seen if it is shown this near to its true position and not marked as stale. Playout
/// delays it by half a metre, and a cube that stands is farther off within half a second.
const NEAR_M: f32 = 1.5;
/// The heights of everybody before and after the kill. Clients predict for half a second that a cube
/// without news goes on as before; a cube that they see at the second height has sent news.
const HEIGHTS_M: [f32; 2] = [0.5, 5.5];

/// Figures of the players of a killed server.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Takeover {
    /// Number of players of the killed server.
    pub(crate) moved: usize,
    /// Number of players of all servers.
    pub(crate) players: usize,
    /// The median of the time from the kill until a player sees everybody and is seen by everybody.
    pub(crate) median_s: f64,
    /// The time of the last player.
    pub(crate) worst_s: f64,
    /// Number of moved players that have their cube of before.
    pub(crate) same_cube: usize,
}

impl Takeover {
    /// Describes the figures in one line.
    pub(crate) fn brief(&self) -> String {
        format!(
            "{} of {} players moved over in {:.2} s (median), {:.2} s (the last); {} with their cube",
            self.moved, self.players, self.median_s, self.worst_s, self.same_cube
        )
    }
}

struct Player {
    client: Client,
    /// The centre of its circle.
    home_m: [f32; 2],
    /// The angle at which it begins.
    from_rad: f32,
    height_m: f32,
    cube: Option<CubeId>,
    is_joined: bool,
}

struct Game {
    players: Vec<Player>,
    began: Instant,
}

/// Starts three servers, kills the first one and measures its players.
pub(crate) fn measure(setting: &Setting) -> Result<Takeover> {
    let bus = Bus::start()?;
    let mut servers = start(setting, Some(&bus), SERVERS as u32)?;
    let players = (0..SERVERS * PLAYERS_EACH).map(|number| {
        let address = servers[number % SERVERS].address.to_string();
        Player::new(number, address)
    });
    let mut game = Game {
        players: players.collect(),
        began: Instant::now(),
    };
    let everybody: Vec<_> = (0..game.players.len()).collect();
    game.play_until(|game, now| {
        everybody
            .iter()
            .all(|&one| game.is_there(one, &everybody, now))
    })?;

    let is_mover = |player: &usize| player.is_multiple_of(SERVERS);
    let (movers, others): (Vec<_>, Vec<_>) = everybody.into_iter().partition(is_mover);
    let before: Vec<_> = game.players.iter().map(|player| player.cube).collect();
    for &mover in &movers {
        game.players[mover].is_joined = false;
    }
    drop(servers.remove(0));
    let killed_at = game.began.elapsed();
    for player in &mut game.players {
        player.height_m = HEIGHTS_M[1];
    }
    let mut back_at = vec![None; game.players.len()];
    game.play_until(|game, now| {
        for &mover in &movers {
            if back_at[mover].is_none() && game.is_there(mover, &others, now) {
                back_at[mover] = Some(now);
            }
        }
        movers.iter().all(|&mover| back_at[mover].is_some())
    })?;
    let times = movers.iter().filter_map(|&mover| back_at[mover]);
    let times: Vec<_> = times
        .map(|at: Duration| at.saturating_sub(killed_at).as_secs_f64())
        .collect();
    let has_same = |&&mover: &&usize| game.players[mover].cube == before[mover];
    Ok(Takeover {
        moved: movers.len(),
        players: game.players.len(),
        worst_s: times.iter().copied().fold(0.0, f64::max),
        median_s: median(times),
        same_cube: movers.iter().filter(has_same).count(),
    })
}

impl Game {
    /// Lets everybody play until `is_so` returns true.
    fn play_until(&mut self, mut is_so: impl FnMut(&Self, Duration) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.began.elapsed();
            for player in &mut self.players {
                player.play(now);
            }
            if is_so(self, now) {
                return Ok(());
            }
            if is_stopped() {
                bail!("stopped");
            }
            if Instant::now() > deadline {
                bail!(
                    "after {} s some players do not see others, or are not seen by them",
                    PATIENCE.as_secs()
                );
            }
            std::thread::sleep(POLL_EVERY);
        }
    }

    /// Returns whether a player sees these others, and they see it.
    fn is_there(&self, one: usize, others: &[usize], now: Duration) -> bool {
        let is_joined = self.players[one].is_joined;
        is_joined
            && others
                .iter()
                .all(|&other| self.sees(one, other, now) && self.sees(other, one, now))
    }

    fn sees(&self, viewer: usize, seen: usize, now: Duration) -> bool {
        let (viewer, seen) = (&self.players[viewer], &self.players[seen]);
        let views = viewer.client.cubes(now);
        let view = views.iter().find(|view| Some(view.cube) == seen.cube);
        view.is_some_and(|view| {
            !view.stale && distance_m(view.position, seen.place_m(now)) < NEAR_M
        })
    }
}

impl Player {
    fn new(number: usize, server: String) -> Self {
        let options = ClientOptions {
            room: "bench".to_owned(),
            ..ClientOptions::new(server, format!("bench {number}"))
        };
        Self {
            client: Client::new(options, number as u64),
            home_m: [8.0 * (number % 6) as f32, 8.0 * (number / 6) as f32],
            from_rad: number as f32,
            height_m: HEIGHTS_M[0],
            cube: None,
            is_joined: false,
        }
    }

    fn play(&mut self, now: Duration) {
        self.client.poll(now);
        while let Some(event) = self.client.next_event() {
            if let ClientEvent::Joined(welcome) | ClientEvent::Rejoined(welcome) = event {
                self.cube = Some(welcome.cube);
                self.is_joined = true;
            }
        }
        if let Some(own) = self.client.own_cube() {
            let pose = Pose {
                position: Position::from_metres(self.place_m(now)),
                ..Pose::default()
            };
            self.client.set_pose(own, pose);
        }
        self.client.send(now);
    }

    /// Returns the position of its cube.
    fn place_m(&self, now: Duration) -> [f32; 3] {
        let angle = self.from_rad + now.as_secs_f32() * SPEED_MPS / RADIUS_M;
        let [x, y] = self.home_m;
        let (sin, cos) = angle.sin_cos();
        [x + RADIUS_M * cos, y + RADIUS_M * sin, self.height_m]
    }
}

fn distance_m([x, y, z]: [f32; 3], [to_x, to_y, to_z]: [f32; 3]) -> f32 {
    (to_x - x).hypot(to_y - y).hypot(to_z - z)
}
