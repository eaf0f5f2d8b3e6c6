//! The ports: whether they are free, and if not, which program holds them.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use bytes::BytesMut;
use cubesync_protocol::{ClientMessage, Colour, Hello, Message, ServerMessage, frame};

use super::Finding;
use crate::config::{Config, overlap};

/// Time for a program that holds a port to answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// Largest answer that is read. It is more than each expected answer.
const MAX_ANSWER_BYTES: u64 = 4_096;

/// The body of a healthy server's answer at `/healthz`.
const HEALTHY: &str = "serving\n";

/// One port.
struct Port {
    about: &'static str,
    flag: &'static str,
    address: SocketAddr,
    /// A request that a cubesync server answers in a known way.
    request: Vec<u8>,
    /// Whether an answer is that of a cubesync server.
    is_ours: fn(&[u8]) -> bool,
}

/// The holder of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    /// No program: the port is free.
    Nobody,
    /// Another listener of this configuration.
    Ourselves,
    /// A cubesync server.
    Cubesync,
    /// Another program.
    OtherProgram,
    /// The system does not allow listening, with this error.
    Forbidden(io::ErrorKind),
}

/// Tries every port that the server would listen on.
pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let mut listeners = Vec::new();
    let mut findings = Vec::new();
    for port in ports(config) {
        let holder = match TcpListener::bind(port.address) {
            Ok(listener) => {
                // The listener is kept, so that a later port with the same address is not free.
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

/// Returns whether a server with this configuration runs and serves, according to `/healthz`.
pub fn is_serving(config: &Config) -> bool {
    let [_, http, ..] = &ports(config)[..] else {
        return false;
    };
    let answer = http.ask().unwrap_or_default();
    answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(HEALTHY.as_bytes())
}

fn ports(config: &Config) -> Vec<Port> {
    // Every server rejects version 0 before it looks at anything else.
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
            request: ClientMessage::Hello(hello).to_frame().to_vec(),
            is_ours: is_reject,
        },
        Port {
            about: "HTTP",
            flag: "--http",
            address: config.http,
            request: b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
                .to_vec(),
            is_ours: is_health,
        },
    ];
    ports.extend(config.text.map(|address| Port {
        about: "text",
        flag: "--text",
        address,
        // The server answers an empty name with an error.
        request: b"\n".to_vec(),
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

impl Port {
    fn holder(&self) -> Holder {
        match self.ask() {
            Ok(answer) if (self.is_ours)(&answer) => Holder::Cubesync,
            _ => Holder::OtherProgram,
        }
    }

    /// Sends the request and returns the answer.
    fn ask(&self) -> io::Result<Vec<u8>> {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(match address.ip() {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        let mut stream = TcpStream::connect_timeout(&address, ANSWER_DEADLINE)?;
        stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
        stream.set_write_timeout(Some(ANSWER_DEADLINE))?;
        stream.write_all(&self.request)?;
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
            Holder::OtherProgram => Finding::problem(
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
            Holder::OtherProgram,
            Holder::Forbidden(io::ErrorKind::PermissionDenied),
            Holder::Forbidden(io::ErrorKind::AddrNotAvailable),
            Holder::Forbidden(io::ErrorKind::OutOfMemory),
        ] {
            assert_eq!(judged(holder), Verdict::Problem, "{holder:?}");
        }
        assert!(
            clients("127.0.0.1:0")
                .judge(Holder::Nobody)
                .summary
                .contains("any free")
        );
    }

    #[test]
    fn another_program_is_distinguished_from_our_own_listeners() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = other.local_addr().unwrap().to_string();
        // The other program closes the connection.
        let hang_up = std::thread::spawn(move || drop(other.accept()));
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
            clients.summary.starts_with("another program has"),
            "{clients:?}"
        );
        assert!(http.summary.ends_with("is free"), "{http:?}");
        assert!(
            text.summary.contains("another listener of this"),
            "{text:?}"
        );
        hang_up.join().unwrap();
    }

    #[test]
    fn only_answers_of_cubesync_servers_are_recognized() {
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
