//! Signals, clocks, full disks and other actions of an operator or a machine.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cubesync_harness::http;
use cubesync_harness::wait::comes_true;
use cubesync_protocol::{CloseCode, Hello};
use rustix::process::Signal;

use crate::fault::{Fault, Impact, Outcome};
use crate::harness::counters::Counters;
use crate::harness::crowd::{Behaviour, Crowd, CrowdPlan};
use crate::harness::peer::Peer;
use crate::harness::server::Setup;
use crate::harness::trial::{PATIENCE, Trial, hello};
use crate::transport::jumping_crowd;

/// A stopping server spreads its clients over this time.
const RETURN_SPREAD_MS: u32 = 3_000;
/// A stopping server ends in this time: its drain time and some seconds.
const STOP_WITHIN: Duration = Duration::from_secs(18);

/// A server with much traffic, and with a short drain time in a quick run.
pub(crate) const DEAF: Setup = Setup {
    flags: &["--tick", "128", "--max-speed", "0"],
    quick_flags: &["--drain", "3s"],
    ..Setup::PLAIN
};

/// A server whose wall clock follows a file. Its monotonic clock is the real one.
const CLOCK: Setup = Setup {
    shell: "echo +0 > $SCRATCH/clock
        export LD_PRELOAD=$(ls /usr/lib/*/faketime/libfaketimeMT.so.1 | head -1)
        export FAKETIME_TIMESTAMP_FILE=$SCRATCH/clock FAKETIME_NO_CACHE=1
        export FAKETIME_DONT_FAKE_MONOTONIC=1
        exec \"$0\" \"$@\"",
    ..Setup::PLAIN
};

/// A server that records onto a disk of 16 KiB.
const SMALL_DISK: Setup = Setup {
    flags: &["--tick", "60", "--max-speed", "0"],
    shell: "exec unshare -m bash -c '
        mount -t tmpfs -o size=16k tmpfs $SCRATCH && exec \"$0\" \"$@\" --record $SCRATCH/rec
        ' \"$0\" \"$@\"",
    ..Setup::PLAIN
};

/// Returns a setup with other outputs.
const fn outputs(shell: &'static str) -> Setup {
    Setup {
        shell,
        ..Setup::PLAIN
    }
}
const STDERR_CLOSED: Setup = outputs("exec \"$0\" \"$@\" 2>&-");
const STDERR_FULL: Setup = outputs("exec \"$0\" \"$@\" 2> /dev/full");
const STDOUT_CLOSED: Setup = outputs("exec \"$0\" \"$@\" >&-");

pub(crate) const FAULTS: &[Fault] = &[
    Fault::new("sigterm-under-load", &[], sigterm_under_load).with_impact(Impact::Process),
    Fault::new("sigterm-with-deaf-clients", &[], sigterm_with_deaf)
        .with_impact(Impact::Process)
        .on(&DEAF),
    Fault::new("second-signal", &[], second_signal).with_impact(Impact::Process),
    Fault::new("1000-joins-a-second", &["left"], |trial| {
        let count = trial.pick(300, 3_000);
        let began = Instant::now();
        let crowd = Crowd::start(CrowdPlan {
            server: trial.server.tcp,
            count,
            rooms: 1,
            behaviour: Behaviour::JoinAndLeave,
            is_websocket: false,
            returns: false,
            over: Duration::from_secs(1) * count as u32 / 1_000,
        })?;
        let is_over = || crowd.counts.ended.load(Ordering::Relaxed) == count as u64;
        ensure!(comes_true(3 * PATIENCE, is_over), "some never end");
        let welcomes = crowd.counts.welcomes.load(Ordering::Relaxed);
        ensure!(
            welcomes == count as u64,
            "only {welcomes} of {count} were let in"
        );
        let rate = count as f64 / began.elapsed().as_secs_f64();
        Ok(Outcome::of(
            welcomes,
            format!("{welcomes} let in and out, {rate:.0} a second"),
        ))
    }),
    Fault::new("sigkill-and-reconnect-storm", &[], reconnect_storm).with_impact(Impact::Process),
    Fault::new("clock-a-day-forward", &["resume resumed"], |trial| {
        clock(trial, 86_400)
    })
    .also(&["lost", "replaced"])
    .needs(&["faketime"])
    .on(&CLOCK),
    Fault::new("clock-a-day-back", &["resume resumed"], |trial| {
        clock(trial, -86_400)
    })
    .also(&["lost", "replaced"])
    .needs(&["faketime"])
    .on(&CLOCK),
    Fault::new("full-disk-while-recording", &[], full_disk)
        .needs(&["root", "unshare", "mount"])
        .on(&SMALL_DISK),
    Fault::new("stderr-closed", &["bad_message"], logs_much).on(&STDERR_CLOSED),
    Fault::new("stderr-full", &["bad_message"], logs_much).on(&STDERR_FULL),
    Fault::new("stdout-closed", &["bad_message"], logs_much).on(&STDOUT_CLOSED),
    Fault::new("sigstop", &[], |trial| {
        let pause = trial.pick(Duration::from_secs(4), Duration::from_secs(30));
        trial.server.signal(Signal::STOP)?;
        std::thread::sleep(pause);
        trial.server.signal(Signal::CONT)?;
        let began = Instant::now();
        ensure!(
            trial.bystanders.are_back(),
            "the bystanders do not come back"
        );
        let seconds = began.elapsed().as_secs_f64();
        Ok(Outcome::of(
            0,
            format!("{pause:?} of nothing; plays again after {seconds:.1} s"),
        ))
    })
    .with_impact(Impact::Connections),
];

/// Reads the health page and the counters until the server has ended. Returns whether the server was ever
/// unready, and its last counters.
fn watch_stopping(trial: &Trial<'_>, is_over: &AtomicBool) -> (bool, Option<Counters>) {
    let (mut is_unready, mut counters) = (false, None);
    while !is_over.load(Ordering::Relaxed) {
        let health = http::get(trial.server.http, "/healthz");
        is_unready |= health.is_ok_and(|answer| answer.status == Some(503));
        counters = trial.server.counters().ok().or(counters);
    }
    (is_unready, counters)
}

pub(crate) fn sigterm_under_load(trial: &mut Trial<'_>) -> Result<Outcome> {
    let count = trial.pick(60, 300);
    let crowd = Crowd::join(CrowdPlan {
        server: trial.server.tcp,
        count,
        rooms: 6,
        behaviour: Behaviour::Walk,
        is_websocket: false,
        returns: false,
        over: Duration::from_millis(500),
    })?;
    // A player that does not leave when asked to keeps the server draining.
    let (lingering, _) = trial.player("lingering")?;
    let before = trial.server.counters()?;
    let is_over = AtomicBool::new(false);
    trial.server.signal(Signal::TERM)?;
    let began = Instant::now();
    let (status, gone, (is_unready, counters)) = std::thread::scope(|scope| {
        let trial = &*trial;
        let watching = scope.spawn(|| watch_stopping(trial, &is_over));
        let gone = comes_true(PATIENCE, || {
            crowd.counts.joined.load(Ordering::Relaxed) == 0
        })
        .then(|| began.elapsed());
        let status = comes_true(STOP_WITHIN, || {
            http::get(trial.server.http, "/healthz").is_err()
        });
        is_over.store(true, Ordering::Relaxed);
        (status, gone, watching.join().unwrap_or_default())
    });
    ensure!(status, "it goes on serving");
    let status = trial.server.ended(STOP_WITHIN).context("it does not end")?;
    let took = began.elapsed();
    drop(lingering);
    ensure!(status.code() == Some(0), "it ended with {status}");
    ensure!(is_unready, "/healthz never said 503");
    let asked = count_asked_to_return(&crowd)?;
    ensure!(
        asked == count,
        "only {asked} of {count} were asked to return"
    );
    let counted = counters.context("no metrics while it stops")?;
    let counted = counted.growth(&before, &["shutting_down"]);
    ensure!(
        counted >= asked as u64,
        "shutting_down went up by {counted} only"
    );
    trial.server.restart()?;
    let gone_ms = gone.context("clients are still there")?.as_millis();
    Ok(Outcome::of(
        0,
        format!(
            "{asked} asked to return, gone in {gone_ms} ms; 503; exit 0 in {} ms; shutting_down +{counted}",
            took.as_millis()
        ),
    ))
}

/// Returns how many clients were told to come back, and checks that their times are spread.
fn count_asked_to_return(crowd: &Crowd) -> Result<usize> {
    let closings = crowd.counts.closings();
    let waits: Vec<u32> = closings
        .into_iter()
        .filter(|(code, _)| *code == CloseCode::ShuttingDown)
        .filter_map(|(_, retry_after_ms)| retry_after_ms)
        .collect();
    let (first, last) = (waits.iter().min(), waits.iter().max());
    let (first, last) = first.zip(last).context("no client was asked to return")?;
    let is_spread = *last <= RETURN_SPREAD_MS && last - first > RETURN_SPREAD_MS / 2;
    ensure!(is_spread, "all are to come back after {first} to {last} ms");
    Ok(waits.len())
}

/// Stops a server whose clients never read, not even a `Closing`: it must end without them.
pub(crate) fn sigterm_with_deaf(trial: &mut Trial<'_>) -> Result<Outcome> {
    let crowd = jumping_crowd(trial)?;
    let mut deaf = Vec::new();
    for _ in 0..5 {
        let mut peer = Peer::connect_tight(trial.server.tcp)?;
        peer.join(hello("deaf"))?;
        deaf.push(peer);
    }
    // Their buffers are full by then, and the server has not closed the connections yet.
    std::thread::sleep(Duration::from_secs(2));
    trial.server.signal(Signal::TERM)?;
    let began = Instant::now();
    let status = trial.server.ended(STOP_WITHIN).context("it does not end")?;
    let took = began.elapsed();
    drop((crowd, deaf));
    ensure!(status.code() == Some(0), "it ended with {status}");
    trial.server.restart()?;
    Ok(Outcome::of(
        0,
        format!("exit 0 after {} ms", took.as_millis()),
    ))
}

fn second_signal(trial: &mut Trial<'_>) -> Result<Outcome> {
    let (lingering, _) = trial.player("lingering")?;
    trial.server.signal(Signal::TERM)?;
    let is_stopping = || {
        let health = http::get(trial.server.http, "/healthz");
        health.is_ok_and(|answer| answer.status == Some(503))
    };
    ensure!(
        comes_true(PATIENCE, is_stopping),
        "the first signal does nothing"
    );
    trial.server.signal(Signal::TERM)?;
    let began = Instant::now();
    let status = trial.server.ended(PATIENCE).context("it does not end")?;
    let took = began.elapsed();
    drop(lingering);
    ensure!(status.code() == Some(1), "it ended with {status}");
    ensure!(took < Duration::from_secs(2), "it took {took:?}");
    trial.server.restart()?;
    Ok(Outcome::of(
        0,
        format!("exit 1 at once, after {} ms", took.as_millis()),
    ))
}

/// Kills a server and starts it again: all clients lose their connections and reconnect at once.
pub(crate) fn reconnect_storm(trial: &mut Trial<'_>) -> Result<Outcome> {
    const PLAYERS_PER_ROOM: usize = 50;
    let count = trial.pick(300, 9_900);
    let crowd = Crowd::join(CrowdPlan {
        server: trial.server.tcp,
        count,
        rooms: count / PLAYERS_PER_ROOM,
        behaviour: Behaviour::Rest,
        is_websocket: false,
        returns: true,
        over: Duration::from_secs(count as u64 / 400),
    })?;
    let welcomes = || crowd.counts.welcomes.load(Ordering::Relaxed);
    let before = welcomes();
    trial.server.signal(Signal::KILL)?;
    let began = Instant::now();
    trial.server.ended(PATIENCE).context("it does not end")?;
    trial.server.restart()?;
    let up_ms = began.elapsed().as_millis();
    let is_back = || welcomes() >= before + count as u64;
    ensure!(
        comes_true(Duration::from_secs(120), is_back) && crowd.is_whole(count as u64, PATIENCE),
        "only {} of {count} are back",
        crowd.counts.joined.load(Ordering::Relaxed)
    );
    let back_s = began.elapsed().as_secs_f64();
    crowd.leave()?;
    Ok(Outcome::of(
        0,
        format!("all {count} back {back_s:.1} s after the kill, server up after {up_ms} ms"),
    ))
}

/// Moves the wall clock while a lost player may come back: neither ticks nor ghosts may change.
fn clock(trial: &mut Trial<'_>, seconds: i64) -> Result<Outcome> {
    let date = |trial: &Trial<'_>| -> Result<String> {
        let page = http::get(trial.server.http, "/time.html")?;
        let page = String::from_utf8_lossy(&page.body).into_owned();
        let is_date = |word: &&str| word.len() == 10 && word.matches('.').count() == 2;
        let date = page.split([' ', '<', '>']).find(is_date);
        Ok(date.context("no date on the page")?.to_owned())
    };
    let set = |trial: &Trial<'_>, seconds: i64| {
        fs::write(trial.server.folder.join("clock"), format!("{seconds:+}\n"))
    };
    let today = date(trial)?;
    let (peer, first) = trial.player("lost")?;
    peer.reset()?;
    set(trial, seconds)?;
    let is_moved = || date(trial).is_ok_and(|day| day != today);
    ensure!(
        comes_true(PATIENCE, is_moved),
        "the clock does not move: {today}"
    );
    let there = date(trial)?;
    let ticks = |trial: &Trial<'_>| anyhow::Ok(trial.server.counters()?.value("gauge ticks_total"));
    let (began, before) = (Instant::now(), ticks(trial)?);
    std::thread::sleep(Duration::from_secs(1));
    let rate = (ticks(trial)? - before) / began.elapsed().as_secs_f64();
    let mut back = trial.peer()?;
    let resume = Some(first.resume);
    let welcome = back.join(Hello {
        resume,
        ..hello("lost")
    })?;
    back.leave()?;
    set(trial, 0)?;
    ensure!(welcome.cube == first.cube, "the ghost went with the clock");
    ensure!(
        (30.0..90.0).contains(&rate),
        "{rate:.0} ticks a second instead of 60"
    );
    Ok(Outcome::one(format!(
        "date {today} to {there}; {rate:.0} ticks/s, ghost still there"
    )))
}

fn full_disk(trial: &mut Trial<'_>) -> Result<Outcome> {
    let crowd = Crowd::join(CrowdPlan {
        server: trial.server.tcp,
        count: 20,
        rooms: 1,
        behaviour: Behaviour::Jump,
        is_websocket: false,
        returns: false,
        over: Duration::ZERO,
    })?;
    let line = || {
        let log = trial.server.log();
        log.lines()
            .find(|line| line.contains("recording has ended"))
            .map(str::to_owned)
    };
    let is_logged = comes_true(Duration::from_secs(60), || line().is_some());
    crowd.leave()?;
    ensure!(is_logged, "the log does not say that the disk is full");
    let line = line().unwrap_or_default();
    match line.split_once("recording has ended") {
        Some((_, reason)) => Ok(Outcome::of(
            0,
            format!("nothing; log: recording has ended{reason}"),
        )),
        None => bail!("{line}"),
    }
}

/// Makes a server whose outputs are closed or full log more than a pipe holds.
fn logs_much(trial: &mut Trial<'_>) -> Result<Outcome> {
    let count = trial.pick(200, 1_000);
    for number in 0..count {
        let (peer, _) = trial.player(&format!("talkative {number}"))?;
        peer.leave()?;
    }
    let (mut bad, _) = trial.player("bad")?;
    bad.send_raw(&[0; 4])?;
    bad.ending(PATIENCE)?.closed_with(CloseCode::BadMessage)?;
    Ok(Outcome::one(format!(
        "nothing: {count} joined and left, a bad one received Closing"
    )))
}
