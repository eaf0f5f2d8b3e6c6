//! `cargo demo`: runs a server and three clients, and prints the addresses to open, until Ctrl-C.

use std::env;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::process::{Command, ExitStatus};
use std::sync::mpsc::Receiver;

use anyhow::{Result, anyhow};
use clap::{Arg, ArgAction, ArgMatches};
use cubesync_arguments::listen_address;
use cubesync_harness::Program;
use cubesync_harness::programs::neighbour;

use crate::setup::{
    build, free_address, local, server_ended, stop_at_ctrl_c, stopped, wait_until_serving,
};

/// The players in the three windows: name and colour.
const PLAYERS: [(&str, &str); 3] = [("Anna", "#e8553f"), ("Вася", "#3f86e8"), ("Bob", "#43b864")];

/// The flags of `cargo demo`.
pub(crate) struct Options {
    listen: SocketAddr,
    http: SocketAddr,
    headless: bool,
}

/// Describes `cargo demo` and its flags.
pub(crate) fn command() -> clap::Command {
    let address = |name, variable, default, help| {
        Arg::new(name)
            .long(name)
            .value_name("ADDR:PORT")
            .env(variable)
            .default_value(default)
            .value_parser(listen_address)
            .help(help)
    };
    clap::Command::new("demo")
        .about("Build what the demo runs, start a server and three clients, and print the addresses to open")
        .after_help(
            "The clients are windows, or headless bots where there is no display. Ctrl-C ends all of it.",
        )
        .arg(address(
            "listen",
            "CUBESYNC_LISTEN",
            "0.0.0.0:14900",
            "Where the server accepts clients; port 0 takes a free one",
        ))
        .arg(address(
            "http",
            "CUBESYNC_HTTP",
            "0.0.0.0:8080",
            "Where the server serves its pages; port 0 takes a free one",
        ))
        .arg(
            Arg::new("headless")
                .long("headless")
                .action(ArgAction::SetTrue)
                .help("Start bots instead of windows even where there is a display"),
        )
}

impl Options {
    /// Reads the flags that were given, or their defaults.
    pub(crate) fn read(flags: &ArgMatches) -> Self {
        let address = |name| *flags.get_one(name).expect("the flag has a default");
        Self {
            listen: address("listen"),
            http: address("http"),
            headless: flags.get_flag("headless"),
        }
    }
}

/// The reason why a demo ended without an error.
enum End {
    Stopped,
    ClientsGone,
}

/// Runs the demo until Ctrl-C (or SIGTERM), until its clients are gone, or until its server ends,
/// which is an error.
pub(crate) fn run(options: &Options) -> Result<()> {
    let listen = free_address(options.listen, "--listen")?;
    let http = free_address(options.http, "--http")?;
    let stop = stop_at_ctrl_c()?;

    match show(options.headless, listen, http, &stop)? {
        End::Stopped => println!("\nStopped."),
        End::ClientsGone => println!("All clients are closed, so the demo ends."),
    }
    Ok(())
}

/// Starts all programs and waits for the end. They have ended when it returns.
fn show(headless: bool, listen: SocketAddr, http: SocketAddr, stop: &Receiver<()>) -> Result<End> {
    let windows = !headless && has_display(env::var_os("DISPLAY").as_deref());
    let clients = if windows {
        "cubesync-game"
    } else {
        "cubesync-bots"
    };
    // Without `cluster`: a single server needs no NATS, which would take long to compile.
    let flags = [
        "--no-default-features",
        "--features",
        "cubesync-server/mechanics",
    ];
    if !build(&["cubesync-server", clients], &flags, stop)? {
        return Ok(End::Stopped);
    }
    let mut server = start_server(listen, http)?;
    if !wait_until_serving(&mut server, local(http), stop)? {
        return Ok(End::Stopped);
    }
    let clients = if windows {
        start_windows(local(listen))?
    } else {
        vec![start_bots(local(listen))?]
    };
    println!("{}", what_to_open(local(listen), local(http), windows));
    watch(&mut server, clients, stop)
}

fn start_server(listen: SocketAddr, http: SocketAddr) -> Result<Program> {
    let mut command = Command::new(neighbour("cubesync-server")?);
    command
        .args(["--listen", &listen.to_string()])
        .args(["--http", &http.to_string()]);
    Program::start("the server", &mut command)
}

fn start_windows(server: SocketAddr) -> Result<Vec<Program>> {
    (1..)
        .zip(PLAYERS)
        .map(|(number, (name, colour))| {
            let tile = format!("{number}/{}", PLAYERS.len());
            let mut command = Command::new(neighbour("cubesync-client")?);
            command
                .args(["--server", &server.to_string()])
                .args(["--name", name, "--colour", colour])
                .args(["--window-tile", &tile]);
            Program::start("a window", &mut command)
        })
        .collect()
}

