//! The first bytes of a connection: whether a request can follow, and what is answered otherwise.

use std::io;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::closing::{self, Refusal};
use super::connection::{HEAD_DEADLINE, grace_after};
use super::foreign;
use crate::metrics::HttpEnding;
use crate::shared::Shared;
use cubesync_relay::ending::Problem;
use cubesync_relay::session::Stream;

/// Copies the bytes that tell protocols apart.
pub(super) fn beginning(received: &[u8]) -> Vec<u8> {
    received[..received.len().min(foreign::FIRST_BYTES)].to_vec()
}

/// The end of a connection on which no request begins.
pub(super) enum End {
    /// The peer is gone.
    Gone,
    /// The server stops.
    Stopping,
    /// The peer has sent nothing. Browsers keep such connections in reserve, and would show an answer.
    Silent,
    /// No request comes, for this reason.
    Refused(HttpEnding, Refusal),
    /// The peer speaks the game's protocol.
    Game(Problem),
}

/// Looks at the first bytes of a connection. Returns `None` if they may begin a request.
pub(super) async fn look(
    shared: &Shared,
    first: impl Future<Output = io::Result<Vec<u8>>>,
    stop: &CancellationToken,
) -> Option<End> {
    let first = tokio::select! {
        looked = timeout(HEAD_DEADLINE, first) => looked,
        () = grace_after(stop) => return Some(End::Stopping),
    };
    let first = match first {
        Err(_) => return Some(End::Silent),
        Ok(Err(_)) => return Some(End::Gone),
        Ok(Ok(first)) if first.is_empty() => return Some(End::Gone),
        Ok(Ok(first)) => first,
    };
    if let Some(problem) = foreign::game_problem(&first, shared.addresses.tcp.port()) {
        return Some(End::Game(problem));
    }
    foreign::refusal(&first).map(|refusal| End::Refused(HttpEnding::BadRequest, refusal))
}

impl End {
    /// Ends a connection in this way.
    pub(super) async fn of(self, shared: &Shared, stream: impl Stream) {
        match self {
            Self::Gone => {}
            Self::Stopping => closing::close(stream).await,
            Self::Silent => {
                shared.metrics.http_cuts.count(HttpEnding::HeadTimeout);
                closing::close(stream).await;
            }
            Self::Refused(ending, refusal) => {
                shared.metrics.http_cuts.count(ending);
                closing::refuse(stream, refusal).await;
            }
            Self::Game(problem) => {
                shared.metrics.http_cuts.count(HttpEnding::BadRequest);
                shared.host.sessions.turn_away(stream, &problem).await;
            }
        }
    }
}
