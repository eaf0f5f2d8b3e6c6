//! The payload of the other relays: one update of one cube, as bincode or as JSON.

use anyhow::{Context, Result};
use cubesync_protocol::Pose;
use serde::{Deserialize, Serialize};

/// One client's cube at one of its steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Update {
    /// The client that owns the cube.
    #[serde(rename = "id")]
    pub(crate) client: u32,
    /// The number of the sample.
    #[serde(rename = "n")]
    pub(crate) step: u32,
    /// East, north and up, in quanta.
    #[serde(rename = "p")]
    pub(crate) position: [i32; 3],
    /// The rotation's 32 bits.
    #[serde(rename = "r")]
    pub(crate) rotation: u32,
}

impl Update {
    /// Returns the update of a pose.
    pub(crate) fn new(client: usize, step: usize, pose: Pose) -> Self {
        let position = pose.position;
        Self {
            client: client as u32,
            step: step as u32,
            position: [position.x, position.y, position.z],
            rotation: u32::from_le_bytes(pose.rotation.into()),
        }
    }

    /// Appends the update as bincode: 11 to 21 bytes.
    pub(crate) fn append_bincode(&self, out: &mut Vec<u8>) {
        bincode::serde::encode_into_std_write(self, out, bincode::config::standard())
            .expect("writing plain data into memory cannot fail");
    }

    /// Decodes an update from bincode.
    pub(crate) fn from_bincode(bytes: &[u8]) -> Result<Self> {
        let (update, _) = bincode::serde::decode_from_slice(bytes, limited())?;
        Ok(update)
    }

    /// Decodes client and step of an update in bincode: a load generator needs no more.
    pub(crate) fn key_from_bincode(bytes: &[u8]) -> Result<(u32, u32)> {
        let (key, _) = bincode::serde::decode_from_slice(bytes, limited())?;
        Ok(key)
    }

    /// Parses client and step of an update in JSON, as [`serde_json`] writes it.
    pub(crate) fn key_from_json(bytes: &[u8]) -> Result<(u32, u32)> {
        let key = || {
            let (client, rest) = number_after(bytes, b"{\"id\":")?;
            let (step, _) = number_after(rest, b",\"n\":")?;
            Some((client, step))
        };
        key().context("the relay sent JSON that is no update")
    }
}

fn limited() -> bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Varint,
    bincode::config::Limit<64>,
> {
    bincode::config::standard().with_limit()
}

fn number_after<'bytes>(bytes: &'bytes [u8], prefix: &[u8]) -> Option<(u32, &'bytes [u8])> {
    let bytes = bytes.strip_prefix(prefix)?;
    let digits = bytes
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let (digits, rest) = bytes.split_at(digits);
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_an_update_is_read_from_both_forms() {
        let update = Update::new(1234, 99, Pose::default());
        let mut binary = Vec::new();
        update.append_bincode(&mut binary);
        assert_eq!(Update::from_bincode(&binary).unwrap(), update);
        assert_eq!(Update::key_from_bincode(&binary).unwrap(), (1234, 99));
        let json = serde_json::to_vec(&update).unwrap();
        assert_eq!(Update::key_from_json(&json).unwrap(), (1234, 99));
        assert!(Update::key_from_json(b"{\"id\":,\"n\":1}").is_err());
    }
}
