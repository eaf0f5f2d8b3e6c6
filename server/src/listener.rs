//! Accepting connections without ever giving up.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::metrics::{Listener, ServerMetrics};
use cubesync_relay::label::Label;

/// Pause after a failed accept. Out of descriptors, accepting fails at once and would spin.
const BACKOFF: Duration = Duration::from_millis(100);

/// Accepts until `shutdown` and passes each connection on.
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
                    // Once per spell: a full process would flood the log.
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
