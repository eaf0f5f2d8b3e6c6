//! The line protocol, as `nc` speaks it.

use cubesync_protocol::{CubeId, Pose, Position};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::{Server, soon};

struct Typist {
    stream: BufReader<TcpStream>,
}

impl Typist {
    async fn connect(server: &Server) -> Self {
        let address = server.addresses.text.expect("the text protocol is on");
        Self {
            stream: BufReader::new(TcpStream::connect(address).await.unwrap()),
        }
    }

    async fn says(&mut self, line: &str) {
        self.stream
            .get_mut()
            .write_all(format!("{line}\n").as_bytes())
            .await
            .unwrap();
    }

    /// The next line; empty at the end.
    async fn hears(&mut self) -> String {
        let mut line = String::new();
        soon(self.stream.read_line(&mut line)).await.unwrap();
        line
    }

    async fn hears_at_last(&mut self, expected: &str) {
        while self.hears().await != format!("{expected}\n") {}
    }
}

async fn server() -> Server {
    Server::start(&["--text", "127.0.0.1:0", "--tick", "60"]).await
}

#[tokio::test]
async fn typed_coordinates_move_a_cube_for_typists_and_players() {
    let server = server().await;
    let mut player = server.join("Anna").await;
    let mut anna = Typist::connect(&server).await;
    let mut boris = Typist::connect(&server).await;
    anna.says("Вася").await;
    anna.hears_at_last("cube 0 0 0.5").await;
    boris.says("Boris\r").await;
    boris.hears_at_last("cube 0 0 0.5").await;
    boris.says("200.5 -3 0.5").await;
    anna.hears_at_last("Boris 200.5 -3 0.5").await;
    boris.hears_at_last("Boris 200.5 -3 0.5").await;
    // The window sees Boris where he is, and the typists see the window's cube move.
    let [far] = ["200.5 -3 0.5"].map(|typed| {
        let metres: Vec<f32> = typed
            .split(' ')
            .map(|number| number.parse().unwrap())
            .collect();
        Position::from_metres(metres.try_into().unwrap())
    });
    let boris_cube = CubeId(3);
    player
        .sees(
            boris_cube,
            Pose {
                position: far,
                ..Pose::default()
            },
        )
        .await;
    let pose = player.step(512).await;
    loop {
        let line = anna.hears().await;
        if let Some(numbers) = line.strip_prefix("Anna ") {
            let metres: Vec<f32> = numbers
                .split_whitespace()
                .map(|word| word.parse().unwrap())
                .collect();
            let expected = pose.position.to_metres();
            if metres
                .iter()
                .zip(expected)
                .all(|(is, should)| (is - should).abs() < 0.02)
            {
                break;
            }
        }
    }
}

#[tokio::test]
async fn wrong_lines_are_answered_and_change_nothing() {
    let server = server().await;
    let mut typist = Typist::connect(&server).await;
    typist.says("").await;
    assert!(typist.hears().await.starts_with("error: a name needs"));
    typist.says("typist").await;
    typist.hears_at_last("cube 0 0 0.5").await;
    let long = "9".repeat(10_000);
    for (wrong, expected) in [
        ("1 2", "there are 2 numbers"),
        ("a b c", "\"a\" is no number"),
        ("0 0 99", "outside the world"),
        (long.as_str(), "the line is too long"),
    ] {
        typist.says(wrong).await;
        let answer = loop {
            let line = typist.hears().await;
            if line.starts_with("error") {
                break line;
            }
        };
        assert!(
            answer.contains(expected) && answer.contains("\"x y z\""),
            "{answer}"
        );
    }
    typist.says("1 2 3").await;
    typist.hears_at_last("typist 1 2 3").await;
}

#[tokio::test]
async fn a_typist_who_hangs_up_leaves_the_room() {
    let server = server().await;
    let mut typist = Typist::connect(&server).await;
    typist.says("typist").await;
    typist.hears_at_last("cube 0 0 0.5").await;
    server.counts("cubesync_cubes 2").await;
    drop(typist);
    server.counts("cubesync_cubes 1").await;
    server
        .counts("cubesync_disconnects_total{reason=\"left\"} 1")
        .await;
    server.counts("cubesync_connections 0").await;
}

#[tokio::test]
async fn a_typist_is_told_that_the_server_stops() {
    let server = server().await;
    let mut nameless = Typist::connect(&server).await;
    let mut typist = Typist::connect(&server).await;
    typist.says("typist").await;
    typist.hears_at_last("cube 0 0 0.5").await;
    server.begin_stop();
    typist
        .hears_at_last("error: the server is shutting down")
        .await;
    assert_eq!(typist.hears().await, "");
    assert_eq!(nameless.hears().await, "");
    server.stopped().await;
}
