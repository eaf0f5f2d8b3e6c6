//! What a few addresses can do to everybody: attacks within the default limits, beside which two good
//! players measure the server.
//!
//! The server has a network namespace of its own, with a cable to another one, in which the good players and
//! the attackers are: a few of its many addresses belong to the attackers. They run on the same machine as
//! the server and stand for other machines, so they are cheap and nice to it, and the good players run first.

mod attack;
mod attackers;
mod attacks;
mod field;
mod report;
mod trial;

use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::process::setpriority_process;

use self::attack::Attack;
use self::field::Field;
use crate::harness::namespace::leave_nothing;
use crate::harness::process::SessionPrecedence;
use crate::harness::server::Setup;
use crate::runner::{Verdict, is_here};

/// A server with default limits that is reached at every address.
const DEFAULT: Setup = Setup {
    flags: &[],
    address: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ..Setup::PLAIN
};
/// The programs without which nothing can be tried.
const NEEDS: [&str; 4] = ["root", "ip", "chrt", "openssl"];
/// How much the server comes before the attackers and others on this machine.
const SERVERS_PRIORITY: i32 = -10;
/// The number of addresses in a quick run.
const QUICK_ADDRESSES: usize = 4;

/// Tries what a few addresses can do to everybody
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Try only attacks whose name contains NAME; may be repeated
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,

    /// Number of addresses; may be repeated [default: 1, 4 and 30, or what an attack needs]
    #[arg(long, value_name = "COUNT")]
    addresses: Vec<usize>,

    /// Try only the most important attacks, from 4 addresses and for a shorter time, for CI
    #[arg(long)]
    quick: bool,

    /// Write the results into a JSON file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// The server program [default: the one of this build, built first]
    #[arg(long, value_name = "FILE")]
    pub(crate) server_bin: Option<PathBuf>,
}

impl Options {
    fn wants(&self, attack: &Attack) -> bool {
        match self.only.is_empty() {
            true => !self.quick || attack.is_quick,
            false => self.only.iter().any(|part| attack.name.contains(part)),
        }
    }

    fn addresses(&self, attack: &Attack) -> Vec<usize> {
        match (self.addresses.is_empty(), attack.addresses) {
            (_, &[only]) => vec![only],
            (false, _) => self.addresses.clone(),
            (true, _) if self.quick => vec![QUICK_ADDRESSES],
            (true, all) => all.to_vec(),
        }
    }
}

/// Tries the wanted attacks one after the other. Returns whether everybody else was well in all of them.
pub(crate) fn run(binary: &Path, options: &Options) -> Result<bool> {
    let missing: Vec<_> = NEEDS.into_iter().filter(|need| !is_here(need)).collect();
    ensure!(missing.is_empty(), "this needs {missing:?}");
    let wanted: Vec<(&Attack, usize)> = attacks::all()
        .filter(|attack| options.wants(attack))
        .flat_map(|attack| {
            let each = options.addresses(attack).into_iter();
            each.map(move |addresses| (attack, addresses))
        })
        .collect();
    ensure!(!wanted.is_empty(), "no attack has such a name");
    leave_nothing()?;
    let field = Field::enter()?;
    let _precedence = SessionPrecedence::take()?;
    setpriority_process(None, SERVERS_PRIORITY).context("the server cannot come first")?;
    let mut lines = Vec::new();
    for (number, (attack, addresses)) in wanted.iter().enumerate() {
        let line = trial::run(&field, binary, attack, *addresses, options.quick);
        println!("{}", report::progress(number + 1, wanted.len(), &line));
        lines.push(line);
    }
    println!("\n{}", report::table(&lines));
    if let Some(file) = &options.json {
        let text = serde_json::to_string_pretty(&lines)?;
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(lines.iter().all(|line| line.verdict == Verdict::Survived))
}
