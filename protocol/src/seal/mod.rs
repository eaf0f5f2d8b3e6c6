//! Sealed packets: encrypted and authenticated datagrams of native clients.
//!
//! A packet is ChaCha20-Poly1305 (RFC 8439) over a plaintext datagram, with a fresh 256-bit key that the
//! server gives over the stream, so both sides of it are already sure of each other:
//!
//! | bytes | content |
//! |---|---|
//! | 1 | 0x40 for a packet to the server, 0x41 for one to the client |
//! | 8 | only to the server: the path's id, by which it finds the key (little-endian) |
//! | 4 | the packet's number in its direction, from 0 (little-endian) |
//! | any | the ciphertext |
//! | 16 | the tag |
//!
//! All before the ciphertext is authenticated with it. The nonce of 96 bits is the first byte, seven zeros
//! and the number, so one key has no nonce twice: the directions differ in the first byte, and a sender
//! that has used up its numbers [stops](Exhausted). The first byte tells sealed packets from STUN
//! (0 to 3) and DTLS (20 to 63) on the same port (RFC 7983).

mod window;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use self::window::Window;

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;
/// Bytes by which a packet to the server is longer than its plaintext.
pub const UP_OVERHEAD_BYTES: usize = Direction::Up.header_bytes() + TAG_BYTES;
/// Bytes by which a packet to the client is longer than its plaintext.
pub const DOWN_OVERHEAD_BYTES: usize = Direction::Down.header_bytes() + TAG_BYTES;

/// The bits that the first bytes of all sealed packets share.
const FIRST_BYTE: u8 = 0x40;
const PATH_BYTES: usize = size_of::<u64>();
const NUMBER_BYTES: usize = size_of::<u32>();
/// Bytes of Poly1305's tag.
const TAG_BYTES: usize = 16;

/// The direction of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the server.
    Up,
    /// To the client.
    Down,
}

/// Returned when a sender has used up its packet numbers, which takes four years at 30 packets a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no packet numbers are left under this key")]
pub struct Exhausted;

/// The reason why a packet was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The packet is shorter than its header and tag, or of the other direction.
    #[error("this is no sealed packet of the expected direction")]
    Malformed,
    /// The tag does not belong to the packet under this key.
    #[error("the packet was not sealed with this key")]
    Forged,
    /// A packet with this number was opened before, or the number is too old to know.
    #[error("a packet with this number may have been opened before")]
    Replayed,
}

/// A packet that was opened.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened<'packet> {
    /// The plaintext datagram.
    pub datagram: &'packet [u8],
    /// Whether the packet's number is higher than all before it, so that the packet's sender is where the
    /// packet came from.
    pub is_newest: bool,
}

/// Seals the packets of one direction.
#[derive(Debug)]
pub struct Sealer {
    key: Key,
    direction: Direction,
    path: u64,
    next: Option<u32>,
}

/// Opens the packets of one direction, each of them once.
#[derive(Debug)]
pub struct Opener {
    key: Key,
    direction: Direction,
    window: Window,
}

/// A key as bytes. The cipher's own form of it takes 544 bytes, which a server would hold twice for each
/// player, and is made of these in a tenth of a microsecond.
struct Key([u8; KEY_BYTES]);

impl Direction {
    const fn first_byte(self) -> u8 {
        match self {
            Self::Up => FIRST_BYTE,
            Self::Down => FIRST_BYTE | 1,
        }
    }

    const fn header_bytes(self) -> usize {
        match self {
            Self::Up => 1 + PATH_BYTES + NUMBER_BYTES,
            Self::Down => 1 + NUMBER_BYTES,
        }
    }
}

/// Returns the id of the path for which a packet to the server says it is, without opening it.
pub fn path_of(packet: &[u8]) -> Option<u64> {
    let (first, rest) = packet.split_first()?;
    let path = rest.first_chunk::<PATH_BYTES>()?;
    (*first == Direction::Up.first_byte()).then_some(u64::from_le_bytes(*path))
}

impl Sealer {
    /// Creates the sender of one direction of a path. A key must have one sender in each direction in all
    /// its life.
    pub fn new(key: [u8; KEY_BYTES], path: u64, direction: Direction) -> Self {
        Self {
            key: Key(key),
            direction,
            path,
            next: Some(0),
        }
    }

