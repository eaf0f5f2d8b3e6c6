//! The thread on which TLS handshakes are computed.
//!
//! A signature with an RSA key takes milliseconds, and a stranger asks for one by repeating a few hundred
//! bytes. On the threads that serve players, a few addresses would stop the game. Here every step of a
//! handshake waits for its turn, one address after the other, and after each turn the thread rests for as
//! long as it has worked: handshakes take half of a processor at most, and a newcomer waits for one step of
//! each other address, however many of theirs are waiting.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Unit;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use cubesync_relay::by_address::{Address, Prefix};
use cubesync_relay::contain::contain;
use cubesync_relay::holders::Holders;
use cubesync_relay::metrics::{Metrics, Task};

/// Longest rest after a turn. A turn that seems to take longer than the slowest signature did not have the
/// processor all the time: others had it.
const MAX_REST: Duration = Duration::from_millis(10);

/// How far the thread stands back where others want the processor: it gets a tenth of what one of them
/// gets, which still is progress beside players that take everything.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// Largest number of handshakes that have begun and wait for their peers, for each of which the library keeps 11
/// to 80 KiB. So many begin, with an ordinary key, during a round trip of half a second. The next one waits for the
/// end of another, unless an address has two more than its own: then the oldest of those makes place. The first
/// one of an address always begins, so that strangers who never finish keep nobody out.
const MAX_BEGUN: usize = 1_024;

/// What is left to do of a handshake.
type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The thread, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Handshakes {
    queue: Arc<Queue>,
    metrics: Metrics,
}

impl Handshakes {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system cannot start a thread.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub(super) fn start(metrics: &Metrics) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        metrics.set.register(
            "cubesync_tls_handshake_work",
            "Time that the thread for TLS handshakes has worked",
            Some(Unit::Seconds),
            queue.worked.clone(),
        );
        let served = Arc::clone(&queue);
        // Timers of the connections belong to the runtime.
        let runtime = Handle::current();
        std::thread::Builder::new()
            .name("handshakes".into())
            .spawn(move || {
                stand_back();
                let _entered = runtime.enter();
                served.serve(Instant::now, std::thread::sleep);
            })?;
        Ok(Self {
            queue,
            metrics: metrics.clone(),
        })
    }

    /// Does a handshake's work on the thread, in the turns of its peer's address. Dropping this ends the work.
    /// Returns `None` if it makes place for others, or panics, which is counted.
    pub(super) async fn run<Done: Send + 'static>(
        &self,
        peer: Address,
        work: impl Future<Output = Done> + Send + 'static,
    ) -> Option<Done> {
        let (mut sender, done) = oneshot::channel();
        let work = async move {
            tokio::select! {
                biased;
                () = sender.closed() => {}
                // Nobody waits any more if this fails.
                done = work => drop(sender.send(done)),
            }
        };
        let work = contain(&self.metrics, Task::Connection, work);
        let id = self.queue.add(peer, Box::pin(work));
        let _ended = Ended(&self.queue, id);
        done.await.ok()
    }
}

impl Drop for Handshakes {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// The end of a handshake for which nobody waits any more.
struct Ended<'a>(&'a Queue, u64);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        let ended = state.unfinished.remove(&self.1);
        // One that is worked on at this moment ends with its turn.
        if let Some(ended) = &ended {
            state.end(ended);
        }
        drop(state);
        self.0.is_due.notify_all();
    }
}

/// Makes the thread give way to all others of this process.
fn stand_back() {
    // Under Linux this is about the calling thread only; elsewhere it would be about the process.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::debug!(%error, "TLS handshakes have the same priority as players");
    }
}

/// The handshakes, and whose turn it is.
#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    /// Notified when something is due, and at the end.
    is_due: Condvar,
    next_id: AtomicU64,
    /// The time that was worked, in seconds.
    worked: Counter<f64, AtomicU64>,
}

#[derive(Default)]
struct State {
    /// Those on which nobody works at this moment.
    unfinished: HashMap<u64, Handshake>,
    /// Those that can go on.
    turns: Turns,
    /// Those that may not begin yet.
    waiting: Turns,
    /// Those that have begun.
    begun: Holders<u64>,
    is_over: bool,
}

/// A handshake that is not finished.
struct Handshake {
    ticket: Arc<Ticket>,
    work: Work,
    has_begun: bool,
}

/// The handshakes that can go on, by their peers' [widest](Address::widest) networks.
#[derive(Debug, Default)]
struct Turns {
    /// The addresses in their order, each once.
    order: VecDeque<Option<Prefix>>,
    due: HashMap<Option<Prefix>, VecDeque<u64>>,
}

