//! Why connections end: each reason once, with what the peer is told, whether it may come back, and
//! how it is counted.

use std::borrow::Cow;
use std::fmt::Display;

use cubesync_protocol::{CloseCode, FrameError, RejectCode, ServerMessage};
use serde::{Deserialize, Serialize};

use crate::label::Label;

/// Everything about an [`Ending`].
struct Facts {
    /// The value of the counter's label.
    label: &'static str,
    /// Whether the player did not want to go, so that their cube waits for them as a ghost.
    is_accident: bool,
    /// The code and text of a `Reject`, when the connection ends before the player has joined.
    reject: (RejectCode, &'static str),
    /// The code and text of a `Closing`, when it ends afterwards and the peer can still be told.
    closing: Option<(CloseCode, &'static str)>,
    /// The code of the `Closing` by which the room tells a player of the removal, in the operator's words.
    removal: Option<CloseCode>,
}

impl Facts {
    /// Starts with an ending that is no accident and of which the peer is not told.
    const fn new(label: &'static str) -> Self {
        Self {
            label,
            is_accident: false,
            reject: (RejectCode::NotHello, "the connection ended"),
            closing: None,
            removal: None,
        }
    }

    const fn accident(self) -> Self {
        Self {
            is_accident: true,
            ..self
        }
    }

    const fn reject(self, code: RejectCode, message: &'static str) -> Self {
        Self {
            reject: (code, message),
            ..self
        }
    }

    const fn closing(self, code: CloseCode, message: &'static str) -> Self {
        Self {
            closing: Some((code, message)),
            ..self
        }
    }

    const fn removal(self, code: CloseCode) -> Self {
        Self {
            removal: Some(code),
            ..self
        }
    }
}

/// Declares the endings, each with its facts.
macro_rules! endings {
    ($($(#[$doc:meta])* $variant:ident => $facts:expr,)*) => {
        /// Why a player's connection ended: the label of `cubesync_disconnects_total`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Ending { $($(#[$doc])* $variant,)* }

        impl Ending {
            const fn facts(self) -> Facts {
                match self { $(Self::$variant => $facts,)* }
            }
        }

        impl Label for Ending {
            const NAME: &'static str = "reason";
            const ALL: &'static [Self] = &[$(Self::$variant),*];

            fn as_str(self) -> &'static str {
                self.facts().label
            }
        }
    };
}

endings! {
    /// The peer said that it leaves.
    Left => Facts::new("left"),
    /// The peer closed without a word.
    Closed => Facts::new("closed").accident(),
    /// The network broke, or the peer vanished with a reset.
    Lost => Facts::new("lost").accident(),
    /// Nothing came for too long.
    Silent => Facts::new("silent").accident()
        .closing(CloseCode::Silent, "nothing was heard from the client"),
    /// The peer sent something that is no message of the protocol.
    BadMessage => Facts::new("bad_message").closing(
        CloseCode::BadMessage,
        "the server received something that is no message of this protocol",
    ),
    /// A frame was longer than the limit.
    FrameTooLong => Facts::new("frame_too_long").closing(
        CloseCode::BadMessage,
        "the client sent a frame that is longer than the server takes",
    ),
    /// A frame was begun and did not end in time.
    FrameTooSlow => Facts::new("frame_too_slow").accident()
        .reject(RejectCode::NotHello, "a frame that was begun did not end in time")
        .closing(CloseCode::BadMessage, "the client began a frame and did not end it in time"),
    /// More messages came than the limit allows.
    TooManyMessages => Facts::new("too_many_messages")
        .reject(RejectCode::NotHello, "too many messages came")
        .closing(CloseCode::TooManyMessages, "the client sent too many messages"),
    /// More bytes came than the limit allows.
    TooManyBytes => Facts::new("too_many_bytes")
        .reject(RejectCode::NotHello, "too many bytes came")
        .closing(CloseCode::TooManyMessages, "the client sent too many bytes"),
    /// The peer did not read what it was sent.
    SlowReader => Facts::new("slow_reader").accident(),
    /// The player came back on another connection.
    Replaced => Facts::new("replaced")
        .closing(CloseCode::Replaced, "the player came back on another connection"),
    /// The server stopped.
    ShuttingDown => Facts::new("shutting_down")
        .reject(RejectCode::ShuttingDown, "the server is shutting down, try again soon")
        .closing(CloseCode::ShuttingDown, "the server is shutting down"),
    /// No `Hello` in time.
    HelloTimeout => Facts::new("hello_timeout"),
    /// The first message was no `Hello` of this protocol.
    NotHello => Facts::new("not_hello"),
    /// The client speaks another version.
    WrongVersion => Facts::new("wrong_version")
        .reject(RejectCode::Version, "the server serves another version of the protocol"),
    /// The player's or the room's name cannot be used.
    BadName => Facts::new("bad_name").reject(RejectCode::Name, "the name cannot be used"),
    /// The join key is missing or wrong.
    WrongKey => Facts::new("wrong_key").reject(RejectCode::JoinKey, "the join key is wrong"),
    /// Too many wrong keys came from the peer's address.
    TooManyTries => Facts::new("too_many_tries").reject(
        RejectCode::JoinKey,
        "too many wrong join keys came from your address: try again in a minute",
    ),
    /// The server holds all the connections it may.
    ServerFull => Facts::new("server_full")
        .reject(RejectCode::Full, "the server is full, try again later"),
    /// The peer's address holds all the connections it may.
    AddressFull => Facts::new("address_full")
        .reject(RejectCode::Full, "there are too many connections from your address"),
    /// Too many connections have not introduced themselves yet.
    PendingFull => Facts::new("pending_full").reject(
        RejectCode::Full,
        "the server is busy with newcomers, try again in a moment",
    ),
    /// Connections came too fast from the peer's address.
    TooManyArrivals => Facts::new("too_many_arrivals").reject(
        RejectCode::Full,
        "connections come too fast from your address, try again in a few seconds",
    ),
    /// The room has its fill of cubes.
    RoomFull => Facts::new("room_full")
        .reject(RejectCode::Full, "this room is full, try another one"),
    /// The server has its fill of rooms, or of those that one address opened.
    TooManyRooms => Facts::new("too_many_rooms").reject(
        RejectCode::Full,
        "this server has no place for another room, try one that exists",
    ),
    /// The handshake of the encryption failed.
    TlsHandshake => Facts::new("tls_handshake"),
    /// The server's side of the connection, or the room that was asked for, panicked.
    Panicked => Facts::new("panicked").accident().reject(
        RejectCode::Full,
        "this room does not work at the moment, try another one",
    ),
    /// The operator has removed the player.
    Kicked => Facts::new("kicked").removal(CloseCode::Kicked),
    /// The operator has banned the peer's address. Its code is one that clients of every version know, and
    /// that tells them not to come back.
    Banned => Facts::new("banned")
        .reject(RejectCode::JoinKey, "your address is banned from this server")
        .removal(CloseCode::Banned),
}

impl Ending {
    /// Returns whether the player did not want to go and may be on their way back.
    pub fn is_accident(self) -> bool {
        self.facts().is_accident
    }

    /// Returns the text for a person whose connection ends before they have joined.
    pub fn message(self) -> &'static str {
        self.facts().reject.1
    }

    /// Returns the last message to a player who had joined; `None` where the peer knows already or
    /// cannot be told. After `retry_after_ms` their client comes back by itself.
    pub fn closing(self, retry_after_ms: Option<u32>) -> Option<ServerMessage> {
        let (code, message) = self.facts().closing?;
        Some(ServerMessage::Closing {
            code,
            message: message.into(),
            retry_after_ms,
        })
    }
}

/// An ending with the particulars of one case, in words for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// The reason.
    pub ending: Ending,
    /// A sentence for the person at the other end.
    pub message: Cow<'static, str>,
}

impl Problem {
    /// Describes a problem by `message`.
    pub fn new(ending: Ending, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            ending,
            message: message.into(),
        }
    }

