//! A browser for tests: what one does with a data channel, without the socket.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use dimpl::{Dtls, DtlsCertificate, Output};
use rcgen::{CertificateParams, KeyPair};
use ring::digest::{SHA256, digest};
use sctp_proto::{
    Association, AssociationHandle, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Event,
    Payload, PayloadProtocolIdentifier, ReliabilityType, StreamEvent,
};

use super::cryptography;
use super::stun::{self, Kind, Message, Password};

const SCTP_PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5_000);
const UFRAG: &str = "browser";
const PASSWORD: &str = "passwordOfABrowser/1234+";

/// A browser with one data channel.
pub(crate) struct Browser {
    certificate: DtlsCertificate,
    dtls: Dtls,
    endpoint: Endpoint,
    association: Option<(AssociationHandle, Association)>,
    /// The lines of the answer, by what stands before the first colon.
    answer: HashMap<String, String>,
    /// Packets to send.
    pub(crate) packets: Vec<Vec<u8>>,
    /// Messages that came.
    pub(crate) messages: Vec<Vec<u8>>,
    /// Whether the channel is open.
    pub(crate) is_open: bool,
    /// Whether the channel is over.
    pub(crate) is_closed: bool,
    /// Whether the browser answers requests of ICE.
    pub(crate) answers: bool,
}

impl Browser {
    pub(crate) fn new(now: Instant) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let certificate = DtlsCertificate {
            certificate: certificate.der().to_vec(),
            private_key: key.serialize_der(),
        };
        let config = dimpl::Config::builder().with_crypto_provider(cryptography::provider());
        let mut dtls = Dtls::new_auto(Arc::new(config.build().unwrap()), certificate.clone(), now);
        dtls.set_active(true);
        Self {
            certificate,
            dtls,
            endpoint: Endpoint::new(Arc::new(EndpointConfig::new()), None),
            association: None,
            answer: HashMap::new(),
            packets: Vec::new(),
            messages: Vec::new(),
            is_open: false,
            is_closed: false,
            answers: true,
        }
    }

    /// Returns the offer.
    pub(crate) fn offer(&self) -> String {
        let hash = digest(&SHA256, &self.certificate.certificate);
        let hash: Vec<_> = hash
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        format!(
            "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
             m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:{UFRAG}\r\n\
             a=ice-pwd:{PASSWORD}\r\na=fingerprint:sha-256 {}\r\na=setup:actpass\r\na=mid:0\r\na=sctp-port:5000\r\n",
            hash.join(":")
        )
    }

    /// Takes the answer, and returns the address of the server.
    pub(crate) fn answer(&mut self, answer: &str) -> SocketAddr {
        let lines = answer.lines().filter_map(|line| line.split_once(':'));
        self.answer = lines
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        let candidate: Vec<_> = self.answer["a=candidate"].split(' ').collect();
        SocketAddr::new(candidate[4].parse().unwrap(), candidate[5].parse().unwrap())
    }

    /// Asks whether the server is there.
    pub(crate) fn ask(&mut self) {
        let username = format!("{}:{UFRAG}", self.answer["a=ice-ufrag"]);
        let password = Password::new(&self.answer["a=ice-pwd"]);
        self.packets
            .push(stun::nomination([5; 12], &username, &password));
    }

    /// Begins the handshake.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.dtls.handle_timeout(now).unwrap();
        self.advance(now);
    }

    pub(crate) fn receive(&mut self, packet: &[u8], now: Instant) {
        let Some(message) = Message::parse(packet) else {
            self.dtls.handle_timeout(now).unwrap();
            let taken = self.dtls.handle_packet(packet);
            self.is_closed |= taken.is_err();
            return self.advance(now);
        };
        let (ours, theirs) = (
            Password::new(PASSWORD),
            Password::new(&self.answer["a=ice-pwd"]),
        );
        match message.kind {
            Kind::Success => assert!(message.is_signed(&theirs)),
            Kind::Request if self.answers => {
                assert!(message.is_signed(&ours));
                self.packets
                    .push(stun::success(message.transaction, SCTP_PEER, &ours));
            }
            Kind::Request => {}
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let _ = self.dtls.handle_timeout(now);
        if let Some((_, association)) = &mut self.association {
            association.handle_timeout(now);
        }
        self.advance(now);
    }

    pub(crate) fn send(&mut self, message: &[u8], now: Instant) {
        self.send_on(0, message, now);
    }

    /// Sends a message on a stream, which is opened if it is another one than the channel's.
    pub(crate) fn send_on(&mut self, stream: u16, message: &[u8], now: Instant) {
        let (_, association) = self.association.as_mut().unwrap();
        let binary = PayloadProtocolIdentifier::Binary;
        let mut stream = match stream {
            0 => association.stream(stream).unwrap(),
            _ => association.open_stream(stream, binary).unwrap(),
        };
        stream.write_with_ppi(message, binary).unwrap();
        self.advance(now);
    }

    /// Begins another association beside the channel's.
    pub(crate) fn associate_again(&mut self, now: Instant) {
        let connecting = self.endpoint.connect(ClientConfig::new(), SCTP_PEER);
        self.association = Some(connecting.unwrap());
        self.advance(now);
    }

    fn advance(&mut self, now: Instant) {
        loop {
            let mut scratch = [0; 4_096];
            let mut packets = Vec::new();
            loop {
                match self.dtls.poll_output(&mut scratch) {
                    Output::Packet(packet) => self.packets.push(packet.to_vec()),
                    Output::ApplicationData(packet) => packets.push(Bytes::copy_from_slice(packet)),
                    Output::Connected => {
                        let connecting = self.endpoint.connect(ClientConfig::new(), SCTP_PEER);
                        self.association = Some(connecting.unwrap());
                    }
                    Output::Timeout(_) => break,
                    Output::CloseNotify => self.is_closed = true,
                    _ => {}
                }
            }
            let Some((_, association)) = &mut self.association else {
                return;
            };
            for packet in packets {
                let received = self.endpoint.handle(now, SCTP_PEER, None, None, packet);
                if let Some((_, DatagramEvent::AssociationEvent(event))) = received {
                    association.handle_event(event);
                }
            }
            while let Some(event) = association.poll() {
                match event {
                    Event::Connected => {
                        let mut stream = association
                            .open_stream(0, PayloadProtocolIdentifier::Binary)
                            .unwrap();
                        stream
                            .set_reliability_params(true, ReliabilityType::Rexmit, 0)
                            .unwrap();
                        self.is_open = true;
                    }
                    Event::Stream(StreamEvent::Readable { id }) => {
                        let mut stream = association.stream(id).unwrap();
                        while let Some(chunks) = stream.read().unwrap() {
                            let mut message = vec![0; chunks.len()];
                            chunks.read(&mut message).unwrap();
                            self.messages.push(message);
                        }
                    }
                    Event::AssociationLost { .. } | Event::HandshakeFailed { .. } => {
                        self.is_closed = true
                    }
                    _ => {}
                }
            }
            let mut is_idle = true;
            while let Some(transmit) = association.poll_transmit(now) {
                let Payload::RawEncode(packets) = transmit.payload else {
                    continue;
                };
                for packet in packets {
                    is_idle = false;
                    self.dtls.send_application_data(&packet).unwrap();
                }
            }
            if is_idle {
                return;
            }
        }
    }
}
