//! The server program: parse, log, run.

mod addresses;
mod signals;

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use cubesync_server::{Config, run};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use self::signals::Signals;

#[tokio::main]
async fn main() -> ExitCode {
    match serve(Config::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .with_env_var("CUBESYNC_LOG")
        .from_env()
        .context("CUBESYNC_LOG is no log filter; try info, debug or cubesync_server=debug")?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let shutdown = CancellationToken::new();
    let signals = Signals::listen().context("cannot listen for Ctrl-C")?;
    tokio::spawn(stop_on_signal(signals, shutdown.clone()));
    let with_qr = std::io::stdout().is_terminal() && !config.no_qr;
    run(config, shutdown, |bound| {
        print!("{}", addresses::summary(&bound, with_qr))
    })
    .await?;
    Ok(())
}

/// The first signal stops the server gently, the second at once.
async fn stop_on_signal(mut signals: Signals, shutdown: CancellationToken) {
    signals.next().await;
    shutdown.cancel();
    signals.next().await;
    std::process::exit(1);
}
