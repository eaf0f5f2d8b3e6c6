//! A test that samples arrive just before their ticks, over simulated networks and at different
//! frame rates.

use std::time::Duration;

use super::room::RoomState;
use cubesync_protocol::limits::PROTOCOL_VERSION;
use cubesync_protocol::{CubeId, Pose, Position, ResumeToken, Welcome};

const OWN: CubeId = CubeId(7);
const TICK_HZ: f64 = 30.0;
/// The server's time when the client's time is zero.
const SERVER_AHEAD_S: f64 = 1_234.567;
/// Time until which the clock is not known well, and samples do not count.
const SETTLED_S: f64 = 3.0;
const END_S: f64 = 63.0;

/// A network and a frame rate, in milliseconds.
struct Conditions {
    up_ms: f64,
    down_ms: f64,
    /// The most that is added to each direction.
    jitter_ms: f64,
    /// The shortest and the longest frame.
    frame_ms: (f64, f64),
    /// Whether samples leave in the frame that sets their poses, and not with the next poll.
    is_prompt: bool,
}

/// The statistics of the samples after the first seconds.
struct SampleTiming {
    /// The share of samples that were in time.
    in_time: f64,
    /// The mean time by which those samples were early.
    early_ms: f64,
    /// The number of samples per second.
    per_s: f64,
}

/// One direction of a TCP connection, in which nothing overtakes.
struct OneWay {
    base_ms: f64,
    jitter_ms: f64,
    last_s: f64,
}

impl OneWay {
    /// Returns when bytes arrive that are sent now.
    fn arrival_s(&mut self, now_s: f64, random: &mut fastrand::Rng) -> f64 {
        let mut way_ms = self.base_ms + random.f64() * self.jitter_ms;
        // A packet in 300 is lost and sent again.
        if random.u32(0..300) == 0 {
            way_ms += 60.0;
        }
        self.last_s = self.last_s.max(now_s + way_ms / 1_000.0);
        self.last_s
    }
}

fn server_tick(at_s: f64) -> f64 {
    (at_s + SERVER_AHEAD_S) * TICK_HZ
}

/// Plays a minute of a client whose motion is never as predicted.
fn play(conditions: &Conditions) -> SampleTiming {
    let mut random = fastrand::Rng::with_seed(1);
    let one_way = |base_ms| OneWay {
        base_ms,
        jitter_ms: conditions.jitter_ms,
        last_s: 0.0,
    };
    let (mut up, mut down) = (one_way(conditions.up_ms), one_way(conditions.down_ms));
    // The welcome was sent at zero.
    let mut now_s = down.arrival_s(0.0, &mut random);
    let mut room = RoomState::new(welcome(server_tick(0.0)), seconds(now_s)).unwrap();
    let mut pongs = std::collections::VecDeque::new();
    let (mut newest_tick, mut late_samples) = (0, 0);
    let (mut in_time, mut late, mut early_ms) = (0, 0, 0.0);
    while now_s < END_S {
        let (shortest, longest) = conditions.frame_ms;
        now_s += (shortest + random.f64() * (longest - shortest)) / 1_000.0;
        let now = seconds(now_s);
        while let Some(&(arrival_s, sent_us, tick, late)) = pongs.front()
            && arrival_s <= now_s
        {
            pongs.pop_front();
            let since_tick_us = (f64::fract(tick) / TICK_HZ * 1e6) as u32;
            let pong = room.pong(now, sent_us, tick as u64, since_tick_us, late);
            pong.unwrap();
        }
        let mut samples = Vec::from_iter(room.begin_frame(now, true));
        if let Some(sent_us) = room.ping_when_due(now) {
            let heard_s = up.arrival_s(now_s, &mut random);
            let arrival_s = down.arrival_s(heard_s, &mut random);
            pongs.push_back((arrival_s, sent_us, server_tick(heard_s), late_samples));
        }
        let position = Position::from_metres([(now_s * 997.0).sin() as f32, 0.0, 0.5]);
        let pose = Pose {
            position,
            ..Pose::default()
        };
        room.set_pose(OWN, pose);
        if conditions.is_prompt {
            samples.extend(room.sample_at_once(now, true));
        }
        for sample in samples {
            assert!(sample.tick > newest_tick);
            newest_tick = sample.tick;
            let arrival_s = up.arrival_s(now_s, &mut random);
            let early_ticks = sample.tick as f64 - server_tick(arrival_s);
            late_samples += u32::from(early_ticks < 0.0);
            if now_s >= SETTLED_S {
                if early_ticks < 0.0 {
                    late += 1;
                } else {
                    in_time += 1;
                    early_ms += early_ticks / TICK_HZ * 1_000.0;
                }
            }
        }
    }
    SampleTiming {
        in_time: f64::from(in_time) / f64::from(in_time + late),
        early_ms: early_ms / f64::from(in_time),
        per_s: f64::from(in_time + late) / (END_S - SETTLED_S),
    }
}

fn welcome(tick: f64) -> Welcome {
    Welcome {
        version: PROTOCOL_VERSION,
        room: "lobby".into(),
        name: "Anna".into(),
        cube: OWN,
        pose: Pose::default(),
        tick_hz: TICK_HZ as u8,
        tick: tick as u64,
        since_tick_us: (tick.fract() / TICK_HZ * 1e6) as u32,
        max_speed: 0,
        physics: false,
        resume: ResumeToken([0; 16]),
        servers: Vec::new(),
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

#[test]
fn samples_arrive_just_before_their_ticks() {
    for (up_ms, down_ms, jitter_ms) in [
        (0.1, 0.1, 0.1),
        (15.0, 15.0, 1.0),
        (60.0, 20.0, 4.0),
        (10.0, 50.0, 10.0),
        (40.0, 40.0, 20.0),
    ] {
        let frames_ms = [(6.9, 7.0), (16.6, 16.7), (12.0, 21.0), (33.0, 34.0)];
        let frames = frames_ms.into_iter();
        for (frame_ms, is_prompt) in frames.flat_map(|frame| [(frame, false), (frame, true)]) {
            let conditions = Conditions {
                up_ms,
                down_ms,
                jitter_ms,
                frame_ms,
                is_prompt,
            };
            let SampleTiming {
                in_time,
                early_ms,
                per_s,
            } = play(&conditions);
            let case = format!("{up_ms}/{down_ms} +{jitter_ms} {frame_ms:?} {is_prompt}");
            println!("{case}: {:.1} %, {early_ms:.1} ms", in_time * 100.0);
            assert!(in_time >= 0.95, "{case}: only {in_time} in time");
            assert!(
                per_s > 0.97 * TICK_HZ.min(1_000.0 / frame_ms.1),
                "{case}: {per_s}"
            );
            let longest_ms = frame_ms.1 + jitter_ms + 6.0;
            assert!(early_ms <= longest_ms, "{case}: {early_ms} ms early");
        }
    }
}
