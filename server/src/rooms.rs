//! The rooms by name: made when somebody asks for one, gone when nobody does.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cubesync_protocol::cells::Grid;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::contain::contain;
use crate::ending::Ending;
use crate::metrics::{Metrics, Task};
use crate::room::backplane::Backplane;
use crate::room::world::RoomFull;
use crate::room::{Entrance, Room, RoomHandle, RoomSettings, Seat, quanta};

/// The room that always exists, and the one people join who name none.
pub const DEFAULT_ROOM: &str = "lobby";

/// A room may end while somebody comes in; more often than this in a row, something is wrong.
const MAX_TRIES: usize = 3;

/// All rooms of a server.
#[derive(Debug)]
pub(crate) struct Rooms {
    tick_hz: u8,
    top_speed: Option<u32>,
    grid: Grid,
    slow_reader_after: Duration,
    resume_within: Duration,
    drain: Duration,
    max_cubes: usize,
    limit: usize,
    metrics: Metrics,
    backplane: Arc<dyn Backplane>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    limit_per_address: usize,
    by_name: Mutex<BTreeMap<String, Opened>>,
}

#[derive(Debug)]
struct Opened {
    handle: RoomHandle,
    /// Who asked for it first.
    by: IpAddr,
}

impl Rooms {
    /// No rooms but the default one. The rooms' tasks run on `tasks` until `shutdown`.
    pub(crate) fn new(
        config: &Config,
        metrics: Metrics,
        backplane: Arc<dyn Backplane>,
        shutdown: CancellationToken,
        tasks: TaskTracker,
    ) -> Arc<Self> {
        let rooms = Arc::new(Self {
            tick_hz: config.tick,
            top_speed: config.top_speed_mps().map(quanta),
            grid: config
                .view_distance
                .map(quanta)
                .map_or(Grid::WHOLE, Grid::new),
            slow_reader_after: *config.slow_reader_after,
            resume_within: *config.resume_within,
            drain: *config.drain,
            max_cubes: config.max_cubes,
            limit: config.max_rooms,
            limit_per_address: config.max_rooms_per_address,
            metrics,
            backplane,
            shutdown,
            tasks,
            by_name: Mutex::default(),
        });
        let lobby = rooms.open(DEFAULT_ROOM);
        let by = Ipv4Addr::LOCALHOST.into();
        rooms
            .lock()
            .insert(DEFAULT_ROOM.into(), Opened { handle: lobby, by });
        rooms
    }

