//! What there is of a session once the server has welcomed it: the world, the clock, the cubes
//! it controls, and when a sample and a ping are due.

use std::time::Duration;

use cubesync_protocol::limits::{PING_INTERVAL, TICK_HZ_RANGE};
use cubesync_protocol::{CubeId, CubePose, Pose, Welcome};

use crate::clock::Clock;
use crate::sample::Controlled;
use crate::world::{World, WorldChange};

/// Pings right after the join, to know the clock soon, and the time between them.
const FIRST_PINGS: u32 = 5;
const FIRST_PING_INTERVAL: Duration = Duration::from_millis(200);
/// When in a tick a sample should reach the server, as a part of the tick: with a frame's time
/// to spare before the next tick and some after the last one. Two samples in one tick would
/// leave another without.
const SAMPLE_PHASE: f64 = 0.25;
/// How quickly the measured time of a frame follows, per frame.
const FRAME_FOLLOW: f64 = 0.05;
/// Longest frame that counts, in seconds.
const LONGEST_FRAME_S: f64 = 0.1;

/// A client's side of the room it is in.
#[derive(Debug)]
pub struct Room {
    /// What the server said at the join.
    pub welcome: Welcome,
    /// The cubes.
    pub world: World,
    /// The server's ticks.
    pub clock: Clock,
    /// The own cube and the held ones.
    pub controlled: Controlled,
    began: Duration,
    sampled_tick: f64,
    /// When the poses were set that are there now.
    posed_at: Duration,
    /// Usual time from there to the poll that sends them, in seconds.
    frame_s: f64,
    pings: u32,
    ping_at: Duration,
}

/// A welcome or a pong that cannot be true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RoomError {
    /// A rate that no room has.
    #[error("{0} ticks per second are outside of 1 to 128")]
    TickRate(u8),
    /// The time in the pong is of no ping.
    #[error("a ping was answered that was never sent")]
    Pong,
}

impl Room {
    /// The side of a client that has just been welcomed.
    ///
    /// # Errors
    /// [`RoomError::TickRate`].
    pub fn new(welcome: Welcome, now: Duration) -> Result<Self, RoomError> {
        if !TICK_HZ_RANGE.contains(&welcome.tick_hz) {
            return Err(RoomError::TickRate(welcome.tick_hz));
        }
        let mut controlled = Controlled::default();
        controlled.gain(welcome.cube, welcome.pose);
        Ok(Self {
            clock: Clock::new(welcome.tick_hz, welcome.tick, welcome.since_tick_us, now),
            world: World::default(),
            controlled,
            began: now,
            sampled_tick: f64::MIN,
            posed_at: now,
            frame_s: 0.0,
            pings: 0,
            ping_at: now,
            welcome,
        })
    }

    /// Takes in who controls what after changes of the world.
    pub fn apply(&mut self, changes: &[WorldChange]) {
        for change in changes {
            match *change {
                WorldChange::Taken { cube, by } if by == self.welcome.cube => {
                    let known = self.world.cube(cube).map(|known| known.pose);
                    self.controlled.gain(cube, known.unwrap_or_default());
                }
                WorldChange::Taken { cube, .. } | WorldChange::Freed { cube } => {
                    self.controlled.lose(cube);
                }
                _ => {}
            }
        }
    }

    /// Takes in the answer to a ping.
    ///
    /// # Errors
    /// [`RoomError::Pong`].
    pub fn pong(
        &mut self,
        now: Duration,
        sent_us: u64,
        tick: u64,
        since_tick_us: u32,
    ) -> Result<(), RoomError> {
        let sent = Duration::from_micros(sent_us);
        // The ping's time was rounded down to microseconds.
        if sent + Duration::from_micros(1) <= self.began || sent > now {
            return Err(RoomError::Pong);
        }
        self.clock.measured(sent, now, tick, since_tick_us);
        Ok(())
    }

    /// Moves a cube of this client; whether it is one.
    pub fn set_pose(&mut self, cube: CubeId, pose: Pose) -> bool {
        self.controlled.set_pose(cube, pose, self.posed_at)
    }

    /// The cubes to send now, once a tick at most and only if they `can_be_sent`; mostly empty.
    /// To be asked in every frame, before its poses are set.
    pub fn sample_when_due(&mut self, now: Duration, can_be_sent: bool) -> Vec<CubePose> {
        let posed_at = std::mem::replace(&mut self.posed_at, now);
        let frame_s = now.saturating_sub(posed_at).as_secs_f64();
        self.frame_s += (frame_s.min(LONGEST_FRAME_S) - self.frame_s) * FRAME_FOLLOW;
        // What is sent now, a frame after the poses were set, arrives half a round trip later.
        let way = self.clock.round_trip().unwrap_or_default() / 2;
        let arrival = posed_at + way + Duration::from_secs_f64(self.frame_s);
        let arrival_tick = self.clock.tick_at(arrival) - SAMPLE_PHASE;
        let tick = arrival_tick.floor();
        if tick <= self.sampled_tick || !can_be_sent {
            return Vec::new();
        }
        self.sampled_tick = tick;
        let since_s = (arrival_tick - tick) / f64::from(self.welcome.tick_hz);
        let instant = posed_at.saturating_sub(Duration::from_secs_f64(since_s));
        self.controlled.take_sample(instant)
    }

