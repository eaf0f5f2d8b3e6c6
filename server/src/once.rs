//! Memory of what has been logged, so that it is logged once.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Largest number of texts that are remembered. Strangers can make up as many as they like.
const MAX_TEXTS: usize = 64;
/// Characters of a text that are remembered.
const MAX_CHARS: usize = 200;

/// Texts that have been seen, up to a number.
#[derive(Debug, Default)]
pub(crate) struct Once(Mutex<BTreeSet<String>>);

impl Once {
    /// Returns whether a text is seen for the first time. When too many others were, none is new.
    pub(crate) fn is_new(&self, text: &str) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.len() < MAX_TEXTS && seen.insert(text.chars().take(MAX_CHARS).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_is_new_once_and_their_number_is_bounded() {
        let once = Once::default();
        assert!(once.is_new("a") && once.is_new("b"));
        assert!(!once.is_new("a"));
        let new = (0..1_000).filter(|number| once.is_new(&number.to_string()));
        assert_eq!(new.count(), MAX_TEXTS - 2);
    }
}
