//! The clipboard of X11, which belongs to another program. That program may hang, so a thread asks it.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use arboard::Clipboard;

/// Longest wait for the clipboard's owner. The window stands still meanwhile; a program that works
/// answers within milliseconds.
const PATIENCE: Duration = Duration::from_millis(250);

/// A request to the clipboard's thread.
enum Request {
    Copy(String),
    Paste(Sender<Option<String>>),
}

/// The clipboard's thread, and the answer that it still owes.
struct Link {
    requests: Sender<Request>,
    owed: Option<Receiver<Option<String>>>,
}

static LINK: LazyLock<Mutex<Link>> = LazyLock::new(|| {
    let (requests, received) = mpsc::channel();
    // Without the thread, every request fails.
    let _ = thread::Builder::new()
        .name("clipboard".into())
        .spawn(move || serve(&received));
    Mutex::new(Link {
        requests,
        owed: None,
    })
});

/// Returns the clipboard's text, or nothing if its owner does not answer soon.
pub(crate) fn paste() -> Option<String> {
    let mut link = LINK.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(owed) = &link.owed
        && matches!(owed.try_recv(), Err(mpsc::TryRecvError::Empty))
    {
        // A key that is held must not wait again and again.
        return None;
    }
    let (sender, answer) = mpsc::channel();
    link.requests.send(Request::Paste(sender)).ok()?;
    let text = answer.recv_timeout(PATIENCE);
    link.owed = matches!(text, Err(mpsc::RecvTimeoutError::Timeout)).then_some(answer);
    text.ok()?
}

/// Copies a text to the clipboard.
pub(crate) fn copy(text: &str) {
    let link = LINK.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = link.requests.send(Request::Copy(text.to_owned()));
}

/// Serves requests one after the other. The clipboard is kept, because its owner must live as long
/// as others may paste.
fn serve(requests: &Receiver<Request>) {
    let Ok(mut clipboard) = Clipboard::new() else {
        return;
    };
    for request in requests {
        match request {
            Request::Copy(text) => _ = clipboard.set_text(text),
            Request::Paste(answer) => _ = answer.send(clipboard.get_text().ok()),
        }
    }
}
