//! The server program: parses the arguments, starts the log and runs the server.

mod addresses;
mod arguments;
mod signals;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Context;
use cubesync_protocol::help::FOR_OPERATORS;
use cubesync_server::doctor;
use cubesync_server::{Config, logging, run};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::arguments::{Arguments, Chore};
use self::signals::Signals;

fn main() -> ExitCode {
    let arguments = Arguments::read();
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error).context("cannot start the runtime")),
    };
    let exit_code = runtime.block_on(perform(arguments));
    // A thread that still waits, for a file or a name server, does not keep the process.
    runtime.shutdown_background();
    exit_code
}

async fn perform(arguments: Arguments) -> ExitCode {
    let outcome = match arguments.chore {
        None => serve(arguments.config).await,
        Some(Chore::Doctor(config)) => return run_doctor(&config).await,
        Some(Chore::Operate(command)) => command.run().map(print_now),
        Some(Chore::Healthcheck(config)) => return exit_code(doctor::is_serving(&config)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    // `eprintln!` would panic on a closed standard error.
    let _ = writeln!(
        std::io::stderr(),
        "error: {error:#}\nmore help: {FOR_OPERATORS}"
    );
    ExitCode::FAILURE
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let _log = logging::start(config.log_format)?;
    for finding in doctor::examine_at_start(&config) {
        warn!("{}; {}", finding.summary, finding.advice);
    }
    let shutdown = CancellationToken::new();
    let signals = Signals::listen().context("cannot listen for Ctrl-C")?;
    tokio::spawn(stop_on_signal(signals, shutdown.clone()));
    let with_qr = std::io::stdout().is_terminal() && !config.no_qr;
    run(config, shutdown, move |bound| {
        // On a terminal, the summary already shows the addresses.
        if !std::io::stdout().is_terminal() {
            let version = env!("CARGO_PKG_VERSION");
            let [udp, text] = [bound.udp, bound.text].map(|it| it.map(tracing::field::display));
            info!(version, clients = %bound.tcp, udp, http = %bound.http, text, "serving");
        }
        print(addresses::summary(&bound, with_qr));
    })
    .await?;
    Ok(())
}

async fn run_doctor(config: &Config) -> ExitCode {
    let report = doctor::examine(config).await;
    let colours = logging::wants_colours(&std::io::stdout());
    // On a closed standard output, the exit code still gives the verdict.
    let _ = write!(std::io::stdout(), "{}", report.render(colours));
    exit_code(report.is_in_order())
}

fn exit_code(is_good: bool) -> ExitCode {
    match is_good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Prints a text from a thread of its own, because a pipe that nobody empties blocks the writer.
/// Ignores a closed standard output.
fn print(text: String) {
    std::thread::spawn(move || std::io::stdout().write_all(text.as_bytes()));
}

/// Prints a text before the program ends. Ignores a closed standard output.
fn print_now(text: String) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Stops the server gently at the first signal and exits at the second.
async fn stop_on_signal(mut signals: Signals, shutdown: CancellationToken) {
    signals.next().await;
    shutdown.cancel();
    signals.next().await;
    std::process::exit(1);
}
