//! Reads command lines.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, Error, Parser};

use crate::variables::unknown_variables;

/// Parses the command line, where an empty environment variable counts as not set. Exits with a message
/// and code 2 if something is wrong.
pub fn parse<Arguments: Parser>() -> Arguments {
    try_parse_from(std::env::args_os()).unwrap_or_else(|error| error.exit())
}

/// Warns on standard error of environment variables that no program knows.
pub fn warn_of_unknown_variables() {
    for variable in unknown_variables() {
        eprintln!("warning: {variable}");
    }
}

/// Parses a command line.
///
/// # Errors
/// The error for the person who wrote it.
fn try_parse_from<Arguments: Parser>(
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<Arguments, Error> {
    let mut command = without_empty_variables(Arguments::command());
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let matches = command.try_get_matches_from_mut(&arguments);
    let mut matches = matches.map_err(|error| with_tip(error, &command, &arguments))?;
    Arguments::from_arg_matches_mut(&mut matches)
        .map_err(|error| error.format(&mut without_empty_variables(Arguments::command())))
}

/// Returns a command that takes empty environment variables for such that are not set.
pub fn without_empty_variables(command: Command) -> Command {
    let unset = |argument: Arg| {
        let is_empty = argument
            .get_env()
            .and_then(std::env::var_os)
            .is_some_and(|value| value.is_empty());
        match is_empty {
            true => argument.env(None::<&'static str>),
            false => argument,
        }
    };
    // A negative number is out of the range of a flag, and no flag.
    let takes_numbers = |argument: Arg| match argument.get_action().takes_values() {
        true => argument.allow_negative_numbers(true),
        false => argument,
    };
    command
        .mut_args(unset)
        .mut_args(takes_numbers)
        .mut_subcommands(without_empty_variables)
}

/// Adds what helps a person further: where a wrong value comes from that is not on the command line, and
/// how a value is written that begins with a dash, where the parser took it for a flag.
fn with_tip(mut error: Error, command: &Command, arguments: &[OsString]) -> Error {
    let Some(ContextValue::String(subject)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let tip = match error.kind() {
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            variable(subject, command, arguments)
                .map(|name| format!("the value is that of the environment variable {name}"))
        }
        // Our programs have short flags for help and version only.
        ErrorKind::UnknownArgument if !subject.starts_with("--") => Some(
            "a value that begins with a dash is written behind =, such as --flag=-value".to_owned(),
        ),
        _ => None,
    };
    if let Some(tip) = tip {
        let tips = ContextValue::StyledStrs(vec![tip.into()]);
        error.insert(ContextKind::Suggested, tips);
    }
    error
}

/// Returns the environment variable of a flag such as `--tick <HZ>` that is not on the command line.
fn variable(flag: &str, command: &Command, arguments: &[OsString]) -> Option<String> {
    let flag = flag.split(' ').next()?;
    let is_flag = |argument: &OsString| {
        let argument = argument.to_string_lossy();
        argument.split('=').next() == Some(flag)
    };
    if arguments.iter().any(is_flag) {
        return None;
    }
    let mut known = command.get_arguments();
    let known = known.find(|known| known.get_long() == flag.strip_prefix("--"))?;
    Some(known.get_env()?.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<String, String> {
        let number = Arg::new("number").long("number").env("CUBESYNC_TICK");
        let mut command = without_empty_variables(Command::new("program").arg(number));
        let arguments = ["program"].iter().chain(arguments);
        let arguments: Vec<OsString> = arguments.map(OsString::from).collect();
        let matches = command.try_get_matches_from_mut(&arguments);
        let matches = matches.map_err(|error| with_tip(error, &command, &arguments).to_string())?;
        Ok(matches
            .get_one::<String>("number")
            .cloned()
            .unwrap_or_default())
    }

    #[test]
    fn a_dash_begins_a_flag_unless_it_stands_behind_an_equals_sign() {
        assert_eq!(parsed(&["--number", "-1"]).as_deref(), Ok("-1"));
        assert_eq!(parsed(&["--number=-a"]).as_deref(), Ok("-a"));
        let problem = parsed(&["--number", "-a"]).unwrap_err();
        assert!(
            problem.contains("behind =, such as --flag=-value"),
            "{problem}"
        );
        let problem = parsed(&["--nonsense"]).unwrap_err();
        assert!(!problem.contains("behind ="), "{problem}");
    }
}
