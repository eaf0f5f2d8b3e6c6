//! Reconciliation of what is shown with what the server decides.
//!
//! A free cube that this client has asked for is carried at once. If the server agrees, everybody
//! else sees the cube come there within a moment; if not, it goes back within a moment. A correction
//! is hidden in the same way: the cube keeps the difference at first, and then loses it.

use std::collections::BTreeMap;
use std::time::Duration;

use cubesync_protocol::{CubeId, Pose, Position};

/// Time for which a correction is hidden.
const CORRECTION: Duration = Duration::from_millis(100);
/// A larger correction is shown at once, or the cube would run through walls.
const CORRECTION_SNAPS_M: f32 = 1.0;
/// Time that a cube takes from where it lay to the own cube, or back. Even from farther away than a
/// cube can be taken it moves by several metres per tick, which a server accepts: a second's way at
/// its top speed may come at once.
const HANDOVER: Duration = Duration::from_millis(250);
/// Longest distance over which a cube goes back. If it is farther away, it was put elsewhere
/// meanwhile.
const HANDOVER_SNAPS_M: f32 = 16.0;

/// The differences between what is shown and what the server says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reconciliation {
    /// The cube that was asked for, and where it was put since.
    asked: Option<(CubeId, Option<Pose>)>,
    /// The way from where cubes are to where they are shown.
    shown: BTreeMap<CubeId, Difference>,
    /// For a cube that this client has just been given: the way from where it puts the cube to where
    /// it tells the server that the cube is, and where it put it last.
    sent: Option<(CubeId, Difference, Pose)>,
}

/// A way between two places that becomes shorter.
#[derive(Debug, Clone, Copy)]
struct Difference {
    way_m: [f32; 3],
    since: Duration,
    lasts: Duration,
}

impl Reconciliation {
    /// Notes that the server was asked for a cube.
    pub(crate) fn ask(&mut self, cube: CubeId) {
        self.asked = Some((cube, None));
    }

    /// Returns the cube that was asked for and not answered.
    pub(crate) fn asked(&self) -> Option<CubeId> {
        self.asked.map(|(cube, _)| cube)
    }

    /// Moves the cube that was asked for. Returns whether it is this one.
    pub(crate) fn set_pose(&mut self, cube: CubeId, pose: Pose) -> bool {
        match &mut self.asked {
            Some((asked, shown)) if *asked == cube => {
                *shown = Some(pose);
                true
            }
            _ => false,
        }
    }

    /// Returns where a cube that was asked for has been moved to.
    pub(crate) fn pose(&self, cube: CubeId) -> Option<Pose> {
        let (asked, pose) = self.asked?;
        pose.filter(|_| asked == cube)
    }

    /// Notes that the server gave a cube that lies at `from`. Returns where to show it.
    pub(crate) fn granted(&mut self, cube: CubeId, from: Pose, now: Duration) -> Pose {
        let shown = self.pose(cube).unwrap_or(from);
        self.forget(cube);
        let to_m = shown.position.to_metres();
        let difference = Difference::new(from.position.to_metres(), to_m, now, HANDOVER);
        self.sent = Some((cube, difference, shown));
        shown
    }

    /// Returns the pose to send of a cube that was moved to `pose`.
    pub(crate) fn sent(&mut self, cube: CubeId, pose: Pose, now: Duration) -> Pose {
        let Some((_, difference, last)) = self.sent.as_mut().filter(|(sent, ..)| *sent == cube)
        else {
            return pose;
        };
        *last = pose;
        let way_m = difference.way_m(now).unwrap_or_default();
        Pose {
            position: Position::from_metres(added(pose.position.to_metres(), way_m)),
            ..pose
        }
    }

    /// Notes that a cube is released. Returns where it was put last, unless that has been sent.
    pub(crate) fn released(&mut self, cube: CubeId) -> Option<Pose> {
        let (.., last) = self.sent.take_if(|(sent, ..)| *sent == cube)?;
        Some(last)
    }

