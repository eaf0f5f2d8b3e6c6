//! A browser's side of a path: the addresses that it has proved, and its channel, without the socket.
//!
//! The server is the passive side of ICE ("lite", RFC 8445): it answers the browser's binding requests
//! and sends to the address that the browser uses. The sender of a signed request was told the password on
//! the stream, but its packet may still name a stranger's address as its source. So the handshake of DTLS
//! stays with the address from which it began, where a stranger would not answer it, and a channel moves to
//! another address only when that has answered a request of ours.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cubesync_relay::datagram::BURST;
use cubesync_relay::token_bucket::TokenBucket;
use prometheus_client::metrics::gauge::Gauge;

use super::Fingerprint;
use super::channel::{Channel, ChannelError, Output, Settings};
use super::description::Offer;
use super::stun::{self, Kind, Message, Password, Transaction};
use crate::datagram::metrics::CountedPath;
use crate::datagram::random;

/// Time for opening a channel after its offer.
const OPEN_WITHIN: Duration = Duration::from_secs(15);
/// Silence after which a browser is gone. It asks at least every three seconds whether we are there.
const MAX_SILENCE: Duration = Duration::from_secs(15);
/// Most addresses that a browser tries: a phone has one in each of its networks.
const MAX_ADDRESSES: usize = 8;
/// Time between two questions whether a browser is at a new address.
const PROBE_EVERY: Duration = Duration::from_millis(500);

/// Packets of DTLS a second that are opened: at the highest rate of ticks two datagrams for each, and as
/// many acknowledgements.
const MAX_PACKETS_PER_SECOND: NonZeroU32 = NonZeroU32::new(512).expect("it is not zero");
/// Requests of ICE a second that are answered. A browser without a good address asks every 50 ms.
const MAX_REQUESTS_PER_SECOND: NonZeroU32 = NonZeroU32::new(32).expect("it is not zero");

/// A browser's side of a path.
pub(super) struct Peer {
    /// Our name and the browser's in ICE, as in its requests.
    username: String,
    /// The names as in ours.
    own_username: String,
    password: Password,
    own_password: Password,
    fingerprint: Fingerprint,
    state: State,
    /// The addresses from which requests came that were signed, the oldest first.
    addresses: VecDeque<SocketAddr>,
    /// The address to which the channel sends.
    chosen: Option<SocketAddr>,
    probe: Option<Probe>,
    heard: Instant,
    /// The limit on packets of DTLS.
    packets: TokenBucket,
    /// The limit on signed requests.
    requests: TokenBucket,
    /// The gauge that counts an open channel.
    paths: Gauge,
}

enum State {
    Waiting {
        until: Instant,
    },
    Connecting {
        channel: Box<Channel>,
        until: Instant,
    },
    Open {
        channel: Box<Channel>,
        _counted: CountedPath,
    },
    Closed,
}

/// A question whether the browser is at a new address.
struct Probe {
    to: SocketAddr,
    transaction: Transaction,
    sent: Instant,
}

/// What a packet was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A request of the browser, from an address that may be new.
    Signed,
    /// A packet of the channel.
    Taken,
    /// Nothing that the browser would send.
    Refused,
    /// A packet beyond the limits, which was not looked at.
    TooMany,
}

/// What must be sent and delivered after a step.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) packets: Vec<(Vec<u8>, SocketAddr)>,
    pub(super) messages: Vec<Bytes>,
}

impl Peer {
    /// Waits for the browser that made an offer, to which we are known as `ufrag`. Its channel counts in
    /// `paths` while it is open.
    pub(super) fn new(
        offer: &Offer<'_>,
        ufrag: &str,
        password: &str,
        paths: Gauge,
        now: Instant,
    ) -> Self {
        let rate = |per_second| TokenBucket::per_second(per_second, BURST, now);
        Self {
            username: format!("{ufrag}:{}", offer.ufrag),
            own_username: format!("{}:{ufrag}", offer.ufrag),
            password: Password::new(offer.password),
            own_password: Password::new(password),
            fingerprint: offer.fingerprint,
            state: State::Waiting {
                until: now + OPEN_WITHIN,
            },
            addresses: VecDeque::new(),
            chosen: None,
            probe: None,
            heard: now,
            packets: rate(MAX_PACKETS_PER_SECOND),
            requests: rate(MAX_REQUESTS_PER_SECOND),
            paths,
        }
    }

    /// Returns whether messages can be sent.
    #[cfg(test)]
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// Returns whether the path is over.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Returns whether the channel is open and sends to an address.
    pub(super) fn is_open_at(&self, address: SocketAddr) -> bool {
        matches!(self.state, State::Open { .. }) && self.chosen == Some(address)
    }

    /// Ends the path, and drops its channel.
    pub(super) fn close(&mut self) {
        self.state = State::Closed;
    }

