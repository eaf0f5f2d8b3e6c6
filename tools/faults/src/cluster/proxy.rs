//! A way to a nats-server that can be made long.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Result;

/// How often a way that is closed is noticed.
const LOOK: Duration = Duration::from_millis(100);
/// What is carried at once.
const CHUNK_BYTES: usize = 16 * 1024;
/// Chunks that wait at most.
const WAITING: usize = 4_096;

/// A listener that passes everything on, later. Dropping it closes all ways.
#[derive(Debug)]
pub(super) struct Proxy {
    /// Where to connect.
    pub(super) address: SocketAddr,
    way: Arc<Way>,
}

#[derive(Debug, Default)]
struct Way {
    delay_ms: AtomicU64,
    is_over: AtomicBool,
}

impl Proxy {
    /// In front of a server.
    pub(super) fn to(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let way = Arc::new(Way::default());
        let for_thread = Arc::clone(&way);
        std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                if for_thread.is_over.load(Ordering::Relaxed) {
                    return;
                }
                // Who comes while the server is away is cut off.
                if let Ok(server) = TcpStream::connect(server) {
                    let _ = both_ways(&client, &server, &for_thread);
                }
            }
        });
        Ok(Self { address, way })
    }

    /// From now on each way takes so long.
    pub(super) fn delay(&self, each_way: Duration) {
        let milliseconds = u64::try_from(each_way.as_millis()).unwrap_or(u64::MAX);
        self.way.delay_ms.store(milliseconds, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.way.is_over.store(true, Ordering::Relaxed);
        // It wakes up the listener.
        let _ = TcpStream::connect(self.address);
    }
}

fn both_ways(a: &TcpStream, b: &TcpStream, way: &Arc<Way>) -> std::io::Result<()> {
    for (from, to) in [(a, b), (b, a)] {
        from.set_nodelay(true)?;
        from.set_read_timeout(Some(LOOK))?;
        let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
        let (sender, receiver) = mpsc::sync_channel::<(Instant, Vec<u8>)>(WAITING);
        let way = Arc::clone(way);
        std::thread::spawn(move || {
            let mut chunk = vec![0; CHUNK_BYTES];
            while !way.is_over.load(Ordering::Relaxed) {
                match from.read(&mut chunk) {
                    Ok(0) => return,
                    Ok(count) => {
                        let delay = Duration::from_millis(way.delay_ms.load(Ordering::Relaxed));
                        let letter = (Instant::now() + delay, chunk[..count].to_vec());
                        if sender.send(letter).is_err() {
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
            // The other end is told, and so is the other way.
            let _ = to.shutdown(std::net::Shutdown::Both);
        });
    }
    Ok(())
}
