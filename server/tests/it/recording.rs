//! Recordings: playing them in a client and on a server.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cubesync_client::recorder::Recorder;
use cubesync_client::replay::Replay;
use cubesync_client::{Client, ClientOptions};
use cubesync_protocol::{ClientMessage, CubeId, CubeInfo, CubeKind, Event, Pose, Position};
use cubesync_recording::Recording;

use crate::support::{COLOUR, Server, pose_of, soon};

const FREE: CubeId = CubeId(0);

/// A temporary file, which is removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let name = format!("cubesync-it-{}-{name}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn flag(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn read(path: &Path) -> Recording {
    Recording::read(File::open(path).unwrap()).unwrap()
}

/// The position at which a cube is shown, in metres.
type Place = (CubeId, [f32; 3]);

/// Returns the pose of a player walking in a circle.
fn circle(now: Duration) -> Pose {
    let (sine, cosine) = (now.as_secs_f32() * 2.0).sin_cos();
    Pose {
        position: Position::from_metres([3.0 * cosine, 3.0 * sine, 0.5]),
        ..Pose::default()
    }
}

#[tokio::test]
async fn a_replay_shows_what_the_live_client_saw() {
    let server = Server::start(&[]).await;
    let scratch = Scratch::new("client");
    let address = server.addresses.tcp.to_string();
    let mut watcher = Client::new(ClientOptions::new(&*address, "Anna"), 1);
    let recorder = Recorder::create(&scratch.0, 1 << 20, |reason| panic!("{reason}")).unwrap();
    watcher.record(recorder.tap());
    let mut walker = Client::new(ClientOptions::new(&*address, "Vera"), 2);
    let began = Instant::now();
    let mut shown: Vec<(Duration, Vec<Place>)> = Vec::new();
    let mut seen_walking = 0;
    let play = async {
        while seen_walking < 150 {
            let now = began.elapsed();
            walker.poll(now);
            if let Some(own) = walker.own_cube() {
                walker.set_pose(own, circle(now));
            }
            walker.send(now);
            watcher.poll(now);
            let own = watcher.own_cube();
            let cubes = watcher.cubes(now);
            let others = cubes.iter().filter(|view| Some(view.cube) != own);
            let others: Vec<_> = others.map(|view| (view.cube, view.position)).collect();
            let before = shown.last();
            seen_walking += usize::from(before.is_some_and(|(_, before)| *before != others));
            shown.push((now, others));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon(play).await;
    drop(recorder);
    let mut replay = Replay::new(read(&scratch.0));
    let end = replay.end();
    let mut compared = 0;
    for (now, others) in shown {
        if now > end {
            break;
        }
        replay.advance(now);
        let cubes = replay.cubes();
        for (cube, position) in others {
            let view = cubes.iter().find(|view| view.cube == cube).unwrap();
            let [x, y] = [0, 1].map(|axis| view.position[axis] - position[axis]);
            assert!(x.hypot(y) < 0.001, "{cube}: {x} {y} at {now:?}");
            compared += 1;
        }
    }
    assert!(compared > 200, "{compared}");
}

#[tokio::test]
async fn a_recorded_lobby_is_played_by_players_of_the_same_names_with_the_free_cube() {
    let scratch = Scratch::new("server");
    let server = Server::start(&["--record", scratch.flag()]).await;
    let mut anna = server.join("Anna").await;
    let pose = anna.step(5_000).await;
    anna.sees(anna.cube(), pose).await;
    let take = ClientMessage::Take { cube: FREE };
    anna.client.send(&take).await;
    assert!(matches!(anna.events(1).await[..], [Event::Taken { .. }]));
    let mut carried = pose;
    carried.position.y += 1_500;
    anna.sample(FREE, carried).await;
    anna.sees(FREE, carried).await;
    server.begin_stop();
    server.stopped().await;
    assert_eq!(read(&scratch.0).damage(), None);

    let server = Server::start(&["--replay", scratch.flag(), "--max-speed", "1"]).await;
    let mut watcher = server.join("Vera").await;
    let mut known = watcher.keyframe.cubes.clone();
    let mut holder = None;
    // The recording loops, so its player joins again and again.
    loop {
        let anna = known.iter().rfind(|info| info.name == "Anna");
        if let Some(info) = anna
            && holder == Some(info.cube)
            && watcher.has(info.cube, pose)
            && watcher.has(FREE, carried)
        {
            assert_eq!((info.kind, info.colour), (CubeKind::Player, COLOUR));
            return;
        }
        for event in watcher.next_update().await.events {
            match event {
                Event::Joined(info) => known.push(info),
                Event::Left { cube } => known.retain(|info| info.cube != cube),
                Event::Taken { by, .. } => holder = Some(by),
                Event::Freed { .. } => holder = None,
                _ => {}
            }
        }
    }
}

#[tokio::test]
async fn a_recorded_field_is_played_with_its_loose_cubes_where_they_were() {
    let scratch = Scratch::new("field");
    let flags = ["--cubes", "30", "--max-speed", "0"];
    let server = Server::start(&[&flags[..], &["--record", scratch.flag()]].concat()).await;
    let mut anna = server.join("Anna").await;
    anna.client.send(&ClientMessage::Take { cube: FREE }).await;
    let mut lifted = pose_of(anna.knows(FREE).unwrap());
    lifted.position.x = 30 * 512;
    lifted.position.z = 3 * 512;
    anna.sample(FREE, lifted).await;
    anna.sees(FREE, lifted).await;
    let release = ClientMessage::Release { cube: FREE };
    anna.client.send(&release).await;
    let fallen = anna.sees_that(FREE, |pose| pose.position.z < 300).await;
    // The recording goes on until after that.
    let mut boris = server.join("Boris").await;
    for _ in 0..10 {
        let pose = boris.step(512).await;
        boris.sees(boris.cube(), pose).await;
    }
    server.begin_stop();
    server.stopped().await;

    let server = Server::start(&["--replay", scratch.flag()]).await;
    let mut watcher = server.join("Vera").await;
    assert!(!watcher.welcome.physics);
    let free = |info: &&CubeInfo| matches!(info.kind, CubeKind::Free { .. });
    let known = watcher.keyframe.cubes.iter().filter(free);
    assert_eq!(known.count(), 30);
    // Anna carries it up, and then it falls by itself, again and again.
    watcher.sees(FREE, lifted).await;
    let again = watcher.sees_that(FREE, |pose| pose.position.z < 300).await;
    let away = again.position.distance(fallen.position);
    assert!(away < 512, "{again:?} {fallen:?}");
}

#[tokio::test]
async fn a_recording_that_is_played_or_left_by_a_crash_is_kept() {
    let scratch = Scratch::new("kept");
    let second = Scratch(
        scratch
            .0
            .with_file_name(format!("cubesync-it-{}-kept-2", std::process::id())),
    );
    let server = Server::start(&["--record", scratch.flag()]).await;
    let _anna = server.join("Anna").await;
    server.begin_stop();
    server.stopped().await;
    let recorded = std::fs::read(&scratch.0).unwrap();

    let flags = ["--replay", scratch.flag(), "--record", scratch.flag()];
    let server = Server::start(&flags).await;
    let _vera = server.join("Vera").await;
    server.begin_stop();
    server.stopped().await;
    assert_eq!(std::fs::read(&scratch.0).unwrap(), recorded);
    assert_eq!(read(&second.0).damage(), None);
}

#[tokio::test]
async fn a_file_that_cannot_be_written_or_played_prevents_the_start_with_a_reason() {
    let scratch = Scratch::new("foreign");
    std::fs::write(&scratch.0, "not of ours").unwrap();
    let inside = scratch.0.join("a.rec");
    for (flag, file, expected) in [
        ("--record", inside.to_str().unwrap(), "; make it first"),
        ("--replay", scratch.flag(), "it is no recording of cubesync"),
    ] {
        let config = crate::support::config(&[flag, file]);
        let result = cubesync_server::run(config, Default::default(), |_| {}).await;
        let error = result.unwrap_err().to_string();
        assert!(error.ends_with(expected), "{error}");
    }
}