    /// Seals a datagram as the next packet, which replaces the content of `packet`.
    ///
    /// # Errors
    /// [`Exhausted`] once 2³² packets have been sealed.
    pub fn seal(&mut self, datagram: &[u8], packet: &mut Vec<u8>) -> Result<(), Exhausted> {
        let number = self.next.ok_or(Exhausted)?;
        self.next = number.checked_add(1);
        packet.clear();
        packet.push(self.direction.first_byte());
        if self.direction == Direction::Up {
            packet.extend_from_slice(&self.path.to_le_bytes());
        }
        packet.extend_from_slice(&number.to_le_bytes());
        let header_bytes = packet.len();
        packet.extend_from_slice(datagram);
        let (header, ciphertext) = packet.split_at_mut(header_bytes);
        let nonce = nonce(self.direction, number);
        let aad = Aad::from(&*header);
        let tag = self
            .key
            .cipher()
            .seal_in_place_separate_tag(nonce, aad, ciphertext)
            .expect("a datagram is far shorter than the cipher's 256 GiB");
        packet.extend_from_slice(tag.as_ref());
        Ok(())
    }
}

impl Opener {
    /// Creates the receiver of one direction of a path.
    pub fn new(key: [u8; KEY_BYTES], direction: Direction) -> Self {
        Self {
            key: Key(key),
            direction,
            window: Window::default(),
        }
    }

    /// Opens a packet in place.
    ///
    /// # Errors
    /// The packet is not one of this direction and key, or was opened before. It changes nothing.
    pub fn open<'packet>(
        &mut self,
        packet: &'packet mut [u8],
    ) -> Result<Opened<'packet>, OpenError> {
        let header_bytes = self.direction.header_bytes();
        if packet.len() < header_bytes + TAG_BYTES || packet[0] != self.direction.first_byte() {
            return Err(OpenError::Malformed);
        }
        let (header, ciphertext) = packet.split_at_mut(header_bytes);
        let number = header
            .last_chunk::<NUMBER_BYTES>()
            .map(|bytes| u32::from_le_bytes(*bytes))
            .ok_or(OpenError::Malformed)?;
        // Before the tag is computed: a replay costs nothing.
        if !self.window.is_new(number) {
            return Err(OpenError::Replayed);
        }
        let nonce = nonce(self.direction, number);
        let datagram = self
            .key
            .cipher()
            .open_in_place(nonce, Aad::from(&*header), ciphertext)
            .map_err(|_| OpenError::Forged)?;
        let is_newest = self.window.take(number);
        Ok(Opened {
            datagram,
            is_newest,
        })
    }
}

