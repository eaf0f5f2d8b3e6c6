//! Bad networks and strangers on the port for datagrams.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cubesync_client::protocol::{Pose, Position};
use cubesync_client::{Client, ClientOptions, Statistics, Status};
use cubesync_protocol::datagram::Uplink;
use cubesync_protocol::seal::{Direction, Sealer};
use cubesync_protocol::{ClientMessage, DatagramAnswer, DatagramRequest, PathId, ServerMessage};

use crate::fault::{Fault, Outcome};
use crate::harness::crowd::{Behaviour, Crowd, CrowdPlan};
use crate::harness::nat::Nat;
use crate::harness::peer::Peer;
use crate::harness::trial::{PATIENCE, Trial};

/// Bytes of UDP that the smallest MTU of IPv6 holds (RFC 8200): 1,280 without IPv6's and UDP's headers.
const SMALLEST_MTU_BYTES: usize = 1_280 - 40 - 8;
/// Strangers' packets that are sent before the sender looks at the clock again: each kind of packet from
/// each address.
const BURST: usize = 5 * 64;

pub(crate) const FAULTS: &[Fault] = &[
    Fault::new(
        "datagram-flood",
        &["udp foreign", "udp no_path", "udp forged", "udp other_host"],
        flood,
    ),
    Fault::new("datagram-replays", &["udp replayed"], replays),
    Fault::new("datagram-port-changes", &[], port_changes),
    Fault::new("datagram-blocked-halfway", &[], blocked_halfway),
    Fault::new("datagram-mtu-1280", &[], smallest_mtu),
];

/// A player's path for datagrams, with which one can do what no player does.
struct Path {
    id: PathId,
    sealer: Sealer,
}

impl Path {
    fn open(peer: &mut Peer) -> Result<Self> {
        peer.send(&ClientMessage::OpenDatagrams(DatagramRequest::Udp))?;
        let answer = peer.find(PATIENCE, |message| match message {
            ServerMessage::Datagrams(answer) => Some(answer.clone()),
            _ => None,
        })?;
        let DatagramAnswer::Udp { path, key, .. } = answer else {
            bail!("the server has no datagrams: {answer:?}");
        };
        Ok(Self {
            id: path,
            sealer: Sealer::new(key.0, path.0, Direction::Up),
        })
    }

    /// Returns the next packet, which holds no samples.
    fn packet(&mut self) -> Result<Vec<u8>> {
        let uplink = Uplink::default();
        let mut packet = Vec::new();
        self.sealer.seal(&uplink.encode(), &mut packet)?;
        Ok(packet)
    }
}