    /// Returns the addresses from which signed requests came.
    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.addresses.iter().copied()
    }

    /// Returns whether signed requests came from an address.
    pub(super) fn has_address(&self, address: SocketAddr) -> bool {
        self.addresses.contains(&address)
    }

    /// Takes a request or an answer of ICE.
    pub(super) fn receive_stun(
        &mut self,
        message: &Message<'_>,
        from: SocketAddr,
        now: Instant,
        step: &mut Step,
    ) -> Outcome {
        if self.is_closed() {
            return Outcome::Refused;
        }
        match message.kind {
            Kind::Request => {
                let is_ours = message.username == Some(self.username.as_str());
                if !is_ours {
                    return Outcome::Refused;
                }
                if !self.requests.holds(1, now) {
                    return Outcome::TooMany;
                }
                if !message.is_signed(&self.own_password) {
                    return Outcome::Refused;
                }
                // Only the browser's own requests take tokens; forged ones count as strangers'.
                self.requests.take(1, now);
                let answer = stun::success(message.transaction, from, &self.own_password);
                step.packets.push((answer, from));
                if self.chosen == Some(from) {
                    self.heard = now;
                } else if self.chosen.is_some() && message.is_nomination {
                    self.probe(from, now, step);
                }
                Outcome::Signed
            }
            Kind::Success => {
                let is_answer =
                    |probe: &Probe| probe.to == from && probe.transaction == message.transaction;
                let is_awaited = self.probe.as_ref().is_some_and(is_answer);
                if !is_awaited || !message.is_signed(&self.password) {
                    return Outcome::Refused;
                }
                self.probe = None;
                self.chosen = Some(from);
                self.heard = now;
                Outcome::Taken
            }
        }
    }

    /// Takes a packet of DTLS.
    pub(super) fn receive(
        &mut self,
        packet: &[u8],
        from: SocketAddr,
        settings: &Settings,
        now: Instant,
        step: &mut Step,
    ) -> Outcome {
        if !self.has_address(from) {
            return Outcome::Refused;
        }
        if !self.packets.take(1, now) {
            return Outcome::TooMany;
        }
        if let State::Waiting { until } = self.state {
            let channel = Box::new(Channel::new(settings, self.fingerprint, now));
            self.state = State::Connecting { channel, until };
        }
        self.chosen.get_or_insert(from);
        let taken = self.advance(step, |channel, output| channel.receive(packet, now, output));
        taken.map_or(Outcome::Refused, |()| Outcome::Taken)
    }

    /// Sends a message, and returns whether the channel took it.
    pub(super) fn send(&mut self, message: &[u8], now: Instant, step: &mut Step) -> bool {
        let sent = self.advance(step, |channel, output| channel.send(message, now, output));
        sent == Some(true)
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant, step: &mut Step) {
        let is_late = match &self.state {
            State::Waiting { until } | State::Connecting { until, .. } => now >= *until,
            State::Open { .. } => now >= self.heard + MAX_SILENCE,
            State::Closed => false,
        };
        if is_late {
            self.state = State::Closed;
        }
        let is_due = self
            .channel()
            .is_some_and(|channel| channel.timeout() <= now);
        if is_due {
            self.advance(step, |channel, output| channel.handle_timeout(now, output));
        }
    }

    fn channel(&mut self) -> Option<&mut Channel> {
        match &mut self.state {
            State::Connecting { channel, .. } | State::Open { channel, .. } => Some(channel),
            State::Waiting { .. } | State::Closed => None,
        }
    }

    /// Lets the channel do something, whose packets go to the chosen address. `None`: there is no channel,
    /// or it is over.
    fn advance<T>(
        &mut self,
        step: &mut Step,
        act: impl FnOnce(&mut Channel, &mut Output) -> Result<T, ChannelError>,
    ) -> Option<T> {
        let mut output = Output::default();
        let acted = act(self.channel()?, &mut output);
        let to = self.chosen;
        let packets = output.packets.into_iter();
        step.packets
            .extend(packets.filter_map(|packet| Some((packet, to?))));
        step.messages.append(&mut output.messages);
        if let Err(error) = &acted {
            tracing::debug!(%error, "a browser's data channel ended");
            self.state = State::Closed;
        } else if let State::Connecting { channel, .. } = &self.state
            && channel.is_open()
        {
            let connected = std::mem::replace(&mut self.state, State::Closed);
            if let State::Connecting { channel, .. } = connected {
                self.state = State::Open {
                    channel,
                    _counted: CountedPath::new(&self.paths),
                };
            }
        }
        acted.ok()
    }

    /// Remembers the address of a signed request. The oldest makes place, and is returned.
    pub(super) fn remember(&mut self, address: SocketAddr) -> Option<SocketAddr> {
        if self.has_address(address) {
            return None;
        }
        let mut forgotten = None;
        if self.addresses.len() == MAX_ADDRESSES {
            // The chosen one stays.
            let oldest = self
                .addresses
                .iter()
                .position(|old| Some(*old) != self.chosen);
            forgotten = self.addresses.remove(oldest.unwrap_or(0));
        }
        self.addresses.push_back(address);
        forgotten
    }

    /// Asks at a new address whether the browser is there.
    fn probe(&mut self, to: SocketAddr, now: Instant, step: &mut Step) {
        let is_recent = |probe: &Probe| now < probe.sent + PROBE_EVERY;
        if self.probe.as_ref().is_some_and(is_recent) {
            return;
        }
        let transaction = random();
        let request = stun::request(transaction, &self.own_username, &self.password);
        step.packets.push((request, to));
        self.probe = Some(Probe {
            to,
            transaction,
            sent: now,
        });
    }
}
