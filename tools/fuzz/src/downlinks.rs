//! What a client gets by datagram, beside a stream on which the server sends anything as well.

use cubesync_protocol::datagram::Downlink;
use cubesync_protocol::limits::MAX_DATAGRAM_BYTES;

use crate::input::Input;
use crate::session::Table;

/// Checks what [`session`](crate::session::check) does, and that a datagram has one encoding.
pub fn check(bytes: &[u8]) {
    if let Ok(downlink) = Downlink::decode(bytes) {
        let again = downlink.encode();
        // Motion that no server tells is forced into bounds, so the bytes may be others.
        assert_eq!(again.len(), bytes.len());
        assert_eq!(Downlink::decode(&again), Ok(downlink));
    }
    let mut input = Input(bytes);
    let mut table = Table::new(&mut input);
    table.open_datagrams();
    while !input.is_empty() {
        match input.byte() % 3 {
            0 => {
                let datagram = input.short_bytes();
                assert!(datagram.len() <= MAX_DATAGRAM_BYTES);
                table.datagram(datagram);
            }
            1 => table.any_downlink(&mut input),
            _ => table.go_on(&mut input),
        }
        table.look();
    }
}
