//! What a datagram costs beside the system's own work: a bare send and a bare receive over loopback,
//! and the same with sealing and opening.
//!
//! `cargo bench -p cubesync-bench --bench datagram`; items are datagrams.

use std::net::{Ipv4Addr, UdpSocket};

use cubesync_protocol::limits::MAX_DATAGRAM_BYTES;
use cubesync_protocol::seal::{Direction, Opener, Sealer};
use divan::Bencher;
use divan::counter::ItemsCount;

const KEY: [u8; 32] = [7; 32];
const PATH: u64 = 1;

/// Plaintext lengths in bytes: a tick of a few players, and the longest.
const LENGTHS: [usize; 2] = [120, MAX_DATAGRAM_BYTES];

/// A packet and the room for its header and tag.
const MAX_PACKET_BYTES: usize = 2_048;

fn main() {
    divan::main();
}

/// Two sockets that send to each other.
fn pair() -> [UdpSocket; 2] {
    let socket = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback is there");
    let pair = [socket(), socket()];
    for (from, to) in [(0, 1), (1, 0)] {
        let address = pair[to].local_addr().expect("it is bound");
        pair[from].connect(address).expect("loopback is there");
    }
    pair
}

/// Sends a datagram to itself as it is.
#[divan::bench(args = LENGTHS)]
fn bare(bencher: Bencher<'_, '_>, len_bytes: usize) {
    let [from, to] = pair();
    let (datagram, mut packet) = (vec![0; len_bytes], [0; MAX_PACKET_BYTES]);
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
        from.send(&datagram).expect("the buffer is empty");
        to.recv(&mut packet).expect("one was sent")
    });
}

/// Seals a datagram, sends it to itself and opens it.
#[divan::bench(args = LENGTHS)]
fn sealed(bencher: Bencher<'_, '_>, len_bytes: usize) {
    let [from, to] = pair();
    let (datagram, mut packet) = (vec![0; len_bytes], [0; MAX_PACKET_BYTES]);
    let mut sealer = Sealer::new(KEY, PATH, Direction::Up);
    let mut opener = Opener::new(KEY, Direction::Up);
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
        let mut sealed = Vec::new();
        sealer
            .seal(&datagram, &mut sealed)
            .expect("numbers are left");
        from.send(&sealed).expect("the buffer is empty");
        let len_bytes = to.recv(&mut packet).expect("one was sent");
        let opened = opener.open(&mut packet[..len_bytes]);
        opened.expect("it was sealed").datagram.len()
    });
}
