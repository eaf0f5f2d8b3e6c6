//! A data channel: messages over SCTP over DTLS, without the socket under them.
//!
//! Both sides know the channel beforehand, so nothing is negotiated within it: it is stream 0, takes
//! messages in any order, and repeats none. A message fits one packet.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cubesync_protocol::limits::MAX_DATAGRAM_BYTES;
use dimpl::crypto::CryptoProvider;
use dimpl::{Dtls, DtlsCertificate};
use ring::digest::{SHA256, digest};
use sctp_proto::{
    Association, AssociationHandle, DatagramEvent, Endpoint, EndpointConfig, Event, Payload,
    PayloadProtocolIdentifier, ReliabilityType, ServerConfig, StreamEvent, Transmit,
    TransportConfig,
};
use thiserror::Error;

use super::Fingerprint;

/// The channel's only stream.
const STREAM: u16 = 0;
/// Longest packet: what fits the smallest MTU of IPv6 (1,280) with the headers of IP and UDP.
const MAX_PACKET_BYTES: usize = 1_232;
/// Size of the buffer for what DTLS gives out, be it a packet, a message or a certificate.
const SCRATCH_BYTES: usize = 4 * 1024;
/// Most that a peer may have us keep of messages that are not whole.
const MAX_RECEIVED_BYTES: u32 = 16 * 1024;
/// Most packets that DTLS keeps for the handshake, in each direction.
const MAX_QUEUED_PACKETS: usize = 16;
/// Time for the handshake of DTLS.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for an acknowledgement. When the network comes back after a while, the channel takes
/// messages again within this time.
const MAX_RETRANSMISSION_TIMEOUT: Duration = Duration::from_secs(2);
/// Most bytes that may be on their way. With more, the network is slower than the game.
const MAX_UNACKNOWLEDGED_BYTES: usize = 16 * 1024;
/// Unacknowledged bytes below which congestion control holds nothing back: its smallest window.
const MIN_WINDOW_BYTES: usize = 1_228;
/// SCTP's idea of addresses, which DTLS takes no notice of.
const SCTP_PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5_000);

/// What all channels of a server share.
#[derive(Clone)]
pub(super) struct Settings {
    dtls: Arc<dimpl::Config>,
    certificate: DtlsCertificate,
    endpoint: Arc<EndpointConfig>,
    server: Arc<ServerConfig>,
}

/// The reason why a channel is over.
#[derive(Debug, Error)]
pub(super) enum ChannelError {
    /// DTLS failed.
    #[error(transparent)]
    Dtls(#[from] dimpl::Error),
    /// SCTP failed.
    #[error(transparent)]
    Sctp(#[from] sctp_proto::Error),
    /// The peer showed another certificate than the one in its offer.
    #[error("the certificate is not the offered one")]
    Certificate,
    /// The peer closed the channel, or it timed out.
    #[error("the channel was closed")]
    Closed,
}

/// The result of a step: packets for the peer and messages for us.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) packets: Vec<Vec<u8>>,
    pub(super) messages: Vec<Bytes>,
}

/// A channel, once the peer has sent its first packet.
pub(super) struct Channel {
    dtls: Dtls,
    /// The hash of the certificate that the peer must show.
    fingerprint: Fingerprint,
    is_authentic: bool,
    endpoint: Endpoint,
    association: Option<Box<(AssociationHandle, Association)>>,
    is_open: bool,
    /// Whether the newest message waits for congestion control.
    is_held_back: bool,
    dtls_timeout: Instant,
}

impl Settings {
    /// Prepares channels that show a certificate.
    pub(super) fn new(
        cryptography: CryptoProvider,
        certificate: DtlsCertificate,
    ) -> Result<Self, dimpl::Error> {
        let dtls = dimpl::Config::builder()
            .with_crypto_provider(cryptography)
            .mtu(MAX_PACKET_BYTES)
            .max_queue_rx(MAX_QUEUED_PACKETS)
            .max_queue_tx(MAX_QUEUED_PACKETS)
            .handshake_timeout(HANDSHAKE_TIMEOUT)
            .build()?;
        let mut endpoint = EndpointConfig::new();
        endpoint.max_payload_size(max_message_bytes());
        let mut server = ServerConfig::new();
        server.transport = Arc::new(transport());
        Ok(Self {
            dtls: Arc::new(dtls),
            certificate,
            endpoint: Arc::new(endpoint),
            server: Arc::new(server),
        })
    }
}

/// Returns the settings of SCTP, for one stream of small messages.
pub(super) fn transport() -> TransportConfig {
    let milliseconds = MAX_RETRANSMISSION_TIMEOUT.as_millis();
    TransportConfig::default()
        .with_max_receive_buffer_size(MAX_RECEIVED_BYTES)
        .with_max_receive_message_size(max_message_bytes())
        .with_max_send_message_size(max_message_bytes())
        .with_max_num_inbound_streams(1)
        .with_max_num_outbound_streams(1)
        .with_rto_max_ms(u64::try_from(milliseconds).unwrap_or(u64::MAX))
}

fn max_message_bytes() -> u32 {
    u32::try_from(MAX_DATAGRAM_BYTES).unwrap_or(u32::MAX)
}

impl Channel {
    /// Waits for a peer that will show the certificate with this hash.
    pub(super) fn new(settings: &Settings, fingerprint: Fingerprint, now: Instant) -> Self {
        let certificate = settings.certificate.clone();
        let server = Some(Arc::clone(&settings.server));
        Self {
            dtls: Dtls::new_auto(Arc::clone(&settings.dtls), certificate, now),
            fingerprint,
            is_authentic: false,
            endpoint: Endpoint::new(Arc::clone(&settings.endpoint), server),
            association: None,
            is_open: false,
            is_held_back: false,
            dtls_timeout: now,
        }
    }

