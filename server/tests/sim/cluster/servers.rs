//! The servers of a cluster, and the checks of their rooms.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use clap::Parser;
use cubesync_protocol::replica::Change;
use cubesync_protocol::{CubeId, CubeKind};
use cubesync_relay::DEFAULT_ROOM;
use cubesync_relay::room::RoomView;
use cubesync_relay::room::world::Cube;
use cubesync_server::{Config, host_on_bus};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use turmoil::net::TcpListener;

use super::bus::SimulatedBus;
use super::faults::FaultKinds;
use crate::checks;
use crate::event_log::{Count, EventLog};
use crate::player::{FREE, Observer, PORT, PlayerState, PreviousSession};

/// Time between two looks at a room.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Time for which the cube of a player whose connection is lost stays.
const RESUME_WITHIN: Duration = Duration::from_secs(4);
/// Time after which all servers know of a change.
const SETTLED: Duration = Duration::from_millis(1_500);
/// Longest time for which a cube may be seen as a ghost: the player's connection is lost, the server
/// falls silent just before it would remove the cube, and comes back.
const GHOST_AT_MOST: Duration = Duration::from_secs(3 * RESUME_WITHIN.as_secs() + 2);
/// Longest silence that a player may notice: the server sends every second, with some latency.
const MAX_SILENCE: Duration = Duration::from_millis(1_700);
/// Time after which a program's pause of a second has no more effects.
const PAUSE_EFFECT: Duration = Duration::from_secs(2);
/// Time from the end of a program to the start of the next one.
const RESTART_TIME: Duration = Duration::from_millis(700);

/// The state of one server that the checks read.
#[derive(Default)]
pub struct ServerState {
    /// The start of its program; `None` while there is none.
    pub began: Option<Duration>,
    pub truth: Option<RoomView>,
    history: BTreeMap<u64, RoomView>,
    /// The ghosts, with the time at which each was first seen.
    ghosts: BTreeMap<CubeId, Duration>,
    /// The time since which the free cube's holder is not in the room, after the holder has left.
    holder_missing_since: Option<Duration>,
    /// The time of the last kill.
    killed: Duration,
    /// The end of the last stall, in the far future during one.
    stalled: Option<Duration>,
    /// The time at which its ticks last jumped.
    jumped: Option<Duration>,
}

/// The servers' settings and states.
pub struct ClusterUnderTest {
    pub tick_hz: u8,
    pub view_distance_m: Option<u16>,
    pub fault_kinds: FaultKinds,
    pub servers: Vec<ServerState>,
    /// The cubes that each player has seen joining in this session.
    joined_cubes: BTreeMap<String, BTreeSet<CubeId>>,
}

impl ClusterUnderTest {
    pub fn new(servers: usize, fault_kinds: FaultKinds, random: &mut fastrand::Rng) -> Self {
        Self {
            tick_hz: [10, 20, 30, 60][random.usize(..4)],
            view_distance_m: [None, Some(16), Some(40)][random.usize(..3)],
            fault_kinds,
            servers: (0..servers).map(|_| ServerState::default()).collect(),
            joined_cubes: BTreeMap::new(),
        }
    }

    fn config(&self) -> Config {
        let mut flags = vec![
            "cubesync-server".to_owned(),
            format!("--tick={}", self.tick_hz),
            format!("--resume-within={}s", RESUME_WITHIN.as_secs()),
            "--drain=1s".to_owned(),
        ];
        flags.extend(
            self.view_distance_m
                .map(|metres| format!("--view-distance={metres}")),
        );
        Config::parse_from(flags)
    }

    /// Marks a server as stalled until a time.
    pub fn stall(&mut self, server: usize, until: Duration) {
        self.servers[server].stalled = Some(until);
    }

    /// Notes the end of a server's program.
    pub fn end(&mut self, server: usize) {
        let ServerState {
            stalled, killed, ..
        } = self.servers[server];
        self.servers[server] = ServerState {
            stalled,
            killed,
            ..ServerState::default()
        };
    }

    /// Notes that a server's program was killed.
    pub fn kill(&mut self, server: usize, now: Duration) {
        self.end(server);
        self.servers[server].killed = now;
    }

