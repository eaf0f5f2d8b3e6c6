//! The encodings compared on a recording, without loss: every frame is decoded and compared.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use cubesync_protocol::motion::{Codec, MotionSet, MotionState};
use cubesync_protocol::{CubeId, CubePose, Pose};

use crate::codecs::{Encoding, PHYSICS, SIX_BACK};
use crate::full_state;
use crate::touched;
use crate::trace::{CUBES, FIRST_FRAME, Frame, Trace};

/// Frames per second of a recording.
const HZ: f64 = 60.0;

/// The cost of one encoding of a recording.
#[derive(Default)]
struct Cost {
    bytes: usize,
    touched_bytes: usize,
    encode: Duration,
    decode: Duration,
}

/// Encodes a recording with all encodings and prints the table.
pub(crate) fn run(path: &Path) -> anyhow::Result<()> {
    let trace = Trace::read(path)?;
    let frames = trace.frames.len();
    println!(
        "{}: {frames} frames of {CUBES} cubes, lossless, every frame decoded and compared",
        path.display()
    );
    println!(
        "bytes a frame and kbit/s at 60 Hz without packet headers; ns and counts per cube of a frame"
    );
    println!();
    println!(
        "| baseline | encoding | kbit/s | of it the touched flag | bytes/frame | encode ns | decode ns |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (baseline, back) in [("previous frame", 1), ("six frames back", 6)] {
        let codec = if back == 1 { &PHYSICS } else { &SIX_BACK };
        row(
            &trace,
            baseline,
            "full poses of changed cubes, bincode",
            full_poses(&trace, back)?,
        );
        row(
            &trace,
            baseline,
            "residual varints",
            residuals(&trace, codec, Encoding::Varints, back)?,
        );
        row(
            &trace,
            baseline,
            "residuals, range coder",
            residuals(&trace, codec, Encoding::Range, back)?,
        );
    }
    Ok(())
}

fn row(trace: &Trace, baseline: &str, encoding: &str, cost: Cost) {
    let frames = (trace.frames.len() - FIRST_FRAME) as f64;
    let bytes = cost.bytes as f64 / frames;
    let kbits = |bytes: f64| bytes * HZ * 8.0 / 1000.0;
    let nanoseconds = |time: Duration| time.as_nanos() as f64 / frames / CUBES as f64;
    println!(
        "| {baseline} | {encoding} | {:.2} | {:.2} | {bytes:.1} | {:.1} | {:.1} |",
        kbits(bytes),
        kbits(cost.touched_bytes as f64 / frames),
        nanoseconds(cost.encode),
        nanoseconds(cost.decode),
    );
}

/// Encodes the whole pose of every cube that differs from the baseline.
fn full_poses(trace: &Trace, back: usize) -> anyhow::Result<Cost> {
    let mut cost = Cost::default();
    for (index, [before, baseline, now]) in steps(trace, back) {
        let started = Instant::now();
        let poses = baseline.poses.iter().zip(&now.poses).enumerate();
        let changed = poses.filter(|(_, (was, is))| was != is);
        let changed = changed.map(|(index, (_, &pose))| CubePose {
            cube: CubeId(index as u64),
            pose,
        });
        let bytes = full_state::encode(&changed.collect::<Vec<_>>())?;
        cost.encode += started.elapsed();
        let mut flags = Vec::new();
        touched::write(&mut flags, baseline, before, now);
        cost.bytes += bytes.len() + flags.len();
        cost.touched_bytes += flags.len();

        let started = Instant::now();
        let mut poses = baseline.poses.clone();
        for cube in full_state::decode(&bytes)? {
            poses[cube.cube.0 as usize] = cube.pose;
        }
        cost.decode += started.elapsed();
        let flags = touched::read(&mut flags.as_slice(), baseline, before, &poses)?;
        check(index, now, &poses, &flags)?;
    }
    Ok(cost)
}

