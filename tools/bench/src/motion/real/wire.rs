//! A wire between two network namespaces: a TUN device at each end, and whole IP packets in between.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use tappers::{Interface, Tun};

use super::conditions::Conditions;
use super::link::{Flow, Link};
use super::namespace::{Namespace, ip};

/// The server's port for players.
pub(super) const GAME_PORT: u16 = 14_900;
/// More than the largest packet: TUN devices take 1,500 bytes.
const PACKET_BYTES: usize = 2_048;
/// The longest wait for packets, after which the end of the run is noticed.
const LONGEST_WAIT: Duration = Duration::from_millis(50);

/// A wire from a player to the server. Its TUN devices vanish with it.
pub(super) struct Wire {
    /// The server's address for the player at this wire.
    pub(super) server: SocketAddr,
    /// The devices of the player and of the server.
    ends: [Tun; 2],
    /// From the player to the server, and back.
    links: [Link; 2],
    /// The bytes of the game's packets that were sent from each end, with their IP headers, and
    /// whether they were lost or not.
    pub(super) game_bytes: Arc<[AtomicU64; 2]>,
}

impl Wire {
    /// Lays a wire between the namespaces of the players and of the server. Several wires between the
    /// same namespaces differ by their number.
    pub(super) fn new(
        number: u8,
        namespaces: [&Namespace; 2],
        conditions: Conditions,
        congestion_control: &str,
        seed: u64,
    ) -> Result<Self> {
        let name = format!("wire{number}");
        let addresses = [1, 2].map(|host| Ipv4Addr::new(10, 77, number, host));
        let end = |index: usize| -> Result<Tun> {
            namespaces[index].enter()?;
            let mut tun = Tun::new_named(Interface::new(&name)?)
                .context("cannot make a TUN device with /dev/net/tun")?;
            tun.set_nonblocking(true)?;
            let address = addresses[index];
            ip(&format!("address add {address}/24 dev {name}"))?;
            ip(&format!("link set {name} up"))?;
            // By route, because a namespace may not choose a restricted one as its default.
            ip(&format!(
                "route replace 10.77.{number}.0/24 dev {name} src {address} congctl {congestion_control}"
            ))?;
            Ok(tun)
        };
        let ends = [end(0)?, end(1)?];
        let mut seeds = fastrand::Rng::with_seed(seed << 8 | u64::from(number));
        let links = [(); 2].map(|()| Link::new(conditions, seeds.u64(..)));
        Ok(Self {
            server: (addresses[1], GAME_PORT).into(),
            ends,
            links,
            game_bytes: Arc::default(),
        })
    }

    /// Takes the packets that were sent from an end.
    fn take(&mut self, end: usize, epoch: Instant) {
        let mut buffer = [0; PACKET_BYTES];
        while let Ok(len_bytes) = self.ends[end].recv(&mut buffer) {
            let packet = &buffer[..len_bytes];
            if let Some(flow) = Flow::of(packet) {
                if flow.ports.contains(&GAME_PORT) {
                    self.game_bytes[end].fetch_add(len_bytes as u64, Ordering::Relaxed);
                }
                self.links[end].take(epoch.elapsed(), flow, packet);
            }
        }
    }

    /// Delivers the packets that have arrived at an end, and returns how late the first one is.
    fn deliver(&mut self, end: usize, epoch: Instant) -> Duration {
        let link = &mut self.links[1 - end];
        let due = link.next_arrival().unwrap_or(Duration::MAX);
        let late = epoch.elapsed().saturating_sub(due);
        while let Some(packet) = link.next_arrived(epoch.elapsed()) {
            // A full queue of the kernel's loses the packet, as other queues do.
            let _ = self.ends[end].send(&packet);
        }
        late
    }
}

/// Carries packets until the run is over, and returns how late the latest one was delivered.
pub(super) fn carry(wires: &mut [Wire], epoch: Instant, is_over: &AtomicBool) -> Result<Duration> {
    let mut latest = Duration::ZERO;
    while !is_over.load(Ordering::Relaxed) {
        for wire in &mut *wires {
            for end in [0, 1] {
                latest = latest.max(wire.deliver(end, epoch));
            }
        }
        let arrivals = wires.iter().flat_map(|wire| &wire.links);
        let next = arrivals.filter_map(Link::next_arrival).min();
        let wait = next.map_or(LONGEST_WAIT, |at| at.saturating_sub(epoch.elapsed()));
        let ends = wires.iter().flat_map(|wire| &wire.ends);
        let mut polled: Vec<_> = ends
            .map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN))
            .collect();
        let wait = TimeSpec::from_duration(wait.min(LONGEST_WAIT));
        // Ctrl-C may interrupt it.
        if let Err(error) = ppoll(&mut polled, Some(wait), None)
            && error != Errno::EINTR
        {
            return Err(error).context("cannot wait for packets");
        }
        drop(polled);
        for wire in &mut *wires {
            for end in [0, 1] {
                wire.take(end, epoch);
            }
        }
    }
    Ok(latest)
}
