//! The number of receivers of each stream.

use cubesync_protocol::CellId;
use cubesync_protocol::cells::{Grid, Sight, View};

use super::Source;
use crate::room::log::StreamId;

/// The number of receivers of each stream. A stream is open as long as it has some.
#[derive(Debug)]
pub(super) struct Viewers {
    grid: Grid,
    /// By the index of the stream.
    counts: Vec<usize>,
}

impl Viewers {
    /// Creates the counts of a room without receivers.
    pub(super) fn new(grid: Grid) -> Self {
        let counts = vec![0; StreamId::count(grid.cells())];
        Self { grid, counts }
    }

    /// Returns the division of the floor into cells.
    pub(super) fn grid(&self) -> Grid {
        self.grid
    }

    /// Returns the view of a receiver that sees everything.
    pub(super) fn everything(&self) -> View {
        self.cells().map(|cell| (cell, Sight::Near)).collect()
    }

    /// Returns the room's cells.
    pub(super) fn cells(&self) -> impl Iterator<Item = CellId> + use<> {
        (0..self.grid.cells()).map(|cell| CellId(cell as u16))
    }

    /// Returns whether a receiver sees a cell, from near or afar.
    pub(super) fn is_seen(&self, cell: CellId) -> bool {
        let count = |sight| self.counts[StreamId::new(cell, sight).index()];
        count(Sight::Near) + count(Sight::Far) > 0
    }

    /// Counts a receiver that sees the cells of a view from now on.
    pub(super) fn enter(&mut self, view: &View, source: &mut impl Source) {
        for &(cell, sight) in view {
            let count = &mut self.counts[StreamId::new(cell, sight).index()];
            *count += 1;
            if *count == 1 {
                source.open(cell, sight);
            }
        }
    }

    /// Stops counting a receiver of the cells of a view.
    pub(super) fn leave(&mut self, view: &View, source: &mut impl Source) {
        for &(cell, sight) in view {
            let count = &mut self.counts[StreamId::new(cell, sight).index()];
            *count -= 1;
            if *count == 0 {
                source.close(cell, sight);
            }
        }
    }
}
