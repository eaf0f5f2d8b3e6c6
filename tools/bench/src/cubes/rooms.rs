//! Rooms with loose cubes through the codec of the wire: recorded ones, and ones that are played from seeds.

use std::path::Path;

use cubesync_protocol::motion::Codec;
use cubesync_protocol::{
    CellId, CubeId, CubePose, Message, PlainSnapshot, Pose, ServerMessage, Snapshot,
};

use crate::codecs::{Encoding, PHYSICS, on_grid};
use crate::live::{Cost, moves, residuals};
use crate::recorded;
use crate::scenes::{self, Kind};

/// The seeds that are scored.
const SEEDS: std::ops::Range<u64> = 0..3;
/// A tick's number in a room of some hours, whose bytes each snapshot has.
const LATE_TICK: u64 = 500_000;

/// The precision of KinematicSoup's benchmark, 1 cm and 0.001, in our steps: positions within 2 quanta, 4 mm, and all
/// ten bits of a rotation, each within 0.0007.
const FINE_ROTATIONS: Codec = Codec {
    rotation_bound: 0,
    ..Codec::LIVE
};

/// Prints what rooms cost that are played from seeds.
pub(crate) fn run() -> anyhow::Result<()> {
    head();
    for kind in Kind::ALL {
        for hz in [30, 60] {
            let mut rows = Vec::new();
            for seed in SEEDS {
                eprint!("\r\x1b[K{}, {hz} Hz, seed {seed}", kind.name());
                rows.push(Row::with_lossless(scenes::play(kind, seed, hz))?);
            }
            eprint!("\r\x1b[K");
            let star = if Kind::TRAINED.contains(&kind) {
                ""
            } else {
                " *"
            };
            print(&format!("{}{star}", kind.name()), hz, &rows);
        }
    }
    println!();
    println!(
        "medians of seeds {SEEDS:?}, least and most in brackets; *: the tables saw no such play"
    );
    compare()
}

/// Prints KinematicSoup's figure beside ours on a scene like theirs.
fn compare() -> anyhow::Result<()> {
    println!();
    println!("| 250 tumbling bodies, 30 Hz | bytes per body and update | kB/s |");
    println!("|---|---|---|");
    println!(
        "| KinematicSoup's Reactor, published: their scene, 0.01 and 0.001, without headers | 1.33 | 10 |"
    );
    for (name, codec) in [
        ("this codec, our scene, 4 mm and 0.0007", &FINE_ROTATIONS),
        (
            "this codec, our scene, 4 mm and 0.004 (live play)",
            &Codec::LIVE,
        ),
    ] {
        let tracks = scenes::play(Kind::Tumble, SEEDS.start, 30);
        let cost = residuals(&tracks, codec, Encoding::Range)?;
        let ticks = (tracks[0].len() - 1) as f64;
        let a_tick = cost.bytes as f64 / ticks;
        println!(
            "| {name} | {:.2} | {:.1} |",
            a_tick / tracks.len() as f64,
            a_tick * 30.0 / 1000.0
        );
    }
    Ok(())
}

/// Codes what a server or a client recorded of a room.
pub(crate) fn code_recording(file: &Path) -> anyhow::Result<()> {
    let recorded = recorded::read(file)?;
    head();
    let row = Row::new(&recorded.tracks)?;
    print(&file.display().to_string(), recorded.hz, &[row]);
    println!();
    println!(
        "{} cubes and {} ticks as one cell; as they were published, with their cells: {} bytes of residuals",
        recorded.tracks.len(),
        recorded.tracks.first().map_or(0, Vec::len),
        recorded.bytes
    );
    Ok(())
}

/// What a room costs.
struct Row {
    cubes: usize,
    ticks: f64,
    moves: f64,
    cost: Cost,
    /// Bytes of the plain snapshots that say the same to clients that predict nothing.
    plain_bytes: usize,
    /// Of true poses only: those of a recording are within the bounds already.
    lossless: Option<Cost>,
}

