//! Whole poses as bincode sees them: what the surprise codec is compared with.

use bincode::config::standard;
use cubesync_protocol::CubePose;

/// A list of poses.
pub(crate) fn encode(cubes: &[CubePose]) -> anyhow::Result<Vec<u8>> {
    Ok(bincode::serde::encode_to_vec(cubes, standard())?)
}

/// The list; the bytes are our own.
pub(crate) fn decode(bytes: &[u8]) -> anyhow::Result<Vec<CubePose>> {
    Ok(bincode::serde::decode_from_slice(bytes, standard())?.0)
}
