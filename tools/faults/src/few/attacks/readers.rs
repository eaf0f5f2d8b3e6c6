//! What readers can cost who read slowly, or not at all.

use std::time::Duration;

use anyhow::Result;
use cubesync_protocol::ClientMessage;
use tokio::io::AsyncReadExt;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::encrypted::RSA_2048;
use crate::few::attack::Attack;
use crate::few::attackers::{Attacker, Plan, Way};
use crate::few::trial::Scene;
use crate::harness::trial::hello;

/// A room in which a keyframe has some 200 kB.
const CROWDED: usize = 4_400;

/// How often a steady reader reads, and how much: 8 kB a second.
const READ_INTERVAL: Duration = Duration::from_millis(100);
const READ_BYTES: usize = 800;
/// A steady reader is a good player otherwise: it sends a ping after so many reads.
const READS_A_PING: usize = 40;

const fn steady(name: &'static str, start: fn(&Plan)) -> Attack {
    Attack::new(name, start)
        .among_ghosts(CROWDED)
        .lasting_s(20)
        .achieving(&[("greetings", 4)])
        .never(&["cut"])
}

const fn deaf(name: &'static str, start: fn(&Plan)) -> Attack {
    Attack::new(name, start)
        .among_ghosts(CROWDED)
        .achieving(&[("greetings", 48)])
        .meanwhile(memory_each)
}

pub(super) const ATTACKS: &[Attack] = &[
    steady("steady-tcp", |plan| {
        plan.each(4, |attacker| reads_steadily(attacker, Way::Tcp))
    }),
    steady("steady-websocket", |plan| {
        plan.each(4, |attacker| reads_steadily(attacker, Way::WebSocket))
    }),
    steady("steady-tls", |plan| {
        plan.each(4, |attacker| reads_steadily(attacker, Way::Tls))
    })
    .on(&RSA_2048),
    steady("steady-tls-websocket", |plan| {
        plan.each(4, |attacker| reads_steadily(attacker, Way::TlsWebSocket))
    })
    .on(&RSA_2048),
    deaf("deaf-tcp", |plan| {
        plan.each(64, |attacker| never_reads(attacker, Way::Tcp))
    }),
    deaf("deaf-websocket", |plan| {
        plan.each(64, |attacker| never_reads(attacker, Way::WebSocket))
    })
    .quick(),
    deaf("deaf-tls", |plan| {
        plan.each(64, |attacker| never_reads(attacker, Way::Tls))
    })
    .on(&RSA_2048),
    deaf("deaf-tls-websocket", |plan| {
        plan.each(64, |attacker| never_reads(attacker, Way::TlsWebSocket))
    })
    .on(&RSA_2048),
];

async fn reads_steadily(attacker: Attacker, way: Way) -> Result<()> {
    let mut greeted = attacker.greet(way, hello("steady")).await?;
    let mut timer = interval(READ_INTERVAL);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut chunk = [0; READ_BYTES];
    for reads in 1.. {
        timer.tick().await;
        let count = greeted.stream.read(&mut chunk).await.unwrap_or(0);
        if count == 0 {
            attacker.tally("cut", 1);
            anyhow::bail!("cut");
        }
        attacker.tally("bytes", count as u64);
        if reads % READS_A_PING == 0 {
            greeted.send(&ClientMessage::Ping { sent_us: 0 }).await?;
        }
    }
    Ok(())
}

/// Joins and reads nothing until the server has ended the connection.
async fn never_reads(attacker: Attacker, way: Way) -> Result<()> {
    const CUT_WITHIN: Duration = Duration::from_secs(7);
    let greeted = attacker.greet(way, hello("deaf")).await?;
    sleep(CUT_WITHIN).await;
    drop(greeted);
    Ok(())
}

/// Returns the memory of each connection that is open now.
fn memory_each(scene: &Scene<'_>) -> Result<String> {
    let now = scene.server.process().resident_kib()?;
    let connections = scene.server.counters()?.value("gauge connections") - 2.0;
    let each = now.saturating_sub(scene.memory_kib) as f64 / connections.max(1.0);
    Ok(format!("{each:.1} KiB each of {connections}"))
}
