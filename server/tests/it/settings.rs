//! What the program says of settings that cannot work, and of such that have no effect.

use std::process::{Output, Stdio};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::support::{Folder, PORTS, program, soon};

async fn ended(command: &mut Command) -> (Output, String) {
    let output = soon(command.output()).await.unwrap();
    let error = String::from_utf8(output.stderr.clone()).unwrap();
    (output, error)
}

/// Starts the program, and returns it with what it has logged when it serves.
async fn serving(command: &mut Command) -> (Child, String) {
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut log = String::new();
    while !log.contains(" serving ") {
        let line = soon(lines.next_line()).await.unwrap();
        log += &line.unwrap_or_else(|| panic!("it does not serve: {log}"));
        log.push('\n');
    }
    child.stderr = Some(lines.into_inner().into_inner());
    (child, log)
}

#[tokio::test]
async fn an_empty_variable_counts_as_not_set() {
    let help = program(&["--help"]).output().await.unwrap().stdout;
    let help = String::from_utf8(help).unwrap();
    // The name may stand on the next line.
    let variables = help.split("[env:").skip(1);
    let variables: Vec<_> = variables
        .filter_map(|rest| rest.trim_start().split(['=', ']']).next())
        .collect();
    assert!(variables.len() > 40, "{variables:?}");
    // The addresses are flags, so that no test has the default ports.
    let variables = variables.iter().chain(&["CUBESYNC_LOG"]);
    let mut server = program(&PORTS);
    server.envs(variables.map(|variable| (*variable, "")));
    let (_server, log) = serving(&mut server).await;
    assert!(!log.contains("WARN"), "{log}");
}

#[tokio::test]
async fn a_variable_or_a_zone_that_nobody_knows_is_reported() {
    let set = |command: &mut Command| {
        command
            .env("CUBESYNC_JOINKEY", "open sesame")
            .env("TZ", "Europe/Berlni");
    };
    let words = [
        "CUBESYNC_JOINKEY has no effect",
        "did you mean CUBESYNC_JOIN_KEY?",
        "TZ=Europe/Berlni",
    ];
    let mut server = program(&PORTS);
    set(&mut server);
    let (_server, log) = serving(&mut server).await;
    let mut doctor = program(&[&["doctor"][..], &PORTS].concat());
    set(&mut doctor);
    let (report, _) = ended(&mut doctor).await;
    assert_eq!(report.status.code(), Some(1));
    let report = String::from_utf8(report.stdout).unwrap();
    let report: Vec<_> = report.split_whitespace().collect();
    for words in words {
        assert!(log.contains(words), "{words}: {log}");
        assert!(report.join(" ").contains(words), "{words}: {report:?}");
    }
    assert!(!log.contains("sesame"), "{log}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_low_limit_on_open_files_is_raised_or_reported() {
    let limited = |limits: &str, chore: &str| {
        let mut shell = Command::new("sh");
        let program = env!("CARGO_BIN_EXE_cubesync-server");
        let ports = PORTS.join(" ");
        shell
            .args(["-c", &format!("{limits}; exec {program} {chore} {ports}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        shell
    };
    let (_server, log) = serving(&mut limited("ulimit -Sn 128", "")).await;
    assert!(!log.contains("WARN"), "{log}");
    let (_server, log) = serving(&mut limited("ulimit -n 700", "")).await;
    assert!(log.contains("124 players fit"), "{log}");
    let (_server, log) = serving(&mut limited("ulimit -n 300", "")).await;
    assert!(log.contains("none would fit"), "{log}");
    let (report, _) = ended(&mut limited("ulimit -n 300", "doctor")).await;
    assert_eq!(report.status.code(), Some(1));
}

#[tokio::test]
async fn wrong_values_are_usage_errors_that_say_what_was_meant_and_no_secret() {
    let folder = Folder::new();
    let key = folder.write("key", "\"sesame\"\r\n");
    let bus = folder.write("bus", "nats://anna:ses\tame@127.0.0.1:1");
    for (flags, words) in [
        (
            vec!["--join-key", "sesame "],
            "--join-key or CUBESYNC_JOIN_KEY: a join key cannot begin or end with a blank",
        ),
        (
            vec!["--join-key-file", &key],
            "did you mean it without the quotes?",
        ),
        (
            vec!["--join-key-file", &key, "--join-key", "sesame"],
            "cannot be used with",
        ),
        (
            vec!["--room-key", "den=sesame,den=other"],
            "the room den has two keys",
        ),
        (vec!["--bus-file", &bus], "control character"),
        (
            vec!["--allow-origin", "game.example"],
            "did you mean https://game.example?",
        ),
        (
            vec!["--trust-proxy", "127.0.0.1:80"],
            "did you mean 127.0.0.1?",
        ),
        (
            vec!["--http-lifetime", "292277026596y"],
            "from 100ms to 1day",
        ),
        (vec!["--max-connections", "0"], "from 1 to"),
        (vec!["--max-speed", "-1"], "metres per second from"),
        (vec!["--text", "127.0.0.1"], "did you mean 127.0.0.1:PORT,"),
        (
            vec!["--public-address", "0.0.0.0:14900"],
            "expected HOST:PORT",
        ),
    ] {
        let (output, error) = ended(&mut program(&[&PORTS[..], &flags].concat())).await;
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {error}");
        assert!(error.contains(words), "{flags:?}: {error}");
        assert!(!error.contains("sesame"), "{error}");
    }
    let (_, error) = ended(program(&PORTS).env("CUBESYNC_TICK", "fast")).await;
    assert!(
        error.contains("environment variable CUBESYNC_TICK"),
        "{error}"
    );
    let same = ["--listen", "127.0.0.1:1", "--http", "127.0.0.1:1"];
    let (output, error) = ended(&mut program(&same)).await;
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(
        error.contains("--listen and --http are both at port 1"),
        "{error}"
    );
}

#[cfg(unix)]
#[tokio::test]
async fn a_secret_that_every_user_can_read_is_reported() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let key = folder.write("key", "open sesame\r\n");
    let mode =
        |mode| std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
    let flags = [&PORTS[..], &["--join-key-file", &key]].concat();
    for (bits, is_reported) in [(0o644, true), (0o600, false)] {
        mode(bits);
        let (_server, log) = serving(&mut program(&flags)).await;
        assert_eq!(
            log.contains("every user of this machine can read"),
            is_reported,
            "{log}"
        );
    }
}

#[tokio::test]
async fn each_refused_origin_is_logged_once() {
    let (mut server, log) = serving(&mut program(&PORTS)).await;
    let (_, rest) = log.split_once("http=").unwrap();
    let pages = rest.split_whitespace().next().unwrap();
    for origin in [
        "https://a.example",
        "https://a.example",
        "https://b.example",
    ] {
        let mut stream = TcpStream::connect(pages).await.unwrap();
        let request = format!(
            "GET /ws HTTP/1.1\r\nhost: {pages}\r\norigin: {origin}\r\nconnection: upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        soon(stream.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 403");
    }
    let mut stderr = server.stderr.take().unwrap();
    let pid = server.id().unwrap().to_string();
    assert!(
        Command::new("kill")
            .arg(pid)
            .status()
            .await
            .unwrap()
            .success()
    );
    let mut rest = String::new();
    soon(stderr.read_to_string(&mut rest)).await.unwrap();
    for origin in ["https://a.example", "https://b.example"] {
        let advice = format!("--allow-origin {origin}");
        assert_eq!(rest.matches(&advice).count(), 1, "{rest}");
    }
}
