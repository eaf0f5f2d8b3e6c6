//! Writing lines without blocking on their reader.
//!
//! Standard error may be a pipe that nobody empties, such as a stopped `less` or a hanging log
//! collector. A write to it blocks, and a blocked thread of the runtime serves no players. Lines
//! therefore go into a bounded buffer, from which a thread of its own writes them. The crate
//! tracing-appender does the same, with dates and channels that are not needed here.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

use super::limit::suppress;

/// Size of the buffer: about a thousand lines. Lines that do not fit are left out.
const MAX_WAITING_BYTES: usize = 256 * 1024;

/// Time for writing the last lines.
const FLUSH_DEADLINE: Duration = Duration::from_secs(1);

/// A non-blocking writer of lines. Clones share the buffer.
#[derive(Debug, Clone)]
pub(super) struct Outlet {
    buffer: Arc<Buffer>,
}

/// The lines that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    state: Mutex<State>,
    /// Notified when lines were added or written.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// Whether the thread is writing lines that it has taken out.
    writing: bool,
}

impl Outlet {
    /// Starts a thread that writes to `output` as long as the process lives.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub(super) fn new(output: impl Write + Send + 'static) -> io::Result<Self> {
        let buffer = Arc::new(Buffer::default());
        let written = Arc::clone(&buffer);
        std::thread::Builder::new()
            .name("log".into())
            .spawn(move || written.write_to(output))?;
        Ok(Self { buffer })
    }

    /// Waits until everything is written, for at most a second.
    pub(super) fn flush(&self) {
        let state = self.buffer.lock();
        let is_busy = |state: &mut State| state.writing || !state.waiting.is_empty();
        // After the deadline, the remaining lines are lost.
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

    fn write_to(&self, mut output: impl Write) {
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
            // An error here cannot be reported anywhere, and the next write may succeed.
            let _ = output.write_all(&lines).and_then(|()| output.flush());
            lines.clear();
        }
    }
}

/// Each call writes one line, which is taken or left out as a whole.
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

    /// An output whose writes block until their result comes from the test.
    struct SteeredOutput {
        written: mpsc::Sender<Vec<u8>>,
        results: mpsc::Receiver<io::Result<()>>,
    }

    impl Write for SteeredOutput {
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
        let output = SteeredOutput {
            written: sender,
            results,
        };
        (Outlet::new(output).unwrap(), written, result)
    }

    fn write(outlet: &Outlet, line: &[u8]) {
        outlet.make_writer().write_all(line).unwrap();
    }

    #[test]
    fn a_blocked_output_blocks_no_writer_and_the_buffer_is_bounded() {
        let (outlet, written, result) = outlet();
        write(&outlet, b"first\n");
        assert_eq!(written.recv().unwrap(), b"first\n");
        let before = suppressed();
        let line = [b'x'; 1024];
        (0..1024).for_each(|_| write(&outlet, &line));
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
        write(&outlet, b"lost\n");
        assert_eq!(written.recv().unwrap(), b"lost\n");
        drop(result);
        write(&outlet, b"kept\n");
        assert_eq!(written.recv().unwrap(), b"kept\n");
    }
}
