//! Players on the servers of a cluster, and what each of them sees: clients in one thread.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use cubesync_client::protocol::{CubeId, CubeKind, Pose, Position};
use cubesync_client::{Client, ClientEvent, ClientOptions, Status};
use cubesync_harness::wait::wait_for;

/// How often all players are polled: the resolution of the measurements.
const POLL: Duration = Duration::from_millis(4);
/// A cube that was seen elsewhere within this time counts as moving.
const FRESH: Duration = Duration::from_millis(300);
/// The largest error: the way up and the way down each add the codec's bound.
const BOUND_QUANTA: i32 = 2;
/// Every player walks in a circle, at this speed and of this radius.
const SPEED_MPS: f64 = 2.0;
const RADIUS_M: f64 = 1.0;
/// The heights at which they walk; each leap takes all to the other one. Heights less than a metre
/// apart count as the same.
const HEIGHTS_M: [f32; 2] = [0.5, 5.5];
const SAME_HEIGHT_QUANTA: i32 = 512;

/// The cubes that one player's client shows.
#[derive(Debug, Clone, Default)]
struct Observation {
    is_joined: bool,
    server: String,
    own: Option<CubeId>,
    own_position: Position,
    /// By number: what it is, its name, and where the client's replica has it.
    cubes: BTreeMap<CubeId, (CubeKind, String, Position)>,
    /// When each cube was last seen at a new position.
    moved: BTreeMap<CubeId, Instant>,
}

/// Where two players are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pair {
    /// They are at the same server.
    Local,
    /// They are at different servers.
    Remote,
}

#[derive(Debug, Default)]
struct Seen {
    observations: Vec<Observation>,
    /// Number of times that a player came back with another cube.
    lost_cubes: u64,
    corrections: u64,
    /// The longest time for which one player saw the cube of another one stand, by their numbers.
    gaps: BTreeMap<(usize, usize), Duration>,
}

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Seen>,
    is_calm: AtomicBool,
    is_up: AtomicBool,
    should_stop: AtomicBool,
}

/// All players, on a thread of their own.
#[derive(Debug)]
pub(super) struct Players {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Players {
    /// Lets `each` players join each server.
    pub(super) fn join(servers: &[SocketAddr], each: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let homes = servers
            .iter()
            .flat_map(|&server| (0..each).map(move |_| server));
        let clients: Vec<_> = homes
            .enumerate()
            .map(|(number, server)| {
                let options = ClientOptions::new(server.to_string(), name_of(number));
                Client::new(options, number as u64 + 1)
            })
            .collect();
        shared.seen().observations = vec![Observation::default(); clients.len()];
        let for_thread = Arc::clone(&shared);
        Self {
            shared,
            thread: Some(std::thread::spawn(move || play(clients, &for_thread))),
        }
    }

    /// Waits until all players see each other move at the right height. Returns how long it took.
    pub(super) fn are_together(&self, within: Duration) -> Result<Duration> {
        self.comes("everybody sees everybody move", within, Seen::difference)
    }

    /// Waits until at least one player is in the room.
    pub(super) fn one_is_in(&self, within: Duration) -> Result<Duration> {
        self.comes("somebody is in the room", within, |seen| {
            let is_out = !seen.observations.iter().any(|player| player.is_joined);
            is_out.then(|| "nobody is".to_owned())
        })
    }

    /// Lets everybody leap to another height. A cube that is seen there has been updated since, and
    /// does not just go on as predicted, as it may for half a second.
    pub(super) fn leap(&self) {
        self.shared.is_up.fetch_xor(true, Ordering::Relaxed);
    }

    /// Waits until a player does not see another one, and then until all see each other move again. Returns
    /// how long both took.
    pub(super) fn are_together_again(&self, within: Duration) -> Result<Duration> {
        let apart = self.comes("somebody is lost", within, |seen| match seen.difference() {
            Some(_) => None,
            None => Some("everybody sees everybody move".to_owned()),
        })?;
        Ok(apart + self.are_together(within)?)
    }

    /// Waits until all players see the cubes of other servers as ghosts.
    pub(super) fn see_ghosts(&self, within: Duration) -> Result<Duration> {
        self.comes("cubes from elsewhere are ghosts", within, |seen| {
            seen.remote(|known| !matches!(known, Some((CubeKind::Ghost, ..))))
        })
    }

    /// Waits until no player sees a cube of another server.
    pub(super) fn see_nobody_else(&self, within: Duration) -> Result<Duration> {
        self.comes("cubes from elsewhere have left", within, |seen| {
            seen.remote(|known| known.is_some())
        })
    }

