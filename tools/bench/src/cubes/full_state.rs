//! Whole poses in bincode, which the motion codec is compared with.

use bincode::config::standard;
use cubesync_protocol::CubePose;

/// Encodes a list of poses.
pub(crate) fn encode(cubes: &[CubePose]) -> anyhow::Result<Vec<u8>> {
    Ok(bincode::serde::encode_to_vec(cubes, standard())?)
}

/// Decodes a list of poses, whose bytes must be valid.
pub(crate) fn decode(bytes: &[u8]) -> anyhow::Result<Vec<CubePose>> {
    Ok(bincode::serde::decode_from_slice(bytes, standard())?.0)
}
