//! A value that threads use in turn.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

/// A value that threads use one after the other, in the order in which they came.
///
/// A mutex alone lets a thread that calls again and again take it back before the others have woken up: on a busy
/// machine they waited for half a minute.
pub(crate) struct Turns<T> {
    /// The next caller's turn.
    next: AtomicU64,
    /// Whose turn it is.
    state: Mutex<(u64, T)>,
    ended: Condvar,
}

impl<T> Turns<T> {
    /// Makes one of a value that nobody uses.
    pub(crate) fn new(value: T) -> Self {
        Self {
            next: AtomicU64::new(0),
            state: Mutex::new((0, value)),
            ended: Condvar::new(),
        }
    }

    /// Calls a function with the value when it is this thread's turn.
    ///
    /// # Errors
    /// The function panicked.
    pub(crate) fn call<R>(&self, function: impl FnOnce(&mut T) -> R) -> thread::Result<R> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_early = |(now, _): &mut (u64, T)| *now != turn;
        let state = self.ended.wait_while(state, is_early);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        let called = catch_unwind(AssertUnwindSafe(|| function(&mut state.1)));
        state.0 += 1;
        drop(state);
        self.ended.notify_all();
        called
    }
}
