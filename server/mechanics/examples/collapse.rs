//! Measures what a heavy moment of loose cubes does to a room: how late its ticks come while 900 cubes fall at once
//! beside 20 players who walk, how long the mechanics' steps take, and the bytes for a viewer of everything.
//!
//! `cargo run --release -p cubesync-mechanics --example collapse [CUBES]`

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cubesync_mechanics::{arrangement, create};
use cubesync_protocol::cells::Grid;
use cubesync_protocol::limits::FRAME_HEADER_BYTES;
use cubesync_protocol::{
    ClientMessage, Colour, Message, Pose, Position, Rotation, ServerMessage, Width,
};
use cubesync_relay::mechanics::{
    Create, Field, FieldCube, LooseCube, Mechanics, Step, Stepped, Velocity,
};
use cubesync_relay::metrics::Metrics;
use cubesync_relay::room::audience::Outlet;
use cubesync_relay::room::backplane::Alone;
use cubesync_relay::room::speed::SpeedRule;
use cubesync_relay::room::testing::SampleWriter;
use cubesync_relay::room::{Entrance, SightRule};
use cubesync_relay::rooms::{Rooms, RoomsSettings};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const HZ: u8 = 30;
const PLAYERS: usize = 20;
const SECONDS: u64 = 12;
const WALK_MPS: f32 = 5.0;

/// The time that each step took, and the number of cubes that it moved.
static STEPS: Mutex<Vec<(Duration, usize)>> = Mutex::new(Vec::new());

/// Mechanics whose steps are timed.
#[derive(Debug)]
struct Timed(Box<dyn Mechanics>);

impl Mechanics for Timed {
    fn step(&mut self, step: &Step) -> Stepped {
        let began = Instant::now();
        let stepped = self.0.step(step);
        let took = (began.elapsed(), stepped.moved.len());
        STEPS.lock().expect("nobody panics with it").push(took);
        stepped
    }
}

fn resting(tick_hz: u8, cubes: &[LooseCube]) -> Box<dyn Mechanics> {
    Box::new(Timed(create(tick_hz, cubes)))
}

/// Lets all cubes fall from the first step on.
fn falling(tick_hz: u8, cubes: &[LooseCube]) -> Box<dyn Mechanics> {
    let velocity = Velocity {
        linear_mps: [0.0, 0.0, -0.01],
        ..Velocity::default()
    };
    let falling = cubes.iter().map(|cube| LooseCube { velocity, ..*cube });
    resting(tick_hz, &falling.collect::<Vec<_>>())
}

/// A dense stack, ten by ten, three metres above the floor.
fn stack(count: usize) -> Vec<FieldCube> {
    let cube = |index: usize| {
        let [x, y, z] = [index % 10, index / 10 % 10, index / 100].map(|place| place as f32);
        FieldCube {
            width: Width::from_metres(0.625),
            colour: Colour::from([200, 90, 60]),
            pose: Pose {
                position: Position::from_metres([0.64 * x + 0.04 * z, 0.64 * y, 3.0 + 0.63 * z]),
                rotation: Rotation::IDENTITY,
            },
        }
    };
    (0..count).map(cube).collect()
}

fn main() {
    let count = std::env::args()
        .nth(1)
        .map_or(900, |count| count.parse().expect("a number of cubes"));
    println!("{PLAYERS} walking players, {HZ} Hz, {SECONDS} s, {count} loose cubes");
    measure("no loose cubes", None);
    let calm: Create = resting;
    measure(
        "all stand, and the players walk among them",
        Some((arrangement(count), calm)),
    );
    measure("all fall at once", Some((stack(count), falling)));
}

fn measure(what: &str, field: Option<(Vec<FieldCube>, Create)>) {
    STEPS.lock().expect("nobody panics with it").clear();
    let runtime = tokio::runtime::Runtime::new().expect("threads can be made");
    let frames = runtime.block_on(play(field));
    drop(runtime);
    report(what, &frames);
}

/// A frame of the viewer: when it came, its tick, its bytes.
type Seen = (Instant, u64, usize);

async fn play(field: Option<(Vec<FieldCube>, Create)>) -> Vec<Seen> {
    let field = field.map(|(cubes, create)| Field {
        cubes: cubes.into(),
        create: Some(create),
        kept: None,
    });
    let settings = RoomsSettings {
        tick_hz: HZ,
        top_speed: None,
        grid: Grid::WHOLE,
        slow_reader_after: Duration::from_secs(5),
        resume_within: Duration::ZERO,
        drain: Duration::ZERO,
        max_cubes: 5_000,
        field: None,
        default_field: field,
        max_rooms: 1,
        max_rooms_per_address: 1,
    };
    let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
    let rooms = Rooms::new(
        settings,
        Metrics::default(),
        Arc::new(Alone),
        shutdown.clone(),
        tasks.clone(),
    );
    let (outlet, frames) = mpsc::channel(4_096);
    let viewer = rooms.enter(
        "lobby",
        entrance(outlet, 0),
        std::net::IpAddr::from([127, 0, 0, 1]),
    );
    let viewer = viewer.await.expect("the room is open");
    let seen = std::thread::spawn(move || watch(frames));
    for number in 1..=PLAYERS {
        tokio::spawn(walk(Arc::clone(&rooms), number));
    }
    tokio::time::sleep(Duration::from_secs(SECONDS)).await;
    drop(viewer);
    shutdown.cancel();
    tasks.close();
    tasks.wait().await;
    seen.join().expect("the viewer reads on")
}

