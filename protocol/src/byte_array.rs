//! Arrays of bytes in messages.

use std::fmt;

use serde::de::{Deserializer, Error, SeqAccess, Visitor};

/// Deserializes an array in a loop, for `#[serde(deserialize_with)]`. Serde's own code has each byte apart, which
/// made the browser's download larger.
pub(crate) fn byte_array<'de, D: Deserializer<'de>, const LENGTH: usize>(
    deserializer: D,
) -> Result<[u8; LENGTH], D::Error> {
    deserializer.deserialize_tuple(LENGTH, Bytes)
}

struct Bytes<const LENGTH: usize>;

impl<'de, const LENGTH: usize> Visitor<'de> for Bytes<LENGTH> {
    type Value = [u8; LENGTH];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{LENGTH} bytes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<[u8; LENGTH], A::Error> {
        let mut bytes = [0; LENGTH];
        for (place, byte) in bytes.iter_mut().enumerate() {
            let next = sequence.next_element()?;
            *byte = next.ok_or_else(|| A::Error::invalid_length(place, &self))?;
        }
        Ok(bytes)
    }
}
