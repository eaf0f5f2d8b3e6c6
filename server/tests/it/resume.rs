//! Resuming: after a lost connection the cube stays as a ghost, and its player gets it back.

use cubesync_protocol::{
    ClientMessage, CloseCode, CubeId, CubeKind, Event, Hello, Pose, Position, ResumeToken,
    ServerMessage,
};

use crate::support::{COLOUR, Player, Server};

const FREE: CubeId = CubeId(0);

async fn resume(server: &Server, room: &str, token: ResumeToken) -> Player {
    let mut client = server.connect().await;
    let hello = Hello {
        resume: Some(token),
        ..Hello::new(room, "Anna", COLOUR)
    };
    client.send(&ClientMessage::Hello(hello)).await;
    client.welcomed().await
}

async fn server() -> Server {
    Server::start(&["--tick", "60", "--resume-within", "15s"]).await
}

#[tokio::test]
async fn a_disconnected_players_cube_is_a_ghost_until_the_token_is_used() {
    let server = server().await;
    let mut watcher = server.join("watcher").await;
    let mut anna = server.join("Anna").await;
    let (cube, token) = (anna.cube(), anna.welcome.resume);
    let pose = anna.step(300).await;
    watcher.sees(cube, pose).await;
    anna.client.send(&ClientMessage::Take { cube: FREE }).await;
    let events = watcher.events(1).await;
    assert_eq!(
        events,
        [Event::Taken {
            cube: FREE,
            by: cube
        }]
    );
    drop(anna);
    let events = watcher.events(2).await;
    assert_eq!(events, [Event::Freed { cube: FREE }, Event::Ghost { cube }]);
    let late = server.join("late").await;
    assert_eq!(late.knows(cube).unwrap().kind, CubeKind::Ghost);

    let mut back = resume(&server, "lobby", token).await;
    assert_eq!((back.cube(), back.welcome.pose), (cube, pose));
    assert_eq!(back.knows(cube).unwrap().kind, CubeKind::Player);
    assert_ne!(back.welcome.resume, token);
    let events = watcher.events(2).await;
    assert!(matches!(&events[0], Event::Joined(info) if info.cube == late.cube()));
    assert_eq!(events[1], Event::Returned { cube });
    let pose = back.step(10).await;
    watcher.sees(cube, pose).await;
}

#[tokio::test]
async fn a_ghost_whose_player_does_not_return_leaves_exactly_once() {
    let server = Server::start(&["--tick", "60", "--resume-within", "200ms"]).await;
    let mut watcher = server.join("watcher").await;
    let anna = server.join("Anna").await;
    let (cube, token) = (anna.cube(), anna.welcome.resume);
    drop(anna);
    let events = watcher.events(3).await;
    assert_eq!(events[1..], [Event::Ghost { cube }, Event::Left { cube }]);
    let again = resume(&server, "lobby", token).await;
    assert_ne!(again.cube(), cube, "an expired token is a new player");
    assert!(matches!(&watcher.events(1).await[0], Event::Joined(_)));
}

#[tokio::test]
async fn resuming_before_the_loss_is_noticed_replaces_the_old_connection() {
    let server = server().await;
    let mut old = server.join("Anna").await;
    let new = resume(&server, "lobby", old.welcome.resume).await;
    assert_eq!(
        (new.cube(), new.welcome.name.as_str()),
        (old.cube(), "Anna")
    );
    let closing = |message| match message {
        ServerMessage::Closing {
            code,
            retry_after_ms,
            ..
        } => Some((code, retry_after_ms)),
        _ => None,
    };
    assert_eq!(old.find(closing).await, (CloseCode::Replaced, None));
    assert_eq!(old.client.receive().await, None);
    server
        .counts("cubesync_disconnects_total{reason=\"replaced\"} 1")
        .await;
    server.counts("cubesync_cubes 2").await;
}

#[tokio::test]
async fn a_token_works_once_in_its_own_room_and_cannot_be_guessed() {
    let server = server().await;
    let anna = server.join("Anna").await;
    let (cube, token) = (anna.cube(), anna.welcome.resume);
    let elsewhere = resume(&server, "attic", token).await;
    assert_eq!(elsewhere.welcome.room, "attic");
    drop(anna);
    let back = resume(&server, "lobby", token).await;
    assert_eq!(back.cube(), cube);
    for wrong in [token, ResumeToken([0; 16])] {
        let stranger = resume(&server, "lobby", wrong).await;
        assert_ne!(stranger.cube(), cube);
    }
}

#[tokio::test]
async fn a_player_that_leaves_is_removed_at_once() {
    let server = server().await;
    let mut watcher = server.join("watcher").await;
    let mut anna = server.join("Anna").await;
    let (cube, token) = (anna.cube(), anna.welcome.resume);
    anna.client.send(&ClientMessage::Leave).await;
    let events = watcher.events(2).await;
    assert_eq!(events[1], Event::Left { cube });
    server
        .counts("cubesync_disconnects_total{reason=\"left\"} 1")
        .await;
    assert_ne!(resume(&server, "lobby", token).await.cube(), cube);
}

#[tokio::test]
async fn a_player_that_breaks_the_protocol_leaves_no_ghost() {
    let server = server().await;
    let mut watcher = server.join("watcher").await;
    let mut bad = server.join("bad").await;
    bad.client.send_bytes(&[0xFF; 4]).await;
    let events = watcher.events(2).await;
    assert_eq!(events[1], Event::Left { cube: bad.cube() });
}

#[tokio::test]
async fn after_a_restart_players_continue_at_the_poses_they_announce() {
    let server = server().await;
    let pose = Pose {
        position: Position {
            x: 51_200,
            y: -9_000,
            z: 256,
        },
        ..Pose::default()
    };
    let hello = |resume| Hello {
        resume,
        pose: Some(pose),
        ..Hello::new("lobby", "Anna", COLOUR)
    };
    for (resume, is_believed) in [(Some(ResumeToken([7; 16])), true), (None, false)] {
        let mut client = server.connect().await;
        client.send(&ClientMessage::Hello(hello(resume))).await;
        let player = client.welcomed().await;
        assert_eq!(player.welcome.pose == pose, is_believed);
    }
}
