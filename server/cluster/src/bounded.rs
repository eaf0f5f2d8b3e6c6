//! Lists from other servers whose length is bounded.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

/// Deserializes a list of at most `MAX` elements. A longer one is refused before memory is taken.
pub(crate) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>, const MAX: usize>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_seq(List::<T, MAX>(PhantomData))
}

struct List<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for List<T, MAX> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MAX} elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<T>, A::Error> {
        let count = sequence.size_hint().filter(|count| *count <= MAX);
        let count = count.ok_or_else(|| A::Error::custom("a list is too long"))?;
        let mut list = Vec::with_capacity(count);
        while let Some(element) = sequence.next_element()? {
            list.push(element);
        }
        Ok(list)
    }
}