/// A handshake's place in the queue, which it takes whenever it can go on.
struct Ticket {
    id: u64,
    address: Option<Prefix>,
    queue: Arc<Queue>,
    is_due: AtomicBool,
}

impl Turns {
    fn push(&mut self, address: Option<Prefix>, id: u64) {
        let of_address = self.due.entry(address).or_default();
        if of_address.is_empty() {
            self.order.push_back(address);
        }
        of_address.push_back(id);
    }

    /// Gives an address the next turn, if it waits for one.
    fn put_first(&mut self, address: Option<Prefix>) {
        let index = self.order.iter().position(|other| *other == address);
        if index.and_then(|index| self.order.remove(index)).is_some() {
            self.order.push_front(address);
        }
    }

    /// Takes the one whose turn it is. Its address has the next turn after all others.
    fn pop(&mut self) -> Option<u64> {
        let address = self.order.pop_front()?;
        let of_address = self.due.get_mut(&address)?;
        let id = of_address.pop_front();
        if of_address.is_empty() {
            self.due.remove(&address);
        } else {
            self.order.push_back(address);
        }
        id
    }
}

impl State {
    /// Takes the handshake whose turn it is, and with it the one that makes place for it.
    fn pop(&mut self) -> Option<(Handshake, Option<Handshake>)> {
        loop {
            let has_place = self.begun.total() < MAX_BEGUN;
            let id = match self.turns.pop() {
                Some(id) => id,
                None if has_place => self.waiting.pop()?,
                None => return None,
            };
            // What has ended since it became due is not there any more.
            let Some(mut next) = self.unfinished.remove(&id) else {
                continue;
            };
            if next.has_begun {
                return Some((next, None));
            }
            let address = next.ticket.address;
            let is_first = self.begun.count(address) == 0;
            let made_place = match has_place || is_first {
                true => None,
                false => match self.oldest_of_the_most(address) {
                    Some(oldest) => Some(oldest),
                    None => {
                        self.unfinished.insert(id, next);
                        self.waiting.push(address, id);
                        continue;
                    }
                },
            };
            next.has_begun = true;
            self.begun.add(address, id);
            return Some((next, made_place));
        }
    }

    /// Ends the oldest handshake of the address that has the most, if those are two more than another has.
    fn oldest_of_the_most(&mut self, other: Option<Prefix>) -> Option<Handshake> {
        let own = self.begun.count(other);
        let id = self.begun.of_the_most(own + 1).next()?;
        let oldest = self.unfinished.remove(id)?;
        self.forget_begun(&oldest);
        Some(oldest)
    }

    /// Notes the end of a handshake, in whose place another may begin: of the same address, if it has no other.
    fn end(&mut self, ended: &Handshake) {
        if !ended.has_begun {
            return;
        }
        self.forget_begun(ended);
        let address = ended.ticket.address;
        loop {
            if self.begun.count(address) == 0 {
                self.waiting.put_first(address);
            }
            let Some(id) = self.waiting.pop() else {
                return;
            };
            if let Some(next) = self.unfinished.get(&id) {
                self.turns.push(next.ticket.address, id);
                return;
            }
        }
    }