fn entrance(outlet: mpsc::Sender<bytes::Bytes>, number: usize) -> Entrance {
    Entrance {
        name: format!("player {number}"),
        colour: Colour::from([1, 2, 3]),
        rule: SpeedRule::TopSpeed,
        sight: SightRule::Surroundings,
        resume: None,
        pose: None,
        outlet: Outlet::Frames(outlet),
        ended: CancellationToken::new(),
        peer: None,
    }
}

fn watch(mut frames: mpsc::Receiver<bytes::Bytes>) -> Vec<Seen> {
    let mut seen = Vec::new();
    while let Some(mut bytes) = frames.blocking_recv() {
        let now = Instant::now();
        while bytes.len() > FRAME_HEADER_BYTES {
            let length: [u8; FRAME_HEADER_BYTES] =
                bytes[..FRAME_HEADER_BYTES].try_into().expect("four bytes");
            let frame = bytes.split_to(FRAME_HEADER_BYTES + u32::from_be_bytes(length) as usize);
            if let Ok(ServerMessage::Snapshot(snapshot)) =
                ServerMessage::decode(&frame[FRAME_HEADER_BYTES..])
            {
                seen.push((now, snapshot.tick, frame.len()));
            }
        }
    }
    seen
}

/// Returns the tick of the `Welcome`, the first of all frames.
async fn first_tick(frames: &mut mpsc::Receiver<bytes::Bytes>) -> Option<u64> {
    let frame = frames.recv().await?;
    let length: [u8; FRAME_HEADER_BYTES] = frame[..FRAME_HEADER_BYTES].try_into().ok()?;
    let end = FRAME_HEADER_BYTES + u32::from_be_bytes(length) as usize;
    match ServerMessage::decode(&frame[FRAME_HEADER_BYTES..end]) {
        Ok(ServerMessage::Welcome(welcome)) => Some(welcome.tick),
        _ => None,
    }
}

/// A player who walks in circles around the cubes.
async fn walk(rooms: Arc<Rooms>, number: usize) {
    let (outlet, mut frames) = mpsc::channel(4_096);
    let membership = rooms.enter(
        "lobby",
        entrance(outlet, number),
        std::net::IpAddr::from([127, 0, 0, 1]),
    );
    let Ok(membership) = membership.await else {
        return;
    };
    let own = membership.cube();
    let Some(first) = first_tick(&mut frames).await else {
        return;
    };
    let mut writer = SampleWriter::default();
    let period = Duration::from_secs(1) / u32::from(HZ);
    let mut ticks = tokio::time::interval(period);
    let radius_m = 14.0 + number as f32 * 0.4;
    for tick in first + 4.. {
        ticks.tick().await;
        while frames.try_recv().is_ok() {}
        let angle = tick as f32 / f32::from(HZ) * WALK_MPS / radius_m + number as f32;
        let pose = Pose {
            position: Position::from_metres([radius_m * angle.cos(), radius_m * angle.sin(), 0.5]),
            rotation: Rotation::IDENTITY,
        };
        let (placed, residuals) = writer.sample(tick, own, pose);
        let sample = ClientMessage::Sample {
            tick,
            placed,
            residuals: residuals.into(),
        };
        if membership.message(sample).await.is_err() {
            return;
        }
    }
}

fn report(what: &str, seen: &[Seen]) {
    let period = 1.0 / f64::from(HZ);
    let Some(&(first, first_tick, _)) = seen.first() else {
        return println!("{what}: nothing was seen");
    };
    let late = seen
        .iter()
        .map(|(at, tick, _)| (*at - first).as_secs_f64() - (tick - first_tick) as f64 * period);
    let mut late: Vec<f64> = late.collect();
    let earliest = late.iter().copied().fold(f64::INFINITY, f64::min);
    late.iter_mut()
        .for_each(|late| *late = (*late - earliest) * 1e3);
    late.sort_by(f64::total_cmp);
    let missing = seen
        .windows(2)
        .map(|pair| pair[1].1 - pair[0].1 - 1)
        .sum::<u64>();
    let bytes: usize = seen.iter().map(|(_, _, bytes)| bytes).sum();
    let share = |of: &[f64], share: f64| {
        of.get(((of.len() - 1) as f64 * share) as usize)
            .copied()
            .unwrap_or(0.0)
    };
    println!(
        "{what}: tick lateness p50 {:.2}, p99 {:.2}, max {:.2} ms; {missing} of {} ticks without a frame; {:.1} kbit/s",
        share(&late, 0.5),
        share(&late, 0.99),
        share(&late, 1.0),
        seen.len(),
        bytes as f64 * 8.0 / 1e3 / SECONDS as f64
    );
    let steps = STEPS.lock().expect("nobody panics with it");
    if !steps.is_empty() {
        let mut took: Vec<f64> = steps
            .iter()
            .map(|(took, _)| took.as_secs_f64() * 1e3)
            .collect();
        took.sort_by(f64::total_cmp);
        let moved: usize = steps.iter().map(|(_, moved)| moved).sum();
        println!(
            "  {} steps: p50 {:.2}, p99 {:.2}, max {:.2} ms; {moved} moves of a cube in a tick, {:.2} B each with all else",
            steps.len(),
            share(&took, 0.5),
            share(&took, 0.99),
            share(&took, 1.0),
            bytes as f64 / moved.max(1) as f64
        );
    }
}
