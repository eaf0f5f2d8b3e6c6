//! A browser and its peer, without a network between them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cubesync_protocol::DatagramAnswer;
use cubesync_protocol::datagram::Uplink;
use cubesync_relay::by_address::Address;
use cubesync_relay::datagram::{BURST, DatagramInbox, DatagramPath, OpenedPath};
use cubesync_relay::metrics::MetricSet;
use cubesync_relay::pace::Pace;
use dimpl::DtlsCertificate;
use prometheus_client::metrics::gauge::Gauge;
use rcgen::{CertificateParams, KeyPair};
use ring::digest::{SHA256, digest};

use super::channel::Settings;
use super::cryptography;
use super::description::{Answer, Offer};
use super::peer::{Outcome, Peer, Step};
use super::stun::Message;
use super::testing::Browser;
use super::{Browsers, Path, lock};
use crate::datagram::metrics::{DatagramMetrics, Received};
use crate::datagram::socket::Outgoing;

const PASSWORD: &str = "0123456789abcdef0123456789abcdef";
const HOME: &str = "192.0.2.1:1000";
const ELSEWHERE: &str = "192.0.2.2:2000";

/// A browser at an address, its peer, and the time.
struct Pair {
    browser: Browser,
    peer: Peer,
    /// The number of channels that count as open.
    paths: Gauge,
    settings: Settings,
    browser_at: SocketAddr,
    now: Instant,
    /// Packets that the peer sent to an address where the browser is not.
    astray: Vec<(Vec<u8>, SocketAddr)>,
    /// Messages that came to the server.
    messages: Vec<Vec<u8>>,
}

impl Pair {
    fn new() -> Self {
        Self::with_offer(|offer| offer)
    }

    fn with_offer(change: impl Fn(String) -> String) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let fingerprint = digest(&SHA256, certificate.der());
        let certificate = DtlsCertificate {
            certificate: certificate.der().to_vec(),
            private_key: key.serialize_der(),
        };
        let now = Instant::now();
        let settings = Settings::new(cryptography::provider(), certificate).unwrap();
        let mut browser = Browser::new(now);
        let text = change(browser.offer());
        let offer = Offer::parse(&text).unwrap();
        browser.answer(&offer.answer(&Answer {
            ufrag: "server",
            password: PASSWORD,
            fingerprint: fingerprint.as_ref().try_into().unwrap(),
            address: "192.0.2.9:7777".parse().unwrap(),
            max_message_bytes: 1_100,
        }));
        let paths = Gauge::default();
        let peer = Peer::new(&offer, "server", PASSWORD, paths.clone(), now);
        Self {
            browser,
            peer,
            paths,
            settings,
            browser_at: HOME.parse().unwrap(),
            now,
            astray: Vec::new(),
            messages: Vec::new(),
        }
    }

    fn open() -> Self {
        let mut pair = Self::new();
        pair.browser.ask();
        pair.exchange();
        pair.browser.begin(pair.now);
        assert_eq!(pair.paths.get(), 0, "nothing authentic has come");
        pair.exchange();
        assert!(pair.browser.is_open && pair.peer.is_open());
        assert_eq!(pair.paths.get(), 1);
        pair
    }

    /// Carries packets both ways until there are none.
    fn exchange(&mut self) {
        while !self.browser.packets.is_empty() {
            let mut step = Step::default();
            for packet in std::mem::take(&mut self.browser.packets) {
                self.receive(&packet, self.browser_at, &mut step);
            }
            self.deliver(step);
        }
    }

    fn receive(&mut self, packet: &[u8], from: SocketAddr, step: &mut Step) -> Outcome {
        match Message::parse(packet) {
            Some(message) => {
                let outcome = self.peer.receive_stun(&message, from, self.now, step);
                if outcome == Outcome::Signed {
                    self.peer.remember(from);
                }
                outcome
            }
            None => self
                .peer
                .receive(packet, from, &self.settings, self.now, step),
        }
    }

    fn deliver(&mut self, step: Step) {
        let messages = step.messages.iter().map(|message| message.to_vec());
        self.messages.extend(messages);
        for (packet, to) in step.packets {
            assert!(packet.len() <= 1_232, "{}", packet.len());
            match to == self.browser_at {
                true => self.browser.receive(&packet, self.now),
                false => self.astray.push((packet, to)),
            }
        }
    }

    fn send(&mut self, message: &[u8]) -> bool {
        let mut step = Step::default();
        let sent = self.peer.send(message, self.now, &mut step);
        self.deliver(step);
        self.exchange();
        sent
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        let mut step = Step::default();
        self.peer.handle_timeout(self.now, &mut step);
        self.deliver(step);
        self.browser.handle_timeout(self.now);
        self.exchange();
    }
}

