//! The WebSocket transport: frames in binary messages.
//!
//! The library reads, and makes the control frames that answer a peer. Messages are written here, since the
//! library would copy each into a buffer of the connection: a server's messages are not masked, so the frames
//! that all receivers share go out as they are, after a header.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use cubesync_protocol::limits::MAX_CLIENT_PAYLOAD_BYTES;
use cubesync_protocol::{FrameError, Message as _};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};

use super::meter::Meter;
use cubesync_relay::ending::{Ending, Problem};
use cubesync_relay::peer::Transport;
use cubesync_relay::room::audience::Outgoing;
use cubesync_relay::session::{Reader, Received, Stream, Writer};

/// Longest message of a peer, with all of its fragments. A browser puts everything that it sends in one
/// frame of the game into one message, which is far less than four of the longest payloads.
const MAX_MESSAGE_BYTES: usize = 4 * MAX_CLIENT_PAYLOAD_BYTES;

/// Size of the library's read buffer. Its default of 128 KiB per connection is made for uploads.
const READ_BUFFER_BYTES: usize = 4 * 1024;

/// Largest number of bytes of control frames that the library keeps for a peer that does not read: some of
/// the longest. Of the answers to pings, the newest is enough (RFC 6455, 5.5.3).
const MAX_CONTROL_BYTES: usize = 512;

/// The first byte of a message that is one frame, and of a control frame (RFC 6455, 5.2): the last of a
/// message, and its kind.
pub(super) const TEXT: u8 = 0x81;
pub(super) const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;

/// A close frame without a reason.
const CLOSE_FRAME: [u8; 2] = [CLOSE, 0];

/// Time in which a peer must have taken the reason for its refusal.
const REFUSAL_DEADLINE: Duration = Duration::from_secs(1);

/// Messages of a refused peer that are read: its `Hello`, and its answer to the close.
const MAX_UNREAD_MESSAGES: usize = 4;

/// Returns the library's settings for messages of a peer of at most `max_message_bytes`.
fn config(max_message_bytes: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(max_message_bytes))
        .max_frame_size(Some(max_message_bytes))
        .read_buffer_size(READ_BUFFER_BYTES)
        // Without a buffer, each frame leaves when it is sent.
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_CONTROL_BYTES)
}

/// Makes the halves of a transport of a stream that has become a WebSocket. `meter` counts the stream under it.
pub(super) async fn split(stream: impl Stream, meter: Meter) -> (impl Reader, impl Writer) {
    let (stream, sink) = halves(stream, MAX_MESSAGE_BYTES).await;
    let counted_bytes = meter.read_bytes();
    let messages = Messages {
        stream,
        meter,
        counted_bytes,
    };
    (messages, sink)
}

/// Splits a WebSocket into what the library reads, and what writes messages.
pub(super) async fn halves<S: Stream>(
    stream: S,
    max_message_bytes: usize,
) -> (WebSocketStream<ReadingEnd<S>>, Sink<S>) {
    let (reader, writer) = tokio::io::split(stream);
    let control = Arc::<Mutex<Control>>::default();
    let sink = Sink {
        stream: writer,
        control: Arc::clone(&control),
        unsent: Bytes::new(),
        must_flush: false,
        has_closed: false,
    };
    let end = ReadingEnd {
        stream: reader,
        control,
    };
    let config = Some(config(max_message_bytes));
    let library = WebSocketStream::from_raw_socket(end, Role::Server, config).await;
    (library, sink)
}

/// Tells the peer of a WebSocket that is not served why, and closes it.
pub(super) async fn refuse(stream: impl Stream, ending: Ending) {
    let config = Some(config(MAX_MESSAGE_BYTES));
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, config).await;
    let telling = async {
        let reject = Problem::from(ending).reject().to_frame();
        socket.send(Message::Binary(reject)).await.ok()?;
        socket.send(Message::Close(None)).await.ok()?;
        // Closing while bytes of the peer are unread would reset the connection and could destroy the frame.
        for _ in 0..MAX_UNREAD_MESSAGES {
            socket.next().await?.ok()?;
        }
        Some(())
    };
    // A peer that takes nothing, or does not close in time, is closed.
    let _ = timeout(REFUSAL_DEADLINE, telling).await;
}

