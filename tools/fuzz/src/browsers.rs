//! What browsers send for their datagrams: an offer on the stream, then packets of ICE and DTLS.

use cubesync_server::fuzzing::{answer_offer, take_packets};

/// Checks that an answer says what it must, whatever the offer, and that packets of strangers neither break
/// anything nor get more than one answer each.
pub fn check(bytes: &[u8]) {
    if let Some(answer) = str::from_utf8(bytes).ok().and_then(answer_offer) {
        let counted = |line: &str| answer.matches(line).count();
        assert_eq!(counted("\r\nm=application "), 1, "{answer}");
        assert_eq!(counted("\r\na=candidate:"), 1, "{answer}");
        assert_eq!(counted("\r\na=fingerprint:"), 1, "{answer}");
        assert!(
            answer
                .split("\r\n")
                .all(|line| !line.contains(['\r', '\n']))
        );
    }
    // A length of two bytes before each packet.
    let mut rest = bytes;
    let mut packets = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        packets.push(&after[..length]);
        rest = &after[length..];
    }
    let answers = take_packets(packets.iter().copied());
    // DTLS may send the same flight again, which has a few packets.
    assert!(answers <= 8 * packets.len(), "{answers}");
}
