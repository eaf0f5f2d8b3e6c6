//! The server program: parse, log, run.

mod addresses;
mod arguments;
mod signals;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Context;
use cubesync_server::{Config, doctor, logging, run};
use tokio_util::sync::CancellationToken;
use tracing::info;

use self::arguments::{Arguments, Chore};
use self::signals::Signals;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::read();
    let outcome = match arguments.chore {
        None => serve(arguments.config).await,
        Some(Chore::Doctor(config)) => return examine(&config).await,
        Some(Chore::Healthcheck(config)) => return success(doctor::is_serving(&config)),
    };
    match outcome {
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
    run(config, shutdown, move |bound| {
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

async fn examine(config: &Config) -> ExitCode {
    let report = doctor::examine(config).await;
    let colours = logging::wants_colours(&std::io::stdout());
    // Without a reader the exit code still tells.
    let _ = write!(std::io::stdout(), "{}", report.render(colours));
    success(report.is_in_order())
}

fn success(is_good: bool) -> ExitCode {
    match is_good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
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
