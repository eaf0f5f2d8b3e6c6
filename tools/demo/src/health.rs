//! Whether a server serves, asked over HTTP.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long one request may take. A local server answers in a millisecond.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(500);
/// A status line is shorter; more is not read.
const STATUS_LINE_BYTES: u64 = 128;

/// Returns whether `GET /healthz` at `http` is answered with 200 now.
pub(crate) fn is_serving(http: SocketAddr) -> bool {
    ask(http).is_ok_and(|answer| has_status_200(&answer))
}

fn ask(http: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&http, REQUEST_TIMEOUT)?;
    stream.set_read_timeout(Some(REQUEST_TIMEOUT))?;
    stream.set_write_timeout(Some(REQUEST_TIMEOUT))?;
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(STATUS_LINE_BYTES).read_to_end(&mut answer)?;
    Ok(answer)
}

fn has_status_200(answer: &[u8]) -> bool {
    answer.starts_with(b"HTTP/1.1 200 ")
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// The address of a server that gives one `answer` and ends.
    fn server_that_answers(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let len_bytes = stream.read(&mut request).unwrap();
            assert!(request[..len_bytes].starts_with(b"GET /healthz HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn server_that_answers_200_serves() {
        let http = server_that_answers("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n");
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
}
