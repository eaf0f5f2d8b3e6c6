//! Whether the ports are free, and if not, who has them.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use bytes::BytesMut;
use cubesync_protocol::{ClientMessage, Colour, Hello, Message, ServerMessage, frame};

use super::Finding;
use crate::config::Config;

/// How long whoever has the port may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// More than any answer that is understood.
const MAX_ANSWER_BYTES: u64 = 4_096;

/// What a page of ours answers at `/healthz`.
const HEALTHY: &str = "serving\n";

/// One port.
struct Port {
    about: &'static str,
    flag: &'static str,
    address: SocketAddr,
    /// What makes a server of ours answer, and whether that is such an answer.
    question: Vec<u8>,
    is_ours: fn(&[u8]) -> bool,
}

/// Who has a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Nobody,
    /// Another of this configuration's listeners.
    Ourselves,
    /// A server of ours.
    Cubesync,
    Stranger,
    /// It cannot be had, for this reason.
    Forbidden(io::ErrorKind),
}

/// Tries every port that the server would listen on.
pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let mut listeners = Vec::new();
    let mut findings = Vec::new();
    for port in ports(config) {
        let holder = match TcpListener::bind(port.address) {
            Ok(listener) => {
                // Kept, so that the next one cannot have the same.
                listeners.push((listener, port.address));
                Holder::Nobody
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let ours =
                    |(_, address): &(TcpListener, SocketAddr)| overlap(*address, port.address);
                match listeners.iter().any(ours) {
                    true => Holder::Ourselves,
                    false => port.holder(),
                }
            }
            Err(error) => Holder::Forbidden(error.kind()),
        };
        findings.push(port.judge(holder));
    }
    findings
}

/// Whether a server with this configuration is there and serves, as its `/healthz` says.
pub fn is_serving(config: &Config) -> bool {
    let [_, http, ..] = &ports(config)[..] else {
        return false;
    };
    let answer = http.ask().unwrap_or_default();
    answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(HEALTHY.as_bytes())
}

fn ports(config: &Config) -> Vec<Port> {
    // A version that no server speaks: it is refused before anything else is looked at.
    let mut hello = Hello::new(
        "doctor",
        "doctor",
        Colour {
            red: 0,
            green: 0,
            blue: 0,
        },
    );
    hello.version = 0;
    let mut ports = vec![
        Port {
            about: "clients",
            flag: "--listen",
            address: config.listen,
            question: ClientMessage::Hello(hello).to_frame().to_vec(),
            is_ours: is_reject,
        },
        Port {
            about: "HTTP",
            flag: "--http",
            address: config.http,
            question: b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
                .to_vec(),
            is_ours: is_health,
        },
    ];
    ports.extend(config.text.map(|address| Port {
        about: "text",
        flag: "--text",
        address,
        // No name: it asks again.
        question: b"\n".to_vec(),
        is_ours: |answer| answer.starts_with(b"error: "),
    }));
    ports
}

fn is_reject(answer: &[u8]) -> bool {
    let payload = frame::split(
        &mut BytesMut::from(answer),
        ServerMessage::MAX_PAYLOAD_BYTES,
    );
    let Ok(Some(payload)) = payload else {
        return false;
    };
    matches!(
        ServerMessage::decode(&payload),
        Ok(ServerMessage::Reject { .. })
    )
}

fn is_health(answer: &[u8]) -> bool {
    [HEALTHY, "stopping\n"]
        .iter()
        .any(|body| answer.ends_with(body.as_bytes()))
}

/// Whether only one listener can have both.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let same = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && same
}

impl Port {
    fn holder(&self) -> Holder {
        match self.ask() {
            Ok(answer) if (self.is_ours)(&answer) => Holder::Cubesync,
            _ => Holder::Stranger,
        }
    }

