//! What answers in place of a cubesync server, told by the first bytes that it sends.

use bytes::BytesMut;
use cubesync_protocol::{Message, RejectCode, ServerMessage, frame};

/// Longest part of a foreign answer that is shown.
const MAX_SHOWN_CHARS: usize = 60;
/// The first byte of each frame: none is as long as 16 MiB.
const FRAME: u8 = 0;
/// The first bytes of records of TLS: alerts and handshakes (RFC 8446, 5.1).
const TLS_RECORDS: [u8; 2] = [0x15, 0x16];
/// The first bytes of records that may come before encryption begins.
const TLS_ANSWERS: std::ops::RangeInclusive<u8> = 0x14..=0x17;

/// Describes for a person what answers at `server`, unless the bytes may begin a frame.
pub(super) fn instead_of_frames(bytes: &[u8], server: &str) -> Option<String> {
    let first = *bytes.first()?;
    if first == FRAME {
        return None;
    }
    if bytes.starts_with(b"HTTP/") {
        return Some(format!(
            "a web server answers at {server}, not a game: if these are the pages of cubesync, the \
             game is on another port, usually 14900"
        ));
    }
    if TLS_RECORDS.contains(&first) && bytes.get(1) == Some(&3) {
        return Some(format!(
            "the server at {server} speaks TLS: put tls:// in front of its address"
        ));
    }
    let told = match first_line(bytes) {
        Some(line) => format!(": {line}"),
        None => String::new(),
    };
    Some(format!(
        "something that is no cubesync server answers at {server}{told}"
    ))
}

/// Describes for a person what answers at `server` in place of TLS, unless the bytes may be TLS.
pub(super) fn instead_of_tls(bytes: &[u8], server: &str) -> Option<String> {
    let first = *bytes.first()?;
    if TLS_ANSWERS.contains(&first) {
        return None;
    }
    if let Some(message) = unencrypted_reject(bytes) {
        return Some(format!("{server} answers without encryption: {message}"));
    }
    if bytes.starts_with(b"HTTP/") || first != FRAME {
        return instead_of_frames(bytes, server);
    }
    Some(format!(
        "{server} does not speak TLS; if you may talk to it without encryption, leave out tls://"
    ))
}

/// Returns the reason of a server that has no time to encrypt its refusal. That of a wrong beginning
/// says nothing new.
fn unencrypted_reject(bytes: &[u8]) -> Option<String> {
    let mut bytes = BytesMut::from(bytes);
    let payload = frame::split(&mut bytes, ServerMessage::MAX_PAYLOAD_BYTES).ok()??;
    match ServerMessage::decode(&payload).ok()? {
        ServerMessage::Reject { code, message } if code != RejectCode::NotHello => {
            Some(message.chars().filter(|c| !c.is_control()).collect())
        }
        _ => None,
    }
}

/// Returns the first line of an answer, if it is one of readable text.
fn first_line(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|byte| b"\r\n".contains(byte));
    let line = std::str::from_utf8(&bytes[..end.unwrap_or(bytes.len())]).ok()?;
    let is_readable = !line.trim().is_empty() && !line.chars().any(char::is_control);
    is_readable.then(|| line.chars().take(MAX_SHOWN_CHARS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(bytes: &[u8]) -> Option<String> {
        instead_of_frames(bytes, "a:1")
    }

    fn encrypted(bytes: &[u8]) -> Option<String> {
        instead_of_tls(bytes, "a:1")
    }

    #[test]
    fn frames_are_no_foreign_answer() {
        let reject = ServerMessage::Reject {
            code: RejectCode::Full,
            message: "full".to_owned(),
        };
        assert_eq!(plain(&reject.to_frame()), None);
        assert_eq!(plain(b""), None);
    }

    #[test]
    fn each_foreign_answer_is_described() {
        let web = plain(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        assert!(web.starts_with("a web server answers at a:1"), "{web}");
        assert!(web.contains("usually 14900"), "{web}");
        let alert = plain(&[0x15, 3, 3, 0, 2, 2, 10]).unwrap();
        assert!(
            alert.ends_with("put tls:// in front of its address"),
            "{alert}"
        );
        assert_eq!(
            plain(b"SSH-2.0-OpenSSH_9.2p1\r\nmore").as_deref(),
            Some("something that is no cubesync server answers at a:1: SSH-2.0-OpenSSH_9.2p1")
        );
        let unreadable = "something that is no cubesync server answers at a:1";
        for bytes in [
            &b"J\0\0\x00\x0a8.0"[..],
            b"\xff\xfb\x01",
            b"\r\n",
            b"a\x1b[2J",
        ] {
            assert_eq!(plain(bytes).as_deref(), Some(unreadable), "{bytes:?}");
        }
        let long = plain(&[b'a'; 1000]).unwrap();
        assert_eq!(long, format!("{unreadable}: {}", "a".repeat(60)));
    }

    #[test]
    fn an_answer_in_place_of_tls_says_what_to_do_or_why_the_server_refuses() {
        for record in [0x14, 0x15, 0x16, 0x17] {
            assert_eq!(encrypted(&[record, 3, 3]), None);
        }
        let reject = |code, message: &str| {
            let message = message.to_owned();
            ServerMessage::Reject { code, message }.to_frame()
        };
        let no_tls = encrypted(&reject(RejectCode::NotHello, "the greeting is wrong"));
        let words = no_tls.unwrap();
        assert!(words.starts_with("a:1 does not speak TLS; "), "{words}");
        assert_eq!(encrypted(&[0, 0]), Some(words));
        assert_eq!(
            encrypted(&reject(RejectCode::Full, "the server is full\x1b")).as_deref(),
            Some("a:1 answers without encryption: the server is full")
        );
        let web = encrypted(b"HTTP/1.1 400 Bad Request\r\n").unwrap();
        assert!(web.starts_with("a web server answers at a:1"), "{web}");
        let other = encrypted(b"220 mail.example ESMTP\r\n").unwrap();
        assert!(other.ends_with("a:1: 220 mail.example ESMTP"), "{other}");
    }
}
