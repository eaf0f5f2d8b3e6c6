//! The rooms by name. A room is opened when a player asks for it, and ends when it has been empty for
//! a while, or when its [place](crate::room_places) is needed. Names that look alike are one room, which is shown as
//! it was first written.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cubesync_protocol::cells::Grid;
use cubesync_protocol::folded;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::by_address::Address;
use crate::contain::contain;
use crate::ending::Ending;
use crate::mechanics::Field;
use crate::metrics::{Metrics, Task};
use crate::room::backplane::{Backplane, Retire};
use crate::room::world::RoomFull;
use crate::room::{Connections, Entrance, Membership, RoomHandle, RoomSettings};
use crate::room_places::{RoomPlace, RoomPlaces};

/// The room that always exists, and that players join who name none.
pub const DEFAULT_ROOM: &str = "lobby";

/// Number of times that entering is tried, since a room may end while a player comes in. If it fails
/// more often in a row, rooms fail as soon as they are opened.
const MAX_TRIES: usize = 3;

/// The settings of all rooms, and the largest number of rooms.
#[derive(Debug, Clone)]
pub struct RoomsSettings {
    /// Ticks per second.
    pub tick_hz: u8,
    /// Top speed of a cube in quanta per second; `None`: unlimited.
    pub top_speed: Option<u32>,
    /// The division of the floor into cells.
    pub grid: Grid,
    /// Time after which a connection that takes no bytes is cut.
    pub slow_reader_after: Duration,
    /// Time for which the cube of a player whose connection is lost stays as a ghost.
    pub resume_within: Duration,
    /// Time for which a stopping room tries to deliver its last frames.
    pub drain: Duration,
    /// Largest number of cubes in one room; all free ones count as one.
    pub max_cubes: usize,
    /// The loose cubes of each room but the default one.
    pub field: Option<Field>,
    /// The loose cubes of the default room.
    pub default_field: Option<Field>,
    /// Largest number of rooms.
    pub max_rooms: usize,
    /// Largest number of rooms that one address has opened and that still exist.
    pub max_rooms_per_address: usize,
}

/// All rooms of a server.
#[derive(Debug)]
pub struct Rooms {
    settings: RoomsSettings,
    metrics: Metrics,
    backplane: Arc<dyn Backplane>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    places: Arc<RoomPlaces>,
    /// By the folded name.
    by_name: Mutex<BTreeMap<String, RoomHandle>>,
}

impl Rooms {
    /// Opens the default room. The rooms' tasks run on `tasks` until `shutdown`.
    pub fn new(
        settings: RoomsSettings,
        metrics: Metrics,
        backplane: Arc<dyn Backplane>,
        shutdown: CancellationToken,
        tasks: TaskTracker,
    ) -> Arc<Self> {
        let places = RoomPlaces::new(settings.max_rooms, settings.max_rooms_per_address);
        let rooms = Arc::new(Self {
            places,
            settings,
            metrics,
            backplane,
            shutdown,
            tasks,
            by_name: Mutex::default(),
        });
        let lobby = rooms.open(DEFAULT_ROOM, rooms.places.take_permanent());
        rooms.lock().insert(DEFAULT_ROOM.into(), lobby);
        rooms
    }

    /// Brings a player into a room, which is opened if needed. `room` is a clean name, `address` the
    /// player's address.
    ///
    /// # Errors
    /// The room is full or fails, there is no place for another room, or the server stops.
    pub async fn enter(
        self: &Arc<Self>,
        room: &str,
        entrance: Entrance,
        address: impl Into<Address>,
    ) -> Result<Membership, Ending> {
        let address = address.into();
        for _ in 0..MAX_TRIES {
            let handle = self.find_or_open(room, address)?;
            match handle.enter(entrance.clone()).await {
                Ok(Ok(membership)) => return Ok(membership),
                Ok(Err(RoomFull)) => return Err(Ending::RoomFull),
                // The room has ended meanwhile and is no longer in the map. The next try opens a new
                // one, or finds that the server stops.
                Err(_) => {}
            }
        }
        Err(Ending::Panicked)
    }

    /// Returns the room with a name that looks like this one, if it exists.
    pub fn find(&self, room: &str) -> Option<RoomHandle> {
        self.lock().get(&folded(room)).cloned()
    }

    /// Returns the rooms that exist, by name.
    pub fn all(&self) -> Vec<RoomHandle> {
        self.lock().values().cloned().collect()
    }

