//! The server program: parse, log, run.

mod addresses;
mod signals;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use cubesync_server::{Config, logging, run};
use tokio_util::sync::CancellationToken;
use tracing::info;

use self::signals::Signals;

#[tokio::main]
async fn main() -> ExitCode {
    match serve(Config::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not `eprintln!`, which panics when nobody reads it.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let _log = logging::start(config.log_format)?;
    let shutdown = CancellationToken::new();
    let signals = Signals::listen().context("cannot listen for Ctrl-C")?;
    tokio::spawn(stop_on_signal(signals, shutdown.clone()));
    let with_qr = std::io::stdout().is_terminal() && !config.no_qr;
    run(config, shutdown, |bound| {
        // On a terminal the summary says so, and nobody wants it twice.
        if !std::io::stdout().is_terminal() {
            let version = env!("CARGO_PKG_VERSION");
            let text = bound.text.map(tracing::field::display);
            info!(version, clients = %bound.tcp, http = %bound.http, text, "serving");
        }
        show(addresses::summary(&bound, with_qr));
    })
    .await?;
    Ok(())
}

/// Prints a text, or does not: standard output may be closed, and a pipe that nobody empties
/// makes a thread wait, which must not be one of the server's.
fn show(text: String) {
    std::thread::spawn(move || std::io::stdout().write_all(text.as_bytes()));
}

/// The first signal stops the server gently, the second at once.
async fn stop_on_signal(mut signals: Signals, shutdown: CancellationToken) {
    signals.next().await;
    shutdown.cancel();
    signals.next().await;
    std::process::exit(1);
}