    /// Notes that the server refused a cube. Returns where it was shown, if it was asked for and
    /// moved; from there it is to [go back](Self::go_back).
    pub(crate) fn refused(&mut self, cube: CubeId) -> Option<Pose> {
        let (_, pose) = self.asked.take_if(|(asked, _)| *asked == cube)?;
        pose
    }

    /// Blends a cube from `shown_m` to where it is, `to_m`.
    pub(crate) fn go_back(
        &mut self,
        cube: CubeId,
        shown_m: [f32; 3],
        to_m: [f32; 3],
        now: Duration,
    ) {
        self.forget(cube);
        let difference = Difference::new(shown_m, to_m, now, HANDOVER);
        if difference.length_m() <= HANDOVER_SNAPS_M {
            self.shown.insert(cube, difference);
        }
    }

    /// Blends a cube that the server moved from `shown_m` to `to_m`.
    pub(crate) fn corrected(
        &mut self,
        cube: CubeId,
        shown_m: [f32; 3],
        to_m: [f32; 3],
        now: Duration,
    ) {
        self.forget(cube);
        let difference = Difference::new(shown_m, to_m, now, CORRECTION);
        let length_m = difference.length_m();
        if length_m > 0.0 && length_m <= CORRECTION_SNAPS_M {
            self.shown.insert(cube, difference);
        }
    }

    /// Returns where a cube that is at `place_m` is shown.
    pub(crate) fn shown_m(&self, cube: CubeId, place_m: [f32; 3], now: Duration) -> [f32; 3] {
        let difference = self.shown.get(&cube);
        let way_m = difference.and_then(|difference| difference.way_m(now));
        way_m.map_or(place_m, |way_m| added(place_m, way_m))
    }

    /// Shows a cube where the server has it, or forgets it.
    pub(crate) fn forget(&mut self, cube: CubeId) {
        self.asked.take_if(|(asked, _)| *asked == cube);
        self.shown.remove(&cube);
        self.sent.take_if(|(sent, ..)| *sent == cube);
    }

    /// Forgets differences that are over.
    pub(crate) fn advance(&mut self, now: Duration) {
        self.shown
            .retain(|_, difference| difference.way_m(now).is_some());
        self.sent
            .take_if(|(_, difference, _)| difference.way_m(now).is_none());
    }
}

impl Difference {
    fn new(from_m: [f32; 3], to_m: [f32; 3], since: Duration, lasts: Duration) -> Self {
        Self {
            way_m: std::array::from_fn(|axis| from_m[axis] - to_m[axis]),
            since,
            lasts,
        }
    }

    fn length_m(&self) -> f32 {
        self.way_m
            .iter()
            .map(|part| part * part)
            .sum::<f32>()
            .sqrt()
    }

    /// Returns what is left of the way.
    fn way_m(&self, now: Duration) -> Option<[f32; 3]> {
        let passed = now.saturating_sub(self.since);
        let left = 1.0 - passed.as_secs_f32() / self.lasts.as_secs_f32();
        (left > 0.0).then(|| self.way_m.map(|part| part * left))
    }
}

