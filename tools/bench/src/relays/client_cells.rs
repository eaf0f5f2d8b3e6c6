//! The cells that one client receives, with its replica of each.

use std::rc::Rc;

use anyhow::{Context, Result, bail};
use cubesync_protocol::CellId;
use cubesync_protocol::limits::{MAX_CELLS, MAX_CUBES_PER_ROOM};

use crate::cell_state::CellState;

/// The cells of one client, by rising cell: some dozens.
#[derive(Debug, Default)]
pub(crate) struct ClientCells {
    cells: Vec<(CellId, Rc<CellState>)>,
    /// Number of cubes in all cells.
    cubes: usize,
    /// The newest tick of any message.
    tick: u64,
}

impl ClientCells {
    /// Returns whether no cell has arrived yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// Returns the newest tick of any message.
    pub(crate) fn tick(&self) -> u64 {
        self.tick
    }

    /// Returns the states of all cells.
    pub(crate) fn states(&self) -> impl Iterator<Item = &CellState> {
        self.cells.iter().map(|(_, state)| &**state)
    }

    /// Returns the state of a cell, or `None` if the client does not receive it.
    pub(crate) fn state(&self, cell: CellId) -> Option<&Rc<CellState>> {
        self.find(cell).ok().map(|index| &self.cells[index].1)
    }

    /// Sets the state of its cell.
    ///
    /// # Errors
    ///
    /// A newer tick has arrived before, or there are more cells or cubes than there can be.
    pub(crate) fn set(&mut self, state: Rc<CellState>) -> Result<()> {
        self.advance_to(state.tick)?;
        self.cubes += state.cubes().len();
        match self.find(state.cell) {
            Ok(index) => {
                let before = std::mem::replace(&mut self.cells[index].1, state);
                self.cubes -= before.cubes().len();
            }
            Err(index) => self.cells.insert(index, (state.cell, state)),
        }
        if self.cells.len() > MAX_CELLS || self.cubes > 2 * MAX_CUBES_PER_ROOM {
            bail!("a client receives more than a room holds");
        }
        Ok(())
    }

    /// Advances to the tick of a message.
    ///
    /// # Errors
    ///
    /// A newer tick has arrived before.
    pub(crate) fn advance_to(&mut self, tick: u64) -> Result<()> {
        if tick < self.tick {
            bail!(
                "a message of tick {tick} came after one of tick {}",
                self.tick
            );
        }
        self.tick = tick;
        Ok(())
    }

    /// Removes a cell and returns its state.
    ///
    /// # Errors
    ///
    /// The client does not receive the cell.
    pub(crate) fn remove(&mut self, cell: CellId) -> Result<Rc<CellState>> {
        let index = self.find(cell).ok();
        let index = index.context("a cell went out of sight that was not in sight")?;
        let (_, state) = self.cells.remove(index);
        self.cubes -= state.cubes().len();
        Ok(state)
    }

    fn find(&self, cell: CellId) -> Result<usize, usize> {
        self.cells.binary_search_by_key(&cell, |(cell, _)| *cell)
    }
}

#[cfg(test)]
mod tests {
    use cubesync_protocol::{Keyframe, Pose};

    use super::*;
    use crate::cell_state::CellStates;
    use crate::truth::fixture::{Fixture, info};

    const NOBODY: Fixture = Fixture {
        cubes: 0..0,
        first_tick: 0,
        ticks: 0..0,
        pose: |_, _| Pose::default(),
    };

    fn state(cell: u16, tick: u64, cubes: u64) -> Rc<CellState> {
        let keyframe = Keyframe {
            cell: CellId(cell),
            interval_ticks: 1,
            tick,
            cubes: (0..cubes).map(|cube| info(cube, Pose::default())).collect(),
        };
        CellStates::default()
            .keyframe(&[], keyframe, &NOBODY)
            .unwrap()
    }

    #[test]
    fn cells_come_and_go_and_are_replaced() {
        let mut cells = ClientCells::default();
        for cell in [7, 3, 5] {
            cells.set(state(cell, 10, 2)).unwrap();
        }
        cells.set(state(5, 10, 1)).unwrap();
        assert!(cells.states().map(|state| state.cell.0).eq([3, 5, 7]));
        assert_eq!(cells.state(CellId(5)).unwrap().cubes().len(), 1);
        assert_eq!(cells.cubes, 5);
        assert_eq!(cells.remove(CellId(3)).unwrap().cell, CellId(3));
        assert!(cells.state(CellId(3)).is_none());
        assert_eq!(cells.cubes, 3);
    }

    #[test]
    fn invalid_order_is_an_error() {
        let mut cells = ClientCells::default();
        cells.set(state(1, 10, 0)).unwrap();
        assert!(cells.advance_to(9).is_err(), "ticks never fall");
        assert!(cells.set(state(2, 9, 0)).is_err());
        assert!(cells.remove(CellId(3)).is_err(), "it is not in sight");
        let most = MAX_CUBES_PER_ROOM as u64;
        cells.set(state(2, 10, most)).unwrap();
        cells.set(state(3, 10, most)).unwrap();
        assert!(cells.set(state(4, 10, 1)).is_err());
    }
}
