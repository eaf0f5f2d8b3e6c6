//! The client's end of the way up: the cubes that it controls, and what of them must be sent.
//!
//! A pose is set once a frame and sampled once a tick, and neither divides the other. To send
//! the pose of the newest frame would make an even motion uneven by up to a frame for everybody
//! else. So each pose has its time, and a sample is where the cube was at its tick's instant.
//! Only its difference from what the server predicts is sent; see [`MotionSet`].

use std::time::Duration;

use crate::cube::{CubeId, CubePose};
use crate::interpolation;
use crate::limits::MAX_CUBES_PER_SAMPLE;
use crate::motion::{Codec, MotionSet, MotionState};
use crate::quantize::{Pose, Position, Rotation};
use bytes::Bytes;

/// Poses that were set further apart than this are no motion: the cube stood in between.
const LONGEST_FRAME: Duration = Duration::from_millis(100);

/// The part of a client's cubes that must be sent for a tick; see
/// [`ClientMessage::Sample`](crate::ClientMessage::Sample).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The tick.
    pub tick: u64,
    /// Cubes that are sent for the first time.
    pub placed: Vec<CubePose>,
    /// The residuals of the others.
    pub residuals: Bytes,
    /// The number of cubes that are placed or have a residual; 0 in a heartbeat.
    pub updates: usize,
}

impl Sample {
    /// Returns a sample of a tick at which every cube is as predicted.
    pub fn heartbeat(tick: u64) -> Self {
        Self {
            tick,
            placed: Vec::new(),
            residuals: Bytes::new(),
            updates: 0,
        }
    }
}

/// A client's own cube and the held ones: as they were set last, and as the server predicts them.
#[derive(Debug, Clone)]
pub struct UplinkSender {
    cubes: Vec<ControlledCube>,
    /// Those of the cubes that were sent.
    predicted: MotionSet,
}

#[derive(Debug, Clone)]
struct ControlledCube {
    cube: CubeId,
    before: TimedPose,
    newest: TimedPose,
    /// Where the server had it when it became this client's, if that is known.
    gained: Option<Pose>,
    /// The cube is not this client's any more, but was not released: the server still predicts it.
    is_lost: bool,
    /// The tick up to which samples are from before the newest correction; 0: there was none.
    corrected_at: u64,
}

#[derive(Debug, Clone, Copy)]
struct TimedPose {
    at: Duration,
    pose: Pose,
}

impl UplinkSender {
    /// Adds a cube that is this client's from now on; the server has it at `pose`.
    pub fn gain(&mut self, cube: CubeId, pose: Pose) {
        self.cubes.retain(|known| known.cube != cube);
        self.cubes.push(ControlledCube::resting(cube, pose));
    }

    /// Adds a cube that still is this client's, at `pose`, though the server may have it elsewhere. The next
    /// sample places it.
    pub fn keep(&mut self, cube: CubeId, pose: Pose) {
        self.gain(cube, pose);
        if let Some(kept) = self.cubes.last_mut() {
            kept.gained = None;
        }
    }

    /// Gives up a cube that is not this client's any more.
    pub fn lose(&mut self, cube: CubeId) {
        let is_predicted = self.predicted.get(cube).is_some();
        self.cubes
            .retain(|known| known.cube != cube || is_predicted);
        if let Some(known) = self.find(cube) {
            known.before = known.newest;
            known.is_lost = true;
        }
    }

    /// Moves a cube. False if it is not this client's.
    pub fn set_pose(&mut self, cube: CubeId, pose: Pose, at: Duration) -> bool {
        let Some(known) = self.find(cube) else {
            return false;
        };
        if at > known.newest.at {
            known.before = known.newest;
        }
        known.newest = TimedPose { at, pose };
        true
    }

    /// Returns the pose of a cube as it was set last.
    pub fn pose(&self, cube: CubeId) -> Option<Pose> {
        let known = self.cubes.iter().find(|known| known.cube == cube)?;
        Some(known.newest.pose)
    }

