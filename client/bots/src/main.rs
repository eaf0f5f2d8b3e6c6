//! Headless clients that wander about like people: company for one, and load for a server.

mod bot;
#[path = "../../flags/mod.rs"]
mod flags;
mod summary;
mod wander;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use cubesync_arguments::{parse, time, warn_of_unknown_variables};
use cubesync_client::ClientOptions;
use cubesync_client::protocol::help::FOR_PLAYERS;
use cubesync_client::protocol::{Colour, clean_name, clean_room};
use cubesync_client::socket::full_address;

use crate::bot::{Bot, Play};
use crate::flags::{DatagramFlags, KeyFlags, LabFlags, TlsFlags};
use crate::summary::Summary;

const FRAME: Duration = Duration::from_micros(16_667);
const STATUS_INTERVAL: Duration = Duration::from_secs(5);
/// Longest time between the starts of two bots, and between the first and the last.
const LONGEST_STAGGER: Duration = Duration::from_millis(25);
const LONGEST_START: Duration = Duration::from_secs(5);
/// Shortest and longest time that bots run.
const SHORTEST_RUN: Duration = Duration::from_millis(100);
const LONGEST_RUN: Duration = Duration::from_secs(31_557_600);
/// Upper bound of the files that a process has open besides its sockets.
const OTHER_FILES: usize = 32;
/// Largest number of bots.
const MAX_COUNT: u16 = 2_000;

/// Join a cubesync server with bots that wander about and play with loose cubes, and sum up the traffic at the end.
#[derive(Debug, Parser)]
#[command(name = "cubesync-bots", version)]
#[command(after_help = format!("When something does not work: {FOR_PLAYERS}"))]
struct Arguments {
    /// The server's host:port; with tls:// in front the connection is encrypted
    #[arg(long, env = "CUBESYNC_SERVER", default_value = "127.0.0.1:14900", value_parser = full_address)]
    server: String,
    /// Number of bots, 1 to 2000
    #[arg(long, env = "CUBESYNC_COUNT", default_value_t = 3,
        value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_COUNT)))]
    count: u16,
    /// The room to join
    #[arg(long, env = "CUBESYNC_ROOM", default_value = "lobby", value_parser = room)]
    room: String,
    /// How long to run, such as 30s or 2m, at most a year [default: until Ctrl-C]
    #[arg(long = "for", env = "CUBESYNC_FOR", value_name = "TIME",
        value_parser = time(SHORTEST_RUN..=LONGEST_RUN))]
    run_for: Option<Duration>,
    /// The bots' name; a number follows it
    #[arg(long, env = "CUBESYNC_NAME", default_value = "Bot", value_parser = name)]
    name: String,
    /// The bots' play besides wandering, in turn
    #[arg(long, env = "CUBESYNC_PLAY", value_name = "WAY,...", value_delimiter = ',',
        default_values = ["carry", "shove", "wander"])]
    play: Vec<Play>,
    /// Seed of the bots' ways: the same seed makes the same ones [default: a random one]
    #[arg(long, env = "CUBESYNC_SEED")]
    seed: Option<u64>,
    #[command(flatten)]
    key: KeyFlags,
    #[command(flatten)]
    datagrams: DatagramFlags,
    #[command(flatten)]
    tls: TlsFlags,
    #[command(flatten)]
    lab: LabFlags,
}

fn main() -> ExitCode {
    let arguments: Arguments = parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}\nmore help: {FOR_PLAYERS}");
            ExitCode::FAILURE
        }
    }
}

fn room(text: &str) -> Result<String, String> {
    clean_room(text).map_err(|error| error.to_string())
}

fn name(text: &str) -> Result<String, String> {
    let name = clean_name(text).map_err(|error| error.to_string())?;
    match clean_name(&numbered(&name, MAX_COUNT)) {
        Ok(_) => Ok(name),
        Err(error) => Err(format!("{error}, with a bot's number behind it")),
    }
}

fn numbered(name: &str, number: u16) -> String {
    format!("{name} {number}")
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    check_open_files(usize::from(arguments.count))?;
    arguments.tls.warn(&arguments.server);
    warn_of_unknown_variables();
    let is_stopped = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&is_stopped);
    ctrlc::set_handler(move || stop.store(true, Ordering::Relaxed))
        .context("cannot listen for Ctrl-C")?;

    let mut bots = bots(arguments);
    let start = Instant::now();
    let mut status = StatusLine::default();
    let stagger = LONGEST_STAGGER.min(LONGEST_START / u32::from(arguments.count));
    loop {
        let now = start.elapsed();
        for (bot, starts_at) in bots.iter_mut().zip((0u32..).map(|index| stagger * index)) {
            if now >= starts_at {
                bot.step(start.elapsed());
            }
        }
        status.print_when_due(&bots, now);
        let is_over = arguments.run_for.is_some_and(|run_for| now >= run_for);
        if is_over || is_stopped.load(Ordering::Relaxed) || bots.iter().all(Bot::has_failed) {
            break;
        }
        thread::sleep((now + FRAME).saturating_sub(start.elapsed()));
    }
    status.end();
    println!("{}", summary(&bots).lines(start.elapsed()));
    let failed: Vec<_> = bots.iter().filter(|bot| !bot.is_joined()).collect();
    let first = failed.first().map(|bot| bot.failure());
    let (failed, count) = (failed.len(), bots.len());
    bots.iter_mut().for_each(|bot| bot.client.close());
    match first {
        Some(first) => anyhow::bail!("{failed} of {count} failed; {first}"),
        None => Ok(()),
    }
}

