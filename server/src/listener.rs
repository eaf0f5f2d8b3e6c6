//! Accepting connections without ever giving up.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Pause after a failed accept. Out of descriptors, accepting fails at once and would spin.
const BACKOFF: Duration = Duration::from_millis(100);

/// Accepts until `shutdown` and passes each connection on.
pub(crate) async fn accept<Serving: Future<Output = ()>>(
    listener: TcpListener,
    shutdown: CancellationToken,
    serve: impl Fn(TcpStream, SocketAddr) -> Serving,
) {
    let accepting = async {
        let mut failing = false;
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    failing = false;
                    serve(stream, peer).await;
                }
                Err(error) => {
                    // Once per spell: a full process would flood the log.
                    if !std::mem::replace(&mut failing, true) {
                        warn!(%error, "cannot accept connections at the moment");
                    }
                    tokio::time::sleep(BACKOFF).await;
                }
            }
        }
    };
    shutdown.run_until_cancelled(accepting).await;
}
