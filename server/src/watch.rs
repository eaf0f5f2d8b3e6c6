//! Watches of rooms, for the pages.
//!
//! A watch is a receiver of its room like the recorder: its task takes in the room's frames and
//! answers the questions of any number of requests from its [`Replica`].

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
use cubesync_relay::room::RoomHandle;
use cubesync_relay::room::audience::Outlet;
use cubesync_relay::room::world::Cube;

/// A watch ends this long after the last question, so that a room that nobody looks at costs nothing.
const IDLE_AFTER: Duration = Duration::from_secs(5);

/// Time for an answer. The first one waits for the keyframes, which come within four ticks.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// Largest number of rooms that are watched at once: more than the status page lists.
const MAX_WATCHES: usize = 32;

/// Frames that wait for a watch, two seconds at the default rate. A slower one goes on with keyframes.
const FRAME_QUEUE: usize = 64;

/// Questions that wait for a watch. A request beyond them waits for a place.
const QUESTION_QUEUE: usize = 16;

/// Asks a watch for the room as it is now.
type Question = oneshot::Sender<WatchedRoom>;

/// A room as its receivers see it.
#[derive(Debug, Clone)]
pub(crate) struct WatchedRoom {
    /// The newest tick that the room has sent.
    pub(crate) tick: u64,
    /// Every cube by rising id. A moving one may be off by the codec's bound, 4 mm.
    pub(crate) cubes: Vec<Cube>,
}

/// Why a room cannot be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WatchError {
    /// There is no room of that name, or it has just ended.
    NoRoom,
    /// The room is slow, or too many others are watched.
    Busy,
}

/// The watches of a server's rooms, by the room's folded name.
#[derive(Debug)]
pub(crate) struct Watches {
    /// The number of cells that each room has.
    cells: usize,
    by_room: Mutex<BTreeMap<String, mpsc::Sender<Question>>>,
}

impl Watches {
    /// Creates watches of rooms with so many cells; none has begun.
    pub(crate) fn new(cells: usize) -> Self {
        Self {
            cells,
            by_room: Mutex::default(),
        }
    }

    /// Returns the cubes of a room of `host`. The first question begins a watch.
    ///
    /// # Errors
    /// [`WatchError`].
    pub(crate) async fn look(&self, host: &Host, name: &str) -> Result<WatchedRoom, WatchError> {
        let looking = async {
            // A watch may end of idleness just when it is asked: then a new one begins.
            while let Some(room) = host.rooms.find(name) {
                let (question, answer) = oneshot::channel();
                let watch = self.find_or_begin(host, name, room)?;
                if watch.send(question).await.is_ok()
                    && let Ok(seen) = answer.await
                {
                    return Ok(seen);
                }
            }
            Err(WatchError::NoRoom)
        };
        let looked = timeout(ANSWER_DEADLINE, looking).await;
        looked.unwrap_or(Err(WatchError::Busy))
    }

    fn find_or_begin(
        &self,
        host: &Host,
        name: &str,
        room: RoomHandle,
    ) -> Result<mpsc::Sender<Question>, WatchError> {
        let name = folded(name);
        let mut by_room = self.by_room.lock().unwrap_or_else(PoisonError::into_inner);
        by_room.retain(|_, watch| !watch.is_closed());
        if let Some(watch) = by_room.get(&name) {
            return Ok(watch.clone());
        }
        if by_room.len() >= MAX_WATCHES {
            return Err(WatchError::Busy);
        }
        let (watch, questions) = mpsc::channel(QUESTION_QUEUE);
        by_room.insert(name, watch.clone());
        let cells = self.cells;
        let watching = contain(&host.metrics, Task::Other, serve(room, questions, cells));
        host.tasks.spawn(watching);
        Ok(watch)
    }
}

/// Watches a room until it ends or nobody asks any more.
async fn serve(room: RoomHandle, mut questions: mpsc::Receiver<Question>, cells: usize) {
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
            Some(question) = questions.recv(), if is_whole => {
                // The request may have given up.
                let _ = question.send(WatchedRoom::from(&replica));
                ends = Instant::now() + IDLE_AFTER;
            }
            () = sleep_until(ends) => return,
        }
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

