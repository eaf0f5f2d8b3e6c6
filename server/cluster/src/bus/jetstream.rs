//! Leases in a key-value bucket of NATS's JetStream, one for each cluster, with a key for each room.
//!
//! | written by | value | term |
//! |---|---|---|
//! | acquiring | `SERVER +BASE` | `BASE` + the entry's revision |
//! | renewing | `SERVER TERM` | `TERM` |
//!
//! Every write names the revision that it replaces, so one of several writers wins, and a request that
//! was late for seconds (NATS can be stopped and go on) changes nothing that somebody else wrote since.
//! `BASE` is the time at which the bucket was made, in microseconds of NATS's clock. NATS counts a
//! bucket's revisions from 1, and not as many as microseconds pass, so terms rise even when NATS loses
//! its memory and the bucket is made anew.
//!
//! NATS drops a key [`LEASE_AGE`] after its last write by its own clock. A holder counts the same time
//! from before it asked, so its lease is over for itself first. Three cases need more than that:
//!
//! - After NATS lost its bucket, the new one says nothing about leases that are not over. So every server
//!   waits for [`LEASE_AGE`] before it uses a new bucket.
//! - A holder that lost the answer to its request, or that comes back, finds an entry of its own. It
//!   replaces it.
//! - If the clock of NATS's machine jumps ahead, keys end too early, and a room has two owners until the
//!   first one's next renewal fails, after [`RENEW_EVERY`](super::RENEW_EVERY) at most. If it jumps
//!   back, a holder that dies within [`LEASE_AGE`] after that keeps its key for that much longer.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_nats::Client;
use async_nats::connection::State;
use async_nats::jetstream::context::{
    ContextBuilder, CreateStreamErrorKind, GetStreamError, GetStreamErrorKind, RequestError,
    RequestErrorKind,
};
use async_nats::jetstream::kv::{self, Entry, Store, UpdateErrorKind};
use async_nats::jetstream::stream::{self, DiscardPolicy, Info, Stream};
use async_nats::jetstream::{Context, ErrorCode};
use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::ServerId;
use super::lease::{Holder, LEASE_AGE, LEASE_TIMEOUT, Lease, LeaseError, LeaseFuture, Leases};
use super::subject::token;

/// The numbers of NATS servers that keep the bucket, in the order in which they are tried.
const REPLICAS: [usize; 2] = [3, 1];

/// The longest age of keys in a bucket that somebody else made. A dead owner's room waits for so long.
const MAX_KEY_AGE: Duration = Duration::from_secs(10);

/// The time between two attempts to open the bucket.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A bucket that was made at most this long ago by the clock of this machine may be new. Clocks that
/// differ by more matter only when NATS loses its memory.
const NEW_FOR: Duration = Duration::from_secs(5);

/// The leases of one cluster.
#[derive(Debug, Clone)]
pub(super) struct BucketLeases(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The bucket, or the reason why there is none.
    bucket: watch::Sender<Result<Bucket, String>>,
    /// Wakes the task that opens the bucket.
    reopen: Notify,
}

/// An open bucket.
#[derive(Debug, Clone)]
struct Bucket {
    store: Store,
    context: Context,
}

impl BucketLeases {
    /// Creates leases that cannot be had before a bucket is opened.
    pub(super) fn new() -> Self {
        Self(Arc::new(Shared {
            bucket: watch::Sender::new(Err("not connected to NATS".to_owned())),
            reopen: Notify::new(),
        }))
    }

    /// Closes the bucket, because NATS is away.
    pub(super) fn close(&self, reason: &str) {
        self.set(Err(reason.to_owned()));
    }

    /// Opens the bucket again, because the connection is another one or an operation failed.
    pub(super) fn reopen(&self, reason: &str) {
        self.close(reason);
        self.0.reopen.notify_one();
    }

    /// Opens the bucket whenever [`reopen`](Self::reopen) asks for it, and tries until that succeeds.
    pub(super) async fn keep_open(self, client: Client, cluster: String) {
        let context = ContextBuilder::new()
            .timeout(LEASE_TIMEOUT)
            .build(client.clone());
        let name = format!("{cluster}_leases");
        let mut logged = None;
        loop {
            self.0.reopen.notified().await;
            while client.connection_state() == State::Connected {
                let opened = tokio::select! {
                    opened = Bucket::open(&context, &name) => opened,
                    () = self.0.reopen.notified() => continue,
                };
                let problem = opened.as_ref().err().cloned();
                self.set(opened);
                let is_open = problem.is_none();
                if logged.as_ref() != Some(&problem) {
                    log(&name, problem.as_deref());
                    logged = Some(problem);
                }
                if is_open {
                    break;
                }
                // A timeout is the time of the next attempt.
                let _ = timeout(RETRY_AFTER, self.0.reopen.notified()).await;
            }
        }
    }

