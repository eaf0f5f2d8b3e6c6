//! Writing lines without waiting for whoever reads them.
//!
//! Standard error may be a pipe that nobody empties: a stopped `less`, a log collector that
//! hangs. A write to it blocks, and a runtime's thread that blocks serves no player. So lines go
//! into a bounded buffer, and a thread of its own writes them. It is the whole of what the crate
//! tracing-appender would be used for, without its dates and channels.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

use super::limit::suppress;

/// Bytes that wait at most: a thousand lines. What comes on top is left out.
const MAX_WAITING_BYTES: usize = 256 * 1024;

/// How long the last lines may take.
const FLUSH_DEADLINE: Duration = Duration::from_secs(1);

/// Takes lines; clones write to the same end.
#[derive(Debug, Clone)]
pub(super) struct Outlet {
    buffer: Arc<Buffer>,
}

/// Lines on their way.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    state: Mutex<State>,
    /// Lines came, or were written.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// The thread has taken some and is writing them.
    writing: bool,
}

impl Outlet {
    /// Writes to `end` from a thread of its own, as long as the process lives.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn new(end: impl Write + Send + 'static) -> io::Result<Self> {
        let buffer = Arc::new(Buffer::default());
        let taken = Arc::clone(&buffer);
        std::thread::Builder::new()
            .name("log".into())
            .spawn(move || taken.write_to(end))?;
        Ok(Self { buffer })
    }

    /// Waits until everything is written, for at most a second.
    pub(super) fn flush(&self) {
        let state = self.buffer.lock();
        let is_busy = |state: &mut State| state.writing || !state.waiting.is_empty();
        // Late or not, nobody waits longer.
        let _ = self
            .buffer
            .changed
            .wait_timeout_while(state, FLUSH_DEADLINE, is_busy);
    }
}

impl<'a> MakeWriter<'a> for Outlet {
    type Writer = &'a Buffer;

    fn make_writer(&'a self) -> &'a Buffer {
        &self.buffer
    }
}

impl Buffer {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_to(&self, mut end: impl Write) {
        let mut lines = Vec::new();
        loop {
            {
                let mut state = self.lock();
                state.writing = false;
                self.changed.notify_all();
                state = self
                    .changed
                    .wait_while(state, |state| state.waiting.is_empty())
                    .unwrap_or_else(PoisonError::into_inner);
                std::mem::swap(&mut lines, &mut state.waiting);
                state.writing = true;
            }
            // A closed end or a full disk: there is nobody to tell, and the next lines may pass.
            let _ = end.write_all(&lines).and_then(|()| end.flush());
            lines.clear();
        }
    }
}

/// One call is one line: it is taken whole or left out whole.
impl Write for &Buffer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.lock();
        if state.waiting.len() + line.len() <= MAX_WAITING_BYTES {
            state.waiting.extend_from_slice(line);
            self.changed.notify_all();
        } else {
            suppress();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::super::limit::suppressed;
    use super::*;

    /// Passes on what is written, and blocks or fails as it is told.
    struct End {
        written: mpsc::Sender<Vec<u8>>,
        results: mpsc::Receiver<io::Result<()>>,
    }

    impl Write for End {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.written.send(bytes.to_vec()).unwrap();
            let result = self.results.recv().unwrap_or(Ok(()));
            result.map(|()| bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn outlet() -> (
        Outlet,
        mpsc::Receiver<Vec<u8>>,
        mpsc::Sender<io::Result<()>>,
    ) {
        let (sender, written) = mpsc::channel();
        let (result, results) = mpsc::channel();
        let end = End {
            written: sender,
            results,
        };
        (Outlet::new(end).unwrap(), written, result)
    }

    fn say(outlet: &Outlet, line: &[u8]) {
        outlet.make_writer().write_all(line).unwrap();
    }

    #[test]
    fn nobody_waits_for_an_end_that_is_stuck_and_its_buffer_is_bounded() {
        let (outlet, written, result) = outlet();
        say(&outlet, b"first\n");
        assert_eq!(written.recv().unwrap(), b"first\n");
        let before = suppressed();
        let line = [b'x'; 1024];
        (0..1024).for_each(|_| say(&outlet, &line));
        assert_eq!(outlet.buffer.lock().waiting.len(), MAX_WAITING_BYTES);
        assert!(suppressed() - before >= 1024 - 256);
        drop(result);
        assert_eq!(written.recv().unwrap().len(), MAX_WAITING_BYTES);
        outlet.flush();
        assert!(outlet.buffer.lock().waiting.is_empty());
    }

    #[test]
    fn after_an_error_the_next_lines_are_written() {
        let (outlet, written, result) = outlet();
        result.send(Err(io::ErrorKind::BrokenPipe.into())).unwrap();
        say(&outlet, b"lost\n");
        assert_eq!(written.recv().unwrap(), b"lost\n");
        drop(result);
        say(&outlet, b"kept\n");
        assert_eq!(written.recv().unwrap(), b"kept\n");
    }
}
