//! Plain streams: where the cubes of a cell are, for receivers that do not predict.
//!
//! A plain stream is made of the cell's stream of every tick, as its receivers predict it, so owner and edges make the
//! same one. It exists only while a receiver sees it, and is encoded once a tick for all of them.

use std::collections::BTreeMap;

use cubesync_protocol::{
    CellId, CubeId, CubeInfo, CubeKind, CubePose, PlainCube, PlainSnapshot, Pose,
};

/// A cube of a cell, as receivers of the cell predict it.
pub type PlainState = (CubeId, CubeKind, Pose);

/// The plain streams that receivers see, by cell.
#[derive(Debug, Default)]
pub struct PlainStreams {
    cells: BTreeMap<CellId, PlainStream>,
}

/// The state of a cell's cubes that receivers have.
#[derive(Debug, Default)]
struct PlainStream {
    /// By rising id.
    sent: Vec<PlainState>,
}

impl PlainStreams {
    #[cfg(test)]
    pub(super) fn has_any(&self) -> bool {
        !self.cells.is_empty()
    }

    /// Begins the stream of a cell. `cubes` are those of the last tick, by rising id.
    pub fn open(&mut self, cell: CellId, cubes: impl Iterator<Item = PlainState>) {
        let sent = cubes.collect();
        self.cells.insert(cell, PlainStream { sent });
    }

    /// Ends the stream of a cell.
    pub fn close(&mut self, cell: CellId) {
        self.cells.remove(&cell);
    }

    /// Returns the snapshots of the cells in which something has changed since the last tick. `cubes` are those of a
    /// cell at this tick, by rising id; `None`: nobody knows, and nothing is said. `info` knows a cube.
    pub fn tick<I: Iterator<Item = PlainState>>(
        &mut self,
        tick: u64,
        cubes: impl Fn(CellId) -> Option<I>,
        info: impl Fn(CubeId) -> Option<CubeInfo>,
    ) -> Vec<PlainSnapshot> {
        let changes = self.cells.iter_mut().filter_map(|(&cell, stream)| {
            let changes = stream.go_on(cubes(cell)?, &info)?;
            Some(PlainSnapshot {
                cell,
                tick,
                ..changes
            })
        });
        changes.collect()
    }

    /// Returns all cubes of a cell whose stream is open, as of the last tick.
    pub fn whole(
        &self,
        cell: CellId,
        tick: u64,
        info: impl Fn(CubeId) -> Option<CubeInfo>,
    ) -> PlainSnapshot {
        let sent = self.cells.get(&cell).map(|stream| &*stream.sent);
        let cubes = sent.unwrap_or_default().iter();
        PlainSnapshot {
            cell,
            tick,
            is_whole: true,
            cubes: cubes.filter_map(|state| plain(*state, &info)).collect(),
            ..PlainSnapshot::default()
        }
    }
}

impl PlainStream {
    /// Returns the differences between the cubes that receivers have and `cubes`, if there are any.
    fn go_on(
        &mut self,
        cubes: impl Iterator<Item = PlainState>,
        info: impl Fn(CubeId) -> Option<CubeInfo>,
    ) -> Option<PlainSnapshot> {
        let mut changes = PlainSnapshot::default();
        let before = std::mem::replace(&mut self.sent, cubes.collect());
        let mut before = before.into_iter().peekable();
        for &(cube, kind, pose) in &self.sent {
            while let Some((gone, ..)) = before.next_if(|(known, ..)| *known < cube) {
                changes.gone.push(gone);
            }
            match before.next_if(|(known, ..)| *known == cube) {
                Some((_, before, _)) if before != kind => {
                    changes.cubes.extend(plain((cube, kind, pose), &info));
                }
                None => changes.cubes.extend(plain((cube, kind, pose), &info)),
                Some((_, _, before)) if before != pose => {
                    changes.moved.push(CubePose { cube, pose });
                }
                Some(_) => {}
            }
        }
        changes.gone.extend(before.map(|(gone, ..)| gone));
        let is_empty =
            changes.cubes.is_empty() && changes.gone.is_empty() && changes.moved.is_empty();
        (!is_empty).then_some(changes)
    }
}

fn plain(
    (cube, kind, pose): PlainState,
    info: impl Fn(CubeId) -> Option<CubeInfo>,
) -> Option<PlainCube> {
    let info = info(cube)?;
    Some(PlainCube {
        cube,
        kind,
        name: info.name,
        colour: info.colour,
        width: info.width,
        pose,
    })
}
