//! Flags that have no effect beside the others, or more of it than was meant.

use super::Finding;
use crate::config::Config;

const FLAGS: &str = "flags";

pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if config.record.is_none() && config.record_max.is_some() {
        findings.push(Finding::note(
            FLAGS,
            "--record-max has no effect without --record",
            "--record FILE records the room lobby",
        ));
    }
    #[cfg(feature = "cluster")]
    findings.extend(config.cluster.without_effect().map(|flag| {
        Finding::note(
            FLAGS,
            format!("{flag} has no effect without --bus"),
            "--bus URL makes the server one of several",
        )
    }));
    if config.trust_proxy.iter().any(|proxy| proxy.is_everything()) {
        findings.push(Finding::note(
            FLAGS,
            "--trust-proxy trusts everybody: who reaches the pages can choose the address that limits count",
            "name the proxy's own address or network",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::Verdict;
    use super::*;

    #[test]
    fn flags_without_effect_are_worth_a_note() {
        let judged = |flags: &[&str]| {
            let config = Config::parse_from(["cubesync-server"].iter().chain(flags));
            let findings = examine(&config);
            assert!(
                findings
                    .iter()
                    .all(|finding| finding.verdict == Verdict::Note)
            );
            findings.len()
        };
        assert_eq!(judged(&[]), 0);
        assert_eq!(judged(&["--record-max", "2M"]), 1);
        assert_eq!(judged(&["--record-max", "2M", "--record", "game.rec"]), 0);
        assert_eq!(judged(&["--trust-proxy", "10.0.0.0/8"]), 0);
        assert_eq!(judged(&["--trust-proxy", "10.0.0.0/8,::/0"]), 1);
    }

    #[cfg(feature = "cluster")]
    #[test]
    fn flags_of_several_servers_need_a_bus() {
        let bus = ["--bus", "nats://127.0.0.1:1"];
        let named = ["--cluster-name", "v2", "--public-http", "a.example:1"];
        let count = |flags: &[&str]| {
            examine(&Config::parse_from(["cubesync-server"].iter().chain(flags))).len()
        };
        assert_eq!(count(&named), 2);
        assert_eq!(count(&[&named[..], &bus].concat()), 0);
    }
}
