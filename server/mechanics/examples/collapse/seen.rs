//! The motion of loose cubes as a viewer has received it.

use std::collections::BTreeMap;

use cubesync_protocol::replica::Replica;
use cubesync_protocol::{CubeId, CubeKind, Position, ServerMessage};

use crate::room::{Frame, HZ, SECONDS};

const PERIOD_S: f64 = 1.0 / HZ as f64;
/// A cube that moves less than this in each of two ticks stands, for what is measured of its motion.
const MOVES_M: f64 = 0.02;
/// A cube that moves less than this part of its way in the tick before, or after, has stopped in between.
const STOPS: f64 = 1.0 / 3.0;
const QUANTA_PER_METRE: f64 = cubesync_protocol::quantize::QUANTA_PER_METRE as f64;

/// How late ticks came, in milliseconds after the earliest one by the room's period.
pub(crate) fn lateness_ms(frames: &[Frame]) -> Vec<f64> {
    let mut due = frames.iter().filter_map(|frame| {
        let tick = tick_of(&frame.message)?;
        Some((frame.at, tick))
    });
    let Some((first, first_tick)) = due.next() else {
        return Vec::new();
    };
    let mut newest = first_tick;
    let mut late = vec![0.0];
    for (at, tick) in due {
        // Of a tick's frames, the first one counts.
        if tick > newest {
            newest = tick;
            late.push(((at - first).as_secs_f64() - (tick - first_tick) as f64 * PERIOD_S) * 1e3);
        }
    }
    let earliest = late.iter().copied().fold(f64::INFINITY, f64::min);
    late.iter_mut().for_each(|late| *late -= earliest);
    late
}

/// The bytes that a viewer got.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// Of the cells that came into sight.
    pub(crate) keyframes: usize,
    /// Of ticks, on average.
    pub(crate) kbit_per_s: f64,
}

impl Cost {
    pub(crate) fn of(frames: &[Frame]) -> Self {
        let bytes = |of: fn(&ServerMessage) -> bool| {
            let frames = frames.iter().filter(|frame| of(&frame.message));
            frames.map(|frame| frame.bytes).sum::<usize>()
        };
        let ticks = bytes(|message| matches!(message, ServerMessage::Snapshot(_)));
        Self {
            keyframes: bytes(|message| matches!(message, ServerMessage::Keyframe(_))),
            kbit_per_s: ticks as f64 * 8.0 / 1e3 / SECONDS as f64,
        }
    }
}

/// How loose cubes moved, as a viewer saw it tick by tick.
#[derive(Debug, Default)]
pub(crate) struct Motion {
    /// The number of ticks of cubes that moved.
    pub(crate) moves: usize,
    /// The part of them in which a cube stopped for a tick, or went on after that.
    pub(crate) stops: f64,
    /// By how much a cube's way in a tick differed from that in the tick before, in centimetres.
    pub(crate) changes_cm: Vec<f64>,
}

impl Motion {
    pub(crate) fn of(frames: &[Frame]) -> Self {
        let mut replica = Replica::default();
        let mut places = Vec::new();
        let mut tick = 0;
        for frame in frames {
            let newer = tick_of(&frame.message).filter(|newer| *newer > tick);
            if let Some(newer) = newer {
                while tick < newer {
                    tick += 1;
                    places.push(loose(&replica));
                }
            }
            replica
                .take_in(&frame.message)
                .expect("a room sends what can be taken in");
        }
        places.push(loose(&replica));
        Self::along(&places)
    }

    fn along(places: &[BTreeMap<CubeId, Position>]) -> Self {
        let mut motion = Self::default();
        let mut stops = 0;
        for three in places.windows(3) {
            for (cube, &last) in &three[2] {
                let (Some(&first), Some(&middle)) = (three[0].get(cube), three[1].get(cube)) else {
                    continue;
                };
                let [before, after] = [way(first, middle), way(middle, last)];
                let lengths = [before, after].map(length);
                let [shorter, longer] = [f64::min, f64::max].map(|of| of(lengths[0], lengths[1]));
                if longer < MOVES_M {
                    continue;
                }
                motion.moves += 1;
                stops += usize::from(shorter < longer * STOPS);
                let change = [0, 1, 2].map(|axis| after[axis] - before[axis]);
                motion.changes_cm.push(length(change) * 100.0);
            }
        }
        motion.stops = stops as f64 / motion.moves.max(1) as f64;
        motion
    }
}

fn loose(replica: &Replica) -> BTreeMap<CubeId, Position> {
    let cubes = replica.cubes();
    let loose = cubes.filter(|info| matches!(info.kind, CubeKind::Free { .. }));
    loose
        .filter_map(|info| Some((info.cube, replica.pose(info.cube)?.position)))
        .collect()
}

fn way(from: Position, to: Position) -> [f64; 3] {
    let way = [to.x - from.x, to.y - from.y, to.z - from.z];
    way.map(|quanta| f64::from(quanta) / QUANTA_PER_METRE)
}

fn length(way: [f64; 3]) -> f64 {
    way.iter().map(|axis| axis * axis).sum::<f64>().sqrt()
}

fn tick_of(message: &ServerMessage) -> Option<u64> {
    match message {
        ServerMessage::Snapshot(snapshot) => Some(snapshot.tick),
        ServerMessage::Heartbeat { tick } => Some(*tick),
        _ => None,
    }
}

/// Returns a percentile of numbers, or 0 of none.
pub(crate) fn percentile(numbers: &[f64], share: f64) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len().saturating_sub(1) as f64 * share).round() as usize;
    sorted.get(rank).copied().unwrap_or(0.0)
}
