//! The command line.

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use cubesync_server::Config;

/// What the program is to do.
#[derive(Parser)]
#[command(name = "cubesync-server", version, about, max_term_width = 100)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    /// `None`: serve.
    #[command(subcommand)]
    pub(crate) chore: Option<Chore>,
    /// The server to run.
    #[command(flatten)]
    pub(crate) config: Config,
}

/// What is done instead of serving.
#[derive(Subcommand)]
pub(crate) enum Chore {
    /// Tell in words whether a server with these flags would be in order: ports, who reaches it,
    /// keys, limits, files. Ends with 1 if there is a problem
    Doctor(Box<Config>),
    /// Ask the server with these flags whether it is serving. Ends with 1 if it is not
    Healthcheck(Box<Config>),
}

impl Arguments {
    /// What was given; what makes no sense ends the program with words and code 2.
    pub(crate) fn read() -> Self {
        let arguments = Self::parse();
        let config = match &arguments.chore {
            None => &arguments.config,
            Some(Chore::Doctor(config) | Chore::Healthcheck(config)) => config,
        };
        if let Err(problem) = config.check_secrets() {
            Self::command()
                .error(ErrorKind::ValueValidation, problem)
                .exit();
        }
        arguments
    }
}