impl From<&Replica> for WatchedRoom {
    fn from(replica: &Replica) -> Self {
        let cubes = replica.cubes().filter_map(|info| {
            Some(Cube {
                cube: info.cube,
                kind: info.kind,
                name: info.name.clone(),
                colour: info.colour,
                pose: replica.pose(info.cube)?,
            })
        });
        Self {
            tick: replica.tick(),
            cubes: cubes.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use clap::Parser;
    use cubesync_protocol::quantize::QUANTA_PER_METRE;
    use cubesync_protocol::{Colour, CubeKind, Pose, Position};
    use tokio::time::sleep;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::config::Config;
    use cubesync_relay::ending::Ending;
    use cubesync_relay::room::speed::SpeedRule;
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

    #[tokio::test(start_paused = true)]
    async fn requests_share_a_watch_that_ends_when_nobody_asks() {
        let (host, watches) = start(&[]);
        let tasks = host.tasks.len();
        let look = || watches.look(&host, DEFAULT_ROOM);
        let (first, second) = tokio::join!(look(), look());
        assert_eq!(first.unwrap().cubes, second.unwrap().cubes);
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
    async fn a_watch_shows_the_cubes_of_all_cells_and_who_comes_and_goes() {
        let (host, watches) = start(&["--view-distance", "32"]);
        let look = async || watches.look(&host, DEFAULT_ROOM).await.unwrap();
        let truth = async || host.view(DEFAULT_ROOM).await.unwrap();
        let mut players = Vec::new();
        for (index, x) in [-190.0, -20.0, 0.0, 190.0].into_iter().enumerate() {
            let player = join(&host, DEFAULT_ROOM, &format!("player {index}"), x).await;
            players.push(player);
        }
        sleep(Duration::from_secs(1)).await;
        let (seen, cubes) = (look().await, truth().await.cubes);
        assert_eq!(seen.cubes, cubes);
        let farthest = seen.cubes.iter().map(|cube| cube.pose.position.x).max();
        assert_eq!(farthest, Some((190.0 * QUANTA_PER_METRE) as i32));

        let (gone, lost) = (players.remove(3), players.remove(0));
        let gone_cube = gone.cube();
        gone.end(Some(Ending::Left)).await;
        let lost_cube = lost.cube();
        lost.end(Some(Ending::Lost)).await;
        sleep(Duration::from_secs(1)).await;
        let later = look().await;
        assert!(later.tick > seen.tick);
        assert_eq!(later.cubes, truth().await.cubes);
        let kind = |id| {
            let mut cubes = later.cubes.iter();
            cubes.find(|cube| cube.cube == id).map(|cube| cube.kind)
        };
        assert_eq!(kind(gone_cube), None);
        assert_eq!(kind(lost_cube), Some(CubeKind::Ghost));
    }

    #[tokio::test(start_paused = true)]
    async fn a_room_that_ends_while_it_is_watched_is_not_there() {
        let (host, watches) = start(&[]);
        let look = async || watches.look(&host, "den").await;
        assert_eq!(look().await.unwrap_err(), WatchError::NoRoom);
        let anna = join(&host, "den", "Anna", 0.0).await;
        assert_eq!(look().await.unwrap().cubes.len(), 2);
        anna.end(Some(Ending::Left)).await;
        let left_at = Instant::now();
        while look().await.is_ok() {
            sleep(Duration::from_secs(1)).await;
            assert!(left_at.elapsed() < Duration::from_secs(70));
        }
        assert_eq!(look().await.unwrap_err(), WatchError::NoRoom);
        let _boris = join(&host, "den", "Boris", 0.0).await;
        let cubes = look().await.unwrap().cubes;
        assert!(cubes.iter().any(|cube| cube.name == "Boris"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_does_not_wait_for_ever_and_watches_are_bounded() {
        let (host, _) = start(&[]);
        // No room has two cells here, so the second keyframe never comes.
        let watches = Watches::new(2);
        let asked_at = Instant::now();
        let looked = watches.look(&host, DEFAULT_ROOM).await;
        assert_eq!(looked.unwrap_err(), WatchError::Busy);
        assert_eq!(asked_at.elapsed(), ANSWER_DEADLINE);

        let watches = Watches::new(1);
        let mut players = Vec::new();
        for number in 0..=MAX_WATCHES {
            let name = format!("room-{number}");
            players.push(join(&host, &name, "Anna", 0.0).await);
            let looked = watches.look(&host, &name).await;
            assert_eq!(looked.is_ok(), number < MAX_WATCHES);
        }
        sleep(IDLE_AFTER * 2).await;
        let last = format!("room-{MAX_WATCHES}");
        assert!(watches.look(&host, &last).await.is_ok());
    }
}
