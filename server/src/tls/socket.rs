//! The stream under a TLS connection, with limits on what rustls reads: it decrypts records of which nobody
//! above it hears anything.

use std::io::{self, IoSlice};
use std::num::NonZeroU32;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use cubesync_relay::session::tcp;
use cubesync_relay::token_bucket::TokenBucket;

/// Largest number of bytes that a peer sends for a handshake. A browser's with a key that withstands quantum
/// computers has 2 KiB, and a ticket adds one. The library would keep a message of 64 KiB.
const MAX_HANDSHAKE_BYTES: usize = 16 * 1024;

/// Encrypted bytes that may come for each byte that a client may send. Messages of the game become half as
/// long again; a record without content has 22 bytes, and one with a single byte has 23.
const ENCRYPTED_BYTES_EACH: NonZeroU32 = NonZeroU32::new(2).expect("it is not zero");

/// A burst is what may come in this time, as for the bytes within.
const BURST: Duration = Duration::from_secs(2);

/// The TCP stream under a TLS connection.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: tcp::Socket,
    intake: Intake,
}

/// What may be read.
#[derive(Debug)]
enum Intake {
    /// So many more bytes for the handshake.
    Handshake { left_bytes: usize },
    /// As many bytes as the bucket earns.
    Paced {
        bucket: TokenBucket,
        /// Ends when the bucket has earned what was read. What comes meanwhile waits in the kernel, and then at
        /// the peer.
        pause: Option<Pin<Box<Sleep>>>,
    },
}

impl Intake {
    /// Waits until something may be read.
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Self::Paced { pause, .. } = self
            && let Some(paused) = pause
        {
            ready!(paused.as_mut().poll(context));
            *pause = None;
        }
        Poll::Ready(())
    }

    /// Counts bytes that were read.
    ///
    /// # Errors
    /// The handshake is too long.
    fn count(&mut self, bytes: usize) -> io::Result<()> {
        match self {
            Self::Handshake { left_bytes } => {
                let left = left_bytes.checked_sub(bytes);
                *left_bytes = left.ok_or_else(|| io::Error::other("the handshake is too long"))?;
            }
            Self::Paced { bucket, pause } => {
                let count = u32::try_from(bytes).unwrap_or(u32::MAX);
                let now = Instant::now();
                let until = bucket.overdraw(count, now.into_std()).into();
                *pause = (until > now).then(|| Box::pin(sleep_until(until)));
            }
        }
        Ok(())
    }
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream: tcp::Socket::new(stream),
            intake: Intake::Handshake {
                left_bytes: MAX_HANDSHAKE_BYTES,
            },
        }
    }

    /// Notes that the handshake is complete, and what a client may send in a second, unencrypted.
    pub(super) fn has_shaken_hands(&mut self, max_bytes: NonZeroU32) {
        let rate = max_bytes.saturating_mul(ENCRYPTED_BYTES_EACH);
        self.intake = Intake::Paced {
            bucket: TokenBucket::per_second(rate, BURST, Instant::now().into_std()),
            pause: None,
        };
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.intake.poll_ready(context));
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let count = buffer.filled().len() - before;
        Poll::Ready(self.intake.count(count))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A socket, and the peer's end.
    async fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (peer, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        (Socket::new(accepted.unwrap().0), peer.unwrap())
    }

    #[tokio::test]
    async fn a_handshake_has_a_longest_length() {
        let (mut socket, mut peer) = pair().await;
        peer.write_all(&[0; MAX_HANDSHAKE_BYTES]).await.unwrap();
        let mut read = vec![0; MAX_HANDSHAKE_BYTES];
        socket.read_exact(&mut read).await.unwrap();
        peer.write_all(&[0]).await.unwrap();
        let error = socket.read_u8().await.unwrap_err();
        assert_eq!(error.to_string(), "the handshake is too long");
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_its_rate_is_read_later() {
        const MAX_BYTES: NonZeroU32 = NonZeroU32::new(4_096).unwrap();
        const SECONDS: usize = 10;
        let (mut socket, mut peer) = pair().await;
        socket.has_shaken_hands(MAX_BYTES);
        let rate = (MAX_BYTES.get() * ENCRYPTED_BYTES_EACH.get()) as usize;
        let flood = vec![7; rate * SECONDS];
        let writing = tokio::spawn(async move { peer.write_all(&flood).await });
        let began = Instant::now();
        let mut chunk = [0; 4_096];
        let mut read = 0;
        while read < rate * SECONDS {
            read += socket.read(&mut chunk).await.unwrap();
        }
        writing.await.unwrap().unwrap();
        // What was read last is paid for by the next read.
        let longest = (SECONDS * rate - chunk.len()) / rate;
        let least = Duration::from_secs(longest as u64) - BURST;
        assert!(began.elapsed() >= least, "{:?}", began.elapsed());
    }
}
