//! What one client has in sight: the cells it was told of, and what it believes of each.

use std::rc::Rc;

use anyhow::{Context, Result, bail};
use cubesync_protocol::CellId;
use cubesync_protocol::limits::{MAX_CELLS, MAX_CUBES_PER_ROOM};

use crate::belief::Belief;

/// The cells in sight, by rising cell. Small: some dozens.
#[derive(Debug, Default)]
pub(crate) struct Sight {
    cells: Vec<(CellId, Rc<Belief>)>,
    /// Cubes of all cells.
    cubes: usize,
    /// The newest tick of all messages.
    tick: u64,
}

impl Sight {
    /// Whether nothing was told yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// The newest tick that was told of.
    pub(crate) fn tick(&self) -> u64 {
        self.tick
    }

    /// What is believed of the cells.
    pub(crate) fn beliefs(&self) -> impl Iterator<Item = &Belief> {
        self.cells.iter().map(|(_, belief)| &**belief)
    }

    /// What is believed of a cell; `None` when it is not in sight.
    pub(crate) fn belief(&self, cell: CellId) -> Option<&Rc<Belief>> {
        self.find(cell).ok().map(|index| &self.cells[index].1)
    }

    /// Believes this from now on.
    ///
    /// # Errors
    /// Its tick is older than what was told before, or there is more in sight than there can be.
    pub(crate) fn believe(&mut self, belief: Rc<Belief>) -> Result<()> {
        self.hear(belief.tick)?;
        self.cubes += belief.cubes().len();
        match self.find(belief.cell) {
            Ok(index) => {
                let before = std::mem::replace(&mut self.cells[index].1, belief);
                self.cubes -= before.cubes().len();
            }
            Err(index) => self.cells.insert(index, (belief.cell, belief)),
        }
        if self.cells.len() > MAX_CELLS || self.cubes > 2 * MAX_CUBES_PER_ROOM {
            bail!("more is in sight than a room holds");
        }
        Ok(())
    }

    /// Something was told of a tick.
    ///
    /// # Errors
    /// It is older than what was told before.
    pub(crate) fn hear(&mut self, tick: u64) -> Result<()> {
        if tick < self.tick {
            bail!(
                "a message of tick {tick} came after one of tick {}",
                self.tick
            );
        }
        self.tick = tick;
        Ok(())
    }

    /// Forgets a cell and returns what was believed of it.
    ///
    /// # Errors
    /// It is not in sight.
    pub(crate) fn forget(&mut self, cell: CellId) -> Result<Rc<Belief>> {
        let index = self.find(cell).ok();
        let index = index.context("a cell went out of sight that was not in sight")?;
        let (_, belief) = self.cells.remove(index);
        self.cubes -= belief.cubes().len();
        Ok(belief)
    }

    fn find(&self, cell: CellId) -> Result<usize, usize> {
        self.cells.binary_search_by_key(&cell, |(cell, _)| *cell)
    }
}

#[cfg(test)]
mod tests {
    use cubesync_protocol::{Keyframe, Pose};

    use super::*;
    use crate::belief::Beliefs;
    use crate::truth::scene::{Scene, info};

    const NOBODY: Scene = Scene {
        cubes: 0..0,
        first_tick: 0,
        ticks: 0..0,
        pose: |_, _| Pose::default(),
    };

    fn belief(cell: u16, tick: u64, cubes: u64) -> Rc<Belief> {
        let keyframe = Keyframe {
            cell: CellId(cell),
            interval_ticks: 1,
            tick,
            cubes: (0..cubes).map(|cube| info(cube, Pose::default())).collect(),
        };
        Beliefs::default().keyframe(&[], keyframe, &NOBODY).unwrap()
    }

    #[test]
    fn cells_come_and_go_and_are_replaced() {
        let mut sight = Sight::default();
        for cell in [7, 3, 5] {
            sight.believe(belief(cell, 10, 2)).unwrap();
        }
        sight.believe(belief(5, 10, 1)).unwrap();
        assert!(sight.beliefs().map(|belief| belief.cell.0).eq([3, 5, 7]));
        assert_eq!(sight.belief(CellId(5)).unwrap().cubes().len(), 1);
        assert_eq!(sight.cubes, 5);
        assert_eq!(sight.forget(CellId(3)).unwrap().cell, CellId(3));
        assert!(sight.belief(CellId(3)).is_none());
        assert_eq!(sight.cubes, 3);
    }

    #[test]
    fn nonsense_is_an_error() {
        let mut sight = Sight::default();
        sight.believe(belief(1, 10, 0)).unwrap();
        assert!(sight.hear(9).is_err(), "ticks never fall");
        assert!(sight.believe(belief(2, 9, 0)).is_err());
        assert!(sight.forget(CellId(3)).is_err(), "it is not in sight");
        let most = MAX_CUBES_PER_ROOM as u64;
        sight.believe(belief(2, 10, most)).unwrap();
        sight.believe(belief(3, 10, most)).unwrap();
        assert!(sight.believe(belief(4, 10, 1)).is_err());
    }
}
