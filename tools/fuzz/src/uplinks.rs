//! What a server gets by datagram from players who also send samples on their streams.

use cubesync_protocol::datagram::Uplink;

/// Checks what [`samples`](crate::samples::check) does, and that a datagram has one encoding.
pub fn check(bytes: &[u8]) {
    if let Ok(uplink) = Uplink::decode(bytes) {
        assert_eq!(&uplink.encode()[..], bytes, "{uplink:?}");
    }
    crate::samples::check_with_datagrams(bytes);
}
