//! A light client: it understands welcomes and last words, so that thousands fit.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::BytesMut;
use cubesync_protocol::{ClientMessage, CloseCode, Hello, Message, ServerMessage, Welcome, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::web;

/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;

/// A last word: why, and in how many milliseconds to come back.
pub(crate) type LastWord = (CloseCode, Option<u32>);

/// One connection.
pub(crate) struct Light {
    pub(crate) stream: TcpStream,
    is_websocket: bool,
    raw: BytesMut,
    frames: BytesMut,
}

impl Light {
    /// Connects to the port for clients, or as a WebSocket to the one for pages.
    pub(crate) async fn connect(server: SocketAddr, is_websocket: bool) -> Result<Self> {
        let stream = TcpStream::connect(server).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let mut light = Self {
            stream,
            is_websocket: false,
            raw: BytesMut::new(),
            frames: BytesMut::new(),
        };
        if is_websocket {
            light.upgrade(server).await?;
        }
        Ok(light)
    }

    /// Introduces itself and waits until it is in the room.
    pub(crate) async fn join(&mut self, hello: Hello) -> Result<Welcome> {
        self.send(&ClientMessage::Hello(hello)).await?;
        loop {
            ensure!(self.read().await? > 0, "closed");
            if let Some(payload) = self.next_payload()? {
                match ServerMessage::decode(&payload)? {
                    ServerMessage::Welcome(welcome) => return Ok(welcome),
                    other => bail!("not welcome: {other:?}"),
                }
            }
        }
    }

    async fn upgrade(&mut self, http: SocketAddr) -> Result<()> {
        let request = web::upgrade(http, web::RIGHT_HEADERS);
        self.stream.write_all(request.as_bytes()).await?;
        loop {
            ensure!(self.stream.read_buf(&mut self.raw).await? > 0, "closed");
            if let Some(at) = web::find(&self.raw, b"\r\n\r\n") {
                ensure!(self.raw.starts_with(b"HTTP/1.1 101"), "no WebSocket");
                let _ = self.raw.split_to(at + 4);
                self.is_websocket = true;
                return Ok(());
            }
        }
    }

    /// Sends a message.
    pub(crate) async fn send(&mut self, message: &ClientMessage) -> Result<()> {
        self.send_bytes(&message.to_frame()).await
    }

    /// Sends bytes, in a WebSocket as a message of their own.
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let sent = match self.is_websocket {
            true => {
                self.stream
                    .write_all(&web::ws_frame(web::BINARY, bytes))
                    .await
            }
            false => self.stream.write_all(bytes).await,
        };
        sent.context("cannot send")
    }

    /// Reads what is there; 0 is the end. Cancelling it loses nothing.
    pub(crate) async fn read(&mut self) -> Result<usize> {
        loop {
            self.stream.readable().await?;
            // On the stack between two waits: thousands of clients hold no memory for reading.
            let mut chunk = [0; READ_BYTES];
            match self.stream.try_read(&mut chunk) {
                Ok(count) => {
                    self.raw.extend_from_slice(&chunk[..count]);
                    return Ok(count);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn next_payload(&mut self) -> Result<Option<bytes::Bytes>> {
        if !self.is_websocket {
            self.frames.unsplit(self.raw.split());
        }
        while self.is_websocket
            && let Some((_, payload)) = web::take_ws_frame(&mut self.raw)
        {
            self.frames.extend_from_slice(&payload);
        }
        Ok(frame::split(
            &mut self.frames,
            ServerMessage::MAX_PAYLOAD_BYTES,
        )?)
    }

    /// Takes in what was read, and finds a last word in it.
    pub(crate) fn last_word(&mut self) -> Result<Option<LastWord>> {
        /// `Closing`, as its first byte.
        const CLOSING: u8 = 9;
        while let Some(payload) = self.next_payload()? {
            if payload.first() != Some(&CLOSING) {
                continue;
            }
            if let ServerMessage::Closing {
                code,
                retry_after_ms,
                ..
            } = ServerMessage::decode(&payload)?
            {
                return Ok(Some((code, retry_after_ms)));
            }
        }
        if self.frames.is_empty() {
            self.frames = BytesMut::new();
        }
        Ok(None)
    }

    /// Leaves as one should: closing while bytes are unread would be a reset.
    pub(crate) async fn leave(mut self) -> Result<()> {
        self.send(&ClientMessage::Leave).await?;
        while self.read().await? > 0 {
            self.raw.clear();
        }
        Ok(())
    }

    /// Reads and drops what comes, for so long or to the end, and says which.
    pub(crate) async fn read_for(&mut self, duration: Duration) -> bool {
        let reading = async {
            while self.read().await.is_ok_and(|count| count > 0) {
                self.raw.clear();
            }
        };
        tokio::time::timeout(duration, reading).await.is_ok()
    }
}
