//! Datagrams for browsers over WebRTC: the browser's side is in memory, the sockets are real.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cubesync_protocol::datagram::{Downlink, Uplink};
use cubesync_protocol::{ClientMessage, DatagramAnswer, DatagramRequest, ServerMessage};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use self::testing::Browser;
use crate::support::{Client, Server, soon};

#[path = "../../src/datagram/webrtc/cryptography.rs"]
mod cryptography;
#[allow(dead_code, reason = "the server uses all of it")]
#[path = "../../src/datagram/webrtc/stun.rs"]
mod stun;
#[allow(dead_code, reason = "the server's own tests use all of it")]
#[path = "../../src/datagram/webrtc/testing.rs"]
mod testing;

/// A browser whose offer was answered.
struct Online {
    browser: Browser,
    socket: UdpSocket,
    server: SocketAddr,
}

impl Online {
    /// Asks for datagrams on a stream.
    async fn ask(stream: &mut Client) -> Self {
        let mut browser = Browser::new(Instant::now());
        let answer = ask_with(stream, browser.offer()).await;
        let DatagramAnswer::WebRtc { answer } = answer else {
            panic!("{answer:?}");
        };
        Self {
            server: browser.answer(&answer),
            browser,
            socket: UdpSocket::bind("127.0.0.1:0").await.unwrap(),
        }
    }

    async fn open(&mut self) {
        self.browser.ask();
        self.exchange().await;
        self.browser.begin(Instant::now());
        while !self.browser.is_open {
            self.exchange().await;
        }
    }

    /// Sends what there is, and takes what comes within a moment.
    async fn exchange(&mut self) {
        for packet in self.browser.packets.drain(..) {
            self.socket.send_to(&packet, self.server).await.unwrap();
        }
        let mut packet = [0; 2_048];
        let received = self.socket.recv(&mut packet);
        if let Ok(received) = timeout(Duration::from_millis(20), received).await {
            let len_bytes = received.unwrap();
            self.browser.receive(&packet[..len_bytes], Instant::now());
        }
        self.browser.handle_timeout(Instant::now());
    }

    async fn downlink(&mut self) -> Downlink {
        while self.browser.messages.is_empty() {
            self.exchange().await;
        }
        Downlink::decode(&self.browser.messages.remove(0)).unwrap()
    }
}

async fn ask_with(stream: &mut Client, offer: String) -> DatagramAnswer {
    let request = DatagramRequest::WebRtc { offer };
    stream.send(&ClientMessage::OpenDatagrams(request)).await;
    let answer = stream.find(|message| match message {
        ServerMessage::Datagrams(answer) => Some(answer),
        _ => None,
    });
    soon(answer).await
}

#[tokio::test]
async fn a_browser_sees_the_room_by_datagrams_as_long_as_its_stream_is_there() {
    let server = Server::start(&[]).await;
    let (mut anna, mut boris) = (server.join("Anna").await, server.join("Boris").await);
    let mut online = Online::ask(&mut anna.client).await;
    soon(online.open()).await;
    online
        .browser
        .send(&Uplink::default().encode(), Instant::now());
    let first = soon(online.downlink()).await;

    boris.step(1).await;
    let seen = async { while online.downlink().await.snapshots.is_empty() {} };
    soon(seen).await;
    assert!(first.snapshots.is_empty());
    server.counts("cubesync_datagram_paths 1").await;
    drop(anna);
    server.counts("cubesync_datagram_paths 0").await;
}

#[tokio::test]
async fn an_offer_that_is_none_costs_nothing_but_the_answer() {
    let server = Server::start(&[]).await;
    let mut anna = server.join("Anna").await;
    let answer = ask_with(&mut anna.client, "v=0\r\n".repeat(500)).await;
    assert_eq!(answer, DatagramAnswer::Unavailable);
    server
        .counts(r#"cubesync_datagram_openings_total{outcome="bad_offer"} 1"#)
        .await;
    server.counts("cubesync_datagram_paths 0").await;
}

#[tokio::test]
async fn strangers_get_no_answer_and_do_not_disturb() {
    let server = Server::start(&[]).await;
    let mut anna = server.join("Anna").await;
    let mut online = Online::ask(&mut anna.client).await;
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    // A handshake without a request first, a request with a wrong password, and one for nobody.
    online.browser.begin(Instant::now());
    let handshake = online.browser.packets.remove(0);
    online.browser.ask();
    let mut forged = online.browser.packets.pop().unwrap();
    let signature = forged.len() - 12;
    forged[signature] ^= 1;
    let password = stun::Password::new("a password of nobody");
    let nobody = stun::nomination([0; 12], "0123456789abcdef:nobody", &password);
    for packet in [&handshake, &forged, &nobody] {
        stranger.send_to(packet, online.server).await.unwrap();
    }
    server
        .counts(r#"cubesync_udp_received_total{outcome="no_path"} 2"#)
        .await;
    server
        .counts(r#"cubesync_udp_received_total{outcome="forged"} 1"#)
        .await;
    assert!(stranger.try_recv(&mut [0; 2_048]).is_err());
    soon(online.open()).await;
}

#[tokio::test]
async fn without_a_socket_for_datagrams_a_browser_is_told_so() {
    let server = Server::start(&["--udp", "off"]).await;
    let mut anna = server.join("Anna").await;
    let offer = Browser::new(Instant::now()).offer();
    let answer = ask_with(&mut anna.client, offer).await;
    assert_eq!(answer, DatagramAnswer::Unavailable);
}
