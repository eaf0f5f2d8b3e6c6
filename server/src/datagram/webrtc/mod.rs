//! Datagrams for browsers, which have no UDP but WebRTC's data channels.
//!
//! The offer and the answer travel on the player's stream, and with them the passwords and the hashes of
//! the certificates, so a data channel is as authentic as its stream. Until a signed request of ICE has
//! come, an offer costs a kilobyte; the handshake begins after that. Everything runs on the UDP
//! socket of all datagrams: a packet's first byte tells what it is (RFC 7983).

mod channel;
mod cryptography;
mod description;
pub(crate) mod fuzzing;
mod peer;
mod stun;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cubesync_protocol::DatagramAnswer;
use cubesync_protocol::limits::MAX_DATAGRAM_BYTES;
use cubesync_relay::datagram::{DatagramInbox, DatagramPath, OpenedPath};
use dimpl::DtlsCertificate;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use ring::digest::{SHA256, digest};
use tokio::time::{MissedTickBehavior, interval};

use self::channel::Settings;
use self::description::{Answer, Offer};
use self::peer::{Outcome, Peer, Step};
use self::stun::Message;
use super::metrics::{DatagramMetrics, Opening, Received};
use super::socket::Outgoing;
use super::{lock, random};
use cubesync_network::Network;
use cubesync_relay::by_address::Address;
use cubesync_relay::pace::Pace;

/// Time between two looks at what is due. An acknowledgement waits for 200 ms anyway.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// First bytes of packets of ICE and of DTLS (RFC 7983).
const STUN: std::ops::RangeInclusive<u8> = 0..=3;
const DTLS: std::ops::RangeInclusive<u8> = 20..=63;

/// The SHA-256 of a certificate.
type Fingerprint = [u8; 32];

/// The paths of browsers.
pub(super) struct Browsers {
    settings: Settings,
    fingerprint: Fingerprint,
    /// The address of the socket.
    bound: SocketAddr,
    outgoing: Outgoing,
    open: Mutex<Open>,
    /// The limit on paths.
    limit: usize,
    /// The limit on packets of DTLS that the browsers of one address send together, authentic or not: each is
    /// opened before it is known what it carries.
    packets: Pace,
    metrics: DatagramMetrics,
}

/// The open paths.
#[derive(Default)]
struct Open {
    /// By our name in ICE, which is this number in hexadecimal.
    by_name: HashMap<u64, Arc<Path>>,
    /// By the addresses from which a browser sent something signed.
    by_address: HashMap<SocketAddr, Arc<Path>>,
}

/// One browser's path.
struct Path {
    name: u64,
    /// The address of the player's stream.
    player: Address,
    peer: Mutex<Peer>,
    inbox: DatagramInbox,
}

/// The path as its player's connection holds it; dropping it closes the path.
struct OpenPath {
    path: Arc<Path>,
    browsers: Arc<Browsers>,
}

impl Open {
    /// Takes an address from a path, if that has it.
    fn leave(&mut self, path: &Path, address: SocketAddr) {
        if self
            .by_address
            .get(&address)
            .is_some_and(|of| of.name == path.name)
        {
            self.by_address.remove(&address);
        }
    }
}

impl Path {
    /// Lets the peer do something. A panic in it or in the libraries under it gives `None`, and closes this
    /// path only: the caller serves all players, or a room.
    fn advance<T>(&self, act: impl FnOnce(&mut Peer, &mut Step) -> T) -> (Option<T>, Step) {
        let mut peer = lock(&self.peer);
        let mut step = Step::default();
        let acted = catch_unwind(AssertUnwindSafe(|| act(&mut peer, &mut step)));
        if acted.is_err() {
            peer.close();
            step = Step::default();
        }
        (acted.ok(), step)
    }
}

