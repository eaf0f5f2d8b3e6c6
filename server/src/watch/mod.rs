//! Watches of rooms, for the pages.
//!
//! A watch is a receiver of its room like the recorder: its task takes in the room's frames and
//! answers the questions of any number of requests from its [`Replica`]. What it answers is made at most ten
//! times a second and shared, so that the number of requests makes no difference.

mod page;
mod versions;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
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

/// Largest number of rooms that are watched at once: more than the status page lists. For a further one, the
/// watch ends that was asked the longest ago.
const MAX_WATCHES: usize = 32;

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
    /// The room is slow.
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

    fn find_or_begin(&self, host: &Host, name: &str, room: RoomHandle) -> mpsc::Sender<Question> {
        let (name, asked) = (folded(name), Instant::now());
        let mut by_room = self.by_room.lock().unwrap_or_else(PoisonError::into_inner);
        by_room.retain(|_, watch| !watch.questions.is_closed());
        if let Some(watch) = by_room.get_mut(&name) {
            watch.asked = asked;
            return watch.questions.clone();
        }
        if by_room.len() >= MAX_WATCHES {
            let oldest = by_room.iter().min_by_key(|(_, watch)| watch.asked);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                by_room.remove(&oldest);
            }
        }
        let (questions, asked_of) = mpsc::channel(QUESTION_QUEUE);
        let watch = Watch {
            questions: questions.clone(),
            asked,
        };
        by_room.insert(name, watch);
        let cells = self.cells;
        let watching = contain(&host.metrics, Task::Other, serve(room, asked_of, cells));
        host.tasks.spawn(watching);
        questions
    }
}

/// Watches a room until it ends or nobody asks any more.
async fn serve(room: RoomHandle, mut questions: mpsc::Receiver<Question>, cells: usize) {
    let (outlet, mut frames) = mpsc::channel(FRAME_QUEUE);
    let Ok(_observer) = room.observe(Outlet::Frames(outlet)).await else {
        return;
    };
    let (mut replica, mut versions) = (Replica::default(), Versions::default());
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
                answer(question, &room, &replica, &mut versions).await;
            }
            () = sleep_until(ends) => {
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
async fn answer(question: Question, room: &RoomHandle, replica: &Replica, versions: &mut Versions) {
    let reply = match question {
        Question::Crowd(reply) => {
            let cubes = replica.cubes().map(|info| (info.kind, &*info.name));
            return drop(reply.send(Crowd::of(cubes)));
        }
        Question::Page(reply) => reply,
    };
    let now = Instant::now();
    if versions.is_due(now) {
        // A room that is slow is shown as it was, or the request waits in vain.
        if let Ok(Ok(summary)) = timeout(SUMMARY_DEADLINE, room.summary()).await {
            versions.add(Page::new(&summary, replica), now);
        }
    }
    if let Some(reading) = versions.read() {
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
    use cubesync_relay::rooms::DEFAULT_ROOM;

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
                .map(|cube| (cube["id"].as_u64(), cube["position"].clone()))
                .collect()
        };
        let truth = async || {
            let cubes = host.view(DEFAULT_ROOM).await.unwrap().cubes.into_iter();
            let place = |cube: Cube| {
                let metres = cube.pose.position.to_metres();
                (Some(cube.cube.0), serde_json::json!(metres))
            };
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
        assert_eq!(cubes(&look().await.unwrap()).len(), 2);
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
    async fn a_request_does_not_wait_for_ever_and_watches_are_bounded() {
        let (host, _) = start(&[]);
        // No room has two cells here, so the second keyframe never comes.
        let watches = Watches::new(2);
        let asked_at = Instant::now();
        let looked = look(&watches, &host, DEFAULT_ROOM).await;
        assert_eq!(looked.unwrap_err(), WatchError::Busy);
        assert_eq!(asked_at.elapsed(), ANSWER_DEADLINE);

        let watches = Watches::new(1);
        let mut players = Vec::new();
        for number in 0..=MAX_WATCHES {
            let name = format!("room-{number}");
            players.push(join(&host, &name, "Anna", 0.0).await);
        }
        let before = host.tasks.len();
        for number in 0..=MAX_WATCHES {
            assert!(
                look(&watches, &host, &format!("room-{number}"))
                    .await
                    .is_ok()
            );
        }
        sleep(Duration::from_millis(1)).await;
        assert_eq!(host.tasks.len() - before, MAX_WATCHES);
        let by_room = watches.by_room.lock().unwrap();
        assert!(
            !by_room.contains_key("room-0"),
            "it was asked the longest ago"
        );
        assert!(by_room.contains_key("room-1"));
    }
}
