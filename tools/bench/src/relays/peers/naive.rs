//! The naive TCP relay's client: the frames of our own wire, one update each.

use anyhow::Result;

use super::{Framing, Incoming};
use crate::payload::Update;

/// A 4-byte big-endian length and an update as bincode, both ways.
#[derive(Debug)]
pub(crate) struct Naive;

impl Framing for Naive {
    fn greet(&self, _client: usize, _out: &mut Vec<u8>) {}

    fn append(&mut self, update: &Update, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        update.append_bincode(out);
        let len_bytes = (out.len() - start - 4) as u32;
        out[start..start + 4].copy_from_slice(&len_bytes.to_be_bytes());
    }

    fn next(&self, received: &[u8]) -> Result<Option<(usize, Incoming)>> {
        let Some(header) = received.first_chunk() else {
            return Ok(None);
        };
        let end = 4 + u32::from_be_bytes(*header) as usize;
        let Some(payload) = received.get(4..end) else {
            return Ok(None);
        };
        Ok(Some((
            end,
            Incoming::update(Update::key_from_bincode(payload)?),
        )))
    }
}
