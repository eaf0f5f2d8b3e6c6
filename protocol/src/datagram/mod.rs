//! Datagrams: the newest ticks once more, beside the stream.
//!
//! A [`Downlink`] repeats the last snapshots of a receiver's view, an [`Uplink`] the last samples of
//! a client. Each says after which tick it begins, so a receiver knows whether it lacks anything
//! before. Whichever way brings a tick first counts; the other copy is dropped by its tick
//! ([`Gate`]). Nothing is acknowledged: a lost datagram's ticks are in the next ones, and all of
//! them are on the stream.

mod gate;
mod loss;
mod redundancy;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use self::gate::Gate;
pub use self::loss::LossMeter;
pub use self::redundancy::{LOST_ALL, Redundancy};
use crate::codec::{
    CLIENT_DATAGRAM_MEMORY_BYTES, DecodeError, SERVER_MEMORY_BYTES, decode_datagram, encode_peer,
};
use crate::cube::CubePose;
use crate::limits::FRAME_HEADER_BYTES;
use crate::message::Snapshot;

/// The length of what precedes the snapshot in a frame of the stream: the frame's header, and the
/// message's number, which is one byte.
pub const SNAPSHOT_OFFSET_BYTES: usize = FRAME_HEADER_BYTES + 1;

/// A datagram from the server to a client: after tick `base` and up to tick `complete`, the
/// client's view had exactly these snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downlink {
    /// The tick up to which the snapshots are complete.
    pub complete: u64,
    /// The tick after which they begin.
    pub base: u64,
    /// The number of the datagram on its path, modulo 256.
    pub number: u8,
    /// The share of the client's datagrams that were lost lately, in 1/255.
    pub lost: u8,
    /// The snapshots by tick. Those of one tick are in the order in which the stream has them.
    pub snapshots: Vec<Snapshot>,
}

/// A datagram from a client to the server: the samples after that of tick `base`. The default one has none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uplink {
    /// The number of [`Release`](crate::ClientMessage::Release)s and
    /// [`Continue`](crate::ClientMessage::Continue)s that the client has sent on this connection. The
    /// samples are those after the last one.
    pub releases: u32,
    /// The tick of the sample before the first of these; 0 when there is none.
    pub base: u64,
    /// The number of the datagram on its path, modulo 256.
    pub number: u8,
    /// The share of the server's datagrams that were lost lately, in 1/255.
    pub lost: u8,
    /// The samples by tick. There may be none: then the datagram only keeps the path open.
    pub samples: Vec<Sample>,
}

/// The fields of a [`ClientMessage::Sample`](crate::ClientMessage::Sample).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The tick.
    pub tick: u64,
    /// Cubes that are sent for the first time.
    pub placed: Vec<CubePose>,
    /// The residuals of the others.
    pub residuals: Bytes,
}

impl Downlink {
    /// Returns the encoded form.
    pub fn encode(&self) -> Bytes {
        encode_peer(self)
    }

    /// Returns the same bytes as [`encode`](Self::encode), made of snapshots that are encoded
    /// already: each of `frames` is the frame of a [`ServerMessage::Snapshot`](crate::ServerMessage::Snapshot).
    pub fn assemble<'a>(
        (complete, base): (u64, u64),
        (number, lost): (u8, u8),
        frames: impl ExactSizeIterator<Item = &'a Bytes>,
    ) -> Vec<u8> {
        // A list is its length and its items.
        let mut datagram = encode_peer(&(complete, base, number, lost, frames.len())).to_vec();
        for frame in frames {
            datagram.extend_from_slice(&frame[SNAPSHOT_OFFSET_BYTES..]);
        }
        datagram
    }

    /// Decodes the plaintext of a datagram.
    ///
    /// # Errors
    /// [`DecodeError`]: the sender does not speak this protocol.
    pub fn decode(datagram: &[u8]) -> Result<Self, DecodeError> {
        decode_datagram::<Self, SERVER_MEMORY_BYTES>(datagram)
    }
}

impl Uplink {
    /// Returns the encoded form.
    pub fn encode(&self) -> Bytes {
        encode_peer(self)
    }

