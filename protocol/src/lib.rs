//! cubesync's wire: what a client and a server must agree on, and nothing else.
//!
//! The crate does no I/O and reads no clock, so it runs wherever a client does, in a browser
//! too. Read it in the order of the data: a [`Pose`] is made of whole numbers ([`quantize`]),
//! travels in a [`ClientMessage`] or a [`ServerMessage`] ([`message`]), becomes bytes
//! ([`codec`], the one file that knows bincode) and stands in a length-prefixed [`frame`].
//! [`motion`] encodes how cubes move, [`cells`] divide a room by who sees what, [`uplink`] holds
//! both ends of a client's samples, and a [`Replica`] is what every receiver makes of a room's
//! messages. [`datagram`]s carry the newest of both a second time, beside the stream. Every number that bounds something is in [`limits`].
//!
//! `docs/PROTOCOL.md` says the same for a reader without Rust, and `protocol/vectors/` holds the
//! literal bytes that both are tested against.

mod byte_array;
pub mod cells;
pub mod codec;
pub mod cube;
pub mod datagram;
pub mod frame;
pub mod help;
pub mod interpolation;
pub mod key;
pub mod limits;
pub mod message;
pub mod motion;
pub mod quantize;
pub mod replica;
#[cfg(feature = "seal")]
pub mod seal;
pub mod text;
pub mod uplink;

pub use codec::{DecodeError, Message, append_peer, decode_peer, encode_peer};
pub use cube::{CellId, Colour, ColourError, CubeId, CubePose, Width};
pub use frame::FrameError;
pub use key::{KeyError, clean_key, normal_key};
pub use message::{
    ClientMessage, CloseCode, CubeInfo, CubeKind, DatagramAnswer, DatagramKey, DatagramRequest,
    Encoding, Event, Hello, Keyframe, PathId, PlainCube, PlainSnapshot, RejectCode, ResumeToken,
    ServerAddress, ServerMessage, Snapshot, Welcome,
};
pub use quantize::{Pose, Position, Rotation};
pub use replica::Replica;
pub use text::{TextError, clean_name, clean_reason, clean_room, folded};
