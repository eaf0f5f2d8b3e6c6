//! The end of a room whose server stops.

use std::time::Duration;

use tracing::warn;

use super::{Room, clock};
use crate::ending::Ending;

/// Clients of a stopping server come back spread over this time; over the other if there are more
/// servers, since those are there already.
const RETURN_SPREAD_MS: [u32; 2] = [3_000, 1_000];

/// How often a stopping room tries to write what is left.
const DRAIN_POLL: Duration = Duration::from_millis(10);

impl Room {
    /// Tells everybody that the server stops, and waits until they have it.
    pub(super) async fn drain(&mut self) {
        self.events.close();
        self.peers.leave(&self.world);
        let start = clock::now();
        let spread_ms = RETURN_SPREAD_MS[usize::from(!self.peers.addresses().is_empty())];
        for receiver in self.audience.ids() {
            let retry_after_ms = Some(fastrand::u32(0..spread_ms));
            let Some(closing) = Ending::ShuttingDown.closing(retry_after_ms) else {
                break;
            };
            self.send(receiver, &closing, start);
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
                self.end(receiver, Ending::ShuttingDown, now);
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
