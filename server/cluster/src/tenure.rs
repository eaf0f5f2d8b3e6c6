//! A room's lease, as the server that has it or wants it keeps it.

use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Cluster;
use crate::bus::{
    Holder, LEASE_AGE, Lease, LeaseError, LeaseFuture, Leases, RENEW_EVERY, ServerId,
};
use crate::clock::now;

/// Time between two attempts to get a lease.
const RETRY_EVERY: Duration = Duration::from_millis(200);

/// Time for which nobody must have had the lease before a server without players asks for it: servers with
/// players, which know the room, have asked twice meanwhile.
const MODEST_FOR: Duration = Duration::from_millis(400);

/// What has become of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TenureChange {
    /// This server has it from now on.
    Acquired,
    /// Another server has it.
    Taken(Holder),
    /// It is no longer this server's, or could not be renewed in time.
    Lost,
    /// Whether anybody has it cannot be known now.
    Unreachable,
}

/// The lease of one room: held and renewed, or wanted and asked for.
pub(crate) struct Tenure {
    leases: Arc<dyn Leases>,
    room: String,
    server: ServerId,
    held: Option<Held>,
    /// The call that is under way, and when it began.
    call: Option<(Instant, Call)>,
    next_at: Instant,
    /// Whether servers that have players of the room are to get the lease first.
    is_modest: bool,
    /// When somebody else's word made this server ask earlier.
    hurried_at: Option<Instant>,
    /// The first and the last of the answers in a row that nobody has the lease.
    free: Option<(Instant, Instant)>,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    lease: Lease,
    /// The end of the lease by this server's clock: the age is counted from before the request.
    until: Instant,
}

/// A call to the leases.
enum Call {
    Acquire(LeaseFuture<Lease>),
    Renew(LeaseFuture<Lease>),
    Holder(LeaseFuture<Option<Holder>>),
}

/// The answer to a call.
enum Answer {
    Acquired(Result<Lease, LeaseError>),
    Renewed(Result<Lease, LeaseError>),
    Holder(Result<Option<Holder>, LeaseError>),
}

impl Tenure {
    /// Creates the tenure of a server that wants a room's lease at once.
    pub(crate) fn wanted(cluster: &Cluster, room: &str) -> Self {
        let room = cluster.rules().shared_name(room);
        Self::new(cluster.bus().leases(), room, cluster.id())
    }

    fn new(leases: Arc<dyn Leases>, room: String, server: ServerId) -> Self {
        Self {
            leases,
            room,
            server,
            held: None,
            call: None,
            next_at: now(),
            is_modest: false,
            hurried_at: None,
            free: None,
        }
    }

    /// Sets whether servers that have players of the room are to get the lease first.
    pub(crate) fn set_modest(&mut self, is_modest: bool) {
        self.is_modest = is_modest;
    }

    /// Returns the term of the lease if this server holds it.
    pub(crate) fn term(&self, now: Instant) -> Option<u64> {
        let held = self.held.filter(|held| now < held.until)?;
        Some(held.lease.term)
    }

    /// Returns whether an answer is awaited.
    pub(crate) fn is_asking(&self) -> bool {
        self.call.is_some()
    }

    /// Leaves the lease to others for a while.
    pub(crate) fn wait(&mut self, time: Duration) {
        self.next_at = now() + time;
    }

    /// Asks at once, because of somebody else's word: not more often than it would without.
    pub(crate) fn hurry(&mut self) {
        let now = now();
        if self.hurried_at.is_none_or(|at| now >= at + RETRY_EVERY) {
            self.hurried_at = Some(now);
            self.next_at = self.next_at.min(now);
        }
    }

    /// Waits until something has become of the lease. Cancelling it loses nothing.
    pub(crate) async fn changed(&mut self) -> TenureChange {
        loop {
            let until = self.held.map(|held| held.until);
            let lost = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until.into()).await,
                    None => pending().await,
                }
            };
            let answer = match &mut self.call {
                Some((_, call)) => tokio::select! {
                    biased;
                    () = lost => None,
                    answer = call.answer() => Some(answer),
                },
                None => tokio::select! {
                    biased;
                    () = lost => None,
                    () = tokio::time::sleep_until(self.next_at.into()) => {
                        self.call = Some((now(), self.next_call()));
                        continue;
                    }
                },
            };
            let Some(answer) = answer else {
                return self.lost();
            };
            let begun = self.call.take().map_or_else(now, |(begun, _)| begun);
            if let Some(change) = self.answered(answer, begun) {
                return change;
            }
        }
    }

    /// Gives the lease back, so that another server gets it at once.
    pub(crate) async fn release(mut self) {
        // A renewal that is under way is carried out, so that its revision counts.
        if let Some((_, Call::Renew(renewal))) = self.call.take()
            && let (Some(held), Ok(lease)) = (&mut self.held, renewal.await)
        {
            held.lease = lease;
        }
        if let Some(held) = self.held.take() {
            // A lease that cannot be released ends by its age.
            let _ = self.leases.release(&self.room, held.lease).await;
        }
    }

    fn next_call(&self) -> Call {
        match &self.held {
            Some(held) => Call::Renew(self.leases.renew(&self.room, held.lease, self.server)),
            None if self.is_modest && !self.has_been_free() => {
                Call::Holder(self.leases.holder(&self.room))
            }
            None => Call::Acquire(self.leases.acquire(&self.room, self.server)),
        }
    }

    /// Returns whether nobody has had the lease for so long that a modest server may ask for it.
    fn has_been_free(&self) -> bool {
        self.free
            .is_some_and(|(first, last)| last.duration_since(first) >= MODEST_FOR)
    }

    fn answered(&mut self, answer: Answer, begun: Instant) -> Option<TenureChange> {
        match answer {
            Answer::Acquired(Ok(lease)) => {
                self.hold(lease, begun);
                Some(TenureChange::Acquired)
            }
            Answer::Renewed(Ok(lease)) => {
                self.hold(lease, begun);
                None
            }
            Answer::Acquired(Err(LeaseError::Taken)) => {
                self.call = Some((now(), Call::Holder(self.leases.holder(&self.room))));
                None
            }
            Answer::Renewed(Err(LeaseError::Taken)) => Some(self.lost()),
            // The rest of the lease's time is for further attempts.
            Answer::Renewed(Err(LeaseError::Unreachable(_))) => {
                self.next_at = now() + RENEW_EVERY / 5;
                None
            }
            Answer::Holder(Ok(Some(holder))) => {
                self.free = None;
                self.next_at = now() + RETRY_EVERY;
                Some(TenureChange::Taken(holder))
            }
            Answer::Holder(Ok(None)) => {
                let now = now();
                let in_a_row = self.free.filter(|(_, last)| now - *last <= MODEST_FOR);
                let first = in_a_row.map_or(now, |(first, _)| first);
                self.free = Some((first, now));
                self.next_at = match self.is_modest && !self.has_been_free() {
                    true => now + RETRY_EVERY,
                    false => now,
                };
                None
            }
            Answer::Acquired(Err(LeaseError::Unreachable(_))) | Answer::Holder(Err(_)) => {
                self.next_at = now() + RETRY_EVERY;
                Some(TenureChange::Unreachable)
            }
        }
    }

    fn hold(&mut self, lease: Lease, begun: Instant) {
        self.held = Some(Held {
            lease,
            until: begun + LEASE_AGE,
        });
        self.next_at = begun + RENEW_EVERY;
        self.free = None;
    }

    /// Forgets the lease. A renewal that is under way may still succeed, but nobody counts on it.
    fn lost(&mut self) -> TenureChange {
        self.held = None;
        self.call = None;
        self.next_at = now();
        TenureChange::Lost
    }
}