    fn set(&self, bucket: Result<Bucket, String>) {
        self.0.bucket.send_modify(|current| *current = bucket);
    }

    /// Returns the bucket if one is open.
    fn bucket(&self) -> Result<Bucket, LeaseError> {
        let bucket = self.0.bucket.borrow();
        bucket.clone().map_err(LeaseError::Unreachable)
    }

    /// Returns the bucket as soon as one is open, if that is soon.
    async fn opened_bucket(&self) -> Result<Bucket, LeaseError> {
        let mut buckets = self.0.bucket.subscribe();
        // After a timeout the reason is in the place of the bucket.
        let _ = timeout(LEASE_TIMEOUT, buckets.wait_for(Result::is_ok)).await;
        self.bucket()
    }

    /// Waits for the result of an operation, [`LEASE_TIMEOUT`] at most.
    async fn within<T>(
        &self,
        operation: impl Future<Output = Result<T, LeaseError>>,
    ) -> Result<T, LeaseError> {
        let late = LeaseError::Unreachable("NATS does not answer in time".to_owned());
        let result = timeout(LEASE_TIMEOUT, operation).await;
        let result = result.unwrap_or(Err(late));
        if let Err(LeaseError::Unreachable(reason)) = &result {
            self.reopen(reason);
        }
        result
    }
}

impl Leases for BucketLeases {
    fn acquire(&self, room: &str, holder: ServerId) -> LeaseFuture<Lease> {
        let (leases, key) = (self.clone(), token(room));
        Box::pin(async move {
            let bucket = leases.opened_bucket().await?;
            leases.within(bucket.acquire(key, holder)).await
        })
    }

    fn renew(&self, room: &str, lease: Lease, holder: ServerId) -> LeaseFuture<Lease> {
        let (leases, key) = (self.clone(), token(room));
        Box::pin(async move {
            let bucket = leases.bucket()?;
            let value = format!("{holder} {}", lease.term);
            let revision = bucket.write(&key, value, lease.revision);
            let revision = leases.within(revision).await?;
            Ok(Lease { revision, ..lease })
        })
    }

    fn release(&self, room: &str, lease: Lease) -> LeaseFuture<()> {
        let (leases, key) = (self.clone(), token(room));
        Box::pin(async move {
            let bucket = leases.bucket()?;
            let purge = bucket
                .store
                .purge_expect_revision(key, Some(lease.revision));
            let purge = async { purge.await.map_err(|error| not_written(&error)) };
            leases.within(purge).await
        })
    }

    fn holder(&self, room: &str) -> LeaseFuture<Option<Holder>> {
        let (leases, key) = (self.clone(), token(room));
        Box::pin(async move {
            let bucket = leases.opened_bucket().await?;
            let entry = leases.within(bucket.read(key)).await?;
            Ok(entry.as_ref().and_then(holder))
        })
    }
}

impl Bucket {
    /// Opens the bucket of that name, or creates it. A new one is open when no leases of before are left.
    async fn open(context: &Context, name: &str) -> Result<Self, String> {
        let info = match context.get_stream(stream_name(name)).await {
            Ok(stream) => stream.cached_info().clone(),
            Err(error) if is_missing(&error) => create(context, name).await?,
            Err(error) => return Err(no_bucket(&error, name)),
        };
        let age = info.config.max_age;
        if !(LEASE_AGE..=MAX_KEY_AGE).contains(&age) {
            return Err(format!(
                "the bucket {name} keeps keys for {age:?} and not for {LEASE_AGE:?}: delete it \
                 (nats kv rm {name}), and the server creates it as it should be"
            ));
        }
        let store = context.get_key_value(name).await;
        let store = store.map_err(|error| error.to_string())?;
        if SystemTime::now() < SystemTime::from(info.created) + NEW_FOR {
            sleep(LEASE_AGE).await;
        }
        Ok(Self {
            store,
            context: context.clone(),
        })
    }

    async fn acquire(&self, key: String, server: ServerId) -> Result<Lease, LeaseError> {
        // The bucket may be another one than when it was opened.
        let stream = self.context.get_stream(&self.store.stream_name);
        let base = base(&stream.await.map_err(unreachable)?);
        let entry = self.read(key.clone()).await?;
        let is_taken = |holder: Holder| holder.server != server;
        if entry.as_ref().and_then(holder).is_some_and(is_taken) {
            return Err(LeaseError::Taken);
        }
        let replaced = entry.map_or(0, |entry| entry.revision);
        let revision = self
            .write(&key, format!("{server} +{base}"), replaced)
            .await?;
        let term = base.saturating_add(revision);
        Ok(Lease { term, revision })
    }

