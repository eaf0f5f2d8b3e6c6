//! The native way for datagrams: sealed packets over UDP.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use bytes::BytesMut;
use cubesync_protocol::limits::MAX_DATAGRAM_BYTES;
use cubesync_protocol::seal::{DOWN_OVERHEAD_BYTES, Direction, Opener, Sealer};
use cubesync_protocol::{DatagramAnswer, DatagramKey, DatagramRequest, PathId};

use crate::socket::Socket;

/// Longest packet that the server sends. A longer one is cut, and then it is not authentic.
const MAX_PACKET_BYTES: usize = MAX_DATAGRAM_BYTES + DOWN_OVERHEAD_BYTES;

/// Largest number of bad packets that are skipped in a row, so that a flood does not hold up a frame.
const MAX_SKIPPED: usize = 64;

/// A way for datagrams beside one stream.
#[derive(Debug)]
pub struct DatagramSocket {
    /// The stream's own end and the server's.
    stream: [SocketAddr; 2],
    state: State,
}

#[derive(Debug)]
enum State {
    New,
    Asked,
    Open(Box<Path>),
    /// There is no way: the server has none, or this machine's network refuses.
    Closed,
}

#[derive(Debug)]
struct Path {
    socket: UdpSocket,
    sealer: Sealer,
    opener: Opener,
    /// The packet that is being sealed.
    packet: Vec<u8>,
}

impl DatagramSocket {
    /// Prepares a way for datagrams to the server of a stream that is open.
    pub fn beside(stream: &Socket) -> Option<Self> {
        let stream = stream.addresses()?;
        let state = State::New;
        Some(Self { stream, state })
    }

    /// Returns the request that the server must get on the stream, once.
    pub fn request(&mut self) -> Option<DatagramRequest> {
        matches!(self.state, State::New).then(|| {
            self.state = State::Asked;
            DatagramRequest::Udp
        })
    }

    /// Takes the server's answer to the request.
    pub fn answered(&mut self, answer: &DatagramAnswer) {
        if !matches!(self.state, State::Asked) {
            return;
        }
        let path = match *answer {
            DatagramAnswer::Udp { port, path, key } => {
                Path::open(self.stream, port, path, key).ok()
            }
            _ => None,
        };
        self.state = path.map_or(State::Closed, |path| State::Open(Box::new(path)));
    }

    /// Puts the next datagram that has arrived into `datagram`, and returns whether there was one.
    pub fn receive(&mut self, datagram: &mut BytesMut) -> bool {
        match &mut self.state {
            State::Open(path) => path.receive(datagram),
            _ => false,
        }
    }

    /// Sends a datagram, or drops it when it cannot be sent now.
    pub fn send(&mut self, datagram: &[u8]) {
        if let State::Open(path) = &mut self.state
            && path.sealer.seal(datagram, &mut path.packet).is_ok()
        {
            // A full buffer and an unreachable port are losses like others.
            let _ = path.socket.send(&path.packet);
        }
    }
}

impl Path {
    /// Opens a socket on the stream's own address, because the server expects its packets from there.
    fn open(
        [mut own, mut server]: [SocketAddr; 2],
        port: u16,
        PathId(id): PathId,
        DatagramKey(key): DatagramKey,
    ) -> io::Result<Self> {
        // A link-local address of IPv6 is one only with the stream's scope, so the addresses are kept whole.
        own.set_port(0);
        if port != 0 {
            server.set_port(port);
        }
        let socket = UdpSocket::bind(own)?;
        socket.set_nonblocking(true)?;
        socket.connect(server)?;
        Ok(Self {
            socket,
            sealer: Sealer::new(key, id, Direction::Up),
            opener: Opener::new(key, Direction::Down),
            packet: Vec::new(),
        })
    }