    /// Waits until the first `first` players and the others see all of their own side and nobody of the
    /// other one.
    pub(super) fn see_apart(&self, within: Duration, first: usize) -> Result<Duration> {
        self.comes("both sides are alone", within, |seen| {
            let observations = seen.observations.iter().enumerate();
            let lonely = |(number, observation): (usize, &Observation)| {
                let side = if number < first {
                    first
                } else {
                    seen.observations.len() - first
                };
                // And the free cube.
                let is_alone = observation.cubes.len() == side + 1;
                (!is_alone)
                    .then(|| format!("{} sees {} cubes", name_of(number), observation.cubes.len()))
            };
            observations.filter_map(lonely).next()
        })
    }

    /// Stops all players and waits until they see each other at the true positions.
    pub(super) fn agree(&self, within: Duration) -> Result<Duration> {
        self.shared.is_calm.store(true, Ordering::Relaxed);
        let agreed = self.comes("every view is the truth", within, Seen::misplaced);
        self.shared.is_calm.store(false, Ordering::Relaxed);
        agreed
    }

    /// Forgets how long cubes stood and how often players were corrected: all have come to their
    /// places now.
    pub(super) fn begin(&self) {
        let mut seen = self.shared.seen();
        seen.gaps.clear();
        seen.corrections = 0;
    }

    /// Returns the longest time since then for which a player saw a moving cube stand.
    pub(super) fn longest_gap(&self, pair: Pair) -> Duration {
        let seen = self.shared.seen();
        let is_wanted = |(a, b): &(usize, usize)| {
            let is_local = seen.observations[*a].server == seen.observations[*b].server;
            is_local == (pair == Pair::Local)
        };
        let gaps = seen.gaps.iter().filter(|(pair, _)| is_wanted(pair));
        gaps.map(|(_, gap)| *gap).max().unwrap_or_default()
    }

    /// Checks that no player came back with another cube.
    pub(super) fn have_kept_their_cubes(&self) -> Result<()> {
        let lost = self.shared.seen().lost_cubes;
        ensure!(lost == 0, "{lost} came back with another cube");
        Ok(())
    }

    /// Returns the number of corrections since then.
    pub(super) fn corrections(&self) -> u64 {
        self.shared.seen().corrections
    }

