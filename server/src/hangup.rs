//! SIGHUP: reloads the certificate.

use std::sync::Arc;

use crate::shared::Shared;

/// Reloads the certificate at each SIGHUP until the server stops. A terminal that closes sends the
/// same signal to the programs in it. That still stops the server.
#[cfg(unix)]
pub(crate) async fn reload_on_hangup(shared: Arc<Shared>) {
    use std::io::IsTerminal;

    use tokio::signal::unix::{SignalKind, signal};
    use tokio::sync::Notify;

    let mut hangups = match signal(SignalKind::hangup()) {
        Ok(hangups) => hangups,
        Err(error) => return tracing::warn!(%error, "cannot listen for SIGHUP"),
    };
    let had_terminal = std::io::stdin().is_terminal();
    // It holds one request: however many come while the certificate is read, it is read once more.
    let is_wanted = Notify::new();
    let listening = async {
        while hangups.recv().await.is_some() {
            if had_terminal && !std::io::stdin().is_terminal() {
                return shared.host.shutdown.cancel();
            }
            is_wanted.notify_one();
        }
    };
    let reloading = async {
        loop {
            is_wanted.notified().await;
            match &shared.tls {
                Some(tls) => tls.reload(&shared.metrics).await,
                None => tracing::info!("SIGHUP: there is no certificate to read again"),
            }
        }
    };
    let both = async { tokio::join!(listening, reloading) };
    shared.host.shutdown.run_until_cancelled(both).await;
}

/// Does nothing, because this system has no such signal.
#[cfg(not(unix))]
pub(crate) async fn reload_on_hangup(_: Arc<Shared>) {}
