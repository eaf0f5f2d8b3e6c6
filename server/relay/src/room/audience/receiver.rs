//! A receiver: its connection and its view.

use std::io;
use std::time::{Duration, Instant};

use cubesync_protocol::cells::{Grid, Sight, View};
use cubesync_protocol::{CubeId, Position};

use super::Source;
use super::connection::{Connection, Flushed, Outlet};
use super::held::HeldKeyframes;
use super::path::ServedTick;
use super::viewers::Viewers;
use crate::ending::Ending;
use crate::room::log::StreamId;

/// A receiver of what a room publishes.
#[derive(Debug)]
pub struct Receiver {
    pub(super) connection: Connection,
    /// The player's own cube; `None`: an observer.
    pub(super) own: Option<CubeId>,
    /// Whether it sees the surroundings of the player's cubes; otherwise everything at every tick.
    is_local: bool,
    /// Whether it sees plain streams.
    is_plain: bool,
    /// The positions of the viewer's cubes when the view was chosen.
    seen_from: Vec<Position>,
    /// Whether the view leaves out a stream that the source does not have yet.
    is_partial: bool,
    /// The tick since which it has waited for its first view.
    waits_since: Option<u64>,
    /// Whether nothing of the log is written, until it is restarted.
    pub(super) is_suspended: bool,
    /// Time after which the receiver is cut if it takes hardly any bytes; `None`: never.
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
            is_plain: false,
            seen_from: Vec::new(),
            is_partial: false,
            waits_since: None,
            is_suspended: false,
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

    /// Lets it get plain streams, which need no predictions.
    #[must_use]
    pub fn plain(self) -> Self {
        let is_plain = true;
        Self { is_plain, ..self }
    }

    /// Lets it be cut when it takes hardly any bytes for `silence`.
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

    /// Returns why its connection must end after this flush, if it must.
    pub(super) fn end_after(
        &mut self,
        flushed: io::Result<Flushed>,
        held: &HeldKeyframes,
        now: Instant,
    ) -> Option<Ending> {
        if flushed.is_err() {
            return Some(Ending::Lost);
        }
        let slow_after = self.slow_after?;
        let holds = self.connection.holds_keyframes_of();
        let is_too_slow = self.connection.waits_for(now) >= slow_after
            || holds.is_some_and(|turn| held.gives_up(turn));
        is_too_slow.then_some(Ending::SlowReader)
    }

    /// Returns whether its view must be chosen anew.
    pub(super) fn has_moved(&self, source: &impl Source, grid: Grid) -> bool {
        if self.is_partial {
            return true;
        }
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
        served: ServedTick<'_>,
        source: &mut impl Source,
        viewers: &mut Viewers,
        held: &mut HeldKeyframes,
    ) {
        let ServedTick { tick, log, .. } = served;
        let needs_all = self.connection.has_fallen_behind(log);
        let viewer = self.viewer();
        let before = self.connection.view();
        let mut view = match viewer {
            None => viewers.everything(),
            Some(viewer) => {
                self.seen_from = source.viewpoints(viewer).collect();
                viewers.grid().view(&self.seen_from, before)
            }
        };
        if self.is_plain {
            for (_, sight) in &mut view {
                *sight = Sight::Plain;
            }
        }
        self.is_partial = false;
        view.retain_mut(|(cell, sight)| {
            if source.provide(*cell, *sight) {
                return true;
            }
            self.is_partial = true;
            // What it has seen of the cell stays until then.
            let known = before.binary_search_by_key(cell, |(cell, _)| *cell);
            known.is_ok_and(|known| {
                *sight = before[known].1;
                source.provide(*cell, *sight)
            })
        });
        if needs_all && self.is_partial {
            let since = *self.waits_since.get_or_insert(tick);
            // Without any stream it would take heartbeats for those that it had at another owner.
            if view.is_empty() || tick.saturating_sub(since) < served.view_wait_ticks {
                return;
            }
        }
        self.waits_since = None;
        if !needs_all && view == *before {
            return;
        }
        viewers.enter(&view, source);
        viewers.leave(before, source);
        let is_new = |seen| needs_all || before.binary_search(seen).is_err();
        let new: View = view.iter().filter(|seen| is_new(seen)).copied().collect();
        let mut turn = None;
        let keyframes = new.into_iter().map(|(cell, sight)| {
            let keyframe = source.keyframe(cell, sight);
            turn = Some(held.give(StreamId::new(cell, sight), &keyframe));
            keyframe
        });
        self.connection.change_view(view, keyframes, log, tick);
        self.connection.hold_keyframes_of(turn);
    }
}
