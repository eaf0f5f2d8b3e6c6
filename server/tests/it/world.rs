//! Loose cubes that outlive the server, in the file of `--world`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use cubesync_protocol::{ClientMessage, CubeId, Pose};
use cubesync_server::StartError;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio_util::sync::CancellationToken;

use crate::support::{Folder, PORTS, Server, config, is_near, pose_of, program, soon};

const METRE: i32 = 512;
/// The cube in the middle of the field, which nothing leans on.
const MIDDLE: CubeId = CubeId(0);

/// The files of a test's world.
struct Files(Folder);

impl Files {
    fn new() -> Self {
        Self(Folder::new())
    }

    fn world(&self) -> String {
        format!("{}/field.world", self.0.path())
    }

    fn names(&self) -> Vec<String> {
        let files = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> = files
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn text(&self) -> String {
        fs::read_to_string(self.world()).unwrap()
    }

    async fn start(&self, cubes: &str) -> Server {
        let world = self.world();
        let flags = ["--max-speed", "0", "--cubes", cubes, "--world", &world];
        Server::start(&flags).await
    }

    /// Tries to start a server on the file, and returns why it does not.
    async fn refusal(&self, world: &str) -> String {
        let config = config(&["--cubes", "60", "--world", world]);
        let running = cubesync_server::run(config, CancellationToken::new(), |_| {
            panic!("it started");
        });
        let error = soon(running).await.unwrap_err();
        assert!(matches!(error, StartError::World { .. }), "{error}");
        error.to_string()
    }
}

async fn stop(server: Server) {
    server.begin_stop();
    server.stopped().await;
}

/// Returns where a newcomer sees a cube.
async fn place_of(server: &Server, room: &str, cube: CubeId) -> Pose {
    let watcher = server.join_room(room, "watcher").await;
    pose_of(watcher.knows(cube).unwrap())
}

/// Puts a cube 20 metres from all others on the floor, and returns where it comes to rest.
async fn carry_away(server: &Server) -> Pose {
    let mut anna = server.join("Anna").await;
    anna.client
        .send(&ClientMessage::Take { cube: MIDDLE })
        .await;
    let mut pose = pose_of(anna.knows(MIDDLE).unwrap());
    pose.position.x += 40 * METRE;
    pose.position.z = METRE;
    anna.sample(MIDDLE, pose).await;
    anna.sees_that(MIDDLE, |seen| seen.position.x > pose.position.x - METRE)
        .await;
    anna.client
        .send(&ClientMessage::Release { cube: MIDDLE })
        .await;
    let rested = anna.sees_that(MIDDLE, |seen| seen.position.z < METRE * 2 / 3);
    let rested = rested.await;
    anna.hang_up().await;
    rested
}

#[tokio::test]
async fn a_cube_that_was_moved_is_where_it_was_after_a_restart() {
    let files = Files::new();
    let server = files.start("60").await;
    let began = place_of(&server, "lobby", MIDDLE).await;
    assert_eq!(files.text().lines().count(), 61);
    let rested = carry_away(&server).await;
    stop(server).await;
    let server = files.start("60").await;
    let place = place_of(&server, "lobby", MIDDLE).await;
    assert!(place.position.distance(rested.position) < METRE as u64);
    assert!(place.position.distance(began.position) > 20 * METRE as u64);
    // Others begin as they are arranged, and nothing in a heap has moved.
    assert!(is_near(place_of(&server, "den", MIDDLE).await, began));
    let before = files.text();
    stop(server).await;
    assert_eq!(files.names(), ["field.world", "field.world.lock"]);
    // What may have fallen another millimetre is this one alone.
    let after = files.text();
    let changed = before.lines().zip(after.lines());
    assert!(changed.filter(|(a, b)| a != b).count() <= 1);
}

#[tokio::test]
async fn a_cube_that_a_player_held_at_the_stop_falls_after_the_restart() {
    let files = Files::new();
    let server = files.start("60").await;
    let mut anna = server.join("Anna").await;
    anna.client
        .send(&ClientMessage::Take { cube: MIDDLE })
        .await;
    let mut pose = pose_of(anna.knows(MIDDLE).unwrap());
    pose.position.z = 20 * METRE;
    anna.sample(MIDDLE, pose).await;
    anna.sees(MIDDLE, pose).await;
    stop(server).await;
    assert!(files.text().contains(",20.0]"), "{}", files.text());
    let server = files.start("60").await;
    let mut watcher = server.join("watcher").await;
    watcher
        .sees_that(MIDDLE, |seen| seen.position.z < METRE)
        .await;
}

#[tokio::test]
async fn a_world_that_is_not_this_servers_is_kept_aside_under_a_new_name() {
    let files = Files::new();
    let server = files.start("60").await;
    let began = place_of(&server, "lobby", MIDDLE).await;
    stop(server).await;
    let good = files.text();
    let damaged = [
        good[..good.len() / 2].to_owned(),
        good.replacen(":1,", ":9,", 1),
        good.replacen("0.5]", "NaN]", 1),
        good.replacen("0.5]", "99.0]", 1),
        "\0\u{1}\u{2}".repeat(1_000),
        String::new(),
    ];
    for (text, number) in damaged.iter().zip(1..) {
        assert_ne!(*text, good);
        fs::write(files.world(), text).unwrap();
        let server = files.start("60").await;
        assert!(is_near(place_of(&server, "lobby", MIDDLE).await, began));
        stop(server).await;
        let aside = format!("{}.aside-{number}", files.world());
        assert_eq!(fs::read_to_string(aside).unwrap(), *text);
        assert_eq!(files.text(), good);
    }
    // The log names the file, the reason and what it is called now.
    let flags = ["--cubes", "30", "--world", &files.world()];
    let mut program = program(&PORTS).args(flags).spawn().unwrap();
    let mut lines = BufReader::new(program.stderr.take().unwrap()).lines();
    let warning = async {
        loop {
            let line = lines.next_line().await.unwrap().expect("it warns");
            if line.contains("aside-7") {
                return line;
            }
        }
    };
    let warning = soon(warning).await;
    assert!(warning.contains("it has 60 cubes, and this server has 30 (--cubes)"));
}

#[tokio::test]
async fn two_servers_do_not_share_a_file_and_a_bad_path_is_refused_with_the_remedy() {
    let files = Files::new();
    let server = files.start("60").await;
    let refusal = files.refusal(&files.world()).await;
    assert!(
        refusal.contains("another server keeps its world there"),
        "{refusal}"
    );
    stop(server).await;
    stop(files.start("60").await).await;
    let missing = format!("{}/missing/field.world", files.0.path());
    let refusal = files.refusal(&missing).await;
    assert!(
        refusal.contains("its folder does not exist; create it"),
        "{refusal}"
    );
    let refusal = files.refusal(files.0.path()).await;
    assert!(
        refusal.contains("it is no file; choose another"),
        "{refusal}"
    );
    #[cfg(unix)]
    {
        let pipe = format!("{}/pipe", files.0.path());
        crate::support::make_pipe(&pipe);
        let refusal = files.refusal(&pipe).await;
        assert!(refusal.contains("it is no file"), "{refusal}");
        // The system's own folder of processes takes no files, whoever asks.
        let refusal = files.refusal("/proc/field.world").await;
        assert!(refusal.contains("cannot keep the world"), "{refusal}");
    }
    let output = program(&["--cubes", "0", "--world", &files.world()]).output();
    let output = output.await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("with --cubes 0 there are none"), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_server_that_is_killed_at_any_time_leaves_a_whole_file() {
    let files = Files::new();
    for round in 0..12 {
        let flags = ["--cubes", "900", "--world", &files.world()];
        let mut server = program(&PORTS).args(flags).spawn().unwrap();
        if round % 2 == 0 {
            // A random moment while it starts, and writes the file.
            tokio::time::sleep(Duration::from_millis(fastrand::u64(1..60))).await;
        } else {
            let mut stdout = server.stdout.take().unwrap();
            soon(stdout.read_u8()).await.unwrap();
            crate::support::signal(&server, "TERM").await;
        }
        server.start_kill().unwrap();
        soon(server.wait()).await.unwrap();
        if Path::new(&files.world()).exists() {
            let text = files.text();
            assert!(text.ends_with("}\n") && text.lines().count() == 901);
        }
    }
    let server = files.start("900").await;
    assert!(!files.names().iter().any(|name| name.contains("aside")));
    stop(server).await;
}
