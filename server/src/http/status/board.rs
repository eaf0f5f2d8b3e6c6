//! The rooms for the page, looked up at most a few times a second, whatever the number of visitors.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::feed::{self, RoomNow};
use crate::shared::Shared;

/// Shortest time between two looks. Each asks the tasks of all rooms.
const REFRESH: Duration = Duration::from_millis(250);

/// Questions that wait for a look. A request beyond them waits for a place.
const QUESTION_QUEUE: usize = 16;

/// Asks for the rooms. Clones ask the same task.
#[derive(Debug, Clone)]
pub(super) struct Board(mpsc::Sender<oneshot::Sender<Arc<[RoomNow]>>>);

impl Board {
    /// Makes a board and the task that answers its questions until `stop`.
    pub(super) fn new(
        shared: Arc<Shared>,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()>) {
        let (asking, mut questions) =
            mpsc::channel::<oneshot::Sender<Arc<[RoomNow]>>>(QUESTION_QUEUE);
        let answering = async move {
            let mut newest: Option<(Instant, Arc<[RoomNow]>)> = None;
            while let Some(question) = questions.recv().await {
                let rooms = match &newest {
                    Some((looked, rooms)) if looked.elapsed() < REFRESH => Arc::clone(rooms),
                    _ => {
                        let looked = Instant::now();
                        let rooms = Arc::from(feed::watched_rooms(&shared).await);
                        newest.insert((looked, rooms)).1.clone()
                    }
                };
                // The visitor may be gone.
                let _ = question.send(rooms);
            }
        };
        let answering = async move {
            stop.run_until_cancelled(answering).await;
        };
        (Self(asking), answering)
    }

    /// Returns the rooms, the fullest first; none when the server stops.
    pub(super) async fn rooms(&self) -> Arc<[RoomNow]> {
        let (reply, answer) = oneshot::channel();
        // The task ends with the server.
        let _ = self.0.send(reply).await;
        answer.await.unwrap_or_default()
    }
}
