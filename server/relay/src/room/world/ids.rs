//! Ids for players' cubes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cubesync_protocol::CubeId;

/// A counter of ids for players' cubes. Clones share it, so that each id is given once.
#[derive(Debug, Clone)]
pub struct Ids(Arc<AtomicU64>);

impl Ids {
    /// Creates a counter of the ids 1, 2, 3 and so on.
    pub fn counted() -> Self {
        Self::after(0)
    }

    /// Creates a counter of the ids after `last`.
    pub fn after(last: u64) -> Self {
        Self(Arc::new(AtomicU64::new(last + 1)))
    }

    pub(super) fn next(&self) -> CubeId {
        CubeId(self.0.fetch_add(1, Ordering::Relaxed))
    }
}
