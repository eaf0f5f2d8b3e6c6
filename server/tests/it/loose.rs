//! Loose cubes over real sockets: players push, take and throw them, and others see it.

use std::collections::BTreeSet;

use cubesync_protocol::{ClientMessage, CubeId, CubeKind, Pose, ServerMessage};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::http::get;
use crate::support::{Server, pose_of, program, soon};

const METRE: i32 = 512;
/// The cube in the middle of the field.
const MIDDLE: CubeId = CubeId(0);

fn is_outside(pose: Pose) -> bool {
    !pose.position.is_in_bounds()
}

#[tokio::test]
async fn a_cube_that_a_player_runs_into_moves_for_everybody() {
    let server = Server::start(&["--tick", "60", "--cubes", "60"]).await;
    let mut anna = server.join("Anna").await;
    let mut watcher = server.join("watcher").await;
    let welcome = &anna.welcome;
    assert!(welcome.physics);
    let known = (0..60).filter_map(|id| watcher.knows(CubeId(id)));
    let is_free = |kind| kind == CubeKind::Free { holder: None };
    assert_eq!(known.filter(|info| is_free(info.kind)).count(), 60);
    let start = pose_of(watcher.knows(MIDDLE).unwrap());
    let mut pose = Pose::default();
    pose.position.z = METRE / 2;
    for step in 0..12 {
        pose.position.x = (step - 12) * METRE / 4;
        let own = anna.cube();
        anna.sample(own, pose).await;
        watcher.sees(own, pose).await;
    }
    let pushed = watcher.sees_that(MIDDLE, |pose| {
        pose.position.x > start.position.x + METRE / 4
    });
    assert!(!is_outside(pushed.await));
}

#[tokio::test]
async fn a_cube_that_is_let_go_in_the_air_falls_to_the_floor() {
    let server = Server::start(&["--tick", "60", "--cubes", "1"]).await;
    let mut anna = server.join("Anna").await;
    let mut watcher = server.join("watcher").await;
    anna.client
        .send(&ClientMessage::Take { cube: MIDDLE })
        .await;
    let mut pose = pose_of(anna.knows(MIDDLE).unwrap());
    pose.position.z = 4 * METRE;
    anna.sample(MIDDLE, pose).await;
    watcher.sees(MIDDLE, pose).await;
    anna.client
        .send(&ClientMessage::Release { cube: MIDDLE })
        .await;
    watcher
        .sees_that(MIDDLE, |pose| pose.position.z < METRE)
        .await;
}

#[tokio::test]
async fn a_player_who_moves_what_is_not_theirs_or_teleports_into_a_wall_bursts_nothing() {
    let flags = ["--tick", "60", "--cubes", "60", "--max-speed", "0"];
    let server = Server::start(&flags).await;
    let mut eve = server.join("Eve").await;
    let mut watcher = server.join("watcher").await;
    let brick = pose_of(watcher.knows(CubeId(4)).unwrap());
    // A cube that nobody holds stays where it is, whatever a stranger claims.
    let mut claimed = brick;
    claimed.position.x += 100 * METRE;
    eve.sample(CubeId(4), claimed).await;
    let corrected = eve.find(|message| match message {
        ServerMessage::Correction { corrected, .. } => Some(corrected),
        _ => None,
    });
    assert_eq!(corrected.await.cube, CubeId(4));
    // There and away again, at any speed.
    let own = eve.cube();
    for step in 0..60 {
        let mut pose = brick;
        if step % 2 == 1 {
            pose.position.x = 250 * METRE;
        }
        eve.sample(own, pose).await;
        eve.next_update().await;
    }
    for id in 0..60 {
        let cube = CubeId(id);
        let pose = watcher.sees_that(cube, |_| true).await;
        assert!(!is_outside(pose) && pose.position.distance(brick.position) < 40 * METRE as u64);
    }
}

#[tokio::test]
async fn a_number_of_cubes_that_no_room_holds_is_refused() {
    for count in ["2001", "-1", "many"] {
        let output = program(&["--cubes", count]).output().await.unwrap();
        assert_eq!(output.status.code(), Some(2), "{count}");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains("--cubes"), "{error}");
    }
}

