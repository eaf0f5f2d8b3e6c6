//! A receiver: its connection and its view.

use std::time::{Duration, Instant};

use cubesync_protocol::cells::{Grid, View};
use cubesync_protocol::{CubeId, Position};

use super::Source;
use super::connection::{Connection, Outlet};
use super::viewers::Viewers;
use crate::ending::Ending;
use crate::room::log::SnapshotLog;

/// A receiver of what a room publishes.
#[derive(Debug)]
pub struct Receiver {
    pub(super) connection: Connection,
    /// The player's own cube; `None`: an observer.
    pub(super) own: Option<CubeId>,
    /// Whether it sees the surroundings of the player's cubes; otherwise everything at every tick.
    is_local: bool,
    /// The positions of the viewer's cubes when the view was chosen.
    seen_from: Vec<Position>,
    /// Time after which the receiver is cut if it takes no bytes; `None`: never.
    slow_after: Option<Duration>,
}

impl Receiver {
    /// Creates a receiver that sees everything at every tick. It is never cut for being slow, but gets
    /// keyframes.
    pub fn new(outlet: Outlet) -> Self {
        Self {
            connection: Connection::new(outlet),
            own: None,
            is_local: false,
            seen_from: Vec::new(),
            slow_after: None,
        }
    }

    /// Makes it that of a player with a cube.
    #[must_use]
    pub fn of_player(self, own: CubeId) -> Self {
        let own = Some(own);
        Self { own, ..self }
    }

    /// Restricts it to the surroundings of the player's cubes.
    #[must_use]
    pub fn with_surroundings(self) -> Self {
        let is_local = true;
        Self { is_local, ..self }
    }

    /// Lets it be cut when it takes no bytes for `silence`.
    #[must_use]
    pub fn cut_after(self, silence: Duration) -> Self {
        let slow_after = Some(silence);
        Self { slow_after, ..self }
    }

    /// Lets a heartbeat follow content, for a receiver behind a network that loses packets.
    #[must_use]
    pub fn with_tail(mut self) -> Self {
        self.connection.set_tail(true);
        self
    }

    /// Ends its connection.
    pub(super) fn end(&self, reason: Ending) {
        if reason == Ending::SlowReader {
            self.connection.reset();
        } else {
            self.connection.finish();
        }
    }

    /// Returns the player whose surroundings it sees; `None`: it sees everything.
    fn viewer(&self) -> Option<CubeId> {
        self.own.filter(|_| self.is_local)
    }

    /// Returns whether it has taken no bytes for too long.
    pub(super) fn is_too_slow(&self, now: Instant) -> bool {
        let limit = self.slow_after;
        limit.is_some_and(|limit| self.connection.blocked_for(now) >= limit)
    }

    /// Returns whether its view must be chosen anew.
    pub(super) fn has_moved(&self, source: &impl Source, grid: Grid) -> bool {
        let Some(viewer) = self.viewer().filter(|_| grid != Grid::WHOLE) else {
            return false;
        };
        let slack = u64::from(grid.view_slack());
        let mut before = self.seen_from.iter();
        let has_moved = source.viewpoints(viewer).any(|now| {
            before
                .next()
                .is_none_or(|before| before.distance(now) > slack)
        });
        has_moved || before.next().is_some()
    }

    /// Chooses its view, and gives it keyframes of the cells that it did not see before, or of all cells
    /// when it is new or has fallen behind.
    pub(super) fn choose_view(
        &mut self,
        tick: u64,
        log: &SnapshotLog,
        source: &mut impl Source,
        viewers: &mut Viewers,
    ) {
        let needs_all = self.connection.needs_keyframes(log);
        let before = self.connection.view();
        let viewer = self.viewer();
        let view = match viewer {
            None => viewers.everything(),
            Some(viewer) => {
                self.seen_from = source.viewpoints(viewer).collect();
                viewers.grid().view(&self.seen_from, before)
            }
        };
        viewers.enter(&view, source);
        viewers.leave(before, source);
        let is_new = |seen| needs_all || before.binary_search(seen).is_err();
        let new: View = view.iter().filter(|seen| is_new(seen)).copied().collect();
        let keyframes = new
            .into_iter()
            .map(|(cell, sight)| source.keyframe(cell, sight));
        self.connection.change_view(view, keyframes, log, tick);
    }
}
