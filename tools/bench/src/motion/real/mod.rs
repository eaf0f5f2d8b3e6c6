//! `cargo bench-motion --real`: the way from a pose here to a pixel there, over the kernel's own TCP.
//!
//! A [`run`] of one of the [`cases`] puts a server and three [`player`]s into [`namespace`]s of their own,
//! with [`wire`]s between them whose [`link`]s delay and lose whole IP packets. The [`figures`] compare
//! what the viewer saw with the truth, and make a [`table`].

mod cases;
mod figures;
mod link;
mod namespace;
mod player;
mod run;
mod table;
mod wire;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use cubesync_harness::programs::{build_command, file_name, find_installed, neighbour};

use self::cases::Case;
use self::figures::Figures;
use self::namespace::Namespace;

/// Whether Ctrl-C was pressed, or a run has failed.
static IS_STOPPED: AtomicBool = AtomicBool::new(false);

/// The options of the measurement over real TCP.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Options {
    /// Measure the whole way from a pose to a pixel over the kernel's own TCP instead; needs root.
    #[arg(long, conflicts_with_all = ["check", "update", "markdown", "cost", "seed"])]
    pub(crate) real: bool,
    /// A case; may be given several times. `all` stands for every case, an unknown name prints them.
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
    /// The scored time of a run, in seconds.
    #[arg(long, default_value_t = 60.0, requires = "real")]
    seconds: f64,
    /// Number of runs at the same time.
    #[arg(long, default_value_t = 4, requires = "real")]
    jobs: usize,
    /// A built cubesync-server [default: build it].
    #[arg(long, value_name = "FILE", requires = "real")]
    server: Option<PathBuf>,
}

/// Runs the cases and prints the table.
pub(crate) fn run(options: &Options) -> Result<()> {
    let cases = chosen(&options.cases)?;
    let server = match &options.server {
        Some(server) => server.clone(),
        None => build()?,
    };
    check_machine()?;
    ctrlc::set_handler(|| IS_STOPPED.store(true, Ordering::Relaxed))?;

    let runs: Vec<_> = (1..=options.seeds)
        .flat_map(|seed| cases.iter().map(move |case| (case, seed)))
        .collect();
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(&str, Figures)>> {
        let mut done = Vec::new();
        while let Some(&(case, seed)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let run = run::run(case, seed, options.seconds, &server, &IS_STOPPED);
            let run = run.inspect_err(|_| IS_STOPPED.store(true, Ordering::Relaxed));
            let run = run.with_context(|| format!("{}, seed {seed}", case.name))?;
            report(case, seed, &run);
            done.push((case.name.as_str(), run.figures));
        }
        Ok(done)
    };
    let done = thread::scope(|scope| {
        let workers: Vec<_> = (0..options.jobs).map(|_| scope.spawn(work)).collect();
        let done = workers
            .into_iter()
            .map(|worker| worker.join().expect("a run panicked"));
        done.collect::<Result<Vec<_>>>()
    })?;
    let done = done.concat();
    let of = |case: &Case| {
        let figures = done.iter().filter(|(name, _)| *name == case.name);
        (
            case.name.clone(),
            figures.map(|(_, figures)| *figures).collect(),
        )
    };
    let cases: Vec<_> = cases.iter().map(of).collect();
    print!("{}", table::text(&cases));
    Ok(())
}

fn report(case: &Case, seed: u64, run: &run::Run) {
    let figures = &run.figures;
    eprintln!(
        "{} {seed}: {:.1} cm at {:.0} ms",
        case.name, figures.rms_cm, figures.delay_ms
    );
    for trouble in &run.trouble {
        eprintln!("{} {seed}: {trouble}", case.name);
    }
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
    let missing: Vec<_> = ["ip", "chrt"]
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
