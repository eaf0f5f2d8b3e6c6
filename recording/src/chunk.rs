//! A chunk: some seconds of entries, compressed, readable without the ones before.

use std::io::{self, Read, Write};
use std::time::Duration;

use bytes::{Buf, Bytes};
use cubesync_protocol::limits::{
    FRAME_HEADER_BYTES, MAX_CLIENT_PAYLOAD_BYTES, MAX_DATAGRAM_BYTES, MAX_SERVER_PAYLOAD_BYTES,
    PROTOCOL_VERSION,
};
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

/// How every recording begins: a name, the version of the file's format, and that of the wire.
pub const FILE_HEADER: [u8; 10] = *b"CUBEREC\x01\x00\x05";
/// The part of it that is the same in every version.
pub(crate) const FILE_NAME: [u8; 7] = *b"CUBEREC";
const _: () = assert!(
    u16::from_be_bytes([FILE_HEADER[8], FILE_HEADER[9]]) == PROTOCOL_VERSION,
    "a recording says which wire is in it"
);

/// Returns whether a recording that begins so can be played.
pub(crate) fn is_playable(header: &[u8; FILE_HEADER.len()]) -> bool {
    *header == FILE_HEADER
}

/// Length and checksum in front of each chunk's body.
const HEADER_BYTES: usize = 8;
/// The times in front of a body's entries.
const TIMES_BYTES: usize = 16;
/// Longest body, and longest content of one when it is unpacked: the longest opening (a keyframe
/// of all cubes, some of them in two cells), a chunk's own entries and one frame more.
const MAX_BODY_BYTES: usize = 8 * MAX_SERVER_PAYLOAD_BYTES;
/// A varint of 64 bits has at most so many bytes of seven bits.
const MAX_VARINT_BYTES: u32 = 10;

/// The kind of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// A message of the server's that was never sent: it repeats what was known when the chunk
    /// began, for a reader that starts there.
    Opening,
    /// The server sent it.
    FromServer,
    /// The client sent it.
    FromClient,
    /// The server sent it beside the stream: the plaintext of a datagram, with a frame's length.
    Datagram,
}

/// A message on the wire and its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The time on the recorder's clock, to the microsecond.
    pub at: Duration,
    /// The message's kind.
    pub direction: Direction,
    /// The whole frame: its length and its payload.
    pub frame: Bytes,
}

/// Why a recording cannot be read any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The file ends too early.
    #[error("the file ends in the middle of a chunk")]
    Cut,
    /// A chunk's bytes are not those that were written.
    #[error("a chunk's checksum is wrong")]
    Checksum,
    /// The checksum is right, but what it covers makes no sense.
    #[error("a chunk makes no sense")]
    Nonsense,
    /// The medium failed.
    #[error("the file cannot be read any further")]
    Unreadable,
}

/// A chunk whose checksum is right, still packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The time of its first entry.
    pub start: Duration,
    /// The time of its last entry.
    pub end: Duration,
    packed: Vec<u8>,
}

/// Entries before they are packed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Content {
    bytes: Vec<u8>,
    start: Duration,
    end: Duration,
}

impl Chunk {
    /// The next chunk; `None` at the end of a whole file.
    ///
    /// # Errors
    /// [`Damage`]: there is nothing more to be read.
    pub fn read(from: &mut impl Read) -> Result<Option<Self>, Damage> {
        let mut header = [0; HEADER_BYTES];
        match fill(from, &mut header)? {
            0 => return Ok(None),
            HEADER_BYTES => {}
            _ => return Err(Damage::Cut),
        }
        let [length, checksum] = halves(&header).map(u32::from_be_bytes);
        let length = length as usize;
        if !(TIMES_BYTES..=MAX_BODY_BYTES).contains(&length) {
            return Err(Damage::Nonsense);
        }
        // Read as far as there is something: a wrong length takes no memory.
        let mut body = Vec::new();
        let read = from.take(length as u64).read_to_end(&mut body);
        match read.map_err(|_| Damage::Unreadable)? {
            read if read < length => return Err(Damage::Cut),
            _ if checksum_of(&body) != checksum => return Err(Damage::Checksum),
            _ => {}
        }
        let times = body.first_chunk().expect("a body begins with its times");
        let times: [[u8; 8]; 2] = halves::<TIMES_BYTES, 8>(times);
        let [start, end] = times.map(u64::from_be_bytes).map(Duration::from_micros);
        let packed = body.split_off(TIMES_BYTES);
        Ok(Some(Self { start, end, packed }))
    }