impl Call {
    async fn answer(&mut self) -> Answer {
        match self {
            Self::Acquire(call) => Answer::Acquired(call.await),
            Self::Renew(call) => Answer::Renewed(call.await),
            Self::Holder(call) => Answer::Holder(call.await),
        }
    }
}

impl fmt::Debug for Tenure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("Tenure");
        fields.field("room", &self.room).field("held", &self.held);
        fields.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::time::timeout;

    use super::*;
    use crate::bus::MemoryLeases;

    /// Leases that cannot be reached while the switch is off.
    #[derive(Debug, Default)]
    struct Switched {
        leases: MemoryLeases,
        is_off: AtomicBool,
    }

    impl Switched {
        fn reach<T: Send + 'static>(
            &self,
            call: impl FnOnce(&MemoryLeases) -> LeaseFuture<T>,
        ) -> LeaseFuture<T> {
            match self.is_off.load(Ordering::Relaxed) {
                true => Box::pin(async { Err(LeaseError::Unreachable("it is off".into())) }),
                false => call(&self.leases),
            }
        }
    }

    impl Leases for Switched {
        fn acquire(&self, room: &str, holder: ServerId) -> LeaseFuture<Lease> {
            self.reach(|leases| leases.acquire(room, holder))
        }

        fn renew(&self, room: &str, lease: Lease, holder: ServerId) -> LeaseFuture<Lease> {
            self.reach(|leases| leases.renew(room, lease, holder))
        }

        fn release(&self, room: &str, lease: Lease) -> LeaseFuture<()> {
            self.reach(|leases| leases.release(room, lease))
        }

        fn holder(&self, room: &str) -> LeaseFuture<Option<Holder>> {
            self.reach(|leases| leases.holder(room))
        }
    }

    fn tenure(leases: &Arc<Switched>, server: u32) -> Tenure {
        Tenure::new(Arc::clone(leases) as _, "lobby".into(), ServerId(server))
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_kept_until_it_is_released_and_others_learn_who_has_it() {
        let leases = Arc::new(Switched::default());
        let (mut first, mut second) = (tenure(&leases, 1), tenure(&leases, 2));
        assert_eq!(first.changed().await, TenureChange::Acquired);
        let term = first.term(now()).unwrap();
        let kept = timeout(Duration::from_secs(10), first.changed()).await;
        assert!(kept.is_err(), "renewals are no news");
        assert_eq!(first.term(now()), Some(term));
        let server = ServerId(1);
        let taken = TenureChange::Taken(Holder { server, term });
        assert_eq!(second.changed().await, taken);
        first.release().await;
        assert_eq!(second.changed().await, TenureChange::Acquired);
        assert!(second.term(now()).unwrap() > term);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_cannot_be_renewed_ends_before_another_server_can_have_it() {
        let leases = Arc::new(Switched::default());
        let mut first = tenure(&leases, 1);
        assert_eq!(first.changed().await, TenureChange::Acquired);
        let begun = now();
        leases.is_off.store(true, Ordering::Relaxed);
        assert_eq!(first.changed().await, TenureChange::Lost);
        assert!(now() - begun <= LEASE_AGE);
        assert_eq!(first.term(now()), None);
        assert_eq!(first.changed().await, TenureChange::Unreachable);
        leases.is_off.store(false, Ordering::Relaxed);
        assert_eq!(tenure(&leases, 2).changed().await, TenureChange::Acquired);
        assert!(matches!(first.changed().await, TenureChange::Taken(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_slept_through_its_lease_does_not_count_on_it() {
        let leases = Arc::new(Switched::default());
        let mut first = tenure(&leases, 1);
        assert_eq!(first.changed().await, TenureChange::Acquired);
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(first.term(now()), None);
        assert_eq!(first.changed().await, TenureChange::Lost);
    }
}
