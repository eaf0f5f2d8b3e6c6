//! The command line.

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use cubesync_arguments::parse;
use cubesync_protocol::help::FOR_OPERATORS;
use cubesync_server::Config;
use cubesync_server::control::command_line::Command;

/// The parsed command line.
#[derive(Parser)]
#[command(name = "cubesync-server", version, about, max_term_width = 100)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = format!("When something does not work: {FOR_OPERATORS}"))]
pub(crate) struct Arguments {
    /// The chore; `None` to serve.
    #[command(subcommand)]
    pub(crate) chore: Option<Chore>,
    /// The server to run.
    #[command(flatten)]
    pub(crate) config: Config,
}

/// A task other than serving.
#[derive(Subcommand)]
pub(crate) enum Chore {
    /// Check whether a server with these flags would work, and print what is wrong: ports,
    /// reachability, keys, limits, files. Exits with 1 if there is a problem
    Doctor(Box<Config>),
    /// Ask the server with these flags whether it is serving. Exits with 1 if it is not
    Healthcheck(Box<Config>),
    #[command(flatten)]
    Operate(Command),
}

impl Arguments {
    /// Parses the command line. Exits with an error message and code 2 if it is invalid.
    pub(crate) fn read() -> Self {
        let arguments: Self = parse();
        let config = match &arguments.chore {
            None => &arguments.config,
            Some(Chore::Doctor(config) | Chore::Healthcheck(config)) => config,
            Some(Chore::Operate(_)) => return arguments,
        };
        let mut checked = config
            .check_secrets()
            .and_then(|()| config.check_loose_cubes());
        // The doctor reports such ports with everything else.
        if arguments.chore.is_none() {
            checked = checked.and_then(|()| config.check_ports());
        }
        if let Err(problem) = checked {
            Self::command()
                .error(ErrorKind::ValueValidation, problem)
                .exit();
        }
        arguments
    }
}
