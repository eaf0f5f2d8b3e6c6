//! The ways for datagrams beside a player's stream, whatever carries them.

use std::fmt::{self, Debug};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cubesync_protocol::datagram::Uplink;
use cubesync_protocol::{DatagramAnswer, DatagramRequest};
use tokio::time::Instant;

use crate::budget::Budget;
use crate::by_address::Address;
use crate::token_bucket::TokenBucket;

/// Datagrams a second that a player may send: two for each tick at the highest rate.
pub const MAX_DATAGRAMS_PER_SECOND: NonZeroU32 = NonZeroU32::new(256).expect("it is not zero");

/// Datagrams may come at once that may come in this time, since a network delivers late ones together.
pub const BURST: Duration = Duration::from_secs(2);

/// The ways for datagrams that a server offers.
pub trait DatagramPaths: Debug + Send + Sync {
    /// Opens a path for a player who has asked for it on the stream; `None`: there is no such way, or no
    /// place for one more. It is bounded and limited in its rate. `peer` is the address of the stream.
    fn open(
        &self,
        request: &DatagramRequest,
        inbox: DatagramInbox,
        peer: Address,
    ) -> Option<OpenedPath>;
}

/// A path that was opened, and what its player must be told.
#[derive(Debug)]
pub struct OpenedPath {
    /// The answer for the player.
    pub answer: DatagramAnswer,
    /// The path.
    pub path: Arc<dyn DatagramPath>,
}

/// A way for datagrams to one player. The player's connection holds it; dropping the last reference
/// closes it.
pub trait DatagramPath: Debug + Send + Sync {
    /// Sends the plaintext of a datagram without waiting. Returns false when the peer has not proved its
    /// address yet, or when the path takes nothing now.
    fn send(&self, datagram: &[u8]) -> bool;
}

/// The destination of what a path receives from its player.
#[derive(Clone)]
pub struct DatagramInbox {
    inbox: Arc<Inbox>,
    budget: Option<Budget>,
}

struct Inbox {
    rate: Mutex<TokenBucket>,
    deliver: Box<dyn Fn(Uplink) -> bool + Send + Sync>,
}

impl DatagramInbox {
    /// Creates an inbox that calls `deliver` with each datagram, which does not wait and returns whether it
    /// has taken the datagram.
    pub fn new(deliver: impl Fn(Uplink) -> bool + Send + Sync + 'static) -> Self {
        let now = Instant::now().into_std();
        let rate = TokenBucket::per_second(MAX_DATAGRAMS_PER_SECOND, BURST, now);
        Self {
            inbox: Arc::new(Inbox {
                rate: Mutex::new(rate),
                deliver: Box::new(deliver),
            }),
            budget: None,
        }
    }

    /// Lets the datagrams share the budget of their address.
    pub fn within(self, budget: Option<Budget>) -> Self {
        Self { budget, ..self }
    }

    /// Delivers the plaintext of a datagram. One that cannot be decoded, comes too soon after the others or is
    /// beyond the budget of its address is dropped, and so is any while the room is busy. Returns whether it was delivered.
    pub fn deliver(&self, datagram: &[u8]) -> bool {
        let now = Instant::now().into_std();
        let mut rate = self
            .inbox
            .rate
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let is_allowed = rate.take(1, now);
        drop(rate);
        let has_share = |budget: &Budget| budget.allows_datagram(datagram.len());
        let is_allowed = is_allowed && self.budget.as_ref().is_none_or(has_share);
        let uplink = Some(datagram).filter(|_| is_allowed);
        let uplink = uplink.and_then(|datagram| Uplink::decode(datagram).ok());
        uplink.is_some_and(&self.inbox.deliver)
    }
}

impl Debug for DatagramInbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatagramInbox(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_whole_uplinks_come_in_and_not_too_many_of_them() {
        let count = Arc::new(AtomicU32::new(0));
        let inbox = DatagramInbox::new({
            let count = Arc::clone(&count);
            move |_| {
                count.fetch_add(1, Ordering::Relaxed);
                true
            }
        });
        let uplink = Uplink::default();
        let uplink = uplink.encode();
        assert!(inbox.deliver(&uplink));
        assert!(!inbox.deliver(&uplink[1..]));
        assert!(!inbox.deliver(&[]));
        for _ in 0..2_000 {
            inbox.deliver(&uplink);
        }
        let most = 2 * MAX_DATAGRAMS_PER_SECOND.get();
        assert!((most - 3..=most).contains(&count.load(Ordering::Relaxed)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(inbox.deliver(&uplink));
        let busy = DatagramInbox::new(|_| false);
        assert!(!busy.deliver(&uplink));
    }
}