    /// Checks a view of a server's room and keeps it.
    fn look(&mut self, server: usize, truth: RoomView, now: Duration, log: &EventLog) {
        let state = &mut self.servers[server];
        let before = state
            .truth
            .as_ref()
            .map_or(truth.tick, |before| before.tick);
        let usual_ticks = u64::from(self.tick_hz) / 10;
        if truth.tick > before + usual_ticks + 2 {
            log.record(now, "ticks jump", (server, before, truth.tick));
            let is_new = state.began.is_none_or(|began| now < began + SETTLED);
            assert!(
                is_new || !self.fault_kinds.has_clear_bus(),
                "server{server} received the others' messages all the time, and its clock jumped"
            );
            state.jumped = Some(now);
        }
        let mut ghosts = BTreeMap::new();
        let cubes: BTreeMap<_, _> = truth.cubes.iter().map(|cube| (cube.cube, cube)).collect();
        assert_eq!(cubes.len(), truth.cubes.len(), "ids are unique");
        for cube in &truth.cubes {
            assert!(cube.pose.position.is_in_bounds());
            match cube.kind {
                CubeKind::Ghost => {
                    let before = state.ghosts.get(&cube.cube).copied();
                    if before.is_none() {
                        log.count(Count::Ghost);
                        log.record(now, "ghost", (server, cube.cube));
                    }
                    let since = before.unwrap_or(now);
                    let lasted = now - since;
                    assert!(
                        lasted <= GHOST_AT_MOST,
                        "server{server}: {cube:?} is a ghost for {lasted:?}"
                    );
                    ghosts.insert(cube.cube, since);
                }
                CubeKind::Free {
                    holder: Some(holder),
                } if !cubes.contains_key(&holder) && self.view_distance_m.is_none() => {
                    let since = *state.holder_missing_since.get_or_insert(now);
                    assert!(
                        now - since <= SETTLED,
                        "server{server}: the holder of {cube:?} is not in the room"
                    );
                }
                CubeKind::Free { .. } => state.holder_missing_since = None,
                CubeKind::Player => {}
            }
        }
        state.ghosts = ghosts;
        state.history.insert(truth.tick, truth.clone());
        state.truth = Some(truth);
        if self.holders().len() > 1 {
            log.count(Count::TwoHolders);
        }
        if self.agreement(true).is_err() {
            log.count(Count::Split);
        }
    }

    fn holders(&self) -> BTreeSet<CubeId> {
        let truths = self.servers.iter().filter_map(|state| state.truth.as_ref());
        let cubes = truths.flat_map(|truth| &truth.cubes);
        let holder = |kind| match kind {
            CubeKind::Free { holder } => holder,
            _ => None,
        };
        cubes.filter_map(|cube| holder(cube.kind)).collect()
    }

    /// Returns the room, with each cube as its owner has it. Returns an error if a cube has two owners
    /// or none, or if a server has no room.
    pub fn room(&self) -> Result<RoomView, String> {
        let mut cubes = BTreeMap::new();
        for (server, state) in self.servers.iter().enumerate() {
            let truth = state.truth.as_ref();
            let truth = truth.ok_or_else(|| format!("server{server} has no room"))?;
            let is_own = |cube: &&Cube| truth.owned.contains(&cube.cube);
            for cube in truth.cubes.iter().filter(is_own) {
                if cubes.insert(cube.cube, cube.clone()).is_some() {
                    return Err(format!("{} has two owners", cube.cube));
                }
            }
        }
        if !cubes.contains_key(&FREE) {
            return Err("the free cube has no owner".to_owned());
        }
        Ok(RoomView {
            name: DEFAULT_ROOM.to_owned(),
            tick: 0,
            tick_hz: self.tick_hz,
            owned: cubes.keys().copied().collect(),
            cubes: cubes.into_values().collect(),
        })
    }

