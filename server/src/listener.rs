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

/// Accepts connections until `shutdown` and passes each one to `serve`.
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
}
