//! Where a session's frames come from, and how many may come.

use std::future::poll_fn;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cubesync_protocol::{ClientMessage, Message, frame};
use tokio::time::Instant;

use super::transport::{Reader, Received};
use super::{LINGER, SessionSettings};
use crate::budget::Budget;
use crate::ending::{Ending, Problem};
use crate::token_bucket::TokenBucket;

/// A frame that was begun must end within this time. Clients write whole frames of a few dozen bytes,
/// so only a stalled network is slower, and the longest frame passes in it at 2 kB/s.
const FRAME_DEADLINE: Duration = Duration::from_secs(2);

/// A burst is what may come in this time, of messages and of bytes.
const BURST: Duration = Duration::from_secs(2);

/// Frames from the receiving half of a connection.
pub(super) struct Source<From> {
    reader: From,
    received: BytesMut,
    /// When the first bytes of an unfinished frame or message came.
    begun: Option<Instant>,
    messages: TokenBucket,
    bytes: TokenBucket,
    /// The budget of the peer's address, and what this connection has to pay there.
    budget: Option<Budget>,
    owed_bytes: u32,
    /// The pause until it is this connection's turn.
    pause: Option<Pause>,
    /// The end of the newest pause, which may be over.
    paused_until: Option<Instant>,
    /// Whether pauses may have left more unread than the peer sends in their time.
    is_behind: bool,
}

#[derive(Debug, Clone, Copy)]
struct Pause {
    since: Instant,
    until: Instant,
}

impl<From: Reader> Source<From> {
    pub(super) fn new(reader: From, settings: &SessionSettings, budget: Option<Budget>) -> Self {
        let now = Instant::now().into_std();
        Self {
            reader,
            received: BytesMut::new(),
            begun: None,
            messages: TokenBucket::per_second(settings.max_messages_per_second, BURST, now),
            bytes: TokenBucket::per_second(settings.max_bytes_per_second, BURST, now),
            budget,
            owed_bytes: 0,
            pause: None,
            paused_until: None,
            is_behind: false,
        }
    }

    /// Returns the next frame's payload. Cancelling it loses nothing.
    pub(super) async fn next_frame(&mut self) -> Result<Bytes, Problem> {
        loop {
            self.wait_for_turn().await;
            if let Some(payload) =
                frame::split(&mut self.received, ClientMessage::MAX_PAYLOAD_BYTES)?
            {
                self.begun = None;
                self.charge_message()?;
                return Ok(payload);
            }
            if self.received.is_empty() {
                // An idle connection holds no memory for reading.
                self.received = BytesMut::new();
            } else {
                self.begun.get_or_insert_with(Instant::now);
            }
            let Self {
                reader,
                received,
                is_behind,
                ..
            } = self;
            let read = poll_fn(|context| {
                let read = reader.poll_read(received, context);
                *is_behind &= read.is_ready();
                read
            });
            let read = match self.begun {
                None => read.await,
                Some(begun) => tokio::time::timeout_at(begun + FRAME_DEADLINE, read)
                    .await
                    .map_err(|_| Ending::FrameTooSlow)?,
            };
            let (what, len_bytes) = read?;
            self.charge_bytes(len_bytes)?;
            match what {
                Received::Bytes => {}
                Received::Control => {
                    self.begun = None;
                    self.charge_message()?;
                }
                Received::Part => {
                    self.begun.get_or_insert_with(Instant::now);
                }
                Received::End if self.received.is_empty() => return Err(Ending::Closed.into()),
                Received::End => return Err(Ending::Lost.into()),
            }
        }
    }

    /// Returns the bytes that are no frame yet, or will never be one.
    pub(super) fn received(&self) -> &[u8] {
        &self.received
    }

    /// Returns until when the peer could not be heard, because the budget of its address was spent.
    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    /// Waits until the connection has paid what it owes to the budget of its address. Cancelling it loses
    /// nothing.
    async fn wait_for_turn(&mut self) {
        loop {
            if let Some(pause) = self.pause {
                tokio::time::sleep_until(pause.until).await;
                self.pause = None;
                // What could not be read was not late.
                if let Some(begun) = &mut self.begun {
                    *begun += pause.until - pause.since;
                }
            }
            if self.owed_bytes == 0 {
                return;
            }
            self.pay_for_bytes(Instant::now());
        }
    }

    /// Pays for a piece of the bytes that are owed, and begins a pause if it is not there yet.
    fn pay_for_bytes(&mut self, now: Instant) {
        let owed = &mut self.owed_bytes;
        let until = match &self.budget {
            Some(budget) => budget.take_bytes(owed, now),
            None => {
                *owed = 0;
                None
            }
        };
        self.pause(now, until);
    }

