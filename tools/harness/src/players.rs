//! Players of a room on several servers, who walk and compare what they see: clients on one thread.
//!
//! Each player walks around a circle of its own. A cube that is on its circle, and near the place where its
//! player is, is seen as it is now: a client that only predicts leaves the circle within a quarter of a
//! second.

mod room;
mod seen;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cubesync_client::protocol::{Colour, CubeId, CubeKind, Pose, Position};
use cubesync_client::{Client, ClientOptions, Status};

pub use self::room::{Role, RoomPage, owner};
use self::seen::Seen;
use crate::wait::wait_for;

/// The room in which they are.
pub const ROOM: &str = "lobby";
/// How often all players are polled.
const POLL_EVERY: Duration = Duration::from_millis(8);
/// How often they compare what they see: the resolution of the measurements.
const LOOK_EVERY: Duration = Duration::from_millis(16);
/// Everything must have been right for this long before a fault counts as over.
const CALM: Duration = Duration::from_secs(2);
/// Every player walks in a circle, at this speed and of this radius.
const SPEED_MPS: f64 = 2.0;
const RADIUS_M: f64 = 1.0;
/// The circles lie this far apart, in rows of so many. In cells 20 m wide, all are in sight of each other, in
/// four cells, some from afar; and all are within the second of top speed that a cube may jump.
const SPACING_M: f64 = 3.0;
const IN_A_ROW: usize = 8;
const FIRST_M: f64 = 1.5;
/// The last player holds the free cube, and carries it this far above its own.
const ABOVE_M: f32 = 1.5;

/// The players whose views are compared, by the servers that they joined at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Among {
    /// All players.
    All,
    /// The players of this server among themselves.
    Server(usize),
    /// The players of the other servers among themselves.
    Others(usize),
}

/// All players, on a thread of their own. Dropping it lets them leave.
#[derive(Debug)]
pub struct Players {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    seen: Mutex<Seen>,
    is_calm: AtomicBool,
    should_stop: AtomicBool,
}

impl Players {
    /// Lets `each` players join each server. Those of the first server are the first ones in the room.
    pub fn join(servers: &[SocketAddr], each: usize) -> Self {
        let shared = Arc::new(Shared {
            seen: Mutex::new(Seen::new(servers.len() * each, each)),
            is_calm: AtomicBool::new(false),
            should_stop: AtomicBool::new(false),
        });
        let at = servers
            .iter()
            .flat_map(|&server| std::iter::repeat_n(server, each));
        let clients = at.enumerate().map(|(number, server)| {
            let colour = Colour::from([number as u8, 0x80, 0xC0]);
            let options = ClientOptions {
                colour,
                ..ClientOptions::new(server.to_string(), name_of(number))
            };
            Client::new(options, number as u64 + 1)
        });
        let mut players = clients.map(Player::new).collect::<Vec<_>>();
        let for_thread = Arc::clone(&shared);
        Self {
            shared,
            thread: Some(std::thread::spawn(move || play(&mut players, &for_thread))),
        }
    }

    /// Waits until these players have seen each other as they are for two seconds. Returns the time from
    /// `since` to the last moment at which one of them had not; none if they always had.
    pub fn outage(&self, since: Instant, among: Among, within: Duration) -> Result<Duration> {
        let ended = wait_for(within + CALM, || {
            let last = self.shared.seen().last_wrong(among);
            let at = last.map_or(since, |at| at.max(since));
            (at.elapsed() >= CALM).then(|| at - since)
        });
        ended.with_context(|| {
            let what = self.shared.seen().describe(among);
            format!("not whole {} s later, {what}", within.as_secs())
        })
    }

    /// Forgets the longest times for which players did not see each other.
    pub fn begin(&self) {
        self.shared.seen().begin();
    }

    /// Returns the longest time since then for which a player has not seen another of these as it was.
    pub fn longest_gap(&self, among: Among) -> Duration {
        self.shared.seen().longest_gap(among)
    }

    /// Returns how often a player had another cube than before, and how often the holder of the free cube
    /// lost it.
    pub fn changes(&self) -> (u64, u64) {
        let seen = self.shared.seen();
        (seen.changed_ids, seen.losses)
    }

