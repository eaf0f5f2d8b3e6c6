//! The program's `doctor` and `healthcheck`: their words and exit codes.

use std::process::Stdio;

use tokio::net::TcpListener;
use tokio::process::Command;

use crate::support::{Server, soon};

/// What a chore says, and its exit code.
async fn told(chore: &str, flags: &[&str]) -> (String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cubesync-server"));
    command
        .arg(chore)
        .args(flags)
        .env_remove("CUBESYNC_LOG")
        .stdin(Stdio::null());
    let output = soon(command.kill_on_drop(true).output()).await.unwrap();
    let words = String::from_utf8(output.stdout).unwrap();
    (words, output.status.code())
}

#[tokio::test]
async fn a_server_in_order_has_no_problems() {
    let flags = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];
    let (words, code) = told("doctor", &flags).await;
    assert_eq!(code, Some(0), "{words}");
    for line in [
        "ok       clients ",
        "ok       browser game ",
        "no problems, ",
    ] {
        assert!(words.contains(line), "{line} is missing in:\n{words}");
    }
}

#[tokio::test]
async fn a_port_of_another_program_is_a_problem() {
    let stranger = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = stranger.local_addr().unwrap().to_string();
    let flags = ["--listen", &taken, "--http", "127.0.0.1:0"];
    let (words, code) = told("doctor", &flags).await;
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("problem  clients "), "{words}");
    assert!(words.contains("1 problem, "), "{words}");
}

#[tokio::test]
async fn a_running_server_is_known_by_its_answers_and_healthy() {
    let server = Server::start(&["--text", "127.0.0.1:0"]).await;
    let addresses = server.addresses;
    let [tcp, http] = [addresses.tcp, addresses.http].map(|address| address.to_string());
    let text = addresses.text.unwrap().to_string();
    let flags = ["--listen", &tcp, "--http", &http, "--text", &text];
    let (words, code) = told("doctor", &flags).await;
    assert_eq!(code, Some(0), "{words}");
    let known = words.matches("a cubesync server answers at");
    assert_eq!(known.count(), 3, "{words}");
    assert_eq!(told("healthcheck", &flags).await.1, Some(0));
    server.begin_stop();
    server.stopped().await;
    assert_eq!(told("healthcheck", &flags).await.1, Some(1));
}

#[tokio::test]
async fn flags_before_the_chore_are_refused_rather_than_ignored() {
    let (words, code) = told("--listen=127.0.0.1:0", &["doctor"]).await;
    assert_eq!(code, Some(2), "{words}");
}
