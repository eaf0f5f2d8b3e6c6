//! The server's program: a host behind the simulated listener.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use clap::Parser;
use cubesync_client::session::Session;
use cubesync_protocol::{CubeId, CubeKind};
use cubesync_relay::DEFAULT_ROOM;
use cubesync_relay::room::RoomView;
use cubesync_server::{Config, host};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use turmoil::net::TcpListener;

use crate::checks;
use crate::event_log::{Count, Journal};
use crate::player::{PORT, Seat, Watch};

/// How often the truth is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A ghost stays for 15 s, until the next tick, and until it is looked at. Its player may have been
/// back for a moment between two looks.
const GHOST_AT_MOST: Duration = Duration::from_millis(2 * (15_000 + 100 + 100));
/// From the last farewell to the new program.
const RESTART_TAKES: Duration = Duration::from_millis(700);

/// The truth, and what it was like so far.
pub struct Venue {
    pub tick_hz: u8,
    pub view_distance_m: Option<u16>,
    pub truth: Option<RoomView>,
    /// Since when they are.
    ghosts: BTreeMap<CubeId, Duration>,
    /// When the program began, and the truth at those of its ticks at which it was looked at.
    began: Duration,
    history: BTreeMap<u64, RoomView>,
}

impl Venue {
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

    /// A new program begins.
    fn begin(&mut self) {
        self.ghosts.clear();
        self.history.clear();
        self.began = turmoil::sim_elapsed().unwrap();
    }

    fn check(&self, name: &str, session: &Session, tick: u64) {
        // What was held up may be of the program before.
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

    /// What must be true of the truth at any time.
    fn look(&mut self, truth: RoomView, now: Duration, journal: &Journal) {
        let names: BTreeSet<_> = truth.cubes.iter().map(|cube| &cube.name).collect();
        assert_eq!(names.len(), truth.cubes.len(), "names tell cubes apart");
        let mut ghosts = BTreeMap::new();
        for cube in &truth.cubes {
            assert!(cube.pose.position.is_in_bounds());
            match cube.kind {
                CubeKind::Ghost => {
                    let before = self.ghosts.get(&cube.cube).copied();
                    if before.is_none() {
                        journal.count(Count::Ghost);
                        journal.note(now, "ghost", cube.cube);
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

impl Watch for Rc<RefCell<Venue>> {
    /// Who has heard everything up to a tick believes what was true at it. Who sees only a part of
    /// the room hears of the rest later, and is judged at the end.
    fn heard(&self, seat: &Seat, tick: u64) {
        let session = seat.session.as_ref().expect("it has heard something");
        self.borrow().check(&seat.name, session, tick);
    }
}

/// Runs until it is killed; starts anew when it is asked to close.
pub async fn serve(
    venue: Rc<RefCell<Venue>>,
    is_closing: Rc<Cell<bool>>,
    journal: Journal,
) -> turmoil::Result {
    loop {
        venue.borrow_mut().begin();
        let shutdown = CancellationToken::new();
        let host = host(&venue.borrow().config(), shutdown.clone());
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while !is_closing.take() {
            tokio::select! {
                biased;
                accepted = listener.accept() => {
                    let (stream, peer) = accepted?;
                    host.serve(stream, peer.ip());
                }
                _ = looks.tick() => {
                    let truth = host.view(DEFAULT_ROOM).await.expect("the lobby stays");
                    venue.borrow_mut().look(truth, turmoil::sim_elapsed().unwrap(), &journal);
                }
            }
        }
        drop(listener);
        shutdown.cancel();
        host.stopped().await;
        journal.note(turmoil::sim_elapsed().unwrap(), "server", "has stopped");
        tokio::time::sleep(RESTART_TAKES).await;
    }
}
