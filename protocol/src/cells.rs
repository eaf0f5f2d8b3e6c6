//! The cells that a room's floor is divided into, and which of them are in sight from somewhere.
//!
//! Whole numbers only. The sides of cells and the distances are in quanta, and only x and y
//! matter: the world is much wider than high.

use crate::cube::CellId;
use crate::limits::{MAX_CELLS, MAX_HORIZONTAL_QUANTA};
use crate::quantize::Position;

/// The world's side.
const WORLD_SIDE: u32 = 2 * MAX_HORIZONTAL_QUANTA as u32;
/// The smallest side of a cell, 16 m. A cell is as wide as the view distance: a frame for each
/// cell and tick costs a dozen bytes and a part of the write, and with cells half as wide players
/// got a seventh more bytes and cost 5 % more CPU, although they saw fewer cubes (1,000 clients,
/// 32 m).
const LEAST_SIDE: u32 = 8_192;
/// A cube stays in its cell until it is farther outside than this part of its side, so that one
/// that walks along a border does not change cells all the time.
const STAY_PART: u32 = 16;
/// A view is chosen anew when the viewer has gone farther than this part of a cell's side, and a
/// cell that was in sight stays until it is that much farther away than it needs to be.
const VIEW_PART: u32 = 8;

/// The division of a room's floor into squares; the origin is in the middle of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// `None`: everything is one cell, and always in sight.
    squares: Option<Squares>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Squares {
    view_distance: u32,
    side: u32,
    /// Squares in a row.
    count: u32,
}

/// The distance class of a cell that is in sight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sight {
    /// Some of the cell is within half the view distance: its stream has every tick.
    Near,
    /// Some of the cell is within the view distance: its stream has every
    /// [`FAR_INTERVAL_TICKS`](crate::limits::FAR_INTERVAL_TICKS)th tick.
    Far,
    /// In sight of a receiver without predictions: its stream has every tick. No [`Grid`] gives it.
    Plain,
}

/// The cells in sight from somewhere, by rising cell.
pub type View = Vec<(CellId, Sight)>;

impl Grid {
    /// The grid with everything in one cell.
    pub const WHOLE: Self = Self { squares: None };

    /// Returns the grid for a view distance, in quanta. At least all cubes within it are in sight.
    pub fn new(view_distance: u32) -> Self {
        let side = view_distance.max(LEAST_SIDE);
        if side >= WORLD_SIDE {
            return Self::WHOLE;
        }
        // Half a square beyond each edge, since the origin is in the middle of one.
        let count = (WORLD_SIDE / 2).saturating_sub(side / 2).div_ceil(side) * 2 + 1;
        debug_assert!((count * count) as usize <= MAX_CELLS);
        Self {
            squares: Some(Squares {
                view_distance,
                side,
                count,
            }),
        }
    }

    /// Returns the number of cells: their ids are below it.
    pub fn cells(&self) -> usize {
        self.squares
            .map_or(1, |squares| (squares.count * squares.count) as usize)
    }

    /// Returns the cell that a position is in.
    pub fn cell(&self, position: Position) -> CellId {
        self.squares
            .map_or(CellId(0), |squares| squares.cell(position))
    }

    /// Returns the cell of a cube that was in `before`: another one only if it has clearly left that.
    pub fn next_cell(&self, before: CellId, position: Position) -> CellId {
        match self.squares {
            Some(squares) if squares.distance(before, position) > squares.side / STAY_PART => {
                squares.cell(position)
            }
            _ => before,
        }
    }

    /// Returns how far a viewer may go until their view must be chosen anew, in quanta.
    pub fn view_slack(&self) -> u32 {
        self.squares
            .map_or(u32::MAX, |squares| squares.side / VIEW_PART)
    }

    /// Returns the view of a player from the positions of their cubes: at least every cube within
    /// the view distance, wherever they go within the [slack](Self::view_slack). Cells that were in
    /// sight `before` stay a little longer.
    pub fn view(&self, positions: &[Position], before: &View) -> View {
        let Some(squares) = self.squares else {
            return vec![(CellId(0), Sight::Near)];
        };
        let mut view = View::new();
        for &position in positions {
            view.extend(squares.view(position, before));
        }
        // The nearer sight of a cell is the smaller one.
        view.sort_unstable();
        view.dedup_by_key(|(cell, _)| *cell);
        view
    }
}

impl Squares {
    fn view(self, position: Position, before: &View) -> impl Iterator<Item = (CellId, Sight)> {
        // The viewer may go on, and a cube may be outside of its cell.
        let slack = self.side / VIEW_PART;
        let margin = slack + self.side / STAY_PART;
        let (near, far) = (self.view_distance / 2 + margin, self.view_distance + margin);
        let reach = (far + slack) as i32;
        let columns = self.index(position.x - reach)..=self.index(position.x + reach);
        let rows = self.index(position.y - reach)..=self.index(position.y + reach);
        let cells = rows.flat_map(move |row| columns.clone().map(move |column| (column, row)));
        cells.filter_map(move |(column, row)| {
            let cell = CellId((row * self.count + column) as u16);
            let distance = self.distance(cell, position);
            let known = before.binary_search_by_key(&cell, |(cell, _)| *cell);
            let known = known.ok().map(|index| before[index].1);
            let stays = |sight| {
                if known.is_some_and(|known| known <= sight) {
                    slack
                } else {
                    0
                }
            };
            if distance <= near + stays(Sight::Near) {
                Some((cell, Sight::Near))
            } else if distance <= far + stays(Sight::Far) {
                Some((cell, Sight::Far))
            } else {
                None
            }
        })
    }

