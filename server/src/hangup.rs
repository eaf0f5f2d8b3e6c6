//! SIGHUP: read the certificate again.

use std::sync::Arc;

use crate::shared::Shared;

/// Reads the certificate again at each SIGHUP, until the server stops. A closed terminal sends the
/// same signal to whoever runs in it: that ends the server, as it does without this.
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

/// There is no such signal here.
#[cfg(not(unix))]
pub(crate) async fn reload_on_hangup(_: Arc<Shared>) {}
