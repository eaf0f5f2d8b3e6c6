//! The program's log, which never blocks on its reader.

use std::io::Write;
use std::net::SocketAddr;
use std::process::Stdio;

use cubesync_protocol::{ClientMessage, Hello, RejectCode, ServerMessage};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use crate::http::get;
use crate::support::{COLOUR, Client, soon};

fn program() -> Command {
    program_that_logs("json")
}

fn program_that_logs(format: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cubesync-server"));
    command
        .args(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"])
        .args(["--log-format", format, "--resume-within", "0s"])
        .env_remove("CUBESYNC_LOG")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// The lines of a program's log.
struct Log(Lines<BufReader<ChildStderr>>);

impl Log {
    fn of(server: &mut Child) -> Self {
        Self(BufReader::new(server.stderr.take().unwrap()).lines())
    }

    /// Returns the next line with a message.
    async fn find(&mut self, message: &str) -> Value {
        loop {
            let line = soon(self.0.next_line()).await.unwrap().expect("more lines");
            let line: Value = serde_json::from_str(&line).expect("every line is one object");
            if line["message"] == message {
                return line;
            }
        }
    }
}

fn address(line: &Value, listener: &str) -> SocketAddr {
    line[listener].as_str().unwrap().parse().unwrap()
}

async fn join(clients: SocketAddr, name: &str) {
    let stream = tokio::net::TcpStream::connect(clients).await.unwrap();
    let mut client = Client::new(stream);
    let hello = Hello::new("lobby", name, COLOUR);
    client.send(&ClientMessage::Hello(hello)).await;
    client.welcomed().await.hang_up().await;
}

/// Returns the two ends of a full pipe.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    // This is the capacity of a pipe on Linux.
    writer.write_all(&[b'x'; 65_536]).unwrap();
    (reader, writer)
}

async fn stops_on_sigterm(mut server: Child) {
    let pid = server.id().unwrap().to_string();
    let mut kill = Command::new("kill");
    assert!(kill.arg(pid).status().await.unwrap().success());
    assert_eq!(soon(server.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn joins_are_structured_and_a_flood_of_them_is_not_logged() {
    let mut server = program()
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = Log::of(&mut server);
    let serving = log.find("serving").await;
    let clients = address(&serving, "clients");
    join(clients, "Anna \"7\"").await;
    let joined = log.find("joined").await;
    assert_eq!(joined["name"], "Anna \"7\"");
    assert_eq!(joined["room"], "lobby");
    for number in 0..100 {
        join(clients, &format!("flood {number}")).await;
    }
    let metrics = get(address(&serving, "http"), "/metrics").await.body;
    let suppressed = metrics
        .lines()
        .find_map(|line| line.strip_prefix("cubesync_logs_suppressed_total "))
        .unwrap();
    // Each of the two places has a burst of ten lines, and gains few more in this time.
    assert!(suppressed.parse::<u32>().unwrap() > 100, "{suppressed}");
}

#[tokio::test]
async fn hostile_name_breaks_no_line_of_the_log() {
    let mut server = program_that_logs("text")
        .env("CUBESYNC_LOG", "debug")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let Log(mut lines) = Log::of(&mut server);
    let clients = loop {
        let line = soon(lines.next_line()).await.unwrap().unwrap();
        if let Some((_, rest)) = line.split_once("clients=") {
            break rest.split_whitespace().next().unwrap().parse().unwrap();
        }
    };
    for name in [
        "a\nb",
        "a\r\nINFO forged",
        "\u{1b}[31mred",
        "a\0b",
        "\u{202e}ni\u{202d}mda",
        "a\u{7f}",
    ] {
        for hello in [
            Hello::new("lobby", name, COLOUR),
            Hello::new(name, "Anna", COLOUR),
        ] {
            let stream = tokio::net::TcpStream::connect(clients).await.unwrap();
            let mut client = Client::new(stream);
            client.send(&ClientMessage::Hello(hello)).await;
            let rejected = client.receive().await;
            let is_expected = matches!(&rejected, Some(ServerMessage::Reject { code, .. }) if *code == RejectCode::Name);
            assert!(is_expected, "{name:?}: {rejected:?}");
        }
    }
    join(clients, "the last").await;
    loop {
        let line = soon(lines.next_line()).await.unwrap().unwrap();
        let is_torn = line.chars().any(char::is_control) || line.starts_with("INFO forged");
        assert!(!is_torn, "{line:?}");
        if line.contains("the last") {
            break;
        }
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_log_that_nobody_reads_blocks_nothing() {
    let (_unread, stuck) = full_pipe();
    let mut server = program()
        .stdout(Stdio::piped())
        .stderr(stuck)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let mut addresses = Vec::new();
    while addresses.len() < 2 {
        let line = soon(lines.next_line()).await.unwrap().unwrap();
        let word = line.split_whitespace().nth(1).unwrap_or_default();
        let word = word.trim_start_matches("http://").trim_end_matches('/');
        addresses.extend(word.parse::<SocketAddr>().ok());
    }
    for number in 0..20 {
        join(addresses[1], &format!("player {number}")).await;
    }
    assert_eq!(get(addresses[0], "/healthz").await.status, 200);
    stops_on_sigterm(server).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn standard_output_may_be_closed_or_full() {
    let (_unread, stuck) = full_pipe();
    let (closed_reader, closed) = std::io::pipe().unwrap();
    drop(closed_reader);
    let full_disk = std::fs::File::create("/dev/full").unwrap();
    for output in [stuck.into(), closed.into(), Stdio::from(full_disk)] {
        let mut server = program()
            .stdout(output)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = Log::of(&mut server);
        let serving = log.find("serving").await;
        assert_eq!(get(address(&serving, "http"), "/healthz").await.status, 200);
        // This closes standard error as well.
        drop(log);
        join(address(&serving, "clients"), "Anna").await;
        stops_on_sigterm(server).await;
    }
}
