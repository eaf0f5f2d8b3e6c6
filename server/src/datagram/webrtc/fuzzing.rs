//! What browsers send, exposed for `tools/fuzz/` only.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::LazyLock;
use std::time::Instant;

use cubesync_protocol::limits::{MAX_DATAGRAM_BYTES, MAX_SESSION_DESCRIPTION_BYTES};
use prometheus_client::metrics::gauge::Gauge;

use super::channel::Settings;
use super::description::{Answer, Offer};
use super::peer::{Peer, Step};
use super::stun::{Message, Password};
use super::{Fingerprint, cryptography, make_certificate};

const BROWSER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9);
const UFRAG: &str = "0123456789abcdef";
const PASSWORD: &str = "0123456789abcdef0123456789abcdef";

static SETTINGS: LazyLock<Settings> = LazyLock::new(|| {
    let certificate = make_certificate().expect("the system gives random bytes");
    let settings = Settings::new(cryptography::provider(), certificate);
    settings.expect("the cryptography passes the library's tests")
});

/// Returns the answer to an offer, if it is one.
pub fn answer_offer(offer: &str) -> Option<String> {
    let answer = Offer::parse(offer)?.answer(&Answer {
        ufrag: UFRAG,
        password: PASSWORD,
        fingerprint: &Fingerprint::default(),
        address: BROWSER,
        max_message_bytes: MAX_DATAGRAM_BYTES,
    });
    assert!(answer.len() <= MAX_SESSION_DESCRIPTION_BYTES);
    Some(answer)
}

/// Takes packets from a browser's address, and returns how many packets were the answer.
pub fn take_packets<'a>(packets: impl Iterator<Item = &'a [u8]>) -> usize {
    let offer = Offer {
        section: "0",
        ufrag: "browser",
        password: PASSWORD,
        fingerprint: Fingerprint::default(),
    };
    let now = Instant::now();
    let (mut peer, mut step) = (
        Peer::new(&offer, UFRAG, PASSWORD, Gauge::default(), now),
        Step::default(),
    );
    peer.remember(BROWSER);
    for packet in packets {
        if let Some(message) = Message::parse(packet) {
            let _ = message.is_signed(&Password::new(PASSWORD));
            peer.receive_stun(&message, BROWSER, now, &mut step);
        } else {
            peer.receive(packet, BROWSER, &SETTINGS, now, &mut step);
        }
    }
    step.packets.len()
}
