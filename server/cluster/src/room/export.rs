//! The updates that a server sends about its own cubes of a room.

use std::collections::BTreeMap;

use cubesync_protocol::CellId;
use cubesync_protocol::cells::{Grid, Sight};
use cubesync_relay::room::publisher::{Encoded, Publisher};
use cubesync_relay::room::world::{Changes, World};

use super::message::{Told, Word};

/// The seconds for which a cell is still listed after its last cube is gone, so that a server that
/// missed the departure learns of it.
const LISTED_SECONDS: u64 = 10;

/// The own cubes by cell, and what the other servers believe of them.
#[derive(Debug)]
pub(super) struct Export {
    publisher: Publisher,
    /// The tick of each cell's last update.
    news: BTreeMap<CellId, u64>,
    listed_ticks: u64,
}

impl Export {
    pub(super) fn new(grid: Grid, tick_hz: u8) -> Self {
        Self {
            publisher: Publisher::new(grid),
            news: BTreeMap::new(),
            listed_ticks: LISTED_SECONDS * u64::from(tick_hz),
        }
    }

    /// Returns the updates of a tick, by cell. `changes` are those of own cubes.
    pub(super) fn tick(
        &mut self,
        tick: u64,
        changes: Changes,
        world: &World,
    ) -> impl Iterator<Item = (CellId, Word)> {
        let snapshots = self.publisher.tick(tick, changes, world);
        snapshots.into_iter().map(move |Encoded { snapshot, .. }| {
            let cell = snapshot.cell;
            let before = self.news.insert(cell, tick);
            let since_ticks = before.map_or(0, |before| tick - before);
            let word = Word::News {
                since_ticks,
                snapshot,
            };
            (cell, word)
        })
    }

    /// Returns the cells that other servers should know of, with the tick of their last update.
    pub(super) fn list(&mut self, tick: u64) -> Vec<(CellId, u64)> {
        let Self {
            publisher,
            news,
            listed_ticks,
        } = self;
        news.retain(|&cell, &mut told| {
            publisher.is_inhabited(cell) || tick - told <= *listed_ticks
        });
        news.iter().map(|(&cell, &told)| (cell, told)).collect()
    }

    /// Returns all own cubes in a cell, as of the last tick.
    pub(super) fn everything_in(&self, cell: CellId, world: &World) -> Told {
        Told {
            news: self.news.get(&cell).copied().unwrap_or_default(),
            keyframe: self.publisher.everything_in(cell, Sight::Near, world),
        }
    }
}