    fn find_or_open(self: &Arc<Self>, room: &str, by: Address) -> Result<RoomHandle, Ending> {
        if self.shutdown.is_cancelled() {
            return Err(Ending::ShuttingDown);
        }
        let name = folded(room);
        let mut by_name = self.lock();
        if let Some(opened) = by_name.get(&name) {
            return Ok(opened.clone());
        }
        let place = self.places.take(by).map_err(|_| Ending::TooManyRooms)?;
        let handle = self.open(room, place);
        by_name.insert(name, handle.clone());
        Ok(handle)
    }

    fn open(self: &Arc<Self>, name: &str, place: RoomPlace) -> RoomHandle {
        let key = folded(name);
        let permanent = key == DEFAULT_ROOM;
        let field = match permanent {
            true => &self.settings.default_field,
            false => &self.settings.field,
        };
        let settings = RoomSettings {
            name: name.into(),
            tick_hz: self.settings.tick_hz,
            top_speed: self.settings.top_speed,
            grid: self.settings.grid,
            slow_reader_after: self.settings.slow_reader_after,
            resume_within: self.settings.resume_within,
            drain: self.settings.drain,
            max_cubes: self.settings.max_cubes,
            field: field.clone(),
            permanent,
            backplane: Arc::clone(&self.backplane),
        };
        let (handle, mut connections) = Connections::new(settings, self.metrics.clone());
        connections.set_place(place);
        self.metrics.rooms.inc();
        let rooms = Arc::clone(self);
        let retire = Retire::new(move || {
            rooms.lock().remove(&key);
            rooms.metrics.rooms.dec();
        });
        let backplane = Arc::clone(&self.backplane);
        let running = backplane.run(connections, self.shutdown.clone(), retire);
        self.tasks
            .spawn(contain(&self.metrics, Task::Room, running));
        handle
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, RoomHandle>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use cubesync_protocol::limits::FRAME_HEADER_BYTES;
    use cubesync_protocol::{Colour, CubeId, CubeKind, Message, ResumeToken, ServerMessage};
    use tokio::sync::mpsc;
    use tokio::time::Instant;

    use super::*;
    use crate::room::SightRule;
    use crate::room::audience::Outlet;
    use crate::room::backplane::Alone;
    use crate::room::speed::SpeedRule;

    fn settings() -> RoomsSettings {
        RoomsSettings {
            tick_hz: 30,
            top_speed: None,
            grid: Grid::WHOLE,
            slow_reader_after: Duration::from_secs(5),
            resume_within: Duration::from_secs(15),
            drain: Duration::from_secs(1),
            max_cubes: 100,
            field: None,
            default_field: None,
            max_rooms: 100,
            max_rooms_per_address: 2,
        }
    }

    fn entrance(ended: &CancellationToken) -> Entrance {
        Entrance {
            name: "Anna".into(),
            colour: Colour::from([1, 2, 3]),
            rule: SpeedRule::TopSpeed,
            sight: SightRule::Surroundings,
            resume: None,
            pose: None,
            outlet: Outlet::Nowhere,
            ended: ended.clone(),
            peer: None,
        }
    }

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    /// Returns rooms of a server that never stops.
    fn rooms() -> Arc<Rooms> {
        rooms_with(settings())
    }

    fn rooms_with(settings: RoomsSettings) -> Arc<Rooms> {
        Rooms::new(
            settings,
            Metrics::default(),
            Arc::new(Alone),
            CancellationToken::new(),
            TaskTracker::new(),
        )
    }

    #[tokio::test]
    async fn an_address_may_open_only_a_limited_number_of_rooms() {
        let rooms = rooms();
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
            let found = rooms.find_or_open(room, by.into());
            assert_eq!(found.is_ok(), is_open, "{room} {by}");
        }
    }

