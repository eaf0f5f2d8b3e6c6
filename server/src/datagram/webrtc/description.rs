//! Session descriptions (SDP, RFC 8866) as far as a data channel needs them: what an offer must say,
//! and the answer to it.

use std::fmt::Write;
use std::net::SocketAddr;

use super::Fingerprint;

/// Longest name of a section. Browsers count from 0.
const MAX_SECTION_BYTES: usize = 16;
/// Lengths that ICE allows for a name and a password (RFC 8839, section 5.4).
const UFRAG_BYTES: std::ops::RangeInclusive<usize> = 4..=256;
const PASSWORD_BYTES: std::ops::RangeInclusive<usize> = 22..=256;

/// What an offer says of the browser.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Offer<'a> {
    /// The name of the section for data.
    pub(super) section: &'a str,
    /// The browser's name in ICE.
    pub(super) ufrag: &'a str,
    /// Its password in ICE.
    pub(super) password: &'a str,
    /// The hash of the certificate that it will show.
    pub(super) fingerprint: Fingerprint,
}

/// What the answer says of this server.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    pub(super) ufrag: &'a str,
    pub(super) password: &'a str,
    pub(super) fingerprint: &'a Fingerprint,
    pub(super) address: SocketAddr,
    /// Longest message that the server takes.
    pub(super) max_message_bytes: usize,
}

impl<'a> Offer<'a> {
    /// Parses an offer of one data channel and nothing else. The text is bounded by its message.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (mut sections, mut section, mut ufrag, mut password) = (0, None, None, None);
        let (mut fingerprint, mut may_begin) = (None, false);
        for line in text.lines() {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            match name {
                "a=mid" => section = Some(value),
                "a=ice-ufrag" => ufrag = Some(value),
                "a=ice-pwd" => password = Some(value),
                "a=fingerprint" => fingerprint = Some(parse_fingerprint(value)?),
                "a=setup" => may_begin = matches!(value, "actpass" | "active"),
                _ if line.starts_with("m=") => {
                    sections += 1;
                    let is_data =
                        line.starts_with("m=application ") && line.ends_with(" webrtc-datachannel");
                    if !is_data || sections > 1 {
                        return None;
                    }
                }
                _ => {}
            }
        }
        let is_word = |text: &str| {
            text.bytes().all(|byte| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')
            })
        };
        let section = section
            .filter(|name| (1..=MAX_SECTION_BYTES).contains(&name.len()) && is_word(name))?;
        let ufrag = ufrag.filter(|ufrag| UFRAG_BYTES.contains(&ufrag.len()) && is_word(ufrag))?;
        let password = password
            .filter(|password| PASSWORD_BYTES.contains(&password.len()) && is_word(password))?;
        (sections == 1 && may_begin).then_some(Self {
            section,
            ufrag,
            password,
            fingerprint: fingerprint?,
        })
    }

    /// Returns the text of the answer to this offer.
    pub(super) fn answer(&self, answer: &Answer<'_>) -> String {
        let Answer {
            ufrag,
            password,
            fingerprint,
            address,
            max_message_bytes,
        } = answer;
        let (section, ip, port) = (self.section, address.ip(), address.port());
        let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
        let mut hash = String::with_capacity(3 * fingerprint.len());
        for byte in fingerprint.iter() {
            let colon = if hash.is_empty() { "" } else { ":" };
            write!(hash, "{colon}{byte:02X}").expect("writing to a string cannot fail");
        }
        // The one candidate has the highest priority, of a host's own address.
        format!(
            "v=0\r\no=- 1 1 IN {family} {ip}\r\ns=-\r\nt=0 0\r\na=ice-lite\r\na=group:BUNDLE {section}\r\n\
             m=application {port} UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN {family} {ip}\r\na=mid:{section}\r\n\
             a=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\na=fingerprint:sha-256 {hash}\r\na=setup:passive\r\n\
             a=sctp-port:5000\r\na=max-message-size:{max_message_bytes}\r\n\
             a=candidate:1 1 udp 2130706431 {ip} {port} typ host\r\n"
        )
    }
}

