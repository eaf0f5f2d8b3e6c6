//! The handshake: what a first message must be.

use cubesync_protocol::limits::PROTOCOL_VERSION;
use cubesync_protocol::{ClientMessage, Hello, Message, TextError, clean_name, clean_room, codec};

use crate::ending::{Ending, Problem};

/// Returns the greeting in a connection's first payload, with clean names.
///
/// # Errors
/// The payload is no greeting of this version, or its names cannot be used.
pub(super) fn check_hello(payload: &[u8]) -> Result<Hello, Problem> {
    let not_hello = |problem: &dyn std::fmt::Display| Problem::greeting(Ending::NotHello, problem);
    match codec::hello_version(payload) {
        Some(PROTOCOL_VERSION) => {}
        Some(version) => {
            let message = format!(
                "the client speaks protocol version {version}, this server serves version \
                 {PROTOCOL_VERSION}: reload the page, or use a client and a server of the same release"
            );
            return Err(Problem::new(Ending::WrongVersion, message));
        }
        None => return Err(not_hello(&"the first message is no Hello")),
    }
    let mut hello = match ClientMessage::decode(payload) {
        Ok(ClientMessage::Hello(hello)) => hello,
        Ok(_) => return Err(not_hello(&"the first message is no Hello")),
        Err(error) => return Err(not_hello(&error)),
    };
    let name_error = |error: TextError| Problem::new(Ending::BadName, error.to_string());
    hello.name = clean_name(&hello.name).map_err(name_error)?;
    hello.room = clean_room(&hello.room).map_err(name_error)?;
    Ok(hello)
}

/// Returns the answer to a peer that speaks without encryption where there is some.
pub(super) fn no_tls() -> Problem {
    Problem::new(
        Ending::NotHello,
        "this server speaks TLS only: put tls:// in front of its address",
    )
}