    /// Returns whether messages can be sent.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) must be called next.
    pub(super) fn timeout(&self) -> Instant {
        let sctp = self.association.as_ref();
        let sctp = sctp.and_then(|association| association.1.poll_timeout());
        sctp.map_or(self.dtls_timeout, |sctp| sctp.min(self.dtls_timeout))
    }

    /// Takes a packet of the peer. An error is the channel's end.
    pub(super) fn receive(
        &mut self,
        packet: &[u8],
        now: Instant,
        output: &mut Output,
    ) -> Result<(), ChannelError> {
        self.dtls.handle_timeout(now)?;
        self.dtls.handle_packet(packet)?;
        self.advance(now, output)
    }

    /// Does what is due. An error is the channel's end.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        output: &mut Output,
    ) -> Result<(), ChannelError> {
        self.dtls.handle_timeout(now)?;
        if let Some(association) = &mut self.association {
            association.1.handle_timeout(now);
        }
        self.advance(now, output)
    }

    /// Sends a message, and returns whether the channel took it. It takes none while congestion control
    /// holds an earlier one back: a newer one will be worth more than both.
    pub(super) fn send(
        &mut self,
        message: &[u8],
        now: Instant,
        output: &mut Output,
    ) -> Result<bool, ChannelError> {
        let Some(association) = self.association.as_mut().filter(|_| self.is_open) else {
            return Ok(false);
        };
        let mut stream = association.1.stream(STREAM)?;
        let unacknowledged_bytes = stream.buffered_amount()?;
        self.is_held_back &= unacknowledged_bytes > MIN_WINDOW_BYTES;
        if self.is_held_back || unacknowledged_bytes > MAX_UNACKNOWLEDGED_BYTES {
            return Ok(false);
        }
        stream.write_with_ppi(message, PayloadProtocolIdentifier::Binary)?;
        let packets = output.packets.len();
        self.dtls.handle_timeout(now)?;
        self.advance(now, output)?;
        self.is_held_back = output.packets.len() == packets;
        Ok(true)
    }

    /// Passes on between DTLS and SCTP what each has for the other, until they have nothing more.
    fn advance(&mut self, now: Instant, output: &mut Output) -> Result<(), ChannelError> {
        loop {
            for packet in self.poll_dtls(output)? {
                self.receive_sctp(packet, now)?;
            }
            self.poll_events(output)?;
            let transmits = self.poll_sctp(now);
            if transmits.is_empty() {
                return Ok(());
            }
            for packet in transmits {
                self.dtls.send_application_data(&packet)?;
            }
        }
    }

