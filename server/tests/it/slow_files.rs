//! Files whose storage does not answer, for which a pipe without anybody at its other end stands here: players
//! go on, and the server stops when it is told to.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use cubesync_client::Trust;
use nix::fcntl::OFlag;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Child;

use crate::support::{Folder, PORTS, make_pipe, program, signal, soon};
use crate::tls::{Pair, Player, Program, counts};

/// Stops a program, and returns the rest of its log.
async fn stop(mut child: Child) -> String {
    signal(&child, "TERM").await;
    let mut rest = String::new();
    if let Some(mut log) = child.stderr.take() {
        soon(log.read_to_string(&mut rest)).await.unwrap();
    }
    let status = soon(child.wait()).await.unwrap();
    assert_eq!(status.code(), Some(0), "{rest}");
    rest
}

/// Counts the threads on which a program reads files.
#[cfg(target_os = "linux")]
fn reading_threads(child: &Child) -> usize {
    let tasks = format!("/proc/{}/task", child.id().unwrap());
    let names = fs::read_dir(tasks).unwrap().map(|task| {
        let name = task.unwrap().path().join("comm");
        fs::read_to_string(name).unwrap_or_default()
    });
    names.filter(|name| name.trim() == "files").count()
}

#[tokio::test]
async fn a_certificate_that_cannot_be_read_at_the_moment_keeps_nobody_waiting() {
    let pair = Pair::new();
    let old = fs::read(&pair.certificate).unwrap();
    let served = pair.key.with_file_name("served.pem");
    fs::write(&served, &old).unwrap();
    let trust = Trust::also(&served).unwrap();
    let mut server = Program::start(&pair).await;
    let mut anna = Player::join(server.tcp, "Anna", trust.clone()).await;

    make_pipe(&pair.certificate);
    for _ in 0..3 {
        server.hang_up().await;
    }
    let _boris = Player::join(server.tcp, "Boris", trust.clone()).await;
    anna.sees("Boris").await;
    server.says("still waiting for").await;
    server.hang_up().await;
    let _clara = Player::join(server.tcp, "Clara", trust.clone()).await;
    anna.sees("Clara").await;
    #[cfg(target_os = "linux")]
    assert_eq!(reading_threads(&server.child), 1);

    // The storage answers. The signals that came meanwhile are worth one more look.
    for _ in 0..2 {
        fs::write(&pair.certificate, &old).unwrap();
        server.says("new connections get a new certificate").await;
    }
    let good = "cubesync_certificate_reloads_total{outcome=\"ok\"} 2";
    counts(server.http, &served, good).await;

    // Nor does the end wait.
    server.hang_up().await;
    server.says("still waiting for").await;
    stop(server.child).await;
}

#[tokio::test]
async fn a_start_that_waits_for_a_file_says_so_and_can_be_stopped() {
    let folder = Folder::new();
    let pipe = folder.write("pipe", "");
    make_pipe(&pipe);
    let key = folder.write("key", "");
    let tls = ["--tls-cert", &pipe, "--tls-key", &key];
    for flags in [&["--replay", &pipe][..], &tls] {
        let mut child = program(&[&PORTS[..], flags].concat()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.as_mut().unwrap()).lines();
        loop {
            let line = soon(log.next_line()).await.unwrap().expect("it goes on");
            if line.contains("still waiting for") && line.contains(&pipe) {
                break;
            }
        }
        stop(child).await;
    }
}

#[tokio::test]
async fn a_recording_into_a_pipe_that_nobody_empties_does_not_keep_the_server() {
    let folder = Folder::new();
    let pipe = folder.write("pipe", "");
    make_pipe(&pipe);
    let open = |options: &mut fs::OpenOptions| {
        let without_waiting = OFlag::O_NONBLOCK.bits();
        options.custom_flags(without_waiting).open(&pipe).unwrap()
    };
    let _reader = open(fs::OpenOptions::new().read(true));
    let flags = [&PORTS[..], &["--record", &pipe]].concat();
    let mut child = program(&flags).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    soon(lines.next_line()).await.unwrap().expect("it serves");
    let mut writer = open(fs::OpenOptions::new().write(true));
    while writer.write(&[0; 512]).is_ok() {}
    let rest = stop(child).await;
    assert!(
        rest.contains("the end of the recording is missing"),
        "{rest}"
    );
}
