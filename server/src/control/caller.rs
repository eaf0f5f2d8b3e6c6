//! The command's end of the control socket.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};

use super::message::{self, Answer, MAX_ANSWER_BYTES, Order};

/// Time for a server to answer. It is longer than the server's own deadlines.
const DEADLINE: Duration = Duration::from_secs(15);

/// Gives an order to the server whose control socket is at `path`, and waits for the answer.
///
/// # Errors
/// There is no server, or it does not answer.
pub fn ask(path: &Path, order: &Order) -> anyhow::Result<Answer> {
    let shown = path.display();
    let stream = UnixStream::connect(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => anyhow!(
            "there is no control socket at {shown}: the server must run with --control PATH, and this command \
             needs the same PATH"
        ),
        ErrorKind::ConnectionRefused => {
            anyhow!("no server listens at {shown}: the one that did is gone")
        }
        ErrorKind::PermissionDenied => {
            anyhow!("no permission for {shown}: be the server's user, or root (sudo)")
        }
        _ => anyhow!("cannot use {shown} as a control socket: {error}"),
    })?;
    let silent = || format!("the server at {shown} does not answer");
    stream
        .set_read_timeout(Some(DEADLINE))
        .with_context(silent)?;
    stream
        .set_write_timeout(Some(DEADLINE))
        .with_context(silent)?;
    (&stream)
        .write_all(&message::write(order))
        .with_context(silent)?;
    let mut line = Vec::new();
    let mut reader = BufReader::new(stream.take(MAX_ANSWER_BYTES));
    reader.read_until(b'\n', &mut line).with_context(silent)?;
    if line.last() != Some(&b'\n') {
        bail!("the server at {shown} ended before it had answered");
    }
    message::read(&line).map_err(|problem| anyhow!(problem))
}
