//! `cubesync-server doctor`: a check of whether a server with these flags would work.
//!
//! Each check has a file, which separates looking from judging, so that every verdict can be tested.
//! The checks contact no other machine but the bus, and they change nothing but a lease of their own there.

mod access;
mod bundle;
#[cfg(feature = "cluster")]
mod bus;
mod certificate;
mod clock;
mod datagrams;
mod descriptors;
mod files;
mod finding;
mod flags;
mod log;
mod ports;
mod reach;
mod secrets;
mod variables;

use std::time::SystemTime;

pub use self::finding::{Finding, Report, Verdict};
pub use self::ports::is_serving;
use self::reach::Reach;
use crate::config::Config;
use cubesync_network::{Network, Scope};

/// Runs all checks.
pub async fn examine(config: &Config) -> Report {
    let reach = Reach::of(config, &Network::now());
    let now = SystemTime::now();
    let findings = [
        ports::examine(config),
        datagrams::examine(config),
        reach.judge(config.has_tls()),
        access::examine(config, &reach),
        #[cfg(feature = "cluster")]
        bus::examine(config).await,
        certificate::examine(config, &reach, now),
        bundle::examine(),
        files::examine(config),
        log::examine(config),
        clock::examine(now),
        examine_settings(config),
    ];
    Report::new(findings.into_iter().flatten().collect())
}

/// Runs the checks of which a server that starts reports everything that is not in order: it would run,
/// but not as its operator meant, or anybody on the internet could use it.
pub fn examine_at_start(config: &Config) -> Vec<Finding> {
    examine_at_start_in(config, &Network::now())
}

fn examine_at_start_in(config: &Config, network: &Network) -> Vec<Finding> {
    let mut findings = examine_settings(config);
    let reach = Reach::of(config, network);
    if reach.players() == Scope::Internet {
        findings.push(access::judge_join_key(config, &reach));
        if !config.has_tls() {
            findings.push(certificate::judge_none(&reach, config.has_key()));
        }
    }
    if reach.text == Some(Scope::Internet) {
        findings.push(access::judge_text_port(Scope::Internet, config.has_key()));
    }
    findings.retain(|finding| finding.verdict != Verdict::Ok);
    findings
}

/// Runs the checks of single settings.
fn examine_settings(config: &Config) -> Vec<Finding> {
    let findings = [
        descriptors::examine(config),
        secrets::examine(config),
        flags::examine(config),
        variables::examine(),
        clock::examine_zone(),
    ];
    findings.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    /// Returns what a server with these flags warns of at its start, where it has these addresses.
    fn warnings(flags: &[&str], own: &[&str]) -> Vec<String> {
        let config = Config::parse_from(["cubesync-server"].iter().chain(flags));
        let findings = examine_at_start_in(&config, &Network::of(own)).into_iter();
        let about =
            |finding: &Finding| ["join key", "encryption", "text port"].contains(&finding.about);
        let words = |finding: Finding| format!("{}; {}", finding.summary, finding.advice);
        findings.filter(about).map(words).collect()
    }

    const KEY: [&str; 2] = ["--join-key", "0123456789abcdef"];
    const TLS: [&str; 4] = ["--tls-cert", "cert.pem", "--tls-key", "key.pem"];

    #[test]
    fn a_start_at_a_public_address_says_what_is_open_and_how_to_close_it() {
        let [key, encryption] = &warnings(&[], &["192.168.1.5", "203.0.113.9"])[..] else {
            panic!("there are two warnings");
        };
        for (warning, remedy) in [(key, "--join-key-file FILE"), (encryption, "--tls-cert")] {
            let close = "with --listen 127.0.0.1:14900 and --http 127.0.0.1:8080";
            for part in ["203.0.113.9 is a public address", remedy, close] {
                assert!(warning.contains(part), "{part} is missing: {warning}");
            }
        }
        let [encryption] = &warnings(&KEY, &["203.0.113.9"])[..] else {
            panic!("there is one warning");
        };
        assert!(encryption.contains("the join key crosses"), "{encryption}");
        let [key] = &warnings(&TLS, &["203.0.113.9"])[..] else {
            panic!("there is one warning");
        };
        assert!(key.contains("no key is asked for"), "{key}");
        assert!(warnings(&[&KEY[..], &TLS].concat(), &["203.0.113.9"]).is_empty());
    }

    #[test]
    fn only_what_the_internet_reaches_is_warned_of() {
        for own in [&[][..], &["192.168.1.5"], &["192.168.1.5", "2a00::1"]] {
            assert!(warnings(&["--text", "0.0.0.0:1"], own).is_empty());
        }
        let six = ["--listen", "[::]:1", "--http", "127.0.0.1:2"];
        let [key, _] = &warnings(&six, &["192.168.1.5", "2a00::1"])[..] else {
            panic!("there are two warnings");
        };
        assert!(key.contains("2a00::1 is a public address"), "{key}");
        assert!(key.contains("with --listen 127.0.0.1:1"), "{key}");
        let one = ["--listen", "203.0.113.9:1", "--http", "192.168.1.5:2"];
        assert_eq!(warnings(&one, &["192.168.1.5", "203.0.113.9"]).len(), 2);
        let local = ["--listen", "127.0.0.1:1", "--http", "127.0.0.1:2"];
        assert!(warnings(&local, &["203.0.113.9"]).is_empty());
        let text = [&local[..], &["--text", "0.0.0.0:3"]].concat();
        let [text] = &warnings(&text, &["203.0.113.9"])[..] else {
            panic!("there is one warning");
        };
        assert!(text.contains("--text 127.0.0.1:14902"), "{text}");
    }
}
