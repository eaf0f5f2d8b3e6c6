//! The machine's clock: whether it can be right, and whether its time zone is known.

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

/// Checks the time zone that the environment names.
pub(super) fn examine_zone() -> Vec<Finding> {
    let named = std::env::var_os("TZ").map(|zone| zone.to_string_lossy().into_owned());
    let is_known = jiff::tz::TimeZone::try_system().is_ok_and(|zone| !zone.is_unknown());
    judge_zone(named.as_deref(), is_known).into_iter().collect()
}

/// Judges the time zone. `named` is what `TZ` says.
fn judge_zone(named: Option<&str>, is_known: bool) -> Option<Finding> {
    // A machine without a time zone has UTC.
    let named = named.filter(|_| !is_known)?;
    Some(Finding::problem(
        "time zone",
        format!("TZ={named} is no time zone that this machine knows: times are in UTC"),
        "choose a name of `timedatectl list-timezones`, such as TZ=Europe/Berlin; if that is not known \
         either, install the package tzdata, or write the rule itself: TZ=CET-1CEST,M3.5.0,M10.5.0/3",
    ))
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
    fn a_time_zone_that_nobody_knows_is_a_problem() {
        let verdict = |named, is_known| judge_zone(named, is_known).map(|finding| finding.verdict);
        assert_eq!(
            verdict(Some("Europe/Berlni"), false),
            Some(Verdict::Problem)
        );
        assert_eq!(verdict(Some("Europe/Berlin"), true), None);
        assert_eq!(verdict(None, false), None);
    }

    #[test]
    fn the_time_is_shown_with_its_zone() {
        let finding = &examine(SystemTime::now())[0];
        assert!(finding.summary.starts_with("it says 2"), "{finding:?}");
        assert!(!finding.summary.contains('%'), "{finding:?}");
    }
}
