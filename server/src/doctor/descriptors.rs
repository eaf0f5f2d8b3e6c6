//! Open files: whether the system allows as many as the connections need.

use super::Finding;
use crate::config::Config;

/// Number of connections below which a reached limit is worth a note, since it is hardly intended.
const FEW_CONNECTIONS: usize = 1_000;

pub(super) fn examine(config: &Config) -> Vec<Finding> {
    // A server raises its limit in the same way.
    let limit = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(u64::MAX);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    vec![judge(
        config.connection_limit(),
        config.reserved_descriptors(),
        limit,
    )]
}

/// Judges whether `connections` fit into a limit on open files, beside `reserved` other files.
fn judge(connections: usize, reserved: usize, limit: usize) -> Finding {
    const ABOUT: &str = "open files";
    let needed = connections.saturating_add(reserved);
    let raise = format!(
        "allow it more: LimitNOFILE={needed} in its systemd unit, or `ulimit -n {needed}` before \
         it starts"
    );
    if needed > limit {
        let (fit, lower) = match limit.saturating_sub(reserved) {
            0 => ("none".to_owned(), "--max-http-connections 64".to_owned()),
            fit => (fit.to_string(), format!("--max-connections {fit}")),
        };
        let players = match connections {
            1 => "1 player needs".to_owned(),
            _ => format!("{connections} players need"),
        };
        Finding::problem(
            ABOUT,
            format!(
                "{players} {needed} open files, {reserved} of them for pages and the server itself, and it \
                 may have {limit}: {fit} would fit, and the system refuses the others",
            ),
            format!("{raise}; or {lower}"),
        )
    } else if connections < FEW_CONNECTIONS && needed == limit {
        Finding::note(
            ABOUT,
            format!("it may have {limit} open files, so {connections} players fit, and no more"),
            "more with a higher limit: LimitNOFILE=20000 in its systemd unit, or `ulimit -n 20000`",
        )
    } else {
        Finding::ok(
            ABOUT,
            format!("it may have {limit}, and {connections} connections at most"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn connections_must_fit_into_the_limit() {
        let judged = |connections, limit| judge(connections, 100, limit);
        assert_eq!(judged(10_000, 20_000).verdict, Verdict::Ok);
        assert_eq!(judged(924, 1_024).verdict, Verdict::Note);
        // Here the flags and not the system keep the number small.
        assert_eq!(judged(50, 1_024).verdict, Verdict::Ok);
        let problem = judged(1_000, 1_024);
        assert_eq!(problem.verdict, Verdict::Problem);
        assert!(problem.summary.contains(": 924 would fit"), "{problem:?}");
        assert!(problem.advice.contains("LimitNOFILE=1100"), "{problem:?}");
        assert!(
            problem.advice.contains("--max-connections 924"),
            "{problem:?}"
        );
        let problem = judged(1, 64);
        assert!(problem.summary.contains(": none would fit"), "{problem:?}");
        assert!(
            problem.advice.contains("--max-http-connections"),
            "{problem:?}"
        );
    }
}
