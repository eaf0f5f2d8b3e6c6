//! A server without listeners: for a program that has its players' connections already, and for
//! simulated networks.

use std::net::IpAddr;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::bus::Bus;
use crate::room::RoomView;
use crate::run::{Addresses, Base, Shared};
use crate::session::stream::{self, Stream};

/// Rooms, and a way in for any stream of bytes. It tells the time by tokio's clock. Of the
/// configuration it ignores addresses, recordings and encryption.
#[derive(Debug, Clone)]
pub struct Host(Arc<Shared>);

impl Host {
    /// A host that stops when `shutdown` is cancelled. Call it inside of a tokio runtime.
    pub fn new(config: Config, shutdown: CancellationToken) -> Self {
        Self::open(config, None, shutdown)
    }

    /// The same as one of several: they show the same rooms.
    pub fn on_bus(config: Config, bus: Arc<dyn Bus>, shutdown: CancellationToken) -> Self {
        Self::open(config, Some(bus), shutdown)
    }

    fn open(config: Config, bus: Option<Arc<dyn Bus>>, shutdown: CancellationToken) -> Self {
        let addresses = Addresses {
            tcp: config.listen,
            http: config.http,
            text: config.text,
            tls: None,
        };
        let base = Base::new(&config, &addresses, bus, &shutdown);
        Self(Arc::new(Shared::new(
            config, addresses, None, base, shutdown,
        )))
    }

    /// Serves a player's connection to its end; a failure in it ends nothing else. `peer` counts
    /// towards the limits.
    pub fn serve(&self, stream: impl Stream + 'static, peer: IpAddr) {
        match self.0.admission.admit(peer) {
            Ok(admitted) => {
                let shared = Arc::clone(&self.0);
                self.0
                    .spawn(async move { stream::serve(&shared, stream, admitted).await });
            }
            Err(refused) => self.0.metrics.disconnects.count(refused),
        }
    }

    /// A room as it is now; `None` when there is none of that name.
    pub async fn view(&self, room: &str) -> Option<RoomView> {
        self.0.rooms.find(room)?.view().await.ok()
    }

    /// Waits, after `shutdown`, until everybody has been told and is gone.
    pub async fn stopped(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}
