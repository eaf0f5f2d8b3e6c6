//! Datagrams beside the stream, over loopback: what they bring, and what strangers get.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cubesync_client::lab::Conditions;
use cubesync_client::{Client, ClientOptions, Statistics, Way};
use cubesync_protocol::datagram::{Downlink, Uplink};
use cubesync_protocol::seal::{Direction, Opener, Sealer};
use cubesync_protocol::{
    ClientMessage, DatagramAnswer, DatagramRequest, Pose, Position, ServerMessage,
};
use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};

use crate::support::{Player, Server, soon};

/// A walker and a viewer on the client library.
struct Pair {
    walker: Client,
    viewer: Client,
    start: Instant,
    x_m: f32,
}

impl Pair {
    fn new(server: &Server, change: impl Fn(&mut ClientOptions)) -> Self {
        let client = |name| {
            let mut options = ClientOptions::new(server.addresses.tcp.to_string(), name);
            change(&mut options);
            Client::new(options, 1)
        };
        Self {
            walker: client("walker"),
            viewer: client("viewer"),
            start: Instant::now(),
            x_m: 0.0,
        }
    }

    /// Walks to and fro until a condition holds.
    async fn until(&mut self, is_reached: impl Fn(&Self) -> bool) {
        let walk = async {
            while !is_reached(self) {
                let now = self.start.elapsed();
                self.x_m = 20.0 + (now.as_secs_f32() * 7.0).sin();
                for client in [&mut self.walker, &mut self.viewer] {
                    client.poll(now);
                    while client.next_event().is_some() {}
                }
                if let Some(own) = self.walker.own_cube() {
                    let position = Position::from_metres([self.x_m, 0.0, 0.5]);
                    let pose = Pose {
                        position,
                        ..Pose::default()
                    };
                    self.walker.set_pose(own, pose);
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        soon(walk).await;
    }

    /// Walks until the viewer has seen as much, by whichever way.
    async fn until_seen(&mut self, snapshots: u64) {
        let seen = |statistics: Statistics| {
            statistics.snapshots_by_datagram + statistics.snapshots_by_stream
        };
        let before = seen(self.viewer.statistics());
        self.until(|pair| seen(pair.viewer.statistics()) >= before + snapshots)
            .await;
    }
}

#[tokio::test]
async fn on_a_bad_network_ticks_and_samples_come_first_by_datagram() {
    let server = Server::start(&[]).await;
    let mut pair = Pair::new(&server, |options| {
        options.lab = Conditions {
            latency: Duration::from_millis(5),
            loss_permille: 200,
            ..Conditions::default()
        };
    });
    pair.until(|pair| {
        let viewer = pair.viewer.statistics();
        viewer.snapshots_by_datagram > 20 && pair.walker.statistics().datagrams_out > 20
    })
    .await;
    let has_won = pair
        .viewer
        .arrivals()
        .any(|arrival| arrival.way == Way::Datagram);
    assert!(has_won);
    server.counts("cubesync_datagram_paths 2").await;
    let metrics = super::http::get(server.addresses.http, "/metrics")
        .await
        .body;
    let new = "cubesync_received_datagrams_total{use=\"new\"} 0";
    assert!(!metrics.contains(new), "{metrics}");
    drop(pair);
    server.counts("cubesync_datagram_paths 0").await;
}

#[tokio::test]
async fn a_port_that_the_system_chose_is_the_datagrams_too() {
    // Another program's socket may have the port for UDP, but hardly that of each server.
    let mut same = 0;
    for _ in 0..3 {
        let server = Server::start(&[]).await;
        same += usize::from(server.addresses.udp == Some(server.addresses.tcp));
    }
    assert!(same > 0);
}

#[tokio::test]
async fn without_datagrams_everything_comes_by_the_stream() {
    let off = Server::start(&["--udp", "off"]).await;
    assert_eq!(off.addresses.udp, None);
    let on = Server::start(&[]).await;
    let mut pairs = [
        Pair::new(&off, |_| {}),
        Pair::new(&on, |options| options.datagrams = false),
        // As behind a firewall that lets no UDP through.
        Pair::new(&on, |options| options.lab.blocks_datagrams = true),
    ];
    for pair in &mut pairs {
        pair.until_seen(20).await;
        let viewer = pair.viewer.statistics();
        assert_eq!((viewer.datagrams_in, viewer.snapshots_by_datagram), (0, 0));
        assert_eq!(viewer.datagram_loss, None);
    }
}

#[tokio::test]
async fn nothing_is_missed_when_udp_is_blocked_halfway_and_opened_again() {
    let server = Server::start(&[]).await;
    let mut pair = Pair::new(&server, |_| {});
    pair.until(|pair| pair.viewer.statistics().snapshots_by_datagram > 5)
        .await;
    for is_blocked in [true, false] {
        for client in [&mut pair.walker, &mut pair.viewer] {
            client.set_lab(Conditions {
                blocks_datagrams: is_blocked,
                ..Conditions::default()
            });
        }
        let before = pair.viewer.statistics();
        pair.until_seen(20).await;
        if !is_blocked {
            // A way that was broken is tried once a second.
            pair.until(|pair| pair.viewer.statistics().datagrams_in > before.datagrams_in)
                .await;
        }
        let after = pair.viewer.statistics();
        assert!(is_blocked || after.datagrams_in > before.datagrams_in);
        assert_eq!(after.missing_ticks, 0);
    }
}

/// A player who speaks by hand, with a path for datagrams.
struct Path {
    player: Player,
    sealer: Sealer,
    opener: Opener,
    server: SocketAddr,
}

impl Path {
    async fn open(server: &Server) -> Self {
        let mut player = server.join("Anna").await;
        let request = ClientMessage::OpenDatagrams(DatagramRequest::Udp);
        player.client.send(&request).await;
        let answer = player.find(|message| match message {
            ServerMessage::Datagrams(answer) => Some(answer),
            _ => None,
        });
        let DatagramAnswer::Udp { path, key, .. } = answer.await else {
            panic!("no way for datagrams");
        };
        Self {
            player,
            sealer: Sealer::new(key.0, path.0, Direction::Up),
            opener: Opener::new(key.0, Direction::Down),
            server: server.addresses.udp.unwrap(),
        }
    }

    /// Returns the next packet, which holds no samples.
    fn packet(&mut self) -> Vec<u8> {
        let uplink = Uplink::default();
        let mut packet = Vec::new();
        self.sealer.seal(&uplink.encode(), &mut packet).unwrap();
        packet
    }

    /// Waits for a datagram of the server at a socket.
    async fn receive(&mut self, at: &UdpSocket) -> Downlink {
        let mut packet = [0; 2_048];
        let received = soon(at.recv_from(&mut packet)).await.unwrap();
        let (len_bytes, from) = received;
        assert_eq!(from, self.server);
        let opened = self.opener.open(&mut packet[..len_bytes]).unwrap();
        Downlink::decode(opened.datagram).unwrap()
    }

    /// Sends packets from a socket until one is answered there: a flood may push some out.
    async fn answered(&mut self, at: &UdpSocket) {
        const EACH: Duration = Duration::from_millis(200);
        let asking = async {
            loop {
                let packet = self.packet();
                self.send(&packet, at).await;
                if timeout(EACH, self.receive(at)).await.is_ok() {
                    return;
                }
            }
        };
        soon(asking).await;
    }

    async fn send(&self, packet: &[u8], from: &UdpSocket) {
        from.send_to(packet, self.server).await.unwrap();
    }
}

async fn socket(address: &str) -> UdpSocket {
    UdpSocket::bind((address, 0)).await.unwrap()
}

/// Returns whether a socket has received anything.
fn has_received(socket: &UdpSocket) -> bool {
    socket.try_recv(&mut [0; 2_048]).is_ok()
}

#[tokio::test]
async fn datagrams_follow_a_nat_that_changes_the_port_and_no_replay() {
    let server = Server::start(&[]).await;
    let mut path = Path::open(&server).await;
    let [before, after] = [socket("127.0.0.1").await, socket("127.0.0.1").await];
    let [first, second] = [path.packet(), path.packet()];
    path.send(&first, &before).await;
    let known = path.receive(&before).await;
    assert!(
        known.complete > 0 && known.snapshots.is_empty(),
        "{known:?}"
    );
    path.send(&second, &after).await;
    path.receive(&after).await;
    while has_received(&before) {}
    for replayed in [&first, &second] {
        path.send(replayed, &before).await;
    }
    for _ in 0..2 {
        path.receive(&after).await;
    }
    assert!(!has_received(&before), "a replay has moved the path");
    server
        .counts("cubesync_udp_received_total{outcome=\"replayed\"} 2")
        .await;
}

#[tokio::test]
async fn strangers_get_no_answer_and_change_nothing() {
    let server = Server::start(&[]).await;
    let mut path = Path::open(&server).await;
    let (own, stranger) = (socket("127.0.0.1").await, socket("127.0.0.1").await);
    let elsewhere = socket("127.0.0.2").await;
    let packet = path.packet();
    // The player's own packet, sent on by somebody else before the player's host was heard.
    path.send(&packet, &elsewhere).await;
    let mut forged = packet.clone();
    *forged.last_mut().unwrap() ^= 1;
    for number in 0..1_000_u32 {
        let unknown = [&[0x40][..], &[7; 40]].concat();
        let long = vec![number as u8; 1_900];
        for packet in [&b""[..], b"garbage", &forged, &unknown, &long] {
            path.send(packet, &stranger).await;
        }
        if number % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    path.answered(&own).await;
    assert!(!has_received(&stranger) && !has_received(&elsewhere));
    server
        .counts("cubesync_udp_received_total{outcome=\"other_host\"} 1")
        .await;
    let metrics = super::http::get(server.addresses.http, "/metrics")
        .await
        .body;
    for outcome in ["foreign", "no_path", "forged"] {
        let none = format!("cubesync_udp_received_total{{outcome=\"{outcome}\"}} 0");
        assert!(!metrics.lines().any(|line| line == none), "{metrics}");
    }
    // Others, and the player's stream, have not noticed.
    path.player.next_update().await;
}