    /// Brings a player into a room; `room` is a clean name, `address` where they come from.
    ///
    /// # Errors
    /// The room is full or fails, there is no place for another room, or the server stops.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        room: &str,
        entrance: Entrance,
        address: IpAddr,
    ) -> Result<(RoomHandle, Seat), Ending> {
        for _ in 0..MAX_TRIES {
            let handle = self.find_or_open(room, address)?;
            match handle.enter(entrance.clone()).await {
                Ok(Ok(seat)) => return Ok((handle, seat)),
                Ok(Err(RoomFull)) => return Err(Ending::RoomFull),
                // It ended in between, which took it out of the map: the next try opens a new
                // one, or finds that the server stops.
                Err(_) => {}
            }
        }
        Err(Ending::Panicked)
    }

    /// A room that exists.
    pub(crate) fn find(&self, room: &str) -> Option<RoomHandle> {
        Some(self.lock().get(room)?.handle.clone())
    }

    /// The rooms that exist, by name.
    pub(crate) fn all(&self) -> Vec<RoomHandle> {
        let by_name = self.lock();
        by_name.values().map(|room| room.handle.clone()).collect()
    }

    fn find_or_open(self: &Arc<Self>, room: &str, by: IpAddr) -> Result<RoomHandle, Ending> {
        if self.shutdown.is_cancelled() {
            return Err(Ending::ShuttingDown);
        }
        let mut by_name = self.lock();
        if let Some(opened) = by_name.get(room) {
            return Ok(opened.handle.clone());
        }
        let of_address = || by_name.values().filter(|room| room.by == by).count();
        let is_fill = !by.is_loopback() && of_address() >= self.limit_per_address;
        if by_name.len() >= self.limit || is_fill {
            return Err(Ending::TooManyRooms);
        }
        let handle = self.open(room);
        let opened = Opened {
            handle: handle.clone(),
            by,
        };
        by_name.insert(room.into(), opened);
        Ok(handle)
    }

    fn open(self: &Arc<Self>, name: &str) -> RoomHandle {
        let settings = RoomSettings {
            name: name.into(),
            tick_hz: self.tick_hz,
            top_speed: self.top_speed,
            grid: self.grid,
            slow_reader_after: self.slow_reader_after,
            resume_within: self.resume_within,
            drain: self.drain,
            max_cubes: self.max_cubes,
            permanent: name == DEFAULT_ROOM,
            backplane: Arc::clone(&self.backplane),
        };
        let (handle, room) = Room::new(settings, self.metrics.clone());
        self.metrics.rooms.inc();
        let (rooms, name) = (Arc::clone(self), name.to_owned());
        let retire = move || {
            rooms.lock().remove(&name);
            rooms.metrics.rooms.dec();
        };
        let running = room.run(self.shutdown.clone(), retire);
        self.tasks
            .spawn(contain(&self.metrics, Task::Room, running));
        handle
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Opened>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use cubesync_protocol::Colour;

    use super::*;
    use crate::room::SightRule;
    use crate::room::audience::Outlet;
    use crate::room::backplane::Alone;
    use crate::room::speed::SpeedRule;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    #[tokio::test]
    async fn an_address_may_open_only_so_many_rooms() {
        let flags = ["cubesync-server", "--max-rooms-per-address", "2"];
        let config = Config::parse_from(flags);
        let shutdown = CancellationToken::new();
        let rooms = Rooms::new(
            &config,
            Metrics::default(),
            Arc::new(Alone),
            shutdown,
            TaskTracker::new(),
        );
        let [there, home] = [[192, 0, 2, 2], [127, 0, 0, 1]].map(IpAddr::from);
        for (room, by, is_open) in [
            ("a", HERE, true),
            ("b", HERE, true),
            ("c", HERE, false),
            ("a", HERE, true),
            ("c", there, true),
            ("c", HERE, true),
            ("d", home, true),
            ("e", home, true),
            ("f", home, true),
        ] {
            let found = rooms.find_or_open(room, by);
            assert_eq!(found.is_ok(), is_open, "{room} {by}");
        }
    }

    #[tokio::test]
    async fn a_room_that_panics_lets_its_players_go_and_the_next_one_comes_into_a_new_one() {
        let (metrics, shutdown) = (Metrics::default(), CancellationToken::new());
        let config = Config::parse_from(["cubesync-server"]);
        let rooms = Rooms::new(
            &config,
            metrics.clone(),
            Arc::new(Alone),
            shutdown,
            TaskTracker::new(),
        );
        let entrance = |ended: &CancellationToken| Entrance {
            name: "Anna".into(),
            colour: Colour::from([1, 2, 3]),
            rule: SpeedRule::TopSpeed,
            sight: SightRule::Surroundings,
            resume: None,
            pose: None,
            outlet: Outlet::Nowhere,
            ended: ended.clone(),
        };
        for room in [DEFAULT_ROOM, "den"] {
            let ended = CancellationToken::new();
            let (handle, _) = rooms.enter(room, entrance(&ended), HERE).await.unwrap();
            handle.panic().await;
            ended.cancelled().await;
            let (again, _) = rooms.enter(room, entrance(&ended), HERE).await.unwrap();
            assert_eq!(again.view().await.unwrap().cubes.len(), 2);
        }
        assert_eq!((metrics.rooms.get(), metrics.cubes.get()), (2, 4));
        let text = metrics.set.render();
        let counted = "cubesync_panics_total{task=\"room\"} 2";
        assert!(text.lines().any(|line| line == counted), "{text}");
    }
}
