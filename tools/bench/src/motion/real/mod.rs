//! `cargo bench-motion --real`: the way from a pose here to a pixel there, over the kernel's own TCP.
//!
//! A [`run()`] of one of the [`cases`] puts a server and three [`player`]s into [`namespace`]s of their own,
//! with [`wire`]s between them whose [`link`]s delay and lose whole IP packets. The [`figures`] compare
//! what the viewer saw with the truth, and make a [`table`].

mod bursts;
mod cases;
mod conditions;
mod figures;
mod link;
mod namespace;
mod player;
mod run;
mod table;
mod transfer;
mod wire;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use cubesync_harness::programs::{build_command, file_name, find_installed, neighbour};

use self::cases::Case;
use self::namespace::Namespace;
use self::run::{Plan, Run};
use self::table::Outcome;

/// Whether Ctrl-C was pressed.
static IS_STOPPED: AtomicBool = AtomicBool::new(false);

/// The options of the measurement over real TCP.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Options {
    /// Measure the whole way from a pose to a pixel over the kernel's own TCP instead; needs root
    #[arg(long, conflicts_with_all = ["check", "update", "markdown", "cost", "seed"])]
    pub(crate) real: bool,
    /// A case; may be given several times. `all` stands for every case; an unknown name lists them
    #[arg(
        long = "case",
        value_name = "NAME",
        default_value = "all",
        requires = "real"
    )]
    cases: Vec<String>,
    /// Number of runs of each case; their seeds are 1, 2, 3 ...
    #[arg(long, default_value_t = 3, requires = "real")]
    seeds: u64,
    /// Scored time of a run, in seconds
    #[arg(long, default_value_t = 60.0, requires = "real")]
    seconds: f64,
    /// Number of runs at the same time
    #[arg(long, default_value_t = 4, requires = "real")]
    jobs: usize,
    /// Whether the players ask for datagrams beside their connections
    #[arg(long, value_enum, default_value_t = Datagrams::On, requires = "real")]
    datagrams: Datagrams,
    /// Whether UDP passes the wires of the walker and of the viewer
    #[arg(long, value_enum, default_value_t = Udp::Open, requires = "real")]
    udp: Udp,
    /// Run one case for 20 s, and fail if its figures are far from good
    #[arg(long, requires = "real", conflicts_with_all = ["cases", "seeds", "seconds"])]
    quick: bool,
    /// Write all figures of all runs into a file
    #[arg(long, value_name = "FILE", requires = "real")]
    json: Option<PathBuf>,
    /// A built cubesync-server [default: build it]
    #[arg(long, value_name = "FILE", requires = "real")]
    server: Option<PathBuf>,
}

/// Whether the fast path is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Datagrams {
    On,
    Off,
}

/// What the wires do to UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Udp {
    Open,
    Blocked,
}

/// The time of the short form.
const QUICK_SECONDS: f64 = 20.0;

/// Runs the cases and prints the table.
pub(crate) fn run(options: &Options) -> Result<()> {
    let quick = vec![cases::QUICK.to_owned()];
    let cases = chosen(if options.quick {
        &quick
    } else {
        &options.cases
    })?;
    check_machine()?;
    let plan = Plan {
        server: match &options.server {
            Some(server) => server.clone(),
            None => build()?,
        },
        seconds: match options.quick {
            true => QUICK_SECONDS,
            false => options.seconds,
        },
        asks_for_datagrams: options.datagrams == Datagrams::On,
        blocks_udp: options.udp == Udp::Blocked,
    };
    let seeds = if options.quick { 1 } else { options.seeds };
    ctrlc::set_handler(|| IS_STOPPED.store(true, Ordering::Relaxed))?;

    let (outcomes, failed) = run_all(&cases, seeds, options.jobs, &plan);
    print!("{}", table::text(&outcomes));
    if let Some(path) = &options.json {
        let json = serde_json::to_vec_pretty(&outcomes)?;
        std::fs::write(path, json).with_context(|| path.display().to_string())?;
    }
    ensure!(failed == 0, "{failed} runs failed or were stopped");
    if options.quick {
        table::check(&outcomes)?;
    }
    Ok(())
}

