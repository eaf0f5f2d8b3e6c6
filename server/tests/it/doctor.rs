//! The program's `doctor` and `healthcheck`: their output and exit codes.

use std::process::Stdio;

use tokio::net::TcpListener;
use tokio::process::Command;

use crate::nats::NatsServer;
use crate::support::{Server, soon};

/// Runs a chore. Returns its output and its exit code.
async fn run(chore: &str, flags: &[&str]) -> (String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cubesync-server"));
    command
        .arg(chore)
        .args(flags)
        .env_remove("CUBESYNC_LOG")
        .stdin(Stdio::null());
    let finished = soon(command.kill_on_drop(true).output()).await.unwrap();
    let output = String::from_utf8(finished.stdout).unwrap();
    (output, finished.status.code())
}

#[tokio::test]
async fn a_working_configuration_has_no_problems() {
    let flags = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];
    let (output, code) = run("doctor", &flags).await;
    assert_eq!(code, Some(0), "{output}");
    for line in [
        "ok       clients ",
        "ok       browser game ",
        "no problems, ",
    ] {
        assert!(output.contains(line), "{line} is missing in:\n{output}");
    }
}

#[tokio::test]
async fn a_port_of_another_program_is_a_problem() {
    let stranger = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = stranger.local_addr().unwrap().to_string();
    let flags = ["--listen", &taken, "--http", "127.0.0.1:0"];
    let (output, code) = run("doctor", &flags).await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("problem  clients "), "{output}");
    assert!(output.contains("1 problem, "), "{output}");
}

#[tokio::test]
#[ignore = "needs nats-server; .ci/run installs and runs it"]
async fn leases_are_tried_and_a_nats_without_jetstream_is_a_problem() {
    for (server, expected, code) in [
        (NatsServer::start(), "ok       leases ", Some(0)),
        (
            NatsServer::without_jetstream(),
            "problem  leases        this NATS has no JetStream",
            Some(1),
        ),
    ] {
        server.is_started().await;
        let bus = server.url();
        let flags = [
            "--listen",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
            "--bus",
            &bus,
        ];
        let finished = run("doctor", &flags).await;
        assert!(finished.0.contains(expected), "{}", finished.0);
        assert_eq!(finished.1, code, "{}", finished.0);
    }
}

#[tokio::test]
async fn a_running_server_is_recognized_and_healthy() {
    let server = Server::start(&["--text", "127.0.0.1:0"]).await;
    let addresses = server.addresses;
    let [tcp, http] = [addresses.tcp, addresses.http].map(|address| address.to_string());
    let text = addresses.text.unwrap().to_string();
    let flags = ["--listen", &tcp, "--http", &http, "--text", &text];
    let (output, code) = run("doctor", &flags).await;
    assert_eq!(code, Some(0), "{output}");
    let known = output.matches("a cubesync server answers at");
    assert_eq!(known.count(), 3, "{output}");
    assert_eq!(run("healthcheck", &flags).await.1, Some(0));
    server.begin_stop();
    server.stopped().await;
    assert_eq!(run("healthcheck", &flags).await.1, Some(1));
}

#[tokio::test]
async fn flags_before_the_chore_are_refused_instead_of_ignored() {
    let (output, code) = run("--listen=127.0.0.1:0", &["doctor"]).await;
    assert_eq!(code, Some(2), "{output}");
}