    fn cell(self, position: Position) -> CellId {
        let index = self.index(position.y) * self.count + self.index(position.x);
        CellId(index as u16)
    }

    /// Returns the index of the square of a row or column that a coordinate is in.
    fn index(self, coordinate: i32) -> u32 {
        let from_edge = i64::from(coordinate) + i64::from(self.side * self.count / 2);
        let index = from_edge.div_euclid(self.side.into());
        index.clamp(0, i64::from(self.count) - 1) as u32
    }

    /// From a cell's nearest point, in quanta; 0 within it.
    fn distance(self, cell: CellId, position: Position) -> u32 {
        let (column, row) = (
            u32::from(cell.0) % self.count,
            u32::from(cell.0) / self.count,
        );
        let away = |coordinate: i32, index: u32| {
            let low = i64::from(self.side * index) - i64::from(self.side * self.count / 2);
            let high = low + i64::from(self.side);
            let coordinate = i64::from(coordinate);
            (low - coordinate).max(coordinate - high).max(0) as u64
        };
        let (x, y) = (away(position.x, column), away(position.y, row));
        u32::try_from((x * x + y * y).isqrt()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const METRE: u32 = 512;

    fn at(x_m: i32, y_m: i32) -> Position {
        Position {
            x: x_m * METRE as i32,
            y: y_m * METRE as i32,
            z: 256,
        }
    }

    #[test]
    fn without_squares_everything_is_near() {
        for grid in [Grid::WHOLE, Grid::new(512 * METRE), Grid::new(u32::MAX)] {
            assert_eq!(grid.cells(), 1);
            assert_eq!(grid.cell(at(-256, 256)), CellId(0));
            assert_eq!(grid.next_cell(CellId(0), at(256, 0)), CellId(0));
            let view = grid.view(&[at(3, 4)], &View::new());
            assert_eq!(view, [(CellId(0), Sight::Near)]);
        }
    }

    #[test]
    fn the_smallest_cells_are_within_their_limit() {
        let grid = Grid::new(0);
        assert_eq!(grid.cells(), MAX_CELLS);
        assert_eq!(grid.cell(at(-256, -256)), CellId(0));
        assert_eq!(grid.cell(at(256, 256)), CellId(MAX_CELLS as u16 - 1));
    }

    #[test]
    fn near_the_origin_nobody_changes_cells() {
        let grid = Grid::new(32 * METRE);
        let middle = grid.cell(at(0, 0));
        for (x_m, y_m) in [(-15, -15), (15, 15), (-15, 15)] {
            assert_eq!(grid.cell(at(x_m, y_m)), middle);
        }
        assert_ne!(grid.cell(at(17, 0)), middle);
        assert_eq!(grid.next_cell(middle, at(17, 0)), middle);
        assert_ne!(grid.next_cell(middle, at(19, 0)), middle);
    }

    proptest! {
        /// Two cubes walk about; the one that looks has the other in sight whenever it must, and
        /// neither forgets nor keeps what it need not.
        #[test]
        fn who_is_within_the_view_distance_is_in_sight(
            view_distance_m in 0u32..600,
            start in (-256i32..=256, -256i32..=256, -256i32..=256, -256i32..=256),
            steps in prop::collection::vec((-6i32..=6, -6i32..=6, -6i32..=6, -6i32..=6), 1..60),
        ) {
            let view_distance = view_distance_m * METRE;
            let grid = Grid::new(view_distance);
            let (mut viewer, mut other) = (at(start.0, start.1), at(start.2, start.3));
            let mut cell = grid.cell(other);
            let mut view = grid.view(&[viewer], &View::new());
            let mut from = viewer;
            for step in steps {
                let walk = |position: Position, x_m: i32, y_m: i32| Position {
                    x: position.x + x_m * METRE as i32,
                    y: position.y + y_m * METRE as i32,
                    ..position
                }.clamped();
                viewer = walk(viewer, step.0, step.1);
                other = walk(other, step.2, step.3);
                cell = grid.next_cell(cell, other);
                if viewer.distance(from) > u64::from(grid.view_slack()) {
                    view = grid.view(&[viewer], &view);
                    from = viewer;
                }
                prop_assert!(view.is_sorted_by_key(|(cell, _)| *cell));
                prop_assert!(view.iter().all(|(cell, _)| usize::from(cell.0) < grid.cells()));
                let sight = view.iter().find(|(seen, _)| *seen == cell).map(|(_, sight)| *sight);
                let distance = viewer.distance(other);
                if distance <= u64::from(view_distance) {
                    prop_assert!(sight.is_some());
                }
                if distance <= u64::from(view_distance / 2) {
                    prop_assert_eq!(sight, Some(Sight::Near));
                }
                // No farther than the cell is wide and the hystereses are long.
                let most = view_distance + view_distance.max(LEAST_SIDE) * 2;
                if grid.cells() > 1 && distance > u64::from(most) {
                    prop_assert_eq!(sight, None);
                }
            }
        }
    }
}
