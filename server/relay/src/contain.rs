//! A panic ends only the task in which it happens.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

use crate::metrics::{Metrics, Task};

/// Runs a task's work; a panic in it is counted, and ends nothing else.
///
/// A panic drops everything that the work held, so a `Drop` can tell others of its end. Nothing of the
/// work is used afterwards.
pub fn contain<Work: Future<Output = ()>>(
    metrics: &Metrics,
    task: Task,
    work: Work,
) -> impl Future<Output = ()> + use<Work> {
    let metrics = metrics.clone();
    // No `async` block: that would keep a place for the work as it came beside the running one, and
    // every connection would take twice the memory.
    let contained = AssertUnwindSafe(work).catch_unwind();
    contained.map(move |outcome| {
        if outcome.is_err() {
            metrics.panics.count(task);
        }
        if task == Task::Connection {
            metrics.ended_connections.inc();
        }
    })
}

#[cfg(test)]
mod tests {
    use std::mem::size_of_val;

    use super::*;

    #[test]
    fn contained_work_takes_no_second_place_in_memory() {
        let work = async {
            let held = [0_u8; 4096];
            tokio::task::yield_now().await;
            std::hint::black_box(held);
        };
        let alone = size_of_val(&work);
        let contained = contain(&Metrics::default(), Task::Other, work);
        assert!(size_of_val(&contained) < alone + alone / 2);
    }
}
