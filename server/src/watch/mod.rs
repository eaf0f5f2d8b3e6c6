//! Watches of rooms, for the pages.
//!
//! A watch is a receiver of its room like the recorder: its task takes in the room's frames and
//! answers the questions of any number of requests from its [`Replica`]. What it answers is made at most ten
//! times a second and shared, so that the number of requests makes no difference.

mod page;
mod versions;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cubesync_protocol::replica::ReplicaError;
use cubesync_protocol::{Message, Replica, ServerMessage, folded, frame};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::error;

use cubesync_relay::Host;
use cubesync_relay::contain::contain;
use cubesync_relay::metrics::Task;
use cubesync_relay::room::audience::Outlet;
use cubesync_relay::room::{Crowd, RoomHandle};
use cubesync_relay::rooms::DEFAULT_ROOM;

use self::page::Page;
pub(crate) use self::versions::Reading;
use self::versions::Versions;

/// A watch ends this long after the last question, so that a room that nobody looks at costs nothing.
const IDLE_AFTER: Duration = Duration::from_secs(5);

/// Time for an answer. The first one waits for the keyframes, which come within four ticks.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// Time after which a watch without questions looks again whether its last page has been read.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Time in which a room's task says what the room is.
const SUMMARY_DEADLINE: Duration = Duration::from_secs(1);

/// Largest number of rooms that are watched at once, besides the lobby, for which there is always a place:
/// more than the status page lists. For a further one, an [unused](Watch::is_unused) watch ends.
const MAX_WATCHES: usize = 32;

/// Time after its last question for which a watch does not end for another room. Its first version is made
/// well within it, so a room that loses its watch again and again has no more versions than others.
const KEPT_FOR: Duration = Duration::from_secs(1);

/// Frames that wait for a watch, two seconds at the default rate. A slower one goes on with keyframes.
const FRAME_QUEUE: usize = 64;

/// Questions that wait for a watch. A request beyond them waits for a place.
const QUESTION_QUEUE: usize = 16;

/// Asks a watch for the room as it is now.
#[derive(Debug)]
enum Question {
    /// The room as a page.
    Page(oneshot::Sender<Reading>),
    /// The players.
    Crowd(oneshot::Sender<Crowd>),
}

/// Why a room cannot be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WatchError {
    /// There is no room of that name, or it has just ended.
    NoRoom,
    /// The room is slow, or too many other rooms are being looked at.
    Busy,
}

/// The watches of a server's rooms, by the room's folded name.
#[derive(Debug)]
pub(crate) struct Watches {
    /// The number of cells that each room has.
    cells: usize,
    by_room: Mutex<BTreeMap<String, Watch>>,
}

#[derive(Debug)]
struct Watch {
    questions: mpsc::Sender<Question>,
    asked: Instant,
    versions: Arc<Mutex<Versions>>,
}

impl Watch {
    /// Returns whether nobody reads, asks or has just asked.
    fn is_unused(&self, now: Instant) -> bool {
        now - self.asked >= KEPT_FOR
            && self.questions.strong_count() == 1
            && !lock(&self.versions).are_read()
    }
}

impl Watches {
    /// Creates watches of rooms with so many cells; none has begun.
    pub(crate) fn new(cells: usize) -> Self {
        Self {
            cells,
            by_room: Mutex::default(),
        }
    }

    /// Returns a room of `host` as a page. The first question begins a watch.
    ///
    /// # Errors
    /// [`WatchError`].
    pub(crate) async fn page(&self, host: &Host, name: &str) -> Result<Reading, WatchError> {
        self.ask(host, name, Question::Page).await
    }

    /// Returns the players in a room of `host`. The first question begins a watch.
    ///
    /// # Errors
    /// [`WatchError`].
    pub(crate) async fn crowd(&self, host: &Host, name: &str) -> Result<Crowd, WatchError> {
        self.ask(host, name, Question::Crowd).await
    }

