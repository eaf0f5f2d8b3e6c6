//! Waiting for something that happens elsewhere.

use std::time::{Duration, Instant};

/// How often a condition is checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// Calls `look` until it returns a value, for `within` at most.
pub fn wait_for<T>(within: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + within;
    loop {
        let found = look();
        if found.is_some() || Instant::now() >= deadline {
            return found;
        }
        std::thread::sleep(CHECK_INTERVAL);
    }
}

/// Returns whether `condition` becomes true in time.
pub fn comes_true(within: Duration, mut condition: impl FnMut() -> bool) -> bool {
    wait_for(within, || condition().then_some(())).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn condition_is_checked_until_it_holds() {
        let mut checks = 0;
        let is_third = || {
            checks += 1;
            checks == 3
        };
        assert!(comes_true(Duration::from_secs(10), is_third));
        assert_eq!(checks, 3);
    }

    #[test]
    fn condition_is_checked_once_without_any_time() {
        assert!(comes_true(Duration::ZERO, || true));
        assert!(!comes_true(Duration::ZERO, || false));
    }
}