impl Key {
    fn cipher(&self) -> LessSafeKey {
        let key = UnboundKey::new(&CHACHA20_POLY1305, &self.0);
        LessSafeKey::new(key.expect("the key has the cipher's length"))
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

fn nonce(direction: Direction, number: u32) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[0] = direction.first_byte();
    nonce[NONCE_LEN - NUMBER_BYTES..].copy_from_slice(&number.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; KEY_BYTES] = [7; KEY_BYTES];
    const PATH: u64 = 0x0102_0304_0506_0708;

    fn sealed(direction: Direction, count: usize) -> Vec<Vec<u8>> {
        let mut sealer = Sealer::new(KEY, PATH, direction);
        let seal = |number| {
            let mut packet = Vec::new();
            let datagram = format!("datagram {number}");
            sealer.seal(datagram.as_bytes(), &mut packet).unwrap();
            packet
        };
        (0..count).map(seal).collect()
    }

    /// Opens a copy of a packet.
    fn open(opener: &mut Opener, packet: &[u8]) -> Result<(Vec<u8>, bool), OpenError> {
        let mut packet = packet.to_vec();
        let opened = opener.open(&mut packet)?;
        Ok((opened.datagram.to_vec(), opened.is_newest))
    }

    #[test]
    fn a_packet_is_its_header_ciphertext_and_tag() {
        let up = &sealed(Direction::Up, 2)[1];
        assert_eq!(up[..13], [0x40, 8, 7, 6, 5, 4, 3, 2, 1, 1, 0, 0, 0]);
        assert_eq!(up.len(), "datagram 1".len() + UP_OVERHEAD_BYTES);
        assert_eq!((path_of(up), path_of(&up[..8])), (Some(PATH), None));
        let down = &sealed(Direction::Down, 2)[1];
        assert_eq!(down[..5], [0x41, 1, 0, 0, 0]);
        assert_eq!(down.len(), "datagram 1".len() + DOWN_OVERHEAD_BYTES);
        assert_eq!(path_of(down), None);
        assert!(!down.windows(8).any(|part| part == b"datagram"));
    }

    /// The bytes were computed with OpenSSL, by way of Python's `cryptography`.
    #[test]
    fn packets_are_those_of_the_standard() {
        let mut packet = Vec::new();
        let mut sealer = Sealer::new(KEY, PATH, Direction::Up);
        sealer.seal(b"cube", &mut packet).unwrap();
        assert_eq!(
            hex(&packet),
            "4008070605040302010000000043e6cf3a114d16f7a4da0917ac0fb659be831093"
        );
        let mut sealer = Sealer::new(KEY, PATH, Direction::Down);
        sealer.seal(b"cube", &mut packet).unwrap();
        assert_eq!(
            hex(&packet),
            "41000000007f8f198699e510e10ccf610adf5698d072cd4605"
        );
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn each_packet_opens_once_in_any_order() {
        let packets = sealed(Direction::Up, 4);
        let mut opener = Opener::new(KEY, Direction::Up);
        for (number, is_newest) in [(1, true), (0, false), (3, true), (2, false)] {
            let (datagram, newest) = open(&mut opener, &packets[number]).unwrap();
            assert_eq!(datagram, format!("datagram {number}").as_bytes());
            assert_eq!(newest, is_newest, "{number}");
        }
        for packet in &packets {
            assert_eq!(open(&mut opener, packet), Err(OpenError::Replayed));
        }
    }

    #[test]
    fn a_changed_bit_a_wrong_key_and_a_wrong_direction_change_nothing() {
        let packet = &sealed(Direction::Up, 1)[0];
        let mut opener = Opener::new(KEY, Direction::Up);
        for bit in 0..packet.len() * 8 {
            let mut changed = packet.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let error = open(&mut opener, &changed).unwrap_err();
            let is_first_byte = bit / 8 == 0;
            assert_eq!(error == OpenError::Malformed, is_first_byte, "{bit}");
        }
        for len in 0..packet.len() {
            assert!(open(&mut opener, &packet[..len]).is_err(), "{len}");
        }
        let mut other = Opener::new([8; KEY_BYTES], Direction::Up);
        assert_eq!(open(&mut other, packet), Err(OpenError::Forged));
        let mut down = Opener::new(KEY, Direction::Down);
        assert_eq!(open(&mut down, packet), Err(OpenError::Malformed));
        // The same bytes as a packet of the other direction have another nonce and header.
        let mut reflected = packet.clone();
        reflected[0] = Direction::Down.first_byte();
        assert_eq!(open(&mut down, &reflected), Err(OpenError::Forged));
        assert!(open(&mut opener, packet).is_ok());
    }

    #[test]
    fn a_sender_stops_when_its_numbers_are_used_up() {
        let mut sealer = Sealer::new(KEY, PATH, Direction::Down);
        sealer.next = Some(u32::MAX);
        let mut packet = Vec::new();
        assert_eq!(sealer.seal(b"last", &mut packet), Ok(()));
        let mut opener = Opener::new(KEY, Direction::Down);
        assert!(open(&mut opener, &packet).is_ok());
        assert_eq!(sealer.seal(b"more", &mut packet), Err(Exhausted));
        assert_eq!(sealer.seal(b"more", &mut packet), Err(Exhausted));
    }

    #[test]
    fn a_key_is_not_printed() {
        let sealer = Sealer::new(KEY, 0, Direction::Up);
        assert!(!format!("{sealer:?}").contains('7'), "{sealer:?}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused(bytes: Vec<u8>, first in 0x40_u8..0x42) {
            for direction in [Direction::Up, Direction::Down] {
                let mut packet = bytes.clone();
                packet.insert(0, first);
                path_of(&packet);
                prop_assert!(Opener::new(KEY, direction).open(&mut packet).is_err());
            }
        }

        #[test]
        fn any_datagram_comes_out_as_it_went_in(datagram: Vec<u8>) {
            let mut packet = Vec::new();
            Sealer::new(KEY, PATH, Direction::Down).seal(&datagram, &mut packet).unwrap();
            let mut opener = Opener::new(KEY, Direction::Down);
            prop_assert_eq!(opener.open(&mut packet).unwrap().datagram, &datagram[..]);
        }
    }
}
