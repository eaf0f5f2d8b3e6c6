//! Access to files, which may hang: a network share that is away, a pipe without anybody at its other end.
//!
//! On a thread of the runtime it would stop players, and the runtime's own threads for blocking work are
//! waited for at the end. These threads are not: the end of the process ends them.

use std::io;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::warn;

/// Time after which the log says for what the server waits.
const SAY_AFTER: Duration = Duration::from_secs(5);

/// Starts work on a thread of its own, whose end is received; an error means that it panicked.
///
/// # Errors
/// The system cannot start a thread.
pub(crate) fn start<Done: Send + 'static>(
    work: impl FnOnce() -> Done + Send + 'static,
) -> io::Result<oneshot::Receiver<Done>> {
    let (sender, done) = oneshot::channel();
    let thread = std::thread::Builder::new().name("files".into());
    // Nobody waits any more if this fails.
    thread.spawn(move || drop(sender.send(work())))?;
    Ok(done)
}

/// Does work on a thread of its own, and waits for its end. While that takes long, the log says that the
/// server waits for `what`.
///
/// # Errors
/// The system cannot start a thread, or the work panicked.
pub(crate) async fn run<Done: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> Done + Send + 'static,
) -> io::Result<Done> {
    let mut done = start(work)?;
    let done = match timeout(SAY_AFTER, &mut done).await {
        Ok(done) => done,
        Err(_) => {
            warn!("still waiting for {what}");
            done.await
        }
    };
    done.map_err(|_| io::Error::other("the thread that reads files panicked"))
}
