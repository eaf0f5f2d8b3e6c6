//! Everything that `docs/ops/` names exists: metrics in `/metrics`, flags and variables in `--help`.

use std::collections::BTreeSet;
use std::path::Path;

use cubesync_protocol::{ClientMessage, Hello, ResumeToken};
use tokio::process::Command;

use crate::http::get;
use crate::support::{COLOUR, Server, soon};

/// Flags of other programs: the game, the benchmarks, podman, cargo, certbot and groupadd.
const OTHER_FLAGS: &[&str] = &[
    "--bench",
    "--build",
    "--ca",
    "--clients",
    "--deploy-hook",
    "--env",
    "--env-file",
    "--example",
    "--file",
    "--format",
    "--from",
    "--insecure",
    "--interval",
    "--kill-one-after",
    "--locked",
    "--network",
    "--no-run",
    "--now",
    "--only",
    "--package",
    "--publish",
    "--quick",
    "--release",
    "--rm",
    "--sample-count",
    "--sample-size",
    "--seconds",
    "--start-period",
    "--system",
    "--tag",
    "--timeout",
    "--tool",
    "--version",
    "--worlds",
];

fn read(file: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::fs::read_to_string(root.join(file)).unwrap()
}

/// Returns the words of a text that begin with `start` and continue with characters that pass the
/// filter.
fn words<'text>(
    text: &'text str,
    start: &str,
    is_allowed: fn(char) -> bool,
) -> BTreeSet<&'text str> {
    let places = text.match_indices(start).filter(|(at, _)| {
        // A match in the middle of a word does not count.
        let before = text[..*at].chars().next_back();
        !before.is_some_and(|before| before.is_ascii_alphanumeric() || "_-/$".contains(before))
    });
    let words = places.map(|(at, _)| {
        let end = text[at..].find(|character| !is_allowed(character));
        &text[at..end.map_or(text.len(), |length| at + length)]
    });
    words.filter(|word| word.len() > start.len()).collect()
}

/// Returns the metrics of servers on which a bit of everything has happened.
async fn metrics() -> String {
    let server = Server::start(&["--max-speed", "1"]).await;
    let stranger = Hello {
        resume: Some(ResumeToken([7; 16])),
        ..Hello::new("lobby", "Anna", COLOUR)
    };
    let mut anna = server.connect().await;
    anna.send(&ClientMessage::Hello(stranger)).await;
    let mut anna = anna.welcomed().await;
    anna.step(100_000).await;
    server
        .counts("cubesync_corrections_total{reason=\"speed\"} 1")
        .await;
    let of_tls = crate::tls::metrics().await;
    let of_several = Server::start(&["--bus", "nats://127.0.0.1:1"]).await;
    let mut all = get(server.addresses.http, "/metrics").await.body + &of_tls;
    all += &get(of_several.addresses.http, "/metrics").await.body;
    all
}

#[tokio::test]
async fn every_metric_named_in_the_docs_exists() {
    let known = metrics().await;
    let known: BTreeSet<_> = known
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split([' ', '{']).next())
        .collect();
    let mut named = 0;
    for file in [
        "grafana-dashboard.json",
        "alerts.yml",
        "alerts_test.yml",
        "README.md",
    ] {
        let text = read(&format!("docs/ops/{file}"));
        let is_allowed = |character: char| character.is_ascii_alphanumeric() || character == '_';
        for name in ["cubesync_", "process_"]
            .iter()
            .flat_map(|start| words(&text, start, is_allowed))
        {
            let histogram = format!("{name}_bucket");
            assert!(
                known.contains(name) || known.contains(&*histogram),
                "{file} names {name}, which /metrics does not have"
            );
            named += 1;
        }
    }
    assert!(named > 50, "{named}");
}

/// Returns the values of a label that a query selects: `label="value"` and `label=~"one|another"`.
fn selected<'text>(query: &'text str, label: &str) -> BTreeSet<&'text str> {
    let values = query.match_indices(label).filter_map(|(at, _)| {
        let rest = &query[at + label.len()..];
        let list = rest.strip_prefix("=~\"").or(rest.strip_prefix("=\""))?;
        list.split('"').next()
    });
    values.flat_map(|list| list.split('|')).collect()
}

#[tokio::test]
async fn every_reason_that_an_alert_selects_exists() {
    let (known, alerts) = (metrics().await, read("docs/ops/alerts.yml"));
    let reasons = selected(&alerts, "reason");
    assert!(reasons.len() > 10, "{reasons:?}");
    for reason in reasons {
        let is_known = ["cubesync_disconnects_total", "cubesync_link_ends_total"]
            .iter()
            .any(|metric| known.contains(&format!("{metric}{{reason=\"{reason}\"}}")));
        assert!(is_known, "there is no reason {reason}");
    }
}

#[tokio::test]
async fn every_flag_and_variable_named_in_the_docs_exists() {
    let help = async |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cubesync-server"));
        let output = soon(command.args(arguments).output()).await.unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let mut known = help(&["--help"]).await;
    for command in ["players", "kick", "ban"] {
        known += &help(&[command, "--help"]).await;
    }
    let is_flag_sign = |character: char| character.is_ascii_lowercase() || character == '-';
    let is_variable_sign = |character: char| character.is_ascii_uppercase() || character == '_';
    let flags = words(&known, "--", is_flag_sign);
    let mut variables = words(&known, "CUBESYNC_", is_variable_sign);
    variables.insert("CUBESYNC_LOG");
    let mut found = 0;
    for file in [
        "docs/ops/README.md",
        "docs/ops/cubesync.service",
        "docs/ops/Containerfile",
        "docs/ops/alerts.yml",
        "docs/ops/compose.cluster.yaml",
        "docs/SCALING.md",
        "SECURITY.md",
    ] {
        let text = read(file);
        let named = words(&text, "--", is_flag_sign).into_iter();
        // The ruler of a table is no flag.
        let is_flag = |flag: &&str| !flag.starts_with("---") && !OTHER_FLAGS.contains(flag);
        for flag in named.filter(is_flag) {
            assert!(flags.contains(flag), "{file} names {flag}, --help does not");
            found += 1;
        }
        for variable in words(&text, "CUBESYNC_", is_variable_sign) {
            assert!(
                variables.contains(variable),
                "{file} names {variable}, --help does not"
            );
            found += 1;
        }
    }
    assert!(found > 30, "{found}");
}