    /// Describes what is wrong with a first message.
    pub fn greeting(ending: Ending, problem: &(impl Display + ?Sized)) -> Self {
        let message = format!("this is a cubesync server, and the greeting is wrong: {problem}");
        Self::new(ending, message)
    }

    /// Describes a removal by the operator, with a reason if there is one.
    pub fn removal(ending: Ending, reason: Option<&str>) -> Self {
        let done = match ending {
            Ending::Banned => "the operator has banned your address from this server",
            _ => "the operator has removed you from the room",
        };
        match reason {
            Some(reason) => Self::new(ending, format!("{done}: {reason}")),
            None => Self::new(ending, done),
        }
    }

    /// Returns the last message to a player whom the operator removes, whose client does not come back by
    /// itself; `None` for every other ending.
    pub fn closing(&self) -> Option<ServerMessage> {
        Some(ServerMessage::Closing {
            code: self.ending.facts().removal?,
            message: self.message.clone().into_owned(),
            retry_after_ms: None,
        })
    }

    /// Returns the answer to a peer that has not joined.
    pub fn reject(&self) -> ServerMessage {
        ServerMessage::Reject {
            code: self.ending.facts().reject.0,
            message: self.message.clone().into_owned(),
        }
    }
}

impl From<Ending> for Problem {
    fn from(ending: Ending) -> Self {
        Self::new(ending, ending.message())
    }
}