    /// Stops all players and waits until each of their views is the world of the owner, one of the servers
    /// with these pages, and every cube is there once. Returns how long it took.
    pub fn agree(&self, pages: &[SocketAddr], within: Duration) -> Result<Duration> {
        self.shared.is_calm.store(true, Ordering::Relaxed);
        let (began, mut why) = (Instant::now(), String::new());
        let agreed = wait_for(within, || {
            let world = owner(pages, ROOM).map(|(_, page)| page.world());
            let compared = world.and_then(|world| self.shared.seen().compare(&world));
            compared.map_err(|error| why = error.to_string()).ok()
        });
        let took = began.elapsed();
        self.shared.is_calm.store(false, Ordering::Relaxed);
        if agreed.is_none() {
            bail!("{} s after the last move {why}", within.as_secs());
        }
        Ok(took)
    }
}

impl Drop for Players {
    fn drop(&mut self) {
        self.shared.should_stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in it has been reported.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A player and its client.
struct Player {
    client: Client,
    /// The cube of this player.
    own: Option<CubeId>,
    changed_ids: u64,
    /// Whether it holds the free cube, how often it has lost it, and when it may ask for it again.
    is_holding: bool,
    losses: u64,
    ask_at: Duration,
}

fn play(players: &mut [Player], shared: &Shared) {
    let start = Instant::now();
    // The time for which they have walked.
    let mut walked = Duration::ZERO;
    let (mut before, mut look_at) = (Duration::ZERO, Duration::ZERO);
    while !shared.should_stop.load(Ordering::Relaxed) {
        let now = start.elapsed();
        let is_calm = shared.is_calm.load(Ordering::Relaxed);
        if !is_calm {
            walked += now - before;
        }
        before = now;
        // The first one opens the room.
        let is_open = players[0].own.is_some();
        let count = players.len();
        let polled = if is_open { count } else { 1 };
        for (number, player) in players.iter_mut().enumerate().take(polled) {
            let is_holder = number + 1 == count;
            player.play(pose_at(number, walked), is_holder, now);
        }
        if now >= look_at {
            look_at = now + LOOK_EVERY;
            shared.seen().look(players, walked, now, is_calm);
        }
        std::thread::sleep(POLL_EVERY);
    }
    for player in players {
        player.client.close();
    }
}

impl Player {
    fn new(client: Client) -> Self {
        Self {
            client,
            own: None,
            changed_ids: 0,
            is_holding: false,
            losses: 0,
            ask_at: Duration::ZERO,
        }
    }

    fn play(&mut self, pose: Pose, is_holder: bool, now: Duration) {
        self.client.poll(now);
        while self.client.next_event().is_some() {}
        if let Some(own) = self.client.own_cube() {
            let before = self.own.replace(own);
            self.changed_ids += u64::from(before.is_some_and(|before| before != own));
            self.client.set_pose(own, pose);
            if is_holder && self.is_joined() {
                self.hold(own, pose, now);
            }
        }
        self.client.send(now);
    }

    /// Takes the free cube if nobody has it, and carries it.
    fn hold(&mut self, own: CubeId, mut pose: Pose, now: Duration) {
        let views = self.client.cubes(now);
        let free = views.iter().find_map(|view| match view.kind {
            CubeKind::Free { holder } => Some((view.cube, holder)),
            _ => None,
        });
        let Some((cube, holder)) = free else {
            return;
        };
        let was_holding = self.is_holding;
        self.is_holding = holder == Some(own);
        self.losses += u64::from(was_holding && !self.is_holding);
        if self.is_holding {
            let [x, y, z] = pose.position.to_metres();
            pose.position = Position::from_metres([x, y, z + ABOVE_M]);
            self.client.set_pose(cube, pose);
        } else if holder.is_none() && now >= self.ask_at {
            self.ask_at = now + Duration::from_millis(500);
            self.client.take(cube);
        }
    }

    fn is_joined(&self) -> bool {
        self.client.status() == Status::Joined
    }
}

fn name_of(number: usize) -> String {
    format!("player{number}")
}

/// Returns the centre of a player's circle, in metres.
fn centre_of(number: usize) -> [f64; 2] {
    let [column, row] = [number % IN_A_ROW, number / IN_A_ROW];
    [column, row].map(|index| FIRST_M + SPACING_M * index as f64)
}

/// Returns the pose of a player that has walked for this time.
fn pose_at(number: usize, walked: Duration) -> Pose {
    let angle = walked.as_secs_f64() * SPEED_MPS / RADIUS_M + number as f64;
    let [x, y] = centre_of(number);
    let [x, y] = [x + RADIUS_M * angle.cos(), y + RADIUS_M * angle.sin()];
    Pose {
        position: Position::from_metres([x as f32, y as f32, 0.5]),
        ..Pose::default()
    }
}
