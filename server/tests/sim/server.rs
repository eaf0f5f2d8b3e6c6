//! The single server: a host behind the simulated listener, and the checks of its room.

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
use cubesync_relay::room::RoomView;
use cubesync_server::{Config, host};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use turmoil::net::TcpListener;

use crate::checks;
use crate::datagrams::{Offer, Paths};
use crate::event_log::{Count, EventLog};
use crate::player::{Observer, PORT, PlayerState};

/// Time between two looks at the room.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Longest time for which a cube may be seen as a ghost: 15 s, a tick, and the time between two looks.
/// It doubles because the player may have been back for a moment between two looks.
const GHOST_AT_MOST: Duration = Duration::from_millis(2 * (15_000 + 100 + 100));
/// Time from the end of a program to the start of the next one.
const RESTART_TIME: Duration = Duration::from_millis(700);

/// The server's settings, and its room now and before.
pub struct ServerUnderTest {
    pub tick_hz: u8,
    pub view_distance_m: Option<u16>,
    pub truth: Option<RoomView>,
    /// The ghosts, with the time at which each was first seen.
    ghosts: BTreeMap<CubeId, Duration>,
    /// The start of the running program.
    began: Duration,
    /// The room at the ticks at which it was looked at, since the start of the program.
    history: BTreeMap<u64, RoomView>,
}

impl ServerUnderTest {
    pub fn new(tick_hz: u8, view_distance_m: Option<u16>) -> Self {
        Self {
            tick_hz,
            view_distance_m,
            truth: None,
            ghosts: BTreeMap::new(),
            began: Duration::ZERO,
            history: BTreeMap::new(),
        }
    }

    /// Starts a new program.
    fn begin(&mut self) {
        self.ghosts.clear();
        self.history.clear();
        self.began = turmoil::sim_elapsed().unwrap();
    }

    fn check(&self, name: &str, session: &Session, tick: u64) {
        // Messages that were held up may come from the previous program.
        if self.view_distance_m.is_some() || session.started() <= self.began {
            return;
        }
        if let Some(truth) = self.history.get(&tick) {
            checks::check_tick(truth, name, session);
        }
    }

    fn config(&self) -> Config {
        let mut flags = vec![
            "cubesync-server".to_owned(),
            format!("--tick={}", self.tick_hz),
        ];
        flags.extend(
            self.view_distance_m
                .map(|metres| format!("--view-distance={metres}")),
        );
        Config::parse_from(flags)
    }

    /// Checks a view of the room and keeps it.
    fn look(&mut self, truth: RoomView, now: Duration, log: &EventLog) {
        let names: BTreeSet<_> = truth.cubes.iter().map(|cube| &cube.name).collect();
        assert_eq!(names.len(), truth.cubes.len(), "names are unique");
        let mut ghosts = BTreeMap::new();
        for cube in &truth.cubes {
            assert!(cube.pose.position.is_in_bounds());
            match cube.kind {
                CubeKind::Ghost => {
                    let before = self.ghosts.get(&cube.cube).copied();
                    if before.is_none() {
                        log.count(Count::Ghost);
                        log.record(now, "ghost", cube.cube);
                    }
                    let since = before.unwrap_or(now);
                    let lasted = now - since;
                    assert!(
                        lasted <= GHOST_AT_MOST,
                        "{cube:?} is a ghost for {lasted:?}"
                    );
                    ghosts.insert(cube.cube, since);
                }
                CubeKind::Free {
                    holder: Some(holder),
                } => {
                    let holder = truth.cubes.iter().find(|cube| cube.cube == holder);
                    assert_eq!(holder.map(|cube| cube.kind), Some(CubeKind::Player));
                }
                CubeKind::Free { holder: None } | CubeKind::Player => {}
            }
        }
        self.ghosts = ghosts;
        self.history.insert(truth.tick, truth.clone());
        self.truth = Some(truth);
    }
}

impl Observer for Rc<RefCell<ServerUnderTest>> {
    /// Checks the player's replica against the room at the same tick. With a view distance, distant
    /// cubes are published later, so players are only checked at the end.
    fn received_tick(&self, player: &PlayerState, tick: u64) {
        let session = player
            .session
            .as_ref()
            .expect("a joined player has a session");
        self.borrow().check(&player.name, session, tick);
    }
}

/// Runs the server until it is killed, and restarts it when it is asked to close.
pub async fn serve(
    server: Rc<RefCell<ServerUnderTest>>,
    is_closing: Rc<Cell<bool>>,
    log: EventLog,
    mut random: fastrand::Rng,
) -> turmoil::Result {
    loop {
        server.borrow_mut().begin();
        let shutdown = CancellationToken::new();
        let paths = Paths::bind(random.fork()).await?;
        let offer = Arc::new(Offer(paths.clone()));
        let host = host(&server.borrow().config(), Some(offer), shutdown.clone());
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
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
                    let truth = host.view(DEFAULT_ROOM).await.expect("the lobby never ends");
                    server.borrow_mut().look(truth, turmoil::sim_elapsed().unwrap(), &log);
                }
            }
        }
        drop(listener);
        shutdown.cancel();
        host.stopped().await;
        for (datagrams, used) in host.metrics.received_datagrams.counts() {
            if datagrams == DatagramUse::New && used > 0 {
                log.count(Count::SampleByDatagram);
            }
        }
        log.record(turmoil::sim_elapsed().unwrap(), "server", "has stopped");
        tokio::time::sleep(RESTART_TIME).await;
    }
}
