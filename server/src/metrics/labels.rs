//! The labels of the counters: every value a label can have, so that their number is bounded.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

/// Declares an enumeration whose variants are the values of a metric's label.
macro_rules! labels {
    ($(#[$about:meta])* $vis:vis enum $name:ident { $($(#[$doc:meta])* $variant:ident => $text:literal,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        $vis enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// Every value.
            $vis const ALL: [Self; [$($text),*].len()] = [$(Self::$variant),*];

            /// The value as it stands in metrics.
            $vis fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
                EncodeLabelValue::encode(&self.as_str(), encoder)
            }
        }
    };
}

labels! {
    /// Why a player's connection ended: the label of `cubesync_disconnects_total`.
    pub enum Disconnect {
        /// The peer said that it leaves.
        Left => "left",
        /// The peer closed without a word.
        Closed => "closed",
        /// The network broke, or the peer vanished with a reset.
        Lost => "lost",
        /// Nothing came for too long.
        Silent => "silent",
        /// What came was no message of the protocol.
        BadMessage => "bad_message",
        /// A frame was longer than the limit.
        FrameTooLong => "frame_too_long",
        /// A frame was begun and did not end in time.
        FrameTooSlow => "frame_too_slow",
        /// More messages came than the limit allows.
        TooManyMessages => "too_many_messages",
        /// More bytes came than the limit allows.
        TooManyBytes => "too_many_bytes",
        /// The peer did not read what it was sent.
        SlowReader => "slow_reader",
        /// The player came back on another connection.
        Replaced => "replaced",
        /// The server stopped.
        ShuttingDown => "shutting_down",
        /// No `Hello` in time.
        HelloTimeout => "hello_timeout",
        /// The first message was no `Hello` of this protocol.
        NotHello => "not_hello",
        /// The client speaks another version.
        WrongVersion => "wrong_version",
        /// The player's or the room's name cannot be used.
        BadName => "bad_name",
        /// The join key is missing or wrong.
        WrongKey => "wrong_key",
        /// Too many wrong keys came from the peer's address.
        TooManyTries => "too_many_tries",
        /// Too many connections in all.
        ServerFull => "server_full",
        /// Too many connections from the peer's address.
        AddressFull => "address_full",
        /// Too many connections that have not introduced themselves.
        PendingFull => "pending_full",
        /// Connections came too fast from the peer's address.
        TooManyArrivals => "too_many_arrivals",
        /// The room has its fill of cubes.
        RoomFull => "room_full",
        /// The server has its fill of rooms.
        TooManyRooms => "too_many_rooms",
        /// The handshake of the encryption failed.
        TlsHandshake => "tls_handshake",
        /// The server's side of the connection panicked.
        Panicked => "panicked",
    }
}

impl Disconnect {
    /// Whether the player may be on their way back.
    pub fn is_accident(self) -> bool {
        matches!(
            self,
            Self::Closed
                | Self::Lost
                | Self::Silent
                | Self::FrameTooSlow
                | Self::SlowReader
                | Self::Panicked
        )
    }
}

labels! {
    /// Why an HTTP connection ended otherwise than by being served: the label of
    /// `cubesync_http_cuts_total`.
    pub(crate) enum HttpCut {
        /// No request's head in time, on a connection that had had none.
        HeadTimeout => "head_timeout",
        /// The head was too long, or had too many headers.
        HeadTooLong => "head_too_long",
        /// What came was no HTTP.
        BadRequest => "bad_request",
        /// The connection lived for as long as one may.
        Lifetime => "lifetime",
        /// Too many connections in all.
        Full => "full",
        /// Too many connections from the peer's address.
        AddressFull => "address_full",
        /// The handshake of the encryption failed.
        TlsHandshake => "tls_handshake",
        /// The network broke, or the peer went away in the middle.
        Lost => "lost",
    }
}

labels! {
    /// What panicked: the label of `cubesync_panics_total`.
    pub(crate) enum Task {
        /// One connection.
        Connection => "connection",
        /// One room.
        Room => "room",
        /// Anything else.
        Other => "other",
    }
}

labels! {
    /// What was listened to: the label of `cubesync_accept_errors_total`.
    pub(crate) enum Door {
        /// Players' connections.
        Tcp => "tcp",
        /// Pages.
        Http => "http",
        /// The line protocol.
        Text => "text",
    }
}

/// A counter for each value of one label.
macro_rules! label_sets {
    ($($name:ident { $label:ident: $value:ty })*) => {$(
        #[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub(super) struct $name {
            pub(super) $label: $value,
        }
    )*};
}

label_sets! {
    SampleLabels { timing: &'static str }
    CorrectionLabels { reason: &'static str }
    ResumeLabels { outcome: &'static str }
    ReloadLabels { outcome: &'static str }
    LostLabels { direction: &'static str }
    DisconnectLabels { reason: Disconnect }
    HttpCutLabels { reason: HttpCut }
    ResponseLabels { status: u16 }
    PanicLabels { task: Task }
    DoorLabels { listener: Door }
}
