//! The bus that is a NATS server, or several that are one NATS cluster.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ClientError, ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::coop;
use tracing::{info, warn};

use super::address::{BusAddress, Login};
use super::subject::subject;
use super::{Bus, Ear, Heard, Subscription, Topic, Traffic};
use crate::config::Config;

/// What is said and not yet written: a room of the most cubes, each in a cell of its own, within
/// one tick.
const MAX_WAITING_WORDS: usize = 8_192;

/// What came and is not yet in an ear, per subscription: its task does nothing else than to move it.
const MAX_WAITING_HEARD: usize = 1_024;

/// Silence of NATS before it is asked whether it is there; it is given up when it has not answered
/// twice, so within three of these.
const PING_AFTER: Duration = Duration::from_secs(1);

/// One attempt to connect, encryption and login included.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// Between two attempts, the first of which is made at once.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(1);

/// How long the last words may take.
const FLUSH_WITHIN: Duration = Duration::from_millis(500);

/// Why there is no bus: something about the flags. That NATS is away is no error.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// What is no address.
    #[error("--bus: {0}")]
    Address(String),
    /// A file that cannot be read or used.
    #[error("{flag} {}: {reason}", path.display())]
    File {
        /// The flag it was given with.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// A connection to NATS that comes back by itself.
#[derive(Debug)]
pub struct Nats {
    client: Client,
    cluster: String,
    runtime: Handle,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    sent_messages: AtomicU64,
    sent_bytes: AtomicU64,
    received_messages: AtomicU64,
    received_bytes: AtomicU64,
    lost_sent: AtomicU64,
    lost_received: AtomicU64,
}

impl Nats {
    /// The bus that the configuration asks for; `None`: it asks for none. It connects in the
    /// background, again and again, for as long as this lives.
    ///
    /// # Errors
    /// [`BusError`]: the configuration makes no sense.
    pub async fn start(config: &Config) -> Result<Option<Arc<Self>>, BusError> {
        if config.bus.is_empty() {
            return Ok(None);
        }
        let counts = Arc::new(Counts::default());
        let (addresses, options) = options(config)?;
        let news = News::new(Arc::clone(&counts));
        let client = options
            .retry_on_initial_connect()
            .event_callback(move |event| {
                news.tell(&event);
                std::future::ready(())
            })
            .connect(addresses)
            .await
            .map_err(|error| BusError::Address(error.to_string()))?;
        Ok(Some(Arc::new(Self {
            client,
            cluster: config.cluster_name.clone(),
            runtime: Handle::current(),
            counts,
        })))
    }

    /// Waits until what was said has been written, for a moment at most.
    pub async fn flush(&self) {
        if self.is_connected() {
            // Nobody could do anything about it.
            let _ = tokio::time::timeout(FLUSH_WITHIN, self.client.flush()).await;
        }
    }

    /// Connects once, and says why that does not succeed.
    ///
    /// # Errors
    /// In words for a person.
    pub async fn try_once(config: &Config) -> Result<(), String> {
        let (addresses, options) = options(config).map_err(|error| error.to_string())?;
        let connected = options.connect(addresses).await;
        connected.map(drop).map_err(|error| error.to_string())
    }
}

impl Bus for Nats {
    fn publish(&self, topic: &Topic, payload: Bytes) {
        let subject = subject(&self.cluster, topic);
        let len_bytes = subject.len() + payload.len();
        // Old words are worse than none: while nobody listens, nothing waits.
        let said = self.is_connected().then(|| {
            // Without a limit on what a task may do at once, it is ready unless the queue is full.
            coop::unconstrained(self.client.publish(subject, payload)).now_or_never()
        });
        let counts = &self.counts;
        match said.flatten() {
            Some(Ok(())) => count(&counts.sent_messages, &counts.sent_bytes, len_bytes),
            _ => add(&counts.lost_sent, 1),
        }
    }

    fn subscribe(&self, topic: &Topic, ear: Ear) -> Subscription {
        let subject = subject(&self.cluster, topic);
        let (client, counts) = (self.client.clone(), Arc::clone(&self.counts));
        let mut subscribing = Box::pin(async move { client.subscribe(subject).await });
        // At once if possible, so that an answer to what is said next is heard.
        let subscribed = coop::unconstrained(&mut subscribing).now_or_never();
        let listening = async move {
            let subscribed = match subscribed {
                Some(subscribed) => subscribed,
                None => subscribing.await,
            };
            // It fails only when the client has ended.
            let Ok(mut subscriber) = subscribed else {
                return;
            };
            while let Some(message) = subscriber.next().await {
                let len_bytes = message.subject.len() + message.payload.len();
                let heard = Heard {
                    payload: message.payload,
                    at: tokio::time::Instant::now().into_std(),
                };
                match ear.try_send(heard) {
                    Ok(()) => count(&counts.received_messages, &counts.received_bytes, len_bytes),
                    Err(TrySendError::Full(_)) => add(&counts.lost_received, 1),
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
        let value = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &self.counts;
        Traffic {
            sent_messages: value(&counts.sent_messages),
            sent_bytes: value(&counts.sent_bytes),
            received_messages: value(&counts.received_messages),
            received_bytes: value(&counts.received_bytes),
            lost_sent: value(&counts.lost_sent),
            lost_received: value(&counts.lost_received),
        }
    }
}

fn count(messages: &AtomicU64, bytes: &AtomicU64, len_bytes: usize) {
    add(messages, 1);
    add(bytes, len_bytes as u64);
}

fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}

/// What is said of the connection: when it is there, and once why not.
struct News {
    counts: Arc<Counts>,
    /// Why it is away, as was said last; empty while it is not.
    told: Mutex<String>,
}

impl News {
    fn new(counts: Arc<Counts>) -> Self {
        Self {
            counts,
            told: Mutex::default(),
        }
    }

    fn tell(&self, event: &Event) {
        match event {
            Event::Connected => {
                self.is_new("");
                info!("the bus is there");
            }
            Event::Disconnected => {
                // What comes next goes without saying.
                self.is_new(&ConnectErrorKind::Io.to_string());
                warn!(
                    "the bus is gone: players of other servers are not seen until it is back; trying again"
                );
            }
            Event::ClientError(ClientError::Other(reason)) if self.is_new(reason) => warn!(
                reason,
                "the bus cannot be reached: this server is alone until it can; trying again"
            ),
            Event::ServerError(error) => warn!(%error, "the bus complains"),
            Event::SlowConsumer(_) => add(&self.counts.lost_received, 1),
            _ => {}
        }
    }

    /// Whether this is another reason than the last one.
    fn is_new(&self, reason: &str) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *told, reason.to_owned()) != reason
    }
}

/// Where to connect, and how.
fn options(config: &Config) -> Result<(Vec<ServerAddr>, ConnectOptions), BusError> {
    let parsed: Result<Vec<_>, _> = config.bus.iter().map(BusAddress::parse).collect();
    let (addresses, logins): (Vec<_>, Vec<_>) =
        parsed.map_err(BusError::Address)?.into_iter().unzip();
    let mut options = ConnectOptions::new()
        .name("cubesync-server")
        .no_echo()
        .ping_interval(PING_AFTER)
        .connection_timeout(CONNECT_WITHIN)
        .reconnect_delay_callback(retry_after)
        .client_capacity(MAX_WAITING_WORDS)
        .subscription_capacity(MAX_WAITING_HEARD);
    options = match logins.into_iter().flatten().next() {
        Some(Login::User(user, password)) => options.user_and_password(user, password),
        Some(Login::Token(token)) => options.token(token),
        None => options,
    };
    if let Some(path) = &config.bus_credentials {
        let problem = |reason: String| file("--bus-credentials", path, reason);
        let text = std::fs::read_to_string(path).map_err(|error| problem(error.to_string()))?;
        options = match text.contains("-----BEGIN") {
            true => options
                .credentials(&text)
                .map_err(|error| problem(error.to_string()))?,
            false => options.nkey(seed(&text).ok_or_else(|| {
                problem("neither credentials of NATS nor the seed of an NKey".to_owned())
            })?),
        };
    }
    if let Some(path) = &config.bus_ca {
        certificates(path).map_err(|reason| file("--bus-ca", path, reason))?;
        options = options.add_root_certificates(path.clone());
    }
    if let Some((certificate, key)) = config.bus_cert.as_ref().zip(config.bus_key.as_ref()) {
        certificates(certificate).map_err(|reason| file("--bus-cert", certificate, reason))?;
        PrivateKeyDer::from_pem_file(key)
            .map_err(|error| file("--bus-key", key, error.to_string()))?;
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    Ok((addresses, options))
}

fn file(flag: &'static str, path: &std::path::Path, reason: String) -> BusError {
    BusError::File {
        flag,
        path: path.to_owned(),
        reason,
    }
}

/// Whether a file holds certificates: the library looks only when it connects.
fn certificates(path: &std::path::Path) -> Result<(), String> {
    let pem = std::fs::read(path).map_err(|error| error.to_string())?;
    let count = CertificateDer::pem_slice_iter(&pem)
        .filter(Result::is_ok)
        .count();
    match count {
        0 => Err("holds no certificate in PEM form".to_owned()),
        _ => Ok(()),
    }
}

/// A user's NKey as `nk -gen user` writes it: one line that begins with SU.
fn seed(text: &str) -> Option<String> {
    let mut lines = text.lines().map(str::trim);
    let is_seed = |line: &&str| line.starts_with("SU") && line.len() > 50;
    Some(lines.find(is_seed)?.to_owned())
}

/// How long before an attempt to connect, by how many there were in a row: at once, then about
/// 100 ms, and twice as long each time up to [`MAX_RETRY_AFTER`]. By lot, so that not all servers
/// come back at the same moment.
fn retry_after(attempts: usize) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(2)).unwrap_or(u32::MAX);
    let longest = match attempts {
        0 | 1 => Duration::ZERO,
        _ => Duration::from_millis(100).saturating_mul(2_u32.saturating_pow(doublings)),
    };
    longest
        .min(MAX_RETRY_AFTER)
        .mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn problem(flags: &[&str]) -> String {
        let config = Config::parse_from(["cubesync-server"].iter().chain(flags));
        match options(&config) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn attempts_come_soon_and_at_random() {
        assert_eq!(retry_after(1), Duration::ZERO);
        for attempts in [2, 3, 10, usize::MAX] {
            let after = retry_after(attempts);
            assert!(after >= Duration::from_millis(50) && after <= MAX_RETRY_AFTER);
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_flag_and_name() {
        let nothing = ["--bus", "h", "--bus-ca", "/nowhere/ca.pem"];
        assert!(problem(&nothing).starts_with("--bus-ca /nowhere/ca.pem: "));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        for flag in ["--bus-ca", "--bus-credentials"] {
            let problem = problem(&["--bus", "h", flag, source]);
            assert!(
                problem.starts_with(&format!("{flag} {source}: ")),
                "{problem}"
            );
        }
        assert_eq!(problem(&["--bus", "h"]), "");
    }

    #[tokio::test]
    async fn without_nats_words_are_lost_and_counted_and_nobody_waits() {
        let config = Config::parse_from(["cubesync-server", "--bus", "127.0.0.1:1"]);
        let nats = Nats::start(&config).await.unwrap().unwrap();
        let (ear, _heard) = tokio::sync::mpsc::channel(1);
        let _subscription = nats.subscribe(&Topic::Servers, ear);
        nats.publish(&Topic::Servers, Bytes::from_static(b"hello"));
        assert!(!nats.is_connected());
        let lost = Traffic {
            lost_sent: 1,
            ..Traffic::default()
        };
        assert_eq!(nats.traffic(), lost);
    }
}