#[test]
fn messages_go_both_ways_and_the_longest_fits_one_packet() {
    let mut pair = Pair::open();
    assert!(pair.send(&[7; 1_100]));
    assert!(pair.send(b"down"));
    pair.browser.send(b"up", pair.now);
    pair.exchange();
    assert_eq!(pair.browser.messages, [vec![7; 1_100], b"down".to_vec()]);
    assert_eq!(pair.messages, [b"up"]);
}

#[test]
fn nothing_is_sent_before_a_signed_request() {
    let mut pair = Pair::new();
    pair.browser.begin(pair.now);
    pair.exchange();
    assert!(!pair.browser.is_open && pair.astray.is_empty() && pair.browser.messages.is_empty());
    assert!(!pair.send(b"no"));
}

#[test]
fn a_browser_with_another_certificate_than_it_offered_gets_nothing() {
    let mut pair = Pair::with_offer(|offer| {
        let at = offer.find("sha-256 ").unwrap() + 8;
        let other = if offer[at..].starts_with("00") {
            "01"
        } else {
            "00"
        };
        format!("{}{other}{}", &offer[..at], &offer[at + 2..])
    });
    pair.browser.ask();
    pair.browser.begin(pair.now);
    pair.exchange();
    assert!(pair.peer.is_closed() && !pair.browser.is_open);
}

#[test]
fn a_channel_moves_only_to_an_address_that_answers() {
    let mut pair = Pair::open();
    pair.browser_at = ELSEWHERE.parse().unwrap();
    pair.browser.answers = false;
    pair.browser.ask();
    pair.exchange();
    pair.send(b"lost");
    assert!(
        pair.astray
            .iter()
            .all(|(_, to)| *to == HOME.parse().unwrap())
    );
    assert!(!pair.astray.is_empty() && pair.browser.messages.is_empty());

    pair.browser.answers = true;
    pair.wait(Duration::from_millis(600));
    pair.browser.ask();
    pair.exchange();
    pair.astray.clear();
    pair.send(b"found");
    assert_eq!(pair.browser.messages, [b"found"]);
    assert!(pair.astray.is_empty());
}

#[test]
fn requests_cost_a_strangers_address_no_more_than_they_carry() {
    let mut pair = Pair::open();
    pair.browser.ask();
    let request = pair.browser.packets.pop().unwrap();
    let (mut sent, mut received) = (0, 0);
    for _ in 0..1_000 {
        let mut step = Step::default();
        sent += request.len();
        pair.receive(&request, ELSEWHERE.parse().unwrap(), &mut step);
        received += step
            .packets
            .iter()
            .map(|(packet, _)| packet.len())
            .sum::<usize>();
    }
    assert!(received <= sent + 200, "{received} for {sent}");
}

#[test]
fn a_browser_that_sends_too_much_costs_no_cryptography() {
    let mut pair = Pair::open();
    pair.browser.ask();
    let request = pair.browser.packets.pop().unwrap();
    let mut forged = request.clone();
    let signature = forged.len() - 12;
    forged[signature] ^= 1;
    let home = HOME.parse().unwrap();
    let flood = |pair: &mut Pair, packet: &[u8]| {
        let mut step = Step::default();
        let outcomes = (0..2_000).map(|_| pair.receive(packet, home, &mut step));
        outcomes.collect::<Vec<_>>()
    };
    let count = |outcomes: &[Outcome], of| outcomes.iter().filter(|it| **it == of).count();
    // Strangers who forge requests take none of the browser's.
    assert_eq!(count(&flood(&mut pair, &forged), Outcome::Refused), 2_000);
    let signed = flood(&mut pair, &request);
    let most = count(&signed, Outcome::Signed);
    assert!((60..=64).contains(&most), "{most}");
    assert_eq!(count(&signed, Outcome::TooMany), 2_000 - most);
    // Nobody has looked whether these are signed.
    assert_eq!(count(&flood(&mut pair, &forged), Outcome::TooMany), 2_000);

    // A packet of DTLS that must be opened before it can be dropped.
    let packet = [&[23, 254, 253][..], &[7; 100]].concat();
    let opened = 2_000 - count(&flood(&mut pair, &packet), Outcome::TooMany);
    assert!((900..=1_024).contains(&opened), "{opened}");

    pair.now += Duration::from_secs(2);
    let mut step = Step::default();
    assert_eq!(pair.receive(&request, home, &mut step), Outcome::Signed);
    pair.browser.send(b"up", pair.now);
    pair.exchange();
    assert_eq!(pair.messages, [b"up"]);
}

#[test]
fn a_silent_browser_is_dropped() {
    let mut pair = Pair::open();
    for _ in 0..10 {
        pair.wait(Duration::from_secs(5));
        pair.browser.ask();
        pair.exchange();
        assert!(pair.peer.is_open());
    }
    pair.wait(Duration::from_secs(16));
    assert!(pair.peer.is_closed());
    assert_eq!(pair.paths.get(), 0);

    let mut pair = Pair::new();
    pair.wait(Duration::from_secs(16));
    assert!(pair.peer.is_closed(), "nothing came after its offer");
}

