//! Parsers of times and numbers, each with bounds.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use humantime::format_duration;

/// Longest time of a flag that needs no other bound. A deadline so far away can still be computed.
pub const LONGEST_TIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Largest number of a flag that counts something: more than any machine has of it, so that it stands
/// for "no limit", and small enough to compute with.
pub const MAX_COUNT: u32 = 1_000_000_000;

/// Returns a parser of times such as `15s` or `1m 30s` within bounds.
pub fn time(
    range: RangeInclusive<Duration>,
) -> impl Fn(&str) -> Result<Duration, String> + Clone + Send + Sync + 'static {
    move |text| {
        let usual = Duration::from_secs(15);
        let example = if range.contains(&usual) {
            usual
        } else {
            *range.end()
        };
        let [least, most, example] = [*range.start(), *range.end(), example].map(format_duration);
        let expected = format!("expected a time from {least} to {most}, such as {example}");
        let text = text.trim();
        match humantime::parse_duration(text) {
            Ok(time) if range.contains(&time) => Ok(time),
            Err(_) if text.parse::<f64>().is_ok_and(|number| number > 0.0) => {
                Err(format!("the unit is missing; {expected}"))
            }
            _ => Err(expected),
        }
    }
}

/// Returns a parser of whole numbers within bounds.
pub fn whole<Number>(
    range: RangeInclusive<Number>,
) -> impl Fn(&str) -> Result<Number, String> + Clone + Send + Sync + 'static
where
    Number: FromStr + Display + PartialOrd + Clone + Send + Sync + 'static,
{
    move |text| match text.trim().parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => {
            let (least, most) = (range.start(), range.end());
            Err(format!("expected a whole number from {least} to {most}"))
        }
    }
}

/// Returns a parser of numbers within bounds; `unit` names what is counted.
pub fn decimal(
    range: RangeInclusive<f32>,
    unit: &'static str,
) -> impl Fn(&str) -> Result<f32, String> + Clone + Send + Sync + 'static {
    move |text| match text.trim().parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => {
            let (least, most) = (range.start(), range.end());
            Err(format!("expected {unit} from {least} to {most}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_and_are_within_bounds() {
        let parse = time(Duration::from_millis(10)..=LONGEST_TIME);
        assert_eq!(parse(" 1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("1day"), Ok(LONGEST_TIME));
        for wrong in [
            "",
            "0",
            "0s",
            "9ms",
            "25h",
            "-1s",
            "soon",
            "NaN",
            "1e9s",
            "584942417356y",
        ] {
            let problem = parse(wrong).unwrap_err();
            assert_eq!(
                problem, "expected a time from 10ms to 1day, such as 15s",
                "{wrong}"
            );
        }
        assert!(parse("15").unwrap_err().starts_with("the unit is missing"));
    }

    #[test]
    fn numbers_are_within_bounds() {
        let parse = whole(1..=MAX_COUNT);
        assert_eq!(parse("1000000000"), Ok(MAX_COUNT));
        for wrong in [
            "",
            "0",
            "-1",
            "1.5",
            "1e3",
            "1000000001",
            "18446744073709551616",
            "0x10",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        let parse = decimal(0.5..=2.0, "metres");
        assert_eq!(parse("1.5"), Ok(1.5));
        for wrong in ["", "0.4", "NaN", "inf", "-inf", "1e999", "2m"] {
            let problem = parse(wrong).unwrap_err();
            assert_eq!(problem, "expected metres from 0.5 to 2", "{wrong}");
        }
    }
}
