//! The bus over a real nats-server.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cubesync_cluster::bus::{Bus, Nats, NatsSettings, Received, Subscription, Topic};
use cubesync_cluster::{Presence, Rules};
use rcgen::{CertificateParams, KeyPair};
use tokio::sync::mpsc;

use crate::http::get;
use crate::nats::NatsServer;
use crate::support::{Folder, Server, config, soon};

pub async fn join(url: &str, flags: &[&str]) -> Arc<Nats> {
    let flags = [&["--bus", url], flags].concat();
    Nats::start(settings(&flags)).await.unwrap()
}

pub fn settings(flags: &[&str]) -> NatsSettings {
    config(flags).cluster.nats().unwrap()
}

async fn becomes_connected(nats: &Nats, is_connected: bool) {
    soon(async {
        while nats.is_connected() != is_connected {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

fn listen(nats: &Nats, topic: &Topic) -> (mpsc::Receiver<Received>, Subscription) {
    let (sender, receiver) = mpsc::channel(64);
    let subscription = nats.subscribe(topic, sender);
    (receiver, subscription)
}

/// Publishes until a message arrives, because a subscription at NATS takes a moment.
async fn reach(nats: &Nats, topic: &Topic, receiver: &mut mpsc::Receiver<Received>) {
    let payload = Bytes::from(format!("{:016x}", fastrand::u64(..)));
    soon(async {
        loop {
            nats.publish(topic, payload.clone());
            let answer = tokio::time::timeout(Duration::from_millis(20), receiver.recv()).await;
            if matches!(answer, Ok(Some(message)) if message.payload == payload) {
                return;
            }
        }
    })
    .await;
}

fn room(name: &str) -> Topic {
    Topic::Room(name.to_owned())
}

#[tokio::test]
#[ignore = "needs nats-server; .ci/run installs and runs it"]
async fn messages_reach_the_topics_subscribers_and_not_their_publisher() {
    let server = NatsServer::start();
    let (anna, ben) = (
        join(&server.url(), &[]).await,
        join(&server.url(), &[]).await,
    );
    // Dots, stars and spaces have a meaning in the subjects of NATS.
    let rooms = [room("a.b *>"), room("a.b *"), room("ä")];
    for room in &rooms {
        let (mut own, _own) = listen(&anna, room);
        let (mut messages, _listening) = listen(&ben, room);
        reach(&anna, room, &mut messages).await;
        reach(&ben, room, &mut own).await;
        let payload = Bytes::from_static(b"last");
        anna.publish(room, payload.clone());
        soon(async { while messages.recv().await.unwrap().payload != payload {} }).await;
        reach(&ben, room, &mut own).await;
        assert!(own.is_empty(), "a publisher received its own messages");
    }
    let (mut elsewhere, _elsewhere) = listen(&ben, &rooms[0]);
    let (mut here, _here) = listen(&ben, &rooms[1]);
    reach(&anna, &rooms[1], &mut here).await;
    assert!(elsewhere.try_recv().is_err(), "rooms are apart");
}

#[tokio::test]
#[ignore = "needs nats-server; .ci/run installs and runs it"]
async fn clusters_on_one_nats_server_do_not_receive_each_others_messages() {
    let server = NatsServer::start();
    let join = |name| join_named(server.url(), name);
    let (ours, theirs, other) = (join("ours").await, join("theirs").await, join("ours").await);
    let (mut messages, _listening) = listen(&other, &Topic::Servers);
    let (mut messages_there, _there) = listen(&theirs, &Topic::Servers);
    reach(&ours, &Topic::Servers, &mut messages).await;
    assert!(messages_there.try_recv().is_err());
}

async fn join_named(url: String, name: &str) -> Arc<Nats> {
    join(&url, &["--cluster-name", name]).await
}

#[tokio::test]
#[ignore = "needs nats-server; .ci/run installs and runs it"]
async fn after_an_outage_of_nats_only_the_messages_of_that_time_are_lost() {
    let mut server = NatsServer::start();
    server.kill();
    let (anna, ben) = (
        join(&server.url(), &[]).await,
        join(&server.url(), &[]).await,
    );
    let (mut messages, listening) = listen(&ben, &room("lobby"));
    for _ in 0..2 {
        assert!(!anna.is_connected());
        let lost = anna.traffic().lost_sent;
        anna.publish(&room("lobby"), Bytes::from_static(b"old"));
        assert_eq!(anna.traffic().lost_sent, lost + 1);
        server.restart();
        becomes_connected(&anna, true).await;
        becomes_connected(&ben, true).await;
        soon(async {
            loop {
                anna.publish(&room("lobby"), Bytes::from_static(b"new"));
                let answer = tokio::time::timeout(Duration::from_millis(20), messages.recv()).await;
                if let Ok(message) = answer {
                    assert_eq!(message.unwrap().payload, "new");
                    return;
                }
            }
        })
        .await;
        server.kill();
        becomes_connected(&anna, false).await;
    }
    assert!(ben.traffic().received_bytes >= ben.traffic().received_messages * 3);
    drop(listening);
    while soon(messages.recv()).await.is_some() {}
}

#[tokio::test]
#[ignore = "needs nats-server; .ci/run installs and runs it"]
async fn a_full_channel_loses_messages_and_they_are_counted() {
    let server = NatsServer::start();
    let (anna, ben) = (
        join(&server.url(), &[]).await,
        join(&server.url(), &[]).await,
    );
    becomes_connected(&anna, true).await;
    let (sender, _never_read) = mpsc::channel(1);
    let _listening = ben.subscribe(&room("lobby"), sender);
    soon(async {
        while ben.traffic().lost_received == 0 {
            anna.publish(&room("lobby"), Bytes::from_static(b"hello"));
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(ben.traffic().received_messages, 1);
}

#[tokio::test]
#[ignore = "needs nats-server; .ci/run installs and runs it"]
async fn nats_may_require_a_login() {
    // The seed and the key of the same pair, from NATS's documentation.
    let seed = "SUANQDPB2RUOE4ETUA26CNX7FUKE5ZZKFCQIIW63OX225F2CO7UEXTM7ZY\n";
    let key = "UAMMBNV2EYR65NYZZ7IAK5SIR5ODNTTERJOBOF4KJLMWI45YOXOSWULM";
    let folder = Folder::new();
    let nkey = folder.write(
        "nats.conf",
        &format!("authorization {{ users: [ {{ nkey: {key} }} ] }}"),
    );
    let seed = folder.write("seed.nk", seed);
    let none: &[&str] = &[];
    for (server, login, flags) in [
        (
            &["--user", "anna", "--pass", "p@ss"][..],
            "anna:p%40ss@",
            none,
        ),
        (&["--auth", "t0ken"], "t0ken@", none),
        (&["--config", &nkey], "", &["--bus-credentials", &seed]),
    ] {
        let server = NatsServer::with(server);
        let url = format!("nats://{login}{}", server.address());
        becomes_connected(&*join(&url, flags).await, true).await;
        let nobody = server.url();
        let problem = Nats::try_once(&settings(&["--bus", &nobody]))
            .await
            .unwrap_err();
        assert!(problem.contains("authorization violation"), "{problem}");
    }
}

#[tokio::test]
#[ignore = "needs nats-server; .ci/run installs and runs it"]
async fn the_connection_to_nats_may_use_tls_with_certificates_on_both_ends() {
    let folder = Folder::new();
    let key = KeyPair::generate().unwrap();
    let parameters = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = parameters.self_signed(&key).unwrap();
    let key = folder.write("key.pem", &key.serialize_pem());
    let certificate = folder.write("cert.pem", &certificate.pem());
    let files = ["--tls", "--tlscert", &certificate, "--tlskey", &key];
    let server =
        NatsServer::with(&[&files[..], &["--tlsverify", "--tlscacert", &certificate]].concat());
    let url = format!("tls://{}", server.address());
    let trusting = ["--bus-ca", &certificate];
    let known = [
        &trusting[..],
        &["--bus-cert", &certificate, "--bus-key", &key],
    ]
    .concat();
    becomes_connected(&*join(&url, &known).await, true).await;
    for refused in [&trusting[..], &[]] {
        let flags = [&["--bus", &url], refused].concat();
        assert!(
            Nats::try_once(&settings(&flags)).await.is_err(),
            "{refused:?}"
        );
    }
}

#[tokio::test]
#[ignore = "needs nats-server; .ci/run installs and runs it"]
async fn players_get_the_addresses_of_the_other_servers_until_those_stop() {
    let nats = NatsServer::start();
    let url = nats.url();
    let there = "127.0.0.1:1";
    let first = Server::start(&["--bus", &url, "--public-address", there]).await;
    let alone = first.join("Anna").await;
    assert!(alone.welcome.servers.is_empty());
    let second = Server::start(&["--bus", &url]).await;
    first.counts("cubesync_cluster_servers 2").await;
    second.counts("cubesync_cluster_servers 2").await;
    second.counts("cubesync_cluster_players 1").await;
    second.counts("cubesync_bus_connected 1").await;

    let elsewhere = second.join("Ben").await.welcome.servers;
    let found = elsewhere
        .iter()
        .map(|server| (server.tcp.clone(), server.web.clone()));
    let expected = (there.to_owned(), first.addresses.http.to_string());
    assert!(found.eq([expected]), "{elsewhere:?}");

    second.begin_stop();
    second.stopped().await;
    first.counts("cubesync_cluster_servers 1").await;
    assert!(first.join("Carl").await.welcome.servers.is_empty());
}

#[tokio::test]
#[ignore = "needs nats-server; .ci/run installs and runs it"]
async fn pages_show_the_players_of_all_servers() {
    let nats = NatsServer::start();
    let flags = ["--bus", &nats.url(), "--view-distance", "32"];
    let (first, second) = (Server::start(&flags).await, Server::start(&flags).await);
    first.counts("cubesync_cluster_servers 2").await;
    let _anna = first.join("Anna").await;
    for path in ["/cubes.json", "/status"] {
        soon(async {
            while !get(second.addresses.http, path).await.body.contains("Anna") {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    }
}

#[tokio::test]
#[ignore = "needs nats-server; .ci/run installs and runs it"]
async fn invalid_messages_on_the_bus_end_nothing() {
    let nats = NatsServer::start();
    let stranger = join(&nats.url(), &[]).await;
    becomes_connected(&stranger, true).await;
    let (sender, mut messages) = mpsc::channel(1_024);
    let _announcements = stranger.subscribe(&Topic::Servers, sender.clone());
    let flags = ["--bus", &nats.url(), "--resume-within", "1s"];
    let (first, second) = (Server::start(&flags).await, Server::start(&flags).await);
    first.counts("cubesync_cluster_servers 2").await;
    let lobby = Rules::new(30, None).shared_name("lobby");
    let mut topics = vec![Topic::Servers, room(&lobby)];
    while topics.len() < 4 {
        let payload = soon(messages.recv()).await.unwrap().payload;
        let at = Topic::RoomAt(lobby.clone(), Presence::decode(&payload).unwrap().id);
        if !topics.contains(&at) {
            topics.push(at);
        }
    }
    let listen = |topic| stranger.subscribe(topic, sender.clone());
    let _listening: Vec<_> = topics[1..].iter().map(listen).collect();
    let (mut anna, mut ben) = (first.join("Anna").await, second.join("Ben").await);

    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..30 {
        anna.step(100).await;
        ben.step(100).await;
        let payload = soon(messages.recv()).await.unwrap().payload;
        let payloads =
            std::iter::from_fn(|| messages.try_recv().ok()).map(|message| message.payload);
        for payload in payloads.collect::<Vec<_>>().into_iter().chain([payload]) {
            for topic in &topics {
                stranger.publish(topic, payload.clone());
                stranger.publish(topic, damaged(&payload, &mut rng));
                stranger.publish(topic, (0..rng.u8(..)).map(|_| rng.u8(..)).collect());
            }
        }
    }
    stranger.flush().await;
    let _third = Server::start(&["--bus", &nats.url()]).await;
    for server in [&first, &second] {
        for task in ["room", "other"] {
            let line = format!("cubesync_panics_total{{task=\"{task}\"}} 0");
            server.counts(&line).await;
        }
    }
    let carl = first.join("Carl").await;
    assert_eq!(carl.welcome.room, "lobby");
}

#[tokio::test]
#[ignore = "needs nats-server; .ci/run installs and runs it"]
async fn servers_with_other_rules_have_rooms_of_their_own() {
    let nats = NatsServer::start();
    let flags = ["--bus", &nats.url()];
    let first = Server::start(&flags).await;
    let second = Server::start(&[&flags[..], &["--tick", "60"]].concat()).await;
    for server in [&first, &second] {
        server.counts("cubesync_cluster_servers 2").await;
        server.counts("cubesync_room_roles{role=\"owner\"} 1").await;
    }
    assert_eq!(first.join("Anna").await.welcome.tick_hz, 30);
    let ben = second.join("Ben").await;
    assert_eq!(ben.welcome.tick_hz, 60);
    assert!(ben.welcome.servers.is_empty());
}

/// Returns a message with a few bytes changed.
fn damaged(message: &[u8], rng: &mut fastrand::Rng) -> Bytes {
    let mut damaged = message.to_vec();
    for _ in 0..rng.usize(1..4) {
        let at = rng.usize(..damaged.len());
        // Some of these bytes begin long numbers.
        damaged[at] = rng
            .choice([0, 1, 250, 251, 252, 253, 255, rng.clone().u8(..)])
            .unwrap();
        if rng.bool() {
            damaged.insert(at, rng.u8(..));
        }
    }
    damaged.into()
}
