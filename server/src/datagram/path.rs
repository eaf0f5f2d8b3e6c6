//! The paths that are open, and what each knows of its player.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use cubesync_protocol::seal::{DOWN_OVERHEAD_BYTES, Direction, OpenError, Opener, Sealer, path_of};
use cubesync_protocol::{DatagramKey, PathId};
use cubesync_relay::by_address::{Address, network};
use cubesync_relay::datagram::{BURST, DatagramInbox, DatagramPath, MAX_DATAGRAMS_PER_SECOND};
use cubesync_relay::token_bucket::TokenBucket;
use tokio::time::Instant;

use super::metrics::{CountedPath, DatagramMetrics, Opening, Received};
use super::socket::Outgoing;
use super::{lock, random};

/// The open paths by their ids.
#[derive(Debug)]
pub(super) struct Paths {
    open: Mutex<HashMap<PathId, Arc<Path>>>,
    limit: usize,
    metrics: DatagramMetrics,
}

/// One player's path.
#[derive(Debug)]
pub(super) struct Path {
    id: PathId,
    /// The host of the player's stream.
    peer: IpAddr,
    inbox: DatagramInbox,
    intake: Mutex<Intake>,
    outlet: Mutex<Outlet>,
}

/// The receiving side of a path.
#[derive(Debug)]
struct Intake {
    opener: Opener,
    /// The limit on authentic packets. Beyond it none is opened, which would be the dearest part.
    rate: TokenBucket,
}

/// The sending side of a path.
#[derive(Debug)]
struct Outlet {
    sealer: Sealer,
    /// The source of the newest packet, to which datagrams are sent.
    to: Option<SocketAddr>,
    counted: Option<CountedPath>,
}

/// The path as its player's connection holds it; dropping it closes the path.
#[derive(Debug)]
pub(super) struct OpenPath {
    path: Arc<Path>,
    paths: Arc<Paths>,
    outgoing: Outgoing,
}

impl Paths {
    /// Starts without paths, of which there may be `limit`.
    pub(super) fn new(limit: usize, metrics: DatagramMetrics) -> Self {
        Self {
            open: Mutex::default(),
            limit,
            metrics,
        }
    }

    /// Opens a path for the player whose stream comes from `peer`.
    pub(super) fn open(
        &self,
        inbox: DatagramInbox,
        peer: Address,
    ) -> Result<(Arc<Path>, DatagramKey), Opening> {
        let (id, key) = (PathId(u64::from_le_bytes(random())), random());
        let path = Arc::new(Path {
            id,
            peer: network(peer.ip()),
            inbox,
            intake: Mutex::new(Intake {
                opener: Opener::new(key, Direction::Up),
                rate: TokenBucket::per_second(MAX_DATAGRAMS_PER_SECOND, BURST, now()),
            }),
            outlet: Mutex::new(Outlet {
                sealer: Sealer::new(key, id.0, Direction::Down),
                to: None,
                counted: None,
            }),
        });
        let mut open = lock(&self.open);
        if open.len() >= self.limit {
            return Err(Opening::Full);
        }
        open.insert(id, Arc::clone(&path));
        Ok((path, DatagramKey(key)))
    }

    /// Takes a packet to the room of its player, if it is one.
    pub(super) fn receive(&self, packet: &mut [u8], from: SocketAddr) -> Received {
        let Some(id) = path_of(packet) else {
            return Received::Foreign;
        };
        let path = lock(&self.open).get(&PathId(id)).cloned();
        path.map_or(Received::NoPath, |path| path.receive(packet, from, self))
    }

    fn close(&self, id: PathId) {
        lock(&self.open).remove(&id);
    }
}

impl Path {
    pub(super) fn id(&self) -> PathId {
        self.id
    }

    fn receive(&self, packet: &mut [u8], from: SocketAddr, paths: &Paths) -> Received {
        if network(from.ip()) != self.peer {
            return Received::OtherHost;
        }
        let mut intake = lock(&self.intake);
        let Intake { opener, rate } = &mut *intake;
        let now = now();
        if !rate.holds(1, now) {
            return Received::Refused;
        }
        let opened = match opener.open(packet) {
            Ok(opened) => opened,
            Err(OpenError::Malformed) => return Received::Foreign,
            Err(OpenError::Forged) => return Received::Forged,
            Err(OpenError::Replayed) => return Received::Replayed,
        };
        // Only the player's own packets take tokens; forged ones count as strangers'.
        rate.take(1, now);
        drop(intake);
        if opened.is_newest {
            let mut outlet = lock(&self.outlet);
            outlet.to = Some(from);
            let counted = || CountedPath::new(&paths.metrics.paths);
            outlet.counted.get_or_insert_with(counted);
        }
        match self.inbox.deliver(opened.datagram) {
            true => Received::Taken,
            false => Received::Refused,
        }
    }

