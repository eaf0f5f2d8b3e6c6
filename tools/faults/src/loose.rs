//! Heavy moments of loose cubes: their physics may fall behind, while the bystanders' game goes on.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::fault::{Fault, Outcome};
use crate::harness::crowd::{Behaviour, Crowd, CrowdPlan};
use crate::harness::server::{Server, Setup};
use crate::harness::trial::Trial;

const CUBES: usize = 900;
/// A room of so many cubes that players may teleport through.
const FIELD: Setup = Setup {
    flags: &["--tick", "60", "--cubes", "900", "--max-speed", "0"],
    ..Setup::PLAIN
};
/// The world's half width and its height, in metres.
const WORLD_M: [f64; 2] = [256.0, 32.0];

pub(crate) const FAULTS: &[Fault] =
    &[Fault::new("900-cubes-blown-apart", &[], blow_apart).on(&FIELD)];

/// Lets players jump through the field at each tick.
fn blow_apart(trial: &mut Trial<'_>) -> Result<Outcome> {
    let before = cubes(trial.server)?;
    let counters = trial.server.counters()?;
    let crowd = Crowd::join(CrowdPlan {
        server: trial.server.tcp,
        count: 60,
        rooms: 1,
        behaviour: Behaviour::Jump,
        is_websocket: false,
        returns: false,
        over: Duration::ZERO,
    })?;
    std::thread::sleep(trial.pick(Duration::from_secs(4), Duration::from_secs(15)));
    ensure!(
        crowd.counts.ended.load(Ordering::Relaxed) == 0,
        "a player was cut off"
    );
    let during = trial.server.counters()?;
    crowd.leave()?;
    let grown = |name: &str| during.growth(&counters, &[name]);
    let after = cubes(trial.server)?;
    ensure!(after.len() == CUBES, "{} cubes are left", after.len());
    for at in &after {
        let [side, height] = WORLD_M;
        let is_inside =
            at[0].abs() <= side && at[1].abs() <= side && (0.0..=height).contains(&at[2]);
        ensure!(is_inside, "a cube is at {at:?}");
    }
    let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
    Ok(Outcome::of(
        0,
        format!(
            "{moved} of {CUBES} cubes moved; of {} ticks {} had to wait for a step",
            grown("gauge ticks_total"),
            grown("gauge loose_late_ticks_total"),
        ),
    ))
}

/// Returns where loose cubes are.
fn cubes(server: &Server) -> Result<Vec<[f64; 3]>> {
    let page = server.page("/cubes.json")?;
    let page: Value = serde_json::from_slice(&page.body).context("/cubes.json is no JSON")?;
    let cubes = page["cubes"]
        .as_array()
        .context("/cubes.json has no cubes")?;
    let free = cubes.iter().filter(|cube| cube["kind"] == "free");
    free.map(|cube| {
        let at: [f64; 3] = serde_json::from_value(cube["position"].clone())?;
        Ok(at)
    })
    .collect()
}