#[test]
fn a_channel_whose_messages_are_not_acknowledged_takes_no_more() {
    let mut pair = Pair::open();
    pair.browser_at = ELSEWHERE.parse().unwrap();
    let taken = (0..100).filter(|_| pair.send(&[0; 1_000])).count();
    assert!((3..=5).contains(&taken), "{taken}");
    // The network is back.
    pair.browser_at = HOME.parse().unwrap();
    pair.astray.clear();
    for _ in 0..30 {
        pair.wait(Duration::from_millis(100));
    }
    assert!(pair.send(b"again"));
    assert_eq!(pair.browser.messages.last().unwrap(), b"again");
}

#[test]
fn a_lost_message_is_not_repeated_and_holds_up_nothing() {
    let mut pair = Pair::open();
    for number in 0..200_u8 {
        pair.browser_at = if number % 10 == 3 { ELSEWHERE } else { HOME }
            .parse()
            .unwrap();
        assert!(pair.send(&[number; 100]), "{number}");
        pair.browser_at = HOME.parse().unwrap();
        pair.wait(Duration::from_millis(33));
    }
    let came: Vec<_> = pair
        .browser
        .messages
        .iter()
        .map(|message| message[0])
        .collect();
    let sent: Vec<_> = (0..200).filter(|number| number % 10 != 3).collect();
    assert_eq!(came, sent);
}

#[test]
fn nonsense_is_refused_and_harms_nothing() {
    let mut pair = Pair::open();
    let mut random = fastrand::Rng::with_seed(1);
    let mut refused = 0;
    for _ in 0..2_000 {
        pair.now += Duration::from_millis(2);
        let mut packet: Vec<u8> = (0..random.usize(..200)).map(|_| random.u8(..)).collect();
        if let Some(first) = packet.first_mut() {
            *first = random.u8(..64);
        }
        let mut step = Step::default();
        refused += usize::from(
            pair.receive(&packet, ELSEWHERE.parse().unwrap(), &mut step) == Outcome::Refused,
        );
        assert!(step.packets.is_empty());
        pair.receive(&packet, HOME.parse().unwrap(), &mut step);
    }
    assert_eq!(refused, 2_000);
    assert!(pair.send(b"still here"));
    assert_eq!(pair.browser.messages, [b"still here"]);
}

#[test]
fn a_browser_has_one_association_and_one_stream() {
    let mut pair = Pair::open();
    pair.browser.associate_again(pair.now);
    pair.exchange();
    assert!(pair.peer.is_closed(), "the library keeps each association");

    let mut pair = Pair::open();
    pair.browser.send_on(1, b"on another stream", pair.now);
    pair.exchange();
    assert!(pair.peer.is_closed(), "the library keeps each stream");
    assert!(pair.messages.is_empty());
}

#[test]
fn a_panic_closes_one_browsers_path() {
    let Pair { peer, .. } = Pair::open();
    let path = Path {
        name: 1,
        player: Address::from(IpAddr::from(Ipv4Addr::LOCALHOST)),
        peer: Mutex::new(peer),
        inbox: DatagramInbox::new(|_| true),
    };
    assert_eq!(path.advance(|_, _| 7).0, Some(7));
    let (outcome, step) = path.advance::<()>(|_, step| {
        step.messages.push(b"half done"[..].into());
        panic!("a library's mistake");
    });
    assert!(outcome.is_none() && step.messages.is_empty());
    assert_eq!(path.advance(|peer, _| peer.is_closed()).0, Some(true));
}

/// Carries packets between a browser's socket and the server until there are none.
fn carry(browsers: &Browsers, browser: &mut Browser, socket: &UdpSocket) {
    let from = socket.local_addr().unwrap();
    let mut packet = [0; 2_048];
    loop {
        for packet in std::mem::take(&mut browser.packets) {
            browsers.receive(&packet, from);
        }
        let Ok(len_bytes) = socket.recv(&mut packet) else {
            return;
        };
        browser.receive(&packet[..len_bytes], Instant::now());
    }
}

fn packets(per_second: u32) -> Pace {
    Pace::with_burst(NonZeroU32::new(per_second).unwrap(), BURST)
}

/// Opens a path for a browser on this machine.
fn open_path(browsers: &Arc<Browsers>) -> (Browser, Arc<dyn DatagramPath>, Arc<AtomicUsize>) {
    open_path_from(browsers, Ipv4Addr::LOCALHOST)
}