    /// Seals a datagram for the player, whose address is known once something has come from there.
    fn seal(&self, datagram: &[u8]) -> Option<(Vec<u8>, SocketAddr)> {
        let mut packet = Vec::with_capacity(datagram.len() + DOWN_OVERHEAD_BYTES);
        let mut outlet = lock(&self.outlet);
        let to = outlet.to?;
        outlet.sealer.seal(datagram, &mut packet).ok()?;
        Some((packet, to))
    }
}

impl OpenPath {
    pub(super) fn new(path: Arc<Path>, paths: &Arc<Paths>, outgoing: &Outgoing) -> Self {
        Self {
            path,
            paths: Arc::clone(paths),
            outgoing: outgoing.clone(),
        }
    }
}

impl DatagramPath for OpenPath {
    fn send(&self, datagram: &[u8]) -> bool {
        let sealed = self.path.seal(datagram);
        sealed.is_some_and(|(packet, to)| self.outgoing.send(&packet, to))
    }
}

impl Drop for OpenPath {
    fn drop(&mut self) {
        self.paths.close(self.path.id);
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use cubesync_protocol::datagram::Uplink;
    use cubesync_relay::budget::{Budget, Budgets, WorkLimits};
    use cubesync_relay::metrics::MetricSet;
    use tokio::net::UdpSocket;

    use super::*;

    const PLAYER: &str = "192.0.2.1:1000";
    const NAT_CHANGED: &str = "192.0.2.1:2000";
    const ELSEWHERE: &str = "192.0.2.9:1000";

    /// A path, and the other end of it.
    struct Pair {
        paths: Arc<Paths>,
        path: OpenPath,
        sealer: Sealer,
        delivered: Arc<AtomicUsize>,
    }

    fn inbox(delivered: &Arc<AtomicUsize>) -> DatagramInbox {
        let delivered = Arc::clone(delivered);
        DatagramInbox::new(move |_| {
            delivered.fetch_add(1, Ordering::Relaxed);
            true
        })
    }

    async fn pair() -> Pair {
        let metrics = DatagramMetrics::new(&MetricSet::default());
        pair_of(&Arc::new(Paths::new(1, metrics)), None).await
    }

    async fn pair_of(paths: &Arc<Paths>, budget: Option<Budget>) -> Pair {
        let (paths, metrics) = (Arc::clone(paths), paths.metrics.clone());
        let delivered = Arc::default();
        let peer = PLAYER.parse::<SocketAddr>().unwrap().ip();
        let inbox = inbox(&delivered).within(budget);
        let (path, key) = paths.open(inbox, peer.into()).unwrap();
        let sealer = Sealer::new(key.0, path.id.0, Direction::Up);
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let path = OpenPath::new(path, &paths, &Outgoing::new(&socket, metrics));
        Pair {
            paths,
            path,
            sealer,
            delivered,
        }
    }

    impl Pair {
        fn packet(&mut self) -> Vec<u8> {
            let uplink = Uplink::default();
            let mut packet = Vec::new();
            self.sealer.seal(&uplink.encode(), &mut packet).unwrap();
            packet
        }

        fn receive(&self, packet: &[u8], from: &str) -> Received {
            let from = from.parse().unwrap();
            self.paths.receive(&mut packet.to_vec(), from)
        }

        /// Returns where datagrams would be sent.
        fn to(&self) -> Option<String> {
            let (_, to) = self.path.path.seal(b"datagram")?;
            Some(to.to_string())
        }
    }

    #[tokio::test]
    async fn nothing_is_sent_before_the_players_host_has_sent_an_authentic_packet() {
        let mut pair = pair().await;
        let packet = pair.packet();
        assert!(!pair.path.send(b"datagram"));
        let mut forged = packet.clone();
        *forged.last_mut().unwrap() ^= 1;
        for (packet, from, outcome) in [
            (&b"garbage"[..], PLAYER, Received::Foreign),
            (&[0x40; 40], PLAYER, Received::NoPath),
            (&forged, PLAYER, Received::Forged),
            (&packet[..12], PLAYER, Received::Foreign),
            // Sealed by the player, but not sent from its host: a false sender's address.
            (&packet, ELSEWHERE, Received::OtherHost),
        ] {
            assert_eq!(pair.receive(packet, from), outcome);
            assert_eq!(pair.to(), None, "{outcome:?}");
        }
        assert_eq!(pair.receive(&packet, PLAYER), Received::Taken);
        assert_eq!(pair.to().as_deref(), Some(PLAYER));
        assert_eq!(pair.delivered.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn the_port_follows_the_newest_packet_and_no_replayed_or_older_one() {
        let mut pair = pair().await;
        let [first, late, newest] = [(); 3].map(|()| pair.packet());
        assert_eq!(pair.receive(&first, PLAYER), Received::Taken);
        assert_eq!(pair.receive(&newest, NAT_CHANGED), Received::Taken);
        assert_eq!(pair.to().as_deref(), Some(NAT_CHANGED));
        assert_eq!(pair.receive(&first, PLAYER), Received::Replayed);
        assert_eq!(pair.receive(&late, PLAYER), Received::Taken);
        assert_eq!(pair.to().as_deref(), Some(NAT_CHANGED));
        assert_eq!(pair.delivered.load(Ordering::Relaxed), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_player_who_sends_too_much_costs_no_cryptography_and_others_are_listened_to() {
        let metrics = DatagramMetrics::new(&MetricSet::default());
        let paths = Arc::new(Paths::new(2, metrics));
        let (mut flooding, mut other) = (pair_of(&paths, None).await, pair_of(&paths, None).await);
        let mut forged = flooding.packet();
        *forged.last_mut().unwrap() ^= 1;
        for _ in 0..1_000 {
            assert_eq!(flooding.receive(&forged, PLAYER), Received::Forged);
        }
        let mut seen = Received::Taken;
        for _ in 0..1_000 {
            let packet = flooding.packet();
            seen = flooding.receive(&packet, PLAYER);
        }
        assert_eq!(seen, Received::Refused);
        let delivered = flooding.delivered.load(Ordering::Relaxed);
        // Strangers who forge packets have taken none of what the player may send.
        assert!((500..=512).contains(&delivered), "{delivered}");
        // Nobody has looked whether this one is authentic.
        assert_eq!(flooding.receive(&forged, PLAYER), Received::Refused);

        let packet = other.packet();
        assert_eq!(other.receive(&packet, PLAYER), Received::Taken);
        tokio::time::advance(BURST).await;
        let packet = flooding.packet();
        assert_eq!(flooding.receive(&packet, PLAYER), Received::Taken);
    }

    #[tokio::test(start_paused = true)]
    async fn all_players_of_one_address_share_its_budget() {
        let set = MetricSet::default();
        let paths = Arc::new(Paths::new(9, DatagramMetrics::new(&set)));
        let messages = NonZeroU32::new(600).unwrap();
        let bytes = NonZeroU32::MAX;
        let budgets = Budgets::new(WorkLimits { messages, bytes }, &set);
        let peer = PLAYER.parse::<SocketAddr>().unwrap().ip();
        let mut taken = 0;
        for _ in 0..4 {
            let mut player = pair_of(&paths, budgets.of(peer.into())).await;
            for _ in 0..500 {
                let packet = player.packet();
                let outcome = player.receive(&packet, PLAYER);
                taken += usize::from(outcome == Received::Taken);
            }
        }
        assert_eq!(taken, 1_200, "two seconds' worth");
    }

    #[tokio::test]
    async fn paths_are_limited_and_closing_one_makes_room() {
        let mut pair = pair().await;
        let first = pair.packet();
        let (packet, delivered) = (pair.packet(), Arc::default());
        let peer = Address::from(IpAddr::from([192, 0, 2, 1]));
        let full = pair.paths.open(inbox(&delivered), peer);
        assert_eq!(full.unwrap_err(), Opening::Full);
        let paths = Arc::clone(&pair.paths);
        // A path counts once something authentic has come by it.
        assert_eq!(paths.metrics.paths.get(), 0);
        assert_eq!(pair.receive(&[0x40; 40], PLAYER), Received::NoPath);
        assert_eq!(paths.metrics.paths.get(), 0);
        for packet in [&first, &pair.packet()] {
            assert_eq!(pair.receive(packet, PLAYER), Received::Taken);
            assert_eq!(paths.metrics.paths.get(), 1);
        }
        drop(pair.path);
        assert_eq!(paths.metrics.paths.get(), 0);
        let late = paths.receive(&mut packet.clone(), PLAYER.parse().unwrap());
        assert_eq!(late, Received::NoPath);
        assert!(paths.open(inbox(&delivered), peer).is_ok());
    }

    /// The part of a player's memory that is this module's; the inbox and the room have a few hundred
    /// bytes more.
    #[test]
    fn a_path_takes_half_a_kilobyte() {
        let per_player =
            size_of::<Path>() + size_of::<OpenPath>() + 2 * size_of::<(PathId, usize)>();
        assert!(per_player <= 512, "{per_player} bytes");
    }
}
