//! Other protocols than HTTP/1 on the pages' port, told by their first bytes.

use axum::http::StatusCode;

use super::closing::Refusal;
use cubesync_relay::ending::{Ending, Problem};

/// The first byte of each frame of the game's protocol.
const FRAME: u8 = 0;

/// Number of bytes that tell the protocols apart.
pub(super) const FIRST_BYTES: usize = 16;

const PROXY: Refusal = Refusal {
    status: StatusCode::BAD_REQUEST,
    reason: "the PROXY protocol is not spoken here: turn it off in the balancer and let it send X-Forwarded-For, \
             which counts with --trust-proxy",
};

const TLS: Refusal = Refusal {
    status: StatusCode::BAD_REQUEST,
    reason: "this port speaks http: open it without https, or give the server a certificate",
};

const HTTP_2: Refusal = Refusal {
    status: StatusCode::HTTP_VERSION_NOT_SUPPORTED,
    reason: "this port speaks HTTP/1.1",
};

/// The beginnings of other protocols, and what is answered.
const PROTOCOLS: [(&[u8], Refusal); 4] = [
    // https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, versions 1 and 2.
    (b"PROXY ", PROXY),
    (b"\r\n\r\n\0\r\nQUIT\n", PROXY),
    (b"PRI * HTTP/2.0\r\n", HTTP_2),
    // A record of a handshake, of any version since SSL 3 (RFC 8446, 5.1).
    (b"\x16\x03", TLS),
];

/// Returns the answer to a connection that begins with these bytes, if they are not HTTP/1.
pub(super) fn refusal(first: &[u8]) -> Option<Refusal> {
    let known = PROTOCOLS.iter();
    let found = known
        .clone()
        .find(|(beginning, _)| first.starts_with(beginning));
    found.map(|(_, refusal)| *refusal)
}

/// Returns the answer, in the game's protocol, to a client that takes the pages' port for the game's.
pub(super) fn game_problem(first: &[u8], game_port: u16) -> Option<Problem> {
    let message =
        format!("this is the port of the pages, for browsers: the game is on port {game_port}");
    (first.first() == Some(&FRAME)).then(|| Problem::new(Ending::NotHello, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_protocol_is_told_by_the_bytes_that_are_looked_at() {
        for (beginning, expected) in PROTOCOLS {
            assert!(beginning.len() <= FIRST_BYTES);
            let found = refusal(&[beginning, b"more"].concat()).unwrap();
            assert_eq!(found.reason, expected.reason);
            assert!(refusal(&beginning[..beginning.len() - 1]).is_none());
        }
        for http in [
            "GET / HTTP/1.1\r\n",
            "PRINT / HTTP/1.0",
            "\r\n\r\nGET / H",
            "",
        ] {
            assert!(refusal(http.as_bytes()).is_none(), "{http:?}");
        }
    }

    #[test]
    fn only_a_frame_is_told_the_port_of_the_game() {
        let problem = game_problem(b"\0\0\0\x20", 14_900).unwrap();
        assert!(problem.message.ends_with("the game is on port 14900"));
        for other in [&b""[..], b"GET / HTTP/1.1", b"\x16\x03"] {
            assert_eq!(game_problem(other, 14_900), None);
        }
    }
}
