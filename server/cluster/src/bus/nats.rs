//! A bus that consists of one NATS server, or of several that form a NATS cluster.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ClientError, ConnectErrorKind, Event};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::coop;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::jetstream::BucketLeases;
use super::lease::Leases;
use super::options::{BusError, NatsSettings, options};
use super::subject::subject;
use super::{Bus, InboxSender, Received, Subscription, Topic, Traffic};

/// The maximum time for sending the last messages.
const FLUSH_WITHIN: Duration = Duration::from_millis(500);

/// A connection to NATS that reconnects by itself.
#[derive(Debug)]
pub struct Nats {
    client: Client,
    cluster: String,
    runtime: Handle,
    traffic: Arc<Mutex<Traffic>>,
    leases: BucketLeases,
    _keeping_open: AbortOnDropHandle<()>,
}

impl Nats {
    /// Connects in the background, and reconnects for as long as this lives.
    ///
    /// # Errors
    /// Returns an error if the settings make no sense.
    pub async fn start(settings: NatsSettings) -> Result<Arc<Self>, BusError> {
        let (addresses, options) = options(&settings)?;
        let (traffic, connected) = (Arc::default(), Arc::default());
        let log = ConnectionLog {
            traffic: Arc::clone(&traffic),
            connected: Arc::clone(&connected),
            last_problem: Mutex::default(),
        };
        let client = options
            .retry_on_initial_connect()
            .event_callback(move |event| {
                log.event(&event);
                std::future::ready(())
            })
            .connect(addresses)
            .await
            .map_err(|error| BusError::Address(error.to_string()))?;
        let runtime = Handle::current();
        let leases = BucketLeases::new(client.clone(), &settings.cluster_name);
        let keeping_open = leases.clone().keep_open(connected);
        Ok(Arc::new(Self {
            client,
            cluster: settings.cluster_name,
            _keeping_open: AbortOnDropHandle::new(runtime.spawn(keeping_open)),
            runtime,
            traffic,
            leases,
        }))
    }

    /// Waits until the sent messages have been written, for a moment at most.
    pub async fn flush(&self) {
        if self.is_connected() {
            // A timeout is ignored, since nothing could be done about it.
            let _ = tokio::time::timeout(FLUSH_WITHIN, self.client.flush()).await;
        }
    }

    /// Tries to connect once.
    ///
    /// # Errors
    /// Returns an error in words for a person if that does not succeed.
    pub async fn try_once(settings: &NatsSettings) -> Result<(), String> {
        let (addresses, options) = options(settings).map_err(|error| error.to_string())?;
        let connected = options.connect(addresses).await;
        connected.map(drop).map_err(|error| error.to_string())
    }
}

impl Bus for Nats {
    fn publish(&self, topic: &Topic, payload: Bytes) {
        let subject = subject(&self.cluster, topic);
        let len_bytes = subject.len() + payload.len();
        // Outdated messages are worse than none, so nothing is queued without a connection.
        let published = self.is_connected().then(|| {
            // Without the task's budget, publishing is ready at once unless the queue is full.
            coop::unconstrained(self.client.publish(subject, payload)).now_or_never()
        });
        let mut traffic = lock(&self.traffic);
        match published.flatten() {
            Some(Ok(())) => {
                traffic.sent_messages += 1;
                traffic.sent_bytes += len_bytes as u64;
            }
            _ => traffic.lost_sent += 1,
        }
    }

    fn subscribe(&self, topic: &Topic, inbox: InboxSender) -> Subscription {
        let subject = subject(&self.cluster, topic);
        let (client, traffic) = (self.client.clone(), Arc::clone(&self.traffic));
        let mut subscribing = Box::pin(async move { client.subscribe(subject).await });
        // This subscribes at once if possible, so that an answer to the next message is received.
        let subscribed = coop::unconstrained(&mut subscribing).now_or_never();
        let listening = async move {
            let subscribed = match subscribed {
                Some(subscribed) => subscribed,
                None => subscribing.await,
            };
            // Subscribing fails only when the client has ended.
            let Ok(mut subscriber) = subscribed else {
                return;
            };
            while let Some(message) = subscriber.next().await {
                let len_bytes = message.subject.len() + message.payload.len();
                let received = Received {
                    payload: message.payload,
                    at: tokio::time::Instant::now().into_std(),
                };
                let mut traffic = lock(&traffic);
                match inbox.try_send(received) {
                    Ok(()) => {
                        traffic.received_messages += 1;
                        traffic.received_bytes += len_bytes as u64;
                    }
                    Err(TrySendError::Full(_)) => traffic.lost_received += 1,
                    Err(TrySendError::Closed(_)) => return,
                }
            }
        };
        let task = self.runtime.spawn(listening);
        Subscription::new(move || task.abort())
    }

    fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    fn traffic(&self) -> Traffic {
        *lock(&self.traffic)
    }

    fn leases(&self) -> Arc<dyn Leases> {
        Arc::new(self.leases.clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The log of the connection: when it is there, and why it is not, once for each reason.
struct ConnectionLog {
    traffic: Arc<Mutex<Traffic>>,
    connected: Arc<Notify>,
    /// The last logged reason why it is away; empty while it is there.
    last_problem: Mutex<String>,
}

impl ConnectionLog {
    fn event(&self, event: &Event) {
        match event {
            Event::Connected => {
                self.is_new("");
                self.connected.notify_one();
                info!("connected to the bus");
            }
            Event::Disconnected => {
                // The error that follows a disconnection is expected, so it is not logged.
                self.is_new(&ConnectErrorKind::Io.to_string());
                warn!(
                    "disconnected from the bus: this server is alone until it is back; trying again"
                );
            }
            Event::ClientError(ClientError::Other(reason)) if self.is_new(reason) => warn!(
                reason,
                "the bus cannot be reached: this server is alone until it can; trying again"
            ),
            Event::ServerError(error) if self.is_new(&error.to_string()) => {
                warn!(%error, "the bus reports an error");
            }
            Event::SlowConsumer(_) => lock(&self.traffic).lost_received += 1,
            _ => {}
        }
    }

    /// Stores a reason, and returns whether it differs from the last one.
    fn is_new(&self, reason: &str) -> bool {
        std::mem::replace(&mut *lock(&self.last_problem), reason.to_owned()) != reason
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_are_lost_and_counted_without_nats_and_nobody_waits() {
        let settings = NatsSettings::of("127.0.0.1:1".into());
        let nats = Nats::start(settings).await.unwrap();
        let (inbox, _received) = tokio::sync::mpsc::channel(1);
        let _subscription = nats.subscribe(&Topic::Servers, inbox);
        nats.publish(&Topic::Servers, Bytes::from_static(b"hello"));
        assert!(!nats.is_connected());
        let lost = Traffic {
            lost_sent: 1,
            ..Traffic::default()
        };
        assert_eq!(nats.traffic(), lost);
    }
}
