//! The servers: hosts behind simulated listeners, and the checks of their rooms.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use cubesync_client::session::Session;
use cubesync_protocol::{CubeId, CubeKind};
use cubesync_relay::DEFAULT_ROOM;
use cubesync_relay::metrics::DatagramUse;
use cubesync_relay::room::{Role, RoomView};
use cubesync_server::{Config, host, host_on_bus};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use turmoil::net::TcpListener;

use crate::bus::SimulatedBus;
use crate::checks;
use crate::datagrams::{Offer, Paths};
use crate::event_log::{Count, EventLog};
use crate::faults::FaultKinds;
use crate::player::{Observer, PORT, PlayerState, PreviousSession};
use crate::run::STEP;

/// Time between two looks at a room.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Time after which all servers know of a change.
const SETTLED: Duration = Duration::from_millis(1_500);
/// Longest silence that a player may notice: the server sends every second, with some latency.
const MAX_SILENCE: Duration = Duration::from_millis(1_700);
/// Longest silence while the room changes its owner.
const MAX_CHANGE: Duration = Duration::from_millis(2_000);
/// Time after which a program's pause of a second has no more effects: the pause, and until as much distance has
/// been saved as the server spends while it guesses where somebody went who turns at every tick.
const PAUSE_EFFECT: Duration = Duration::from_secs(3);
/// Time from the end of a program to the start of the next one.
const RESTART_TIME: Duration = Duration::from_millis(700);

/// The state of one server that the checks read.
#[derive(Default)]
struct ServerState {
    /// The start of its program; `None` while there is none.
    began: Option<Duration>,
    /// The room as it is here.
    view: Option<RoomView>,
    /// The room at the ticks at which it was looked at while this server ran it.
    history: BTreeMap<u64, RoomView>,
    /// The ghosts of the room that this server runs, with the time at which each was first seen.
    ghosts: BTreeMap<CubeId, Duration>,
    /// The time of the last kill.
    killed: Duration,
    /// The end of the last stall, in the far future during one.
    stalled: Duration,
    /// The last time at which a loose cube was elsewhere than at the look before.
    heap_moved: Duration,
}

/// The servers' settings and states.
pub struct Servers {
    tick_hz: u8,
    pub view_distance_m: Option<u16>,
    /// Loose cubes in each room.
    cubes: usize,
    resume_within: Duration,
    pub kinds: FaultKinds,
    pub bus: Option<SimulatedBus>,
    states: Vec<ServerState>,
}

impl Servers {
    pub fn new(
        number: usize,
        kinds: FaultKinds,
        resume_within: Duration,
        bus: Option<SimulatedBus>,
        random: &mut fastrand::Rng,
    ) -> Self {
        Self {
            tick_hz: [10, 20, 30, 60][random.usize(..4)],
            view_distance_m: [None, Some(16), Some(40)][random.usize(..3)],
            cubes: [0, 1, 30][random.usize(..3)],
            resume_within,
            kinds,
            bus,
            states: (0..number).map(|_| ServerState::default()).collect(),
        }
    }

    fn config(&self) -> Config {
        let mut flags = vec![
            "cubesync-server".to_owned(),
            format!("--tick={}", self.tick_hz),
            format!("--resume-within={}s", self.resume_within.as_secs()),
            "--drain=1s".to_owned(),
            format!("--cubes={}", self.cubes),
        ];
        flags.extend(
            self.view_distance_m
                .map(|metres| format!("--view-distance={metres}")),
        );
        Config::parse_from(flags)
    }

    /// Marks a server as stalled until a time.
    pub fn stall(&mut self, server: usize, until: Duration) {
        self.states[server].stalled = until;
    }

    /// Notes that a server's program was killed.
    pub fn kill(&mut self, server: usize, now: Duration) {
        self.end(server);
        self.states[server].killed = now;
    }

    /// Notes the end of a server's program.
    fn end(&mut self, server: usize) {
        let ServerState {
            stalled, killed, ..
        } = self.states[server];
        self.states[server] = ServerState {
            stalled,
            killed,
            ..ServerState::default()
        };
    }

