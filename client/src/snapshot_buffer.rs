//! The recent poses of every cube, by tick, to draw from.

use std::collections::{BTreeMap, VecDeque};

use cubesync_protocol::{CubeId, Pose};

use crate::interpolation::{self, DrawnPose, TickPose};

/// Poses kept of one cube, at most: half a second at the highest tick rate. What has been shown
/// is dropped long before.
const MAX_POSES_PER_CUBE: usize = 64;
/// A cube that is missing from this many snapshots in a row has rested. From fewer, its owner's
/// sample came a little late: it moved all the same.
const REST_TICKS: u64 = 2;

/// Poses of cubes at the last ticks and those yet to be shown.
#[derive(Debug, Clone, Default)]
pub struct SnapshotBuffer {
    cubes: BTreeMap<CubeId, VecDeque<TickPose>>,
}

impl SnapshotBuffer {
    /// Takes in where a cube is at a tick. Up to and with `known_until` it is known to have been
    /// where it was before: a cube that is missing from a snapshot has not moved, and without
    /// this it would glide over the whole time of its rest. Ticks before `shown_tick` need not
    /// be kept.
    pub fn push(&mut self, cube: CubeId, new: TickPose, known_until: u64, shown_tick: f64) {
        let poses = self.cubes.entry(cube).or_default();
        let Some(newest) = poses.back_mut() else {
            poses.push_back(new);
            return;
        };
        if new.tick <= newest.tick {
            newest.pose = new.pose;
            return;
        }
        if new.pose == newest.pose {
            return;
        }
        let rested_until = known_until.min(new.tick - 1);
        if rested_until >= newest.tick.saturating_add(REST_TICKS) {
            let rest = TickPose {
                tick: rested_until,
                pose: newest.pose,
            };
            poses.push_back(rest);
        }
        poses.push_back(new);
        while poses
            .get(1)
            .is_some_and(|next| next.tick as f64 <= shown_tick)
            || poses.len() > MAX_POSES_PER_CUBE
        {
            poses.pop_front();
        }
    }

    /// Puts a cube somewhere with no way there: it has been there all along.
    pub fn place(&mut self, cube: CubeId, pose: Pose) {
        self.cubes
            .insert(cube, VecDeque::from([TickPose { tick: 0, pose }]));
    }

    /// Forgets a cube.
    pub fn remove(&mut self, cube: CubeId) {
        self.cubes.remove(&cube);
    }

    /// Forgets every cube.
    pub fn clear(&mut self) {
        self.cubes.clear();
    }

    /// Where a cube is at a tick and a fraction: between the poses around it, or at the newest.
    pub fn pose_at(&self, cube: CubeId, tick: f64) -> Option<DrawnPose> {
        let poses = self.cubes.get(&cube)?;
        let after = poses.iter().position(|pose| pose.tick as f64 > tick);
        match after {
            Some(0) => poses.front().map(|first| first.pose.into()),
            Some(after) => Some(interpolation::between(poses[after - 1], poses[after], tick)),
            None => poses.back().map(|newest| newest.pose.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pose;

    const CUBE: CubeId = CubeId(7);

    fn at(tick: u64, x_m: f32) -> TickPose {
        TickPose {
            tick,
            pose: pose(x_m),
        }
    }

    /// A buffer that took in these ticks from snapshots, all shown from `shown_tick` on.
    fn buffer(poses: &[(u64, f32)], shown_tick: f64) -> SnapshotBuffer {
        let mut buffer = SnapshotBuffer::default();
        for &(tick, x_m) in poses {
            buffer.push(CUBE, at(tick, x_m), tick.saturating_sub(1), shown_tick);
        }
        buffer
    }

    fn x_m(buffer: &SnapshotBuffer, tick: f64) -> f32 {
        buffer.pose_at(CUBE, tick).unwrap().position[0]
    }

    #[test]
    fn a_moving_cube_is_between_its_ticks_and_stops_at_the_newest() {
        let buffer = buffer(&[(10, 0.0), (11, 1.0), (12, 3.0)], 0.0);
        for (tick, expected_m) in [
            (9.0, 0.0),
            (10.5, 0.5),
            (11.5, 2.0),
            (12.0, 3.0),
            (20.0, 3.0),
        ] {
            assert_eq!(x_m(&buffer, tick), expected_m, "at {tick}");
        }
        assert_eq!(buffer.pose_at(CubeId(8), 10.0), None);
    }

    #[test]
    fn a_cube_that_moves_after_a_rest_does_not_glide_over_the_rest() {
        let buffer = buffer(&[(10, 0.0), (40, 2.0)], 0.0);
        assert_eq!(x_m(&buffer, 25.0), 0.0);
        assert_eq!(x_m(&buffer, 39.0), 0.0);
        assert_eq!(x_m(&buffer, 39.5), 1.0);
        assert_eq!(x_m(&buffer, 40.0), 2.0);
    }

    #[test]
    fn one_late_sample_is_no_rest() {
        let buffer = buffer(&[(10, 0.0), (11, 1.0), (13, 3.0)], 0.0);
        assert_eq!(x_m(&buffer, 12.0), 2.0);
    }

    #[test]
    fn after_missed_snapshots_a_cube_glides_from_where_it_was_known_to_be() {
        let mut buffer = buffer(&[(10, 0.0)], 0.0);
        // Snapshots up to 20 came without the cube, then a keyframe of tick 30.
        buffer.push(CUBE, at(30, 4.0), 20, 0.0);
        assert_eq!(x_m(&buffer, 20.0), 0.0);
        assert_eq!(x_m(&buffer, 25.0), 2.0);
    }

    #[test]
    fn a_placed_cube_has_no_way_there() {
        let mut buffer = buffer(&[(10, 0.0), (11, 1.0)], 0.0);
        buffer.place(CUBE, at(0, 5.0).pose);
        assert_eq!(x_m(&buffer, 10.5), 5.0);
        buffer.push(CUBE, at(12, 5.0), 11, 0.0);
        buffer.push(CUBE, at(13, 6.0), 12, 0.0);
        assert_eq!(x_m(&buffer, 12.0), 5.0);
        assert_eq!(x_m(&buffer, 12.5), 5.5);
    }

    #[test]
    fn what_was_shown_is_dropped_and_nothing_grows_without_bound() {
        let poses: Vec<_> = (0..1_000).map(|tick| (tick, tick as f32 / 10.0)).collect();
        assert_eq!(buffer(&poses, 0.0).cubes[&CUBE].len(), MAX_POSES_PER_CUBE);
        let shown = buffer(&poses, 997.5);
        assert_eq!(shown.cubes[&CUBE].front().unwrap().tick, 997);
        assert!((x_m(&shown, 997.5) - 99.75).abs() < 0.01);
    }
}