impl From<FrameError> for Problem {
    fn from(error: FrameError) -> Self {
        let ending = match error {
            FrameError::Empty => Ending::BadMessage,
            FrameError::TooLong { .. } => Ending::FrameTooLong,
        };
        Self::new(ending, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_is_told_before_it_joins_gets_the_code_of_the_reason() {
        for (ending, expected) in [
            (Ending::TooManyBytes, RejectCode::NotHello),
            (Ending::WrongVersion, RejectCode::Version),
            (Ending::TooManyTries, RejectCode::JoinKey),
            (Ending::PendingFull, RejectCode::Full),
            (Ending::Panicked, RejectCode::Full),
            (Ending::ShuttingDown, RejectCode::ShuttingDown),
            (Ending::Banned, RejectCode::JoinKey),
        ] {
            let reject = Problem::from(ending).reject();
            let message = ending.message().to_owned();
            let code = expected;
            assert_eq!(reject, ServerMessage::Reject { code, message });
        }
    }

    #[test]
    fn only_the_network_and_the_servers_own_failures_are_accidents() {
        let accidents = Ending::ALL.iter().filter(|ending| ending.is_accident());
        let labels: Vec<_> = accidents.map(|ending| ending.as_str()).collect();
        let expected = [
            "closed",
            "lost",
            "silent",
            "frame_too_slow",
            "slow_reader",
            "panicked",
        ];
        assert_eq!(labels, expected);
    }

    #[test]
    fn the_operators_words_go_out_once_and_ask_nobody_to_come_back() {
        let words = "the operator has removed you from the room: griefing";
        for (ending, code) in [
            (Ending::Kicked, CloseCode::Kicked),
            (Ending::Banned, CloseCode::Banned),
        ] {
            let removal = Problem::removal(ending, Some("griefing"));
            let Some(ServerMessage::Closing {
                code: told,
                message,
                retry_after_ms: None,
            }) = removal.closing()
            else {
                panic!("{removal:?}");
            };
            assert_eq!((told, message.ends_with(": griefing")), (code, true));
            assert_eq!((ending.closing(None), ending.is_accident()), (None, false));
            assert!(ending != Ending::Kicked || message == words);
        }
        assert_eq!(Problem::from(Ending::Left).closing(), None);
    }
}