    async fn read(&self, key: String) -> Result<Option<Entry>, LeaseError> {
        self.store.entry(key).await.map_err(unreachable)
    }

    /// Replaces the value of a revision, where 0 stands for none, and returns the new revision.
    async fn write(&self, key: &str, value: String, replaced: u64) -> Result<u64, LeaseError> {
        let written = self.store.update(key, Bytes::from(value), replaced).await;
        written.map_err(|error| not_written(&error))
    }
}

/// Returns the holder that an entry names. A released lease's entry names none.
fn holder(entry: &Entry) -> Option<Holder> {
    let text = std::str::from_utf8(&entry.value).ok()?;
    let (server, number) = text.split_once(' ')?;
    let server = ServerId(u32::from_str_radix(server, 16).ok()?);
    let term = match number.strip_prefix('+') {
        Some(base) => base.parse::<u64>().ok()?.checked_add(entry.revision)?,
        None => number.parse().ok()?,
    };
    Some(Holder { server, term })
}

/// Returns the number that the terms of a bucket's leases are above.
fn base(stream: &Stream<Info>) -> u64 {
    let created = SystemTime::from(stream.cached_info().created);
    let age = created.duration_since(SystemTime::UNIX_EPOCH);
    age.map_or(0, |age| u64::try_from(age.as_micros()).unwrap_or(0))
}

/// Returns the name of the stream that a bucket consists of.
fn stream_name(bucket: &str) -> String {
    format!("KV_{bucket}")
}

/// Creates a bucket on several servers of NATS if it has them. The library's own function for buckets
/// cannot read what a NATS of version 2.9 says about the account.
async fn create(context: &Context, name: &str) -> Result<Info, String> {
    let mut problem = String::new();
    for num_replicas in REPLICAS {
        let config = stream::Config {
            name: stream_name(name),
            description: Some("Which server of cubesync owns which room".to_owned()),
            subjects: vec![format!("$KV.{name}.>")],
            max_messages_per_subject: 1,
            max_age: LEASE_AGE,
            duplicate_window: LEASE_AGE,
            discard: DiscardPolicy::New,
            allow_rollup: true,
            deny_delete: true,
            // Otherwise a server of NATS that is behind the others may answer.
            allow_direct: false,
            num_replicas,
            ..stream::Config::default()
        };
        match context.create_stream(config).await {
            Ok(stream) => return Ok(stream.cached_info().clone()),
            // It says that there are not as many servers.
            Err(error) if matches!(error.kind(), CreateStreamErrorKind::JetStream(_)) => {
                problem = error.to_string();
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    Err(problem)
}

/// Logs that a bucket is open, or why it is not.
fn log(bucket: &str, problem: Option<&str>) {
    match problem {
        None => info!(bucket, "rooms can be shared with other servers"),
        Some(reason) => warn!(
            reason,
            "rooms cannot be shared with other servers until this changes; trying again"
        ),
    }
}

fn unreachable(error: impl std::fmt::Display) -> LeaseError {
    LeaseError::Unreachable(error.to_string())
}

fn not_written(error: &kv::UpdateError) -> LeaseError {
    match error.kind() {
        UpdateErrorKind::WrongLastRevision => LeaseError::Taken,
        _ => unreachable(error),
    }
}

fn is_missing(error: &GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// Returns why there is no bucket, and what to do about it.
fn no_bucket(error: &GetStreamError, bucket: &str) -> String {
    let request = error.source().and_then(|source| source.downcast_ref());
    let code = match error.kind() {
        GetStreamErrorKind::JetStream(error) => Some(error.error_code()),
        _ => None,
    };
    match (request.map(RequestError::kind), code) {
        (Some(RequestErrorKind::NoResponders), _) | (_, Some(ErrorCode::JETSTREAM_NOT_ENABLED)) => {
            "this NATS has no JetStream: start it as `nats-server --jetstream`, or write \
             `jetstream {}` into its configuration"
                .to_owned()
        }
        (_, Some(ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT)) => {
            "this account of NATS has no JetStream: write `jetstream: enabled` into the account in \
             NATS's configuration"
                .to_owned()
        }
        (Some(RequestErrorKind::TimedOut), _) => format!(
            "JetStream does not answer: either this user of NATS may not publish to \
             $JS.API.STREAM.INFO.{} (docs/ops/README.md lists all that it needs), or the servers of \
             NATS have no leader",
            stream_name(bucket)
        ),
        _ => error.to_string(),
    }
}
