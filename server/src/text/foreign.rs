//! Other protocols on the text port, and what each is told.

use std::net::SocketAddr;

use bytes::Bytes;
use cubesync_protocol::Message;

use crate::shared::Addresses;
use cubesync_relay::ending::{Ending, Problem};

/// What the port is.
const HERE: &str = "this is the port of the text protocol, for nc and telnet";

/// The beginning of a frame of the game's own protocol: the length of a `Hello` is below 65,536.
const GAME: &[u8] = b"\0\0";
/// The beginning of a record of a TLS handshake, of any version since SSL 3 (RFC 8446, 5.1).
const TLS: &[u8] = b"\x16\x03";

/// The beginnings of the game's programs.
pub(super) const BEGINNINGS: [&[u8]; 2] = [GAME, TLS];

/// Returns the answer to a connection that begins with these bytes, if it is one of the game's programs,
/// which read it with or without TLS.
pub(super) fn answer_to_bytes(first: &[u8], addresses: &Addresses) -> Option<Bytes> {
    let is_game = BEGINNINGS
        .iter()
        .any(|beginning| first.starts_with(beginning));
    is_game.then(|| {
        let port = addresses.tcp.port();
        let message = format!("{HERE}: the game is on port {port}");
        Problem::new(Ending::NotHello, message).reject().to_frame()
    })
}

/// Returns the answer to a first line, if it is of another protocol.
pub(super) fn answer_to_line(line: &str, addresses: &Addresses) -> Option<Bytes> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let is_http = words.len() > 1 && words.last().is_some_and(|last| last.starts_with("HTTP/"));
    // HTTP/0.9 had no version, and somebody who types by hand may leave it out.
    let is_get = matches!(words[..], ["GET" | "HEAD" | "POST", path, ..] if path.starts_with('/'));
    if is_http || is_get {
        return Some(http_answer(addresses.http, addresses.tls.is_some()));
    }
    let is_other = line.starts_with("SSH-") || line.starts_with("PROXY ");
    is_other.then(|| format!("error: {HERE}: the first line is your name\n").into())
}

fn http_answer(pages: SocketAddr, is_encrypted: bool) -> Bytes {
    let scheme = if is_encrypted { "https" } else { "http" };
    let port = pages.port();
    let body = format!("{HERE}: the pages are at {scheme}://HOST:{port}/\n");
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    answer.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_protocols_are_told_the_right_port_and_names_are_names() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let addresses = Addresses {
            tcp: at(14_900),
            udp: None,
            http: at(8_080),
            text: None,
            tls: None,
        };
        let told =
            |answer: Option<Bytes>| answer.map(|it| String::from_utf8_lossy(&it).into_owned());
        let bytes = |first: &[u8]| told(answer_to_bytes(first, &addresses));
        for program in [&b"\0\0\0\x2A"[..], b"\x16\x03\x01"] {
            let reject = bytes(program).unwrap();
            assert!(
                reject.starts_with('\0'),
                "a frame, which both read: {reject}"
            );
            assert!(reject.contains("the game is on port 14900"), "{reject}");
        }
        for text in [&b"\0A"[..], b"\x16Anna", b"Anna", b""] {
            assert_eq!(bytes(text), None, "{text:?}");
        }
        let line = |line| told(answer_to_line(line, &addresses));
        for http in [
            "GET / HTTP/1.1",
            "PRI * HTTP/2.0",
            "GET /status",
            "BREW /pot HTTP/1.0",
        ] {
            let answer = line(http).unwrap();
            assert!(
                answer.ends_with("the pages are at http://HOST:8080/\n"),
                "{answer}"
            );
        }
        assert!(line("SSH-2.0-OpenSSH_9.2").unwrap().starts_with("error: "));
        for name in ["Anna", "GET", "GET up", "HTTP/1.1", "", "Posh / Becks"] {
            assert_eq!(line(name), None, "{name}");
        }
    }
}
