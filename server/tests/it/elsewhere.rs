//! Failover of a real client between two servers, which need no bus for this.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::BytesMut;
use cubesync_client::{Client, ClientEvent, ClientOptions, Status};
use cubesync_protocol::{
    Event, Message, Pose, Position, ServerAddress, ServerMessage, Welcome, frame,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Duration, sleep};

use crate::support::{Server, pose_of, soon};

/// Relays connections to a server and adds another server's address to its welcomes.
async fn add_to_welcomes(listener: TcpListener, server: SocketAddr, other: ServerAddress) {
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = TcpStream::connect(server).await.unwrap();
        let mut received = BytesMut::new();
        let mut hello = [0; 1024];
        let count = client.read(&mut hello).await.unwrap();
        server.write_all(&hello[..count]).await.unwrap();
        let welcome = loop {
            server.read_buf(&mut received).await.unwrap();
            let payload = frame::split(&mut received, ServerMessage::MAX_PAYLOAD_BYTES);
            if let Some(payload) = payload.unwrap() {
                break ServerMessage::decode(&payload).unwrap();
            }
        };
        let ServerMessage::Welcome(welcome) = welcome else {
            panic!("{welcome:?}");
        };
        let welcome = ServerMessage::Welcome(Welcome {
            servers: vec![other.clone()],
            ..welcome
        });
        client.write_all(&welcome.to_frame()).await.unwrap();
        client.write_all(&received).await.unwrap();
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}

struct Walker {
    client: Client,
    start: Instant,
    x_m: f32,
    events: Vec<ClientEvent>,
}

impl Walker {
    fn pose(&self) -> Pose {
        Pose {
            position: Position::from_metres([self.x_m, 0.0, 0.5]),
            ..Pose::default()
        }
    }

    /// Walks east until a condition holds.
    async fn until(&mut self, is_reached: impl Fn(&Self) -> bool) {
        let walk = async {
            while !is_reached(self) {
                self.client.poll(self.start.elapsed());
                self.events
                    .extend(std::iter::from_fn(|| self.client.next_event()));
                if let Some(own) = self.client.own_cube() {
                    self.x_m += 0.02;
                    self.client.set_pose(own, self.pose());
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        soon(walk).await;
    }
}

#[tokio::test]
async fn a_player_whose_server_dies_continues_at_the_next_one() {
    let (first, second) = (Server::start(&[]).await, Server::start(&[]).await);
    let other = ServerAddress {
        tcp: second.addresses.tcp.to_string(),
        web: second.addresses.http.to_string(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let front = listener.local_addr().unwrap().to_string();
    let naming = tokio::spawn(add_to_welcomes(
        listener,
        first.addresses.tcp,
        other.clone(),
    ));
    let mut watcher = second.join("watcher").await;

    let mut walker = Walker {
        client: Client::new(ClientOptions::new(&front, "Anna"), 1),
        start: Instant::now(),
        x_m: 20.0,
        events: Vec::new(),
    };
    walker.until(|walker| walker.x_m > 22.0).await;
    assert_eq!(walker.client.server(), front);
    naming.abort();
    walker
        .until(|walker| {
            walker.client.status() == Status::Joined && walker.client.server() == other.tcp
        })
        .await;
    let joined = watcher.find(|message| match message {
        ServerMessage::Snapshot(snapshot) => {
            snapshot.events.into_iter().find_map(|event| match event {
                Event::Joined(info) if info.name == "Anna" => Some(info),
                _ => None,
            })
        }
        _ => None,
    });
    let joined = joined.await;
    let joined_m = pose_of(&joined).position.to_metres()[0];
    assert!(
        (22.0..=walker.x_m).contains(&joined_m),
        "{joined_m} {}",
        walker.x_m
    );
    assert!(matches!(
        walker.events[..],
        [
            ClientEvent::Joined(_),
            ClientEvent::Disconnected { .. },
            ClientEvent::Rejoined(_)
        ]
    ));
    // The new server does not correct the player.
    walker.until(|walker| walker.x_m > 24.0).await;
    assert_eq!(walker.events.len(), 3, "{:?}", walker.events);
    drop(first);
}
