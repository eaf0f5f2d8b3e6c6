//! What is shown before the server has said so, and how both come to agree.
//!
//! A free cube that this client has asked for is in its hands at once. If the server agrees,
//! everybody else sees the cube come there within a moment; if not, it goes back within one.
//! A correction is hidden in the same way: the cube keeps the difference, and loses it.

use std::time::Duration;

use cubesync_protocol::{CubeId, Pose, Position};

/// How long a correction is hidden.
const CORRECTION: Duration = Duration::from_millis(100);
/// A larger correction is shown at once: the cube would run through walls.
const CORRECTION_SNAPS_M: f32 = 1.0;
/// How long a cube takes from where it lay to the hands, or back. From farther than a cube can
/// be taken it comes with several metres per tick, and no server minds: a second's worth of its
/// top speed may come at once.
const HANDOVER: Duration = Duration::from_millis(250);
/// A cube that is farther from the hands than this was put elsewhere meanwhile.
const HANDOVER_SNAPS_M: f32 = 16.0;

/// How what is shown differs from what the server says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ahead {
    /// The cube that was asked for, and where it was put since.
    asked: Option<(CubeId, Option<Pose>)>,
    /// From where cubes are to where they are shown.
    shown: Vec<(CubeId, Difference)>,
    /// From where this client puts the cube that it has just been given to where it says that it
    /// is, and where it put it last.
    sent: Option<(CubeId, Difference, Pose)>,
}

/// A way between two places that becomes shorter.
#[derive(Debug, Clone, Copy)]
struct Difference {
    way_m: [f32; 3],
    since: Duration,
    lasts: Duration,
}

impl Ahead {
    /// The server was asked for a cube.
    pub(crate) fn ask(&mut self, cube: CubeId) {
        self.asked = Some((cube, None));
    }

    /// Puts the cube that was asked for somewhere; whether it is this one.
    pub(crate) fn set_pose(&mut self, cube: CubeId, pose: Pose) -> bool {
        match &mut self.asked {
            Some((asked, shown)) if *asked == cube => {
                *shown = Some(pose);
                true
            }
            _ => false,
        }
    }

    /// Where the cube is that was asked for, if it is this one and was put anywhere.
    pub(crate) fn pose(&self, cube: CubeId) -> Option<Pose> {
        let (asked, pose) = self.asked?;
        pose.filter(|_| asked == cube)
    }

    /// The server gives a cube that lies at `from` there. Returns where it is to be shown.
    pub(crate) fn granted(&mut self, cube: CubeId, from: Pose, now: Duration) -> Pose {
        let shown = self.pose(cube).unwrap_or(from);
        self.forget(cube);
        let to_m = shown.position.to_metres();
        let difference = Difference::new(from.position.to_metres(), to_m, now, HANDOVER);
        self.sent = Some((cube, difference, shown));
        shown
    }

    /// What the server is to be told of a cube that was put somewhere.
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

    /// A cube is let go. Returns where it was put last, unless the server was told of that.
    pub(crate) fn released(&mut self, cube: CubeId) -> Option<Pose> {
        let (.., last) = self.sent.take_if(|(sent, ..)| *sent == cube)?;
        Some(last)
    }

    /// The server does not give a cube. Returns where it was shown, if it was asked for and put
    /// anywhere; from there it is to [go back](Self::go_back).
    pub(crate) fn refused(&mut self, cube: CubeId) -> Option<Pose> {
        let (_, pose) = self.asked.take_if(|(asked, _)| *asked == cube)?;
        pose
    }

