//! The status page's events.

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::http::get;
use crate::support::{Server, soon};

/// The server's limit on viewers.
const MAX_VIEWERS: usize = 64;

/// A connection to the page's events.
struct Viewer {
    stream: BufReader<TcpStream>,
    status: u16,
}

impl Viewer {
    /// Sends a request in HTTP/1.0, so that the events are not split into chunks.
    async fn open(server: &Server) -> Self {
        Self::ask(server, "1.0").await
    }

    async fn ask(server: &Server, version: &str) -> Self {
        Self::ask_with(server, version, "").await
    }

    /// Opens a connection through a trusted proxy for a client with this address.
    async fn open_for(server: &Server, client: &str) -> Self {
        let forwarded = format!("X-Forwarded-For: {client}\r\n");
        Self::ask_with(server, "1.0", &forwarded).await
    }

    async fn ask_with(server: &Server, version: &str, headers: &str) -> Self {
        let mut stream = TcpStream::connect(server.addresses.http).await.unwrap();
        let request = format!("GET /status/events HTTP/{version}\r\nHost: test\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut viewer = Self {
            stream: BufReader::new(stream),
            status: 0,
        };
        let first = viewer.line().await;
        viewer.status = first.split(' ').nth(1).unwrap().parse().unwrap();
        while !viewer.line().await.is_empty() {}
        viewer
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        soon(self.stream.read_line(&mut line)).await.unwrap();
        line.trim_end().into()
    }

    /// Returns the next event's name and data.
    async fn event(&mut self) -> (String, Value) {
        let (mut name, mut data) = (String::new(), String::new());
        loop {
            let line = self.line().await;
            match line.split_once(": ") {
                Some(("event", value)) => name = value.into(),
                Some(("data", value)) => data = value.into(),
                None if line.is_empty() => return (name, serde_json::from_str(&data).unwrap()),
                _ => {}
            }
        }
    }

    /// Returns the first event `now` that `wanted` accepts.
    async fn now(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        soon(async {
            loop {
                let (name, now) = self.event().await;
                if name == "now" && wanted(&now) {
                    return now;
                }
            }
        })
        .await
    }
}

fn keys(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(|key| &**key)
        .collect()
}

#[tokio::test]
async fn viewers_get_the_history_and_then_the_present() {
    let server = Server::start(&["--tick", "60"]).await;
    let mut player = server.join("Вася").await;
    let _other = server.join_room("attic", "Anna").await;
    let pose = player.step(100).await;
    player.sees(player.cube(), pose).await;

    let mut viewer = Viewer::open(&server).await;
    assert_eq!(viewer.status, 200);
    let (name, history) = viewer.event().await;
    assert_eq!(name, "history");
    assert_eq!(keys(&history), ["samples", "tick_hz", "version"]);
    assert_eq!(history["tick_hz"], 60);
    assert_eq!(history["version"], env!("CARGO_PKG_VERSION"));

    let now = viewer
        .now(|now| now["sample"]["players"] == 2 && !now["sample"]["tick"].is_null())
        .await;
    assert_eq!(keys(&now), ["disconnects", "rooms", "sample", "uptime_s"]);
    let sample = &now["sample"];
    let expected = [
        "connections",
        "datagram_paths",
        "players",
        "players_by_room",
        "received",
        "rooms",
        "sent",
        "tick",
        "time_s",
    ];
    assert_eq!(keys(sample), expected);
    assert_eq!(
        (&sample["connections"], &sample["rooms"]),
        (&2.into(), &2.into())
    );
    let by_room = serde_json::json!({ "attic": 1, "lobby": 1 });
    assert_eq!(sample["players_by_room"], by_room);
    assert_eq!(
        keys(&sample["tick"]),
        ["count", "max_ms", "p50_ms", "p99_ms"]
    );
    let number = |value: &Value| value.as_f64().unwrap();
    assert!(number(&sample["tick"]["p50_ms"]) <= number(&sample["tick"]["max_ms"]));
    assert_eq!(
        keys(&sample["sent"]),
        ["bytes_per_s", "datagrams_per_s", "frames_per_s"]
    );
    let lobby = serde_json::json!({
        "name": "lobby", "players": 1, "ghosts": 0, "names": ["Вася"],
    });
    assert!(now["rooms"].as_array().unwrap().contains(&lobby), "{now}");

    player.hang_up().await;
    let later = viewer.now(|now| now["disconnects"]["closed"] == 1).await;
    assert!(number(&later["sample"]["time_s"]) > number(&sample["time_s"]));

    // A second viewer gets a history with the samples that the first one received.
    let (_, history) = Viewer::open(&server).await.event().await;
    assert!(history["samples"].as_array().unwrap().contains(sample));
}

#[tokio::test]
async fn the_number_of_viewers_is_bounded_and_slow_ones_delay_nobody() {
    let server = Server::start(&[]).await;
    let mut viewers = Vec::new();
    for _ in 0..MAX_VIEWERS {
        viewers.push(Viewer::open(&server).await);
    }
    assert!(viewers.iter().all(|viewer| viewer.status == 200));
    assert_eq!(Viewer::open(&server).await.status, 503);
    assert_eq!(get(server.addresses.http, "/status").await.status, 200);
    // Only one of them reads.
    let mut reader = viewers.pop().unwrap();
    let first = reader.now(|_| true).await;
    let second = reader.now(|_| true).await;
    assert_ne!(first, second);

    drop(reader);
    let free = async { while Viewer::open(&server).await.status != 200 {} };
    soon(free).await;
}

#[tokio::test]
async fn no_address_keeps_the_others_from_looking() {
    let server = Server::start(&["--trust-proxy", "127.0.0.1"]).await;
    let mut viewers = Vec::new();
    for last in 1..=8 {
        for _ in 0..8 {
            viewers.push(Viewer::open_for(&server, &format!("192.0.2.{last}")).await);
        }
        let further = Viewer::open_for(&server, &format!("192.0.2.{last}")).await;
        assert_eq!(further.status, 503, "it has its share");
    }
    assert_eq!(viewers.len(), MAX_VIEWERS);
    assert!(viewers.iter().all(|viewer| viewer.status == 200));
    // All places are taken, and one that has many gives one to another address.
    let mut newcomer = Viewer::open_for(&server, "198.51.100.1").await;
    assert_eq!(newcomer.status, 200);
    newcomer.now(|_| true).await;
    let ended = viewers.iter_mut().map(|viewer| {
        Box::pin(async move {
            let mut rest = String::new();
            viewer.stream.read_to_string(&mut rest).await.unwrap();
        })
    });
    soon(futures_util::future::select_all(ended)).await;
}

#[tokio::test]
async fn viewers_get_the_present_however_short_a_connection_lives() {
    let server = Server::start(&["--http-lifetime", "3s"]).await;
    let mut viewer = Viewer::open(&server).await;
    viewer.now(|_| true).await;
    let mut rest = String::new();
    soon(viewer.stream.read_to_string(&mut rest)).await.unwrap();
    assert!(
        rest.is_empty() || rest.ends_with("\n\n"),
        "no half of an event: {rest}"
    );
}

#[tokio::test]
async fn viewers_streams_end_when_the_server_stops() {
    let server = Server::start(&[]).await;
    let mut viewer = Viewer::ask(&server, "1.1").await;
    server.begin_stop();
    let mut rest = String::new();
    soon(viewer.stream.read_to_string(&mut rest)).await.unwrap();
    assert!(
        rest.ends_with("\r\n0\r\n\r\n"),
        "a chunked answer that ends as it should: {rest}"
    );
    server.stopped().await;
}
