//! The bare write floor: the CPU time of the writes alone.

use std::io::{IoSlice, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::announce;

/// Writes `bytes` to each of `clients` at every tick until the process ends. A client that cannot take
/// them at once misses some.
pub(crate) fn serve(clients: usize, hz: u32, bytes: usize) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    announce(listener.local_addr()?);
    let mut streams = Vec::with_capacity(clients);
    while streams.len() < clients {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        streams.push(stream);
    }
    let frame = vec![0; bytes];
    let (head, body) = frame.split_at(bytes / 2);
    let start = Instant::now();
    for tick in 1.. {
        let due = start + Duration::from_secs(1) * tick / hz;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        for stream in &mut streams {
            // A full or closed socket is no reason to stop.
            let _ = stream.write_vectored(&[IoSlice::new(head), IoSlice::new(body)]);
        }
    }
    Ok(())
}
