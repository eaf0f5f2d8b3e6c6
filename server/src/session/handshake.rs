//! Who is let in: the first message, judged.

use cubesync_protocol::limits::PROTOCOL_VERSION;
use cubesync_protocol::{
    ClientMessage, Hello, Message, RejectCode, TextError, clean_name, clean_room, codec,
};
use subtle::ConstantTimeEq;

/// A refusal: for the program, and for the person.
pub(super) type Refusal = (RejectCode, String);

/// The greeting in a connection's first payload, its names cleaned.
pub(super) fn check_hello(payload: &[u8], expected_key: Option<&str>) -> Result<Hello, Refusal> {
    match codec::hello_version(payload) {
        Some(PROTOCOL_VERSION) => {}
        Some(version) => {
            let message = format!(
                "the client speaks protocol version {version}, this server serves version \
                 {PROTOCOL_VERSION}: use a client and a server of the same release"
            );
            return Err((RejectCode::Version, message));
        }
        None => return Err(not_hello(&"the first message is no Hello")),
    }
    let mut hello = match ClientMessage::decode(payload) {
        Ok(ClientMessage::Hello(hello)) => hello,
        Ok(_) => return Err(not_hello(&"the first message is no Hello")),
        Err(error) => return Err(not_hello(&error)),
    };
    let name_error = |error: TextError| (RejectCode::Name, error.to_string());
    hello.name = clean_name(&hello.name).map_err(name_error)?.to_owned();
    hello.room = clean_room(&hello.room).map_err(name_error)?.to_owned();
    check_join_key(expected_key, hello.join_key.as_deref())?;
    Ok(hello)
}

fn check_join_key(expected: Option<&str>, given: Option<&str>) -> Result<(), Refusal> {
    let Some(expected) = expected else {
        return Ok(());
    };
    // In constant time, so that answers do not tell how much of a guess was right.
    let right = given.is_some_and(|given| given.as_bytes().ct_eq(expected.as_bytes()).into());
    if right {
        return Ok(());
    }
    let problem = if given.is_some() {
        "is wrong"
    } else {
        "is missing"
    };
    Err((
        RejectCode::JoinKey,
        format!("this server asks for a join key, and it {problem}"),
    ))
}

/// The refusal of something that is no greeting of ours.
pub(super) fn not_hello(error: &impl std::fmt::Display) -> Refusal {
    (
        RejectCode::NotHello,
        format!("this is a cubesync server, and the greeting is wrong: {error}"),
    )
}
