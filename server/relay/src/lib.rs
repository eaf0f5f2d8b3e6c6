//! Rooms and sessions without listeners: what a server does with connections that somebody else has
//! accepted.
//!
//! A [session] reads frames and decodes messages. A [room] applies them to its
//! [`world`](room::world), and once a tick its [`publisher`](room::publisher) encodes what changed
//! into the [`log`](room::log), from which the [`audience`](room::audience) writes to every socket.
//! Where a player has opened a way for [`datagram`]s, the newest ticks also go out there.
//! A [`Host`] is all of that with the limits on who may come in.

pub mod admission;
pub mod bans;
pub mod budget;
pub mod by_address;
pub mod contain;
pub mod datagram;
pub mod ending;
pub mod holders;
pub mod host;
pub mod key;
pub mod label;
pub mod mechanics;
pub mod metrics;
pub mod network;
pub mod pace;
pub mod peer;
pub mod places;
pub mod room;
pub mod room_places;
pub mod rooms;
pub mod session;
pub mod token_bucket;

pub use ending::Ending;
pub use host::{Host, HostSettings};
pub use rooms::DEFAULT_ROOM;