#[tokio::test]
async fn the_text_protocol_and_the_json_page_show_loose_cubes_like_any_other() {
    let server = Server::start(&["--cubes", "60", "--text", "127.0.0.1:0"]).await;
    let mut typist = TcpStream::connect(server.addresses.text.unwrap())
        .await
        .unwrap();
    typist.write_all(b"typist\n").await.unwrap();
    let mut lines = BufReader::new(typist).lines();
    let mut missing: BTreeSet<_> = (1..60).map(|id| format!("#{id} ")).collect();
    missing.insert("cube 0 0 0.5".to_owned());
    while !missing.is_empty() {
        let line = soon(lines.next_line()).await.unwrap().unwrap();
        missing.retain(|begin| !line.starts_with(begin));
    }
    let page = get(server.addresses.http, "/cubes.json").await.body;
    let room: Value = serde_json::from_str(&page).unwrap();
    let cubes = room["cubes"].as_array().unwrap();
    let free = cubes.iter().filter(|cube| cube["kind"] == "free");
    let widths: Vec<_> = free.map(|cube| cube["width"].as_f64().unwrap()).collect();
    assert_eq!(widths.len(), 60);
    assert!(widths.contains(&0.625) && widths.contains(&2.5));
}

#[tokio::test]
async fn a_player_far_from_a_collapse_gets_nothing_of_it() {
    let flags = ["--cubes", "60", "--view-distance", "32", "--max-speed", "0"];
    let server = Server::start(&flags).await;
    let [mut far, mut eve] = [server.join("far").await, server.join("Eve").await];
    let own = far.cube();
    far.sees_that(MIDDLE, |_| true).await;
    let mut away = far.welcome.pose;
    away.position.x = 200 * METRE;
    far.sample(own, away).await;
    while (0..60).any(|id| far.pose(CubeId(id)).is_some()) {
        far.receive().await;
    }
    // A wall falls.
    let brick = CubeId(4);
    let before = eve.sees_that(brick, |_| true).await;
    let mut pose = before;
    for step in 0..20 {
        pose.position.y = before.position.y + (step - 10) * METRE / 4;
        let cube = eve.cube();
        eve.sample(cube, pose).await;
        eve.next_update().await;
    }
    let moved = |pose: Pose| pose.position.distance(before.position) > METRE as u64 / 4;
    eve.sees_that(brick, moved).await;
    far.client.send(&ClientMessage::Ping { sent_us: 7 }).await;
    loop {
        let (message, update) = far.receive().await;
        let cubes = update.into_iter().flat_map(|update| update.cubes);
        let others: Vec<_> = cubes.filter(|moved| moved.cube != own).collect();
        assert_eq!(others, []);
        if let ServerMessage::Keyframe(keyframe) = &message {
            assert!(keyframe.cubes.iter().all(|info| info.cube == own));
        }
        if let ServerMessage::Pong { sent_us: 7, .. } = message {
            break;
        }
    }
}

#[tokio::test]
async fn a_player_who_takes_throws_and_retakes_a_cube_as_fast_as_they_can_breaks_nothing() {
    let flags = ["--tick", "60", "--cubes", "60", "--max-speed", "0"];
    let server = Server::start(&flags).await;
    let mut eve = server.join("Eve").await;
    let mut watcher = server.join("watcher").await;
    let start = pose_of(watcher.knows(MIDDLE).unwrap());
    for round in 0..40 {
        let take = ClientMessage::Take { cube: MIDDLE };
        eve.client.send(&take).await;
        // From one end of the world to the other in a tick.
        let mut pose = start;
        pose.position.x = if round % 2 == 0 { 250 } else { -250 } * METRE;
        pose.position.z = 3 * METRE;
        eve.sample(MIDDLE, pose).await;
        eve.release(MIDDLE).await;
        eve.next_update().await;
    }
    let rested = watcher
        .sees_that(MIDDLE, |pose| {
            assert!(!is_outside(pose));
            pose.position.x.abs() > 100 * METRE && pose.position.z < METRE
        })
        .await;
    assert!(rested.position.z > 0);
    // Nobody else's cubes have moved.
    let brick = pose_of(watcher.knows(CubeId(4)).unwrap());
    watcher.sees(CubeId(4), brick).await;
}
