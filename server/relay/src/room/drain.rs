//! The end of a room whose server stops.

use std::time::Duration;

use tracing::warn;

use super::{Connections, clock};
use crate::ending::Ending;

/// Time over which the clients of a stopping server are spread when they come back.
const RETURN_SPREAD_MS: u32 = 3_000;

/// The same where other servers show the room, which are running already.
const RETURN_ELSEWHERE_SPREAD_MS: u32 = 1_000;

/// Interval at which a stopping room tries to write the remaining bytes.
const DRAIN_POLL: Duration = Duration::from_millis(10);

impl Connections {
    /// Sends all receivers that the server stops, and waits until they have taken it.
    pub async fn drain(mut self) {
        self.close();
        let start = clock::now();
        let spread_ms = if self.servers().is_empty() {
            RETURN_SPREAD_MS
        } else {
            RETURN_ELSEWHERE_SPREAD_MS
        };
        for receiver in self.audience.ids() {
            let retry_after_ms = Some(fastrand::u32(0..spread_ms));
            let Some(closing) = Ending::ShuttingDown.closing(retry_after_ms) else {
                break;
            };
            self.send_to(receiver, &closing, start);
        }
        while !self.audience.is_empty() {
            let now = clock::now();
            let is_late = now.saturating_duration_since(start) >= self.settings.drain;
            let drained = self.audience.drain(&self.log, now);
            let ended = if is_late {
                self.audience.ids()
            } else {
                drained
            };
            for receiver in ended {
                self.end(receiver, Ending::ShuttingDown);
            }
            if !self.audience.is_empty() {
                tokio::time::sleep(DRAIN_POLL).await;
            }
        }
        if clock::now() - start >= self.settings.drain {
            warn!(
                room = self.settings.name,
                "some clients did not read that the server stops"
            );
        }
    }
}
