//! Sealed packets that come in any order, repeatedly and altered, and packets of strangers.

use cubesync_protocol::seal::{Direction, OpenError, Opener, Sealer, path_of};

use crate::input::Input;

/// More packets than the window against replays has numbers.
const PACKETS: usize = 80;
const WINDOW: usize = 64;
const KEY: [u8; 32] = [7; 32];
const PATH: u64 = 9;

/// Checks that a packet opens once, as it was, unless it is too old to tell, and that no other opens.
pub fn check(bytes: &[u8]) {
    let mut input = Input(bytes);
    let direction = match input.byte() % 2 {
        0 => Direction::Up,
        _ => Direction::Down,
    };
    let mut sealer = Sealer::new(KEY, PATH, direction);
    let sealed: Vec<Vec<u8>> = (0..PACKETS)
        .map(|number| {
            let mut packet = Vec::new();
            let datagram = vec![number as u8; number];
            sealer
                .seal(&datagram, &mut packet)
                .expect("numbers are left");
            packet
        })
        .collect();
    let mut opener = Opener::new(KEY, direction);
    assert!(opener.open(&mut bytes.to_vec()).is_err(), "a stranger's");
    let (mut opened, mut newest) = ([false; PACKETS], None);
    while !input.is_empty() {
        let number = usize::from(input.byte()) % PACKETS;
        let [place, change] = input.array();
        let mut packet = sealed[number].clone();
        let place = usize::from(place) % packet.len();
        packet[place] ^= change;
        if direction == Direction::Up {
            assert!(change != 0 || path_of(&packet) == Some(PATH));
        }
        match opener.open(&mut packet) {
            Ok(datagram) => {
                assert!(change == 0 && !opened[number]);
                assert_eq!(datagram.datagram, vec![number as u8; number]);
                assert_eq!(datagram.is_newest, newest < Some(number));
                opened[number] = true;
                newest = newest.max(Some(number));
            }
            Err(error) if change == 0 => {
                assert_eq!(error, OpenError::Replayed);
                let is_old = newest.is_some_and(|newest| number + WINDOW <= newest);
                assert!(opened[number] || is_old);
            }
            Err(_) => {}
        }
    }
}
