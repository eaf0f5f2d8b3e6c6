//! Who is let in: the first message, judged.

use cubesync_protocol::limits::PROTOCOL_VERSION;
use cubesync_protocol::{
    ClientMessage, Hello, Message, RejectCode, TextError, clean_name, clean_room, codec,
};

use crate::metrics::Disconnect;

/// Why somebody is not let in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// For the program.
    pub(super) code: RejectCode,
    /// For the person.
    pub(super) message: String,
    /// For the operator.
    pub(super) reason: Disconnect,
}

/// The greeting in a connection's first payload, its names cleaned.
pub(super) fn check_hello(payload: &[u8]) -> Result<Hello, Refusal> {
    let not_hello = |problem: &dyn std::fmt::Display| not_hello(Disconnect::NotHello, problem);
    match codec::hello_version(payload) {
        Some(PROTOCOL_VERSION) => {}
        Some(version) => {
            return Err(Refusal {
                code: RejectCode::Version,
                message: format!(
                    "the client speaks protocol version {version}, this server serves version \
                     {PROTOCOL_VERSION}: use a client and a server of the same release"
                ),
                reason: Disconnect::WrongVersion,
            });
        }
        None => return Err(not_hello(&"the first message is no Hello")),
    }
    let mut hello = match ClientMessage::decode(payload) {
        Ok(ClientMessage::Hello(hello)) => hello,
        Ok(_) => return Err(not_hello(&"the first message is no Hello")),
        Err(error) => return Err(not_hello(&error)),
    };
    let name_error = |error: TextError| Refusal {
        code: RejectCode::Name,
        message: error.to_string(),
        reason: Disconnect::BadName,
    };
    hello.name = clean_name(&hello.name).map_err(name_error)?.to_owned();
    hello.room = clean_room(&hello.room).map_err(name_error)?.to_owned();
    Ok(hello)
}

/// The refusal of somebody who speaks without encryption where there is some.
pub(super) fn no_tls() -> Refusal {
    Refusal {
        code: RejectCode::NotHello,
        message: "this server speaks TLS only: put tls:// in front of its address".to_owned(),
        reason: Disconnect::NotHello,
    }
}

/// The refusal of something that is no greeting of ours.
pub(super) fn not_hello(
    reason: Disconnect,
    problem: &(impl std::fmt::Display + ?Sized),
) -> Refusal {
    Refusal {
        code: RejectCode::NotHello,
        message: format!("this is a cubesync server, and the greeting is wrong: {problem}"),
        reason,
    }
}
