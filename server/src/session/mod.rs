//! One connection: the handshake, then frames in, messages to the room.
//!
//! A session only reads; from the moment the room has let it in, the room writes. So no write
//! ever waits for a read or is cut off by one. [`tcp`] and [`websocket`] differ in where the
//! bytes come from and how the last ones are said.

mod handshake;
mod keys;
mod queued;
mod reader;
mod source;
pub(crate) mod stream;
pub(crate) mod tcp;
pub(crate) mod websocket;

use std::time::Duration;

use bytes::Bytes;
use cubesync_protocol::limits::FRAME_HEADER_BYTES;
use cubesync_protocol::{ClientMessage, Hello, Message, frame};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use self::handshake::check_hello;
pub(crate) use self::keys::Keys;
use self::source::Source;
use crate::admission::Admitted;
use crate::ending::{Ending, Problem};
use crate::label::Label;
use crate::room::audience::Outlet;
use crate::room::speed::SpeedRule;
use crate::room::{Entrance, RoomHandle, Seat, SightRule};
use crate::run::Shared;

/// How long a peer has to take its last frame and close. Closing while bytes of the peer are
/// unread would reset the connection and could destroy that frame (RFC 2525, 2.17).
const LINGER: Duration = Duration::from_secs(1);

/// How a connection introduced itself.
enum Introduction {
    Hello(Hello),
    Refused(Problem),
    /// It ended before it had.
    Gone(Ending),
}

/// Reads the first message and judges it.
async fn introduction(shared: &Shared, source: &mut Source, admitted: &Admitted) -> Introduction {
    let deadline = shared.config.hello_deadline;
    let Ok(first) = tokio::time::timeout(*deadline, source.next_frame()).await else {
        let problem = format!("it did not come within {deadline}");
        return Introduction::Refused(Problem::greeting(Ending::HelloTimeout, &problem));
    };
    match first {
        Ok(payload) => {
            count_frame(shared, &payload);
            let hello = check_hello(&payload).and_then(|hello| {
                let given = hello.join_key.as_deref();
                shared.keys.check(&hello.room, given, admitted.address())?;
                Ok(hello)
            });
            match hello {
                Ok(hello) => Introduction::Hello(hello),
                Err(problem) => Introduction::Refused(problem),
            }
        }
        Err(Problem { ending, .. }) if matches!(ending, Ending::Lost | Ending::Closed) => {
            Introduction::Gone(ending)
        }
        Err(problem) => {
            let ending = match problem.ending {
                Ending::BadMessage | Ending::FrameTooLong => Ending::NotHello,
                ending => ending,
            };
            Introduction::Refused(Problem::greeting(ending, &problem))
        }
    }
}

/// A player's place in a room. Who lets go of it without a word has panicked.
pub(crate) struct Membership {
    pub(crate) room: RoomHandle,
    pub(crate) seat: Seat,
    is_over: bool,
}

impl Membership {
    pub(crate) fn new(room: RoomHandle, seat: Seat) -> Self {
        Self {
            room,
            seat,
            is_over: false,
        }
    }

    /// Takes the player out; without a reason, the room has ended the connection already.
    pub(crate) async fn end(mut self, reason: Option<Ending>) {
        self.is_over = true;
        if let Some(reason) = reason {
            // A room that has ended has said goodbye already.
            let _ = self.room.leave(self.seat, reason).await;
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        if !self.is_over {
            self.room.abandon(self.seat);
        }
    }
}

/// Brings a player into the room they asked for.
async fn enter(
    shared: &Shared,
    hello: Hello,
    outlet: Outlet,
    ended: &CancellationToken,
    admitted: &Admitted,
) -> Result<Membership, Ending> {
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
        ended: ended.clone(),
    };
    let (room, seat) = shared
        .rooms
        .enter(&room, entrance, admitted.address())
        .await?;
    Ok(Membership::new(room, seat))
}

/// Returns the frame that tells a peer that it is refused, and counts it.
fn refusal_frame(shared: &Shared, problem: &Problem) -> Bytes {
    debug!(reason = problem.ending.as_str(), %problem, "rejected");
    let frame = problem.reject().to_frame();
    shared.metrics.disconnects.count(problem.ending);
    shared.metrics.sent_bytes.inc_by(frame.len() as u64);
    shared.metrics.sent_frames.inc();
    frame
}

/// Passes on messages until the connection ends, and says why it did.
async fn read_messages(shared: &Shared, source: &mut Source, membership: &Membership) -> Ending {
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
                    return Ending::Silent;
                }
                silence.as_mut().reset(heard + dead_after);
                continue;
            }
        };
        heard = Instant::now();
        let payload = match payload {
            Ok(payload) => payload,
            Err(error) => {
                debug!(reason = error.ending.as_str(), %error, "no more frames");
                return error.ending;
            }
        };
        count_frame(shared, &payload);
        let message = match ClientMessage::decode(&payload) {
            Ok(ClientMessage::Leave) => return Ending::Left,
            Ok(ClientMessage::Hello(_)) => return Ending::BadMessage,
            Ok(message) => message,
            Err(error) => {
                debug!(%error, "bad message");
                return Ending::BadMessage;
            }
        };
        let Membership { room, seat, .. } = membership;
        if room.message(*seat, message).await.is_err() {
            return Ending::ShuttingDown;
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

#[cfg(test)]
mod tests {
    use clap::Parser;
    use cubesync_protocol::{Colour, CubeKind};

    use super::*;
    use crate::Config;
    use crate::run::{Addresses, Base};

    #[tokio::test]
    async fn a_session_that_panics_ends_alone_and_its_player_may_come_back() {
        let config = Config::parse_from(["cubesync-server"]);
        let addresses = Addresses {
            tcp: config.listen,
            http: config.http,
            text: None,
            tls: None,
        };
        let shutdown = CancellationToken::new();
        let base = Base::new(&config, &addresses, None, &shutdown);
        let shared = Shared::new(config, addresses, None, base, shutdown);
        let join = async |name| {
            let ended = CancellationToken::new();
            let hello = Hello::new("lobby", name, Colour::from([1, 2, 3]));
            let admitted = shared.admission.admit([127, 0, 0, 1].into()).unwrap();
            let entered = enter(&shared, hello, Outlet::Nowhere, &ended, &admitted).await;
            (entered.unwrap(), ended)
        };
        let ((unlucky, ended), (bystander, _)) = (join("unlucky").await, join("bystander").await);
        shared.spawn(async move {
            let _membership = unlucky;
            panic!("the test asked for it");
        });
        ended.cancelled().await;
        let cubes = bystander.room.view().await.unwrap().cubes;
        let kind = |name: &str| cubes.iter().find(|cube| cube.name == name).unwrap().kind;
        assert_eq!(kind("unlucky"), CubeKind::Ghost);
        assert_eq!(kind("bystander"), CubeKind::Player);
        let counted: Vec<_> = shared.metrics.disconnects.counts().collect();
        assert_eq!(counted, [(Ending::Panicked, 1)]);
        bystander.end(Some(Ending::Left)).await;
    }
}