    fn forget_begun(&mut self, ended: &Handshake) {
        let Ticket { id, address, .. } = &*ended.ticket;
        self.begun.remove(*address, |other| other == id);
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(self: &Arc<Self>, peer: Address, work: Work) -> u64 {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let ticket = Arc::new(Ticket {
            id,
            address: peer.widest(),
            queue: Arc::clone(self),
            is_due: AtomicBool::new(false),
        });
        let handshake = Handshake {
            ticket: Arc::clone(&ticket),
            work,
            has_begun: false,
        };
        {
            let mut state = self.lock();
            if state.is_over {
                return id;
            }
            state.unfinished.insert(id, handshake);
        }
        ticket.wake();
        id
    }

    /// Waits for the next turn; `None` at the end.
    fn next(&self) -> Option<Handshake> {
        let mut state = self.lock();
        loop {
            if state.is_over {
                return None;
            }
            if let Some((next, made_place)) = state.pop() {
                drop(state);
                drop(made_place);
                return Some(next);
            }
            let waited = self.is_due.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes the turns until the end, each with a rest after it.
    fn serve(&self, now: impl Fn() -> Instant, rest: impl Fn(Duration)) {
        while let Some(next) = self.next() {
            let began = now();
            self.work_on(next);
            let worked = now() - began;
            self.worked.inc_by(worked.as_secs_f64());
            rest(worked.min(MAX_REST));
        }
    }

    /// Takes a handshake as far as it comes without waiting, and keeps it until its next turn if it is not
    /// finished.
    fn work_on(&self, mut handshake: Handshake) {
        handshake.ticket.is_due.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(&handshake.ticket));
        let mut context = Context::from_waker(&waker);
        let polled = handshake.work.as_mut().poll(&mut context);
        let mut state = self.lock();
        if state.is_over {
            return;
        }
        match polled.is_pending() {
            // It may have asked for its next turn already.
            true => drop(state.unfinished.insert(handshake.ticket.id, handshake)),
            false => state.end(&handshake),
        }
    }

    fn close(&self) {
        let ended = {
            let mut state = self.lock();
            state.is_over = true;
            std::mem::take(&mut state.unfinished)
        };
        self.is_due.notify_all();
        drop(ended);
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Queue(..)")
    }
}

impl Wake for Ticket {
    fn wake(self: Arc<Self>) {
        let is_first = !self.is_due.swap(true, Ordering::AcqRel);
        if is_first {
            self.queue.lock().turns.push(self.address, self.id);
            self.queue.is_due.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::{pending, poll_fn, ready};
    use std::net::IpAddr;
    use std::task::Poll;

    use super::*;

    fn address(text: &str) -> Address {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn here() -> Address {
        address("192.0.2.1")
    }

    fn there() -> Address {
        address("192.0.2.2")
    }

    /// A handshake of so many steps, each of which is noted.
    fn steps(of: Address, count: usize, taken: &Arc<Mutex<Vec<Address>>>) -> Work {
        let taken = Arc::clone(taken);
        let mut left = count;
        Box::pin(poll_fn(move |context| {
            taken.lock().unwrap().push(of);
            left -= 1;
            if left == 0 {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        }))
    }

    /// Works until nothing is due, without a pause.
    fn serve_all(queue: &Arc<Queue>, now: impl Fn() -> Instant, rest: impl Fn(Duration)) {
        queue.serve(now, |time| {
            rest(time);
            if queue.lock().turns.order.is_empty() {
                queue.close();
            }
        });
    }

    #[test]
    fn a_newcomer_waits_for_one_step_of_each_other_address() {
        let (queue, taken) = (Arc::new(Queue::default()), Arc::default());
        for _ in 0..480 {
            queue.add(here(), steps(here(), 2, &taken));
        }
        queue.add(there(), steps(there(), 2, &taken));
        serve_all(&queue, Instant::now, |_| {});
        let taken = taken.lock().unwrap();
        assert_eq!(taken[..4], [here(), there(), here(), there()]);
        assert_eq!(taken.len(), 2 * 481);
    }

    /// The handshakes that begin, and whose peers then send no more.
    #[derive(Default)]
    struct Stuck {
        queue: Arc<Queue>,
        begun: Arc<Mutex<Vec<Address>>>,
    }

    impl Stuck {
        fn add(&self, address: Address) -> u64 {
            let begun = Arc::clone(&self.begun);
            let work = async move {
                begun.lock().unwrap().push(address);
                pending().await
            };
            self.queue.add(address, Box::pin(work))
        }

        /// Works until nothing is due, and returns whose handshakes have begun.
        fn go_on(&self) -> Vec<Address> {
            while let Some((next, _)) = { self.queue.lock().pop() } {
                self.queue.work_on(next);
            }
            std::mem::take(&mut *self.begun.lock().unwrap())
        }

        fn end(&self, id: u64) {
            drop(Ended(&self.queue, id));
        }

        fn is_there(&self, id: u64) -> bool {
            self.queue.lock().unfinished.contains_key(&id)
        }
    }

    #[test]
    fn those_that_never_finish_have_few_places_and_make_room_for_others() {
        let stuck = Stuck::default();
        let of_here: Vec<u64> = (0..2 * MAX_BEGUN).map(|_| stuck.add(here())).collect();
        assert_eq!(stuck.go_on().len(), MAX_BEGUN);

        let first = stuck.add(there());
        assert_eq!(stuck.go_on(), [there()]);
        assert!(stuck.is_there(of_here[0]));
        let second = stuck.add(there());
        assert_eq!(stuck.go_on(), [there()]);
        assert!(!stuck.is_there(of_here[0]), "the oldest makes place");
        assert_eq!(stuck.queue.lock().begun.total(), MAX_BEGUN + 1);

        stuck.end(first);
        assert_eq!(stuck.go_on(), []);
        stuck.end(second);
        assert_eq!(stuck.go_on(), [here()], "the next one begins");
        for id in of_here {
            stuck.end(id);
        }
        let state = stuck.queue.lock();
        assert!(state.unfinished.is_empty());
        assert_eq!(state.begun.total(), 0);
    }

    #[test]
    fn the_first_handshake_of_an_address_begins_and_its_second_one_after_that() {
        let stuck = Stuck::default();
        for number in 0..MAX_BEGUN {
            let other = address(&format!("2001:db8:{number:x}::1"));
            stuck.add(other);
            stuck.add(other);
        }
        assert_eq!(stuck.go_on().len(), MAX_BEGUN);

        let [first, gone, _second] = [0; 3].map(|_| stuck.add(here()));
        assert_eq!(stuck.go_on(), [here()]);
        stuck.end(gone);
        stuck.end(first);
        assert_eq!(stuck.go_on(), [here()]);
    }

    #[test]
    fn all_networks_of_one_customer_have_their_turns_together() {
        let stuck = Stuck::default();
        for number in 0..2 * MAX_BEGUN {
            stuck.add(address(&format!("2001:db8:1:{number:x}::1")));
        }
        assert_eq!(stuck.go_on().len(), MAX_BEGUN);
        let others = [here(), address("2001:db8:2::1"), address("127.0.0.1")];
        for other in others {
            stuck.add(other);
            stuck.add(other);
        }
        let begun = stuck.go_on();
        assert_eq!(begun, [others, others].concat());
        let state = stuck.queue.lock();
        let begun = others.map(|other| state.begun.count(other.widest()));
        assert_eq!(begun, [2; 3]);
    }

    #[test]
    fn after_each_turn_it_rests_for_as_long_as_it_worked() {
        let (queue, start) = (Arc::new(Queue::default()), Instant::now());
        let elapsed = Arc::new(Mutex::new(Duration::ZERO));
        let lasting = |time: Duration| -> Work {
            let elapsed = Arc::clone(&elapsed);
            Box::pin(async move { *elapsed.lock().unwrap() += time })
        };
        let signature = Duration::from_millis(6);
        let unlucky = Duration::from_secs(1);
        queue.add(here(), lasting(signature));
        queue.add(here(), lasting(signature));
        queue.add(here(), lasting(unlucky));
        let rested = Cell::new(Duration::ZERO);
        let now = || start + *elapsed.lock().unwrap();
        serve_all(&queue, now, |time| rested.set(rested.get() + time));
        assert_eq!(rested.get(), 2 * signature + MAX_REST);
        assert_eq!(queue.worked.get(), 1.012);
    }

    #[tokio::test]
    async fn a_handshake_that_waits_for_its_peer_keeps_nobody_waiting() {
        let handshakes = Handshakes::start(&Metrics::default()).unwrap();
        let (sender, reply) = oneshot::channel();
        let waiting = handshakes.run(here(), async { reply.await.unwrap() });
        let other = async {
            let thread = handshakes.run(here(), async {
                std::thread::current().name().map(str::to_owned)
            });
            assert_eq!(thread.await.flatten().as_deref(), Some("handshakes"));
            sender.send("reply").unwrap();
        };
        let (waited, ()) = tokio::join!(waiting, other);
        assert_eq!(waited, Some("reply"));
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_dropped_and_a_panic_ends_only_its_own() {
        let metrics = Metrics::default();
        let handshakes = Handshakes::start(&metrics).unwrap();
        let (held, dropped) = oneshot::channel::<()>();
        {
            let abandoned = handshakes.run(here(), async move {
                pending::<()>().await;
                drop(held);
            });
            let other = handshakes.run(there(), ready(()));
            tokio::select! {
                biased;
                _ = abandoned => unreachable!(),
                _ = other => {}
            }
        }
        assert!(dropped.await.is_err());
        assert!(handshakes.queue.lock().unfinished.is_empty());

        let broken = handshakes.run(here(), async { panic!("a bug") });
        assert_eq!(broken.await, None::<()>);
        assert_eq!(handshakes.run(here(), ready(7)).await, Some(7));
        let counted = metrics.panics.counts().map(|(_, count)| count);
        assert_eq!(counted.sum::<u64>(), 1);
    }

    #[tokio::test]
    async fn the_end_drops_what_is_unfinished() {
        let handshakes = Handshakes::start(&Metrics::default()).unwrap();
        let queue = Arc::clone(&handshakes.queue);
        let (held, dropped) = oneshot::channel::<()>();
        queue.add(
            here(),
            Box::pin(async move {
                pending::<()>().await;
                drop(held);
            }),
        );
        drop(handshakes);
        assert!(dropped.await.is_err());
        queue.add(here(), Box::pin(pending()));
        assert!(queue.lock().unfinished.is_empty());
    }
}
