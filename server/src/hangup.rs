//! SIGHUP: reloads the certificate.

use std::sync::Arc;

use crate::shared::Shared;

/// Reloads the certificate at each SIGHUP until the server stops. A terminal that closes sends the
/// same signal to the programs in it. That still stops the server.
#[cfg(unix)]
pub(crate) async fn reload_on_hangup(shared: Arc<Shared>) {
    use std::io::IsTerminal;

    use tokio::signal::unix::{SignalKind, signal};

    let mut hangups = match signal(SignalKind::hangup()) {
        Ok(hangups) => hangups,
        Err(error) => return tracing::warn!(%error, "cannot listen for SIGHUP"),
    };
    let had_terminal = std::io::stdin().is_terminal();
    while let Some(Some(())) = shared
        .host
        .shutdown
        .run_until_cancelled(hangups.recv())
        .await
    {
        if had_terminal && !std::io::stdin().is_terminal() {
            return shared.host.shutdown.cancel();
        }
        match &shared.tls {
            Some(tls) => tls.reload(&shared.metrics),
            None => tracing::info!("SIGHUP: there is no certificate to read again"),
        }
    }
}

/// Does nothing, because this system has no such signal.
#[cfg(not(unix))]
pub(crate) async fn reload_on_hangup(_: Arc<Shared>) {}
