//! Peers that read slowly or never, in virtual time, over a stream that holds hardly anything.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bytes::BytesMut;
use clap::Parser;
use cubesync_protocol::{ClientMessage, Event, Hello, Message as _, ServerMessage, frame};
use cubesync_relay::Host;
use cubesync_relay::room::audience::Outlet;
use cubesync_relay::room::speed::SpeedRule;
use cubesync_relay::room::{Entrance, Membership, SightRule};
use cubesync_server::{Config, host};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, sleep};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_util::sync::CancellationToken;

use crate::support::COLOUR;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Number of cubes whose keyframe a thin line carries for twice as long as a peer may take nothing.
const CROWD: usize = 2_000;

/// What the server's side of a connection holds.
const BUFFER_BYTES: usize = 2_048;

/// A room with a crowd, whose members get what they see for nothing.
struct Room {
    host: Host,
    crowd: Vec<Membership>,
}

impl Room {
    async fn new() -> Self {
        let flags = [
            "cubesync-server",
            "--dead-after",
            "10m",
            "--max-cubes",
            "5000",
        ];
        let host = host(&Config::parse_from(flags), None, CancellationToken::new());
        let mut room = Self {
            host,
            crowd: Vec::new(),
        };
        for _ in 0..CROWD {
            room.enter().await;
        }
        room
    }

    async fn enter(&mut self) {
        let entrance = Entrance {
            name: format!("member {}", self.crowd.len()),
            colour: COLOUR,
            rule: SpeedRule::TopSpeed,
            sight: SightRule::Surroundings,
            resume: None,
            pose: None,
            outlet: Outlet::Nowhere,
            ended: CancellationToken::new(),
            peer: None,
        };
        let entered = self.host.rooms.enter("lobby", entrance, PEER).await;
        self.crowd.push(entered.unwrap());
    }

    /// Returns a player's connection over a stream, which TLS is for a session.
    async fn join(&self) -> DuplexStream {
        let (mut client, server) = tokio::io::duplex(BUFFER_BYTES);
        self.host.serve(server, PEER);
        client.write_all(&hello()).await.unwrap();
        client
    }

    /// Returns a player's connection over a WebSocket.
    async fn join_by_websocket(&self) -> DuplexStream {
        let (client, server) = tokio::io::duplex(BUFFER_BYTES);
        let host = self.host.clone();
        self.host.spawn(async move {
            cubesync_server::websocket::serve(&host, server, PEER).await;
        });
        let mut socket = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        socket.send(Message::Binary(hello())).await.unwrap();
        socket.into_inner()
    }

    fn cut_as_slow(&self) -> bool {
        let metrics = self.host.metrics.set.render();
        metrics.contains("cubesync_disconnects_total{reason=\"slow_reader\"} 1")
    }
}

fn hello() -> bytes::Bytes {
    ClientMessage::Hello(Hello::new("lobby", "reader", COLOUR)).to_frame()
}

/// Reads so many bytes a second. Returns false at the end of the connection.
async fn read_slowly(
    client: &mut DuplexStream,
    bytes_per_second: u64,
    received: &mut BytesMut,
) -> bool {
    sleep(Duration::from_millis(100)).await;
    let mut rest = (&mut *client).take(bytes_per_second / 10);
    let mut chunk = vec![0; bytes_per_second as usize / 10];
    match tokio::time::timeout(Duration::from_millis(1), rest.read(&mut chunk)).await {
        Ok(Ok(0) | Err(_)) => false,
        Ok(Ok(count)) => {
            received.extend_from_slice(&chunk[..count]);
            true
        }
        Err(_) => true,
    }
}

fn take_messages(received: &mut BytesMut) -> Vec<ServerMessage> {
    let limit = ServerMessage::MAX_PAYLOAD_BYTES;
    std::iter::from_fn(|| frame::split(received, limit).unwrap())
        .map(|payload| ServerMessage::decode(&payload).unwrap())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_thin_line_gets_one_keyframe_of_a_crowd_and_then_what_happens() {
    let mut room = Room::new().await;
    let mut client = room.join().await;
    let (mut received, mut keyframes, mut joins) = (BytesMut::new(), Vec::new(), 0);
    let begin = Instant::now();
    while joins < 200 {
        // There is news at more ticks than the log of a small room has.
        room.enter().await;
        let is_open = read_slowly(&mut client, 8 * 1024, &mut received).await;
        assert!(is_open, "cut after {:?}, joins {joins}", begin.elapsed());
        for message in take_messages(&mut received) {
            match message {
                ServerMessage::Keyframe(keyframe) => keyframes.push(keyframe.cubes.len()),
                ServerMessage::Snapshot(snapshot) => {
                    let is_join = |event: &&Event| matches!(event, Event::Joined(_));
                    joins += snapshot.events.iter().filter(is_join).count();
                }
                _ => {}
            }
        }
    }
    assert!(begin.elapsed() > Duration::from_secs(10));
    assert!(
        matches!(keyframes[..], [cubes] if cubes >= CROWD),
        "{keyframes:?}"
    );
    assert!(!room.cut_as_slow());
}

#[tokio::test(start_paused = true)]
async fn a_thin_line_is_waited_for_on_a_websocket_too() {
    let room = Room::new().await;
    let mut client = room.join_by_websocket().await;
    let (mut received, begin) = (BytesMut::new(), Instant::now());
    while received.len() < 50_000 {
        let is_open = read_slowly(&mut client, 8 * 1024, &mut received).await;
        assert!(is_open, "cut after {} bytes", received.len());
    }
    assert!(begin.elapsed() > Duration::from_secs(5));
    assert!(!room.cut_as_slow());
}

#[tokio::test(start_paused = true)]
async fn peers_that_read_nothing_or_hardly_anything_are_cut() {
    for bytes_per_second in [0, 1_000] {
        let room = Room::new().await;
        for mut client in [room.join().await, room.join_by_websocket().await] {
            let begin = Instant::now();
            let mut received = BytesMut::new();
            let before = room.host.metrics.set.render();
            while match bytes_per_second {
                0 => room.host.metrics.set.render() == before,
                rate => read_slowly(&mut client, rate, &mut received).await,
            } {
                sleep(Duration::from_millis(10)).await;
                assert!(begin.elapsed() < Duration::from_secs(30));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn pings_are_answered_between_messages_and_a_close_is_the_last_frame() {
    let room = Room::new().await;
    let (client, server) = tokio::io::duplex(BUFFER_BYTES);
    let host = room.host.clone();
    room.host.spawn(async move {
        cubesync_server::websocket::serve(&host, server, PEER).await;
    });
    let mut socket = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
    socket.send(Message::Binary(hello())).await.unwrap();
    socket.next().await.unwrap().unwrap();
    // Now the keyframe is on its way, and far from being through.
    sleep(Duration::from_millis(100)).await;
    socket.send(Message::Ping("a".into())).await.unwrap();
    socket.send(Message::Ping("b".into())).await.unwrap();
    let (mut pongs, mut bytes) = (Vec::new(), 0);
    while pongs.last().is_none_or(|last| last != "b") {
        match socket.next().await.unwrap().unwrap() {
            Message::Pong(payload) => pongs.push(String::from_utf8_lossy(&payload).into_owned()),
            Message::Binary(frames) => bytes += frames.len(),
            other => panic!("{other:?}"),
        }
    }
    assert!(bytes > 50_000, "the message came whole: {bytes}");
    socket.close(None).await.unwrap();
    let mut last = None;
    while let Some(message) = socket.next().await {
        last = Some(message.unwrap());
    }
    assert!(matches!(last, Some(Message::Close(_))), "{last:?}");
}