impl Browsers {
    /// Offers the socket behind `outgoing`, which is bound to `bound`, to at most `limit` browsers. All browsers
    /// of one address may send `packets` of DTLS.
    pub(super) fn new(
        outgoing: Outgoing,
        bound: SocketAddr,
        limit: usize,
        packets: Pace,
        metrics: DatagramMetrics,
    ) -> Self {
        let certificate = make_certificate().expect("the system gives random bytes");
        let mut fingerprint = Fingerprint::default();
        fingerprint.copy_from_slice(digest(&SHA256, &certificate.certificate).as_ref());
        let settings = Settings::new(cryptography::provider(), certificate);
        Self {
            settings: settings.expect("the cryptography passes the library's tests"),
            fingerprint,
            bound,
            outgoing,
            open: Mutex::default(),
            limit,
            packets,
            metrics,
        }
    }

    /// Opens a path for the browser that made an offer, on a stream from `player`.
    pub(super) fn open(
        self: &Arc<Self>,
        offer: &str,
        inbox: DatagramInbox,
        player: Address,
    ) -> Result<OpenedPath, Opening> {
        let offer = Offer::parse(offer).ok_or(Opening::BadOffer)?;
        let name = u64::from_le_bytes(random());
        let ufrag = format!("{name:016x}");
        let password = format!("{:032x}", u128::from_le_bytes(random()));
        let answer = offer.answer(&Answer {
            ufrag: &ufrag,
            password: &password,
            fingerprint: &self.fingerprint,
            address: own_address(self.bound, player.ip()),
            max_message_bytes: MAX_DATAGRAM_BYTES,
        });
        let paths = self.metrics.paths.clone();
        let peer = Peer::new(&offer, &ufrag, &password, paths, Instant::now());
        let path = Arc::new(Path {
            name,
            player,
            peer: Mutex::new(peer),
            inbox,
        });
        let mut open = lock(&self.open);
        if open.by_name.len() >= self.limit {
            return Err(Opening::Full);
        }
        open.by_name.insert(name, Arc::clone(&path));
        Ok(OpenedPath {
            answer: DatagramAnswer::WebRtc { answer },
            path: Arc::new(OpenPath {
                path,
                browsers: Arc::clone(self),
            }),
        })
    }

    /// Takes a packet; `None` if it is not one of a browser.
    pub(super) fn receive(&self, packet: &[u8], from: SocketAddr) -> Option<Received> {
        let first = packet.first()?;
        if STUN.contains(first) {
            Some(self.receive_stun(packet, from))
        } else if DTLS.contains(first) {
            Some(self.receive_dtls(packet, from))
        } else {
            None
        }
    }

