//! What strangers can do without ever being let in, and from where limits by address might not see them.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::BytesMut;
use cubesync_protocol::{
    ClientMessage, DatagramRequest, Hello, Message, RejectCode, ServerMessage,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::time::sleep;

use super::players::{half_a_hello, joins_and_leaves, newcomer_joins};
use crate::few::attack::Attack;
use crate::few::attackers::{Attacker, reset};
use crate::few::field;
use crate::few::trial::Scene;
use crate::harness::peer::{Peer, RED, Received};
use crate::harness::server::Setup;
use crate::harness::trial::{PATIENCE, hello};
use crate::harness::websocket;

const KEY: &str = "open sesame";
const KEYED: Setup = Setup {
    flags: &["--join-key", KEY],
    join_key: Some(KEY),
    ..crate::few::DEFAULT
};
/// A server that believes the attackers what they say about their visitors.
const BEHIND_A_PROXY: Setup = Setup {
    flags: &["--trust-proxy", "198.19.0.0/16"],
    ..crate::few::DEFAULT
};
const TEXT_PORT: u16 = 14_901;
const WITH_TEXT: Setup = Setup {
    flags: &["--text", "[::]:14901"],
    ..crate::few::DEFAULT
};

pub(super) const ATTACKS: &[Attack] = &[
    Attack::new("one-ipv6-56", |plan| plan.each(64, joins_and_stays))
        .from(&[256])
        .at(field::source_in_56)
        .reaching(&[
            "address_full",
            "too_many_arrivals",
            "server_full",
            "pending_full",
        ])
        .meanwhile(newcomer_joins),
    Attack::new("one-ipv6-48", |plan| plan.each(2, joins_and_leaves))
        .from(&[256])
        .at(field::source_in_48)
        .reaching(&["too_many_arrivals"])
        .meanwhile(newcomer_joins),
    Attack::new("thirty-ipv6-48", |plan| plan.each(16, half_a_hello))
        .from(&[240])
        .at(field::source_in_30_of_48)
        .reaching(&["pending_full"])
        .meanwhile(newcomer_joins),
    Attack::new("wrong-keys", |plan| plan.each(8, wrong_key))
        .on(&KEYED)
        .achieving(&[("tries", 10)])
        .reaching(&["too_many_tries"]),
    Attack::new("wrong-keys-10000", |plan| plan.each(1, wrong_keys_once))
        .on(&KEYED)
        .from(&[10_000])
        .lasting_s(25)
        .reaching(&["wrong_key"])
        .meanwhile(guesses_are_limited),
    Attack::new("proxied-loopback", |plan| plan.each(128, proxied))
        .on(&BEHIND_A_PROXY)
        .achieving(&[("requests", 64)])
        .reaching(&[
            "address_full",
            "too_many_arrivals",
            "pending_full",
            "cut too_many_arrivals",
        ])
        .meanwhile(newcomer_joins),
    Attack::new("typists", |plan| plan.each(64, types))
        .on(&WITH_TEXT)
        .achieving(&[("held", 32)])
        .meanwhile(newcomer_joins),
    Attack::new("garbage-datagrams", |plan| plan.each(1, garbage))
        .achieving(&[("packets", 2_000)])
        .reaching(&["udp foreign", "udp no_path"])
        .quick(),
    Attack::new("webrtc-offers", |plan| plan.each(8, offers))
        .achieving(&[("offers", 30)])
        .reaching(&["too_many_arrivals"]),
];

/// Joins one of many rooms and stays there.
async fn joins_and_stays(attacker: Attacker) -> Result<()> {
    const ROOMS: u32 = 64;
    let room = format!("room {}", fastrand::u32(..ROOMS));
    let mut joined = attacker.join(Hello::new(room, "many", RED)).await?;
    joined.client.read_for(Duration::from_secs(14)).await;
    Ok(())
}

async fn wrong_key(attacker: Attacker) -> Result<()> {
    let wrong = Hello {
        join_key: Some("open barley".into()),
        ..hello("guessing")
    };
    attacker.tally("tries", 1);
    attacker.join(wrong).await.map(drop)
}

/// Tries a wrong key from each address at some time.
async fn wrong_keys_once(attacker: Attacker) -> Result<()> {
    const SPREAD_S: f64 = 15.0;
    const OVER: Duration = Duration::from_secs(3_600);
    sleep(Duration::from_secs_f64(SPREAD_S * fastrand::f64())).await;
    let _ = wrong_key(attacker).await;
    sleep(OVER).await;
    Ok(())
}

/// Guesses from one more address, and joins from another one with the right key.
fn guesses_are_limited(scene: &Scene<'_>) -> Result<String> {
    const TRIES: usize = 30;
    let (tcp, stranger) = (scene.tcp(), field::source(50_000));
    let answered = scene.field.elsewhere(|| {
        let mut answered = 0;
        for _ in 0..TRIES {
            let mut peer = Peer::connect_from(stranger, tcp)?;
            let wrong = Hello {
                join_key: Some("open barley".into()),
                ..hello("guessing")
            };
            peer.send(&ClientMessage::Hello(wrong))?;
            if let Received::Message(ServerMessage::Reject { code, message }) =
                peer.receive(PATIENCE)?
            {
                let is_answer = code == RejectCode::JoinKey && !message.contains("too many");
                answered += usize::from(is_answer);
            }
        }
        let mut peer = Peer::connect(tcp)?;
        peer.join(Hello {
            join_key: Some(KEY.into()),
            ..hello("newcomer")
        })?;
        peer.leave()?;
        anyhow::Ok(answered)
    })?;
    ensure!(
        answered <= 10,
        "{answered} of {TRIES} guesses of one more address were answered"
    );
    Ok(format!(
        "{answered} of {TRIES} guesses of one more address were answered"
    ))
}

/// Joins as a browser behind a proxy on the server's own machine.
async fn proxied(attacker: Attacker) -> Result<()> {
    let http = attacker.plan.http;
    let mut stream = attacker.dial(http).await?;
    let headers = format!("{}X-Forwarded-For: 127.0.0.1\r\n", websocket::RIGHT_HEADERS);
    let greeting = ClientMessage::Hello(Hello::new("behind", "proxied", RED)).to_frame();
    stream
        .write_all(websocket::upgrade(http, &headers).as_bytes())
        .await?;
    attacker.tally("requests", 1);
    stream
        .write_all(&websocket::ws_frame(websocket::BINARY, &greeting))
        .await?;
    drain(stream).await
}

/// Gives a name, and types a line without an end.
async fn types(attacker: Attacker) -> Result<()> {
    let text = SocketAddr::new(attacker.plan.tcp.ip(), TEXT_PORT);
    let mut stream = attacker.dial(text).await?;
    stream.write_all(b"typist\n1 2").await?;
    attacker.tally("held", 1);
    drain(stream).await
}

/// Reads until the server ends the connection.
async fn drain(mut stream: tokio::net::TcpStream) -> Result<()> {
    let mut received = BytesMut::with_capacity(4_096);
    while stream.read_buf(&mut received).await? > 0 {
        received.clear();
    }
    anyhow::bail!("closed")
}

/// Sends 2,000 packets a second that no player sends.
async fn garbage(attacker: Attacker) -> Result<()> {
    const BURST: usize = 20;
    const PAUSE: Duration = Duration::from_millis(10);
    let socket = UdpSocket::bind(SocketAddr::new(attacker.source, 0)).await?;
    socket.connect(attacker.plan.tcp).await?;
    let (garbage, unknown) = ([0xFF; 1_200], [0x40; 64]);
    loop {
        for number in 0..BURST {
            let packet = if number % 2 == 0 {
                &garbage[..]
            } else {
                &unknown
            };
            // A full buffer is as good as a packet.
            let sent = socket.try_send(packet).is_ok();
            attacker.tally("packets", u64::from(sent));
        }
        sleep(PAUSE).await;
    }
}

/// Joins, asks for a data channel and vanishes.
async fn offers(attacker: Attacker) -> Result<()> {
    let offer = format!(
        "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
         m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:few1\r\n\
         a=ice-pwd:few0few0few0few0few0few0\r\na=fingerprint:sha-256 {}\r\na=setup:actpass\r\na=mid:0\r\n\
         a=sctp-port:5000\r\n",
        ["AB"; 32].join(":")
    );
    let mut joined = attacker.join(hello("offering")).await?;
    let request = DatagramRequest::WebRtc { offer };
    joined
        .client
        .send(&ClientMessage::OpenDatagrams(request))
        .await?;
    let answer = joined.client.find(|message| match message {
        ServerMessage::Datagrams(answer) => Some(format!("{answer:?}")),
        _ => None,
    });
    let is_taken = answer.await?.contains("WebRtc");
    attacker.tally(if is_taken { "offers" } else { "refused offers" }, 1);
    reset(&joined.client.stream)
}
