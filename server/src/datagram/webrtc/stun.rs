//! The part of STUN (RFC 8489) with which a browser looks for its peer: binding requests and answers,
//! authenticated by the password of the session description.

use std::net::{IpAddr, SocketAddr};

use flate2::Crc;
use ring::hmac;

/// Length of a message's header.
const HEADER_BYTES: usize = 20;
/// The constant in each header.
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// The mask of a fingerprint.
const FINGERPRINT_MASK: u32 = 0x5354_554e;
/// Length of the value of `MESSAGE-INTEGRITY`, an HMAC with SHA-1.
const INTEGRITY_BYTES: usize = 20;

const REQUEST: u16 = 0x0001;
const SUCCESS: u16 = 0x0101;

const USERNAME: u16 = 0x0006;
const INTEGRITY: u16 = 0x0008;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLED: u16 = 0x8029;

/// The number by which an answer is recognized.
pub(super) type Transaction = [u8; 12];

/// A password, as a key for signatures.
#[derive(Debug)]
pub(super) struct Password(hmac::Key);

/// A message that was parsed and not verified yet.
#[derive(Debug)]
pub(super) struct Message<'a> {
    pub(super) kind: Kind,
    pub(super) transaction: Transaction,
    /// The names of both sides, the receiver's first, as `ours:theirs`.
    pub(super) username: Option<&'a str>,
    /// Whether the sender has chosen this pair of addresses.
    pub(super) is_nomination: bool,
    packet: &'a [u8],
    /// The place of `MESSAGE-INTEGRITY`, which covers everything before it.
    signed_bytes: usize,
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Request,
    Success,
}

impl Password {
    pub(super) fn new(password: &str) -> Self {
        let algorithm = hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY;
        Self(hmac::Key::new(algorithm, password.as_bytes()))
    }
}

impl<'a> Message<'a> {
    /// Parses a binding request or its successful answer that has a signature; `None` if it is anything
    /// else.
    pub(super) fn parse(packet: &'a [u8]) -> Option<Self> {
        let (header, mut rest) = packet.split_at_checked(HEADER_BYTES)?;
        let kind = match u16::from_be_bytes([header[0], header[1]]) {
            REQUEST => Kind::Request,
            SUCCESS => Kind::Success,
            _ => return None,
        };
        let len_bytes = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header[4..8] != COOKIE || len_bytes != rest.len() {
            return None;
        }
        let mut message = Self {
            kind,
            transaction: header[8..].try_into().ok()?,
            username: None,
            is_nomination: false,
            packet,
            signed_bytes: 0,
        };
        while let Some((attribute, after)) = rest.split_at_checked(4) {
            let name = u16::from_be_bytes([attribute[0], attribute[1]]);
            let len_bytes = usize::from(u16::from_be_bytes([attribute[2], attribute[3]]));
            let value = after.get(..len_bytes)?;
            match name {
                USERNAME => message.username = Some(str::from_utf8(value).ok()?),
                USE_CANDIDATE => message.is_nomination = true,
                INTEGRITY => {
                    message.signed_bytes = packet.len() - rest.len();
                    return (len_bytes == INTEGRITY_BYTES).then_some(message);
                }
                _ => {}
            }
            rest = after.get(len_bytes.next_multiple_of(4)..)?;
        }
        None
    }

    /// Returns the number that is the receiver's name, if it is one of ours.
    pub(super) fn name(&self) -> Option<u64> {
        let (ours, _) = self.username?.split_once(':')?;
        u64::from_str_radix(ours, 16).ok()
    }

    /// Returns whether the message was signed with a password.
    pub(super) fn is_signed(&self, Password(key): &Password) -> bool {
        let mut signed = self.packet[..self.signed_bytes].to_vec();
        set_length(&mut signed, 4 + INTEGRITY_BYTES);
        let signature = &self.packet[self.signed_bytes + 4..][..INTEGRITY_BYTES];
        hmac::verify(key, &signed, signature).is_ok()
    }
}

/// Returns the answer to a request that came from `from`, signed with our password.
pub(super) fn success(transaction: Transaction, from: SocketAddr, password: &Password) -> Vec<u8> {
    let mut message = header(SUCCESS, transaction);
    let mask = [&COOKIE[..], &transaction].concat();
    let masked = |octets: &[u8]| -> Vec<u8> {
        let pairs = octets.iter().zip(&mask);
        pairs.map(|(octet, mask)| octet ^ mask).collect()
    };
    let (family, address) = match from.ip().to_canonical() {
        IpAddr::V4(address) => (1, masked(&address.octets())),
        IpAddr::V6(address) => (2, masked(&address.octets())),
    };
    let port = masked(&from.port().to_be_bytes());
    push(
        &mut message,
        XOR_MAPPED_ADDRESS,
        &[&[0, family], &port[..], &address].concat(),
    );
    sign(message, password)
}

/// Returns a request of ours, signed with the peer's password. Its answer proves that the peer is at the
/// address to which it goes.
pub(super) fn request(transaction: Transaction, username: &str, password: &Password) -> Vec<u8> {
    let mut message = header(REQUEST, transaction);
    push(&mut message, USERNAME, username.as_bytes());
    push(&mut message, PRIORITY, &1_u32.to_be_bytes());
    push(&mut message, ICE_CONTROLLED, &[0; 8]);
    sign(message, password)
}