    /// Checks a view of a server's room and keeps it.
    fn look(&mut self, server: usize, view: RoomView, now: Duration, log: &EventLog) {
        let state = &mut self.states[server];
        if state
            .view
            .as_ref()
            .is_none_or(|before| before.role != view.role)
        {
            log.record(now, "role", (server, view.tick, &view.role));
            log.count(match view.role {
                Role::Owner => Count::Owner,
                Role::Edge { .. } => Count::Edge,
                Role::Island => Count::Island,
            });
        }
        if let Some(bus) = self.bus.as_ref().filter(|_| view.role == Role::Owner) {
            let is_lease_valid = bus.lock().store.is_valid(server, now.saturating_sub(STEP));
            assert!(
                is_lease_valid,
                "server{server} owns the room without a valid lease"
            );
        }
        let mut ghosts = BTreeMap::new();
        if !matches!(view.role, Role::Edge { .. }) {
            let ids: BTreeSet<_> = view.cubes.iter().map(|cube| cube.cube).collect();
            // But for loose cubes, which have none.
            let names = view.cubes.iter().map(|cube| &cube.name);
            let names: Vec<_> = names.filter(|name| !name.is_empty()).collect();
            let unique: BTreeSet<_> = names.iter().collect();
            assert_eq!(
                (ids.len(), unique.len()),
                (view.cubes.len(), names.len()),
                "both are unique"
            );
            let is_player = |id| {
                let mut cubes = view.cubes.iter();
                cubes.any(|cube| cube.cube == id && cube.kind == CubeKind::Player)
            };
            for cube in &view.cubes {
                assert!(cube.pose.position.is_in_bounds());
                if let CubeKind::Free {
                    holder: Some(holder),
                } = cube.kind
                {
                    assert!(is_player(holder), "{cube:?} has no such holder");
                }
                if cube.kind == CubeKind::Ghost {
                    let before = state.ghosts.get(&cube.cube).copied();
                    if before.is_none() {
                        log.count(Count::Ghost);
                        log.record(now, "ghost", (server, cube.cube));
                    }
                    let since = before.unwrap_or(now);
                    // The player may have been back for a moment between two looks.
                    let at_most = 2 * (self.resume_within + 2 * LOOK_INTERVAL);
                    assert!(
                        now - since <= at_most,
                        "{cube:?} is a ghost since {since:?}"
                    );
                    ghosts.insert(cube.cube, since);
                }
            }
            state.history.insert(view.tick, view.clone());
        }
        state.ghosts = ghosts;
        if state
            .view
            .as_ref()
            .is_some_and(|before| has_moved(before, &view))
        {
            state.heap_moved = now;
        }
        state.view = Some(view);
    }

    /// Returns the room as its only owner has it.
    pub fn owner(&self) -> Result<&RoomView, String> {
        let mut owner = None;
        for (server, state) in self.states.iter().enumerate() {
            let view = state
                .view
                .as_ref()
                .ok_or_else(|| format!("server{server} has no room"))?;
            let is_second = match view.role {
                Role::Owner => owner.replace(view).is_some(),
                Role::Edge { .. } => false,
                Role::Island => true,
            };
            if is_second {
                return Err(format!("server{server} has a room of its own"));
            }
        }
        owner.ok_or_else(|| "the room has no owner".to_owned())
    }

    /// Returns whether the room's lease is held by a server that does not know it.
    pub fn has_orphaned_lease(&self, now: Duration) -> bool {
        let bus = self.bus.as_ref();
        let holder = bus.and_then(|bus| bus.lock().store.node(now));
        let view = holder.map(|server| self.states[server].view.as_ref());
        view.is_some_and(|view| view.is_none_or(|view| view.role != Role::Owner))
    }

    /// Returns when a loose cube was last seen to move, of its own. What is thrown rolls on for seconds, and
    /// views are compared with a room that rests.
    pub fn heap_moved(&self) -> Duration {
        let moved = self.states.iter().map(|state| state.heap_moved);
        moved.max().unwrap_or_default()
    }

    /// Returns whether a program has run since before a time, so that it knows of everything since.
    fn is_remembered_since(&self, at: Duration) -> bool {
        let began = self.states.iter().filter_map(|state| state.began);
        began.into_iter().any(|began| began + SETTLED < at)
    }

    /// Returns whether a server runs and has recovered from earlier faults.
    fn is_steady(&self, server: usize, now: Duration) -> bool {
        let state = &self.states[server];
        let is_up = state.began.is_some_and(|began| began + SETTLED < now);
        is_up && state.stalled + MAX_SILENCE < now
    }

    /// Returns whether a player's session is with the running program of its server. Messages that were
    /// held up may come from the previous one.
    fn is_of_program(&self, player: &PlayerState, session: &Session) -> bool {
        let began = self.states[player.server].began;
        began.is_some_and(|began| session.started() > began)
    }
}

/// Returns whether a cube that nobody holds has moved from one view of a room to the next.
fn has_moved(before: &RoomView, after: &RoomView) -> bool {
    let loose = |view: &RoomView| -> BTreeMap<_, _> {
        let cubes = view.cubes.iter();
        let loose = cubes.filter(|cube| cube.kind == CubeKind::Free { holder: None });
        loose.map(|cube| (cube.cube, cube.pose)).collect()
    };
    loose(before) != loose(after)
}

impl Observer for Rc<RefCell<Servers>> {
    fn joined(&self, player: &PlayerState, previous: Option<&PreviousSession>) {
        let servers = self.borrow();
        let session = player.session.as_ref();
        let own = session.and_then(Session::welcome).expect("it has joined");
        let Some(previous) = previous.filter(|previous| previous.cube != own.cube) else {
            return;
        };
        let can_be_lost = !servers.kinds.has_clear_bus()
            || servers.kinds.players
            || previous.lost < previous.joined + SETTLED
            || player.joined > previous.lost + servers.resume_within - Duration::from_millis(500)
            || !servers.is_steady(player.server, player.joined)
            || !servers.is_remembered_since(previous.lost);
        assert!(
            can_be_lost,
            "{} had {} at server{} and has {} at server{}",
            player.name, previous.cube, previous.server, own.cube, player.server
        );
    }

