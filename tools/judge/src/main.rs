//! Judges clients of any language: plays scripted servers to one, and says in words what it did wrong.
//!
//! A [`Case`] is a script and what it expects. For each, the [`runner`] makes a [`Trial`](trial::Trial),
//! which starts the [`client`] and plays the server's side over a [`link`], with a [`room`] as the messages'
//! content. What the client has understood comes back as its own samples, through the [`uplink`]: it is told to
//! move its cube to wherever another one is.

mod cases;
mod client;
mod link;
mod room;
mod runner;
#[cfg(test)]
mod tests;
mod trial;
mod uplink;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Parser;

use crate::cases::{Ability, Case};
use crate::runner::{Profile, Verdict};
use cubesync_protocol::Encoding;

/// Plays scripted servers to a client of any language, and says in words what it did wrong.
///
/// The client is started once for each case. In its command {address} stands for the server's host:port ({host} and
/// {port} for its parts), {url} for the WebSocket's address, and {follow} for the name of the cube that it is to follow: it
/// moves its own cube to wherever that one is. docs/PROTOCOL.md, "Is your client right?", has the rest.
#[derive(Debug, Parser)]
#[command(name = "judge", version, max_term_width = 100)]
struct Arguments {
    /// Abilities of the client besides those that every client has
    #[arg(long, value_enum, value_delimiter = ',', default_value = "follow")]
    can: Vec<Ability>,
    /// The client asks for the plain encoding
    #[arg(long)]
    plain: bool,
    /// The client connects to {url}, a WebSocket
    #[arg(long)]
    web: bool,
    /// Run only cases whose name contains NAME; may be repeated
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Number of cases at a time
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,
    /// Print the cases and what they expect, and run none
    #[arg(long)]
    list: bool,
    /// The client's command
    #[arg(last = true, required_unless_present = "list")]
    command: Vec<String>,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Judges the client, and returns whether it is right.
fn run(arguments: Arguments) -> Result<bool> {
    let is_wanted = |case: &Case| {
        let only = &arguments.only;
        only.is_empty() || only.iter().any(|name| case.name.contains(name.as_str()))
    };
    let cases: Vec<_> = cases::all().into_iter().filter(is_wanted).collect();
    ensure!(
        !cases.is_empty(),
        "no case has such a name; --list prints them"
    );
    if arguments.list {
        cases
            .iter()
            .for_each(|case| println!("{:28} {}", case.name, case.expects));
        return Ok(true);
    }
    let profile = Profile {
        encoding: if arguments.plain {
            Encoding::Plain
        } else {
            Encoding::Predicted
        },
        is_web: arguments.web,
        abilities: arguments.can,
    };
    let start = client::command(arguments.command)?;
    let verdicts = runner::run(&cases, &profile, &*start, arguments.jobs.into(), report);
    let count = |is: fn(&Verdict) -> bool| verdicts.iter().filter(|verdict| is(verdict)).count();
    let right = count(|verdict| *verdict == Verdict::Right);
    let wrong = count(|verdict| matches!(verdict, Verdict::Wrong { .. }));
    let others = verdicts.len() - right - wrong;
    println!(
        "{} cases: {right} right, {wrong} wrong, {others} not applicable",
        cases.len()
    );
    Ok(wrong == 0)
}

/// Prints a verdict.
fn report(case: &Case, verdict: &Verdict) {
    let name = case.name;
    match verdict {
        Verdict::Right => println!("right           {name}"),
        Verdict::NotApplicable(why) => println!("not applicable  {name}: {why}"),
        Verdict::Wrong { words, transcript } => {
            let lines: String = transcript
                .iter()
                .map(|line| format!("      {line}\n"))
                .collect();
            println!(
                "WRONG           {name}\n    A right client {}: docs/PROTOCOL.md#{}\n    This one: {words}\n    The end of the \
                 conversation (< from the server, > from the client):\n{lines}",
                case.expects, case.section
            );
        }
    }
}
