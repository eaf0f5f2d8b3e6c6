//! Messages to bytes and back: the one file that knows bincode.
//!
//! A payload is bincode 2's standard configuration through serde: little endian, integers as
//! varints (signed ones zigzag first), enums as the variant's number, texts and lists as a length and
//! their content. Decoding is bounded in memory (without a bound, nine bytes of input make
//! bincode reserve gigabytes), must consume every byte, and takes numbers in their shortest form
//! only: so a message has one form, and what two programs make of the same bytes cannot differ.

use bincode::enc::write::SizeWriter;
use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::frame;
use crate::limits::{
    MAGIC, MAX_CLIENT_PAYLOAD_BYTES, MAX_DATAGRAM_BYTES, MAX_SERVER_PAYLOAD_BYTES,
};
use crate::message::{ClientMessage, ServerMessage};

/// Largest memory that a client's message may take while it is decoded, in bytes.
const CLIENT_MEMORY_BYTES: usize = MAX_CLIENT_PAYLOAD_BYTES;

/// Largest memory that a server's message may take while it is decoded, in bytes: its parts are up to four
/// times as large in memory as on the wire. A server's datagrams have the same limit: with one of their own
/// a browser would load every decoder twice.
pub(crate) const SERVER_MEMORY_BYTES: usize = 4 * MAX_SERVER_PAYLOAD_BYTES;

/// Largest memory that a client's datagram may take while it is decoded, in bytes. A part that is two bytes
/// on the wire at least takes less than 100 in memory.
pub(crate) const CLIENT_DATAGRAM_MEMORY_BYTES: usize = 64 * MAX_DATAGRAM_BYTES;

/// Why a payload is not the message it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The payload ends inside the message.
    #[error("the payload ends in the middle of a message")]
    Truncated,
    /// The payload goes on after the message.
    #[error("{count} bytes follow the message in its payload")]
    TrailingBytes {
        /// The number of bytes.
        count: usize,
    },
    /// A number is written longer than it need be.
    #[error("a number of the message is not in its shortest form")]
    NotShortest,
    /// The message claims more memory than any valid one needs.
    #[error("the message claims more memory than allowed")]
    TooLarge,
    /// An unknown tag, text that is not UTF-8, a number out of range.
    #[error("malformed message: {0}")]
    Malformed(String),
}

/// A message of either direction.
pub trait Message: Serialize + Sized {
    /// Longest payload in this direction, for [`frame::split`].
    const MAX_PAYLOAD_BYTES: usize;

    /// Decodes the message in a frame's payload.
    ///
    /// # Errors
    /// [`DecodeError`]: the sender does not speak this protocol; end the connection.
    fn decode(payload: &[u8]) -> Result<Self, DecodeError>;

    /// Appends the message as one frame.
    fn append_frame(&self, buffer: &mut BytesMut) {
        frame::append(buffer, |buffer| {
            bincode::serde::encode_into_std_write(self, &mut buffer.writer(), configuration())
                .expect("writing plain data into memory cannot fail");
        });
    }

    /// Returns the message as one frame.
    fn to_frame(&self) -> Bytes {
        let mut buffer = BytesMut::new();
        self.append_frame(&mut buffer);
        buffer.freeze()
    }
}

impl Message for ClientMessage {
    const MAX_PAYLOAD_BYTES: usize = MAX_CLIENT_PAYLOAD_BYTES;

    fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        decode_whole::<Self, CLIENT_MEMORY_BYTES>(payload)
    }
}

impl Message for ServerMessage {
    const MAX_PAYLOAD_BYTES: usize = MAX_SERVER_PAYLOAD_BYTES;

    fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        decode_whole::<Self, SERVER_MEMORY_BYTES>(payload)
    }
}

/// Returns the version that a client's first payload announces; `None` if it is no `Hello` with the
/// right magic. Reads only the part that is the same in every version, so that the server can answer
/// a client of another one.
pub fn hello_version(payload: &[u8]) -> Option<u16> {
    const HELLO_TAG: u32 = 0;
    let (tag, magic, version) = decode_prefix::<(u32, [u8; 4], u16), CLIENT_MEMORY_BYTES>(payload)
        .map(|(prefix, _)| prefix)
        .ok()?;
    (tag == HELLO_TAG && magic == MAGIC).then_some(version)
}

