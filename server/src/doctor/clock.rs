//! The machine's clock: whether it can be right.

use std::time::{Duration, SystemTime};

use super::Finding;

/// Largest time by which the clock may be behind the one of the machine that built the program.
const TOLERANCE: Duration = Duration::from_secs(60 * 60);

pub(super) fn examine(now: SystemTime) -> Vec<Finding> {
    let program = std::env::current_exe().and_then(|path| path.metadata()?.modified());
    let zoned = jiff::Zoned::now();
    let time = zoned.strftime("%Y-%m-%d %H:%M:%S %:Q").to_string();
    vec![judge(now, program.ok(), &time)]
}

/// Judges the clock. `program` is when the program was written to disk, `time` the time as text.
fn judge(now: SystemTime, program: Option<SystemTime>, time: &str) -> Finding {
    const ABOUT: &str = "clock";
    match program {
        Some(program) if now + TOLERANCE < program => Finding::problem(
            ABOUT,
            format!("it says {time}, which is before this program was made"),
            "set it, for instance with `timedatectl set-ntp true`: certificates are judged by it, \
             and every line of the log. Players' motion is not",
        ),
        _ => Finding::ok(ABOUT, format!("it says {time}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_clock_before_the_program_is_wrong() {
        let now = SystemTime::now();
        let day = Duration::from_secs(24 * 60 * 60);
        let verdict = |program| judge(now, program, "now").verdict;
        assert_eq!(verdict(Some(now - day)), Verdict::Ok);
        assert_eq!(verdict(Some(now + TOLERANCE / 2)), Verdict::Ok);
        assert_eq!(verdict(None), Verdict::Ok);
        assert_eq!(verdict(Some(now + day)), Verdict::Problem);
    }

    #[test]
    fn the_time_is_shown_with_its_zone() {
        let finding = &examine(SystemTime::now())[0];
        assert!(finding.summary.starts_with("it says 2"), "{finding:?}");
        assert!(!finding.summary.contains('%'), "{finding:?}");
    }
}