    fn receive(&mut self, datagram: &mut BytesMut) -> bool {
        let mut packet = [0; MAX_PACKET_BYTES];
        for _ in 0..MAX_SKIPPED {
            let Ok(len_bytes) = self.socket.recv(&mut packet) else {
                return false;
            };
            if let Ok(opened) = self.opener.open(&mut packet[..len_bytes]) {
                datagram.clear();
                datagram.extend_from_slice(opened.datagram);
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::time::Duration;

    use super::*;
    use crate::options::ClientOptions;
    use crate::socket::SocketState;

    const KEY: [u8; 32] = [5; 32];
    const PATH: u64 = 9;

    /// A client's two sockets, and the server's.
    struct Pair {
        stream: Socket,
        client: DatagramSocket,
        server: UdpSocket,
        _listener: TcpListener,
    }

    fn pair() -> Pair {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let options = ClientOptions::new(&address, "Anna");
        let mut stream = Socket::connect(&address, &options, Duration::ZERO);
        while stream.poll(Duration::ZERO) == SocketState::Connecting {
            std::thread::yield_now();
        }
        let client = DatagramSocket::beside(&stream).unwrap();
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let patience = Some(Duration::from_secs(20));
        server.set_read_timeout(patience).unwrap();
        Pair {
            stream,
            client,
            server,
            _listener: listener,
        }
    }

    impl Pair {
        fn answer(&self) -> DatagramAnswer {
            DatagramAnswer::Udp {
                port: self.server.local_addr().unwrap().port(),
                path: PathId(PATH),
                key: DatagramKey(KEY),
            }
        }

        /// Waits for a datagram at the client.
        fn received(&mut self) -> Vec<u8> {
            let mut datagram = BytesMut::new();
            while !self.client.receive(&mut datagram) {
                std::thread::yield_now();
            }
            datagram.to_vec()
        }
    }

    #[test]
    fn datagrams_flow_both_ways_once_the_server_has_answered() {
        let mut pair = pair();
        assert_eq!(pair.client.request(), Some(DatagramRequest::Udp));
        assert_eq!(pair.client.request(), None, "it is asked once");
        pair.client.send(b"dropped");
        pair.client.answered(&pair.answer());
        pair.client.send(b"up");
        let mut packet = [0; 2_000];
        let (len_bytes, from) = pair.server.recv_from(&mut packet).unwrap();
        let [own, _] = pair.stream.addresses().unwrap();
        assert_eq!(from.ip(), own.ip());
        let mut opener = Opener::new(KEY, Direction::Up);
        let opened = opener.open(&mut packet[..len_bytes]).unwrap();
        assert_eq!(opened.datagram, b"up");

        let mut sealer = Sealer::new(KEY, PATH, Direction::Down);
        let (mut packet, longest) = (Vec::new(), [7; MAX_DATAGRAM_BYTES]);
        sealer.seal(&longest, &mut packet).unwrap();
        // Neither garbage nor a replay gets through.
        for packet in [&b"garbage"[..], &packet, &packet] {
            pair.server.send_to(packet, from).unwrap();
        }
        sealer.seal(b"last", &mut packet).unwrap();
        pair.server.send_to(&packet, from).unwrap();
        assert_eq!(pair.received(), longest);
        assert_eq!(pair.received(), b"last");
    }

    #[test]
    fn port_0_is_the_streams_own() {
        let mut pair = pair();
        pair.client.request();
        pair.client.answered(&DatagramAnswer::Udp {
            port: 0,
            path: PathId(PATH),
            key: DatagramKey(KEY),
        });
        let State::Open(path) = &pair.client.state else {
            panic!("{:?}", pair.client);
        };
        let [_, server] = pair.stream.addresses().unwrap();
        assert_eq!(path.socket.peer_addr().unwrap(), server);
    }

    #[test]
    fn without_a_request_or_a_way_nothing_opens() {
        let mut pair = pair();
        pair.client.answered(&pair.answer());
        assert!(matches!(pair.client.state, State::New));
        pair.client.request();
        pair.client.answered(&DatagramAnswer::Unavailable);
        pair.client.answered(&pair.answer());
        assert!(matches!(pair.client.state, State::Closed));
        pair.client.send(b"nobody hears this");
        assert!(!pair.client.receive(&mut BytesMut::new()));
    }

    #[test]
    fn a_port_without_a_server_is_silent() {
        let mut pair = pair();
        pair.client.request();
        pair.client.answered(&pair.answer());
        drop(std::mem::replace(
            &mut pair.server,
            UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
        ));
        for _ in 0..10 {
            pair.client.send(b"nobody hears this");
            assert!(!pair.client.receive(&mut BytesMut::new()));
        }
    }
}