/// Encodes what a server sends to another one, in the same form as a message, without a frame's
/// header.
pub fn encode_peer(value: &impl Serialize) -> Bytes {
    let mut buffer = BytesMut::new();
    append_peer(value, &mut buffer);
    buffer.freeze()
}

/// Appends what [`encode_peer`] returns.
pub fn append_peer(value: &impl Serialize, buffer: &mut BytesMut) {
    bincode::serde::encode_into_std_write(value, &mut buffer.writer(), configuration())
        .expect("writing plain data into memory cannot fail");
}

/// Decodes what another server sent; bounded as a server's message to a client.
///
/// # Errors
/// [`DecodeError`]: the payload is something else.
pub fn decode_peer<T: Serialize + DeserializeOwned>(payload: &[u8]) -> Result<T, DecodeError> {
    decode_whole::<T, SERVER_MEMORY_BYTES>(payload)
}

/// Decodes the plaintext of a datagram, which has at most [`MAX_DATAGRAM_BYTES`].
pub(crate) fn decode_datagram<T: Serialize + DeserializeOwned, const MEMORY_BYTES: usize>(
    datagram: &[u8],
) -> Result<T, DecodeError> {
    if datagram.len() > MAX_DATAGRAM_BYTES {
        return Err(DecodeError::TooLarge);
    }
    decode_whole::<T, MEMORY_BYTES>(datagram)
}

fn configuration() -> bincode::config::Configuration {
    bincode::config::standard()
}

fn decode_whole<T: Serialize + DeserializeOwned, const MEMORY_BYTES: usize>(
    payload: &[u8],
) -> Result<T, DecodeError> {
    let (message, read_bytes) = decode_prefix::<T, MEMORY_BYTES>(payload)?;
    match payload.len() - read_bytes {
        0 => Ok(message),
        count => Err(DecodeError::TrailingBytes { count }),
    }
}

fn decode_prefix<T: Serialize + DeserializeOwned, const MEMORY_BYTES: usize>(
    payload: &[u8],
) -> Result<(T, usize), DecodeError> {
    use bincode::error::DecodeError as Bincode;
    let (value, read_bytes) =
        bincode::serde::decode_from_slice(payload, configuration().with_limit::<MEMORY_BYTES>())
            .map_err(|error| match error {
                Bincode::UnexpectedEnd { .. } => DecodeError::Truncated,
                Bincode::LimitExceeded => DecodeError::TooLarge,
                Bincode::Utf8 { .. } => DecodeError::Malformed("a text that is not UTF-8".into()),
                // serde's texts are Rust's, but meant for people.
                Bincode::OtherString(problem) => DecodeError::Malformed(problem),
                Bincode::UnexpectedVariant { .. } => {
                    DecodeError::Malformed("an unknown tag".into())
                }
                _ => DecodeError::Malformed("a value that no message has".into()),
            })?;
    // bincode takes a small number in a long form, too.
    if encoded_bytes(&value) != read_bytes {
        return Err(DecodeError::NotShortest);
    }
    Ok((value, read_bytes))
}

