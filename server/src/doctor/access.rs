//! Access: the keys, and the text port, which needs none.

use super::Finding;
use super::reach::Reach;
use crate::config::Config;
use cubesync_network::Scope;

const KEY: &str = "join key";

/// Shortest key without a note. A shorter one can be guessed or is a word.
const SHORT_KEY_BYTES: usize = 12;

pub(super) fn examine(config: &Config, reach: &Reach) -> Vec<Finding> {
    let is_key = |argument: String| {
        ["--join-key", "--room-key"]
            .iter()
            .any(|flag| argument == *flag || argument.starts_with(&format!("{flag}=")))
    };
    let key_is_argument = std::env::args().any(is_key);
    judge(config, reach, key_is_argument)
}

fn judge(config: &Config, reach: &Reach, key_is_argument: bool) -> Vec<Finding> {
    let mut findings = vec![judge_join_key(config, reach)];
    let server = config.join_key().map(|key| ("it".to_owned(), key));
    let rooms = config.room_keys().into_iter();
    let rooms = rooms.map(|key| (format!("the key of room {}", key.room), key.key));
    let server = server.into_iter();
    let short = server
        .chain(rooms)
        .filter(|(_, key)| key.len() < SHORT_KEY_BYTES);
    findings.extend(short.map(|(whose, _)| {
        Finding::note(
            KEY,
            format!("{whose} has less than {SHORT_KEY_BYTES} characters"),
            "`openssl rand -hex 16` makes one that nobody guesses",
        )
    }));
    if key_is_argument {
        findings.push(Finding::note(
            KEY,
            "given on the command line, where every user of this machine can read it",
            "give it in a file, with --join-key-file or --room-key-file, or as CUBESYNC_JOIN_KEY or CUBESYNC_ROOM_KEY",
        ));
    }
    let has_key = config.has_key();
    findings.extend(reach.text.map(|text| judge_text_port(text, has_key)));
    findings
}

pub(super) fn judge_join_key(config: &Config, reach: &Reach) -> Finding {
    let rooms = match config.room_keys().len() {
        0 => String::new(),
        1 => ", but for a room with a key of its own".to_owned(),
        count => format!(", but for {count} rooms with keys of their own"),
    };
    match (config.join_key(), reach.public_address()) {
        (Some(_), _) => Finding::ok(KEY, "asked for"),
        (None, Some(address)) => Finding::note(
            KEY,
            format!(
                "everybody on the internet may play: {address} is a public address, and no key is asked for{rooms}"
            ),
            format!(
                "to play among friends, write a phrase into a file, start with --join-key-file FILE and \
                 tell them; or let only this machine in, with {}",
                reach.flags_that_close()
            ),
        ),
        (None, None) => Finding::ok(KEY, format!("none: whoever reaches it may play{rooms}")),
    }
}

pub(super) fn judge_text_port(scope: Scope, with_key: bool) -> Finding {
    const ABOUT: &str = "text port";
    let advice = "--text 127.0.0.1:14902 keeps it on this machine";
    let free = "whoever reaches it joins without a key and puts a cube anywhere";
    match scope {
        Scope::Machine => Finding::ok(ABOUT, "on, for this machine only"),
        Scope::Network if !with_key => {
            Finding::note(ABOUT, format!("open to your network: {free}"), advice)
        }
        Scope::Network => Finding::problem(
            ABOUT,
            format!("open to your network, around the join key: {free}"),
            advice,
        ),
        Scope::Internet => Finding::problem(
            ABOUT,
            format!("everybody on the internet may use the text port: {free}"),
            advice,
        ),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::Verdict;
    use super::*;
    use cubesync_network::Network;

    /// Returns the subject and the verdict of each finding.
    fn judged(flags: &[&str], own: &str, key_is_argument: bool) -> Vec<(&'static str, Verdict)> {
        let config = Config::parse_from(["cubesync-server"].iter().chain(flags));
        let reach = Reach::of(&config, &Network::of(&[own]));
        let findings = judge(&config, &reach, key_is_argument);
        findings
            .iter()
            .map(|finding| (finding.about, finding.verdict))
            .collect()
    }

    const NETWORK: &str = "192.168.1.5";
    const INTERNET: &str = "8.8.8.8";

    #[test]
    fn a_missing_key_is_worth_a_note_in_public() {
        assert_eq!(judged(&[], NETWORK, false), [("join key", Verdict::Ok)]);
        assert_eq!(judged(&[], INTERNET, false), [("join key", Verdict::Note)]);
    }

    #[test]
    fn a_short_key_and_a_key_on_the_command_line_are_worth_a_note() {
        let long = ["--join-key", "0123456789abcdef"];
        assert_eq!(judged(&long, NETWORK, false), [("join key", Verdict::Ok)]);
        let noted = [("join key", Verdict::Ok), ("join key", Verdict::Note)];
        assert_eq!(judged(&long, NETWORK, true), noted);
        for short in [["--join-key", "sesame"], ["--room-key", "den=sesame"]] {
            assert_eq!(judged(&short, NETWORK, false), noted);
        }
    }

    #[test]
    fn a_text_port_that_bypasses_the_key_or_faces_the_internet_is_a_problem() {
        let text = |flags: &[&str], own| judged(flags, own, false)[1];
        let local = ["--text", "127.0.0.1:1"];
        let open = ["--text", "0.0.0.0:1"];
        let with_key = ["--text", "0.0.0.0:1", "--join-key", "0123456789abcdef"];
        assert_eq!(text(&local, INTERNET), ("text port", Verdict::Ok));
        assert_eq!(text(&open, NETWORK), ("text port", Verdict::Note));
        assert_eq!(text(&with_key, NETWORK), ("text port", Verdict::Problem));
        assert_eq!(text(&open, INTERNET), ("text port", Verdict::Problem));
    }
}
