//! The text protocol, as used with `nc`.

use cubesync_protocol::{CubeId, Pose, Position};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::{Server, soon};

struct TextClient {
    stream: BufReader<TcpStream>,
}

impl TextClient {
    async fn connect(server: &Server) -> Self {
        let address = server.addresses.text.expect("the text protocol is on");
        Self {
            stream: BufReader::new(TcpStream::connect(address).await.unwrap()),
        }
    }

    async fn types(&mut self, line: &str) {
        self.stream
            .get_mut()
            .write_all(format!("{line}\n").as_bytes())
            .await
            .unwrap();
    }

    /// Returns the next line, or an empty one at the end.
    async fn reads(&mut self) -> String {
        let mut line = String::new();
        soon(self.stream.read_line(&mut line)).await.unwrap();
        line
    }

    async fn waits_for(&mut self, expected: &str) {
        while self.reads().await != format!("{expected}\n") {}
    }
}

async fn server() -> Server {
    Server::start(&["--text", "127.0.0.1:0", "--tick", "60"]).await
}

#[tokio::test]
async fn typed_coordinates_move_a_cube_for_all_clients() {
    let server = server().await;
    let mut player = server.join("Anna").await;
    let mut anna = TextClient::connect(&server).await;
    let mut boris = TextClient::connect(&server).await;
    anna.types("Вася").await;
    anna.waits_for("cube 0 0 0.5").await;
    boris.types("Boris\r").await;
    boris.waits_for("cube 0 0 0.5").await;
    boris.types("200.5 -3 0.5").await;
    anna.waits_for("Boris 200.5 -3 0.5").await;
    boris.waits_for("Boris 200.5 -3 0.5").await;
    // The binary client sees Boris at his place, and the text clients see its cube move.
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
        let line = anna.reads().await;
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
    let mut typist = TextClient::connect(&server).await;
    typist.types("").await;
    assert!(typist.reads().await.starts_with("error: a name needs"));
    typist.types("typist").await;
    typist.waits_for("cube 0 0 0.5").await;
    let long = "9".repeat(10_000);
    for (wrong, expected) in [
        ("1 2", "there are 2 numbers"),
        ("a b c", "\"a\" is no number"),
        ("0 0 99", "outside the world"),
        (long.as_str(), "the line is too long"),
    ] {
        typist.types(wrong).await;
        let answer = loop {
            let line = typist.reads().await;
            if line.starts_with("error") {
                break line;
            }
        };
        assert!(
            answer.contains(expected) && answer.contains("\"x y z\""),
            "{answer}"
        );
    }
    typist.types("1 2 3").await;
    typist.waits_for("typist 1 2 3").await;
}

#[tokio::test]
async fn a_text_client_that_disconnects_leaves_the_room() {
    let server = server().await;
    let mut typist = TextClient::connect(&server).await;
    typist.types("typist").await;
    typist.waits_for("cube 0 0 0.5").await;
    server.counts("cubesync_cubes 2").await;
    drop(typist);
    server.counts("cubesync_cubes 1").await;
    server
        .counts("cubesync_disconnects_total{reason=\"left\"} 1")
        .await;
    server.counts("cubesync_connections 0").await;
}

#[tokio::test]
async fn a_text_client_gets_a_message_when_the_server_stops() {
    let server = server().await;
    let mut nameless = TextClient::connect(&server).await;
    let mut typist = TextClient::connect(&server).await;
    typist.types("typist").await;
    typist.waits_for("cube 0 0 0.5").await;
    server.begin_stop();
    typist.waits_for("error: the server is shutting down").await;
    assert_eq!(typist.reads().await, "");
    assert_eq!(nameless.reads().await, "");
    server.stopped().await;
}
