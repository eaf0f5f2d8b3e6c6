//! A naive relay: two tasks per connection, a broadcast channel, one write per update.

use std::sync::Arc;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::broadcast::{self, error::RecvError};

use super::{BROADCAST_CAPACITY, listen};
use crate::payload::Update;
use crate::peers::Framing;
use crate::peers::naive::Naive;

/// Longest message, in bytes.
const MAX_MESSAGE_BYTES: usize = 64;

/// Serves until the process ends.
pub(crate) async fn serve() -> Result<()> {
    let listener = listen().await?;
    let (updates, _) = broadcast::channel(BROADCAST_CAPACITY);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        // A connection that breaks ends its tasks, and nobody needs to know.
        tokio::spawn(read(reader, updates.clone()));
        tokio::spawn(write(writer, updates.subscribe()));
    }
}

async fn read(reader: OwnedReadHalf, updates: broadcast::Sender<Arc<[u8]>>) -> Result<()> {
    let mut reader = BufReader::new(reader);
    let mut payload = [0; MAX_MESSAGE_BYTES];
    let mut frame = Vec::new();
    loop {
        let len_bytes = reader.read_u32().await? as usize;
        let Some(payload) = payload.get_mut(..len_bytes) else {
            return Ok(());
        };
        reader.read_exact(payload).await?;
        frame.clear();
        Naive.append(&Update::from_bincode(payload)?, &mut frame);
        // Fails only when nobody is there.
        let _ = updates.send(Arc::from(&frame[..]));
    }
}

async fn write(
    mut writer: OwnedWriteHalf,
    mut updates: broadcast::Receiver<Arc<[u8]>>,
) -> Result<()> {
    loop {
        match updates.recv().await {
            Ok(frame) => writer.write_all(&frame).await?,
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return Ok(()),
        }
    }
}