/// The receiving half of a WebSocket. The library returns only whole messages, so the meter under it
/// shows that parts of one have come.
struct Messages<S> {
    stream: WebSocketStream<ReadingEnd<S>>,
    meter: Meter,
    counted_bytes: u64,
}

impl<S: Stream> Reader for Messages<S> {
    fn poll_read(
        &mut self,
        received: &mut BytesMut,
        context: &mut Context<'_>,
    ) -> Poll<Result<(Received, usize), Problem>> {
        let next = self.stream.poll_next_unpin(context);
        let read_bytes = self.meter.read_bytes();
        let len_bytes = read_bytes - std::mem::replace(&mut self.counted_bytes, read_bytes);
        let len_bytes = usize::try_from(len_bytes).unwrap_or(usize::MAX);
        let what = match next {
            Poll::Pending if len_bytes == 0 => return Poll::Pending,
            Poll::Pending => Received::Part,
            // The library answers a close frame before it ends the stream.
            Poll::Ready(None) => Received::End,
            Poll::Ready(Some(message)) => match message.map_err(problem)? {
                Message::Binary(bytes) if bytes.is_empty() => Received::Control,
                Message::Binary(bytes) => {
                    received.extend_from_slice(&bytes);
                    Received::Bytes
                }
                Message::Text(_) => return Poll::Ready(Err(bad_message("a text message"))),
                _ => Received::Control,
            },
        };
        Poll::Ready(Ok((what, len_bytes)))
    }
}

/// The control frames that the library has made and the sending half has not taken yet.
#[derive(Debug, Default)]
struct Control {
    frames: Bytes,
    /// The task of the library, which has more.
    library: Option<Waker>,
    /// The task of the sending half.
    sink: Option<Waker>,
}

/// The stream that the library sees: it reads from the connection, and writes control frames to the
/// sending half.
#[derive(Debug)]
pub(super) struct ReadingEnd<S> {
    stream: ReadHalf<S>,
    control: Arc<Mutex<Control>>,
}

impl<S: Stream> AsyncRead for ReadingEnd<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: Stream> AsyncWrite for ReadingEnd<S> {
    /// Takes all that the library has, which is whole frames, or nothing.
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut control = locked(&self.control);
        if !control.frames.is_empty() {
            control.library = Some(context.waker().clone());
            return Poll::Pending;
        }
        control.frames = Bytes::copy_from_slice(bytes);
        if let Some(sink) = control.sink.take() {
            sink.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The sending half of a WebSocket.
#[derive(Debug)]
pub(super) struct Sink<S> {
    stream: WriteHalf<S>,
    control: Arc<Mutex<Control>>,
    /// The rest of control frames that are partly written.
    unsent: Bytes,
    must_flush: bool,
    /// Whether a close frame was begun, after which nothing may follow.
    has_closed: bool,
}

impl<S: Stream> Sink<S> {
    /// Sends a message with frames, whose first byte is `kind`. After a close frame it sends nothing.
    pub(super) async fn send_message(&mut self, kind: u8, frames: &mut Outgoing) -> io::Result<()> {
        self.send_control().await?;
        if self.has_closed {
            frames.clear();
            return Ok(());
        }
        let (header, len_bytes) = header(kind, frames.len_bytes());
        frames
            .write_to(&mut self.stream, &header[..len_bytes])
            .await
    }

    /// Sends the control frames that the library has made.
    async fn send_control(&mut self) -> io::Result<()> {
        std::future::poll_fn(|context| self.poll_control(context)).await
    }

    /// Writes the control frames that the library has made. What it has begun stays here if it is not polled
    /// again.
    fn poll_control(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.unsent.is_empty() {
                let mut control = locked(&self.control);
                control.sink = Some(context.waker().clone());
                self.unsent = std::mem::take(&mut control.frames);
                if let Some(library) = control.library.take() {
                    library.wake();
                }
                self.has_closed |= has_close(&self.unsent);
            }
            if self.unsent.is_empty() {
                if self.must_flush {
                    ready!(Pin::new(&mut self.stream).poll_flush(context))?;
                    self.must_flush = false;
                }
                return Poll::Ready(Ok(()));
            }
            let taken = ready!(Pin::new(&mut self.stream).poll_write(context, &self.unsent))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.advance(taken);
            self.must_flush = true;
        }
    }
}

impl<S: Stream> Writer for Sink<S> {
    fn transport(&self) -> Transport {
        Transport::WebSocket
    }

