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
    let room = limit.saturating_sub(reserved);
    let raise = format!(
        "allow it more: LimitNOFILE={needed} in its systemd unit, or `ulimit -n {needed}` before \
         it starts"
    );
    if needed > limit {
        Finding::problem(
            ABOUT,
            format!(
                "{connections} connections need {needed} open files, and it may have {limit}: the \
                 last ones would be refused by the system"
            ),
            format!("{raise}; or --max-connections {room}"),
        )
    } else if connections < FEW_CONNECTIONS && needed == limit {
        Finding::note(
            ABOUT,
            format!("it may have {limit}, which is enough for {connections} connections"),
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
        assert!(problem.advice.contains("LimitNOFILE=1100"), "{problem:?}");
        assert!(
            problem.advice.contains("--max-connections 924"),
            "{problem:?}"
        );
    }
}