/// A socket on one of this machine's addresses, which stands for a false sender's address.
fn socket(source: IpAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((source, 0))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Fails if a socket has received anything.
fn is_unanswered(socket: &UdpSocket) -> Result<()> {
    let answer = socket.recv(&mut [0; 2_048]);
    ensure!(
        answer.is_err(),
        "a stranger got an answer of {answer:?} bytes"
    );
    Ok(())
}

/// Sends garbage, packets of no path and forged ones from many addresses, as fast as possible.
fn flood(trial: &mut Trial<'_>) -> Result<Outcome> {
    let lasts = trial.pick(Duration::from_secs(1), Duration::from_secs(5));
    let (mut player, _) = trial.player("flooded")?;
    let mut path = Path::open(&mut player)?;
    let mut forged = path.packet()?;
    *forged.last_mut().context("it is not empty")? ^= 1;
    let mut no_path = forged.clone();
    no_path[1..9].copy_from_slice(&(path.id.0 ^ 1).to_le_bytes());
    let garbage = vec![0xFF; 1_200];
    let packets = [&garbage[..], &no_path, &forged, &[], &[0x40; 12]];
    let addresses = (1..=64).map(|last| Ipv4Addr::new(127, 0, 0, last).into());
    let sockets: Vec<UdpSocket> = addresses.map(socket).collect::<Result<_>>()?;
    let process = trial.server.process();
    let (began, cpu, mut sent) = (Instant::now(), process.cpu()?, 0_u64);
    while began.elapsed() < lasts {
        let senders = sockets.iter().cycle().zip(packets.iter().cycle());
        for (socket, packet) in senders.take(BURST) {
            // A full buffer is as good as a packet.
            sent += u64::from(socket.send_to(packet, trial.server.tcp).is_ok());
        }
    }
    let busy = (process.cpu()? - cpu).as_secs_f64() / lasts.as_secs_f64();
    for socket in &sockets {
        is_unanswered(socket)?;
    }
    player.leave()?;
    let (per_s, percent) = (sent as f64 / lasts.as_secs_f64(), 100.0 * busy);
    Ok(Outcome::at_least(
        1_000,
        format!("no answer to {per_s:.0} packets a second; server at {percent:.0} % of a core"),
    ))
}

/// Sends a player's packets again, from its own port and from another one.
fn replays(trial: &mut Trial<'_>) -> Result<Outcome> {
    let count = trial.pick(1_000, 20_000);
    let (mut player, _) = trial.player("replayed")?;
    let mut path = Path::open(&mut player)?;
    let [own, thief] = [(); 2].map(|()| socket(Ipv4Addr::LOCALHOST.into()));
    let (own, thief) = (own?, thief?);
    let server = trial.server.tcp;
    let packets: Vec<_> = (0..50).map(|_| path.packet()).collect::<Result<_>>()?;
    for packet in &packets {
        own.send_to(packet, server)?;
    }
    let received = |socket: &UdpSocket| socket.recv(&mut [0; 2_048]).is_ok();
    let is_open = cubesync_harness::wait::comes_true(PATIENCE, || received(&own));
    ensure!(is_open, "the path does not open");
    for (packet, number) in packets.iter().cycle().zip(0..count) {
        thief.send_to(packet, server)?;
        if number % 20 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    while received(&own) {}
    let goes_on = cubesync_harness::wait::comes_true(PATIENCE, || received(&own));
    ensure!(goes_on, "the player's datagrams have stopped");
    is_unanswered(&thief)?;
    player.leave()?;
    Ok(Outcome::at_least(
        count / 2,
        format!("nothing, after {count} replays; the player's datagrams went on"),
    ))
}

/// A walking client behind a router.
struct Walker {
    client: Client,
    nat: Nat,
    start: Instant,
}

impl Walker {
    fn join(server: SocketAddr) -> Result<Self> {
        let nat = Nat::to(server)?;
        let options = ClientOptions::new(nat.address().to_string(), "behind a router");
        let mut walker = Self {
            client: Client::new(options, 1),
            nat,
            start: Instant::now(),
        };
        walker.until("datagrams", |now| now.datagrams_in > 10)?;
        Ok(walker)
    }

    /// Walks until a condition holds.
    fn until(&mut self, what: &str, is_reached: impl Fn(&Statistics) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !is_reached(&self.client.statistics()) {
            ensure!(Instant::now() < deadline, "no {what} after {PATIENCE:?}");
            let now = self.start.elapsed();
            self.client.poll(now);
            while self.client.next_event().is_some() {}
            if let Some(own) = self.client.own_cube() {
                let x_m = 5.0 + (now.as_secs_f32() * 5.0).sin();
                let position = Position::from_metres([x_m, 3.0, 0.5]);
                let pose = Pose {
                    position,
                    ..Pose::default()
                };
                self.client.set_pose(own, pose);
            }
            self.client.send(now);
            std::thread::sleep(Duration::from_millis(4));
        }
        Ok(())
    }

    /// Walks until so many datagrams more have come.
    fn datagrams(&mut self, count: u64) -> Result<()> {
        let before = self.client.statistics().datagrams_in;
        self.until("datagrams", |now| now.datagrams_in >= before + count)
    }

    /// Walks until so many frames more have come by the stream.
    fn frames(&mut self, count: u64) -> Result<()> {
        let before = self.client.statistics().frames_in;
        self.until("frames", |now| now.frames_in >= before + count)
    }

    /// Leaves, and checks that the connection was the first one and that no tick is missing.
    fn leave(mut self) -> Result<()> {
        ensure!(self.client.status() == Status::Joined, "it is not joined");
        let missing = self.client.statistics().missing_ticks;
        ensure!(missing == 0, "{missing} ticks are missing");
        self.client.close();
        Ok(())
    }
}

/// Changes the port from which the server sees a player's datagrams, again and again.
fn port_changes(trial: &mut Trial<'_>) -> Result<Outcome> {
    let count = trial.pick(5, 50);
    let mut walker = Walker::join(trial.server.tcp)?;
    let began = Instant::now();
    for _ in 0..count {
        walker.nat.change_port();
        walker.datagrams(5)?;
    }
    let each_ms = began.elapsed().as_millis() / count;
    walker.leave()?;
    let saw = format!("5 datagrams {each_ms} ms after each of {count} changes");
    Ok(Outcome::of(0, saw))
}

/// Lets no datagram through for a while.
fn blocked_halfway(trial: &mut Trial<'_>) -> Result<Outcome> {
    let mut walker = Walker::join(trial.server.tcp)?;
    walker.nat.block(true);
    walker.frames(trial.pick(100, 600))?;
    let by_stream = walker.client.statistics().snapshots_by_stream;
    ensure!(
        by_stream > 50,
        "only {by_stream} snapshots came by the stream"
    );
    walker.nat.block(false);
    let began = Instant::now();
    walker.datagrams(1)?;
    let back_ms = began.elapsed().as_millis();
    walker.leave()?;
    Ok(Outcome::of(
        0,
        format!("the stream, and datagrams {back_ms} ms after they could pass again"),
    ))
}

/// Watches a crowd whose ticks fill datagrams, and measures the longest one.
fn smallest_mtu(trial: &mut Trial<'_>) -> Result<Outcome> {
    let mut walker = Walker::join(trial.server.tcp)?;
    let crowd = Crowd::join(CrowdPlan {
        server: trial.server.tcp,
        count: 130,
        rooms: 1,
        behaviour: Behaviour::Jump,
        is_websocket: false,
        returns: false,
        over: Duration::from_millis(300),
    })?;
    walker.datagrams(trial.pick(50, 500))?;
    let longest = walker.nat.longest_bytes();
    crowd.leave()?;
    walker.leave()?;
    ensure!(longest > 600, "the longest has only {longest} bytes");
    ensure!(longest <= SMALLEST_MTU_BYTES, "one has {longest} bytes");
    Ok(Outcome::of(
        0,
        format!("packets of {longest} bytes at most, {SMALLEST_MTU_BYTES} fit"),
    ))
}