/// Returns the number of bytes that a value takes, without memory for them.
fn encoded_bytes(value: &impl Serialize) -> usize {
    let mut size = SizeWriter::default();
    bincode::serde::encode_into_writer(value, &mut size, configuration())
        .expect("counting the bytes of plain data cannot fail");
    size.bytes_written
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::{FAR_INTERVAL_TICKS, MAX_CUBES_PER_ROOM, MAX_NAME_BYTES, PROTOCOL_VERSION};
    use crate::motion::{Codec, MotionSet, MotionState};
    use crate::*;

    /// `protocol/vectors/messages.txt`: one message a line, `name: hex bytes of the frame`.
    const VECTORS: &str = include_str!("../vectors/messages.txt");

    const COLOUR: Colour = Colour {
        red: 0xE0,
        green: 0x80,
        blue: 0x20,
    };

    fn pose() -> Pose {
        Pose {
            position: Position {
                x: 512,
                y: -512,
                z: 256,
            },
            rotation: Rotation::from_quaternion([0.0, 0.0, 1.0, 0.0]),
        }
    }

    fn info(id: u64, kind: CubeKind, name: &str) -> CubeInfo {
        CubeInfo {
            cube: CubeId(id),
            kind,
            name: name.into(),
            colour: COLOUR,
            width: Default::default(),
            motion: MotionState::at_rest(pose()),
        }
    }

    /// A cube at rest goes on a metre in a tick.
    fn residuals() -> Bytes {
        let mut set = MotionSet::new(&Codec::LIVE);
        set.insert(CubeId(300), MotionState::at_rest(pose()));
        let mut moved = pose();
        moved.position.x += 512;
        let mut bytes = Vec::new();
        assert_eq!(set.encode_tick(|_| moved, &mut bytes), 1);
        bytes.into()
    }

    fn client_messages() -> Vec<(&'static str, ClientMessage)> {
        let hello = Hello::new("lobby", "Вася", COLOUR);
        let with_key = Hello {
            join_key: Some("secret".into()),
            resume: Some(ResumeToken(*b"0123456789abcdef")),
            pose: Some(pose()),
            ..hello.clone()
        };
        let plain = Hello {
            encoding: Encoding::Plain,
            ..hello.clone()
        };
        let moved = |id| CubePose {
            cube: CubeId(id),
            pose: pose(),
        };
        vec![
            ("client hello", ClientMessage::Hello(hello)),
            (
                "client hello with key, token and pose",
                ClientMessage::Hello(with_key),
            ),
            ("client hello, plain", ClientMessage::Hello(plain)),
            (
                "client sample",
                ClientMessage::Sample {
                    tick: 90_001,
                    placed: vec![moved(7), moved(0)],
                    residuals: residuals(),
                },
            ),
            ("client take", ClientMessage::Take { cube: CubeId(0) }),
            ("client release", ClientMessage::Release { cube: CubeId(0) }),
            ("client ping", ClientMessage::Ping { sent_us: 1_000_000 }),
            ("client leave", ClientMessage::Leave),
            (
                "client open datagrams",
                ClientMessage::OpenDatagrams(DatagramRequest::Udp),
            ),
            (
                "client open datagrams by webrtc",
                ClientMessage::OpenDatagrams(DatagramRequest::WebRtc {
                    offer: "v=0".into(),
                }),
            ),
            ("client continue", ClientMessage::Continue { releases: 300 }),
        ]
    }

    fn server_messages() -> Vec<(&'static str, ServerMessage)> {
        let welcome = Welcome {
            version: PROTOCOL_VERSION,
            room: "lobby".into(),
            name: "Вася".into(),
            cube: CubeId(7),
            pose: pose(),
            tick_hz: 30,
            tick: 90_000,
            since_tick_us: 12_345,
            max_speed: 20_480,
            physics: true,
            resume: ResumeToken(*b"0123456789abcdef"),
            servers: vec![ServerAddress {
                tcp: "b.game.example:14900".into(),
                web: "[2001:db8::2]:8080".into(),
            }],
        };
        let keyframe = Keyframe {
            cell: CellId(40),
            interval_ticks: FAR_INTERVAL_TICKS,
            tick: 90_000,
            cubes: vec![
                info(0, CubeKind::Free { holder: None }, "cube"),
                info(
                    3,
                    CubeKind::Free {
                        holder: Some(CubeId(7)),
                    },
                    "box",
                ),
                info(7, CubeKind::Ghost, "Вася"),
            ],
        };
        let snapshot = Snapshot {
            cell: CellId(1_000),
            tick: 90_001,
            events: vec![
                Event::Joined(info(300, CubeKind::Player, "Anna")),
                Event::Taken {
                    cube: CubeId(0),
                    by: CubeId(300),
                },
                Event::Freed { cube: CubeId(3) },
                Event::Left { cube: CubeId(7) },
                Event::Entered(info(9, CubeKind::Player, "Ben")),
                Event::Exited { cube: CubeId(3) },
                Event::Ghost { cube: CubeId(300) },
                Event::Returned { cube: CubeId(300) },
                Event::Placed {
                    cube: CubeId(300),
                    motion: MotionState::at_rest(pose()),
                },
            ],
            residuals: residuals(),
        };
        vec![
            ("server welcome", ServerMessage::Welcome(welcome)),
            (
                "server reject",
                ServerMessage::Reject {
                    code: RejectCode::Full,
                    message: "full".into(),
                },
            ),
            ("server keyframe", ServerMessage::Keyframe(keyframe)),
            ("server snapshot", ServerMessage::Snapshot(snapshot)),
            (
                "server heartbeat",
                ServerMessage::Heartbeat { tick: 90_031 },
            ),
            (
                "server out of sight",
                ServerMessage::OutOfSight {
                    cells: vec![CellId(40), CellId(1_000)],
                },
            ),
            (
                "server pong",
                ServerMessage::Pong {
                    sent_us: 1_000_000,
                    tick: 90_000,
                    since_tick_us: 99,
                    late_samples: 3,
                },
            ),
            (
                "server correction",
                ServerMessage::Correction {
                    tick: 90_001,
                    corrected: CubePose {
                        cube: CubeId(7),
                        pose: pose(),
                    },
                },
            ),
            (
                "server refused",
                ServerMessage::Refused {
                    cube: CubeId(0),
                    holder: Some(CubeId(7)),
                },
            ),
            (
                "server closing",
                ServerMessage::Closing {
                    code: CloseCode::ShuttingDown,
                    message: "bye".into(),
                    retry_after_ms: Some(2_000),
                },
            ),
            (
                "server datagrams unavailable",
                ServerMessage::Datagrams(DatagramAnswer::Unavailable),
            ),
            (
                "server datagrams",
                ServerMessage::Datagrams(DatagramAnswer::Udp {
                    port: 14_900,
                    path: PathId(0x0123_4567_89ab_cdef),
                    key: DatagramKey(*b"0123456789abcdef0123456789abcdef"),
                }),
            ),
            (
                "server datagrams by webrtc",
                ServerMessage::Datagrams(DatagramAnswer::WebRtc {
                    answer: "v=0".into(),
                }),
            ),
            (
                "server plain snapshot",
                ServerMessage::PlainSnapshot(PlainSnapshot {
                    cell: CellId(40),
                    tick: 90_001,
                    is_whole: false,
                    cubes: vec![PlainCube {
                        cube: CubeId(300),
                        kind: CubeKind::Player,
                        name: "Anna".into(),
                        colour: COLOUR,
                        width: Default::default(),
                        pose: pose(),
                    }],
                    gone: vec![CubeId(3)],
                    moved: vec![CubePose {
                        cube: CubeId(7),
                        pose: pose(),
                    }],
                }),
            ),
        ]
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// One line per message in the vectors' form.
    fn lines<M: Message>(messages: &[(&str, M)]) -> Vec<String> {
        messages
            .iter()
            .map(|(name, message)| format!("{name}: {}", hex(&message.to_frame())))
            .collect()
    }

    #[test]
    fn every_message_has_the_bytes_of_its_vector() {
        let expected = VECTORS
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty());
        let mut actual = lines(&client_messages());
        actual.extend(lines(&server_messages()));
        assert_eq!(
            actual,
            expected.collect::<Vec<_>>(),
            "\n{}\n",
            actual.join("\n")
        );
    }

    fn assert_round_trips<M: Message + PartialEq + std::fmt::Debug>(messages: Vec<(&str, M)>) {
        for (name, message) in messages {
            let mut stream = BytesMut::from(&message.to_frame()[..]);
            let payload = frame::split(&mut stream, M::MAX_PAYLOAD_BYTES)
                .unwrap()
                .unwrap();
            assert_eq!(M::decode(&payload), Ok(message), "{name}");
            for len_bytes in 0..payload.len() {
                assert!(
                    M::decode(&payload[..len_bytes]).is_err(),
                    "{name} cut to {len_bytes}"
                );
            }
            let longer = [&payload[..], &[0]].concat();
            assert_eq!(
                M::decode(&longer),
                Err(DecodeError::TrailingBytes { count: 1 }),
                "{name}"
            );
        }
    }

    #[test]
    fn every_message_comes_back_whole_and_never_cut_or_longer() {
        assert_round_trips(client_messages());
        assert_round_trips(server_messages());
    }

    #[test]
    fn an_unknown_tag_and_bad_utf8_are_refused() {
        assert!(matches!(
            ClientMessage::decode(&[200]),
            Err(DecodeError::Malformed(_))
        ));
        let frame = client_messages()[0].1.to_frame();
        let mut payload = frame[4..].to_vec();
        let text = payload
            .windows(5)
            .position(|window| window == b"lobby")
            .unwrap();
        payload[text] = 0xFF;
        assert!(matches!(
            ClientMessage::decode(&payload),
            Err(DecodeError::Malformed(_))
        ));
    }

    #[test]
    fn a_number_in_a_longer_form_than_it_needs_is_refused() {
        let release = ClientMessage::Release { cube: CubeId(5) };
        assert_eq!(ClientMessage::decode(&[3, 5]), Ok(release));
        for longer in [
            &[3, 0xFB, 5, 0][..],
            &[3, 0xFC, 5, 0, 0, 0],
            &[3, 0xFC, 0xFF, 0xFF, 0, 0],
            // The tag, and a length.
            &[0xFB, 3, 0, 5],
            &[1, 9, 0xFB, 0, 0, 0],
        ] {
            let decoded = ClientMessage::decode(longer);
            assert_eq!(decoded, Err(DecodeError::NotShortest), "{longer:x?}");
        }
        let heartbeat = ServerMessage::Heartbeat { tick: 251 };
        assert_eq!(ServerMessage::decode(&[4, 0xFB, 251, 0]), Ok(heartbeat));
        assert_eq!(
            ServerMessage::decode(&[4, 0xFD, 251, 0, 0, 0, 0, 0, 0, 0]),
            Err(DecodeError::NotShortest)
        );
        // Of a version, too, by which a client is told what is served.
        assert_eq!(hello_version(b"\0CUBE\x03"), Some(3));
        assert_eq!(hello_version(b"\0CUBE\xFB\x03\0"), None);
    }

    #[test]
    fn a_claimed_length_takes_no_memory() {
        // A sample of 2^60 placed cubes, and a Reject whose text is 2^60 bytes long.
        let huge = [&[253][..], &(1u64 << 60).to_le_bytes()].concat();
        let sample = [&[1][..], &huge].concat();
        assert!(ClientMessage::decode(&sample).is_err());
        let reject = [&[1, 0][..], &huge].concat();
        assert_eq!(ServerMessage::decode(&reject), Err(DecodeError::TooLarge));
    }

    #[test]
    fn a_hello_of_another_version_still_tells_its_version() {
        let hello = Hello {
            version: 999,
            ..Hello::new("lobby", "a", COLOUR)
        };
        let mut payload = ClientMessage::Hello(hello).to_frame()[4..].to_vec();
        payload.extend_from_slice(b"fields of the future");
        assert_eq!(hello_version(&payload), Some(999));
        assert_eq!(hello_version(b"GET / HTTP/1.1\r\n"), None);
        assert_eq!(hello_version(&[1, b'C', b'U', b'B', b'E', 1]), None);
    }

    #[test]
    fn the_largest_keyframe_fits_a_frame() {
        // A cube that tumbles across the world has the longest state.
        let mut set = MotionSet::new(&Codec::LIVE);
        set.insert(CubeId(0), MotionState::at_rest(Pose::default()));
        for tick in 0..9u8 {
            set.advance_to(set.tick() + 1);
            let x = 14_000 * i32::from(tick);
            let position = Position {
                x,
                y: -x,
                z: x % 16_000,
            };
            let rotation = Rotation::from([tick, tick * 3, tick * 7, tick * 28]);
            set.encode_tick(|_| Pose { position, rotation }, &mut Vec::new());
        }
        let motion = *set.get(CubeId(0)).unwrap();
        assert!(!motion.is_settled());
        let name = "n".repeat(MAX_NAME_BYTES);
        let kind = CubeKind::Free {
            holder: Some(CubeId(u64::MAX)),
        };
        let cube = CubeInfo {
            motion,
            ..info(u64::MAX, kind, &name)
        };
        let keyframe = Keyframe {
            cell: CellId(u16::MAX),
            interval_ticks: 1,
            tick: u64::MAX,
            cubes: vec![cube; MAX_CUBES_PER_ROOM],
        };
        let keyframe = ServerMessage::Keyframe(keyframe);
        let payload = &keyframe.to_frame()[4..];
        assert!(
            payload.len() <= MAX_SERVER_PAYLOAD_BYTES,
            "{} bytes",
            payload.len()
        );
        assert_eq!(ServerMessage::decode(payload), Ok(keyframe));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail_but_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let _ = ClientMessage::decode(&bytes);
            let _ = ServerMessage::decode(&bytes);
            let _ = hello_version(&bytes);
        }
    }
}