    async fn ask<Answer>(
        &self,
        host: &Host,
        name: &str,
        question: impl Fn(oneshot::Sender<Answer>) -> Question,
    ) -> Result<Answer, WatchError> {
        let asking = async {
            // A watch may end of idleness just when it is asked: then a new one begins.
            while let Some(room) = host.rooms.find(name) {
                let (reply, answer) = oneshot::channel();
                let watch = self.find_or_begin(host, name, room);
                let watch = watch.ok_or(WatchError::Busy)?;
                if watch.send(question(reply)).await.is_ok()
                    && let Ok(answer) = answer.await
                {
                    return Ok(answer);
                }
            }
            Err(WatchError::NoRoom)
        };
        let answered = timeout(ANSWER_DEADLINE, asking).await;
        answered.unwrap_or(Err(WatchError::Busy))
    }

    /// Returns where a room's watch is asked. `None` if it has none, and all places are in use.
    fn find_or_begin(
        &self,
        host: &Host,
        name: &str,
        room: RoomHandle,
    ) -> Option<mpsc::Sender<Question>> {
        let (name, asked) = (folded(name), Instant::now());
        let mut by_room = lock(&self.by_room);
        by_room.retain(|_, watch| !watch.questions.is_closed());
        if let Some(watch) = by_room.get_mut(&name) {
            watch.asked = asked;
            return Some(watch.questions.clone());
        }
        let others = || by_room.iter().filter(|(name, _)| *name != DEFAULT_ROOM);
        if name != DEFAULT_ROOM && others().count() >= MAX_WATCHES {
            let unused = others().filter(|(_, watch)| watch.is_unused(asked));
            let oldest = unused.min_by_key(|(_, watch)| watch.asked)?.0.clone();
            by_room.remove(&oldest);
        }
        let (questions, asked_of) = mpsc::channel(QUESTION_QUEUE);
        let versions = Arc::default();
        let serving = serve(room, asked_of, Arc::clone(&versions), self.cells);
        let watch = Watch {
            questions: questions.clone(),
            asked,
            versions,
        };
        by_room.insert(name, watch);
        let watching = contain(&host.metrics, Task::Other, serving);
        host.tasks.spawn(watching);
        Some(questions)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Watches a room until it ends or nobody asks any more.
async fn serve(
    room: RoomHandle,
    mut questions: mpsc::Receiver<Question>,
    versions: Arc<Mutex<Versions>>,
    cells: usize,
) {
    let (outlet, mut frames) = mpsc::channel(FRAME_QUEUE);
    let Ok(_observer) = room.observe(Outlet::Frames(outlet)).await else {
        return;
    };
    let mut replica = Replica::default();
    // Whether the keyframes of all cells have come.
    let mut is_whole = false;
    let mut ends = Instant::now() + IDLE_AFTER;
    loop {
        tokio::select! {
            biased;
            received = frames.recv() => {
                let Some(received) = received else { return };
                if let Err(error) = take_in(&mut replica, received) {
                    debug_assert!(false, "our own message is refused: {error}");
                    return error!(%error, "a page's watch of a room has ended");
                }
                is_whole = is_whole || replica.streams().count() == cells;
            }
            question = questions.recv(), if is_whole => {
                // Without one, another room is watched instead.
                let Some(question) = question else { return };
                ends = Instant::now() + IDLE_AFTER;
                answer(question, &room, &replica, &versions).await;
            }
            () = sleep_until(ends) => {
                let mut versions = lock(&versions);
                versions.forget_unread();
                if !versions.are_read() {
                    return;
                }
                ends = Instant::now() + READ_AGAIN_AFTER;
            }
        }
    }
}

/// Answers a question. The request may have given up.
async fn answer(
    question: Question,
    room: &RoomHandle,
    replica: &Replica,
    versions: &Mutex<Versions>,
) {
    let reply = match question {
        Question::Crowd(reply) => {
            let cubes = replica.cubes().map(|info| (info.kind, &*info.name));
            return drop(reply.send(Crowd::of(cubes)));
        }
        Question::Page(reply) => reply,
    };
    let now = Instant::now();
    let is_due = lock(versions).is_due(now);
    if is_due {
        // A room that is slow is shown as it was, or the request waits in vain.
        if let Ok(Ok(summary)) = timeout(SUMMARY_DEADLINE, room.summary()).await {
            let page = Page::new(&summary, replica);
            lock(versions).add(page, now);
        }
    }
    if let Some(reading) = lock(versions).read() {
        let _ = reply.send(reading);
    }
}

fn take_in(replica: &mut Replica, frames: Bytes) -> Result<(), ReplicaError> {
    let mut frames = BytesMut::from(frames);
    while let Ok(Some(payload)) = frame::split(&mut frames, ServerMessage::MAX_PAYLOAD_BYTES) {
        let message = ServerMessage::decode(&payload);
        debug_assert!(message.is_ok(), "our own frame does not decode");
        if let Ok(message) = message {
            replica.take_in(&message)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use clap::Parser;
    use cubesync_protocol::{Colour, CubeId, Pose, Position};
    use futures_util::StreamExt;
    use serde_json::Value;
    use tokio::time::sleep;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::config::Config;
    use cubesync_relay::ending::Ending;
    use cubesync_relay::room::speed::SpeedRule;
    use cubesync_relay::room::world::Cube;
    use cubesync_relay::room::{Entrance, Membership, SightRule};

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn start(flags: &[&str]) -> (Host, Watches) {
        let config = Config::parse_from(["cubesync-server"].iter().chain(flags));
        let host = crate::host(&config, None, CancellationToken::new());
        (host, Watches::new(config.grid().cells()))
    }

    /// Lets a player in who stays where they are, `x` metres from the middle.
    async fn join(host: &Host, room: &str, name: &str, x: f32) -> Membership {
        let position = Position::from_metres([x, 0.0, 0.5]);
        let entrance = Entrance {
            name: name.into(),
            colour: Colour::from([1, 2, 3]),
            rule: SpeedRule::Unlimited,
            sight: SightRule::Everything,
            resume: None,
            pose: Some(Pose {
                position,
                ..Default::default()
            }),
            outlet: Outlet::Nowhere,
            ended: CancellationToken::new(),
            peer: None,
        };
        host.rooms.enter(room, entrance, HERE).await.unwrap()
    }

    /// Returns a room's page as the values in it.
    async fn look(watches: &Watches, host: &Host, room: &str) -> Result<Value, WatchError> {
        let reading = watches.page(host, room).await?;
        let len_bytes = reading.len_bytes();
        let chunks: Vec<_> = reading.map(Result::unwrap).collect().await;
        let page = chunks.concat();
        assert_eq!(page.len(), len_bytes);
        Ok(serde_json::from_slice(&page).unwrap())
    }

    fn cubes(page: &Value) -> &Vec<Value> {
        page["cubes"].as_array().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn requests_share_a_watch_that_ends_when_nobody_asks() {
        let (host, watches) = start(&[]);
        let tasks = host.tasks.len();
        let look = || look(&watches, &host, DEFAULT_ROOM);
        let (first, second) = tokio::join!(look(), look());
        assert_eq!(first.unwrap(), second.unwrap());
        assert_eq!(host.tasks.len(), tasks + 1);
        for _ in 0..4 {
            sleep(IDLE_AFTER / 2).await;
            look().await.unwrap();
            assert_eq!(host.tasks.len(), tasks + 1);
        }
        sleep(IDLE_AFTER * 2).await;
        assert_eq!(host.tasks.len(), tasks);
        look().await.unwrap();
        assert_eq!(host.tasks.len(), tasks + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_stays_for_a_slow_reader() {
        let (host, watches) = start(&[]);
        let tasks = host.tasks.len();
        let slow = watches.page(&host, DEFAULT_ROOM).await.unwrap();
        sleep(IDLE_AFTER * 4).await;
        assert_eq!(host.tasks.len(), tasks + 1);
        assert!(
            slow.map(|chunk| chunk.is_ok())
                .all(std::future::ready)
                .await
        );
        sleep(READ_AGAIN_AFTER * 2).await;
        assert_eq!(host.tasks.len(), tasks);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_shows_the_cubes_of_all_cells_and_who_comes_and_goes() {
        let (host, watches) = start(&["--view-distance", "32"]);
        let look = async || look(&watches, &host, DEFAULT_ROOM).await.unwrap();
        let places = |page: &Value| -> Vec<_> {
            let places = cubes(page).iter();
            places
                .map(|cube| {
                    let position = cube["position"].as_array().unwrap();
                    let metres: Vec<_> = position
                        .iter()
                        .map(|x| x.as_f64().unwrap() as f32)
                        .collect();
                    (cube["id"].as_u64().unwrap(), metres)
                })
                .collect()
        };
        let truth = async || {
            let cubes = host.view(DEFAULT_ROOM).await.unwrap().cubes.into_iter();
            let place = |cube: Cube| (cube.cube.0, cube.pose.position.to_metres().to_vec());
            cubes.map(place).collect::<Vec<_>>()
        };
        let mut players = Vec::new();
        for (index, x) in [-190.0, -20.0, 0.0, 190.0].into_iter().enumerate() {
            let player = join(&host, DEFAULT_ROOM, &format!("player {index}"), x).await;
            players.push(player);
        }
        sleep(Duration::from_secs(1)).await;
        let seen = look().await;
        assert_eq!(places(&seen), truth().await);
        let x = |cube: &Value| cube["position"][0].as_f64().unwrap();
        assert_eq!(cubes(&seen).iter().map(x).fold(0.0, f64::max), 190.0);

        let (gone, lost) = (players.remove(3), players.remove(0));
        let gone_cube = gone.cube();
        gone.end(Some(Ending::Left)).await;
        let lost_cube = lost.cube();
        lost.end(Some(Ending::Lost)).await;
        sleep(Duration::from_secs(1)).await;
        let later = look().await;
        assert!(later["tick"].as_u64() > seen["tick"].as_u64());
        assert_eq!(places(&later), truth().await);
        let kind = |id: CubeId| {
            let mut cubes = cubes(&later).iter();
            cubes
                .find(|cube| cube["id"] == id.0)
                .map(|cube| cube["kind"].clone())
        };
        assert_eq!(kind(gone_cube), None);
        assert_eq!(kind(lost_cube), Some("ghost".into()));
        let crowd = watches.crowd(&host, DEFAULT_ROOM).await.unwrap();
        assert_eq!((crowd.players, crowd.ghosts), (2, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_room_that_ends_while_it_is_watched_is_not_there() {
        let (host, watches) = start(&[]);
        let look = async || look(&watches, &host, "den").await;
        assert_eq!(look().await.unwrap_err(), WatchError::NoRoom);
        let anna = join(&host, "den", "Anna", 0.0).await;
        assert!(
            cubes(&look().await.unwrap())
                .iter()
                .any(|cube| cube["name"] == "Anna")
        );
        anna.end(Some(Ending::Left)).await;
        let left_at = Instant::now();
        while look().await.is_ok() {
            sleep(Duration::from_secs(1)).await;
            assert!(left_at.elapsed() < Duration::from_secs(70));
        }
        assert_eq!(look().await.unwrap_err(), WatchError::NoRoom);
        let _boris = join(&host, "den", "Boris", 0.0).await;
        let page = look().await.unwrap();
        assert!(cubes(&page).iter().any(|cube| cube["name"] == "Boris"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_does_not_wait_for_ever() {
        let (host, _) = start(&[]);
        // No room has two cells here, so the second keyframe never comes.
        let watches = Watches::new(2);
        let asked_at = Instant::now();
        let looked = look(&watches, &host, DEFAULT_ROOM).await;
        assert_eq!(looked.unwrap_err(), WatchError::Busy);
        assert_eq!(asked_at.elapsed(), ANSWER_DEADLINE);
    }

    /// Starts a server with so many rooms, each with a player.
    async fn start_with_rooms(count: usize) -> (Host, Watches, Vec<Membership>) {
        let (host, watches) = start(&[]);
        let mut players = Vec::new();
        for number in 0..count {
            players.push(join(&host, &room(number), "Anna", 0.0).await);
        }
        (host, watches, players)
    }

    fn room(number: usize) -> String {
        format!("room-{number}")
    }

    #[tokio::test(start_paused = true)]
    async fn watches_are_bounded_and_the_one_asked_the_longest_ago_makes_place() {
        let (host, watches, _players) = start_with_rooms(MAX_WATCHES + 2).await;
        let before = host.tasks.len();
        let look = async |number| look(&watches, &host, &room(number)).await.err();
        for number in 0..MAX_WATCHES {
            assert_eq!(look(number).await, None);
        }
        sleep(KEPT_FOR).await;
        assert_eq!(look(0).await, None);
        assert_eq!(look(MAX_WATCHES).await, None);
        sleep(Duration::from_millis(1)).await;
        assert_eq!(host.tasks.len() - before, MAX_WATCHES);
        let by_room = lock(&watches.by_room);
        assert!(!by_room.contains_key(&room(1)));
        assert!(by_room.contains_key(&room(0)) && by_room.contains_key(&room(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_is_read_or_was_just_asked_does_not_end_for_another_room() {
        let (host, watches, _players) = start_with_rooms(MAX_WATCHES + 1).await;
        let newest = room(MAX_WATCHES);
        let mut readings = Vec::new();
        for number in 0..MAX_WATCHES {
            readings.push(watches.page(&host, &room(number)).await.unwrap());
        }
        let refused = look(&watches, &host, &newest).await.unwrap_err();
        assert_eq!(refused, WatchError::Busy);
        sleep(KEPT_FOR * 2).await;
        let refused = look(&watches, &host, &newest).await.unwrap_err();
        assert_eq!(refused, WatchError::Busy);
        let first = readings.remove(0);
        for reading in readings {
            let chunks: Vec<_> = reading.collect().await;
            assert!(chunks.iter().all(Result::is_ok));
        }
        assert!(look(&watches, &host, &newest).await.is_ok());
        let chunks: Vec<_> = first.collect().await;
        assert!(chunks.iter().all(Result::is_ok), "it was being read");
    }

    #[tokio::test(start_paused = true)]
    async fn rooms_asked_in_a_circle_neither_end_the_lobbys_watch_nor_hasten_versions() {
        let (host, watches, _players) = start_with_rooms(48).await;
        let start = Instant::now();
        look(&watches, &host, DEFAULT_ROOM).await.unwrap();
        let mut begun = BTreeMap::<_, Vec<_>>::new();
        let mut circle = (0..48).cycle();
        while start.elapsed() < IDLE_AFTER - KEPT_FOR {
            let number = circle.next().unwrap();
            let is_new = !lock(&watches.by_room).contains_key(&room(number));
            if look(&watches, &host, &room(number)).await.is_ok() && is_new {
                begun.entry(number).or_default().push(Instant::now());
            }
            sleep(Duration::from_millis(10)).await;
            let by_room = lock(&watches.by_room);
            assert!(!by_room[DEFAULT_ROOM].questions.is_closed());
        }
        assert!(begun.values().any(|times| times.len() > 1));
        let gaps = begun.values().flat_map(|times| times.windows(2));
        assert!(gaps.map(|two| two[1] - two[0]).all(|gap| gap >= KEPT_FOR));
    }
}