impl Row {
    fn new(tracks: &[Vec<Pose>]) -> anyhow::Result<Self> {
        Ok(Self {
            cubes: tracks.len(),
            ticks: tracks.first().map_or(1, |track| track.len().max(2) - 1) as f64,
            moves: moves(tracks) as f64,
            cost: residuals(tracks, &Codec::LIVE, Encoding::Range)?,
            plain_bytes: plain_bytes(tracks),
            lossless: None,
        })
    }

    fn with_lossless(mut tracks: Vec<Vec<Pose>>) -> anyhow::Result<Self> {
        let row = Self::new(&tracks)?;
        for pose in tracks.iter_mut().flatten() {
            *pose = on_grid(*pose, &PHYSICS);
        }
        Ok(Self {
            lossless: Some(residuals(&tracks, &PHYSICS, Encoding::Range)?),
            ..row
        })
    }

    fn per_move(&self, bytes: usize) -> f64 {
        bytes as f64 / self.moves.max(1.0)
    }

    /// Returns kbit/s for a viewer of everything, frames and snapshots included.
    fn kbits(&self, cost: &Cost, hz: u8) -> f64 {
        let snapshot = ServerMessage::Snapshot(Snapshot {
            cell: CellId::default(),
            tick: LATE_TICK,
            events: Vec::new(),
            residuals: vec![0; 200].into(),
        });
        let head = snapshot.to_frame().len() - 200;
        (cost.bytes + head * cost.ticks) as f64 / self.ticks * f64::from(hz) * 8.0 / 1000.0
    }
}

/// Returns the bytes of the plain snapshots of all ticks.
fn plain_bytes(tracks: &[Vec<Pose>]) -> usize {
    let ticks = 1..tracks.first().map_or(0, Vec::len);
    let frame = |tick: usize| {
        let moving = tracks.iter().zip(1..);
        let moved = moving.filter(|(track, _)| track[tick] != track[tick - 1]);
        let moved = moved.map(|(track, id)| CubePose {
            cube: CubeId(id),
            pose: track[tick],
        });
        let snapshot = PlainSnapshot {
            tick: LATE_TICK,
            moved: moved.collect(),
            ..PlainSnapshot::default()
        };
        match snapshot.moved.is_empty() {
            true => 0,
            false => ServerMessage::PlainSnapshot(snapshot).to_frame().len(),
        }
    };
    ticks.map(frame).sum()
}

fn head() {
    println!(
        "every tick decoded and compared; within 2 quanta (4 mm) and 1.7°, or lossless with rotations of nine bits;"
    );
    println!("a cube moves in a tick if its true pose differs from that of the tick before");
    println!();
    println!(
        "| room | Hz | cubes | of them moving | bytes per moving cube and tick | kbit/s for a viewer of all | error, quanta | degrees | lossless: bytes per moving cube and tick | plain: the same |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
}

fn print(name: &str, hz: u8, rows: &[Row]) {
    let range = |of: &dyn Fn(&Row) -> f64, places: usize| {
        let mut all: Vec<f64> = rows.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        let [least, median, most] = [all[0], all[all.len() / 2], all[all.len() - 1]];
        match rows.len() {
            1 => format!("{median:.places$}"),
            _ => format!("{median:.places$} ({least:.places$}–{most:.places$})"),
        }
    };
    let most = |of: &dyn Fn(&Row) -> f64| rows.iter().map(of).fold(0.0, f64::max);
    println!(
        "| {name} | {hz} | {} | {} | {} | {} | {} | {:.2} | {} | {} |",
        rows[0].cubes,
        range(&|row| row.moves / row.ticks, 1),
        range(&|row| row.per_move(row.cost.bytes), 2),
        range(&|row| row.kbits(&row.cost, hz), 1),
        most(&|row| row.cost.error_quanta.into()),
        most(&|row| row.cost.error_degrees),
        match rows[0].lossless {
            Some(_) => range(
                &|row| row
                    .lossless
                    .as_ref()
                    .map_or(0.0, |it| row.per_move(it.bytes)),
                2
            ),
            None => "–".to_owned(),
        },
        range(&|row| row.per_move(row.plain_bytes), 2),
    );
}