    /// A cube that is at `to_m` comes there from `shown_m`.
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
            self.shown.push((cube, difference));
        }
    }

    /// The server moved a cube of this client from `shown_m` to `to_m`.
    pub(crate) fn corrected(
        &mut self,
        cube: CubeId,
        shown_m: [f32; 3],
        to_m: [f32; 3],
        now: Duration,
    ) {
        self.forget(cube);
        let difference = Difference::new(shown_m, to_m, now, CORRECTION);
        if difference.length_m() <= CORRECTION_SNAPS_M {
            self.shown.push((cube, difference));
        }
    }

    /// Where a cube that is at `place_m` is shown.
    pub(crate) fn shown_m(&self, cube: CubeId, place_m: [f32; 3], now: Duration) -> [f32; 3] {
        let shown = self.shown.iter().find(|(shown, _)| *shown == cube);
        let way_m = shown.and_then(|(_, difference)| difference.way_m(now));
        way_m.map_or(place_m, |way_m| added(place_m, way_m))
    }

    /// The cube is where the server says, or is gone.
    pub(crate) fn forget(&mut self, cube: CubeId) {
        self.asked.take_if(|(asked, _)| *asked == cube);
        self.shown.retain(|(shown, _)| *shown != cube);
        self.sent.take_if(|(sent, ..)| *sent == cube);
    }

    /// Forgets what is over.
    pub(crate) fn advance(&mut self, now: Duration) {
        self.shown
            .retain(|(_, difference)| difference.way_m(now).is_some());
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

    /// What is left of it.
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
        let mut ahead = Ahead::default();
        assert!(!ahead.set_pose(CUBE, pose(1.0)));
        ahead.ask(CUBE);
        assert_eq!(ahead.pose(CUBE), None);
        assert!(ahead.set_pose(CUBE, pose(1.0)));
        assert_eq!(ahead.pose(CUBE), Some(pose(1.0)));
        assert!(!ahead.set_pose(CubeId(1), pose(1.0)));
        assert_eq!(ahead.pose(CubeId(1)), None);
    }

    #[test]
    fn a_granted_cube_stays_in_the_hands_and_is_told_to_come_there_evenly() {
        let mut ahead = Ahead::default();
        ahead.ask(CUBE);
        ahead.set_pose(CUBE, pose(4.0));
        assert_eq!(ahead.granted(CUBE, pose(0.0), ms(1_000)), pose(4.0));
        assert_eq!(ahead.pose(CUBE), None);
        for (at_ms, told_m) in [(1_000, 0.0), (1_125, 2.0), (1_250, 4.0), (9_000, 4.0)] {
            assert_eq!(x_m(ahead.sent(CUBE, pose(4.0), ms(at_ms))), told_m);
            assert_eq!(ahead.shown_m(CUBE, [4.0; 3], ms(at_ms)), [4.0; 3]);
        }
        assert_eq!(ahead.released(CUBE), Some(pose(4.0)));
        assert_eq!(ahead.released(CUBE), None);
        // Who waits for the answer before moving it is told of as before.
        ahead.ask(CUBE);
        assert_eq!(ahead.granted(CUBE, pose(3.0), ms(2_000)), pose(3.0));
        assert_eq!(ahead.sent(CUBE, pose(3.5), ms(2_001)), pose(3.5));
    }

    #[test]
    fn a_refused_cube_goes_back_evenly_to_where_it_is_by_then() {
        let mut ahead = Ahead::default();
        ahead.ask(CUBE);
        ahead.set_pose(CUBE, pose(4.0));
        assert_eq!(ahead.refused(CUBE), Some(pose(4.0)));
        assert_eq!((ahead.refused(CUBE), ahead.pose(CUBE)), (None, None));
        ahead.go_back(CUBE, [4.0, 0.0, 0.5], [0.0, 0.0, 0.5], ms(1_000));
        // Somebody else walks away with it.
        for (at_ms, place_m, shown_m) in
            [(1_000, 0.0, 4.0), (1_125, -1.0, 1.0), (1_250, -2.0, -2.0)]
        {
            let shown = ahead.shown_m(CUBE, [place_m, 0.0, 0.5], ms(at_ms));
            assert_eq!(shown, [shown_m, 0.0, 0.5]);
        }
    }

    #[test]
    fn a_correction_is_hidden_for_a_tenth_of_a_second_unless_it_is_long() {
        let mut ahead = Ahead::default();
        ahead.corrected(CUBE, [0.5, 0.0, 0.5], [0.0, 0.0, 0.5], ms(0));
        for (at_ms, shown_m) in [(0, 0.5), (50, 0.25), (100, 0.0)] {
            assert_eq!(ahead.shown_m(CUBE, [0.0; 3], ms(at_ms))[0], shown_m);
        }
        ahead.advance(ms(99));
        assert_eq!(ahead.shown.len(), 1);
        ahead.advance(ms(100));
        assert!(ahead.shown.is_empty());
        ahead.corrected(CUBE, [1.1, 0.0, 0.5], [0.0, 0.0, 0.5], ms(200));
        assert_eq!(ahead.shown_m(CUBE, [0.0; 3], ms(200)), [0.0; 3]);
    }
}