    async fn send(&mut self, frames: &mut Outgoing) -> io::Result<()> {
        self.send_message(BINARY, frames).await
    }

    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        match ready!(self.poll_control(context)) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(error),
        }
    }

    async fn close(&mut self) {
        let closing = async {
            self.send_control().await?;
            if !std::mem::replace(&mut self.has_closed, true) {
                self.stream.write_all(&CLOSE_FRAME).await?;
            }
            self.stream.flush().await
        };
        // This fails if the peer was faster.
        let _ = closing.await;
    }
}

/// Returns a frame's header and its length (RFC 6455, 5.2).
fn header(kind: u8, len_bytes: usize) -> ([u8; 10], usize) {
    let mut header = [0; 10];
    header[0] = kind;
    if let Ok(len_bytes @ ..126) = u8::try_from(len_bytes) {
        header[1] = len_bytes;
        return (header, 2);
    }
    if let Ok(len_bytes) = u16::try_from(len_bytes) {
        header[1] = 126;
        header[2..4].copy_from_slice(&len_bytes.to_be_bytes());
        return (header, 4);
    }
    header[1] = 127;
    header[2..].copy_from_slice(&(len_bytes as u64).to_be_bytes());
    (header, 10)
}

/// Returns whether one of some control frames, which have less than 126 bytes each, is a close frame.
fn has_close(mut frames: &[u8]) -> bool {
    while let [kind, len_bytes, rest @ ..] = frames {
        if *kind == CLOSE {
            return true;
        }
        frames = rest.get(usize::from(*len_bytes)..).unwrap_or_default();
    }
    false
}

fn locked(control: &Mutex<Control>) -> std::sync::MutexGuard<'_, Control> {
    control.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Converts an error of the library.
fn problem(error: tungstenite::Error) -> Problem {
    use tungstenite::Error as Library;
    use tungstenite::error::{CapacityError, ProtocolError};
    match error {
        Library::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
            let (len_bytes, limit_bytes) = (size, max_size);
            Problem::from(FrameError::TooLong {
                len_bytes,
                limit_bytes,
            })
        }
        Library::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Ending::Lost.into(),
        Library::Protocol(_) | Library::Utf8(_) => bad_message(&error.to_string()),
        _ => Ending::Lost.into(),
    }
}

fn bad_message(problem: &str) -> Problem {
    let message = format!("this is no WebSocket of binary messages: {problem}");
    Problem::new(Ending::BadMessage, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_has_the_shortest_form_of_its_length() {
        let check = |len_bytes, expected: &[u8]| {
            let (header, count) = header(BINARY, len_bytes);
            assert_eq!(&header[..count], expected);
        };
        check(0, &[0x82, 0]);
        check(125, &[0x82, 125]);
        check(126, &[0x82, 126, 0, 126]);
        check(65_535, &[0x82, 126, 0xff, 0xff]);
        check(65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_close_frame_is_found_among_answers_to_pings() {
        assert!(!has_close(&[]));
        assert!(!has_close(&[0x8a, 2, CLOSE, CLOSE]));
        assert!(has_close(&[0x8a, 2, 0, 0, CLOSE, 2, 3, 0xe8]));
    }
}
