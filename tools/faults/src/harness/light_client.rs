//! A light client: it decodes only `Welcome` and `Closing`, so that thousands fit into one process.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use bytes::BytesMut;
use cubesync_protocol::{ClientMessage, CloseCode, Hello, Message, ServerMessage, Welcome, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::websocket;

/// Largest number of bytes read at once.
const READ_BYTES: usize = 16 * 1024;

/// The code of a `Closing`, and in how many milliseconds to come back.
pub(crate) type Closing = (CloseCode, Option<u32>);

/// One connection of a light client.
pub(crate) struct LightClient {
    pub(crate) stream: TcpStream,
    is_websocket: bool,
    raw: BytesMut,
    frames: BytesMut,
}

impl LightClient {
    /// Connects to the address for clients, or over a WebSocket to the one for pages.
    pub(crate) async fn connect(server: SocketAddr, is_websocket: bool) -> Result<Self> {
        let stream = TcpStream::connect(server).await.context("cannot connect")?;
        Self::over(stream, server, is_websocket).await
    }

    /// Takes a connection to the address for clients, or to the one for pages for a WebSocket over it.
    pub(crate) async fn over(
        stream: TcpStream,
        server: SocketAddr,
        is_websocket: bool,
    ) -> Result<Self> {
        stream.set_nodelay(true)?;
        let mut client = Self {
            stream,
            is_websocket: false,
            raw: BytesMut::new(),
            frames: BytesMut::new(),
        };
        if is_websocket {
            client.upgrade(server).await?;
        }
        Ok(client)
    }

    /// Sends `hello` and waits for the `Welcome`.
    pub(crate) async fn join(&mut self, hello: Hello) -> Result<Welcome> {
        self.send(&ClientMessage::Hello(hello)).await?;
        self.find(|message| match message {
            ServerMessage::Welcome(welcome) => Some(Ok(welcome.clone())),
            other => Some(Err(anyhow!("not welcome: {other:?}"))),
        })
        .await?
    }

    /// Returns the first value that `wanted` finds in a message.
    pub(crate) async fn find<T>(
        &mut self,
        wanted: impl Fn(&ServerMessage) -> Option<T>,
    ) -> Result<T> {
        loop {
            while let Some(payload) = self.next_payload()? {
                if let Some(found) = wanted(&ServerMessage::decode(&payload)?) {
                    return Ok(found);
                }
            }
            ensure!(self.read().await? > 0, "closed");
        }
    }

    async fn upgrade(&mut self, http: SocketAddr) -> Result<()> {
        let request = websocket::upgrade(http, websocket::RIGHT_HEADERS);
        self.stream.write_all(request.as_bytes()).await?;
        loop {
            ensure!(self.stream.read_buf(&mut self.raw).await? > 0, "closed");
            if let Some(at) = websocket::find(&self.raw, b"\r\n\r\n") {
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

    /// Sends bytes, over a WebSocket as a message of their own.
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let sent = match self.is_websocket {
            true => {
                self.stream
                    .write_all(&websocket::ws_frame(websocket::BINARY, bytes))
                    .await
            }
            false => self.stream.write_all(bytes).await,
        };
        sent.context("cannot send")
    }

    /// Reads what has arrived and returns its length; 0 is the end. Cancelling it loses nothing.
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
            && let Some((_, payload)) = websocket::take_ws_frame(&mut self.raw)
        {
            self.frames.extend_from_slice(&payload);
        }
        Ok(frame::split(
            &mut self.frames,
            ServerMessage::MAX_PAYLOAD_BYTES,
        )?)
    }

    /// Consumes what was read, and returns the `Closing` in it.
    pub(crate) fn closing(&mut self) -> Result<Option<Closing>> {
        /// The first byte of a `Closing`.
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

    /// Leaves and reads to the end: closing while bytes are unread would be a reset.
    pub(crate) async fn leave(mut self) -> Result<()> {
        self.send(&ClientMessage::Leave).await?;
        while self.read().await? > 0 {
            self.raw.clear();
        }
        Ok(())
    }

    /// Reads and drops what arrives for `duration`. Returns whether the connection ended meanwhile.
    pub(crate) async fn read_for(&mut self, duration: Duration) -> bool {
        let reading = async {
            while self.read().await.is_ok_and(|count| count > 0) {
                self.raw.clear();
            }
        };
        tokio::time::timeout(duration, reading).await.is_ok()
    }
}
