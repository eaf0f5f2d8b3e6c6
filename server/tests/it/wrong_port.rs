//! Programs that meet another port than they meant, or a server that does not let them in: what their
//! people learn.

use std::net::SocketAddr;

use cubesync_client::Trust;
use cubesync_protocol::{ClientMessage, Hello, RejectCode, ServerMessage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::http::{get, request};
use crate::support::{COLOUR, Server, soon};
use crate::tls::{Pair, Player, get_encrypted};

/// Returns what a native client says that goes to an address with `scheme`.
async fn refusal(address: SocketAddr, scheme: &str) -> String {
    Player::refusal(address, scheme, Trust::Anybody).await
}

#[tokio::test]
async fn a_native_client_on_the_port_of_the_pages_learns_the_port_of_the_game() {
    let pair = Pair::new();
    let (plain, encrypted) = (Server::start(&[]).await, pair.serve(&[]).await);
    for (server, scheme) in [(&plain, ""), (&encrypted, ""), (&encrypted, "tls://")] {
        let words = refusal(server.addresses.http, scheme).await;
        let port = server.addresses.tcp.port();
        let expected =
            format!("this is the port of the pages, for browsers: the game is on port {port}");
        assert_eq!(words, expected, "{scheme}");
    }
    let words = refusal(plain.addresses.http, "tls://").await;
    assert!(words.starts_with("a web server answers at"), "{words}");
    let counted = "cubesync_http_cuts_total{reason=\"bad_request\"} 2";
    plain.counts(counted).await;
}

#[tokio::test]
async fn a_browser_on_the_port_of_the_game_learns_the_port_of_the_pages() {
    let server = Server::start(&[]).await;
    let answer = get(server.addresses.tcp, "/?room=den").await;
    let link = format!("http://test.localhost:{}/", server.addresses.http.port());
    assert_eq!(answer.status, 404);
    assert!(
        answer.body.contains(&format!("<a href=\"{link}\">")),
        "{}",
        answer.body
    );
    let head = request(server.addresses.tcp, "HEAD", "/").await;
    assert_eq!((head.status, head.body.as_str()), (404, ""));

    let pair = Pair::new();
    let server = pair.serve(&[]).await;
    let link = format!(
        "\"https://test.localhost:{}/\"",
        server.addresses.http.port()
    );
    let plain = get(server.addresses.tcp, "/").await;
    assert!(plain.body.contains(&link), "{}", plain.body);
    let answer = get_encrypted(server.addresses.tcp, "/", &pair.certificate).await;
    let link = link.replace("test.localhost", "127.0.0.1");
    assert!(answer.contains(&link), "{answer}");
}

#[tokio::test]
async fn a_person_who_types_on_the_port_of_the_game_learns_the_other_ports() {
    let server = Server::start(&["--text", "127.0.0.1:0"]).await;
    let mut typed = server.connect().await.stream;
    typed.write_all(b"Anna\n").await.unwrap();
    let mut answer = String::new();
    soon(typed.read_to_string(&mut answer)).await.unwrap();
    let text = server.addresses.text.unwrap().port();
    let pages = server.addresses.http.port();
    let expected = format!(
        "error: this is the port of the game, for its programs; the text protocol is on port \
         {text}, pages are on port {pages}\n"
    );
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn a_full_server_says_so_with_and_without_encryption() {
    const FULL: &str = "the server is full, try again later";
    let pair = Pair::new();
    let limit = ["--max-connections", "1"];
    let (plain, encrypted) = (Server::start(&limit).await, pair.serve(&limit).await);
    let _taken = [plain.connect().await, encrypted.connect().await];
    assert_eq!(refusal(plain.addresses.tcp, "").await, FULL);
    let words = refusal(encrypted.addresses.tcp, "tls://").await;
    let address = encrypted.addresses.tcp;
    assert_eq!(
        words,
        format!("{address} answers without encryption: {FULL}")
    );
}

#[tokio::test]
async fn a_server_that_stops_tells_those_who_come_meanwhile() {
    let server = Server::start(&[]).await;
    // A player that does not close keeps the server from its end.
    let player = server.join("Anna").await;
    server.begin_stop();
    let mut late = server.connect().await;
    late.send(&ClientMessage::Hello(Hello::new("lobby", "Boris", COLOUR)))
        .await;
    let Some(ServerMessage::Reject { code, message }) = late.receive().await else {
        panic!("no reject");
    };
    assert_eq!(code, RejectCode::ShuttingDown);
    assert_eq!(message, "the server is shutting down, try again soon");
    drop((player, late));
    server.stopped().await;
}
