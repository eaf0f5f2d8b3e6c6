//! One connection: the handshake, then frames in, messages to the room.
//!
//! A session only reads; from the moment the room has let it in, the room writes. So no write
//! ever waits for a read or is cut off by one. [`tcp`] and [`websocket`] differ in where the
//! bytes come from and how the last ones are said.

mod handshake;
mod source;
pub(crate) mod tcp;
pub(crate) mod websocket;

use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use cubesync_protocol::limits::FRAME_HEADER_BYTES;
use cubesync_protocol::{ClientMessage, CubeId, Hello, Message, RejectCode, ServerMessage, frame};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use self::handshake::{Refusal, check_hello, not_hello};
use self::source::Source;
use crate::metrics::Disconnect;
use crate::room::fanout::Outlet;
use crate::room::uplink::SpeedRule;
use crate::room::{Entrance, RoomHandle, SightRule};
use crate::rooms::EnterError;
use crate::run::Shared;

/// How long a peer has to take its last frame and close. Closing while bytes of the peer are
/// unread would reset the connection and could destroy that frame (RFC 2525, 2.17).
const LINGER: Duration = Duration::from_secs(1);

/// A burst is this many seconds' worth of messages.
const BURST_SECONDS: NonZeroU32 = NonZeroU32::new(2).expect("two is not zero");

/// How a connection introduced itself.
enum Introduction {
    Hello(Hello),
    Refused(Refusal),
    /// It ended before it had.
    Gone(Disconnect),
}

/// Reads the first message and judges it.
async fn introduction(shared: &Shared, source: &mut Source) -> Introduction {
    let deadline = *shared.config.hello_deadline;
    match tokio::time::timeout(deadline, source.next_frame()).await {
        Err(_) => Introduction::Gone(Disconnect::HelloTimeout),
        Ok(Err(error)) => match error {
            source::Error::Frame(error) => Introduction::Refused(not_hello(&error)),
            source::Error::Lost => Introduction::Gone(Disconnect::Lost),
            source::Error::Closed => Introduction::Gone(Disconnect::Closed),
        },
        Ok(Ok(payload)) => {
            count_frame(shared, &payload);
            match check_hello(&payload, shared.config.join_key.as_deref()) {
                Ok(hello) => Introduction::Hello(hello),
                Err(refusal) => Introduction::Refused(refusal),
            }
        }
    }
}

/// Brings a player into the room they asked for.
async fn enter(
    shared: &Shared,
    hello: Hello,
    outlet: Outlet,
    ended: CancellationToken,
) -> Result<(RoomHandle, CubeId), Refusal> {
    let Hello {
        room,
        name,
        colour,
        resume,
        pose,
        ..
    } = hello;
    let rule = SpeedRule::TopSpeed;
    let entrance = Entrance {
        name,
        colour,
        rule,
        sight: SightRule::Surroundings,
        resume,
        pose,
        outlet,
        ended,
    };
    shared.rooms.enter(&room, entrance).await.map_err(|error| {
        let code = match error {
            EnterError::ShuttingDown => RejectCode::ShuttingDown,
            EnterError::RoomFull | EnterError::TooManyRooms => RejectCode::Full,
        };
        (code, error.to_string())
    })
}

/// The frame that tells a peer it is refused; counts it.
fn refusal_frame(shared: &Shared, (code, message): Refusal) -> Bytes {
    debug!(?code, message, "rejected");
    let frame = ServerMessage::Reject { code, message }.to_frame();
    shared.metrics.disconnected(Disconnect::Rejected);
    shared.metrics.sent_bytes.inc_by(frame.len() as u64);
    shared.metrics.sent_frames.inc();
    frame
}

/// Passes on messages until the connection ends, and says why it did.
async fn read_messages(
    shared: &Shared,
    source: &mut Source,
    room: &RoomHandle,
    cube: CubeId,
) -> Disconnect {
    let per_second = shared.config.max_messages;
    let burst = per_second.saturating_mul(BURST_SECONDS);
    let limiter = RateLimiter::direct(Quota::per_second(per_second).allow_burst(burst));
    // One timer for the connection: to set one for every message would cost more than to read it.
    let dead_after = *shared.config.dead_after;
    let mut heard = Instant::now();
    let silence = tokio::time::sleep(dead_after);
    tokio::pin!(silence);
    loop {
        let payload = tokio::select! {
            biased;
            payload = source.next_frame() => payload,
            () = &mut silence => {
                if heard.elapsed() >= dead_after {
                    return Disconnect::Silent;
                }
                silence.as_mut().reset(heard + dead_after);
                continue;
            }
        };
        heard = Instant::now();
        let payload = match payload {
            Ok(payload) => payload,
            Err(source::Error::Closed) => return Disconnect::Closed,
            Err(source::Error::Lost) => return Disconnect::Lost,
            Err(source::Error::Frame(error)) => {
                debug!(%error, "bad frame");
                return Disconnect::BadMessage;
            }
        };
        count_frame(shared, &payload);
        let message = match judge(&payload, &limiter) {
            Ok(message) => message,
            Err(reason) => return reason,
        };
        if room.message(cube, message).await.is_err() {
            return Disconnect::ShuttingDown;
        }
    }
}

/// The message for the room in a payload, or why the connection ends with it.
fn judge(payload: &[u8], limiter: &DefaultDirectRateLimiter) -> Result<ClientMessage, Disconnect> {
    limiter.check().map_err(|_| Disconnect::TooManyMessages)?;
    match ClientMessage::decode(payload) {
        Ok(ClientMessage::Leave) => Err(Disconnect::Left),
        Ok(ClientMessage::Hello(_)) => Err(Disconnect::BadMessage),
        Ok(message) => Ok(message),
        Err(error) => {
            debug!(%error, "bad message");
            Err(Disconnect::BadMessage)
        }
    }
}

fn count_frame(shared: &Shared, payload: &Bytes) {
    shared.metrics.received_frames.inc();
    shared
        .metrics
        .received_bytes
        .inc_by((payload.len() + FRAME_HEADER_BYTES) as u64);
}
