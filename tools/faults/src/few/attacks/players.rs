//! What players can send within the limits.

use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::{Bytes, BytesMut};
use cubesync_protocol::{
    ClientMessage, CubeId, CubeKind, CubePose, Hello, Message, Pose, ServerMessage,
};
use tokio::io::AsyncWriteExt;

use crate::few::attack::Attack;
use crate::few::attackers::{Attacker, Joined, reset};
use crate::few::trial::Scene;
use crate::harness::peer::{Peer, RED};
use crate::harness::trial::hello;

/// Connections of attackers that are in the lobby at a time: whoever is there is sent everybody's motion.
const IN_THE_LOBBY: usize = 256;
/// How often messages are sent, and how many at once: a little less than a connection may send.
const SEND_INTERVAL: Duration = Duration::from_millis(125);
const MESSAGES: usize = 30;

pub(super) const ATTACKS: &[Attack] = &[
    Attack::new("equal-names", |plan| plan.each(8, equal_names))
        .achieving(&[("joins", 40)])
        .reaching(&["too_many_arrivals"])
        .quick(),
    Attack::new("take-and-release", |plan| {
        plan.each_of(IN_THE_LOBBY, 64, take_and_release)
    })
    .achieving(&[("messages", 200)])
    .quick(),
    Attack::new("empty-samples", |plan| {
        plan.each_of(IN_THE_LOBBY, 64, empty_samples)
    })
    .achieving(&[("messages", 400)])
    .quick(),
    Attack::new("small-samples", |plan| {
        plan.each_of(IN_THE_LOBBY, 64, small_samples)
    })
    .achieving(&[("messages", 200)]),
    Attack::new("pings", |plan| plan.each_of(IN_THE_LOBBY, 64, pings))
        .achieving(&[("messages", 200)]),
    Attack::new("joins-and-leaves", |plan| plan.each(8, joins_and_leaves))
        .achieving(&[("joins", 40)])
        .reaching(&["too_many_arrivals"]),
    Attack::new("resume-flapping", |plan| plan.each(8, flaps))
        .achieving(&[("joins", 40)])
        .reaching(&["too_many_arrivals"]),
    Attack::new("rooms-left", |plan| plan.each(4, rooms))
        .from(&[1, 4, 30, 63])
        .achieving(&[("joins", 16)])
        .meanwhile(newcomer_opens_a_room)
        .afterwards(empty_rooms_cost_nothing),
    Attack::new("half-a-hello", |plan| plan.each(64, half_a_hello))
        .achieving(&[("held", 32)])
        .reaching(&["pending_full", "too_many_arrivals"])
        .meanwhile(newcomer_joins)
        .quick(),
    Attack::new("connect-and-close", |plan| plan.each(4, connects))
        .achieving(&[("connects", 100)])
        .reaching(&["too_many_arrivals"])
        .meanwhile(newcomer_joins),
];

async fn equal_names(attacker: Attacker) -> Result<()> {
    let joined = attacker.join(hello("Anna")).await?;
    reset(&joined.client.stream)
}

pub(super) async fn joins_and_leaves(attacker: Attacker) -> Result<()> {
    let joined = attacker.join(hello("Anna")).await?;
    joined.client.leave().await
}

/// Loses the connection and comes back by the token, again and again.
async fn flaps(attacker: Attacker) -> Result<()> {
    let mut resume = None;
    loop {
        let joined = attacker
            .join(Hello {
                resume,
                ..hello("flapping")
            })
            .await?;
        resume = Some(joined.welcome.resume);
        reset(&joined.client.stream)?;
    }
}

/// Sends as many messages as a connection may, and drops what comes.
async fn send_all(
    attacker: &Attacker,
    joined: &mut Joined,
    mut next: impl FnMut() -> ClientMessage,
) -> Result<()> {
    loop {
        let mut bytes = BytesMut::new();
        for _ in 0..MESSAGES {
            bytes.extend_from_slice(&next().to_frame());
        }
        joined.client.send_bytes(&bytes).await?;
        attacker.tally("messages", MESSAGES as u64);
        let is_over = joined.client.read_for(SEND_INTERVAL).await;
        ensure!(!is_over, "the server closed the connection");
    }
}

async fn take_and_release(attacker: Attacker) -> Result<()> {
    let mut joined = attacker.join(hello("taker")).await?;
    let cube = joined
        .client
        .find(|message| match message {
            ServerMessage::Keyframe(keyframe) => {
                let is_free = |kind| matches!(kind, CubeKind::Free { .. });
                let free = keyframe.cubes.iter().find(|info| is_free(info.kind));
                free.map(|info| info.cube)
            }
            _ => None,
        })
        .await?;
    let mut takes = false;
    send_all(&attacker, &mut joined, || {
        takes = !takes;
        match takes {
            true => ClientMessage::Take { cube },
            false => ClientMessage::Release { cube },
        }
    })
    .await
}

