//! Other protocols on the game's port, told by the first bytes: each is answered in its own way with the
//! port that was meant.

use bytes::Bytes;
use cubesync_protocol::Message;

use crate::ending::{Ending, Problem};

/// The beginnings of HTTP requests. The last is that of HTTP/2.
const HTTP: [&[u8]; 10] = [
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"DELETE ",
    b"OPTIONS ",
    b"PATCH ",
    b"CONNECT ",
    b"TRACE ",
    b"PRI ",
];
/// The beginning of a handshake of TLS (RFC 8446, 5.1).
const TLS: &[u8] = b"\x16\x03";
/// Longest host in a link: the longest name of a host, and brackets or a port.
const MAX_HOST_BYTES: usize = 260;

/// The ports of a server beside that of the game, for those who meant them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OtherPorts {
    /// The port of the pages.
    pub pages: u16,
    /// Whether the pages are encrypted.
    pub are_pages_encrypted: bool,
    /// The port of the text protocol, if it is on.
    pub text: Option<u16>,
}

/// Returns the answer to a peer that begins with another protocol.
pub(super) fn answer(received: &[u8], others: Option<OtherPorts>) -> Option<Bytes> {
    if HTTP.iter().any(|method| received.starts_with(method)) {
        return Some(page(received, others).into());
    }
    if received.starts_with(TLS) {
        let message = "this server does not encrypt: leave out tls:// in front of its address";
        return Some(Problem::new(Ending::NotHello, message).reject().to_frame());
    }
    is_typed(received).then(|| line(others).into())
}

/// Whether a person types: the first bytes are a line of text.
fn is_typed(received: &[u8]) -> bool {
    let is_readable = |byte: &u8| byte.is_ascii_graphic() || b" \t\r\n".contains(byte);
    !received.is_empty() && received.iter().all(is_readable)
}

/// Returns a line for a terminal.
fn line(others: Option<OtherPorts>) -> String {
    let elsewhere = match others {
        Some(OtherPorts {
            pages,
            text: Some(text),
            ..
        }) => format!("; the text protocol is on port {text}, pages are on port {pages}"),
        Some(OtherPorts { pages, .. }) => format!("; pages are on port {pages}"),
        None => String::new(),
    };
    format!("error: this is the port of the game, for its programs{elsewhere}\n")
}

/// Returns a response of HTTP with a page for a person.
fn page(request: &[u8], others: Option<OtherPorts>) -> String {
    let elsewhere = match (others, host(request)) {
        (None, _) => String::new(),
        (Some(others), None) => format!(" The pages are on port {}.", others.pages),
        (Some(others), Some(host)) => {
            let scheme = match others.are_pages_encrypted {
                true => "https",
                false => "http",
            };
            let port = others.pages;
            let link = format!("{scheme}://{host}:{port}/");
            format!(" The pages are on port {port}: <a href=\"{link}\">{link}</a>")
        }
    };
    let body = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>cubesync: another \
         port</title>\n<p>This is the port of the game, for its programs.{elsewhere}\n"
    );
    let head = format!(
        "HTTP/1.1 404 Not Found\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nContent-Security-Policy: default-src 'none'\r\n\
         X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
        body.len()
    );
    match request.starts_with(b"HEAD ") {
        true => head,
        false => head + &body,
    }
}

/// Returns the host that a request names, without its port, if nothing in it has a meaning in HTML.
fn host(request: &[u8]) -> Option<&str> {
    let head = request.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    let value = head.skip(1).find_map(|line| {
        let (name, value) = line.split_at_checked(5)?;
        name.eq_ignore_ascii_case(b"host:").then_some(value)
    })?;
    let value = std::str::from_utf8(value).ok()?.trim();
    let after_bracket = value.find(']').map_or(0, |bracket| bracket + 1);
    let host = match value[after_bracket..].find(':') {
        Some(colon) => &value[..after_bracket + colon],
        None => value,
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    let is_host = !host.is_empty() && host.len() <= MAX_HOST_BYTES && host.bytes().all(is_plain);
    is_host.then_some(host)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use cubesync_protocol::{RejectCode, ServerMessage, frame};

    use super::*;

    const OTHERS: OtherPorts = OtherPorts {
        pages: 8080,
        are_pages_encrypted: false,
        text: None,
    };

    fn text(received: &[u8], others: OtherPorts) -> String {
        let answer = answer(received, Some(others)).unwrap();
        String::from_utf8(answer.to_vec()).unwrap()
    }

    #[test]
    fn a_browser_gets_a_page_with_a_link_to_the_pages() {
        let request = b"GET / HTTP/1.1\r\nAccept: */*\r\nhOST: game.example:14900\r\n\r\n";
        let response = text(request, OTHERS);
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
        let length = format!("Content-Length: {}\r\n", body.len());
        assert!(head.contains(&length), "{head}");
        let link = "<a href=\"http://game.example:8080/\">http://game.example:8080/</a>";
        assert!(body.contains(link), "{body}");
        let encrypted = OtherPorts {
            are_pages_encrypted: true,
            ..OTHERS
        };
        let response = text(b"GET / HTTP/1.1\r\nHost: [::1]:14900\r\n\r\n", encrypted);
        assert!(response.contains("\"https://[::1]:8080/\""), "{response}");
    }

    #[test]
    fn a_host_that_could_become_markup_is_not_repeated() {
        for host in ["", "a\"b", "<b>", "a/b", "me@a", "a b", &"a".repeat(300)] {
            let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let response = text(request.as_bytes(), OTHERS);
            assert!(response.contains("The pages are on port 8080."), "{host}");
            assert!(!response.contains("href"), "{host}");
        }
        let typed = text(b"GET / HTTP/1.1\r\n", OTHERS);
        assert!(typed.contains("The pages are on port 8080."), "{typed}");
    }

    #[test]
    fn a_question_for_the_head_is_answered_without_a_body() {
        let response = text(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", OTHERS);
        assert!(response.ends_with("\r\n\r\n"), "{response}");
    }

    #[test]
    fn a_client_that_encrypts_is_told_not_to_in_a_frame() {
        let answer = answer(b"\x16\x03\x01\x02\x00\x01", Some(OTHERS)).unwrap();
        let mut frames = BytesMut::from(&answer[..]);
        let limit_bytes = ServerMessage::MAX_PAYLOAD_BYTES;
        let payload = frame::split(&mut frames, limit_bytes).unwrap().unwrap();
        let Ok(ServerMessage::Reject { code, message }) = ServerMessage::decode(&payload) else {
            panic!("no reject");
        };
        assert_eq!(code, RejectCode::NotHello);
        assert!(message.contains("leave out tls://"), "{message}");
    }

    #[test]
    fn a_person_at_a_terminal_gets_a_line_with_the_ports() {
        assert_eq!(
            text(b"Anna\n", OTHERS),
            "error: this is the port of the game, for its programs; pages are on port 8080\n"
        );
        let with_text = OtherPorts {
            text: Some(9000),
            ..OTHERS
        };
        let answer = text(b"An", with_text);
        assert!(answer.contains("text protocol is on port 9000"), "{answer}");
    }

    #[test]
    fn frames_and_noise_are_no_other_protocol() {
        for bytes in [&b""[..], b"\0\0\0\x05hello", b"\xff\xff\xff\xff", b"Anna\0"] {
            assert_eq!(answer(bytes, Some(OTHERS)), None, "{bytes:?}");
        }
    }
}
