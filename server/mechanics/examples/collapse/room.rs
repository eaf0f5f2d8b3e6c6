//! A room in real time: players who walk, and viewers of whom is kept what they receive and when.

use std::f32::consts::TAU;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cubesync_protocol::cells::Grid;
use cubesync_protocol::limits::FRAME_HEADER_BYTES;
use cubesync_protocol::quantize::QUANTA_PER_METRE;
use cubesync_protocol::{ClientMessage, Colour, Message, Pose, Position, Rotation, ServerMessage};
use cubesync_relay::mechanics::Field;
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

pub(crate) const HZ: u8 = 30;
pub(crate) const SECONDS: u64 = 12;
const WALK_MPS: f32 = 5.0;
/// Samples are sent so many ticks early.
const LEAD_TICKS: u64 = 4;
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A room to be played in.
pub(crate) struct Scene {
    pub(crate) field: Option<Field>,
    pub(crate) walkers: usize,
    /// `None`: everybody sees everything.
    pub(crate) view_distance_m: Option<f32>,
    /// Where viewers stand.
    pub(crate) viewers: Vec<[f32; 2]>,
}

/// A frame with its header, and when a viewer got it.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) at: Instant,
    pub(crate) message: ServerMessage,
    pub(crate) bytes: usize,
}

impl Scene {
    /// Plays, and returns what each viewer has received.
    pub(crate) fn play(self) -> Vec<Vec<Frame>> {
        let runtime = tokio::runtime::Runtime::new().expect("threads can be made");
        let received = runtime.block_on(self.run());
        received.into_iter().map(frames).collect()
    }

    async fn run(self) -> Vec<Vec<(Instant, Bytes)>> {
        let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
        let grid = self.view_distance_m.map_or(Grid::WHOLE, |metres| {
            Grid::new((metres * QUANTA_PER_METRE) as u32)
        });
        let settings = settings(grid, self.field);
        let rooms = Rooms::new(
            settings,
            Metrics::default(),
            Arc::new(Alone),
            shutdown.clone(),
            tasks.clone(),
        );
        let mut viewers = Vec::new();
        for [x, y] in self.viewers {
            let (outlet, frames) = mpsc::channel(4_096);
            let entrance = Entrance {
                rule: SpeedRule::Unlimited,
                pose: Some(upright([x, y])),
                ..entrance(outlet)
            };
            let membership = rooms.enter("lobby", entrance, ADDRESS).await;
            let membership = membership.expect("the room is open");
            viewers.push((membership, std::thread::spawn(move || collect(frames))));
        }
        for number in 0..self.walkers {
            tokio::spawn(walk(Arc::clone(&rooms), number));
        }
        tokio::time::sleep(Duration::from_secs(SECONDS)).await;
        let (memberships, threads): (Vec<_>, Vec<_>) = viewers.into_iter().unzip();
        drop(memberships);
        shutdown.cancel();
        tasks.close();
        tasks.wait().await;
        let threads = threads.into_iter();
        threads
            .map(|thread| thread.join().expect("a viewer reads on"))
            .collect()
    }
}

fn settings(grid: Grid, field: Option<Field>) -> RoomsSettings {
    RoomsSettings {
        tick_hz: HZ,
        top_speed: None,
        grid,
        slow_reader_after: Duration::from_secs(5),
        resume_within: Duration::ZERO,
        drain: Duration::ZERO,
        max_cubes: 5_000,
        field: None,
        default_field: field,
        max_rooms: 1,
        max_rooms_per_address: 1,
    }
}

fn entrance(outlet: mpsc::Sender<Bytes>) -> Entrance {
    Entrance {
        name: "player".to_owned(),
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

/// Keeps what a viewer gets. It is decoded later, so that decoding delays nothing.
fn collect(mut frames: mpsc::Receiver<Bytes>) -> Vec<(Instant, Bytes)> {
    let mut received = Vec::new();
    while let Some(bytes) = frames.blocking_recv() {
        received.push((Instant::now(), bytes));
    }
    received
}

fn frames(received: Vec<(Instant, Bytes)>) -> Vec<Frame> {
    let mut frames = Vec::new();
    for (at, mut bytes) in received {
        while let Some(length) = bytes.first_chunk::<FRAME_HEADER_BYTES>() {
            let length = FRAME_HEADER_BYTES + u32::from_be_bytes(*length) as usize;
            let frame = bytes.split_to(length);
            let message = ServerMessage::decode(&frame[FRAME_HEADER_BYTES..]);
            frames.push(Frame {
                at,
                message: message.expect("a room sends what can be decoded"),
                bytes: frame.len(),
            });
        }
    }
    frames
}

/// A player who walks in a circle around the middle, with a sample at each tick.
async fn walk(rooms: Arc<Rooms>, number: usize) {
    let (outlet, mut received) = mpsc::channel(4_096);
    let membership = rooms.enter("lobby", entrance(outlet), ADDRESS).await;
    let (Ok(membership), Some(first)) = (membership, received.recv().await) else {
        return;
    };
    let own = membership.cube();
    let first = frames(vec![(Instant::now(), first)]);
    let Some(ServerMessage::Welcome(welcome)) = first.first().map(|frame| &frame.message) else {
        return;
    };
    let mut writer = SampleWriter::default();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / u32::from(HZ));
    let radius_m = 14.0 + number as f32 * 0.4;
    for tick in welcome.tick + LEAD_TICKS.. {
        ticks.tick().await;
        while received.try_recv().is_ok() {}
        let seconds = tick as f32 / f32::from(HZ);
        let angle = (seconds * WALK_MPS / radius_m + number as f32) % TAU;
        let pose = upright([radius_m * angle.cos(), radius_m * angle.sin()]);
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

fn upright([x, y]: [f32; 2]) -> Pose {
    Pose {
        position: Position::from_metres([x, y, 0.5]),
        rotation: Rotation::IDENTITY,
    }
}