fn start_bots(server: SocketAddr) -> Result<Program> {
    let mut command = Command::new(neighbour("cubesync-bots")?);
    command
        .args(["--server", &server.to_string()])
        .args(["--count", &PLAYERS.len().to_string()]);
    Program::start("the bots", &mut command)
}

/// Checks the programs until there is a reason to end.
fn watch(server: &mut Program, mut clients: Vec<Program>, stop: &Receiver<()>) -> Result<End> {
    let mut failure = None;
    loop {
        if stopped(stop) {
            return Ok(End::Stopped);
        }
        if let Some(status) = server.ended()? {
            return Err(server_ended(status));
        }
        let mut running = Vec::new();
        for mut client in clients {
            match client.ended()? {
                None => running.push(client),
                Some(status) if status.success() => {}
                Some(status) => failure = Some(client_failed(client.name(), status)),
            }
        }
        clients = running;
        if clients.is_empty() {
            return failure.map_or(Ok(End::ClientsGone), Err);
        }
    }
}

fn client_failed(name: &str, status: ExitStatus) -> anyhow::Error {
    anyhow!("{name} failed ({status}); `cargo demo --headless` works without a display")
}

/// Returns whether a window can be opened, `display` being the variable DISPLAY. On Linux the game speaks
/// X11 only, so WAYLAND_DISPLAY alone does not help.
fn has_display(display: Option<&OsStr>) -> bool {
    cfg!(any(target_os = "macos", windows)) || display.is_some_and(|display| !display.is_empty())
}

fn what_to_open(listen: SocketAddr, http: SocketAddr, windows: bool) -> String {
    let (clients, one_more) = if windows {
        (
            "Three windows are open: click into one and move its cube with the arrow keys (F1 helps).",
            (format!("cargo client --server {listen}"), "one more window"),
        )
    } else {
        (
            "Three bots move their cubes, without windows.",
            (format!("cargo bots --server {listen}"), "more bots"),
        )
    };
    let places = [
        (format!("http://{http}/"), "the game, in a browser"),
        (format!("http://{http}/status"), "who is here, live"),
        (format!("http://{http}/time.html"), "the server's time"),
        (format!("http://{http}/cubes.json"), "every cube as numbers"),
        one_more,
    ];
    let lines = places.map(|(place, what)| format!("  {place:<40} {what}\n"));
    format!(
        "\n{clients}\n{}Friends join at this machine's own address, named above. Ctrl-C ends all of it.\n",
        lines.concat()
    )
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;
    use std::sync::mpsc::sync_channel;

    use super::*;
    use crate::setup::waiting_program;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn defaults_are_the_documented_ports() {
        let options = Options::read(&command().get_matches_from(["demo"]));
        assert_eq!(options.listen, address("0.0.0.0:14900"));
        assert_eq!(options.http, address("0.0.0.0:8080"));
        assert!(!options.headless);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn empty_display_is_no_display() {
        assert!(has_display(Some(OsStr::new(":0"))));
        assert!(!has_display(Some(OsStr::new(""))));
        assert!(!has_display(None));
    }

    #[test]
    fn every_address_to_open_is_printed() {
        let text = what_to_open(address("127.0.0.1:7"), address("127.0.0.1:9"), false);
        for part in [
            "http://127.0.0.1:9/ ",
            "/time.html",
            "/cubes.json",
            "127.0.0.1:7",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn demo_fails_when_its_last_client_failed() {
        let (_sender, stop) = sync_channel(1);
        let mut server = Program::start("the server", &mut waiting_program()).unwrap();
        let mut failing = Command::new("rustc");
        failing.arg("--no-such-flag").stderr(Stdio::null());
        let client = Program::start("a window", &mut failing).unwrap();
        let end = watch(&mut server, vec![client], &stop);
        let text = end.err().unwrap().to_string();
        assert!(text.contains("a window failed"), "{text}");
    }

    #[test]
    fn demo_fails_when_its_server_ends() {
        let (_sender, stop) = sync_channel(1);
        let mut ending = Command::new("rustc");
        ending.arg("--version").stdout(Stdio::null());
        let mut server = Program::start("the server", &mut ending).unwrap();
        let client = Program::start("a window", &mut waiting_program()).unwrap();
        let end = watch(&mut server, vec![client], &stop);
        let text = end.err().unwrap().to_string();
        assert!(text.contains("the server ended"), "{text}");
    }

    #[test]
    fn stop_ends_a_running_demo() {
        let (stop_sender, stop) = sync_channel(1);
        let mut server = Program::start("the server", &mut waiting_program()).unwrap();
        let client = Program::start("a window", &mut waiting_program()).unwrap();
        stop_sender.send(()).unwrap();
        let end = watch(&mut server, vec![client], &stop);
        assert!(matches!(end, Ok(End::Stopped)));
    }
}