    /// Everything in it, in order.
    ///
    /// # Errors
    /// [`Damage::Nonsense`]: no recorder wrote this.
    pub fn entries(&self) -> Result<Vec<Entry>, Damage> {
        let mut unpacked = Vec::new();
        let mut unpack = DeflateDecoder::new(&self.packed[..]).take(MAX_BODY_BYTES as u64 + 1);
        let unpacking = unpack.read_to_end(&mut unpacked);
        if unpacking.is_err() || unpacked.len() > MAX_BODY_BYTES {
            return Err(Damage::Nonsense);
        }
        let mut bytes = Bytes::from(unpacked);
        let mut at = self.start;
        let mut entries = Vec::new();
        while !bytes.is_empty() {
            let entry = take_entry(&mut bytes, at).ok_or(Damage::Nonsense)?;
            at = entry.at;
            // The next chunk begins there.
            if at > self.end {
                return Err(Damage::Nonsense);
            }
            entries.push(entry);
        }
        Ok(entries)
    }
}

impl Content {
    /// Nothing yet, from a time on.
    pub(crate) fn new(start: Duration) -> Self {
        Self {
            bytes: Vec::new(),
            start,
            end: start,
        }
    }

    /// When it began.
    pub(crate) fn start(&self) -> Duration {
        self.start
    }

    /// How long it is, in bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds an entry, not before the last one.
    pub(crate) fn push(&mut self, at: Duration, direction: Direction, payload: &[u8]) {
        let since = micros(at).saturating_sub(micros(self.end));
        self.end = self.end.max(at);
        push_varint(&mut self.bytes, since);
        self.bytes.push(direction as u8);
        let length = u32::try_from(payload.len()).expect("payloads are far below 4 GiB");
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(payload);
    }

    /// The chunk, as it stands in a file.
    pub(crate) fn pack(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(TIMES_BYTES + self.bytes.len() / 2);
        for time in [self.start, self.end] {
            body.extend_from_slice(&micros(time).to_be_bytes());
        }
        let mut pack = DeflateEncoder::new(body, Compression::default());
        let body = pack.write_all(&self.bytes).and_then(|()| pack.finish());
        let body = body.expect("packing into memory cannot fail");
        let length = u32::try_from(body.len()).expect("a chunk is far below 4 GiB");
        let mut chunk = Vec::with_capacity(HEADER_BYTES + body.len());
        chunk.extend_from_slice(&length.to_be_bytes());
        chunk.extend_from_slice(&checksum_of(&body).to_be_bytes());
        chunk.extend_from_slice(&body);
        chunk
    }
}

fn take_entry(bytes: &mut Bytes, before: Duration) -> Option<Entry> {
    let since = take_varint(bytes)?;
    let at = before.checked_add(Duration::from_micros(since))?;
    let (direction, limit_bytes) = match bytes.try_get_u8().ok()? {
        0 => (Direction::Opening, MAX_SERVER_PAYLOAD_BYTES),
        1 => (Direction::FromServer, MAX_SERVER_PAYLOAD_BYTES),
        2 => (Direction::FromClient, MAX_CLIENT_PAYLOAD_BYTES),
        3 => (Direction::Datagram, MAX_DATAGRAM_BYTES),
        _ => return None,
    };
    let header = bytes.first_chunk::<FRAME_HEADER_BYTES>()?;
    let payload_bytes = u32::from_be_bytes(*header) as usize;
    let len_bytes = FRAME_HEADER_BYTES + payload_bytes;
    let is_frame = (1..=limit_bytes).contains(&payload_bytes) && len_bytes <= bytes.len();
    is_frame.then(|| Entry {
        at,
        direction,
        frame: bytes.split_to(len_bytes),
    })
}

/// Seven bits a byte, the low ones first; the highest bit says that more follow (LEB128).
fn push_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number > 0x7F {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take_varint(bytes: &mut Bytes) -> Option<u64> {
    let mut number = 0;
    for index in 0..MAX_VARINT_BYTES {
        let byte = bytes.try_get_u8().ok()?;
        number |= u64::from(byte & 0x7F) << (7 * index);
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// CRC-32 as in zip and gzip (ITU-T V.42).
fn checksum_of(body: &[u8]) -> u32 {
    let mut checksum = flate2::Crc::new();
    checksum.update(body);
    checksum.sum()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn halves<const WHOLE: usize, const HALF: usize>(bytes: &[u8; WHOLE]) -> [[u8; HALF]; 2] {
    let half = |index: usize| std::array::from_fn(|at| bytes[index * HALF + at]);
    [half(0), half(1)]
}

/// Reads until the buffer is full or there is no more; how many bytes.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> Result<usize, Damage> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(Damage::Unreadable),
        }
    }
    Ok(filled)
}
