//! The flight recorder's file: what went over the wire, with times.
//!
//! Read it in the order of the data. Messages come in at [`Encoder::record`], which puts them as
//! [`Entry`]s into chunks. Each [`chunk`] begins with what is needed to start there, which a
//! [`Scene`] knows because it listens to what is recorded. A [`BoundedFile`] writes the chunks and
//! drops the oldest ones; a [`Recording`] reads them back, up to the end or the first damage.
//! `docs/RECORDING.md` describes the bytes.
//!
//! Times are arguments everywhere. Only [`BoundedFile`] and [`Place`] know of files.

pub mod chunk;
mod encoder;
mod file;
mod place;
mod recording;
mod scene;

pub use chunk::{Chunk, Damage, Direction, Entry};
pub use encoder::Encoder;
pub use file::{BoundedFile, DEFAULT_MAX_BYTES, parse_size};
pub use place::Place;
pub use recording::{Cursor, OpenError, Recording};
pub use scene::Scene;
