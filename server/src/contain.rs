//! A failure in one place ends that place only.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

use crate::metrics::{Metrics, Task};

/// Runs a task's work; a panic in it is counted, and ends nothing else.
///
/// What the work held is dropped on the way, so whatever others must learn of its end is told by a
/// `Drop`. Nothing of it is used afterwards.
pub(crate) fn contain<Work: Future<Output = ()>>(
    metrics: &Metrics,
    task: Task,
    work: Work,
) -> impl Future<Output = ()> + use<Work> {
    let metrics = metrics.clone();
    async move {
        if AssertUnwindSafe(work).catch_unwind().await.is_err() {
            metrics.panicked(task);
        }
    }
}