/// Encodes the residuals. The states of sender and receiver are those of the baseline's frame, advanced
/// by as many ticks as it is back; nothing newer than the baseline is used.
fn residuals(
    trace: &Trace,
    codec: &'static Codec,
    encoding: Encoding,
    back: usize,
) -> anyhow::Result<Cost> {
    let mut cost = Cost::default();
    let mut sender = at_start(trace, codec);
    let mut receiver = sender.clone();
    let mut bytes = Vec::new();
    for (index, [before, baseline, now]) in steps(trace, back) {
        let started = Instant::now();
        bytes.clear();
        let mut sending = at_baseline(&mut sender, codec, baseline, back);
        sending.advance_to(sending.tick() + back as u64);
        let truth = |id: CubeId| now.poses[id.0 as usize];
        encoding.encode_tick(&mut sending, codec, truth, &mut bytes);
        cost.encode += started.elapsed();
        let mut flags = Vec::new();
        touched::write(&mut flags, baseline, before, now);
        cost.bytes += bytes.len() + flags.len();
        cost.touched_bytes += flags.len();

        let started = Instant::now();
        let mut receiving = at_baseline(&mut receiver, codec, baseline, back);
        receiving.advance_to(receiving.tick() + back as u64);
        if !bytes.is_empty() {
            encoding
                .decode_tick(&mut receiving, codec, &bytes)
                .with_context(|| format!("frame {index}"))?;
        }
        cost.decode += started.elapsed();
        ensure!(
            sending == receiving,
            "frame {index}: sender and receiver disagree"
        );
        let poses = receiving.poses().map(|(_, pose)| pose).collect::<Vec<_>>();
        let flags = touched::read(&mut flags.as_slice(), baseline, before, &poses)?;
        check(index, now, &poses, &flags)?;
        if back == 1 {
            sender = sending;
            receiver = receiving;
        }
        progress(index, trace);
    }
    Ok(cost)
}

/// Returns the states of the baseline's frame, to go on from. `set` advances by one frame; when that
/// is the baseline, it is handed out and comes back after the frame is coded.
fn at_baseline(
    set: &mut MotionSet,
    codec: &'static Codec,
    baseline: &Frame,
    back: usize,
) -> MotionSet {
    if back == 1 {
        return std::mem::replace(set, MotionSet::new(codec));
    }
    set.advance_to(set.tick() + 1);
    set.encode_tick(|id| baseline.poses[id.0 as usize], &mut Vec::new());
    set.clone()
}

/// Returns every cube at rest where it is in the first frame.
pub(crate) fn at_start(trace: &Trace, codec: &'static Codec) -> MotionSet {
    let mut set = MotionSet::new(codec);
    for (index, &pose) in trace.frames[0].poses.iter().enumerate() {
        set.insert(CubeId(index as u64), MotionState::at_rest(pose));
    }
    set
}

/// Returns each scored frame with its baseline and the frame before the baseline.
fn steps(trace: &Trace, back: usize) -> impl Iterator<Item = (usize, [&Frame; 3])> {
    let frames = &trace.frames;
    (FIRST_FRAME..frames.len()).map(move |index| {
        let baseline = index - back;
        let before = baseline.saturating_sub(1);
        (index, [&frames[before], &frames[baseline], &frames[index]])
    })
}

fn check(index: usize, frame: &Frame, poses: &[Pose], touched: &[bool]) -> anyhow::Result<()> {
    let wrong = frame
        .poses
        .iter()
        .zip(poses)
        .position(|(was, is)| was != is);
    ensure!(
        wrong.is_none(),
        "frame {index}: cube {wrong:?} came back elsewhere"
    );
    ensure!(
        frame.touched == touched,
        "frame {index}: a flag came back wrong"
    );
    Ok(())
}

fn progress(index: usize, trace: &Trace) {
    let frames = trace.frames.len();
    if index.is_multiple_of(500) || index + 1 == frames {
        let end = if index + 1 == frames { "\r\x1b[K" } else { "" };
        eprint!("\rframe {index} of {frames}{end}");
    }
}
