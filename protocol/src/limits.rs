//! Every number that bounds what the wire may carry, and why it is that number.

use std::time::Duration;

/// First field of [`Hello`](crate::Hello): it tells a cubesync client from anything else that found
/// the port.
pub const MAGIC: [u8; 4] = *b"CUBE";

/// The protocol version that this crate speaks. Every change of the wire bytes raises it.
pub const PROTOCOL_VERSION: u16 = 5;

/// Bytes of the big-endian length that precedes every payload.
pub const FRAME_HEADER_BYTES: usize = 4;

/// Longest payload that a client may send, in bytes. The longest message, a `Hello` with full-length
/// texts, needs about 300.
pub const MAX_CLIENT_PAYLOAD_BYTES: usize = 4 * 1024;

/// Longest payload that a server may send, in bytes: a keyframe of [`MAX_CUBES_PER_ROOM`] cubes with
/// full-length names (a test checks it).
pub const MAX_SERVER_PAYLOAD_BYTES: usize = 1024 * 1024;

/// Longest plaintext of a datagram, in bytes: with what encrypts it (a WebRTC data channel needs 110
/// bytes with IPv6 and UDP, AEAD over UDP 77) it fits the smallest MTU of IPv6, 1,280.
pub const MAX_DATAGRAM_BYTES: usize = 1_100;

/// Longest session description (SDP) of a WebRTC offer or answer, in bytes. A browser's offer of one
/// data channel has about 500, and one line of up to 100 more for each of its addresses.
pub const MAX_SESSION_DESCRIPTION_BYTES: usize = 3_000;

/// Largest number of cubes in one room, the free cube included: what fits a keyframe.
pub const MAX_CUBES_PER_ROOM: usize = 5_000;

/// Largest number of loose cubes in one room: a heap that the floor has place for, and that leaves three
/// fifths of a room's cubes to players.
pub const MAX_LOOSE_CUBES: usize = 2_000;

/// Smallest edge length of a cube, in 1/32 m: 1/8 m, which a person can still see and hit.
pub const MIN_CUBE_WIDTH: u8 = 4;

/// Largest edge length of a cube, in 1/32 m: 4 m, an eighth of the room's height.
pub const MAX_CUBE_WIDTH: u8 = 128;

/// Largest number of cubes that a client may control: it moves its own cube and the one it holds; the
/// rest is room for worlds with more free cubes.
pub const MAX_CUBES_PER_SAMPLE: usize = 8;

/// Largest number of samples that a server takes from one datagram: four times as many as our client puts into it.
/// The others are on the stream.
pub const MAX_SAMPLES_PER_DATAGRAM: usize = 16;

/// Longest player name, in grapheme clusters, which people count as characters: what stays readable
/// above a cube.
pub const MAX_NAME_CHARS: usize = 24;

/// Longest player name, in bytes: five families of joined emoji.
pub const MAX_NAME_BYTES: usize = 128;

/// Longest room name, in grapheme clusters.
pub const MAX_ROOM_CHARS: usize = 32;

/// Longest room name, in bytes.
pub const MAX_ROOM_BYTES: usize = 128;

/// Longest reason of the operator for a kick or a ban, in grapheme clusters: a sentence or two.
pub const MAX_REASON_CHARS: usize = 200;

/// Longest reason of the operator, in bytes.
pub const MAX_REASON_BYTES: usize = 800;

/// Largest number of combining marks on one letter of a name (UTS 39, section 5.4).
pub const MAX_STACKED_MARKS: usize = 4;

/// Longest join key, in bytes.
pub const MAX_JOIN_KEY_BYTES: usize = 128;

/// Largest number of other servers that a `Welcome` names: if that many are gone at once, one more
/// is no help.
pub const MAX_SERVERS: usize = 16;

/// Longest address of a server, in characters: the longest name that the domain name system
/// knows (253), a colon and a port.
pub const MAX_ADDRESS_CHARS: usize = 259;

/// Largest number of cells in a room: as many squares of 16 m as lie on the world.
pub const MAX_CELLS: usize = 1_089;

/// Interval of a far cell's snapshots, in ticks.
pub const FAR_INTERVAL_TICKS: u8 = 4;

/// Half the side of the square world, in quanta: 256 m to each side of the origin.
pub const MAX_HORIZONTAL_QUANTA: i32 = 131_072;

/// The ceiling, in quanta: 32 m. The floor is at 0, and a position is a cube's centre.
pub const MAX_HEIGHT_QUANTA: i32 = 16_384;

/// Rates that a room may run at, in ticks per second.
pub const TICK_HZ_RANGE: std::ops::RangeInclusive<u8> = 1..=128;

/// The last tick: at the highest rate a room reaches it after 70,000 years, and the client's clock
/// counts that far without a gap.
pub const MAX_TICK: u64 = 1 << 48;

/// Longest time between two [`Ping`](crate::ClientMessage::Ping)s of a client, so that both sides
/// receive something.
pub const PING_INTERVAL: Duration = Duration::from_secs(5);

/// A peer that was silent for this long is gone.
pub const DEAD_AFTER: Duration = Duration::from_secs(15);

/// Longest time between two messages of the server, even if nothing moves.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// The same while a cube moves, and for a client while one of its cubes moves: the other side goes
/// on as predicted for this long and a little more, then it knows that the network has stopped.
pub const MOVING_HEARTBEAT_INTERVAL: Duration = Duration::from_millis(200);

/// Longest time between two datagrams of a client that has a way for them. It keeps the way open in what
/// translates addresses (NAT), and reports losses.
pub const DATAGRAM_INTERVAL: Duration = Duration::from_secs(1);

/// Longest time from accepting a connection to its `Hello`.
pub const HELLO_DEADLINE: Duration = Duration::from_secs(2);
