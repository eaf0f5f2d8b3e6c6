//! Memory that nobody uses any more.
//!
//! After thousands of connections have ended, glibc keeps nearly all of what they had: it returns memory
//! from the top of its heaps only, and a small block that is still in use up there holds all below it.
// The only unsafe call asks glibc to return the rest too; see `give_back`.
#![allow(unsafe_code)]

use std::time::Duration;

use cubesync_relay::metrics::Metrics;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

/// How often the server looks whether connections have ended. To return their memory takes a few
/// milliseconds, in which threads that want memory may wait.
const EVERY: Duration = Duration::from_secs(5);

/// Number of ended connections whose memory is worth that: about a megabyte.
const WORTH_CONNECTIONS: u64 = 32;

/// Number of looks after such an end at which memory is returned: players leave ghosts for a while.
const LOOKS: u32 = 6;

/// Returns what connections have left behind to the system, again and again until the server stops.
pub(crate) async fn give_back_unused(metrics: Metrics, shutdown: CancellationToken) {
    let looking = async {
        let (mut known, mut looks) = (0, 0);
        loop {
            tokio::time::sleep(EVERY).await;
            let ended = metrics.ended_connections.get();
            if ended >= known + WORTH_CONNECTIONS {
                (known, looks) = (ended, LOOKS);
            }
            if looks > 0 {
                looks -= 1;
                // An error would mean that it panicked.
                let _ = spawn_blocking(give_back).await;
            }
        }
    };
    shutdown.run_until_cancelled(looking).await;
}

/// Asks the allocator to return all whole pages that are free.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn give_back() {
    // SAFETY: the function asks nothing of its caller, may run on any thread, and changes no memory in use.
    unsafe { libc::malloc_trim(0) };
}

/// Does nothing: other allocators return memory by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn give_back() {}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;
    use crate::metrics::resident_bytes;

    #[test]
    fn pages_between_blocks_in_use_are_given_back() {
        const BLOCK_BYTES: usize = 8 * 1024;
        const BLOCKS: usize = 16 * 1024;
        let mut blocks: Vec<_> = (0..BLOCKS).map(|_| vec![1u8; BLOCK_BYTES]).collect();
        let mut number = 0;
        // One of each hundred stays, so that the memory has no end that is free.
        blocks.retain(|_| {
            number += 1;
            number % 100 == 0
        });
        let before = resident_bytes().unwrap();
        give_back();
        let given = before - resident_bytes().unwrap();
        assert!(given >= (BLOCKS * BLOCK_BYTES / 2) as f64, "{given} bytes");
        drop(blocks);
    }
}
