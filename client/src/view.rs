//! What there is to draw: own cubes where they were put, remote ones a little in the past.

use std::collections::BTreeMap;

use cubesync_protocol::{CubeId, CubeInfo, CubePose, Pose};

use crate::interpolation::{DrawnPose, TickPose};
use crate::playout::PlayoutDelay;
use crate::snapshot_buffer::SnapshotBuffer;

/// The cubes' poses of one session, from the join on.
#[derive(Debug, Default)]
pub struct View {
    buffer: SnapshotBuffer,
    /// The own cube and the held ones: ahead of what the server says about them.
    controlled: BTreeMap<CubeId, Pose>,
    playout: PlayoutDelay,
}

impl View {
    /// Takes in the poses of a tick, read when the server's clock was at `clock_tick`. Up to
    /// and with `known_until` every cube is known to have been where it was before.
    pub fn moved(&mut self, clock_tick: f64, tick: u64, known_until: u64, poses: &[CubePose]) {
        self.playout.arrived(tick, clock_tick);
        let shown_tick = clock_tick - self.playout.ticks();
        for &CubePose { cube, pose } in poses {
            if !self.controlled.contains_key(&cube) {
                let new = TickPose { tick, pose };
                self.buffer.push(cube, new, known_until, shown_tick);
            }
        }
    }

    /// Lets the playout delay follow the network.
    pub fn advance(&mut self, clock_tick: f64) {
        self.playout.advance(clock_tick);
    }

    /// The playout delay.
    pub fn delay_ticks(&self) -> f64 {
        self.playout.ticks()
    }

    /// From now on the cube is where this client puts it.
    pub fn gain(&mut self, cube: CubeId, pose: Pose) {
        self.controlled.insert(cube, pose);
    }

    /// The cube is the server's again. What this client let go of stays where it put it until
    /// somebody moves it: the way there, which the server tells as well, is the past.
    pub fn lose(&mut self, cube: CubeId) {
        if let Some(pose) = self.controlled.remove(&cube) {
            self.buffer.place(cube, pose);
        }
    }

    /// The cube is not in the room any more.
    pub fn remove(&mut self, cube: CubeId) {
        self.controlled.remove(&cube);
        self.buffer.remove(cube);
    }

    /// Moves a cube that this client controls; others stay.
    pub fn set_pose(&mut self, cube: CubeId, pose: Pose) {
        if let Some(shown) = self.controlled.get_mut(&cube) {
            *shown = pose;
        }
    }

    /// Whether this client controls the cube.
    pub fn is_controlled(&self, cube: CubeId) -> bool {
        self.controlled.contains_key(&cube)
    }

    /// Where to draw a cube when the server's clock is at `clock_tick`.
    pub fn pose_at(&self, info: &CubeInfo, clock_tick: f64) -> DrawnPose {
        if let Some(&pose) = self.controlled.get(&info.cube) {
            return pose.into();
        }
        let shown_tick = clock_tick - self.playout.ticks();
        let shown = self.buffer.pose_at(info.cube, shown_tick);
        shown.unwrap_or(info.pose.into())
    }
}

#[cfg(test)]
mod tests {
    use cubesync_protocol::{Colour, CubeKind};

    use super::*;
    use crate::testing::pose;

    fn info() -> CubeInfo {
        CubeInfo {
            cube: CubeId(0),
            kind: CubeKind::Free { holder: None },
            name: "cube".into(),
            colour: Colour::from([1, 2, 3]),
            pose: pose(0.0),
        }
    }

    /// Takes in the cube at `x_m`, half a tick after the tick.
    fn hear(view: &mut View, tick: u64, x_m: f32) {
        let poses = [CubePose {
            cube: CubeId(0),
            pose: pose(x_m),
        }];
        view.moved(tick as f64 + 0.5, tick, tick - 1, &poses);
    }

    fn x_m(view: &View, clock_tick: f64) -> f32 {
        view.pose_at(&info(), clock_tick).position[0]
    }

    #[test]
    fn a_remote_cube_is_shown_the_playout_delay_ago() {
        let mut view = View::default();
        for tick in 1..=10 {
            hear(&mut view, tick, tick as f32);
        }
        assert_eq!(view.delay_ticks(), 2.5);
        assert_eq!(x_m(&view, 10.5), 8.0);
        assert_eq!(x_m(&view, 11.0), 8.5);
    }

    #[test]
    fn a_cube_that_was_let_go_never_goes_back_along_its_way() {
        let mut view = View::default();
        hear(&mut view, 1, 0.0);
        view.gain(CubeId(0), pose(0.0));
        for tick in 2..=10 {
            view.set_pose(CubeId(0), pose(tick as f32));
            // The server tells what it heard three ticks ago.
            hear(&mut view, tick, tick as f32 - 3.0);
            assert_eq!(x_m(&view, tick as f64 + 0.5), tick as f32);
        }
        view.lose(CubeId(0));
        hear(&mut view, 11, 10.0);
        for clock_tick in [11.0, 12.0, 20.0] {
            assert_eq!(x_m(&view, clock_tick), 10.0);
        }
    }

    #[test]
    fn what_was_never_heard_of_is_where_its_join_said() {
        assert_eq!(x_m(&View::default(), 5.0), 0.0);
    }
}
