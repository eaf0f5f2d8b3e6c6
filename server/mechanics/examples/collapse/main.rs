//! Measures what a heavy moment of loose cubes does to a room, in real time: how late its ticks come while a stack of
//! cubes falls beside 20 players who walk, how far the mechanics stay behind, how evenly the cubes move, and what
//! viewers in several places receive.
//!
//! `cargo run --release -p cubesync-mechanics --example collapse [CUBES]...`

mod room;
mod seen;
mod timed;

use cubesync_relay::mechanics::Field;

use self::room::{Frame, HZ, SECONDS, Scene};
use self::seen::{Cost, Motion, lateness_ms, percentile};
use self::timed::{Timing, scattered, stack, standing, take_steps};

const WALKERS: usize = 20;
/// How often each scene is played.
const ROUNDS: usize = 3;
const VIEW_DISTANCE_M: f32 = 32.0;
/// Most cubes of a room.
const FIELD: usize = 2_000;

fn main() {
    let counts: Vec<usize> = std::env::args()
        .skip(1)
        .map(|count| count.parse().expect("a number of cubes"))
        .collect();
    let counts = if counts.is_empty() {
        vec![60, 900, FIELD]
    } else {
        counts
    };
    println!(
        "{WALKERS} players walk, {HZ} Hz, {ROUNDS} rounds of {SECONDS} s; ms of p50 / p99 / max"
    );
    for _ in 0..ROUNDS {
        let alone_ms = measure("no loose cubes", None, None);
        for &count in &counts {
            measure(
                &format!("{count} stand"),
                Some(standing(count)),
                Some(alone_ms),
            );
            measure(&format!("{count} fall"), Some(stack(count)), Some(alone_ms));
        }
    }
    println!("\n{FIELD} fall where they stand in a new room; view distance {VIEW_DISTANCE_M} m");
    interest();
}

/// Plays and prints a scene, beside what the same players alone had. Returns the 99th percentile of how late ticks were.
fn measure(what: &str, field: Option<Field>, alone_ms: Option<f64>) -> f64 {
    take_steps();
    let scene = Scene {
        field,
        walkers: WALKERS,
        view_distance_m: None,
        viewers: vec![[0.0, 30.0]],
    };
    let received = scene.play();
    report(what, &received[0], &take_steps(), alone_ms)
}

fn report(what: &str, frames: &[Frame], steps: &[Timing], alone_ms: Option<f64>) -> f64 {
    let three = |of: &[f64]| [0.5, 0.99, 1.0].map(|share| format!("{:.1}", percentile(of, share)));
    let took = steps.iter().map(|step| step.took.as_secs_f64() * 1e3);
    let [late, took] = [lateness_ms(frames), took.collect()];
    let late_ms = percentile(&late, 0.99);
    print!("{what:16} ticks late {:20}", three(&late).join(" / "));
    if let Some(alone_ms) = alone_ms {
        print!(" (p99 {:.1} times),", late_ms / alone_ms);
    }
    let cost = Cost::of(frames);
    if let (Some(first), Some(last)) = (steps.first(), steps.last()) {
        let motion = Motion::of(frames);
        let real_s = (last.began + last.took - first.began).as_secs_f64();
        let moves: usize = steps.iter().map(|step| step.moved).sum();
        print!(
            " steps {:22} {:3.0} % of real time, {:4.1} % of moves stop, changes of way {} cm, {:.2} B a move,",
            three(&took).join(" / "),
            100.0 * steps.len() as f64 / f64::from(HZ) / real_s,
            motion.stops * 100.0,
            three(&motion.changes_cm).join(" / "),
            cost.kbit_per_s * SECONDS as f64 * 125.0 / moves.max(motion.moves).max(1) as f64,
        );
    }
    println!(" {:.0} kbit/s", cost.kbit_per_s);
    late_ms
}

/// Prints what viewers receive of a field of which they see parts.
fn interest() {
    let places = [
        ("in the middle", [0.0, 0.0]),
        ("at the field's edge", [0.0, 35.0]),
        ("30 m outside", [0.0, 65.0]),
        ("in a corner of the world", [250.0, 250.0]),
    ];
    let scene = |view_distance_m| Scene {
        field: Some(scattered(FIELD)),
        walkers: 0,
        view_distance_m,
        viewers: places.map(|(_, place)| place).to_vec(),
    };
    let line = |what: &str, frames: &[Frame]| {
        let Cost {
            keyframes,
            kbit_per_s,
        } = Cost::of(frames);
        println!("{what:26} {keyframes:8} B of keyframes, {kbit_per_s:8.1} kbit/s");
    };
    line("who sees everything", &scene(None).play()[0]);
    for ((what, _), frames) in places.iter().zip(scene(Some(VIEW_DISTANCE_M)).play()) {
        line(what, &frames);
    }
}
