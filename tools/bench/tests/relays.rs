//! The comparison end to end, with the relays that need nothing installed.

use std::process::{Command, Stdio};

use serde_json::Value;

/// What the JSON file promises of every row.
const KEYS: [&str; 15] = [
    "system",
    "n",
    "hz",
    "motion",
    "delivered_per_s",
    "fraction",
    "right",
    "late_samples",
    "cpu_s_per_million",
    "bytes_per_delivery",
    "p50_ms",
    "p99_ms",
    "max_ms",
    "rss_mb",
    "generator_saturated",
];

#[test]
fn a_run_reports_what_its_clients_received() {
    let folder = env!("CARGO_TARGET_TMPDIR");
    let (json, svg) = (format!("{folder}/rows.json"), format!("{folder}/rows.svg"));
    let output = Command::new(env!("CARGO_BIN_EXE_bench-relays"))
        .args([
            "--systems",
            "naive,websocket",
            "--clients",
            "5",
            "--seconds",
            "1",
        ])
        .args(["--motion", "wander", "--json", &json, "--svg", &svg])
        // Nothing of ours is started, so none has to be built.
        .args(["--server", "none"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");

    let rows: Vec<Value> = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    assert_eq!(rows.len(), 2, "{rows:?}");
    for row in &rows {
        let row = row.as_object().unwrap();
        assert_eq!(row.len(), KEYS.len());
        assert!(KEYS.iter().all(|&key| row.contains_key(key)), "{row:?}");
        assert!(text.contains(row["system"].as_str().unwrap()), "{text}");
        // The encoding alone has more than ten bytes.
        assert!(
            row["bytes_per_delivery"].as_f64().unwrap() > 10.0,
            "{row:?}"
        );
        assert!(row["delivered_per_s"].as_f64().unwrap() > 0.0, "{row:?}");
        assert!(row["p50_ms"].as_f64() <= row["p99_ms"].as_f64(), "{row:?}");
        let right = row["right"].as_f64().unwrap();
        assert!(
            right > 0.0 && right <= row["fraction"].as_f64().unwrap(),
            "{row:?}"
        );
        assert!(
            row["late_samples"].is_null(),
            "a relay has no ticks: {row:?}"
        );
    }
    assert!(std::fs::read_to_string(svg).unwrap().ends_with("</svg>\n"));
}

#[test]
fn a_server_that_cannot_be_started_ends_the_run_with_one_line() {
    let output = Command::new(env!("CARGO_BIN_EXE_bench-relays"))
        .args([
            "--systems",
            "ours",
            "--clients",
            "1",
            "--server",
            "/no/such/server",
        ])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("cannot start /no/such/server"), "{errors}");
}
