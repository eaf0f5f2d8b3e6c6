//! Somebody else's transfer over a wire, which fills the buffer of its bottleneck again and again.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use socket2::SockRef;

use super::namespace::Namespace;

/// The port of the other machine, at the server's end of the wire.
const PORT: u16 = 14_901;
/// Half of the time something is transferred.
const PERIOD: Duration = Duration::from_secs(10);
/// More than what a bottleneck holds, so that its buffer fills, and little enough that a pause begins soon
/// after the last write.
const SEND_BUFFER_BYTES: usize = 256 * 1024;
/// The longest wait, after which the end of the run is noticed.
const LONGEST_WAIT: Duration = Duration::from_millis(50);

/// Returns both ends of a connection over the wire to this server: the player's and the server's. The
/// calling thread is in the players' namespace afterwards.
pub(super) fn connect(
    server: SocketAddr,
    [players, servers]: [&Namespace; 2],
) -> Result<[TcpStream; 2]> {
    let address = SocketAddr::new(server.ip(), PORT);
    servers.enter()?;
    let listener = TcpListener::bind(address)?;
    players.enter()?;
    let player = TcpStream::connect(address).context("nothing passes the wire")?;
    let (server, _) = listener.accept()?;
    Ok([player, server])
}

/// Writes as much as possible, half of the time.
pub(super) fn write(mut stream: TcpStream, epoch: Instant, is_over: &AtomicBool) -> Result<()> {
    let bytes = [0; 16 * 1024];
    SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER_BYTES)?;
    stream.set_write_timeout(Some(LONGEST_WAIT))?;
    while !is_over.load(Ordering::Relaxed) {
        let since_start = epoch.elapsed().as_millis() % PERIOD.as_millis();
        if since_start < PERIOD.as_millis() / 2 {
            // It fails while the buffer is full.
            let _ = stream.write(&bytes);
        } else {
            thread::sleep(LONGEST_WAIT);
        }
    }
    Ok(())
}

/// Reads what comes.
pub(super) fn read(mut stream: TcpStream, is_over: &AtomicBool) -> Result<()> {
    let mut bytes = [0; 16 * 1024];
    stream.set_read_timeout(Some(LONGEST_WAIT))?;
    while !is_over.load(Ordering::Relaxed) {
        // It fails while there is nothing.
        let _ = stream.read(&mut bytes);
    }
    Ok(())
}
