//! The accept loop, which survives errors.

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
        let mut failing = false;
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    if std::mem::take(&mut failing) {
                        info!(listener = of.as_str(), "connections are accepted again");
                    }
                    serve(stream, peer);
                }
                Err(error) => {
                    metrics.accept_errors.count(of);
                    // One warning until the next success keeps the log readable.
                    if !std::mem::replace(&mut failing, true) {
                        let listener = of.as_str();
                        warn!(listener, %error, "cannot accept connections at the moment");
                    }
                    tokio::time::sleep(BACKOFF).await;
                }
            }
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

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Mutex;

    use tokio::io::AsyncReadExt;

    use super::*;
    use cubesync_relay::metrics::Metrics;

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
