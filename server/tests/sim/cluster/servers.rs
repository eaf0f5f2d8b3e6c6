//! The servers' programs, and what must be true of what they show.

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

use super::bus::Net;
use super::faults::Weather;
use crate::checks;
use crate::event_log::{Count, Journal};
use crate::player::{Before, FREE, PORT, Seat, Watch};

/// How often the truth is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A lost player's cube stays for so long.
const RESUME_WITHIN: Duration = Duration::from_secs(4);
/// What was not true for longer than this is known to all.
const SETTLED: Duration = Duration::from_millis(1_500);
/// A ghost of a player who was lost, whose server fell silent just before the cube would have gone,
/// and was heard of again.
const GHOST_AT_MOST: Duration = Duration::from_secs(3 * RESUME_WITHIN.as_secs() + 2);
/// Who is in a room hears of it every second, and the way there takes a while.
const HEARD_EVERY: Duration = Duration::from_millis(1_700);
/// A program pauses for a second; what comes of it has come after this.
const PAUSED: Duration = Duration::from_secs(2);
/// From the last farewell to the new program.
const RESTART_TAKES: Duration = Duration::from_millis(700);

/// One server as far as the judge looks.
#[derive(Default)]
pub struct Site {
    /// When its program began; `None` while there is none.
    pub began: Option<Duration>,
    pub truth: Option<RoomView>,
    history: BTreeMap<u64, RoomView>,
    /// Since when they are.
    ghosts: BTreeMap<CubeId, Duration>,
    /// Since when the free cube has a holder who is not there: one who has just left.
    odd_since: Option<Duration>,
    /// When its program was killed last.
    killed: Duration,
    /// When it was stalled last: for ever while it is.
    stalled: Option<Duration>,
    /// When its ticks leapt last.
    leapt: Option<Duration>,
}

/// All of them.
pub struct City {
    pub tick_hz: u8,
    pub view_distance_m: Option<u16>,
    pub weather: Weather,
    pub sites: Vec<Site>,
    /// Who was told in this session that a cube had come.
    told: BTreeMap<String, BTreeSet<CubeId>>,
}