    /// Checks that all servers show the cubes of the room as they are, and no others. With `may_wait`,
    /// they may still show the ghosts of a server that has stopped.
    pub fn agreement(&self, may_wait: bool) -> Result<(), String> {
        let room = self.room()?;
        for (server, state) in self.servers.iter().enumerate() {
            for here in state.truth.iter().flat_map(|truth| &truth.cubes) {
                let there = room.cubes.iter().find(|cube| cube.cube == here.cube);
                if may_wait && there.is_none() && here.kind == CubeKind::Ghost {
                    continue;
                }
                let Some(there) = there else {
                    return Err(format!("server{server} shows {here:?}, which is gone"));
                };
                let [a, b] = [here, there].map(|cube| cube.pose.position);
                let off = [a.x - b.x, a.y - b.y, a.z - b.z];
                let is_near = off.iter().all(|off| off.abs() <= checks::NEAR_QUANTA);
                let is_same =
                    (here.kind, &here.name, here.colour) == (there.kind, &there.name, there.colour);
                if !is_near || !is_same {
                    return Err(format!(
                        "server{server} shows {here:?} instead of {there:?}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Returns whether a program has run since before a time, so that it knows of everything since.
    fn is_remembered_since(&self, at: Duration) -> bool {
        let began = self.servers.iter().filter_map(|state| state.began);
        began.into_iter().any(|began| began + SETTLED < at)
    }

    /// Returns whether a server runs and has recovered from earlier faults.
    fn is_steady(&self, server: usize, now: Duration) -> bool {
        let state = &self.servers[server];
        let is_up = state.began.is_some_and(|began| began + SETTLED < now);
        // A server that could not receive the others' messages adjusts its clock afterwards.
        let is_past = |at: Option<Duration>, lasts| at.is_none_or(|at| at + lasts < now);
        is_up && is_past(state.stalled, MAX_SILENCE) && is_past(state.jumped, MAX_SILENCE)
    }
}

impl Observer for Rc<RefCell<ClusterUnderTest>> {
    fn joined(&self, player: &PlayerState, previous: Option<&PreviousSession>) {
        let mut cluster = self.borrow_mut();
        cluster
            .joined_cubes
            .insert(player.name.clone(), BTreeSet::new());
        let Some(previous) = previous else {
            return;
        };
        let own = player
            .session
            .as_ref()
            .and_then(|session| session.welcome());
        let own = own.expect("it has joined").cube;
        let can_be_lost = !cluster.fault_kinds.has_clear_bus()
            || cluster.fault_kinds.players
            || previous.lost < previous.joined + SETTLED
            || player.joined > previous.lost + RESUME_WITHIN - Duration::from_millis(500)
            || !cluster.is_steady(player.server, player.joined)
            || !cluster.is_remembered_since(previous.lost);
        assert!(
            can_be_lost || own == previous.cube,
            "{} had {} at server{} and has {own} at server{}",
            player.name,
            previous.cube,
            previous.server,
            player.server
        );
    }

    fn received_tick(&self, player: &PlayerState, tick: u64) {
        let cluster = self.borrow();
        let state = &cluster.servers[player.server];
        let session = player
            .session
            .as_ref()
            .expect("a joined player has a session");
        // Messages that were held up may come from the previous program.
        let is_of_program = state.began.is_some_and(|began| session.started() > began);
        if cluster.view_distance_m.is_some() || !is_of_program {
            return;
        }
        if let Some(truth) = state.history.get(&tick) {
            checks::check_tick(truth, &player.name, session);
        }
    }

    fn changed(&self, player: &PlayerState, change: &Change) {
        let Change::Joined(info) = change else {
            return;
        };
        let mut cluster = self.borrow_mut();
        let is_first = cluster
            .joined_cubes
            .get_mut(&player.name)
            .is_none_or(|cubes| cubes.insert(info.cube));
        let may_join_again = !cluster.fault_kinds.has_clear_bus() || cluster.fault_kinds.servers;
        assert!(
            is_first || may_join_again,
            "{} sees {info:?} joining twice",
            player.name
        );
    }

    fn corrected(&self, player: &PlayerState) {
        let cluster = self.borrow();
        let now = turmoil::sim_elapsed().unwrap();
        assert!(
            // After a pause of a second, the whole distance at once is just as fast as allowed.
            cluster.fault_kinds.players
                || now < player.paused + PAUSE_EFFECT
                || !cluster.is_steady(player.server, now),
            "{} is corrected without a fault to {:?}, {:?} after a pause",
            player.name,
            player.pose.position,
            now - player.paused
        );
    }

    fn is_reset(&self, player: &PlayerState) -> bool {
        let cluster = self.borrow();
        let killed = cluster.servers[player.server].killed;
        let session = player.session.as_ref();
        let is_older = session.is_some_and(|session| session.started() < killed);
        is_older && !cluster.fault_kinds.machines
    }

    fn frame(&self, player: &PlayerState) {
        let (cluster, now) = (self.borrow(), turmoil::sim_elapsed().unwrap());
        let Some(session) = player
            .session
            .as_ref()
            .filter(|session| session.is_joined())
        else {
            return;
        };
        let began = cluster.servers[player.server].began;
        let is_of_program = began.is_some_and(|began| session.started() > began);
        let silent = now - session.last_received();
        assert!(
            silent < MAX_SILENCE
                || cluster.fault_kinds.players
                || !is_of_program
                || !cluster.is_steady(player.server, now),
            "{} has received nothing from server{} for {silent:?}",
            player.name,
            player.server
        );
    }
}

/// Runs a server until it is killed, and restarts it when it is asked to close.
pub async fn serve(
    server: usize,
    cluster: Rc<RefCell<ClusterUnderTest>>,
    bus: SimulatedBus,
    is_closing: Rc<Cell<bool>>,
    log: EventLog,
) -> turmoil::Result {
    loop {
        let now = || turmoil::sim_elapsed().unwrap();
        let config = cluster.borrow().config();
        let shutdown = CancellationToken::new();
        let host = host_on_bus(&config, bus.join(server), shutdown.clone());
        let delivery = tokio::task::spawn_local(bus.clone().deliver(server));
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
        cluster.borrow_mut().servers[server].began = Some(now());
        log.record(now(), "server", (server, "begins"));
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while !is_closing.take() {
            tokio::select! {
                biased;
                accepted = listener.accept() => {
                    let (stream, peer) = accepted?;
                    host.serve(stream, peer.ip());
                }
                _ = looks.tick() => {
                    let truth = host.view(DEFAULT_ROOM).await.expect("the lobby never ends");
                    cluster.borrow_mut().look(server, truth, now(), &log);
                }
            }
        }
        drop(listener);
        cluster.borrow_mut().end(server);
        shutdown.cancel();
        host.stopped().await;
        delivery.abort();
        log.record(now(), "server", (server, "has stopped"));
        tokio::time::sleep(RESTART_TIME).await;
    }
}