    /// The time to put into a ping, when one is due.
    pub fn ping_when_due(&mut self, now: Duration) -> Option<u64> {
        if now < self.ping_at {
            return None;
        }
        self.pings = self.pings.saturating_add(1);
        self.ping_at = now
            + if self.pings < FIRST_PINGS {
                FIRST_PING_INTERVAL
            } else {
                PING_INTERVAL
            };
        u64::try_from(now.as_micros()).ok()
    }
}

#[cfg(test)]
mod tests {
    use cubesync_protocol::ResumeToken;

    use super::*;
    use crate::testing::pose;

    const OWN: CubeId = CubeId(7);

    fn room(tick_hz: u8) -> Result<Room, RoomError> {
        let welcome = Welcome {
            version: 1,
            room: "lobby".into(),
            name: "Anna".into(),
            cube: OWN,
            pose: Pose::default(),
            tick_hz,
            tick: 100,
            since_tick_us: 0,
            max_speed: 0,
            resume: ResumeToken([0; 16]),
        };
        Room::new(welcome, Duration::from_secs(1))
    }

    /// Frames of 1/60 s from the join on.
    fn frames() -> impl Iterator<Item = Duration> {
        (0u64..).map(|frame| Duration::from_secs(1) + Duration::from_micros(frame * 16_667))
    }

    /// The x of each sample while the own cube moves at 6 m/s, in frames of these lengths.
    fn samples_m(tick_hz: u8, frames_us: impl Iterator<Item = u64>) -> Vec<f32> {
        let mut room = room(tick_hz).unwrap();
        let (mut now, mut samples_m) = (Duration::from_secs(1), Vec::new());
        for frame_us in frames_us {
            now += Duration::from_micros(frame_us);
            let sample = room.sample_when_due(now, true);
            samples_m.extend(sample.iter().map(|cube| cube.pose.position.to_metres()[0]));
            room.set_pose(OWN, pose(6.0 * (now.as_secs_f32() - 1.0)));
        }
        samples_m
    }

    #[test]
    fn a_cube_that_always_moves_is_sampled_once_in_each_tick() {
        for (tick_hz, expected) in [(10, 100), (30, 300), (128, 600)] {
            let count = samples_m(tick_hz, std::iter::repeat_n(16_667, 600)).len();
            assert!(count.abs_diff(expected) <= 2, "{count} at {tick_hz} Hz");
        }
    }

    #[test]
    fn an_even_motion_is_even_in_its_samples_whatever_the_frames() {
        let uneven = (0..1_000).map(|frame| 12_000 + frame * 7_919 % 9_000);
        let samples_m = samples_m(20, uneven);
        assert!(samples_m.len() > 300);
        // While the frame's time is being learnt, the instants still shift.
        for pair in samples_m[60..].windows(2) {
            let step_m = pair[1] - pair[0];
            assert!((step_m - 0.3).abs() < 0.02, "{step_m}");
        }
    }

    #[test]
    fn five_quick_pings_are_followed_by_slow_ones() {
        let mut room = room(30).unwrap();
        let sent = frames()
            .take(60 * 20)
            .filter_map(|now| room.ping_when_due(now));
        let sent: Vec<_> = sent.map(|sent_us| sent_us as f64 / 1e6).collect();
        let expected = [1.0, 1.2, 1.4, 1.6, 1.8, 6.8, 11.8, 16.8];
        assert_eq!(sent.len(), expected.len(), "{sent:?}");
        for (sent, expected) in sent.into_iter().zip(expected) {
            assert!(
                (sent - expected).abs() < 0.15,
                "{sent} instead of {expected}"
            );
        }
    }

    #[test]
    fn what_cannot_be_true_is_named() {
        assert_eq!(room(0).unwrap_err(), RoomError::TickRate(0));
        assert_eq!(room(129).unwrap_err(), RoomError::TickRate(129));
        let mut room = room(30).unwrap();
        let now = Duration::from_secs(2);
        for sent_us in [0, 999_998, 2_000_001, u64::MAX] {
            assert_eq!(room.pong(now, sent_us, 100, 0), Err(RoomError::Pong));
        }
        assert_eq!(room.pong(now, 1_900_000, 100, 0), Ok(()));
        assert_eq!(room.clock.round_trip(), Some(Duration::from_millis(100)));
    }
}
