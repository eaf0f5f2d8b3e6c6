//! A check, on a sample of the clients, that each receives the cubes within its view distance and no
//! others.

use std::ops::AddAssign;

use cubesync_protocol::Position;
use cubesync_protocol::cells::Grid;
use cubesync_protocol::limits::FAR_INTERVAL_TICKS;

use crate::client_cells::ClientCells;
use crate::truth::Truth;

/// One of so many pairs of a client and a tick is checked: a check looks at every cube of the world.
const PART: u64 = 32;

/// Counts of a check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Pairs of a client and a tick that were checked.
    pub(crate) looks: u64,
    /// Clients' cubes that were received.
    pub(crate) in_sight: u64,
    /// Clients' cubes within the view distance.
    pub(crate) within: u64,
    /// Of those, cubes that were not received.
    pub(crate) unseen: u64,
    /// Cubes that were received in two cells.
    pub(crate) twice: u64,
    /// Cubes that were received although they were too far away.
    pub(crate) kept: u64,
}

impl AddAssign for Findings {
    fn add_assign(&mut self, other: Self) {
        self.looks += other.looks;
        self.in_sight += other.in_sight;
        self.within += other.within;
        self.unseen += other.unseen;
        self.twice += other.twice;
        self.kept += other.kept;
    }
}

/// The check of what clients receive.
#[derive(Debug)]
pub(crate) struct Audit {
    /// The square of the view distance, in quanta: nearer cubes must be received.
    within: u64,
    /// The square of the distance beyond which cubes must not be received.
    most: u64,
    /// How often each client's cube is received; zero between checks.
    times: Vec<u8>,
}

impl Audit {
    /// Returns a check for this view distance, in quanta, and this number of clients.
    pub(crate) fn new(view_distance: u32, clients: usize) -> Self {
        let grid = Grid::new(view_distance);
        let view_distance = u64::from(view_distance);
        // A cell is in sight when a part of it is, some hysteresis later, and a cube may be a
        // little outside of its cell: less than two sides, of eight slacks each.
        let two_sides = 2 * 8 * u64::from(grid.view_slack());
        Self {
            within: view_distance.pow(2),
            most: view_distance.saturating_add(two_sides).saturating_pow(2),
            times: vec![0; clients],
        }
    }

    /// Returns the tick to check before a client applies a message of tick `next`, if there is one: the
    /// client has received all of that tick. Every cell has a frame at the ticks of far cells.
    pub(crate) fn due(client: usize, cells: &ClientCells, next: u64) -> Option<u64> {
        let interval = u64::from(FAR_INTERVAL_TICKS);
        let tick = cells.tick();
        let is_whole = tick < next && tick.is_multiple_of(interval) && !cells.is_empty();
        let number = tick / interval + 13 * client as u64;
        (is_whole && number.is_multiple_of(PART)).then_some(tick)
    }

    /// Compares what a client receives with the truth of a tick.
    pub(crate) fn look(
        &mut self,
        client: usize,
        cells: &ClientCells,
        tick: u64,
        truth: &impl Truth,
    ) -> Findings {
        let mut findings = Findings::default();
        let Some(step) = truth.step(tick) else {
            return findings;
        };
        let cubes = cells.states().flat_map(|state| state.cubes());
        for other in cubes.filter_map(|cube| truth.client(cube)) {
            self.times[other] = self.times[other].saturating_add(1);
        }
        let own = truth.pose(client, step).position;
        findings.looks = 1;
        for (other, times) in self.times.iter_mut().enumerate() {
            let distance = distance_squared(own, truth.pose(other, step).position);
            let is_within = distance <= self.within;
            findings.within += u64::from(is_within);
            findings.unseen += u64::from(is_within && *times == 0);
            findings.in_sight += u64::from(*times > 0);
            findings.twice += u64::from(*times > 1);
            findings.kept += u64::from(*times > 0 && distance > self.most);
            *times = 0;
        }
        findings
    }
}

/// Returns the square of the horizontal distance, in quanta.
fn distance_squared(a: Position, b: Position) -> u64 {
    let square = |a: i32, b: i32| u64::from(a.abs_diff(b)).pow(2);
    square(a.x, b.x) + square(a.y, b.y)
}

#[cfg(test)]
mod tests {
    use cubesync_protocol::{CellId, Keyframe, Pose};

    use super::*;
    use crate::cell_state::CellStates;
    use crate::truth::fixture::{Fixture, info};

    /// Client n owns cube n and stands n times 20 m east of the first; client 9 at 300 m.
    const ROW: Fixture = Fixture {
        cubes: 0..10,
        first_tick: 0,
        ticks: 0..u64::MAX,
        pose: |client, _| {
            let x_m = if client == 9 { 300 } else { 20 * client as i32 };
            let position = Position {
                x: 512 * x_m,
                y: 0,
                z: 0,
            };
            Pose {
                position,
                ..Pose::default()
            }
        },
    };

    fn client_cells(cubes_by_cell: &[&[u64]]) -> ClientCells {
        let mut states = CellStates::default();
        let mut cells = ClientCells::default();
        for (cell, cubes) in cubes_by_cell.iter().enumerate() {
            let keyframe = Keyframe {
                cell: CellId(cell as u16),
                interval_ticks: 1,
                tick: 8,
                cubes: cubes
                    .iter()
                    .map(|&cube| info(cube, Pose::default()))
                    .collect(),
            };
            let state = states.keyframe(&[cell as u8], keyframe, &ROW).unwrap();
            cells.set(state).unwrap();
        }
        cells
    }

    #[test]
    fn cubes_that_are_missing_double_or_too_far_are_found() {
        // 64 m reach as far as client 3.
        let mut audit = Audit::new(64 * 512, 10);
        let mut look = |cells: &[&[u64]]| audit.look(0, &client_cells(cells), 8, &ROW);
        let right = Findings {
            looks: 1,
            in_sight: 5,
            within: 4,
            ..Findings::default()
        };
        assert_eq!(look(&[&[0, 1], &[2, 3, 4]]), right);
        let wrong = Findings {
            unseen: 2,
            twice: 1,
            kept: 1,
            in_sight: 3,
            ..right
        };
        assert_eq!(look(&[&[0, 1], &[1, 9]]), wrong);
    }

    #[test]
    fn a_client_is_looked_at_when_a_far_tick_is_over() {
        let cells = client_cells(&[&[0]]);
        let due = |client, next| Audit::due(client, &cells, next);
        let client = (0..PART as usize).find(|&client| due(client, 9) == Some(8));
        let client = client.unwrap();
        assert_eq!(
            due(client, 12),
            Some(8),
            "ticks without a frame do not change what is received"
        );
        assert_eq!(due(client, 8), None, "tick 8 is not over");
        assert_eq!(due(client + 1, 9), None, "only a part is looked at");
    }
}
