//! The runtime's time.

use std::time::Instant;

/// Returns the runtime's time, which runs as the system's does, or as a simulation lets it.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