    /// Moves a cube to where the server has it, which refused a sample of `tick`. Returns false, and moves
    /// nothing, if the sample was on its way when an earlier correction came: what was sampled since is to count.
    pub fn correct(&mut self, tick: u64, corrected: CubePose) -> bool {
        let sampled = self.predicted.tick();
        let Some(known) = self.find(corrected.cube) else {
            return true;
        };
        if known.corrected_at > 0 && tick <= known.corrected_at {
            return false;
        }
        *known = ControlledCube::resting(corrected.cube, corrected.pose);
        known.corrected_at = sampled;
        true
    }

    /// Gives up a cube at a tick; `None` if it is not this client's. The sample must be sent before
    /// the release.
    pub fn release(
        &mut self,
        cube: CubeId,
        tick: u64,
        instant: Duration,
    ) -> Option<Option<Sample>> {
        let known = self.find(cube)?;
        // It stays where it was put.
        known.before = known.newest;
        // A heartbeat is enough for a cube that moves as predicted: it is released at this tick.
        let last = self.take_sample(tick, instant, true);
        self.predicted.remove(cube);
        self.cubes.retain(|known| known.cube != cube);
        Some(last)
    }

    /// Returns what must be sent at a tick, whose instant this is: the cubes that are not as
    /// predicted, or after a long silence that those which move still do.
    pub fn take_sample(&mut self, tick: u64, instant: Duration, is_silent: bool) -> Option<Sample> {
        self.predicted.advance_to(tick);
        let placed = self.place(instant);
        let mut residuals = Vec::new();
        let cubes = &self.cubes;
        let truth = |cube| {
            let known = cubes.iter().find(|known| known.cube == cube);
            let known = known.expect("only cubes of this client are predicted");
            known.pose_at(instant)
        };
        let updates = placed.len() + self.predicted.encode_tick(truth, &mut residuals);
        (updates > 0 || (is_silent && self.is_moving())).then(|| Sample {
            tick,
            placed,
            residuals: residuals.into(),
            updates,
        })
    }

    /// Whether a cube moves, as the server predicts it.
    pub fn is_moving(&self) -> bool {
        self.predicted.active().any(|(_, state)| !state.is_still())
    }

    /// Starts to predict the cubes that have moved since they are this client's.
    fn place(&mut self, instant: Duration) -> Vec<CubePose> {
        let mut placed = Vec::new();
        for known in &self.cubes {
            let (cube, pose) = (known.cube, known.pose_at(instant));
            let is_new = self.predicted.get(cube).is_none() && Some(pose) != known.gained;
            if is_new && self.predicted.len() < MAX_CUBES_PER_SAMPLE {
                self.predicted.insert(cube, MotionState::at_rest(pose));
                placed.push(CubePose { cube, pose });
            }
        }
        placed
    }

    fn find(&mut self, cube: CubeId) -> Option<&mut ControlledCube> {
        let mut cubes = self.cubes.iter_mut();
        cubes.find(|known| known.cube == cube && !known.is_lost)
    }
}

impl Default for UplinkSender {
    fn default() -> Self {
        Self {
            cubes: Vec::new(),
            predicted: MotionSet::new(&Codec::LIVE),
        }
    }
}

impl ControlledCube {
    fn resting(cube: CubeId, pose: Pose) -> Self {
        let at = Duration::ZERO;
        let rest = TimedPose { at, pose };
        Self {
            cube,
            before: rest,
            newest: rest,
            gained: Some(pose),
            is_lost: false,
            corrected_at: 0,
        }
    }

