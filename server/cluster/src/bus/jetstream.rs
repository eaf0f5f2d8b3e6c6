//! Leases in a key-value bucket of NATS's JetStream, one for each cluster, with a key for each room.
//!
//! | written by | value | term |
//! |---|---|---|
//! | acquiring | `SERVER +BASE` | `BASE` + the entry's revision |
//! | renewing | `SERVER TERM` | `TERM` |
//!
//! A released lease has an empty value.
//!
//! Every write names the revision that it replaces, so one of several writers wins, and a request that
//! was late for seconds (NATS can be stopped and go on) changes nothing that somebody else wrote since.
//! `BASE` is the time at which the bucket was made, in microseconds of NATS's clock. NATS counts a
//! bucket's revisions from 1, and not as many as microseconds pass, so terms rise even when NATS loses
//! its memory and the bucket is made anew. Only where a machine of NATS loses power, and with it what was
//! not yet on its disk, may the next term be lower.
//!
//! NATS drops a key [`LEASE_AGE`] after its last write by its own clock. A holder counts the same time
//! from before it asked, so its lease is over for itself first. Three cases need more than that:
//!
//! - After NATS lost its bucket, the new one says nothing about leases that are not over. So nobody
//!   acquires a lease in a new bucket before those are.
//! - A holder that lost the answer to its request, or that comes back, finds an entry of its own. It
//!   replaces it, and keeps its term if it was renewing.
//! - If the clock of NATS's machine jumps ahead, keys end too early, and a room has two owners until the
//!   first one's next renewal fails, after [`RENEW_EVERY`](super::RENEW_EVERY) at most. If it jumps
//!   back, a holder that dies within [`LEASE_AGE`] after that keeps its key for that much longer.

use std::error::Error;
use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_nats::Client;
use async_nats::connection::State;
use async_nats::jetstream::context::{
    ContextBuilder, CreateStreamErrorKind, GetStreamError, GetStreamErrorKind, PublishErrorKind,
    RequestError, RequestErrorKind,
};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, Info, LastRawMessageErrorKind};
use async_nats::jetstream::{Context, ErrorCode};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::ServerId;
use super::lease::{Holder, LEASE_AGE, LEASE_TIMEOUT, Lease, LeaseError, LeaseFuture, Leases};
use super::subject::token;

/// The numbers of NATS servers that keep the bucket, in the order in which they are tried.
const REPLICAS: [usize; 2] = [3, 1];

/// The longest age of keys in a bucket that somebody else made. A dead owner's room waits for so long.
const MAX_KEY_AGE: Duration = Duration::from_secs(10);

/// The time for which a bucket counts as new, by the clock of this machine. If that differs from
/// NATS's by more than the half second that this is above [`LEASE_AGE`], a bucket that was lost may
/// give a second owner its lease too early.
const NEW_FOR: Duration = Duration::from_millis(1_500);

/// The time between two attempts to open the bucket.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The leases of one cluster.
#[derive(Debug, Clone)]
pub(super) struct BucketLeases {
    context: Context,
    /// The name of the bucket. It is the stream `KV_NAME`, and its keys are the subjects `$KV.NAME.KEY`.
    bucket: String,
}

/// The last value of a key.
struct Entry {
    revision: u64,
    /// The holder of the lease, unless it was released.
    holder: Option<Holder>,
}

impl BucketLeases {
    /// Creates the leases of a cluster.
    pub(super) fn new(client: Client, cluster: &str) -> Self {
        Self {
            context: ContextBuilder::new()
                .timeout(LEASE_TIMEOUT)
                .ack_timeout(LEASE_TIMEOUT)
                .build(client),
            bucket: format!("{cluster}_leases"),
        }
    }

    /// Creates the bucket after each connection to NATS if there is none, and logs why that fails.
    pub(super) async fn keep_open(self, connected: Arc<Notify>) {
        let mut logged = None;
        loop {
            connected.notified().await;
            while self.is_connected() {
                let problem = self.open().await.err();
                let is_open = problem.is_none();
                if logged.as_ref() != Some(&problem) {
                    match &problem {
                        None => info!(bucket = self.bucket, "rooms have leases"),
                        Some(reason) => warn!(
                            reason,
                            "rooms have no leases, so this server is alone; trying again"
                        ),
                    }
                    logged = Some(problem);
                }
                if is_open {
                    break;
                }
                sleep(RETRY_AFTER).await;
            }
        }
    }

