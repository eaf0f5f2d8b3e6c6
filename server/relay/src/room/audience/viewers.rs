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
        let cells = (0..self.grid.cells()).map(|cell| CellId(cell as u16));
        cells.map(|cell| (cell, Sight::Near)).collect()
    }

    /// Returns the streams that receivers see.
    pub(super) fn seen(&self) -> impl Iterator<Item = (CellId, Sight)> {
        let streams = (0..self.counts.len()).map(StreamId::at);
        streams
            .filter(|stream| self.counts[stream.index()] > 0)
            .map(StreamId::parts)
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
