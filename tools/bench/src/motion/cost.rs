//! The CPU time of a client's frame beside a thousand wandering cubes: reading, predicting and
//! interpolating, without drawing.

use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::BytesMut;
use cubesync_client::session::Session;
use cubesync_protocol::limits::PROTOCOL_VERSION;
use cubesync_protocol::motion::{Codec, MotionSet, MotionState};
use cubesync_protocol::{
    CellId, CubeId, CubeInfo, CubeKind, Hello, Keyframe, Message, Pose, ResumeToken, ServerMessage,
    Snapshot, Welcome,
};

use crate::play::{COLOUR, FRAME_S, TICK_HZ, tick_s};
use crate::player::Player;
use crate::trace::{Motion, Trace};

const CUBES: u64 = 1_000;
const SECONDS: f64 = 10.0;
/// Number of frames before the measurement, in which caches warm up and all cubes start to move.
const WARM_UP_FRAMES: usize = 60;

/// Measures and prints the CPU time.
pub(crate) fn run() -> anyhow::Result<()> {
    let traces: Vec<_> = (1..=CUBES)
        .map(|seed| Trace::new(Motion::People, seed, SECONDS))
        .collect();
    let truth = |cube: CubeId, tick| match cube.0.checked_sub(1) {
        Some(index) => traces[index as usize].at(tick_s(tick)).pose(),
        None => MotionState::at_rest(Default::default()).pose(&Codec::LIVE),
    };
    let mut predicted = MotionSet::new(&Codec::LIVE);
    for cube in (0..=CUBES).map(CubeId) {
        predicted.insert(cube, MotionState::at_rest(truth(cube, 0)));
    }
    let cubes = predicted.iter().map(|(cube, &state)| info(cube, state));
    let mut incoming = BytesMut::new();
    ServerMessage::Welcome(welcome()).append_frame(&mut incoming);
    ServerMessage::Keyframe(keyframe(cubes.collect())).append_frame(&mut incoming);
    let hello = Hello::new("lobby", "Anna", COLOUR);
    let mut client = Player::new(Session::new(hello, Duration::ZERO), false);

    let mut costs = Vec::new();
    let mut tick = 0;
    for frame in 1..(SECONDS / FRAME_S) as u32 {
        let now_s = f64::from(frame) * FRAME_S;
        while tick_s(tick + 1) <= now_s {
            tick += 1;
            predicted.advance_to(tick);
            let mut residuals = Vec::new();
            predicted.encode_tick(|cube| truth(cube, tick), &mut residuals);
            let snapshot = Snapshot {
                cell: CellId(0),
                tick,
                events: Vec::new(),
                residuals: residuals.into(),
            };
            ServerMessage::Snapshot(snapshot).append_frame(&mut incoming);
        }
        let now = Duration::from_secs_f64(now_s);
        let started = Instant::now();
        client.frame(now, incoming.split(), None);
        let drawn = client.draw_all(now);
        costs.push(started.elapsed());
        ensure!(drawn == CUBES as usize + 1, "{drawn} cubes were drawn");
    }
    // One of two frames reads a tick.
    let pairs = costs[WARM_UP_FRAMES..].chunks_exact(2);
    let mut costs: Vec<Duration> = pairs.map(|pair| (pair[0] + pair[1]) / 2).collect();
    costs.sort_unstable();
    let ms = |cost: Duration| cost.as_secs_f64() * 1e3;
    let mean_ms = ms(costs.iter().sum::<Duration>()) / costs.len() as f64;
    let part = |part: usize| ms(costs[(costs.len() - 1) * part / 100]);
    println!(
        "{CUBES} cubes at {TICK_HZ} Hz, per frame at 60 Hz: mean {mean_ms:.3} ms, median {:.3} ms, \
         p99 {:.3} ms",
        part(50),
        part(99)
    );
    Ok(())
}

fn welcome() -> Welcome {
    Welcome {
        version: PROTOCOL_VERSION,
        room: "lobby".into(),
        name: "Anna".into(),
        cube: CubeId(0),
        pose: Pose::default(),
        tick_hz: TICK_HZ,
        tick: 0,
        since_tick_us: 0,
        max_speed: 0,
        physics: false,
        resume: ResumeToken([0; 16]),
        servers: Vec::new(),
    }
}

/// Returns the first keyframe.
fn keyframe(cubes: Vec<CubeInfo>) -> Keyframe {
    Keyframe {
        cell: CellId(0),
        interval_ticks: 1,
        tick: 0,
        cubes,
    }
}

fn info(cube: CubeId, motion: MotionState) -> CubeInfo {
    CubeInfo {
        cube,
        kind: CubeKind::Player,
        name: "cube".into(),
        colour: COLOUR,
        width: Default::default(),
        motion,
    }
}