    /// Does what is due, again and again.
    pub(super) async fn keep_time(&self) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let paths: Vec<_> = lock(&self.open).by_name.values().cloned().collect();
            let now = Instant::now();
            for path in paths {
                let (is_closed, step) = path.advance(|peer, step| {
                    peer.handle_timeout(now, step);
                    peer.is_closed()
                });
                self.carry_out(&path, step);
                if is_closed != Some(false) {
                    self.forget(&path);
                }
            }
        }
    }

    fn receive_stun(&self, packet: &[u8], from: SocketAddr) -> Received {
        let Some(message) = Message::parse(packet) else {
            return Received::Foreign;
        };
        let path = match message.name() {
            Some(name) => lock(&self.open).by_name.get(&name).cloned(),
            None => lock(&self.open).by_address.get(&from).cloned(),
        };
        let Some(path) = path else {
            return Received::NoPath;
        };
        let mut forgotten = None;
        let (outcome, step) = path.advance(|peer, step| {
            let outcome = peer.receive_stun(&message, from, Instant::now(), step);
            if outcome == Outcome::Signed {
                forgotten = peer.remember(from);
            }
            outcome
        });
        if outcome == Some(Outcome::Signed) {
            self.take_address(&path, from, forgotten);
        }
        self.carry_out(&path, step);
        match outcome {
            Some(Outcome::Signed | Outcome::Taken) => Received::Upkeep,
            Some(Outcome::TooMany) => Received::Refused,
            None | Some(Outcome::Refused) => Received::Forged,
        }
    }

    fn receive_dtls(&self, packet: &[u8], from: SocketAddr) -> Received {
        let path = lock(&self.open).by_address.get(&from).cloned();
        let Some(path) = path else {
            return Received::NoPath;
        };
        if !self.packets.allows(path.player) {
            return Received::Refused;
        }
        let (outcome, step) = path
            .advance(|peer, step| peer.receive(packet, from, &self.settings, Instant::now(), step));
        let has_messages = !step.messages.is_empty();
        let is_delivered = self.carry_out(&path, step);
        match outcome {
            None | Some(Outcome::Refused) => Received::Forged,
            Some(Outcome::TooMany) => Received::Refused,
            _ if !has_messages => Received::Upkeep,
            _ if is_delivered => Received::Taken,
            _ => Received::Refused,
        }
    }

    /// Sends and delivers what came of a step. Returns whether all messages could be delivered.
    fn carry_out(&self, path: &Path, step: Step) -> bool {
        for (packet, to) in &step.packets {
            self.outgoing.send(packet, *to);
        }
        let refused = step
            .messages
            .iter()
            .filter(|message| !path.inbox.deliver(message));
        refused.count() == 0
    }

    /// Gives an address to the browser that sent something signed from there, unless another browser's open
    /// channel sends to it: a signed request may name a stranger's address as its source. The browser may
    /// have forgotten another address for it.
    fn take_address(&self, path: &Arc<Path>, address: SocketAddr, forgotten: Option<SocketAddr>) {
        let mut open = lock(&self.open);
        if let Some(forgotten) = forgotten {
            open.leave(path, forgotten);
        }
        let Open {
            by_name,
            by_address,
        } = &mut *open;
        let is_taken = by_address
            .get(&address)
            .is_some_and(|of| of.name == path.name || lock(&of.peer).is_open_at(address));
        if is_taken || !by_name.contains_key(&path.name) {
            return;
        }
        by_address.insert(address, Arc::clone(path));
    }

    fn forget(&self, path: &Path) {
        let mut open = lock(&self.open);
        if open.by_name.remove(&path.name).is_some() {
            for address in lock(&path.peer).addresses() {
                open.leave(path, address);
            }
        }
    }
}

/// Makes a certificate that is good until the server stops. It names nobody, since browsers are told its
/// hash.
fn make_certificate() -> Result<DtlsCertificate, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    let certificate = parameters.self_signed(&key)?;
    Ok(DtlsCertificate {
        certificate: certificate.der().to_vec(),
        private_key: key.serialize_der(),
    })
}

/// Returns the address at which a browser reaches the socket. Browsers do not use the loopback address, so
/// one on this machine gets the address that others would.
fn own_address(bound: SocketAddr, browser: IpAddr) -> SocketAddr {
    let is_usable = |own: &IpAddr| !own.is_loopback() && (own.is_ipv4() || bound.is_ipv6());
    let toward = cubesync_network::toward(browser).filter(is_usable);
    let likeliest = || Network::now().likeliest(Ipv4Addr::UNSPECIFIED.into());
    cubesync_network::reachable(bound, toward.or_else(likeliest))
}

impl fmt::Debug for Browsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Browsers(..)")
    }
}

impl DatagramPath for OpenPath {
    fn send(&self, datagram: &[u8]) -> bool {
        let sent = |peer: &mut Peer, step: &mut Step| peer.send(datagram, Instant::now(), step);
        let (is_taken, step) = self.path.advance(sent);
        self.browsers.carry_out(&self.path, step);
        is_taken == Some(true)
    }
}

impl fmt::Debug for OpenPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OpenPath").field(&self.path.name).finish()
    }
}

impl Drop for OpenPath {
    fn drop(&mut self) {
        self.browsers.forget(&self.path);
    }
}
