//! A proxy in front of a server that delays everything.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Result;

/// How often a connection checks whether the proxy has ended.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// Largest number of bytes that are passed on at once.
const CHUNK_BYTES: usize = 16 * 1024;
/// Largest number of waiting chunks.
const WAITING: usize = 4_096;

/// A listener that passes everything on after a delay. Dropping it closes all connections.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// The address of the proxy.
    pub(crate) address: SocketAddr,
    state: Arc<ProxyState>,
}

/// The settings that the threads share.
#[derive(Debug, Default)]
struct ProxyState {
    delay_ms: AtomicU64,
    is_over: AtomicBool,
}

impl Proxy {
    /// Starts a proxy in front of `server`.
    pub(crate) fn to(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let state = Arc::new(ProxyState::default());
        let for_thread = Arc::clone(&state);
        std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                if for_thread.is_over.load(Ordering::Relaxed) {
                    return;
                }
                // Without a server the connection ends.
                if let Ok(server) = TcpStream::connect(server) {
                    let _ = both_ways(&client, &server, &for_thread);
                }
            }
        });
        Ok(Self { address, state })
    }

    /// Sets the delay of each direction.
    pub(crate) fn delay(&self, each_way: Duration) {
        let milliseconds = u64::try_from(each_way.as_millis()).unwrap_or(u64::MAX);
        self.state.delay_ms.store(milliseconds, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Relaxed);
        // This wakes the listener up.
        let _ = TcpStream::connect(self.address);
    }
}

fn both_ways(a: &TcpStream, b: &TcpStream, state: &Arc<ProxyState>) -> std::io::Result<()> {
    for (from, to) in [(a, b), (b, a)] {
        from.set_nodelay(true)?;
        from.set_read_timeout(Some(CHECK_INTERVAL))?;
        let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
        let (sender, receiver) = mpsc::sync_channel::<(Instant, Vec<u8>)>(WAITING);
        let state = Arc::clone(state);
        std::thread::spawn(move || {
            let mut chunk = vec![0; CHUNK_BYTES];
            while !state.is_over.load(Ordering::Relaxed) {
                match from.read(&mut chunk) {
                    Ok(0) => return,
                    Ok(count) => {
                        let delay = Duration::from_millis(state.delay_ms.load(Ordering::Relaxed));
                        let chunk = (Instant::now() + delay, chunk[..count].to_vec());
                        if sender.send(chunk).is_err() {
                            return;
                        }
                    }
                    Err(error)
                        if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    Err(_) => return,
                }
            }
        });
        std::thread::spawn(move || {
            for (due, bytes) in receiver {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                if to.write_all(&bytes).is_err() {
                    break;
                }
            }
            // This ends the connection in both directions.
            let _ = to.shutdown(std::net::Shutdown::Both);
        });
    }
    Ok(())
}
