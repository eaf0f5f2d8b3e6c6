//! Accepting connections, which survives errors.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::metrics::{Listener, ServerMetrics};
use cubesync_relay::label::Label;

/// Pause after a failed accept. Without it, a process without free descriptors would spin.
const BACKOFF: Duration = Duration::from_millis(100);

/// Largest number of connections that can wait for a listener: the one that tokio asks the system for.
const BACKLOG: usize = 1024;

/// Accepts connections until `shutdown` and passes each one to `serve`, those too that wait at that moment:
/// closing the listener would reset them.
pub(crate) async fn accept(
    of: Listener,
    listener: TcpListener,
    metrics: &ServerMetrics,
    shutdown: &CancellationToken,
    serve: impl Fn(TcpStream, SocketAddr),
) {
    let accepting = async {
        loop {
            let (stream, peer) = next(of, metrics, || listener.accept()).await;
            serve(stream, peer);
        }
    };
    shutdown.run_until_cancelled(accepting).await;
    let Ok(listener) = listener.into_std() else {
        return;
    };
    let waiting = std::iter::from_fn(|| listener.accept().ok());
    for (stream, peer) in waiting.take(BACKLOG) {
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            serve(stream, peer);
        }
    }
}

/// Waits for the next connection of a listener, however often it fails.
pub(crate) async fn next<Accepted, Accepting>(
    of: Listener,
    metrics: &ServerMetrics,
    accept: impl Fn() -> Accepting,
) -> Accepted
where
    Accepting: Future<Output = io::Result<Accepted>>,
{
    let mut is_failing = false;
    loop {
        match accept().await {
            Ok(accepted) => {
                if is_failing {
                    info!(listener = of.as_str(), "connections are accepted again");
                }
                return accepted;
            }
            Err(error) => {
                metrics.accept_errors.count(of);
                // One warning until the next success keeps the log readable.
                if !std::mem::replace(&mut is_failing, true) {
                    let listener = of.as_str();
                    warn!(listener, %error, "cannot accept connections at the moment");
                }
                tokio::time::sleep(BACKOFF).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::Write;
    use std::sync::Mutex;

    use tokio::io::AsyncReadExt;

    use super::*;
    use cubesync_relay::metrics::Metrics;

    #[tokio::test(start_paused = true)]
    async fn a_listener_that_fails_is_asked_again_and_each_failure_is_counted() {
        let metrics = ServerMetrics::new(&Metrics::default().set);
        let tries = Cell::new(0);
        let accept = || {
            tries.set(tries.get() + 1);
            std::future::ready(match tries.get() {
                ..4 => Err(io::Error::other("no free descriptors")),
                number => Ok(number),
            })
        };
        assert_eq!(next(Listener::Control, &metrics, accept).await, 4);
        let mut counts = metrics.accept_errors.counts();
        assert_eq!(
            counts.find(|(_, count)| *count > 0),
            Some((Listener::Control, 3))
        );
    }

    #[tokio::test]
    async fn connections_that_wait_at_the_end_are_served() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        let (metrics, shutdown) = (Metrics::default(), CancellationToken::new());
        shutdown.cancel();
        let served = Mutex::new(0);
        let serve = |stream: TcpStream, _| {
            stream.into_std().unwrap().write_all(b"bye").unwrap();
            *served.lock().unwrap() += 1;
        };
        let metrics = ServerMetrics::new(&metrics.set);
        accept(Listener::Http, listener, &metrics, &shutdown, serve).await;
        assert_eq!(*served.lock().unwrap(), 3);
        for client in &mut clients {
            let mut text = String::new();
            client.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "bye");
        }
    }
}
