//! Whether the process may hold open as many connections as it is to.

use super::Finding;
use crate::config::Config;

/// A server that can hold less than this is limited by its machine and not by its flags.
const FEW: usize = 1_000;

pub(super) fn examine(config: &Config) -> Vec<Finding> {
    // What a server raises its limit to.
    let limit = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(u64::MAX);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    vec![judge(
        config.connection_limit(),
        config.reserved_descriptors(),
        limit,
    )]
}

/// `connections` at most, beside `reserved` other files, of `limit` that may be open.
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
    } else if connections < FEW && needed == limit {
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
        // Few because they were asked for.
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
