//! One payload as a message of either direction.

use std::fmt::Debug;

use cubesync_client::session;
use cubesync_protocol::limits::{
    FRAME_HEADER_BYTES, MAGIC, MAX_ADDRESS_CHARS, MAX_CLIENT_PAYLOAD_BYTES, MAX_NAME_BYTES,
    MAX_NAME_CHARS, MAX_ROOM_BYTES, MAX_ROOM_CHARS, MAX_SERVERS,
};
use cubesync_protocol::text::clusters;
use cubesync_protocol::{
    ClientMessage, Hello, Message, ServerAddress, ServerMessage, clean_name, clean_room, codec,
    folded,
};

/// Checks that a payload is no message or the only encoding of one.
pub fn check(payload: &[u8]) {
    let version = codec::hello_version(payload);
    if payload.len() <= MAX_CLIENT_PAYLOAD_BYTES
        && let Some((message, again)) = round_trip::<ClientMessage>(payload)
    {
        assert_eq!(again, payload, "{message:?}");
        if let ClientMessage::Hello(hello) = message {
            let announced = (hello.magic == MAGIC).then_some(hello.version);
            assert_eq!(version, announced);
            check_names(&hello);
        }
    }
    if let Some((message, again)) = round_trip::<ServerMessage>(payload) {
        // Motion that no server tells is forced into bounds, so the bytes may be others.
        assert_eq!(again.len(), payload.len());
        if let ServerMessage::Welcome(welcome) = message {
            check_servers(welcome.servers);
        }
    }
}

/// Returns the message and its encoding.
fn round_trip<M: Message + PartialEq + Debug>(payload: &[u8]) -> Option<(M, Vec<u8>)> {
    let message = M::decode(payload).ok()?;
    let again = message.to_frame().slice(FRAME_HEADER_BYTES..);
    assert_eq!(M::decode(&again).as_ref(), Ok(&message));
    Some((message, again.into()))
}

/// Checks that the text from which a browser makes an address holds only a host and a port.
fn check_servers(servers: Vec<ServerAddress>) {
    let usable = session::usable(servers);
    assert!(usable.len() <= MAX_SERVERS);
    for text in usable.iter().flat_map(|server| [&server.tcp, &server.web]) {
        assert!(text.len() <= MAX_ADDRESS_CHARS && text.is_ascii());
        assert!(!text.contains(|character| "/\\?#@% ".contains(character)));
    }
}

fn check_names(hello: &Hello) {
    if let Ok(name) = clean_name(&hello.name) {
        check_clean(&name, (MAX_NAME_CHARS, MAX_NAME_BYTES));
        assert_eq!(clean_name(&name), Ok(name));
    }
    if let Ok(room) = clean_room(&hello.room) {
        check_clean(&room, (MAX_ROOM_CHARS, MAX_ROOM_BYTES));
        assert_eq!(clean_room(&room), Ok(room));
    }
}

/// Checks that a clean text is within its limits and shows something.
fn check_clean(text: &str, (limit_chars, limit_bytes): (usize, usize)) {
    assert!((1..=limit_chars).contains(&clusters(text).count()));
    assert!(text.len() <= limit_bytes);
    assert!(!text.contains(char::is_control));
    let key = folded(text);
    assert!(!key.trim().is_empty());
    assert_eq!(folded(&key), key);
}