impl City {
    pub fn new(servers: usize, weather: Weather, dice: &mut fastrand::Rng) -> Self {
        Self {
            tick_hz: [10, 20, 30, 60][dice.usize(..4)],
            view_distance_m: [None, Some(16), Some(40)][dice.usize(..3)],
            weather,
            sites: (0..servers).map(|_| Site::default()).collect(),
            told: BTreeMap::new(),
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

    /// A server is stalled, or has just been.
    pub fn stall(&mut self, server: usize, until: Duration) {
        self.sites[server].stalled = Some(until);
    }

    /// A server's program is no more.
    pub fn end(&mut self, server: usize) {
        let Site {
            stalled, killed, ..
        } = self.sites[server];
        self.sites[server] = Site {
            stalled,
            killed,
            ..Site::default()
        };
    }

    /// A server's program is killed.
    pub fn kill(&mut self, server: usize, now: Duration) {
        self.end(server);
        self.sites[server].killed = now;
    }

    /// What must be true of a server's room at any time.
    fn look(&mut self, server: usize, truth: RoomView, now: Duration, journal: &Journal) {
        let site = &mut self.sites[server];
        let before = site.truth.as_ref().map_or(truth.tick, |before| before.tick);
        let usual = u64::from(self.tick_hz) / 10;
        if truth.tick > before + usual + 2 {
            journal.note(now, "ticks leap", (server, before, truth.tick));
            let is_new = site.began.is_none_or(|began| now < began + SETTLED);
            assert!(
                is_new || !self.weather.has_clear_bus(),
                "server{server} has heard the others all the time, and its time was wrong"
            );
            site.leapt = Some(now);
        }
        let mut ghosts = BTreeMap::new();
        let cubes: BTreeMap<_, _> = truth.cubes.iter().map(|cube| (cube.cube, cube)).collect();
        assert_eq!(cubes.len(), truth.cubes.len(), "ids tell cubes apart");
        for cube in &truth.cubes {
            assert!(cube.pose.position.is_in_bounds());
            match cube.kind {
                CubeKind::Ghost => {
                    let before = site.ghosts.get(&cube.cube).copied();
                    if before.is_none() {
                        journal.count(Count::Ghost);
                        journal.note(now, "ghost", (server, cube.cube));
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
                    let since = *site.odd_since.get_or_insert(now);
                    assert!(
                        now - since <= SETTLED,
                        "server{server}: {cube:?} has a holder who is not there"
                    );
                }
                CubeKind::Free { .. } => site.odd_since = None,
                CubeKind::Player => {}
            }
        }
        site.ghosts = ghosts;
        site.history.insert(truth.tick, truth.clone());
        site.truth = Some(truth);
        if self.holders().len() > 1 {
            journal.count(Count::TwoHolders);
        }
        if self.agreement(true).is_err() {
            journal.count(Count::Split);
        }
    }

    fn holders(&self) -> BTreeSet<CubeId> {
        let truths = self.sites.iter().filter_map(|site| site.truth.as_ref());
        let cubes = truths.flat_map(|truth| &truth.cubes);
        let holder = |kind| match kind {
            CubeKind::Free { holder } => holder,
            _ => None,
        };
        cubes.filter_map(|cube| holder(cube.kind)).collect()
    }

    /// The room: each cube as it is at its home. What is wrong if a cube has two homes, or a server
    /// shows nothing.
    pub fn room(&self) -> Result<RoomView, String> {
        let mut cubes = BTreeMap::new();
        for (server, site) in self.sites.iter().enumerate() {
            let truth = site.truth.as_ref();
            let truth = truth.ok_or_else(|| format!("server{server} shows nothing"))?;
            let is_own = |cube: &&Cube| truth.owned.contains(&cube.cube);
            for cube in truth.cubes.iter().filter(is_own) {
                if cubes.insert(cube.cube, cube.clone()).is_some() {
                    return Err(format!("{} has two homes", cube.cube));
                }
            }
        }
        if !cubes.contains_key(&FREE) {
            return Err("the free cube has no home".to_owned());
        }
        Ok(RoomView {
            name: DEFAULT_ROOM.to_owned(),
            tick: 0,
            tick_hz: self.tick_hz,
            owned: cubes.keys().copied().collect(),
            cubes: cubes.into_values().collect(),
        })
    }

    /// Whether all servers show nothing but the room, as it is; what is different otherwise.
    pub fn agreement(&self, may_wait: bool) -> Result<(), String> {
        let room = self.room()?;
        for (server, site) in self.sites.iter().enumerate() {
            for here in site.truth.iter().flat_map(|truth| &truth.cubes) {
                let there = room.cubes.iter().find(|cube| cube.cube == here.cube);
                // Whose server is dead may be waited for.
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

    /// Whether something is known to a program that has been there all the time.
    fn is_remembered_since(&self, at: Duration) -> bool {
        let began = self.sites.iter().filter_map(|site| site.began);
        began.into_iter().any(|began| began + SETTLED < at)
    }

    fn is_steady(&self, server: usize, now: Duration) -> bool {
        let site = &self.sites[server];
        let is_up = site.began.is_some_and(|began| began + SETTLED < now);
        // Who could not hear the others has another time than they, and takes theirs.
        let is_past = |at: Option<Duration>, lasts| at.is_none_or(|at| at + lasts < now);
        is_up && is_past(site.stalled, HEARD_EVERY) && is_past(site.leapt, HEARD_EVERY)
    }
}

impl Watch for Rc<RefCell<City>> {
    fn joined(&self, seat: &Seat, before: Option<&Before>) {
        let mut city = self.borrow_mut();
        city.told.insert(seat.name.clone(), BTreeSet::new());
        let Some(before) = before else {
            return;
        };
        let own = seat.session.as_ref().and_then(|session| session.welcome());
        let own = own.expect("it has joined").cube;
        let can_be_lost = !city.weather.has_clear_bus()
            || city.weather.players
            || before.lost < before.joined + SETTLED
            || seat.joined > before.lost + RESUME_WITHIN - Duration::from_millis(500)
            || !city.is_steady(seat.server, seat.joined)
            || !city.is_remembered_since(before.lost);
        assert!(
            can_be_lost || own == before.cube,
            "{} had {} at server{} and has {own} at server{}",
            seat.name,
            before.cube,
            before.server,
            seat.server
        );
    }

    fn heard(&self, seat: &Seat, tick: u64) {
        let city = self.borrow();
        let site = &city.sites[seat.server];
        let session = seat.session.as_ref().expect("it has heard something");
        // What was held up may be of the program before.
        let is_of_program = site.began.is_some_and(|began| session.started() > began);
        if city.view_distance_m.is_some() || !is_of_program {
            return;
        }
        if let Some(truth) = site.history.get(&tick) {
            checks::check_tick(truth, &seat.name, session);
        }
    }

    fn saw(&self, seat: &Seat, change: &Change) {
        let Change::Joined(info) = change else {
            return;
        };
        let mut city = self.borrow_mut();
        let is_first = city
            .told
            .get_mut(&seat.name)
            .is_none_or(|told| told.insert(info.cube));
        let can_come_again = !city.weather.has_clear_bus() || city.weather.servers;
        assert!(
            is_first || can_come_again,
            "{} is told again that {info:?} has come",
            seat.name
        );
    }

    fn corrected(&self, seat: &Seat) {
        let city = self.borrow();
        let now = turmoil::sim_elapsed().unwrap();
        assert!(
            // A second without samples, and then all of its way at once, is as fast as may be.
            city.weather.players || now < seat.paused + PAUSED || !city.is_steady(seat.server, now),
            "{} has done nothing wrong and is put elsewhere, to {:?}, {:?} after a pause",
            seat.name,
            seat.pose.position,
            now - seat.paused
        );
    }

    fn is_reset(&self, seat: &Seat) -> bool {
        let city = self.borrow();
        let killed = city.sites[seat.server].killed;
        let session = seat.session.as_ref();
        let is_older = session.is_some_and(|session| session.started() < killed);
        is_older && !city.weather.machines
    }

    fn frame(&self, seat: &Seat) {
        let (city, now) = (self.borrow(), turmoil::sim_elapsed().unwrap());
        let Some(session) = seat.session.as_ref().filter(|session| session.is_joined()) else {
            return;
        };
        let began = city.sites[seat.server].began;
        let is_of_program = began.is_some_and(|began| session.started() > began);
        let silent = now - session.last_received();
        assert!(
            silent < HEARD_EVERY
                || city.weather.players
                || !is_of_program
                || !city.is_steady(seat.server, now),
            "{} has heard nothing of server{} for {silent:?}",
            seat.name,
            seat.server
        );
    }
}

/// Runs until it is killed; starts anew when it is asked to close.
pub async fn serve(
    server: usize,
    city: Rc<RefCell<City>>,
    net: Net,
    is_closing: Rc<Cell<bool>>,
    journal: Journal,
) -> turmoil::Result {
    loop {
        let now = || turmoil::sim_elapsed().unwrap();
        let config = city.borrow().config();
        let shutdown = CancellationToken::new();
        let host = host_on_bus(&config, net.join(server), shutdown.clone());
        let delivery = tokio::task::spawn_local(net.clone().deliver(server));
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
        city.borrow_mut().sites[server].began = Some(now());
        journal.note(now(), "server", (server, "begins"));
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
                    city.borrow_mut().look(server, truth, now(), &journal);
                }
            }
        }
        drop(listener);
        city.borrow_mut().end(server);
        shutdown.cancel();
        host.stopped().await;
        delivery.abort();
        journal.note(now(), "server", (server, "has stopped"));
        tokio::time::sleep(RESTART_TAKES).await;
    }
}