    /// Takes what DTLS has, and returns what it decrypted.
    fn poll_dtls(&mut self, output: &mut Output) -> Result<Vec<Bytes>, ChannelError> {
        let mut decrypted = Vec::new();
        let mut scratch = [0; SCRATCH_BYTES];
        loop {
            match self.dtls.poll_output(&mut scratch) {
                dimpl::Output::Packet(packet) => output.packets.push(packet.to_vec()),
                dimpl::Output::PeerCert(certificate) => {
                    let hash = digest(&SHA256, certificate);
                    if hash.as_ref() != self.fingerprint {
                        return Err(ChannelError::Certificate);
                    }
                    self.is_authentic = true;
                }
                // Nothing is believed before the certificate was seen.
                dimpl::Output::ApplicationData(packet) if self.is_authentic => {
                    decrypted.push(Bytes::copy_from_slice(packet));
                }
                dimpl::Output::Timeout(timeout) => {
                    self.dtls_timeout = timeout;
                    return Ok(decrypted);
                }
                dimpl::Output::CloseNotify | dimpl::Output::BufferTooSmall { .. } => {
                    return Err(ChannelError::Closed);
                }
                _ => {}
            }
        }
    }

    fn receive_sctp(&mut self, packet: Bytes, now: Instant) -> Result<(), ChannelError> {
        let received = self.endpoint.handle(now, SCTP_PEER, None, None, packet);
        match (received, &mut self.association) {
            (Some((handle, DatagramEvent::NewAssociation(association))), free @ None) => {
                *free = Some(Box::new((handle, association)));
            }
            // A browser makes one association. The endpoint would keep every further one.
            (Some((_, DatagramEvent::NewAssociation(_))), Some(_)) => {
                return Err(ChannelError::Closed);
            }
            (Some((handle, DatagramEvent::AssociationEvent(event))), Some(association))
                if association.0 == handle =>
            {
                association.1.handle_event(event);
            }
            _ => {}
        }
        Ok(())
    }

    fn poll_events(&mut self, output: &mut Output) -> Result<(), ChannelError> {
        let Some((handle, association)) = self.association.as_deref_mut() else {
            return Ok(());
        };
        while let Some(event) = association.poll_endpoint_event() {
            self.endpoint.handle_event(*handle, event);
        }
        while let Some(event) = association.poll() {
            match event {
                Event::Connected => {
                    let binary = PayloadProtocolIdentifier::Binary;
                    let mut stream = association.open_stream(STREAM, binary)?;
                    stream.set_reliability_params(true, ReliabilityType::Rexmit, 0)?;
                    self.is_open = true;
                }
                // The association would keep up to 65,536 streams, whatever number it agreed on.
                Event::Stream(StreamEvent::Opened { id } | StreamEvent::Readable { id })
                    if id != STREAM =>
                {
                    return Err(ChannelError::Closed);
                }
                Event::Stream(StreamEvent::Readable { id }) => {
                    let mut stream = association.stream(id)?;
                    while let Some(chunks) = stream.read()? {
                        let mut message = vec![0; chunks.len()];
                        chunks.read(&mut message)?;
                        output.messages.push(message.into());
                    }
                }
                Event::Stream(StreamEvent::Finished { .. })
                | Event::HandshakeFailed { .. }
                | Event::AssociationLost { .. } => return Err(ChannelError::Closed),
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns the packets that SCTP has for the peer.
    fn poll_sctp(&mut self, now: Instant) -> Vec<Bytes> {
        let mut packets = Vec::new();
        let mut take = |transmit: Transmit| match transmit.payload {
            Payload::RawEncode(encoded) => packets.extend(encoded),
            Payload::PartialDecode(_) => {}
        };
        while let Some(transmit) = self.endpoint.poll_transmit() {
            take(transmit);
        }
        if let Some(association) = &mut self.association {
            while let Some(transmit) = association.1.poll_transmit(now) {
                take(transmit);
            }
        }
        packets
    }
}
