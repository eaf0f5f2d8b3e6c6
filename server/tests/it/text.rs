//! The text protocol, as used with `nc`.

use cubesync_protocol::{CubeId, Pose, Position};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
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

    /// Sends bytes, ends its own side, and returns everything that comes until the server closes.
    async fn asks(server: &Server, bytes: &[u8]) -> String {
        let mut answers = Vec::new();
        let mut stream = Self::connect(server).await.stream.into_inner();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        soon(stream.read_to_end(&mut answers)).await.unwrap();
        String::from_utf8_lossy(&answers).into_owned()
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
    let told = nameless.reads().await;
    assert!(
        told.contains("error: the server is shutting down"),
        "{told}"
    );
    server.stopped().await;
}

#[tokio::test]
async fn everything_that_was_asked_is_answered_though_the_client_has_ended_its_side() {
    let server = server().await;
    let answers = TextClient::asks(&server, b"Anna\n1 2 3\nx\n4 -5.25 0.5").await;
    assert!(answers.contains("\"x\" is no number"), "{answers}");
    assert!(answers.ends_with("Anna 4 -5.25 0.5\n"), "{answers}");
    let answers = TextClient::asks(&server, b"Boris\n").await;
    assert!(answers.contains("cube 0 0 0.5\n"), "{answers}");
    assert!(answers.contains("\nBoris "), "{answers}");
    let answers = TextClient::asks(&server, b"\n").await;
    assert!(answers.starts_with("error: a name needs"), "{answers}");
    assert_eq!(TextClient::asks(&server, b"").await, "");
    server.counts("cubesync_cubes 1").await;
    server
        .counts("cubesync_disconnects_total{reason=\"left\"} 4")
        .await;
}

#[tokio::test]
async fn a_line_that_is_no_name_is_answered_and_no_position_becomes_one() {
    let server = server().await;
    for (name, expected) in [
        (&b"J\xFCrgen"[..], "is not UTF-8"),
        (b"\xFF\xFEA\0n\0n\0a\0", "as UTF-16 has"),
        (&[b'x'; 300], "too long"),
        (b"", "at least one visible character"),
    ] {
        let stream = [name, b"\n1 2 3\n4 5 6\n"].concat();
        let answers = TextClient::asks(&server, &stream).await;
        let [first, rest @ ..] = &answers.lines().collect::<Vec<_>>()[..] else {
            panic!("there is no answer");
        };
        assert!(
            first.starts_with("error: ") && first.contains(expected),
            "{first}"
        );
        assert!(
            first.ends_with("type your name again: the next line is taken for it"),
            "{first}"
        );
        assert_eq!(rest.len(), 2, "{answers}");
        for line in rest {
            assert!(
                line.starts_with("error: this is a position, and a name comes first"),
                "{line}"
            );
        }
    }
    server.counts("cubesync_cubes 1").await;
}

#[tokio::test]
async fn telnets_negotiation_is_answered_and_is_no_part_of_lines() {
    let server = server().await;
    // WILL window size, DO timing mark, and a terminal's type in the middle of the name.
    let name = b"\xFF\xFB\x1F\xFF\xFD\x06An\xFF\xFA\x18\0xterm\n\xFF\xF0na\r\0";
    let mut anna = TextClient::connect(&server).await;
    anna.stream.get_mut().write_all(name).await.unwrap();
    let mut refusals = [0; 6];
    soon(anna.stream.read_exact(&mut refusals)).await.unwrap();
    assert_eq!(refusals, [255, 254, 31, 255, 252, 6]);
    anna.waits_for("cube 0 0 0.5").await;
    let keys = b"1 2 4\x083\r\xFF\xFD\x06";
    anna.stream.get_mut().write_all(keys).await.unwrap();
    let mut answers = Vec::new();
    while !answers.ends_with(b"Anna 1 2 3\n") || !answers.windows(3).any(|it| it == [255, 252, 6]) {
        answers.push(soon(anna.stream.read_u8()).await.unwrap());
    }
    // The key for the end, as Linux's telnet sends it.
    anna.stream
        .get_mut()
        .write_all(b"\xFF\xF4\xFF\xFD\x06")
        .await
        .unwrap();
    server
        .counts("cubesync_disconnects_total{reason=\"left\"} 1")
        .await;
}

#[tokio::test]
async fn names_are_told_and_cannot_be_taken_for_another_line() {
    let server = server().await;
    let mut anna = TextClient::connect(&server).await;
    anna.types("Anna").await;
    anna.waits_for("cube 0 0 0.5").await;
    let answers = TextClient::asks(&server, b"Anna\n7 7 7\n").await;
    assert!(
        answers.starts_with("error: the name Anna is in use: you are Anna-2\n"),
        "{answers}"
    );
    TextClient::asks(&server, b"error: told\n3 3 3\n").await;
    anna.waits_for("\"error: told\" 3 3 3").await;
}

#[tokio::test]
async fn other_protocols_learn_which_port_was_meant() {
    let server = server().await;
    let (game, pages) = (server.addresses.tcp.port(), server.addresses.http.port());
    let request = b"GET /status HTTP/1.1\r\nHost: test.localhost\r\n\r\n";
    let answers = TextClient::asks(&server, request).await;
    assert!(answers.starts_with("HTTP/1.1 400 "), "{answers}");
    assert!(
        answers.contains(&format!("the pages are at http://HOST:{pages}/")),
        "{answers}"
    );
    for beginning in [&b"\0\0\0\x20\0CUBE"[..], b"\x16\x03\x01\x02\0\x01"] {
        let answers = TextClient::asks(&server, beginning).await;
        assert!(
            answers.contains(&format!("the game is on port {game}")),
            "{answers}"
        );
    }
    server
        .counts("cubesync_disconnects_total{reason=\"not_hello\"} 3")
        .await;
}
