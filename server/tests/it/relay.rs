//! Relaying: the cubes, joins and leaves that players see of each other.

use cubesync_protocol::{CubeId, Event, Pose, Position, Rotation, ServerMessage};

use crate::support::Server;

#[tokio::test]
async fn a_move_is_seen_by_the_other_players_and_the_mover() {
    let server = Server::start(&["--tick", "60"]).await;
    let mut anna = server.join("Anna").await;
    let mut boris = server.join("Boris").await;
    let mut vasya = server.join("Вася").await;
    let turned = Pose {
        position: Position {
            x: 100,
            y: -2_000,
            z: 300,
        },
        rotation: Rotation::from_quaternion([0.0, 0.0, 0.6, 0.8]),
    };
    let cube = anna.cube();
    anna.sample(cube, turned).await;
    for player in [&mut anna, &mut boris, &mut vasya] {
        player.sees(cube, turned).await;
    }
    let pose = vasya.step(50).await;
    anna.sees(vasya.cube(), pose).await;
    boris.sees(vasya.cube(), pose).await;
}

#[tokio::test]
async fn joins_and_leaves_are_sent_once_and_in_order() {
    let server = Server::start(&["--tick", "120"]).await;
    let mut watcher = server.join("watcher").await;
    let first = server.join("first").await;
    let second = server.join("second").await;
    let (one, two) = (first.cube(), second.cube());
    assert!(second.knows(one).is_some() && first.knows(two).is_none());
    drop(first);
    server.counts("cubesync_cubes 3").await;
    drop(second);
    let third = server.join("third").await;

    let mut seen = Vec::new();
    for event in watcher.events(5).await {
        match event {
            Event::Joined(info) => seen.push(format!("+{}", info.name)),
            Event::Left { cube } if cube == one => seen.push("-first".into()),
            Event::Left { cube } if cube == two => seen.push("-second".into()),
            other => panic!("{other:?}"),
        }
    }
    // The last leave and the last join are not ordered by anything the test does.
    assert_eq!(seen[..3], ["+first", "+second", "-first"]);
    let mut last = seen[3..].to_vec();
    last.sort();
    assert_eq!(last, ["+third", "-second"]);
    assert_eq!(third.knows(one), None);
}

#[tokio::test]
async fn rooms_do_not_see_each_other() {
    let server = Server::start(&["--tick", "120"]).await;
    let mut attic = server.join_room("attic", "Anna").await;
    let mut lobby = server.join("Anna").await;
    assert_eq!(
        (attic.welcome.name.as_str(), lobby.welcome.name.as_str()),
        ("Anna", "Anna")
    );
    lobby.step(100).await;
    let cubes = attic.keyframe.cubes.len();
    assert_eq!(cubes, 2, "the free cube and Anna's own");
    let pose = attic.step(70).await;
    let own = attic.cube();
    while !attic.has(own, pose) {
        let update = attic.next_update().await;
        assert!(update.events.is_empty() && update.cubes.iter().all(|moved| moved.cube == own));
    }
}

#[tokio::test]
async fn without_changes_only_heartbeats_are_sent() {
    let server = Server::start(&["--tick", "100"]).await;
    let mut player = server.join("Anna").await;
    let first = player.next_update().await.tick;
    let second = player.next_update().await;
    assert!(second.events.is_empty() && second.cubes.is_empty());
    assert!(
        second.tick >= first + 100,
        "{first} and {} are too close",
        second.tick
    );
}

#[tokio::test]
async fn a_pong_carries_the_tick_and_comes_between_ticks() {
    let server = Server::start(&["--tick", "1"]).await;
    let mut player = server.join("Anna").await;
    let pong = |message| match message {
        ServerMessage::Pong {
            sent_us,
            tick,
            since_tick_us,
            ..
        } => Some((sent_us, tick, since_tick_us)),
        _ => None,
    };
    for number in 0..50 {
        let ping = cubesync_protocol::ClientMessage::Ping { sent_us: number };
        player.client.send(&ping).await;
        let (sent_us, tick, since_tick_us) = player.find(pong).await;
        assert_eq!(sent_us, number);
        assert!(tick >= player.welcome.tick && since_tick_us < 2_000_000);
    }
}

#[tokio::test]
async fn a_move_that_is_too_fast_is_corrected_and_not_shown_to_others() {
    let server = Server::start(&["--tick", "60", "--max-speed", "10"]).await;
    let mut cheat = server.join("cheat").await;
    let mut watcher = server.join("watcher").await;
    let truth = cheat.welcome.pose;
    cheat.step(512 * 200).await;
    let correction = |message| match message {
        ServerMessage::Correction { corrected, .. } => Some(corrected),
        _ => None,
    };
    let corrected = cheat.find(correction).await;
    assert_eq!((corrected.cube, corrected.pose), (cheat.cube(), truth));
    cheat.welcome.pose = truth;
    let honest = cheat.step(100).await;
    while !watcher.has(cheat.cube(), honest) {
        for moved in watcher.next_update().await.cubes {
            let way = moved.pose.position.distance(truth.position);
            assert!(way < 1_000, "somebody saw the cheat {way} quanta away");
        }
    }
}

#[tokio::test]
async fn samples_of_others_cubes_and_of_unknown_cubes_have_no_effect() {
    let server = Server::start(&["--tick", "60"]).await;
    let mut thief = server.join("thief").await;
    let mut owner = server.join("owner").await;
    let theirs = owner.cube();
    let mut elsewhere = owner.welcome.pose;
    elsewhere.position.x += 512;
    thief.sample(CubeId(9_999), elsewhere).await;
    thief.sample(theirs, elsewhere).await;
    let correction = |message| match message {
        ServerMessage::Correction { corrected, .. } => Some(corrected),
        _ => None,
    };
    let corrected = thief.find(correction).await;
    assert_eq!(
        (corrected.cube, corrected.pose),
        (theirs, owner.welcome.pose)
    );
    let pose = owner.step(30).await;
    thief.sees(theirs, pose).await;
}