    /// What comes back from whoever listens there.
    fn ask(&self) -> io::Result<Vec<u8>> {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(match address.ip() {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(&self.question)?;
        let mut answer = Vec::new();
        let mut stream = stream.take(MAX_ANSWER_BYTES);
        while !(self.is_ours)(&answer) {
            let mut bytes = [0; 512];
            match stream.read(&mut bytes)? {
                0 => break,
                count => answer.extend_from_slice(&bytes[..count]),
            }
        }
        Ok(answer)
    }

    fn judge(&self, holder: Holder) -> Finding {
        let Self {
            about,
            flag,
            address,
            ..
        } = *self;
        let port = address.port();
        match holder {
            Holder::Nobody if port == 0 => Finding::ok(about, "any free port"),
            Holder::Nobody => Finding::ok(about, format!("{address} is free")),
            Holder::Ourselves => Finding::problem(
                about,
                format!("another listener of this configuration has {address} already"),
                format!("give each a port of its own, for instance with {flag}"),
            ),
            Holder::Cubesync => Finding::note(
                about,
                format!("a cubesync server answers at {address}"),
                "if it is the one you ask about, all is well; a second one cannot start there",
            ),
            Holder::Stranger => Finding::problem(
                about,
                format!("another program has {address}"),
                format!(
                    "`ss -ltnp 'sport = :{port}'` names it: stop it, or choose another port with \
                     {flag}"
                ),
            ),
            Holder::Forbidden(io::ErrorKind::PermissionDenied) => Finding::problem(
                about,
                format!("no permission for port {port}"),
                format!(
                    "choose one above 1023 with {flag}, or give the service \
                     AmbientCapabilities=CAP_NET_BIND_SERVICE"
                ),
            ),
            Holder::Forbidden(io::ErrorKind::AddrNotAvailable) => Finding::problem(
                about,
                format!("this machine does not have the address {}", address.ip()),
                format!("choose one of its own with {flag}, or 0.0.0.0 for all"),
            ),
            Holder::Forbidden(kind) => Finding::problem(
                about,
                format!("cannot listen on {address}: {kind}"),
                format!("choose another address with {flag}"),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::Verdict;
    use super::*;

    fn config(flags: &[&str]) -> Config {
        Config::parse_from(["cubesync-server"].iter().chain(flags))
    }

    fn clients(address: &str) -> Port {
        ports(&config(&["--listen", address])).swap_remove(0)
    }

    #[test]
    fn each_holder_has_its_verdict() {
        let judged = |holder| clients("192.0.2.1:80").judge(holder).verdict;
        assert_eq!(judged(Holder::Nobody), Verdict::Ok);
        assert_eq!(judged(Holder::Cubesync), Verdict::Note);
        for holder in [
            Holder::Ourselves,
            Holder::Stranger,
            Holder::Forbidden(io::ErrorKind::PermissionDenied),
            Holder::Forbidden(io::ErrorKind::AddrNotAvailable),
            Holder::Forbidden(io::ErrorKind::OutOfMemory),
        ] {
            assert_eq!(judged(holder), Verdict::Problem, "{holder:?}");
        }
        assert!(
            clients("127.0.0.1:0")
                .judge(Holder::Nobody)
                .words
                .contains("any free")
        );
    }

    #[test]
    fn a_stranger_is_told_from_nobody_and_from_ourselves() {
        let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = stranger.local_addr().unwrap().to_string();
        // It hangs up on whoever comes.
        let hang_up = std::thread::spawn(move || drop(stranger.accept()));
        let free = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let free = free.to_string();
        let flags = ["--listen", &taken, "--http", &free, "--text", &free];
        let findings = examine(&config(&flags));
        let [clients, http, text] = &findings[..] else {
            panic!("{findings:?}");
        };
        assert!(
            clients.words.starts_with("another program has"),
            "{clients:?}"
        );
        assert!(http.words.ends_with("is free"), "{http:?}");
        assert!(text.words.contains("another listener of this"), "{text:?}");
        hang_up.join().unwrap();
    }

    #[test]
    fn only_our_answers_are_ours() {
        let reject = ServerMessage::Reject {
            code: cubesync_protocol::RejectCode::Version,
            message: String::new(),
        };
        assert!(is_reject(&reject.to_frame()));
        assert!(!is_reject(b"SSH-2.0-OpenSSH_9.2\r\n"));
        assert!(!is_reject(b""));
        assert!(is_health(b"HTTP/1.1 200 OK\r\n\r\nserving\n"));
        assert!(!is_health(b"HTTP/1.1 404 Not Found\r\n\r\n"));
    }
}