    #[tokio::test]
    async fn rooms_whose_names_look_alike_are_one_room() {
        let rooms = rooms();
        let ended = CancellationToken::new();
        for room in ["Den", "den", "ＤＥＮ", "den\u{FE0F}", "LOBBY"] {
            let _player = rooms.enter(room, entrance(&ended), HERE).await.unwrap();
        }
        let mut names = Vec::new();
        for room in rooms.all() {
            let view = room.view().await.unwrap();
            names.push((view.name, view.cubes.len()));
        }
        let expected = [("Den".to_owned(), 5), ("lobby".to_owned(), 2)];
        assert_eq!(names, expected);
        assert!(rooms.find("dEn").is_some() && rooms.find("dens").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_room_ends_though_observers_are_left() {
        let rooms = rooms();
        let ended = CancellationToken::new();
        let anna = rooms.enter("den", entrance(&ended), HERE).await.unwrap();
        let room = rooms.find("den").unwrap();
        let observe = async || {
            let (outlet, frames) = mpsc::channel(64);
            let observer = room.observe(Outlet::Frames(outlet)).await.unwrap();
            (observer, frames)
        };
        let (_observer, mut frames) = observe().await;
        tokio::time::sleep(Duration::from_secs(90)).await;
        assert!(rooms.find("den").is_some(), "a player keeps a room alive");

        let left_at = Instant::now();
        anna.end(Some(Ending::Left)).await;
        let (guest, guests_frames) = observe().await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        drop((guest, guests_frames));
        while frames.recv().await.is_some() {}
        let after = left_at.elapsed();
        let expected = Duration::from_secs(60)..Duration::from_secs(61);
        assert!(expected.contains(&after), "{after:?}");
        assert!(rooms.find("den").is_none());
    }

    /// Brings a player in whose connection breaks at once, and returns their cube and the token of their
    /// welcome.
    async fn enter_and_lose(
        rooms: &Arc<Rooms>,
        room: &str,
        resume: Option<ResumeToken>,
    ) -> (CubeId, ResumeToken) {
        let (outlet, mut frames) = mpsc::channel(64);
        let entrance = Entrance {
            outlet: Outlet::Frames(outlet),
            resume,
            ..entrance(&CancellationToken::new())
        };
        let membership = rooms.enter(room, entrance, HERE).await.unwrap();
        let welcome = frames.recv().await.unwrap();
        let cube = membership.cube();
        membership.end(Some(Ending::Lost)).await;
        match ServerMessage::decode(&welcome[FRAME_HEADER_BYTES..]) {
            Ok(ServerMessage::Welcome(welcome)) => (cube, welcome.resume),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_room_without_players_has_no_ticks_and_yet_its_time_goes_on() {
        let rooms = rooms();
        let ticks = || rooms.metrics.ticks.get();
        let tick = async |room| rooms.find(room).unwrap().view().await.unwrap().tick;
        let opened = Instant::now();
        let enter = async |room| {
            let entrance = entrance(&CancellationToken::new());
            rooms.enter(room, entrance, HERE).await.unwrap()
        };
        let (anna, boris) = (enter("den").await, enter(DEFAULT_ROOM).await);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(ticks() >= 2 * 299, "{}", ticks());
        anna.end(Some(Ending::Lost)).await;
        boris.end(Some(Ending::Left)).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let at_rest = ticks();
        for _ in 0..50 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            // The status page asks for this every second.
            rooms.find(DEFAULT_ROOM).unwrap().summary().await.unwrap();
        }
        for room in ["den", DEFAULT_ROOM] {
            let expected = opened.elapsed().as_millis() as u64 * 30 / 1_000;
            assert_eq!(tick(room).await, expected);
        }
        // The ghost in the den was forgotten meanwhile, and each room has caught up once.
        let woken = ticks() - at_rest;
        assert!((3..=5).contains(&woken), "{woken}");
        let _clara = enter(DEFAULT_ROOM).await;
        let before = ticks();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!((29..=31).contains(&(ticks() - before)));
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(rooms.find("den").is_none(), "it ends at its time");
    }

    #[tokio::test(start_paused = true)]
    async fn a_room_lives_as_long_as_its_ghosts() {
        let settings = RoomsSettings {
            resume_within: Duration::from_secs(300),
            ..settings()
        };
        let rooms = rooms_with(settings);
        let (cube, token) = enter_and_lose(&rooms, "den", None).await;
        tokio::time::sleep(Duration::from_secs(290)).await;
        let (again, _) = enter_and_lose(&rooms, "den", Some(token)).await;
        assert_eq!(again, cube);
        tokio::time::sleep(Duration::from_secs(299)).await;
        assert!(rooms.find("den").is_some());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(rooms.find("den").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn rooms_without_players_make_place_and_their_players_come_into_new_ones() {
        let rooms = rooms_with(RoomsSettings {
            max_rooms: 4,
            ..settings()
        });
        let address = |last| IpAddr::from([192, 0, 2, last]);
        let open = async |room: &str, last| {
            let entrance = entrance(&CancellationToken::new());
            rooms.enter(room, entrance, address(last)).await
        };
        let ghost = open("ghost", 1).await.unwrap();
        let empty = open("empty", 2).await.unwrap();
        let _people = open("people", 3).await.unwrap();
        ghost.end(Some(Ending::Lost)).await;
        empty.end(Some(Ending::Left)).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let names = || {
            let rooms = rooms.lock();
            rooms.keys().cloned().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names(), "empty ghost lobby people");
        let _fourth = open("fourth", 4).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(names(), "fourth ghost lobby people");
        let _fifth = open("fifth", 5).await.unwrap();
        // A newcomer now finds the room that has just made place, or none.
        assert_eq!(open("ghost", 6).await.unwrap_err(), Ending::TooManyRooms);
        assert_eq!(names(), "fifth fourth lobby people");
        assert_eq!(rooms.metrics.rooms.get(), 4);
        assert!(open("people", 6).await.is_ok());
    }

    #[tokio::test]
    async fn a_session_that_panics_ends_alone_and_leaves_its_player_a_ghost() {
        let (metrics, tasks) = (Metrics::default(), TaskTracker::new());
        let shutdown = CancellationToken::new();
        let alone = Arc::new(Alone);
        let rooms = Rooms::new(settings(), metrics.clone(), alone, shutdown, tasks);
        let join = async |name: &str| {
            let ended = CancellationToken::new();
            let entrance = Entrance {
                name: name.into(),
                ..entrance(&ended)
            };
            let entered = rooms.enter(DEFAULT_ROOM, entrance, HERE).await;
            (entered.unwrap(), ended)
        };
        let ((unlucky, ended), (bystander, _)) = (join("unlucky").await, join("bystander").await);
        tokio::spawn(contain(&metrics, Task::Connection, async move {
            let _membership = unlucky;
            panic!("the test asked for it");
        }));
        ended.cancelled().await;
        let cubes = rooms
            .find(DEFAULT_ROOM)
            .unwrap()
            .view()
            .await
            .unwrap()
            .cubes;
        let kind = |name: &str| cubes.iter().find(|cube| cube.name == name).unwrap().kind;
        assert_eq!(kind("unlucky"), CubeKind::Ghost);
        assert_eq!(kind("bystander"), CubeKind::Player);
        let counted: Vec<_> = metrics.disconnects.counts().collect();
        assert_eq!(counted, [(Ending::Panicked, 1)]);
        bystander.end(Some(Ending::Left)).await;
    }

    #[tokio::test]
    async fn a_dropped_observer_ends_in_the_room() {
        let (metrics, shutdown) = (Metrics::default(), CancellationToken::new());
        let alone = Arc::new(Alone);
        let rooms = Rooms::new(settings(), metrics, alone, shutdown, TaskTracker::new());
        let lobby = rooms.find(DEFAULT_ROOM).unwrap();
        let (outlet, mut frames) = mpsc::channel(4);
        let observer = lobby.observe(Outlet::Frames(outlet)).await.unwrap();
        assert!(frames.recv().await.is_some(), "the welcome");
        drop(observer);
        // The room drops the outlet; until then frames may still come.
        let end = async { while frames.recv().await.is_some() {} };
        let ended = tokio::time::timeout(Duration::from_secs(10), end).await;
        assert!(ended.is_ok());
    }

    #[tokio::test]
    async fn a_room_that_panics_ends_its_players_connections_and_is_opened_anew() {
        let (metrics, shutdown) = (Metrics::default(), CancellationToken::new());
        let rooms = Rooms::new(
            settings(),
            metrics.clone(),
            Arc::new(Alone),
            shutdown,
            TaskTracker::new(),
        );
        for room in [DEFAULT_ROOM, "den"] {
            let ended = CancellationToken::new();
            let _unlucky = rooms.enter(room, entrance(&ended), HERE).await.unwrap();
            rooms.find(room).unwrap().panic().await;
            ended.cancelled().await;
            let _again = rooms.enter(room, entrance(&ended), HERE).await.unwrap();
            assert_eq!(
                rooms.find(room).unwrap().view().await.unwrap().cubes.len(),
                2
            );
        }
        assert_eq!((metrics.rooms.get(), metrics.cubes.get()), (2, 4));
        let text = metrics.set.render();
        let counted = "cubesync_panics_total{task=\"room\"} 2";
        assert!(text.lines().any(|line| line == counted), "{text}");
    }
}
