//! Pages of a server on this machine.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

/// An answer that has not begun after this long does not come.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// A local server answers whether it serves in a millisecond; this only ends the wait for one that hangs.
const HEALTH_WITHIN: Duration = Duration::from_millis(500);

/// The answer to a request.
#[derive(Debug)]
pub struct Answer {
    /// The status code; `None` if the connection ended before it.
    pub status: Option<u16>,
    /// Everything behind the head.
    pub body: Vec<u8>,
}

/// Requests the page at `path`.
pub fn get(address: SocketAddr, path: &str) -> Result<Answer> {
    get_within(address, path, ANSWER_WITHIN)
}

/// Returns whether `GET /healthz` at `http` is answered with 200 now.
pub fn is_serving(http: SocketAddr) -> bool {
    get_within(http, "/healthz", HEALTH_WITHIN).is_ok_and(|answer| answer.status == Some(200))
}

fn get_within(address: SocketAddr, path: &str, within: Duration) -> Result<Answer> {
    Ok(ask(connect(address, within)?, address, path))
}

/// Connects to pages. Each read and each write fails after `within` too.
pub fn connect(address: SocketAddr, within: Duration) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, within).context("HTTP")?;
    stream.set_read_timeout(Some(within))?;
    stream.set_write_timeout(Some(within))?;
    Ok(stream)
}

/// Requests the page at `path` over a connection to `address`.
pub fn ask(mut stream: impl Read + Write, address: SocketAddr, path: &str) -> Answer {
    // HTTP/1.0: the answer comes in one piece and ends with the connection.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    let mut bytes = Vec::new();
    // A server that stops meanwhile resets the connection: what came until then is the answer.
    let _ = stream.write_all(request.as_bytes());
    let _ = stream.read_to_end(&mut bytes);
    parse(bytes)
}

fn parse(mut bytes: Vec<u8>) -> Answer {
    const END_OF_HEAD: &[u8] = b"\r\n\r\n";
    let end = bytes
        .windows(END_OF_HEAD.len())
        .position(|window| window == END_OF_HEAD);
    let body = bytes.split_off(end.map_or(bytes.len(), |at| at + END_OF_HEAD.len()));
    let head = String::from_utf8_lossy(&bytes);
    let mut words = head.split(' ');
    let is_http = words
        .next()
        .is_some_and(|version| version.starts_with("HTTP/1."));
    let status = words.next().filter(|_| is_http);
    Answer {
        status: status.and_then(|status| status.parse().ok()),
        body,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Returns the address of a server that gives one `answer` and ends.
    fn server_that_answers(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let len_bytes = stream.read(&mut request).unwrap();
            assert!(request[..len_bytes].starts_with(b"GET /healthz HTTP/1.0\r\n"));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn server_that_answers_200_serves() {
        let http = server_that_answers("HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nok\n");
        assert!(is_serving(http));
    }

    #[test]
    fn draining_server_does_not_serve() {
        let http = server_that_answers("HTTP/1.1 503 Service Unavailable\r\n\r\n");
        assert!(!is_serving(http));
    }

    #[test]
    fn nobody_there_does_not_serve() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        assert!(!is_serving(address));
    }

    #[test]
    fn answer_is_parsed_into_status_and_body() {
        let answer = parse(b"HTTP/1.1 404 Not Found\r\nx: y\r\n\r\nnothing\r\n\r\nhere".to_vec());
        assert_eq!(answer.status, Some(404));
        assert_eq!(answer.body, b"nothing\r\n\r\nhere");
    }

    #[test]
    fn connection_without_an_answer_has_no_status() {
        assert_eq!(parse(Vec::new()).status, None);
        assert_eq!(parse(b"SSH-2.0 200 x\r\n\r\n".to_vec()).status, None);
    }
}
