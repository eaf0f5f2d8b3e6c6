//! Values that people, scripts and attackers give to flags.

use clap::error::ErrorKind;
use clap::{Arg, Command, Error, Parser};

/// Values that make no sense for one kind of flag or another. Every program must refuse each of them or
/// work with it.
pub const HOSTILE_VALUES: &[&str] = &[
    "",
    " ",
    "\t",
    "\n",
    "a\nb",
    "\r\n",
    "\u{feff}",
    "\u{feff}1",
    "\u{200b}",
    "\u{202e}a",
    "e\u{301}",
    "🦀",
    "１",
    "\u{0663}",
    "0",
    "1",
    "-1",
    "-0",
    "+1",
    "01",
    "1.5",
    "1,5",
    "1_000",
    "0x10",
    "1e3",
    "1e-999",
    "1e999",
    "NaN",
    "nan",
    "inf",
    "-inf",
    "infinity",
    "255",
    "256",
    "65535",
    "65536",
    "1000000000",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "340282366920938463463374607431768211456",
    "0s",
    "1ns",
    "1us",
    "1ms",
    "10ms",
    "100ms",
    "1s",
    "-1s",
    "1day",
    "2days",
    "1s1s",
    "30",
    "1h 1h",
    "584942417355years",
    "18446744073709551615s",
    "18446744073709551616s",
    "9999999999999999999999h",
    "0M",
    "1M",
    "16777216T",
    "17179869184G",
    "18446744073709551615M",
    "-1M",
    "1Q",
    "M",
    "on",
    "off",
    "true",
    "yes",
    "null",
    "none",
    "*",
    "/",
    "//",
    ".",
    "..",
    "-",
    "--",
    "---",
    "=",
    "==",
    "%",
    "%00",
    "%zz",
    ",",
    ",,",
    "a,",
    "\"",
    "'",
    "\"a\"",
    "`a`",
    "\\",
    "#",
    "#12345",
    "#1234567",
    "#gggggg",
    ":",
    "::",
    ":::",
    "[",
    "]",
    "[]",
    "[]:1",
    "[::1",
    "[::1]",
    "[::1]:",
    "::1:0",
    ":0",
    "*:0",
    "127.0.0.1:0",
    "[::1]:0",
    "localhost:0",
    "0.0.0.0",
    "0.0.0.0:65536",
    "127.0.0.1:-1",
    "127.0.0.1:x",
    "127.0.0.1:0/",
    "http://127.0.0.1:0",
    "tls://",
    "tls://:",
    "tls://tls://a:1",
    "0.0.0.0/0",
    "::/0",
    "::/129",
    "1.2.3.4/33",
    "1.2.3.4/-1",
    "1.2.3.4/",
    "/8",
    "http://",
    "https://",
    "https://a/b",
    "https://*.a",
    "https://a:0",
    "https://a:443/",
    "https://[::1]:1",
    "ftp://a",
    "://",
    "://a",
    "a://",
    "nats://",
    "nats://:1",
    "nats://a:b@",
    "ws://a",
    "=key",
    "lobby=",
    "lobby==",
    "lobby= key",
    "lobby=\"key\"",
];

/// Parses a program's command line with each of its flags that takes a value, and with each hostile value.
/// Returns every `--flag=value` that is accepted, with what it becomes.
///
/// # Panics
/// If a value is refused in another way than by a usage error.
pub fn accepted<Arguments: Parser>() -> Vec<(String, Arguments)> {
    let mut accepted = Vec::new();
    for (flag, value) in flags_and_values(&Arguments::command()) {
        let given = format!("--{flag}={value}");
        match Arguments::try_parse_from(["program", given.as_str()]) {
            Ok(arguments) => accepted.push((given, arguments)),
            Err(error) => assert_usage_error(&given, &error),
        }
    }
    accepted
}

/// Parses a subcommand's or a program's command line with every flag and hostile value.
///
/// # Panics
/// If a value is refused in another way than by a usage error.
pub fn try_all(command: &Command) {
    for subcommand in command.get_subcommands() {
        try_all(subcommand);
    }
    for (flag, value) in flags_and_values(command) {
        let given = format!("--{flag}={value}");
        let parsed = command
            .clone()
            .try_get_matches_from(["program", given.as_str()]);
        if let Err(error) = parsed {
            assert_usage_error(&given, &error);
        }
    }
}

/// Returns what the help of a flag must say and does not: of a time, count or rate, from where to where.
pub fn without_range(command: &Command) -> Vec<String> {
    let is_bounded = |argument: &&Arg| {
        let names = argument.get_value_names().unwrap_or_default();
        let bounded = [
            "TIME", "COUNT", "BYTES", "METRES", "HZ", "M/S", "PERCENT", "BITS", "SIZE",
        ];
        names.iter().any(|name| bounded.contains(&name.as_str()))
    };
    let says_range = |argument: &&Arg| {
        let help = argument
            .get_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        let heading = argument.get_help_heading().unwrap_or_default();
        let help = format!("{help} {heading}");
        [" to ", "at most", "or more", "at least"]
            .iter()
            .any(|words| help.contains(words))
    };
    let bounded = command.get_arguments().filter(is_bounded);
    bounded
        .filter(|argument| !says_range(argument))
        .map(|argument| argument.get_id().to_string())
        .collect()
}

fn flags_and_values(command: &Command) -> Vec<(String, String)> {
    let long = "a".repeat(100_000);
    let values: Vec<&str> = HOSTILE_VALUES
        .iter()
        .copied()
        .chain([long.as_str()])
        .collect();
    let takes_value = |argument: &&Arg| argument.get_action().takes_values();
    let flags = command.get_arguments().filter(takes_value);
    flags
        .filter_map(Arg::get_long)
        .flat_map(|flag| {
            values
                .iter()
                .map(move |value| (flag.to_owned(), (*value).to_owned()))
        })
        .collect()
}

fn assert_usage_error(given: &str, error: &Error) {
    let given: String = given.chars().take(100).collect();
    assert_eq!(error.exit_code(), 2, "{given}: {error}");
    assert_ne!(error.kind(), ErrorKind::UnknownArgument, "{given}: {error}");
}
