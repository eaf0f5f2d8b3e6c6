//! The end of a connection: the last answer is announced as such, and reaches the peer.
//!
//! A client may send its next request while the connection ends. After an answer with `Connection: close` it
//! knows that it has to ask elsewhere (RFC 9112, 9.6); without one the request would be lost. And bytes that
//! nobody reads would make the kernel reset the connection, which can destroy the answer before them
//! (9.6; RFC 2525, 2.17), so the server reads on for a while after its last byte.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, Version, header};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// Time for a peer to read the last answer and to close. nginx and Apache wait for 2 to 30 s; a peer that
/// still sends then is not interested in it.
const LINGER: Duration = Duration::from_secs(2);

/// Largest number of bytes that are read from a peer after the last byte to it: an upload that was refused. A
/// peer that sends more is cut.
const MAX_UNREAD_BYTES: u64 = 1024 * 1024;

/// The answer to a connection on which no request can be answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// A sentence for a person, without a line end.
    pub(super) reason: &'static str,
}

impl Refusal {
    /// Returns the bytes of the answer.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let Self { status, reason } = self;
        let retry = match status {
            StatusCode::SERVICE_UNAVAILABLE => "Retry-After: 5\r\n",
            _ => "",
        };
        let length = reason.len() + 1;
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {length}\r\nConnection: close\r\n{retry}\r\n{reason}\n"
        )
        .into_bytes()
    }
}

/// Sends an answer and ends the connection.
pub(super) async fn refuse(mut stream: impl AsyncRead + AsyncWrite + Unpin, refusal: Refusal) {
    let sending = async {
        stream.write_all(&refusal.to_bytes()).await?;
        stream.shutdown().await
    };
    if let Ok(Ok(())) = timeout(LINGER, sending).await {
        linger(stream).await;
    }
}

/// Ends a connection on which everything is said.
pub(super) async fn close(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    if let Ok(Ok(())) = timeout(LINGER, stream.shutdown()).await {
        linger(stream).await;
    }
}

/// Reads what a peer still sends after the last byte to it, until the peer closes too.
async fn linger(stream: impl AsyncRead + Unpin) {
    let (mut unread, mut nowhere) = (stream.take(MAX_UNREAD_BYTES), tokio::io::sink());
    // When the time is over, dropping the stream resets the connection. The copy has a buffer of its own: one
    // here would be in the task of each connection from its beginning.
    let _ = timeout(LINGER, tokio::io::copy(&mut unread, &mut nowhere)).await;
}

/// Whether a request's head lets its connection go on: in HTTP/1.1 unless it says `close`, in HTTP/1.0 if it
/// says `keep-alive` (RFC 9112, 9.3).
#[derive(Debug, Clone, Copy)]
pub(super) struct Persistence {
    version: Version,
    goes_on: bool,
}

impl Persistence {
    /// Reads a request's head.
    pub(super) fn of(version: Version, headers: &HeaderMap) -> Self {
        let says = |wanted: &str| {
            let lines = headers.get_all(header::CONNECTION).iter();
            let lines = lines.filter_map(|line| line.to_str().ok());
            let mut options = lines.flat_map(|line| line.split(','));
            options.any(|option| option.trim().eq_ignore_ascii_case(wanted))
        };
        let goes_on = match version {
            Version::HTTP_11 => !says("close"),
            _ => says("keep-alive"),
        };
        Self { version, goes_on }
    }

    /// Announces in a response's head that it is the last one, or else for how long the connection may
    /// rest until the next request. Clients that know the time do not send when it is over.
    pub(super) fn announce<B>(self, is_last: bool, rest: Duration, response: &mut Response<B>) {
        const KEEP_ALIVE: header::HeaderName = header::HeaderName::from_static("keep-alive");
        // Otherwise hyper adds `keep-alive` for HTTP/1.0, whatever the head says.
        *response.version_mut() = self.version;
        let headers = response.headers_mut();
        if is_last {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        } else if self.goes_on && !headers.contains_key(header::CONNECTION) {
            let timeout = format!("timeout={}", rest.as_secs());
            let timeout = HeaderValue::try_from(timeout).expect("digits are a valid header value");
            headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive"));
            headers.insert(KEEP_ALIVE, timeout);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_its_stated_length() {
        let refusal = Refusal {
            status: StatusCode::SERVICE_UNAVAILABLE,
            reason: "too many connections",
        };
        let expected = "HTTP/1.1 503 Service Unavailable\r\n\
                        Content-Type: text/plain; charset=utf-8\r\nContent-Length: 21\r\n\
                        Connection: close\r\nRetry-After: 5\r\n\r\ntoo many connections\n";
        assert_eq!(String::from_utf8(refusal.to_bytes()).unwrap(), expected);
    }

    #[test]
    fn only_a_connection_that_goes_on_has_a_time_to_rest() {
        let announced = |version, connection: &str, is_last| {
            let headers = [(header::CONNECTION, connection.parse().unwrap())];
            let mut response = Response::new(());
            Persistence::of(version, &HeaderMap::from_iter(headers)).announce(
                is_last,
                Duration::from_secs(5),
                &mut response,
            );
            let value = |name: &str| {
                let value = response.headers().get(name)?;
                Some(value.to_str().unwrap().to_owned())
            };
            (value("connection"), value("keep-alive"))
        };
        let (close, keep) = (Some("close".to_owned()), Some("keep-alive".to_owned()));
        let rest = Some("timeout=5".to_owned());
        let http = Version::HTTP_11;
        let goes_on = (keep, rest);
        assert_eq!(announced(http, "", false), goes_on);
        assert_eq!(announced(Version::HTTP_10, "Keep-Alive", false), goes_on);
        assert_eq!(announced(http, "", true), (close.clone(), None));
        assert_eq!(announced(http, "upgrade, Close", false), (None, None));
        assert_eq!(announced(http, "Close", true), (close.clone(), None));
        assert_eq!(announced(Version::HTTP_10, "", false), (None, None));
        assert_eq!(
            announced(Version::HTTP_10, "keep-alive", true),
            (close, None)
        );
    }
}