/// Parses `sha-256 AB:CD:...`.
fn parse_fingerprint(text: &str) -> Option<Fingerprint> {
    let (method, text) = text.split_once(' ')?;
    if !method.eq_ignore_ascii_case("sha-256") {
        return None;
    }
    let mut fingerprint = Fingerprint::default();
    let mut parts = text.split(':');
    for byte in &mut fingerprint {
        let part = parts
            .next()
            .filter(|part| part.len() == 2 && !part.starts_with('+'))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(fingerprint)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What Chromium 150 offers.
    const OFFER: &str = "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
        a=extmap-allow-mixed\r\na=msid-semantic: WMS\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n\
        c=IN IP4 0.0.0.0\r\na=ice-ufrag:Zk4x\r\na=ice-pwd:0LAz0LAz0LAz0LAz0LAz0LAz\r\na=ice-options:trickle\r\n\
        a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n\
        a=setup:actpass\r\na=mid:0\r\na=sctp-port:5000\r\na=max-message-size:262144\r\n";

    #[test]
    fn a_browsers_offer_is_understood() {
        let offer = Offer::parse(OFFER).unwrap();
        assert_eq!((offer.section, offer.ufrag), ("0", "Zk4x"));
        assert_eq!(offer.password, "0LAz0LAz0LAz0LAz0LAz0LAz");
        assert_eq!(offer.fingerprint[31], 0x1f);
    }

    #[test]
    fn an_offer_that_says_too_little_or_too_much_is_refused() {
        let without = |start: &str| {
            let lines = OFFER.lines().filter(|line| !line.starts_with(start));
            lines.collect::<Vec<_>>().join("\r\n")
        };
        for start in [
            "m=",
            "a=ice-ufrag",
            "a=ice-pwd",
            "a=fingerprint",
            "a=setup",
            "a=mid",
        ] {
            assert_eq!(Offer::parse(&without(start)), None, "{start}");
        }
        for (old, new) in [
            ("m=application", "m=audio"),
            ("sha-256 00:", "sha-1 00:"),
            (":1E:1F", ":1E"),
            (":1E:1F", ":1E:1F:20"),
            (":1E:1F", ":1E:+F"),
            ("actpass", "passive"),
            ("ufrag:Zk4x", "ufrag:Zk4"),
            ("ufrag:Zk4x", "ufrag:Zk\u{e9}4x"),
            ("pwd:0LAz", "pwd:0 Az"),
            ("mid:0", "mid:01234567890123456"),
            (
                "v=0\r\n",
                "v=0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n",
            ),
        ] {
            let changed = OFFER.replace(old, new);
            assert_ne!(changed, OFFER);
            assert_eq!(Offer::parse(&changed), None, "{new}");
        }
    }

    #[test]
    fn an_answer_names_one_candidate_and_the_certificate() {
        let mut fingerprint = Fingerprint::default();
        fingerprint[0] = 0xab;
        let answer = Offer::parse(OFFER).unwrap().answer(&Answer {
            ufrag: "0123456789abcdef",
            password: "00112233445566778899aabbccddeeff",
            fingerprint: &fingerprint,
            address: "192.0.2.7:7777".parse().unwrap(),
            max_message_bytes: 1_100,
        });
        assert!(answer.contains("a=candidate:1 1 udp 2130706431 192.0.2.7 7777 typ host\r\n"));
        assert!(answer.contains("a=fingerprint:sha-256 AB:00:"));
        assert!(answer.contains("a=ice-lite\r\n") && answer.contains("a=setup:passive\r\n"));
    }

    proptest! {
        #[test]
        fn nothing_breaks_the_parser(text in "(([a-z]=)?(mid|ice-ufrag|ice-pwd|fingerprint|setup)?:?\\PC{0,80}\r?\n){0,12}") {
            let _ = Offer::parse(&text);
        }
    }
}