    /// Returns the time at which the bucket was made, and makes it if there is none.
    async fn open(&self) -> Result<SystemTime, String> {
        let found = self.context.get_stream(self.stream()).await;
        let info = match found {
            Ok(stream) => stream.cached_info().clone(),
            Err(error) if code(&error) == Some(ErrorCode::STREAM_NOT_FOUND) => {
                self.create().await?
            }
            Err(error) => return Err(self.problem(&error)),
        };
        let (bucket, age) = (&self.bucket, info.config.max_age);
        match (LEASE_AGE..=MAX_KEY_AGE).contains(&age) {
            true => Ok(info.created.into()),
            false => Err(format!(
                "the bucket {bucket} keeps keys for {age:?} and not for {LEASE_AGE:?}: delete it \
                 (nats kv rm {bucket}), and the server makes it as it should be"
            )),
        }
    }

    /// Makes the bucket, on several servers of NATS if there are any. The library's own buckets need
    /// more permissions, and a NATS that tells more than version 2.9.
    async fn create(&self) -> Result<Info, String> {
        let mut problem = String::new();
        for num_replicas in REPLICAS {
            let config = Config {
                name: self.stream(),
                description: Some("Which server of cubesync owns which room".to_owned()),
                subjects: vec![self.subject(">")],
                max_messages_per_subject: 1,
                max_age: LEASE_AGE,
                num_replicas,
                ..Config::default()
            };
            match self.context.create_stream(config).await {
                Ok(stream) => return Ok(stream.cached_info().clone()),
                // It may say that there are not as many servers.
                Err(error) if matches!(error.kind(), CreateStreamErrorKind::JetStream(_)) => {
                    problem = error.to_string();
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        Err(problem)
    }

    /// Acquires the lease of a room, whose key is given.
    async fn take(&self, key: &str, server: ServerId) -> Result<Lease, LeaseError> {
        let created = self.open().await.map_err(LeaseError::Unreachable)?;
        let now = SystemTime::now();
        if now < created + NEW_FOR && created < now + NEW_FOR {
            return Err(unreachable("the bucket is new"));
        }
        let entry = self.read(key).await?;
        let holder = entry.as_ref().and_then(|entry| entry.holder);
        if holder.is_some_and(|holder| holder.server != server) {
            return Err(LeaseError::Taken);
        }
        let base = created.duration_since(SystemTime::UNIX_EPOCH);
        let base = base.map_or(0, |base| u64::try_from(base.as_micros()).unwrap_or(0));
        let replaced = entry.map_or(0, |entry| entry.revision);
        let value = format!("{server} +{base}");
        let revision = self.write(key, value, replaced).await?;
        let term = base.saturating_add(revision);
        Ok(Lease { term, revision })
    }

    /// Returns the last value of a key, as the NATS server says that leads.
    async fn read(&self, key: &str) -> Result<Option<Entry>, LeaseError> {
        let stream = self.context.get_stream_no_info(self.stream()).await;
        let stream = stream.map_err(unreachable)?;
        let subject = self.subject(key);
        match stream.get_last_raw_message_by_subject(&subject).await {
            Ok(message) => Ok(Some(Entry {
                revision: message.sequence,
                holder: holder(&message.payload, message.sequence),
            })),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(unreachable(error)),
        }
    }

    /// Replaces the value of a revision, where 0 stands for none, and returns the new revision.
    async fn write(&self, key: &str, value: String, replaced: u64) -> Result<u64, LeaseError> {
        let message = PublishMessage::build()
            .payload(value.into())
            .expected_last_subject_sequence(replaced);
        let failed = |error: async_nats::jetstream::context::PublishError| match error.kind() {
            PublishErrorKind::WrongLastSequence => LeaseError::Taken,
            _ => unreachable(error),
        };
        let sent = self.context.send_publish(self.subject(key), message).await;
        Ok(sent.map_err(failed)?.await.map_err(failed)?.sequence)
    }

    /// Begins an operation, for which NATS has [`LEASE_TIMEOUT`].
    fn call<T, F>(&self, room: &str, operation: impl FnOnce(Self, String) -> F) -> LeaseFuture<T>
    where
        F: Future<Output = Result<T, LeaseError>> + Send + 'static,
    {
        // Without a connection a request would wait for one, and leave late.
        if !self.is_connected() {
            return Box::pin(async { Err(unreachable("not connected to NATS")) });
        }
        let operation = timeout(LEASE_TIMEOUT, operation(self.clone(), token(room)));
        Box::pin(async {
            let late = |_| Err(unreachable("NATS does not answer in time"));
            operation.await.unwrap_or_else(late)
        })
    }

    fn is_connected(&self) -> bool {
        self.context.client().connection_state() == State::Connected
    }

    fn stream(&self) -> String {
        format!("KV_{}", self.bucket)
    }

    fn subject(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.bucket)
    }

    /// Returns why there is no bucket, and what to do about it.
    fn problem(&self, error: &GetStreamError) -> String {
        let source = error.source().and_then(|source| source.downcast_ref());
        match (source.map(RequestError::kind), code(error)) {
            (Some(RequestErrorKind::NoResponders), _)
            | (_, Some(ErrorCode::JETSTREAM_NOT_ENABLED)) => {
                "this NATS has no JetStream: start it as `nats-server --jetstream`, or write \
                 `jetstream {}` into its configuration"
                    .to_owned()
            }
            (_, Some(ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT)) => {
                "this account of NATS has no JetStream: write `jetstream: enabled` into the account \
                 in NATS's configuration"
                    .to_owned()
            }
            (Some(RequestErrorKind::TimedOut), _) => format!(
                "JetStream does not answer: either this user of NATS may not publish to \
                 $JS.API.STREAM.INFO.{} (docs/ops/README.md lists all that it needs), or the \
                 servers of NATS have no leader",
                self.stream()
            ),
            _ => error.to_string(),
        }
    }
}

impl Leases for BucketLeases {
    fn acquire(&self, room: &str, holder: ServerId) -> LeaseFuture<Lease> {
        self.call(room, async move |leases, key| {
            leases.take(&key, holder).await
        })
    }

    fn renew(&self, room: &str, lease: Lease, holder: ServerId) -> LeaseFuture<Lease> {
        self.call(room, async move |leases, key| {
            let value = format!("{holder} {}", lease.term);
            let term = lease.term;
            let server = holder;
            let known = Some(Holder { server, term });
            let revision = match leases.write(&key, value.clone(), lease.revision).await {
                // An earlier renewal may have been carried out, although its answer was lost.
                Err(LeaseError::Taken) => match leases.read(&key).await? {
                    Some(entry) if entry.holder == known => {
                        leases.write(&key, value, entry.revision).await?
                    }
                    _ => return Err(LeaseError::Taken),
                },
                written => written?,
            };
            Ok(Lease { term, revision })
        })
    }

    fn release(&self, room: &str, lease: Lease) -> LeaseFuture<()> {
        self.call(room, async move |leases, key| {
            let released = leases.write(&key, String::new(), lease.revision).await;
            released.map(drop)
        })
    }

    fn holder(&self, room: &str) -> LeaseFuture<Option<Holder>> {
        self.call(room, async move |leases, key| {
            Ok(leases.read(&key).await?.and_then(|entry| entry.holder))
        })
    }
}

/// Returns the holder that the value of a revision names.
fn holder(value: &[u8], revision: u64) -> Option<Holder> {
    let (server, number) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    let server = ServerId(u32::from_str_radix(server, 16).ok()?);
    let term = match number.strip_prefix('+') {
        Some(base) => base.parse::<u64>().ok()?.checked_add(revision)?,
        None => number.parse().ok()?,
    };
    Some(Holder { server, term })
}

fn unreachable(error: impl Display) -> LeaseError {
    LeaseError::Unreachable(error.to_string())
}

/// Returns the code of NATS's answer, if it is one that says no.
fn code(error: &GetStreamError) -> Option<ErrorCode> {
    match error.kind() {
        GetStreamErrorKind::JetStream(error) => Some(error.error_code()),
        _ => None,
    }
}
