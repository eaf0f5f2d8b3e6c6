//! The CPU time of a client's frame beside a thousand wandering cubes: reading, predicting and
//! interpolating, without drawing. And that of a player who walks through a heap of two thousand loose ones.

use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::BytesMut;
use cubesync_client::session::Session;
use cubesync_harness::usage::thread_cpu;
use cubesync_protocol::limits::PROTOCOL_VERSION;
use cubesync_protocol::motion::{Codec, MotionSet, MotionState};
use cubesync_protocol::{
    CellId, CubeId, CubeInfo, CubeKind, Hello, Keyframe, Message, Pose, Position, ResumeToken,
    ServerMessage, Snapshot, Welcome, Width,
};

use crate::play::{COLOUR, FRAME_S, TICK_HZ, tick_s};
use crate::player::Player;
use crate::trace::{Motion, Trace};

const CUBES: u64 = 1_000;
/// The side of a heap and its heights, in cubes, and from one to the next, in metres.
const HEAP: u64 = 20;
const HEAP_HEIGHTS: [u64; 2] = [1, 5];
const HEAP_PITCH_M: f32 = 0.3;
const WALK_MPS: f64 = 6.0;
const SECONDS: f64 = 10.0;
/// Number of frames before the measurement, in which caches warm up and all cubes start to move.
const WARM_UP_FRAMES: usize = 60;

/// Measures and prints the CPU times.
pub(crate) fn run() -> anyhow::Result<()> {
    wandering()?;
    HEAP_HEIGHTS.into_iter().try_for_each(heap)
}

fn wandering() -> anyhow::Result<()> {
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

/// Walks through a heap, which all of it is in reach of, and back, with and without contacts.
fn heap(high: u64) -> anyhow::Result<()> {
    let count = HEAP * HEAP * high;
    let at = |index: u64| {
        let place = [index % HEAP, index / HEAP % HEAP, index / HEAP / HEAP];
        let [x, y, z] = place.map(|part| (part as f32 + 0.5) * HEAP_PITCH_M);
        Position::from_metres([x - 3.0, y - 3.0, z])
    };
    let cube = |index| {
        let pose = Pose {
            position: at(index),
            ..Pose::default()
        };
        CubeInfo {
            kind: CubeKind::Free { holder: None },
            width: Width::from_metres(HEAP_PITCH_M),
            ..info(CubeId(index + 1), MotionState::at_rest(pose))
        }
    };
    let own = info(CubeId(0), MotionState::at_rest(Pose::default()));
    let cubes: Vec<_> = [own].into_iter().chain((0..count).map(cube)).collect();
    let mut costs_ms = Vec::new();
    for touches in [false, true] {
        let mut incoming = BytesMut::new();
        ServerMessage::Welcome(welcome()).append_frame(&mut incoming);
        ServerMessage::Keyframe(keyframe(cubes.clone())).append_frame(&mut incoming);
        let hello = Hello::new("lobby", "Anna", COLOUR);
        let mut client = Player::new(Session::new(hello, Duration::ZERO), false);
        client.touches = touches;
        let began = thread_cpu()?;
        let frames = (SECONDS / FRAME_S) as u32;
        for frame in 0..frames {
            let now_s = f64::from(frame) * FRAME_S;
            let now = Duration::from_secs_f64(now_s);
            client.receive(now, incoming.split());
            let x_m = (now_s % 2.0 - 1.0).abs() * WALK_MPS - 3.0;
            let pose = Pose {
                position: Position::from_metres([x_m as f32, 0.0, 0.5]),
                ..Pose::default()
            };
            client.put(CubeId(0), pose);
            client.send(now);
        }
        let spent = thread_cpu()? - began;
        costs_ms.push(spent.as_secs_f64() * 1e3 / f64::from(frames));
    }
    println!(
        "a player in a heap of {count}, CPU per frame: {:.3} ms, with contacts {:.3} ms",
        costs_ms[0], costs_ms[1]
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