    fn pause(&mut self, now: Instant, until: Option<Instant>) {
        let Some(until) = until else { return };
        self.is_behind = true;
        let pause = self.pause.get_or_insert(Pause { since: now, until });
        pause.until = until.max(pause.until);
        self.paused_until = Some(pause.until);
    }

    fn charge_message(&mut self) -> Result<(), Ending> {
        let now = Instant::now();
        let budget = self.budget.as_ref();
        let until = budget.and_then(|budget| budget.take_message(now));
        self.pause(now, until);
        if self.messages.take(1, now.into_std()) {
            return Ok(());
        }
        let until = self.messages.overdraw(1, now.into_std());
        self.catch_up(now, until, Ending::TooManyMessages)
    }

    fn charge_bytes(&mut self, len_bytes: usize) -> Result<(), Ending> {
        let now = Instant::now();
        let len_bytes = u32::try_from(len_bytes).unwrap_or(u32::MAX);
        self.owed_bytes = self.owed_bytes.saturating_add(len_bytes);
        self.pay_for_bytes(now);
        if self.bytes.take(len_bytes, now.into_std()) {
            return Ok(());
        }
        let until = self.bytes.overdraw(len_bytes, now.into_std());
        self.catch_up(now, until, Ending::TooManyBytes)
    }

    /// Ends a peer that sends more than it may, unless pauses have collected it: then it is read as
    /// fast as it may send.
    fn catch_up(
        &mut self,
        now: Instant,
        until: std::time::Instant,
        ending: Ending,
    ) -> Result<(), Ending> {
        if !self.is_behind {
            return Err(ending);
        }
        self.pause(now, Some(Instant::from_std(until)));
        Ok(())
    }

    /// Reads and drops what still comes until the peer closes, at most for [`LINGER`].
    pub(super) async fn linger(mut self) {
        let drain = async {
            let Self {
                reader, received, ..
            } = &mut self;
            while let Ok((what, _)) = poll_fn(|context| reader.poll_read(received, context)).await
                && what != Received::End
            {
                received.clear();
            }
        };
        // A peer that does not close in time is closed.
        let _ = tokio::time::timeout(LINGER, drain).await;
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::num::NonZeroU32;

    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::budget::{Budgets, WorkLimits};
    use crate::metrics::MetricSet;
    use crate::session::stream;

    const EACH: u32 = 100;

    /// Returns how many of so many pings at once are read, and how the connection ends.
    async fn read(pings: usize, budget: Option<Budget>) -> (usize, Ending, Duration) {
        let settings = SessionSettings {
            hello_deadline: Duration::from_secs(2),
            max_messages_per_second: NonZeroU32::new(EACH).unwrap(),
            max_bytes_per_second: NonZeroU32::new(65_536).unwrap(),
            dead_after: Duration::from_secs(15),
            other_ports: None,
        };
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let ping = ClientMessage::Ping { sent_us: 7 }.to_frame();
        client.write_all(&ping.repeat(pings)).await.unwrap();
        drop(client);
        let (reader, _writer) = stream::split(server);
        let mut source = Source::new(reader, &settings, budget);
        let (start, mut count) = (Instant::now(), 0);
        loop {
            match source.next_frame().await {
                Ok(_) => count += 1,
                Err(problem) => return (count, problem.ending, start.elapsed()),
            }
        }
    }

    fn budget(messages: u32) -> Option<Budget> {
        let messages = NonZeroU32::new(messages).unwrap();
        let bytes = NonZeroU32::new(1_000_000).unwrap();
        let limits = WorkLimits { messages, bytes };
        let here = IpAddr::from([192, 0, 2, 1]);
        Budgets::new(limits, &MetricSet::default()).of(here.into())
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_too_much_alone_is_ended_and_who_had_to_wait_is_not() {
        let (count, ending, _) = read(600, None).await;
        assert_eq!(
            (count, ending),
            (2 * EACH as usize, Ending::TooManyMessages)
        );
        let (count, ending, _) = read(600, budget(10 * EACH)).await;
        assert_eq!(
            (count, ending),
            (2 * EACH as usize, Ending::TooManyMessages)
        );
        // A tenth of its own rate comes from the address: what it was made to keep is read in the end.
        let (count, ending, took) = read(600, budget(EACH / 10)).await;
        assert_eq!((count, ending), (600, Ending::Closed));
        let seconds = took.as_secs();
        assert!((57..=59).contains(&seconds), "{took:?}");
    }
}