fn open_path_from(
    browsers: &Arc<Browsers>,
    player: Ipv4Addr,
) -> (Browser, Arc<dyn DatagramPath>, Arc<AtomicUsize>) {
    let mut browser = Browser::new(Instant::now());
    let delivered = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&delivered);
    let inbox = DatagramInbox::new(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        true
    });
    let opened = browsers.open(&browser.offer(), inbox, IpAddr::from(player).into());
    let OpenedPath { answer, path } = opened.unwrap();
    let DatagramAnswer::WebRtc { answer } = answer else {
        panic!("{answer:?}");
    };
    browser.answer(&answer);
    (browser, path, delivered)
}

#[tokio::test]
async fn a_browser_keeps_its_address_when_anothers_requests_name_it() {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.writable().await.unwrap();
    let bound = socket.local_addr().unwrap();
    let metrics = DatagramMetrics::new(&MetricSet::default());
    let outgoing = Outgoing::new(&Arc::new(socket), metrics.clone());
    let browsers = Arc::new(Browsers::new(outgoing, bound, 2, packets(4_096), metrics));
    let (mut owner, path, delivered) = open_path(&browsers);
    let (mut liar, _path, _) = open_path(&browsers);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    let mut lie = || {
        liar.ask();
        let request = liar.packets.pop().unwrap();
        let outcome = browsers.receive(&request, address);
        assert_eq!(outcome, Some(Received::Upkeep));
        // The answer, which the owner would not understand.
        socket.recv(&mut [0; 2_048]).unwrap();
    };

    owner.ask();
    carry(&browsers, &mut owner, &socket);
    lie();
    owner.ask();
    carry(&browsers, &mut owner, &socket);
    owner.begin(Instant::now());
    carry(&browsers, &mut owner, &socket);
    assert!(owner.is_open, "its next request takes the address back");

    lie();
    assert!(path.send(b"down"));
    let uplink = Uplink::default();
    owner.send(&uplink.encode(), Instant::now());
    carry(&browsers, &mut owner, &socket);
    assert_eq!(owner.messages, [b"down"]);
    assert_eq!(delivered.load(Ordering::Relaxed), 1, "an open one's stays");
}

#[tokio::test]
async fn a_path_leaves_the_addresses_that_it_forgets_and_at_its_end_all() {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let bound = socket.local_addr().unwrap();
    let metrics = DatagramMetrics::new(&MetricSet::default());
    let outgoing = Outgoing::new(&Arc::new(socket), metrics.clone());
    let browsers = Arc::new(Browsers::new(outgoing, bound, 2, packets(4_096), metrics));
    let (mut owner, path, _) = open_path(&browsers);
    let (mut other, _path, _) = open_path(&browsers);
    let ask = |browser: &mut Browser, port| {
        browser.ask();
        let request = browser.packets.pop().unwrap();
        browsers.receive(&request, (Ipv4Addr::LOCALHOST, port).into())
    };
    assert_eq!(ask(&mut other, 1), Some(Received::Upkeep));
    for port in 2..22 {
        assert_eq!(ask(&mut owner, port), Some(Received::Upkeep));
    }
    let count = || lock(&browsers.open).by_address.len();
    assert_eq!(count(), 1 + 8);
    drop(path);
    assert_eq!(count(), 1);
}

#[tokio::test(start_paused = true)]
async fn all_browsers_of_one_address_have_a_limit_on_packets_together() {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let bound = socket.local_addr().unwrap();
    let metrics = DatagramMetrics::new(&MetricSet::default());
    let outgoing = Outgoing::new(&Arc::new(socket), metrics.clone());
    let browsers = Arc::new(Browsers::new(outgoing, bound, 3, packets(2), metrics));
    let [here, there] = [1, 2].map(|last| Ipv4Addr::new(192, 0, 2, last));
    let mut outcomes = Vec::new();
    let mut paths = Vec::new();
    for (port, player) in [(1, here), (2, here), (3, there)] {
        let (mut browser, path, _) = open_path_from(&browsers, player);
        paths.push(path);
        let from = (player, port).into();
        browser.ask();
        let request = browser.packets.pop().unwrap();
        assert_eq!(browsers.receive(&request, from), Some(Received::Upkeep));
        let garbage = || browsers.receive(&[20; 40], from).unwrap();
        outcomes.push([(); 3].map(|()| garbage()));
    }
    let [taken, refused] = [Received::Upkeep, Received::Refused];
    let expected = [[taken; 3], [taken, refused, refused], [taken; 3]];
    assert_eq!(outcomes, expected);
}

/// What an offer costs before anything of the browser has come by datagram.
#[test]
fn an_offer_takes_a_kilobyte() {
    let Pair { browser, .. } = Pair::new();
    let text = browser.offer();
    let offer = Offer::parse(&text).unwrap();
    let names = 2 * (offer.ufrag.len() + "0123456789abcdef:".len());
    let bytes = size_of::<Path>() + names + 2 * size_of::<(u64, usize)>();
    assert!(bytes <= 1_024, "{bytes} bytes");
}
