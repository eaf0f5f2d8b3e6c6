//! Numbers for cubes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cubesync_protocol::CubeId;

/// Numbers for players' cubes: each is given once, whoever shares them.
#[derive(Debug, Clone)]
pub struct Ids(Arc<AtomicU64>);

impl Ids {
    /// Returns the numbers 1, 2, 3 and so on.
    pub fn counted() -> Self {
        Self::after(0)
    }

    /// Returns the numbers after this one.
    pub fn after(last: u64) -> Self {
        Self(Arc::new(AtomicU64::new(last + 1)))
    }

    pub(super) fn next(&self) -> CubeId {
        CubeId(self.0.fetch_add(1, Ordering::Relaxed))
    }
}