fn bots(arguments: &Arguments) -> Vec<Bot> {
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    let mut random = fastrand::Rng::with_seed(seed);
    let bot = |(number, &play)| {
        let name = numbered(&arguments.name, number);
        let mut options = ClientOptions {
            room: arguments.room.clone(),
            colour: colour(&mut random),
            ..ClientOptions::new(arguments.server.as_str(), name)
        };
        arguments
            .key
            .apply(&mut options)
            .unwrap_or_else(|error| error.exit());
        arguments.tls.apply(&mut options);
        arguments.lab.apply(&mut options, number);
        arguments.datagrams.apply(&mut options);
        Bot::new(options, random.u64(..), play)
    };
    let plays = arguments.play.iter().cycle();
    (1..=arguments.count).zip(plays).map(bot).collect()
}

/// Returns a random bright colour: one channel full, one low, one between.
fn colour(random: &mut fastrand::Rng) -> Colour {
    let mut channels = [0xF0, 0x40, random.u8(0x40..=0xF0)];
    random.shuffle(&mut channels);
    channels.into()
}

fn summary(bots: &[Bot]) -> Summary {
    Summary::of(
        bots.iter()
            .map(|bot| (bot.is_joined(), bot.client.statistics())),
    )
}

/// Raises the limit on open files as far as the system allows, and checks it before the first bot starts:
/// the last ones would fail one by one.
fn check_open_files(count: usize) -> anyhow::Result<()> {
    let needed = count + OTHER_FILES;
    // Where the limit cannot be known, the connections that fail report it themselves.
    let limit = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(u64::MAX);
    ensure!(
        needed as u64 <= limit,
        "{count} bots need {needed} open files and {limit} are allowed; raise the limit with \
         `ulimit -n {needed}` or lower --count"
    );
    Ok(())
}

/// The status line: rewritten in place on a terminal, printed one after the other elsewhere.
#[derive(Debug, Default)]
struct StatusLine {
    before: Summary,
    printed: Duration,
}

impl StatusLine {
    fn print_when_due(&mut self, bots: &[Bot], now: Duration) {
        let passed = now.saturating_sub(self.printed);
        if passed < STATUS_INTERVAL {
            return;
        }
        let summary = summary(bots);
        let mut line = summary.status(&self.before, passed);
        if let Some(bot) = bots.iter().find(|bot| !bot.is_joined()) {
            line = format!(
                "{line}; {}: {}",
                bot.client.options().name,
                bot.client.status()
            );
        }
        let mut output = std::io::stderr();
        // Nobody may be there to read it; the bots walk on.
        let _ = if output.is_terminal() {
            // Without wrapping: a line that is too long is cut, and stays one line.
            write!(output, "\r\x1b[K\x1b[?7l{line}\x1b[?7h")
        } else {
            writeln!(output, "{line}")
        };
        self.before = summary;
        self.printed = now;
    }

    fn end(&self) {
        let mut output = std::io::stderr();
        if self.printed > Duration::ZERO && output.is_terminal() {
            let _ = writeln!(output);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_what_the_help_says() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
        let parse = |arguments: &[&str]| {
            Arguments::try_parse_from([&["cubesync-bots"], arguments].concat())
        };
        let parsed = parse(&["--count", "20", "--for", "2m"]).unwrap();
        assert_eq!(
            (parsed.count, parsed.run_for),
            (20, Some(Duration::from_secs(120)))
        );
        assert_eq!(parsed.play, [Play::Carry, Play::Shove, Play::Wander]);
        let parsed = parse(&["--play", "shove,carry"]).unwrap();
        assert_eq!(parsed.play, [Play::Shove, Play::Carry]);
        let parsed = parse(&["--server", "tls://fe80::1%eth0"]).unwrap();
        assert_eq!(parsed.server, "tls://[fe80::1%eth0]:14900");
        for wrong in [
            ["--count", "0"],
            ["--count", "2001"],
            ["--for", "soon"],
            ["--for", "0s"],
            ["--for", "600000000000y"],
            ["--name", " "],
            ["--play", "dance"],
            ["--play", ""],
            ["--server", "localhost:port"],
            ["--server", "http://localhost:8080/"],
        ] {
            assert_eq!(parse(&wrong).unwrap_err().exit_code(), 2, "{wrong:?}");
        }
    }

    #[test]
    fn hostile_values_are_refused_or_work() {
        use clap::CommandFactory;
        use cubesync_arguments::testing::{accepted, without_range};
        for (given, arguments) in accepted::<Arguments>() {
            let mut options = ClientOptions::new(arguments.server.as_str(), "Anna");
            if let Err(error) = arguments.key.apply(&mut options) {
                assert_eq!(error.exit_code(), 2, "{given}");
                continue;
            }
            let bots = bots(&Arguments {
                count: 1,
                ..arguments
            });
            summary(&bots).lines(Duration::ZERO);
        }
        assert_eq!(without_range(&Arguments::command()), [""; 0]);
    }
}