    /// Decodes the plaintext of a datagram.
    ///
    /// # Errors
    /// [`DecodeError`]: the sender does not speak this protocol.
    pub fn decode(datagram: &[u8]) -> Result<Self, DecodeError> {
        decode_datagram::<Self, CLIENT_DATAGRAM_MEMORY_BYTES>(datagram)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::*;

    /// `protocol/vectors/datagrams.txt`: one plaintext a line, `name: hex bytes`.
    const VECTORS: &str = include_str!("../../vectors/datagrams.txt");

    fn snapshots() -> Vec<Snapshot> {
        let snapshot = |cell, tick, events: Vec<Event>| Snapshot {
            cell: CellId(cell),
            tick,
            events,
            residuals: Bytes::from_static(&[1, 2, 3]),
        };
        vec![
            snapshot(0, 90_001, vec![]),
            snapshot(300, 90_001, vec![Event::Left { cube: CubeId(7) }]),
            snapshot(0, 90_003, vec![]),
        ]
    }

    fn downlink() -> Downlink {
        Downlink {
            complete: 90_004,
            base: 89_999,
            number: 255,
            lost: 5,
            snapshots: snapshots(),
        }
    }

    fn uplink() -> Uplink {
        let sample = |tick, placed: Vec<CubePose>| Sample {
            tick,
            placed,
            residuals: Bytes::from_static(&[1, 2, 3]),
        };
        let placed = CubePose {
            cube: CubeId(7),
            pose: Pose::default(),
        };
        Uplink {
            releases: 3,
            base: 0,
            number: 0,
            lost: 255,
            samples: vec![sample(90_001, vec![placed]), sample(90_002, vec![])],
        }
    }

    #[test]
    fn every_datagram_has_the_bytes_of_its_vector() {
        let hex =
            |bytes: Bytes| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
        let actual = [
            format!("downlink: {}", hex(downlink().encode())),
            format!("uplink: {}", hex(uplink().encode())),
        ];
        let expected = VECTORS.lines().filter(|line| !line.starts_with('#'));
        assert_eq!(
            actual.to_vec(),
            expected.collect::<Vec<_>>(),
            "\n{}\n",
            actual.join("\n")
        );
    }

    #[test]
    fn a_datagram_comes_back_whole_and_never_cut_or_longer() {
        let (downlink, uplink) = (downlink(), uplink());
        let [down, up] = [downlink.encode(), uplink.encode()];
        assert_eq!(Downlink::decode(&down), Ok(downlink));
        assert_eq!(Uplink::decode(&up), Ok(uplink));
        for len_bytes in 0..down.len() {
            assert!(Downlink::decode(&down[..len_bytes]).is_err());
        }
        for len_bytes in 0..up.len() {
            assert!(Uplink::decode(&up[..len_bytes]).is_err());
        }
        assert!(Downlink::decode(&[&down[..], &[0]].concat()).is_err());
        assert!(Uplink::decode(&[&up[..], &[0]].concat()).is_err());
    }

    #[test]
    fn a_datagram_made_of_the_streams_frames_is_the_same() {
        let downlink = downlink();
        let frame = |snapshot| ServerMessage::Snapshot(snapshot).to_frame();
        let frames: Vec<_> = snapshots().into_iter().map(frame).collect();
        let assembled = Downlink::assemble((90_004, 89_999), (255, 5), frames.iter());
        assert_eq!(assembled, downlink.encode());
    }

    #[test]
    fn a_longer_datagram_than_any_and_a_claimed_length_are_refused() {
        let most = vec![0; crate::limits::MAX_DATAGRAM_BYTES + 1];
        assert_eq!(Downlink::decode(&most), Err(DecodeError::TooLarge));
        let claimed = [&[9, 5, 0, 0, 253][..], &(1u64 << 60).to_le_bytes()].concat();
        assert!(Downlink::decode(&claimed).is_err());
        assert!(Uplink::decode(&claimed).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail_but_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let _ = Downlink::decode(&bytes);
            let _ = Uplink::decode(&bytes);
        }
    }
}