fn added(place_m: [f32; 3], way_m: [f32; 3]) -> [f32; 3] {
    std::array::from_fn(|axis| place_m[axis] + way_m[axis])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pose;

    const CUBE: CubeId = CubeId(0);

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn x_m(pose: Pose) -> f32 {
        pose.position.to_metres()[0]
    }

    #[test]
    fn a_cube_that_was_asked_for_is_at_once_where_it_is_put_and_no_other_is() {
        let mut reconciliation = Reconciliation::default();
        assert!(!reconciliation.set_pose(CUBE, pose(1.0)));
        reconciliation.ask(CUBE);
        assert_eq!(reconciliation.pose(CUBE), None);
        assert!(reconciliation.set_pose(CUBE, pose(1.0)));
        assert_eq!(reconciliation.pose(CUBE), Some(pose(1.0)));
        assert!(!reconciliation.set_pose(CubeId(1), pose(1.0)));
        assert_eq!(reconciliation.pose(CubeId(1)), None);
    }

    #[test]
    fn a_granted_cube_stays_where_it_is_put_and_the_sent_poses_approach_it_evenly() {
        let mut reconciliation = Reconciliation::default();
        reconciliation.ask(CUBE);
        reconciliation.set_pose(CUBE, pose(4.0));
        assert_eq!(
            reconciliation.granted(CUBE, pose(0.0), ms(1_000)),
            pose(4.0)
        );
        assert_eq!(reconciliation.pose(CUBE), None);
        for (at_ms, told_m) in [(1_000, 0.0), (1_125, 2.0), (1_250, 4.0), (9_000, 4.0)] {
            assert_eq!(x_m(reconciliation.sent(CUBE, pose(4.0), ms(at_ms))), told_m);
            assert_eq!(reconciliation.shown_m(CUBE, [4.0; 3], ms(at_ms)), [4.0; 3]);
        }
        assert_eq!(reconciliation.released(CUBE), Some(pose(4.0)));
        assert_eq!(reconciliation.released(CUBE), None);
        // A cube that is moved only after the answer is sent where it is put.
        reconciliation.ask(CUBE);
        assert_eq!(
            reconciliation.granted(CUBE, pose(3.0), ms(2_000)),
            pose(3.0)
        );
        assert_eq!(reconciliation.sent(CUBE, pose(3.5), ms(2_001)), pose(3.5));
    }

    #[test]
    fn a_refused_cube_goes_back_evenly_to_where_it_is_by_then() {
        let mut reconciliation = Reconciliation::default();
        reconciliation.ask(CUBE);
        reconciliation.set_pose(CUBE, pose(4.0));
        assert_eq!(reconciliation.refused(CUBE), Some(pose(4.0)));
        assert_eq!(
            (reconciliation.refused(CUBE), reconciliation.pose(CUBE)),
            (None, None)
        );
        reconciliation.go_back(CUBE, [4.0, 0.0, 0.5], [0.0, 0.0, 0.5], ms(1_000));
        // Another player walks away with the cube.
        for (at_ms, place_m, shown_m) in
            [(1_000, 0.0, 4.0), (1_125, -1.0, 1.0), (1_250, -2.0, -2.0)]
        {
            let shown = reconciliation.shown_m(CUBE, [place_m, 0.0, 0.5], ms(at_ms));
            assert_eq!(shown, [shown_m, 0.0, 0.5]);
        }
    }

    #[test]
    fn a_correction_is_hidden_for_a_tenth_of_a_second_unless_it_is_long() {
        let mut reconciliation = Reconciliation::default();
        reconciliation.corrected(CUBE, [0.5, 0.0, 0.5], [0.0, 0.0, 0.5], ms(0));
        for (at_ms, shown_m) in [(0, 0.5), (50, 0.25), (100, 0.0)] {
            assert_eq!(
                reconciliation.shown_m(CUBE, [0.0; 3], ms(at_ms))[0],
                shown_m
            );
        }
        reconciliation.advance(ms(99));
        assert_eq!(reconciliation.shown.len(), 1);
        reconciliation.advance(ms(100));
        assert!(reconciliation.shown.is_empty());
        reconciliation.corrected(CUBE, [1.1, 0.0, 0.5], [0.0, 0.0, 0.5], ms(200));
        assert_eq!(reconciliation.shown_m(CUBE, [0.0; 3], ms(200)), [0.0; 3]);
    }

    #[test]
    fn a_correction_to_where_the_cube_is_shown_leaves_nothing_to_hide() {
        let mut reconciliation = Reconciliation::default();
        reconciliation.corrected(CUBE, [0.5, 0.0, 0.5], [0.0, 0.0, 0.5], ms(0));
        reconciliation.corrected(CUBE, [0.25, 0.0, 0.5], [0.25, 0.0, 0.5], ms(50));
        assert!(reconciliation.shown.is_empty());
    }
}