    fn comes(
        &self,
        what: &str,
        within: Duration,
        difference: impl Fn(&Seen) -> Option<String>,
    ) -> Result<Duration> {
        let began = Instant::now();
        let came = wait_for(within, || match difference(&self.shared.seen()) {
            None => Some(began.elapsed()),
            Some(_) => None,
        });
        match (came, difference(&self.shared.seen())) {
            (Some(took), _) => Ok(took),
            (None, difference) => bail!(
                "after {} s it is not so that {what}: {}",
                within.as_secs(),
                difference.unwrap_or_default()
            ),
        }
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

impl Seen {
    /// Describes the first player that does not see all others move; `None` if there is none.
    fn difference(&self) -> Option<String> {
        let now = Instant::now();
        for (number, observation) in self.observations.iter().enumerate() {
            let who = name_of(number);
            if !observation.is_joined {
                return Some(format!("{who} is not in the room"));
            }
            // And the free cube.
            if observation.cubes.len() != self.observations.len() + 1 {
                return Some(format!("{who} sees {} cubes", observation.cubes.len()));
            }
            for (other, seen) in self.observations.iter().enumerate() {
                let name = name_of(other);
                let Some(cube) = seen.own else {
                    return Some(format!("{name} has no cube"));
                };
                match observation.cubes.get(&cube) {
                    Some((CubeKind::Player, known, at)) if *known == name => {
                        if (at.z - seen.own_position.z).abs() > SAME_HEIGHT_QUANTA {
                            return Some(format!("{who} does not see where {name} leapt"));
                        }
                    }
                    known => return Some(format!("{who} sees {name} as {known:?}")),
                }
                let moved = observation.moved.get(&cube);
                if other != number && moved.is_none_or(|&at| now - at > FRESH) {
                    return Some(format!("{who} does not see {name} move"));
                }
            }
        }
        None
    }

    /// Names a player who is not seen in the right place, now that nobody moves.
    fn misplaced(&self) -> Option<String> {
        for (number, observation) in self.observations.iter().enumerate() {
            for (other, seen) in self.observations.iter().enumerate() {
                let own = seen.own_position;
                let known = seen.own.and_then(|cube| observation.cubes.get(&cube));
                let Some((CubeKind::Player, _, at)) = known else {
                    return Some(format!(
                        "{} does not see {}",
                        name_of(number),
                        name_of(other)
                    ));
                };
                let off = [own.x - at.x, own.y - at.y, own.z - at.z];
                if off.iter().any(|off| off.abs() > BOUND_QUANTA) {
                    let (who, whom) = (name_of(number), name_of(other));
                    return Some(format!("{who} sees {whom} off by {off:?} quanta"));
                }
            }
            if observation.cubes.len() != self.observations.len() + 1 {
                return Some(format!(
                    "{} sees {} cubes",
                    name_of(number),
                    observation.cubes.len()
                ));
            }
        }
        None
    }

    /// Names a player who sees another server's player in a way that is not wanted.
    fn remote(
        &self,
        is_unwanted: impl Fn(Option<&(CubeKind, String, Position)>) -> bool,
    ) -> Option<String> {
        for (number, observation) in self.observations.iter().enumerate() {
            for (other, seen) in self.observations.iter().enumerate() {
                let known = seen.own.and_then(|cube| observation.cubes.get(&cube));
                if observation.server != seen.server && is_unwanted(known) {
                    return Some(format!(
                        "{} sees {} as {known:?}",
                        name_of(number),
                        name_of(other)
                    ));
                }
            }
        }
        None
    }
}

fn name_of(number: usize) -> String {
    format!("player{number}")
}

fn play(mut clients: Vec<Client>, shared: &Shared) {
    let start = Instant::now();
    let mut cubes = vec![None; clients.len()];
    // The time for which they have walked.
    let (mut walked, mut before) = (Duration::ZERO, Duration::ZERO);
    while !shared.should_stop.load(Ordering::Relaxed) {
        let now = start.elapsed();
        if !shared.is_calm.load(Ordering::Relaxed) {
            walked += now - before;
        }
        before = now;
        for (number, client) in clients.iter_mut().enumerate() {
            client.poll(now);
            let (mut lost_cubes, mut corrections) = (0, 0);
            while let Some(event) = client.next_event() {
                match event {
                    ClientEvent::Joined(welcome) | ClientEvent::Rejoined(welcome) => {
                        let last = cubes[number].replace(welcome.cube);
                        lost_cubes += u64::from(last.is_some_and(|last| last != welcome.cube));
                    }
                    ClientEvent::Corrected(_) => corrections += 1,
                    _ => {}
                }
            }
            let height_m = HEIGHTS_M[usize::from(shared.is_up.load(Ordering::Relaxed))];
            let pose = pose_at(number, walked, height_m);
            if let Some(own) = client.own_cube() {
                client.set_pose(own, pose);
            }
            client.send(now);
            let mut seen = shared.seen();
            seen.lost_cubes += lost_cubes;
            seen.corrections += corrections;
            seen.observations[number].own_position = pose.position;
            seen.look(number, client, now);
        }
        std::thread::sleep(POLL);
    }
    clients.iter_mut().for_each(Client::close);
}

impl Seen {
    /// Updates the view of a player.
    fn look(&mut self, number: usize, client: &Client, now: Duration) {
        let at = Instant::now();
        let owners: Vec<_> = self
            .observations
            .iter()
            .map(|observation| observation.own)
            .collect();
        let observation = &mut self.observations[number];
        observation.is_joined = client.status() == Status::Joined;
        if !observation.is_joined {
            return;
        }
        observation.server = client.server().to_owned();
        observation.own = client.own_cube();
        let mut cubes = BTreeMap::new();
        for view in client.cubes(now) {
            let Some(known) = client.server_pose(view.cube) else {
                continue;
            };
            let before = observation
                .cubes
                .get(&view.cube)
                .map(|(.., position)| *position);
            if before != Some(known.position) {
                let last = observation.moved.insert(view.cube, at);
                let owner = owners.iter().position(|own| *own == Some(view.cube));
                if let (Some(last), Some(owner)) = (last, owner) {
                    let gap = self.gaps.entry((number, owner)).or_default();
                    *gap = (*gap).max(at - last);
                }
            }
            cubes.insert(view.cube, (view.kind, view.name.to_owned(), known.position));
        }
        observation.cubes = cubes;
    }
}

/// Returns the pose of a player, which walks in a circle of its own.
fn pose_at(number: usize, walked: Duration, height_m: f32) -> Pose {
    let angle = walked.as_secs_f64() * SPEED_MPS / RADIUS_M + number as f64;
    let centre = 3.0 * RADIUS_M * number as f64;
    let [x, y] = [centre + RADIUS_M * angle.cos(), RADIUS_M * angle.sin()];
    Pose {
        position: Position::from_metres([x as f32, y as f32, height_m]),
        ..Pose::default()
    }
}