    fn pose_at(&self, instant: Duration) -> Pose {
        let Self { before, newest, .. } = self;
        let frame = newest.at.saturating_sub(before.at);
        if instant >= newest.at || frame > LONGEST_FRAME || before.pose == newest.pose {
            return newest.pose;
        }
        let share = instant.saturating_sub(before.at).as_secs_f64() / frame.as_secs_f64();
        let ends = [before.pose.into(), newest.pose.into()];
        let between = interpolation::line(ends, 1.0, share as f32);
        Pose {
            position: Position::from_metres(between.position),
            rotation: Rotation::from_quaternion(between.rotation),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uplink::testing::{Server, pose};
    use crate::{ClientMessage, Message};

    const OWN: CubeId = CubeId(7);
    const HELD: CubeId = CubeId(0);

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// Both ends, from the join on.
    struct Pair {
        client: UplinkSender,
        server: Server,
        tick: u64,
    }

    impl Pair {
        fn new() -> Self {
            let mut client = UplinkSender::default();
            client.gain(OWN, pose(0.0));
            client.gain(HELD, pose(1.0));
            let server = Server::new();
            let tick = 100;
            Self {
                client,
                server,
                tick,
            }
        }

        /// Returns what is sent at the next tick, and where the server predicts the own cube then.
        fn sample(&mut self, instant: Duration) -> (Option<Sample>, Option<f32>) {
            self.tick += 1;
            let sample = self.client.take_sample(self.tick, instant, false);
            if let Some(sample) = &sample {
                self.server.receive(sample);
            }
            (sample, self.server.x_m(OWN, self.tick))
        }

        fn predicted_m(&mut self, instant: Duration) -> f32 {
            self.sample(instant).1.unwrap()
        }
    }

    fn moved(cube: CubeId, x_m: f32) -> CubePose {
        let pose = pose(x_m);
        CubePose { cube, pose }
    }

    /// Within the codec's bound.
    fn is_near(predicted_m: f32, expected_m: f32) -> bool {
        (predicted_m - expected_m).abs() < 0.005
    }

    #[test]
    fn a_cube_is_placed_when_it_first_moves_and_then_only_residuals_are_sent() {
        let mut pair = Pair::new();
        assert_eq!(pair.sample(ms(10)), (None, None));
        assert!(pair.client.set_pose(OWN, pose(0.0), ms(100)));
        assert_eq!(pair.sample(ms(110)), (None, None));
        assert!(pair.client.set_pose(OWN, pose(3.0), ms(200)));
        assert!(pair.client.set_pose(OWN, pose(4.0), ms(200)));
        let placed = Sample {
            tick: 103,
            placed: vec![moved(OWN, 4.0)],
            residuals: Bytes::new(),
            updates: 1,
        };
        assert_eq!(pair.sample(ms(200)), (Some(placed), Some(4.0)));
        assert_eq!(pair.sample(ms(210)).0, None);
        assert!(pair.client.set_pose(OWN, pose(4.5), ms(220)));
        let (update, predicted_m) = pair.sample(ms(220));
        let update = update.unwrap();
        assert_eq!((update.placed.len(), update.updates), (0, 1));
        assert_eq!(predicted_m, Some(4.5));
        assert!(!pair.client.set_pose(CubeId(99), pose(3.0), ms(220)));
    }

    #[test]
    fn a_kept_cube_is_placed_even_if_it_has_not_moved() {
        let mut pair = Pair::new();
        pair.client.keep(HELD, pose(1.0));
        let (sample, _) = pair.sample(ms(10));
        assert_eq!(sample.unwrap().placed, [moved(HELD, 1.0)]);
        assert_eq!(pair.sample(ms(20)).0, None);
    }

    #[test]
    fn an_even_motion_is_soon_predicted_and_only_its_end_is_sent() {
        let mut pair = Pair::new();
        let mut sent = 0;
        for step in 1..=40u16 {
            let at = ms(u64::from(step) * 33);
            let x_m = f32::from(step) * 0.2;
            pair.client.set_pose(OWN, pose(x_m), at);
            let (sample, predicted_m) = pair.sample(at);
            sent += usize::from(sample.is_some());
            assert!(is_near(predicted_m.unwrap(), x_m), "{predicted_m:?}");
        }
        assert!(sent < 20, "{sent}");
        let (end, predicted_m) = pair.sample(ms(41 * 33));
        assert!(end.is_some());
        assert!(is_near(predicted_m.unwrap(), 8.0));
        // Not to overshoot may take another one.
        pair.sample(ms(42 * 33));
        assert_eq!(pair.sample(ms(43 * 33)).0, None);
    }

    #[test]
    fn a_sample_is_where_the_cube_was_at_its_instant() {
        let mut pair = Pair::new();
        pair.client.set_pose(OWN, pose(0.0), ms(200));
        pair.client.set_pose(OWN, pose(2.0), ms(220));
        assert_eq!(pair.predicted_m(ms(205)), 0.5);
        pair.client.set_pose(OWN, pose(4.0), ms(240));
        assert_eq!(pair.predicted_m(ms(235)), 3.5);
        assert_eq!(pair.predicted_m(ms(265)), 4.0);
    }

    #[test]
    fn a_rest_and_a_jump_are_no_motion() {
        let mut pair = Pair::new();
        pair.client.set_pose(OWN, pose(2.0), ms(5_000));
        assert_eq!(pair.predicted_m(ms(4_990)), 2.0);
        pair.client.set_pose(OWN, pose(50.0), ms(5_016));
        assert_eq!(pair.predicted_m(ms(5_008)), 2.0);
        assert!(is_near(pair.predicted_m(ms(5_041)), 50.0));
    }

    #[test]
    fn a_moving_cube_without_a_residual_has_a_heartbeat_after_a_silence() {
        let mut pair = Pair::new();
        for step in 1..=30u16 {
            let at = ms(u64::from(step) * 33);
            pair.client.set_pose(OWN, pose(f32::from(step)), at);
            pair.sample(at);
        }
        pair.client.set_pose(OWN, pose(31.0), ms(31 * 33));
        let mut silent = pair.client.clone();
        assert_eq!(silent.take_sample(131, ms(31 * 33), false), None);
        let heartbeat = pair.client.take_sample(131, ms(31 * 33), true).unwrap();
        assert_eq!((heartbeat.tick, heartbeat.updates), (131, 0));
        assert!(heartbeat.placed.is_empty() && heartbeat.residuals.is_empty());
        let mut resting = Pair::new();
        resting.client.set_pose(OWN, pose(2.0), ms(10));
        resting.sample(ms(10));
        assert_eq!(resting.client.take_sample(102, ms(43), true), None);
    }

    #[test]
    fn a_corrected_cube_goes_on_from_there() {
        let mut pair = Pair::new();
        pair.client.set_pose(OWN, pose(30.0), ms(10));
        assert_eq!(pair.predicted_m(ms(20)), 30.0);
        assert!(pair.client.correct(101, moved(OWN, 2.0)));
        assert!(is_near(pair.predicted_m(ms(53)), 2.0));
        // A cube that was never sent needs no correction of the server's prediction.
        assert!(pair.client.correct(101, moved(HELD, 2.0)));
        assert_eq!(pair.sample(ms(86)).0, None);
        assert!(
            pair.client.correct(101, moved(CubeId(99), 2.0)),
            "told, though it is not ours"
        );
    }

    #[test]
    fn a_correction_of_a_sample_from_before_the_last_one_is_ignored() {
        let mut pair = Pair::new();
        for step in 1..=3u16 {
            let at = ms(u64::from(step) * 33);
            pair.client.set_pose(OWN, pose(f32::from(step) * 30.0), at);
            pair.sample(at);
        }
        assert!(pair.client.correct(101, moved(OWN, 0.0)));
        pair.client.set_pose(OWN, pose(1.0), ms(133));
        assert!(is_near(pair.predicted_m(ms(133)), 1.0));
        // The server refuses what was on its way, too.
        for tick in [102, 103] {
            assert!(!pair.client.correct(tick, moved(OWN, 0.0)));
        }
        assert_eq!(pair.client.pose(OWN), Some(pose(1.0)));
        assert!(pair.client.correct(104, moved(OWN, 0.5)));
        assert_eq!(pair.client.pose(OWN), Some(pose(0.5)));
    }

    #[test]
    fn a_released_cube_stays_where_it_was_put_and_is_placed_anew_when_it_comes_back() {
        let mut pair = Pair::new();
        pair.client.set_pose(HELD, pose(0.0), ms(1));
        pair.client.set_pose(HELD, pose(2.0), ms(10));
        let last = pair.client.release(HELD, 101, ms(5)).unwrap();
        assert_eq!(last.unwrap().placed, [moved(HELD, 2.0)]);
        assert_eq!(pair.client.release(HELD, 102, ms(5)), None);
        assert!(!pair.client.set_pose(HELD, pose(9.0), ms(20)));
        pair.client.lose(HELD);
        assert_eq!(pair.sample(ms(20)).0, None);

        pair.client.gain(HELD, pose(1.0));
        assert_eq!(pair.client.release(HELD, 103, ms(25)), Some(None));
        pair.client.gain(HELD, pose(1.0));
        assert!(pair.client.set_pose(HELD, pose(9.0), ms(30)));
        let (placed, _) = pair.sample(ms(30));
        assert_eq!(placed.unwrap().placed, [moved(HELD, 9.0)]);
    }

    #[test]
    fn the_life_of_a_sample_has_the_bytes_that_the_page_says() {
        let page = include_str!("../../../docs/PROTOCOL.md");
        let pose = |x| Pose {
            position: Position { x, y: 0, z: 256 },
            ..Pose::default()
        };
        let mut client = UplinkSender::default();
        client.gain(OWN, pose(0));
        let mut payloads = Vec::new();
        for tick in 90..=110u64 {
            let at = ms(tick * 33);
            client.set_pose(OWN, pose((tick.min(104) as i32 - 90) * 100), at);
            let sample = client.take_sample(tick, at, tick == 103);
            let tail = [97, 106].contains(&tick).then(|| Sample::heartbeat(tick));
            let Some(sample) = sample.or(tail) else {
                continue;
            };
            let message = ClientMessage::Sample {
                tick,
                placed: sample.placed,
                residuals: sample.residuals,
            };
            let payload = &message.to_frame()[4..];
            payloads.push(
                payload
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect::<String>(),
            );
        }
        assert_eq!(payloads.len(), 11, "{payloads:?}");
        for payload in payloads {
            assert!(page.contains(&format!("`{payload}`")), "{payload}");
        }
    }

    #[test]
    fn a_cube_that_is_released_in_motion_stops_where_the_last_sample_says() {
        let mut pair = Pair::new();
        for step in 1..=30u16 {
            let at = ms(u64::from(step) * 33);
            pair.client.set_pose(HELD, pose(f32::from(step)), at);
            pair.sample(at);
        }
        pair.client.set_pose(HELD, pose(31.0), ms(31 * 33));
        let last = pair.client.release(HELD, 131, ms(31 * 33)).unwrap();
        pair.server.receive(&last.unwrap());
        assert!(is_near(pair.server.x_m(HELD, 131).unwrap(), 31.0));
    }

    #[test]
    fn a_cube_that_was_lost_unreleased_stands_and_stays_known_to_the_server() {
        let mut pair = Pair::new();
        for step in 1..=5u16 {
            let at = ms(u64::from(step) * 33);
            pair.client.set_pose(HELD, pose(f32::from(step)), at);
            pair.sample(at);
        }
        pair.client.lose(HELD);
        assert!(!pair.client.set_pose(HELD, pose(9.0), ms(200)));
        assert_eq!(pair.client.release(HELD, 106, ms(200)), None);
        pair.sample(ms(200));
        pair.sample(ms(233));
        assert!(is_near(pair.server.x_m(HELD, pair.tick).unwrap(), 5.0));
        assert_eq!(pair.client.take_sample(108, ms(266), true), None);
        pair.tick = 108;
        pair.client.gain(HELD, pose(5.0));
        pair.client.set_pose(HELD, pose(6.0), ms(300));
        let (sample, _) = pair.sample(ms(300));
        assert_eq!(sample.unwrap().placed, []);
        assert!(is_near(pair.server.x_m(HELD, pair.tick).unwrap(), 6.0));
    }
}
