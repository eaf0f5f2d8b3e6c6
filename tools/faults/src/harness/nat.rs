//! A router between a client and the server, whose port for UDP can change or be closed.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use super::proxy::Proxy;

/// Largest packet that is passed on.
const MAX_PACKET_BYTES: usize = 2_048;
/// The pause when there is nothing to pass on.
const PAUSE: Duration = Duration::from_micros(500);

/// A router: TCP passes, and UDP on the same port number does as long as it may. Dropping it closes all.
#[derive(Debug)]
pub(crate) struct Nat {
    tcp: Proxy,
    state: Arc<NatState>,
}

/// What the threads share.
#[derive(Debug, Default)]
struct NatState {
    is_over: AtomicBool,
    is_blocked: AtomicBool,
    /// The number of changes of the port so far.
    changes: AtomicU64,
    /// The longest packet from the server so far.
    longest_bytes: AtomicUsize,
}

impl Nat {
    /// Starts a router in front of a server that has the same port for TCP and UDP.
    pub(crate) fn to(server: SocketAddr) -> Result<Self> {
        let tcp = Proxy::to(server)?;
        let inside = UdpSocket::bind(tcp.address).context("the port is in use for UDP")?;
        inside.set_nonblocking(true)?;
        let outside = outside(server)?;
        let state = Arc::new(NatState::default());
        let for_thread = Arc::clone(&state);
        std::thread::spawn(move || pass_on(&inside, outside, server, &for_thread));
        Ok(Self { tcp, state })
    }

    /// Returns the address that clients connect to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.tcp.address
    }

    /// Sends what follows from another port, and lets nothing in at the old one.
    pub(crate) fn change_port(&self) {
        self.state.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// Lets no UDP through, or lets it through again.
    pub(crate) fn block(&self, is_blocked: bool) {
        self.state.is_blocked.store(is_blocked, Ordering::Relaxed);
    }

    /// Returns the length of the longest packet from the server so far, in bytes without headers.
    pub(crate) fn longest_bytes(&self) -> usize {
        self.state.longest_bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Nat {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Relaxed);
    }
}

fn outside(server: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_nonblocking(true)?;
    socket.connect(server)?;
    Ok(socket)
}

fn pass_on(inside: &UdpSocket, mut outside_now: UdpSocket, server: SocketAddr, state: &NatState) {
    let (mut packet, mut changes, mut client) = ([0; MAX_PACKET_BYTES], 0, None);
    while !state.is_over.load(Ordering::Relaxed) {
        let wanted = state.changes.load(Ordering::Relaxed);
        if wanted != changes
            && let Ok(other) = outside(server)
        {
            (outside_now, changes) = (other, wanted);
        }
        let may_pass = !state.is_blocked.load(Ordering::Relaxed);
        let mut is_idle = true;
        if let Ok((len_bytes, from)) = inside.recv_from(&mut packet) {
            (is_idle, client) = (false, Some(from));
            // What cannot be sent is lost, as on any way.
            let _ = may_pass.then(|| outside_now.send(&packet[..len_bytes]));
        }
        if let Ok(len_bytes) = outside_now.recv(&mut packet) {
            is_idle = false;
            state.longest_bytes.fetch_max(len_bytes, Ordering::Relaxed);
            let client = client.filter(|_| may_pass);
            let _ = client.map(|client| inside.send_to(&packet[..len_bytes], client));
        }
        if is_idle {
            std::thread::sleep(PAUSE);
        }
    }
}