async fn pings(attacker: Attacker) -> Result<()> {
    let mut joined = attacker.join(hello("pinging")).await?;
    let ping = || ClientMessage::Ping { sent_us: 0 };
    send_all(&attacker, &mut joined, ping).await
}

/// Sends samples without content, each for a later tick.
async fn small_samples(attacker: Attacker) -> Result<()> {
    let mut joined = attacker.join(hello("talkative")).await?;
    let mut tick = joined.welcome.tick;
    let next = || {
        tick += 1;
        empty_sample(tick, Vec::new())
    };
    send_all(&attacker, &mut joined, next).await
}

/// Places cubes of others, then sends samples without content in bursts.
async fn empty_samples(attacker: Attacker) -> Result<()> {
    const BURST: usize = 440;
    const PAUSE: Duration = Duration::from_secs(2);
    let mut joined = attacker.join(hello("placing")).await?;
    let mut tick = joined.welcome.tick + 1;
    let foreign = (1..=8).map(|id| CubePose {
        cube: CubeId(id),
        pose: Pose::default(),
    });
    let first = empty_sample(tick, foreign.collect());
    joined.client.send(&first).await?;
    loop {
        let mut bytes = BytesMut::new();
        for _ in 0..BURST {
            tick += 1;
            bytes.extend_from_slice(&empty_sample(tick, Vec::new()).to_frame());
        }
        joined.client.send_bytes(&bytes).await?;
        attacker.tally("messages", BURST as u64);
        let is_over = joined.client.read_for(PAUSE).await;
        ensure!(!is_over, "the server closed the connection");
    }
}

fn empty_sample(tick: u64, placed: Vec<CubePose>) -> ClientMessage {
    ClientMessage::Sample {
        tick,
        placed,
        residuals: Bytes::new(),
    }
}

/// Opens a room and leaves it.
async fn rooms(attacker: Attacker) -> Result<()> {
    let name = format!("{} {}", attacker.source, fastrand::u32(..));
    let joined = attacker.join(Hello::new(name, "opener", RED)).await?;
    joined.client.leave().await
}

/// Keeps a connection with the beginning of a greeting until the server ends it.
pub(super) async fn half_a_hello(attacker: Attacker) -> Result<()> {
    let mut stream = attacker.dial(attacker.plan.tcp).await?;
    stream.write_all(&[0, 0, 0, 30, 0]).await?;
    attacker.tally("held", 1);
    let mut client =
        crate::harness::light_client::LightClient::over(stream, attacker.plan.tcp, false).await?;
    while client.read().await? > 0 {}
    anyhow::bail!("closed")
}

/// Connects and closes at once, a hundred times a second from each address.
async fn connects(attacker: Attacker) -> Result<()> {
    const PAUSE: Duration = Duration::from_millis(40);
    let stream = attacker.dial(attacker.plan.tcp).await?;
    attacker.tally("connects", 1);
    reset(&stream)?;
    drop(stream);
    tokio::time::sleep(PAUSE).await;
    Ok(())
}

/// Lets a newcomer from another address join the lobby.
pub(super) fn newcomer_joins(scene: &Scene<'_>) -> Result<String> {
    let tcp = scene.tcp();
    scene.field.elsewhere(|| {
        let mut peer = Peer::connect(tcp)?;
        peer.join(hello("newcomer"))?;
        peer.leave()
    })?;
    Ok("a newcomer gets in".into())
}

fn newcomer_opens_a_room(scene: &Scene<'_>) -> Result<String> {
    let tcp = scene.tcp();
    scene.field.elsewhere(|| {
        let mut peer = Peer::connect(tcp)?;
        peer.join(Hello::new("a room of my own", "newcomer", RED))?;
        peer.leave()
    })?;
    let rooms = scene.server.counters()?.value("gauge rooms");
    Ok(format!("{rooms} rooms; a newcomer opens one"))
}

/// Measures the server when the attackers are gone.
fn empty_rooms_cost_nothing(scene: &Scene<'_>) -> Result<String> {
    const WINDOW: Duration = Duration::from_secs(3);
    const MOST: f64 = 0.15;
    let process = scene.server.process();
    let before = process.cpu()?;
    std::thread::sleep(WINDOW);
    let cpu = (process.cpu()? - before).as_secs_f64() / WINDOW.as_secs_f64();
    ensure!(cpu < MOST, "empty rooms cost {cpu:.2} CPU seconds a second");
    Ok(format!("; afterwards CPU {cpu:.2}"))
}
