//! What strangers can ask for with TLS handshakes, which cost a signature each.

use std::net::SocketAddr;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::soon;
use crate::tls::{Pair, Player, ask, connect_with, connector, counts};

/// Returns the first bytes that a browser sends.
async fn recorded_hello(pair: &Pair) -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let connector = connector(&pair.certificate);
    let name = ServerName::IpAddress(address.ip().into());
    let connecting = tokio::spawn(connector.connect(name, stream));
    let (mut recorder, _) = listener.accept().await.unwrap();
    let mut hello = vec![0; 4096];
    let len_bytes = soon(recorder.read(&mut hello)).await.unwrap();
    connecting.abort();
    hello.truncate(len_bytes);
    hello
}

#[tokio::test]
async fn a_flood_of_recorded_hellos_is_answered_beside_the_game_and_counted() {
    const COUNT: usize = 64;
    let pair = Pair::new();
    let server = pair.serve(&[]).await;
    let hello = recorded_hello(&pair).await;
    let mut anna = Player::join(server.addresses.tcp, "Anna", pair.ca()).await;
    let mut flood = Vec::new();
    for number in 0..COUNT {
        let ports = [server.addresses.tcp, server.addresses.http];
        let mut stream = TcpStream::connect(ports[number % 2]).await.unwrap();
        stream.write_all(&hello).await.unwrap();
        flood.push(stream);
    }
    let _boris = Player::join(server.addresses.tcp, "Boris", pair.ca()).await;
    anna.sees("Boris").await;
    for mut stream in flood {
        // The server has done its part.
        assert!(soon(stream.read(&mut [0; 4096])).await.unwrap() > 0);
    }
    let failed = format!("cubesync_tls_handshakes_total{{outcome=\"failed\"}} {COUNT}");
    counts(server.addresses.http, &pair.certificate, &failed).await;
    let metrics = ask_metrics(server.addresses.http, &pair).await;
    let worked = "\ncubesync_tls_handshake_work_seconds_total ";
    assert!(metrics.contains(worked), "{metrics}");
}

async fn ask_metrics(address: SocketAddr, pair: &Pair) -> String {
    ask(pair.connect(address).await, address, "/metrics").await
}

#[tokio::test]
async fn who_comes_back_with_a_ticket_costs_no_signature() {
    let pair = Pair::new();
    let server = pair.serve(&[]).await;
    let (browser, address) = (connector(&pair.certificate), server.addresses.http);
    for outcomes in [["full", "1"], ["resumed", "1"], ["resumed", "2"]] {
        let metrics = ask(connect_with(&browser, address).await, address, "/metrics").await;
        let [outcome, count] = outcomes;
        let line = format!("cubesync_tls_handshakes_total{{outcome=\"{outcome}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_cut_by_its_length() {
    let pair = Pair::new();
    let server = pair.serve(&["--hello-deadline", "1m"]).await;
    for address in [server.addresses.tcp, server.addresses.http] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // A message of 64 KiB, in records of 4 KiB.
        let first = [&[0x16, 3, 1, 0x10, 0, 1, 0, 0xFF, 0xFF], &[0; 4092][..]].concat();
        let more = [&[0x16, 3, 1, 0x10, 0], &[0; 4096][..]].concat();
        stream.write_all(&first).await.unwrap();
        // The server may have closed before it has all of them.
        for _ in 0..4 {
            let _ = stream.write_all(&more).await;
        }
        let end = soon(stream.read_to_end(&mut Vec::new())).await;
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
    let failed = "cubesync_tls_handshakes_total{outcome=\"failed\"} 2";
    counts(server.addresses.http, &pair.certificate, failed).await;
}
