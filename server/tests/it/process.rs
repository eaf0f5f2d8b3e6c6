//! The program: its messages, exit codes, time zone and signals.

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::http::get;
use crate::support::{PORTS, program, soon};

/// Returns a command that runs the program on ports of its own.
fn on_free_ports(arguments: &[&str]) -> Command {
    let mut command = program(&PORTS);
    command.args(arguments);
    command
}

/// Starts the program and reads the address of its pages from what it prints.
async fn start(command: &mut Command) -> (Child, std::net::SocketAddr) {
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    let address = loop {
        let line = soon(lines.next_line())
            .await
            .unwrap()
            .expect("it prints its addresses");
        if let Some((_, rest)) = line.split_once("http://") {
            break rest.split('/').next().unwrap().parse().unwrap();
        }
    };
    (child, address)
}

#[tokio::test]
async fn the_time_page_honours_tz() {
    // No machine has this zone by default: 5 hours 17 minutes east of Greenwich.
    let (_server, address) = start(on_free_ports(&[]).env("TZ", "CUBE-05:17")).await;
    let page = get(address, "/time.html").await.body;
    let (_, rest) = page.split_once("<h1>").unwrap();
    let (shown, _) = rest.split_once("</h1>").unwrap();
    let offset = jiff::tz::Offset::from_seconds((5 * 60 + 17) * 60).unwrap();
    let zone = jiff::tz::TimeZone::fixed(offset);
    let format = "%H:%M:%S %d.%m.%Y";
    let shown = jiff::civil::DateTime::strptime(format, shown).unwrap();
    let expected = jiff::Zoned::now().with_time_zone(zone).datetime();
    let apart = expected.duration_since(shown);
    assert!(
        apart.abs() < jiff::SignedDuration::from_mins(2),
        "{shown} and {expected}"
    );
}

#[cfg(unix)]
#[tokio::test]
async fn sigterm_and_ctrl_c_end_the_program_with_code_0() {
    for signal in ["TERM", "INT"] {
        let (mut server, _) = start(&mut on_free_ports(&[])).await;
        crate::support::signal(&server, signal).await;
        let status = soon(server.wait()).await.unwrap();
        assert_eq!(status.code(), Some(0), "{signal}");
    }
}

#[tokio::test]
async fn a_port_in_use_ends_the_program_with_one_line_a_link_and_code_1() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut child = on_free_ports(&["--text", &address]).spawn().unwrap();
    let mut message = String::new();
    soon(child.stderr.take().unwrap().read_to_string(&mut message))
        .await
        .unwrap();
    let status = soon(child.wait()).await.unwrap();
    assert_eq!(status.code(), Some(1));
    let [error, link] = *message.lines().collect::<Vec<_>>() else {
        panic!("{message}");
    };
    assert!(
        error.starts_with("error: cannot listen on") && error.contains("--text"),
        "{error}"
    );
    let help = cubesync_protocol::help::FOR_OPERATORS;
    assert_eq!(link, format!("more help: {help}"));
}

#[tokio::test]
async fn a_wrong_flag_ends_the_program_with_code_2_and_help_with_0() {
    for (arguments, code) in [
        (["--tick", "1000"], 2),
        (["--help", ""], 0),
        (["--version", ""], 0),
    ] {
        let output = soon(on_free_ports(&arguments).output()).await.unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    }
}

#[tokio::test]
async fn an_invalid_key_is_refused_without_being_printed() {
    let long = "sesame".repeat(100);
    for flags in [
        ["--join-key", &long],
        ["--room-key", &long],
        ["--join-key", ""],
    ] {
        let output = soon(on_free_ports(&flags).output()).await.unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains(flags[0]), "{message}");
        assert!(!message.contains("sesame"), "{message}");
    }
}

#[tokio::test]
async fn an_invalid_bus_is_refused_without_its_password_being_printed() {
    for (flags, code) in [
        (&["--bus", "http://anna:sesame@host"][..], 2),
        (
            &["--bus", "nats://anna:sesame@host", "--cluster-name", "a.b"],
            2,
        ),
        (&["--bus-ca", "ca.pem"], 2),
        (
            &["--bus", "nats://anna:sesame@host", "--bus-ca", "/no/ca.pem"],
            1,
        ),
    ] {
        let output = soon(on_free_ports(flags).output()).await.unwrap();
        assert_eq!(output.status.code(), Some(code), "{flags:?}");
        let message = String::from_utf8(output.stderr).unwrap();
        let flag = flags[flags.len() - 2];
        assert!(
            message.contains(flag) || flags == ["--bus-ca", "ca.pem"],
            "{message}"
        );
        assert!(!message.contains("sesame"), "{message}");
    }
}
