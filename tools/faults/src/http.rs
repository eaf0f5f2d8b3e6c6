//! Slow browsers, simulated by slowhttptest.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use cubesync_harness::http;

use crate::fault::{Fault, Outcome};
use crate::harness::server::Setup;
use crate::harness::trial::Trial;

/// A server that waits for a shorter time for slow readers of pages in a quick run.
const IMPATIENT: Setup = Setup {
    quick_flags: &["--http-lifetime", "5s"],
    ..Setup::PLAIN
};

pub(crate) const FAULTS: &[Fault] = &[
    Fault::new("slow-head", &["cut head_timeout", "cut full"], |trial| {
        slowhttptest(trial, "/", &["-H", "-i", "1"])
    })
    .needs(&["slowhttptest"]),
    Fault::new("slow-body", &["http 413", "cut full"], |trial| {
        slowhttptest(trial, "/", &["-B", "-i", "1", "-s", "8192"])
    })
    .needs(&["slowhttptest"]),
    Fault::new("slow-read", &["cut lifetime", "cut full"], |trial| {
        let page = http::get(trial.server.http, "/")?;
        let page = String::from_utf8_lossy(&page.body);
        let long = page.split('"').find(|part| part.ends_with(".wasm"));
        let path = format!("/{}", long.context("the page has no long file")?);
        slowhttptest(
            trial,
            &path,
            &["-X", "-w", "8", "-y", "16", "-n", "2", "-z", "4"],
        )
    })
    .needs(&["slowhttptest"])
    .on(&IMPATIENT),
];

/// Runs slowhttptest. The server must answer or close each of its connections.
fn slowhttptest(trial: &mut Trial<'_>, path: &str, flags: &[&str]) -> Result<Outcome> {
    let count = trial.pick(60, 400);
    let connections = count.to_string();
    let url = format!("http://{}{path}", trial.server.http);
    let began = Instant::now();
    Command::new("slowhttptest")
        .args(flags)
        .args([
            "-c",
            &connections,
            "-r",
            &connections,
            "-p",
            "3",
            "-u",
            &url,
        ])
        .args(["-l", trial.pick("15", "75")])
        .output()
        .context("cannot run slowhttptest")?;
    let took = began.elapsed().as_secs();
    let answer = http::get(trial.server.http, "/healthz")?;
    ensure!(
        answer.status == Some(200),
        "no pages any more: {:?}",
        answer.status
    );
    let saw = format!("all of {count} connections were over after {took} s");
    Ok(Outcome::of(count, saw))
}
