//! What visitors of the pages can ask within the limits.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cubesync_harness::http;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::few::attack::Attack;
use crate::few::attackers::{Attacker, read_head};
use crate::few::trial::Scene;
use crate::harness::peer::Peer;
use crate::harness::trial::hello;

/// A room with nearly as many cubes as it may have.
const CROWDED: usize = 4_900;

pub(super) const ATTACKS: &[Attack] = &[
    Attack::new("cubes-json", |plan| {
        plan.each(64, |attacker| unread(attacker, "/cubes.json"))
    })
    .among_ghosts(CROWDED)
    .achieving(&[("requests", 64)])
    .quick(),
    Attack::new("cubes-json-read", |plan| plan.each(64, reads_all))
        .among_ghosts(CROWDED)
        .achieving(&[("answers", 8)])
        .reaching(&["http 429"]),
    Attack::new("pages-held", |plan| plan.each(64, half_a_head))
        .achieving(&[("held", 32)])
        .meanwhile(pages_and_a_browser)
        .quick(),
    Attack::new("events-held", |plan| {
        plan.each(64, |attacker| unread(attacker, "/status/events"))
    })
    .achieving(&[("requests", 32)])
    .meanwhile(pages_and_a_browser),
    Attack::new("requests-429", |plan| plan.each(16, asks_too_much))
        .achieving(&[("requests", 300)])
        .reaching(&["http 429"])
        .meanwhile(pages_and_a_browser)
        .quick(),
];

/// Asks for a page and does not read it.
async fn unread(attacker: Attacker, target: &'static str) -> Result<()> {
    const HELD: Duration = Duration::from_secs(4);
    let stream = attacker.request(target).await?;
    tokio::time::sleep(HELD).await;
    drop(stream);
    Ok(())
}

/// Asks for a room's cubes on one connection, and reads each answer as fast as it comes.
async fn reads_all(attacker: Attacker) -> Result<()> {
    let mut stream = attacker.dial(attacker.plan.http).await?;
    let request = attacker.head("/cubes.json");
    let mut chunk = vec![0; 64 * 1024];
    loop {
        stream.write_all(&request).await?;
        let head = read_head(&mut stream).await?;
        let head = String::from_utf8_lossy(&head);
        let len_bytes = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let mut left: usize = len_bytes.context("an answer without a length")?.parse()?;
        while left > 0 {
            let at_most = left.min(chunk.len());
            let count = stream.read(&mut chunk[..at_most]).await?;
            ensure!(count > 0, "closed");
            left -= count;
        }
        attacker.tally(
            if head.contains(" 200 ") {
                "answers"
            } else {
                "refusals"
            },
            1,
        );
    }
}

/// Keeps a connection with the beginning of a request until the server ends it.
async fn half_a_head(attacker: Attacker) -> Result<()> {
    let mut stream = attacker.dial(attacker.plan.http).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: ").await?;
    attacker.tally("held", 1);
    let mut chunk = [0; 1024];
    while stream.read(&mut chunk).await? > 0 {}
    anyhow::bail!("closed")
}

/// Sends requests on one connection as fast as answers come.
async fn asks_too_much(attacker: Attacker) -> Result<()> {
    const AT_ONCE: usize = 32;
    let mut stream = attacker.dial(attacker.plan.http).await?;
    let requests = attacker.head("/status/status.css").repeat(AT_ONCE);
    let mut chunk = [0; 64 * 1024];
    loop {
        stream.write_all(&requests).await?;
        attacker.tally("requests", AT_ONCE as u64);
        ensure!(stream.read(&mut chunk).await? > 0, "closed");
    }
}

/// Asks from another address whether the server is well, and joins as a browser does.
fn pages_and_a_browser(scene: &Scene<'_>) -> Result<String> {
    let address = scene.http();
    scene.field.elsewhere(|| {
        let health = http::get(address, "/healthz")?;
        ensure!(health.status == Some(200), "/healthz: {:?}", health.status);
        let page = http::get(address, "/")?;
        ensure!(page.status == Some(200), "/: {:?}", page.status);
        let mut peer = Peer::websocket(address)?;
        peer.join(hello("browser"))?;
        peer.leave()
    })?;
    Ok("the pages answer and a browser gets in".into())
}