/// Runs each case with each seed, several at the same time. Returns the cases that have runs, and how many
/// runs failed.
fn run_all(cases: &[Case], seeds: u64, jobs: usize, plan: &Plan) -> (Vec<Outcome>, usize) {
    // A case's runs are far apart, so that a busy minute of this machine meets many cases a little.
    let runs: Vec<_> = (1..=seeds)
        .flat_map(|seed| (0..cases.len()).map(move |case| (case, seed)))
        .collect();
    let next = AtomicUsize::new(0);
    let work = |done: Sender<(usize, Result<Run>)>| {
        while let Some(&(case, seed)) = runs.get(next.fetch_add(1, Ordering::Relaxed))
            && !IS_STOPPED.load(Ordering::Relaxed)
        {
            let run = run_undisturbed(&cases[case], seed, plan);
            let run = run.with_context(|| format!("seed {seed} failed"));
            // The receiver lives as long as there are senders.
            let _ = done.send((case, run));
        }
    };
    let (sender, done) = mpsc::channel();
    let outcome = |case: &Case| Outcome {
        case: case.name.clone(),
        runs: Vec::new(),
    };
    let mut outcomes: Vec<_> = cases.iter().map(outcome).collect();
    let mut failed = 0;
    thread::scope(|scope| {
        for _ in 0..jobs {
            let (work, sender) = (&work, sender.clone());
            scope.spawn(move || work(sender));
        }
        drop(sender);
        for (case, run) in done {
            let name = &cases[case].name;
            match run {
                Ok(run) => {
                    eprintln!("{name}, {}", run.summary());
                    outcomes[case].runs.push(run);
                }
                Err(error) => {
                    eprintln!("{name}, {error:#}");
                    failed += 1;
                }
            }
        }
    });
    for outcome in &mut outcomes {
        outcome.runs.sort_by_key(|run| run.seed);
    }
    outcomes.retain(|outcome| !outcome.runs.is_empty());
    (outcomes, failed)
}

/// Runs a case with a seed, again if other programs disturbed it, and returns the last try.
fn run_undisturbed(case: &Case, seed: u64, plan: &Plan) -> Result<Run> {
    const TRIES: usize = 3;
    let mut run = run::run(case, seed, plan, &IS_STOPPED)?;
    for _ in 1..TRIES {
        if run.is_disturbed {
            eprintln!("{}, {}; again", case.name, run.summary());
            run = run::run(case, seed, plan, &IS_STOPPED)?;
        }
    }
    Ok(run)
}

/// Returns the cases of these names.
fn chosen(names: &[String]) -> Result<Vec<Case>> {
    let all = cases::all();
    for name in names {
        if name != "all" && !all.iter().any(|case| case.name == *name) {
            let known: Vec<_> = all.iter().map(|case| case.name.as_str()).collect();
            bail!(
                "there is no case {name}; there are all, {}",
                known.join(", ")
            );
        }
    }
    let is_chosen = |case: &Case| names.iter().any(|name| name == "all" || *name == case.name);
    Ok(all.into_iter().filter(is_chosen).collect())
}

/// Builds the server in the profile of this program.
fn build() -> Result<PathBuf> {
    let status = build_command(&["cubesync-server"], !cfg!(debug_assertions)).status();
    ensure!(
        status.context("cannot run cargo")?.success(),
        "the server does not build"
    );
    neighbour(&file_name("cubesync-server"))
}

/// Checks what the measurement needs, so that what is missing is told first.
fn check_machine() -> Result<()> {
    let missing: Vec<_> = ["ip", "chrt", "setpriv"]
        .into_iter()
        .filter(|program| find_installed(program).is_none())
        .collect();
    ensure!(
        missing.is_empty(),
        "not installed: {} (Debian: iproute2, util-linux)",
        missing.join(", ")
    );
    let tun = Path::new("/dev/net/tun");
    std::fs::File::options()
        .read(true)
        .write(true)
        .open(tun)
        .context("cannot open /dev/net/tun: TUN devices need root and the kernel's module tun")?;
    // In a thread of its own, which takes the namespace with it.
    let namespace = thread::spawn(|| Namespace::new().map(drop)).join();
    namespace.expect("it does not panic")
}
