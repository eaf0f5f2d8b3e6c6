//! From what a server sends, when it arrives, to a smooth picture.
//!
//! The network delivers states late, in bursts and sometimes wrong. So remote cubes are shown a
//! *playout delay* in the past, where both the state before and the one after are usually known.
//! The [`View`] keeps the recent states in a snapshot buffer, measures the delay that this network
//! needs, interpolates between two states, and blends in what still came too late. What the client itself touches moves at
//! once.

mod blend;
mod contact;
mod delay;
mod snapshot_buffer;
mod solid;
mod view;

pub use solid::Solid;
pub use view::{Display, View};