/// Returns the request of a browser that has chosen this pair of addresses.
#[cfg(test)]
pub(super) fn nomination(transaction: Transaction, username: &str, password: &Password) -> Vec<u8> {
    let mut message = header(REQUEST, transaction);
    push(&mut message, USERNAME, username.as_bytes());
    push(&mut message, USE_CANDIDATE, &[]);
    sign(message, password)
}

fn header(kind: u16, transaction: Transaction) -> Vec<u8> {
    let mut message = Vec::with_capacity(128);
    message.extend(kind.to_be_bytes());
    message.extend([0; 2]);
    message.extend(COOKIE);
    message.extend(transaction);
    message
}

fn push(message: &mut Vec<u8>, name: u16, value: &[u8]) {
    let len_bytes = u16::try_from(value.len()).expect("our attributes are short");
    message.extend(name.to_be_bytes());
    message.extend(len_bytes.to_be_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// Sets the length in a header for what is there and `more_bytes` that will follow.
fn set_length(message: &mut [u8], more_bytes: usize) {
    let len_bytes = message.len() - HEADER_BYTES + more_bytes;
    let len_bytes = u16::try_from(len_bytes).expect("a message is no longer than a packet");
    message[2..4].copy_from_slice(&len_bytes.to_be_bytes());
}

fn sign(mut message: Vec<u8>, Password(key): &Password) -> Vec<u8> {
    set_length(&mut message, 4 + INTEGRITY_BYTES);
    let signature = hmac::sign(key, &message);
    push(&mut message, INTEGRITY, signature.as_ref());
    set_length(&mut message, 8);
    let mut checksum = Crc::new();
    checksum.update(&message);
    push(
        &mut message,
        FINGERPRINT,
        &(checksum.sum() ^ FINGERPRINT_MASK).to_be_bytes(),
    );
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The request of RFC 5769, section 2.1, whose password is below.
    const SAMPLE: [u8; 108] = [
        0x00, 0x01, 0x00, 0x58, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6,
        0x86, 0xfa, 0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x10, 0x53, 0x54, 0x55, 0x4e, 0x20, 0x74,
        0x65, 0x73, 0x74, 0x20, 0x63, 0x6c, 0x69, 0x65, 0x6e, 0x74, 0x00, 0x24, 0x00, 0x04, 0x6e,
        0x00, 0x01, 0xff, 0x80, 0x29, 0x00, 0x08, 0x93, 0x2f, 0xf9, 0xb1, 0x51, 0x26, 0x3b, 0x36,
        0x00, 0x06, 0x00, 0x09, 0x65, 0x76, 0x74, 0x6a, 0x3a, 0x68, 0x36, 0x76, 0x59, 0x20, 0x20,
        0x20, 0x00, 0x08, 0x00, 0x14, 0x9a, 0xea, 0xa7, 0x0c, 0xbf, 0xd8, 0xcb, 0x56, 0x78, 0x1e,
        0xf2, 0xb5, 0xb2, 0xd3, 0xf2, 0x49, 0xc1, 0xb5, 0x71, 0xa2, 0x80, 0x28, 0x00, 0x04, 0xe5,
        0x7a, 0x3b, 0xcf,
    ];

    #[test]
    fn the_standards_own_request_is_understood() {
        let message = Message::parse(&SAMPLE).unwrap();
        assert_eq!(message.kind, Kind::Request);
        assert_eq!(message.username, Some("evtj:h6vY"));
        assert!(!message.is_nomination);
        assert!(message.is_signed(&Password::new("VOkJxbRl1RmTxUk/WvJxBt")));
        assert!(!message.is_signed(&Password::new("VOkJxbRl1RmTxUk/WvJxBT")));
    }

    #[test]
    fn a_changed_or_cut_request_is_refused() {
        let password = Password::new("VOkJxbRl1RmTxUk/WvJxBt");
        for place in 0..SAMPLE.len() - 8 {
            let mut packet = SAMPLE;
            packet[place] ^= 1;
            let signed =
                Message::parse(&packet).is_some_and(|message| message.is_signed(&password));
            assert!(!signed, "{place}");
            assert!(Message::parse(&SAMPLE[..place]).is_none(), "{place}");
        }
    }

    #[test]
    fn our_own_messages_are_whole() {
        let password = Password::new("a password of one side");
        let transaction = [7; 12];
        let request = request(transaction, "them:us", &password);
        let parsed = Message::parse(&request).unwrap();
        assert_eq!(
            (parsed.kind, parsed.username),
            (Kind::Request, Some("them:us"))
        );
        assert!(parsed.is_signed(&password));
        for from in [
            "192.0.2.1:32853",
            "[2001:db8:1234:5678:11:2233:4455:6677]:32853",
        ] {
            let answer = success(transaction, from.parse().unwrap(), &password);
            let parsed = Message::parse(&answer).unwrap();
            assert_eq!(
                (parsed.kind, parsed.transaction),
                (Kind::Success, transaction)
            );
            assert!(parsed.is_signed(&password));
        }
    }

    /// The answer of RFC 5769, section 2.2, without its `SOFTWARE`.
    #[test]
    fn an_answer_names_the_address_as_the_standard_does() {
        let transaction: Transaction = SAMPLE[8..20].try_into().unwrap();
        let from = "192.0.2.1:32853".parse().unwrap();
        let answer = success(transaction, from, &Password::new("VOkJxbRl1RmTxUk/WvJxBt"));
        let expected = [
            0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43,
        ];
        assert_eq!(answer[20..32], expected);
    }
}