    fn continued_anew(&self, player: &PlayerState, before: CubeId) {
        let has_clear_bus = self.borrow().kinds.has_clear_bus();
        assert!(!has_clear_bus, "{} has lost {before}", player.name);
    }

    /// Checks the player's replica against the room at the same tick, of the owner or of an island. With a
    /// view distance, distant cubes are published later, so players are only checked at the end.
    fn received_tick(&self, player: &PlayerState, tick: u64) {
        let servers = self.borrow();
        let session = player.session.as_ref().expect("it has joined");
        if servers.view_distance_m.is_some() || !servers.is_of_program(player, session) {
            return;
        }
        // A server that has just taken the room over has not been looked at.
        if turmoil::sim_elapsed().unwrap() < player.continued + 2 * LOOK_INTERVAL {
            return;
        }
        // While there is more than one room of that tick, a player may be in either.
        let near = tick.saturating_sub(servers.tick_hz.into())..=tick + u64::from(servers.tick_hz);
        let has_room = |state: &&ServerState| state.history.range(near.clone()).next().is_some();
        let mut rooms = servers.states.iter().filter(has_room);
        if let (Some(state), None) = (rooms.next(), rooms.next())
            && let Some(truth) = state.history.get(&tick)
        {
            let checked = checks::check_tick(truth, &player.name, session);
            let wrong_ticks = checked
                .as_ref()
                .map_or_else(|_| player.wrong_ticks.get() + 1, |()| 0);
            player.wrong_ticks.set(wrong_ticks);
            // What comes late from another server changes the owner's world between two ticks.
            let is_strict = servers.states.len() == 1
                || servers.kinds.has_clear_bus() && !servers.kinds.players;
            assert!(wrong_ticks < if is_strict { 1 } else { 10 }, "{checked:?}");
        }
    }

    fn corrected(&self, player: &PlayerState) {
        let servers = self.borrow();
        let now = turmoil::sim_elapsed().unwrap();
        assert!(
            // After a pause of a second, the whole distance at once is just as fast as allowed.
            servers.kinds.players
                || servers.kinds.bus
                || servers.kinds.servers
                || now < player.paused + PAUSE_EFFECT
                || !servers.is_steady(player.server, now),
            "{} is corrected without a fault to {:?}",
            player.name,
            player.pose.position
        );
    }

    fn is_reset(&self, player: &PlayerState) -> bool {
        let servers = self.borrow();
        let killed = servers.states[player.server].killed;
        let session = player.session.as_ref();
        let is_older = session.is_some_and(|session| session.started() < killed);
        is_older && !servers.kinds.machines && servers.bus.is_some()
    }

    fn frame(&self, player: &PlayerState) {
        let (servers, now) = (self.borrow(), turmoil::sim_elapsed().unwrap());
        let session = player.session.as_ref();
        let Some(session) = session.filter(|session| session.is_joined()) else {
            return;
        };
        let silent = now - session.last_received();
        let at_most = MAX_SILENCE
            + if servers.kinds.servers {
                MAX_CHANGE
            } else {
                Duration::ZERO
            };
        assert!(
            silent < at_most
                || servers.kinds.players
                || servers.kinds.bus
                || now < player.paused + PAUSE_EFFECT
                || !servers.is_of_program(player, session)
                || !servers.is_steady(player.server, now),
            "{} has received nothing from server{} for {silent:?}",
            player.name,
            player.server
        );
    }
}

/// Runs a server until it is killed, and restarts it when it is asked to close.
pub async fn serve(
    server: usize,
    servers: Rc<RefCell<Servers>>,
    is_closing: Rc<Cell<bool>>,
    log: EventLog,
    mut random: fastrand::Rng,
) -> turmoil::Result {
    let now = || turmoil::sim_elapsed().unwrap();
    let bus = servers.borrow().bus.clone();
    loop {
        let config = servers.borrow().config();
        let shutdown = CancellationToken::new();
        let paths = Paths::bind(random.fork()).await?;
        let offer = Some(Arc::new(Offer(paths.clone())) as _);
        let host = match &bus {
            Some(bus) => host_on_bus(&config, bus.join(server), offer, shutdown.clone()),
            None => host(&config, offer, shutdown.clone()),
        };
        let delivery = bus
            .clone()
            .map(|bus| tokio::task::spawn_local(bus.deliver(server)));
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
        servers.borrow_mut().states[server].began = Some(now());
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
                () = paths.receive() => {}
                _ = looks.tick() => {
                    let view = host.view(DEFAULT_ROOM).await.expect("the lobby never ends");
                    servers.borrow_mut().look(server, view, now(), &log);
                }
            }
        }
        drop(listener);
        servers.borrow_mut().end(server);
        shutdown.cancel();
        host.stopped().await;
        delivery.inspect(|delivery| delivery.abort());
        for (datagrams, used) in host.metrics.received_datagrams.counts() {
            if datagrams == DatagramUse::New && used > 0 {
                log.count(Count::SampleByDatagram);
            }
        }
        log.record(now(), "server", (server, "has stopped"));
        tokio::time::sleep(RESTART_TIME).await;
    }
}
