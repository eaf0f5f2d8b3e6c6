//! The thread on which TLS handshakes are computed.
//!
//! A signature with an RSA key takes milliseconds, and a stranger asks for one by repeating a few hundred
//! bytes. On the threads that serve players, a few addresses would stop the game. Here every step of a
//! handshake waits for its turn, one address after the other, and after each turn the thread rests for as
//! long as it has worked: handshakes take half of a processor at most, and a newcomer waits for one step of
//! each other address, however many of theirs are waiting.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Unit;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use cubesync_relay::by_address::network;
use cubesync_relay::contain::contain;
use cubesync_relay::metrics::{Metrics, Task};

/// Longest rest after a turn. A turn that seems to take longer than the slowest signature did not have the
/// processor all the time: others had it.
const MAX_REST: Duration = Duration::from_millis(10);

/// How far the thread stands back where others want the processor: it gets a tenth of what one of them
/// gets, which still is progress beside players that take everything.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

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
    /// Returns `None` if it panics, which is counted.
    pub(super) async fn run<Done: Send + 'static>(
        &self,
        peer: IpAddr,
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
        self.queue.add(network(peer), Box::pin(work));
        done.await.ok()
    }
}

impl Drop for Handshakes {
    fn drop(&mut self) {
        self.queue.close();
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
    unfinished: HashMap<u64, (Arc<Ticket>, Work)>,
    turns: Turns,
    is_over: bool,
}

/// The handshakes that can go on, by address.
#[derive(Debug, Default)]
struct Turns {
    /// The addresses in their order, each once.
    order: VecDeque<IpAddr>,
    due: HashMap<IpAddr, VecDeque<u64>>,
}

/// A handshake's place in the queue, which it takes whenever it can go on.
struct Ticket {
    id: u64,
    address: IpAddr,
    queue: Arc<Queue>,
    is_due: AtomicBool,
}

impl Turns {
    fn push(&mut self, address: IpAddr, id: u64) {
        let of_address = self.due.entry(address).or_default();
        if of_address.is_empty() {
            self.order.push_back(address);
        }
        of_address.push_back(id);
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

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(self: &Arc<Self>, address: IpAddr, work: Work) {
        let ticket = Arc::new(Ticket {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            address,
            queue: Arc::clone(self),
            is_due: AtomicBool::new(false),
        });
        {
            let mut state = self.lock();
            if state.is_over {
                return;
            }
            state
                .unfinished
                .insert(ticket.id, (Arc::clone(&ticket), work));
        }
        ticket.wake();
    }

    /// Waits for the next turn; `None` at the end.
    fn next(&self) -> Option<(Arc<Ticket>, Work)> {
        let mut state = self.lock();
        loop {
            if state.is_over {
                return None;
            }
            // What has ended since it became due is not there any more.
            match state.turns.pop() {
                Some(id) => {
                    if let Some(next) = state.unfinished.remove(&id) {
                        return Some(next);
                    }
                }
                None => {
                    let waited = self.is_due.wait(state);
                    state = waited.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Takes the turns until the end, each with a rest after it.
    fn serve(&self, now: impl Fn() -> Instant, rest: impl Fn(Duration)) {
        while let Some((ticket, mut work)) = self.next() {
            let began = now();
            ticket.is_due.store(false, Ordering::Release);
            let waker = Waker::from(Arc::clone(&ticket));
            let polled = work.as_mut().poll(&mut Context::from_waker(&waker));
            if polled.is_pending() {
                self.keep(ticket, work);
            }
            let worked = now() - began;
            self.worked.inc_by(worked.as_secs_f64());
            rest(worked.min(MAX_REST));
        }
    }

    /// Keeps what is not finished until its next turn, which it may have asked for already.
    fn keep(&self, ticket: Arc<Ticket>, work: Work) {
        let mut state = self.lock();
        if !state.is_over {
            state.unfinished.insert(ticket.id, (ticket, work));
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
    use std::task::Poll;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    /// A handshake of so many steps, each of which is noted.
    fn steps(of: IpAddr, count: usize, taken: &Arc<Mutex<Vec<IpAddr>>>) -> Work {
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
            queue.add(HERE, steps(HERE, 2, &taken));
        }
        queue.add(THERE, steps(THERE, 2, &taken));
        serve_all(&queue, Instant::now, |_| {});
        let taken = taken.lock().unwrap();
        assert_eq!(taken[..4], [HERE, THERE, HERE, THERE]);
        assert_eq!(taken.len(), 2 * 481);
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
        queue.add(HERE, lasting(signature));
        queue.add(HERE, lasting(signature));
        queue.add(HERE, lasting(unlucky));
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
        let waiting = handshakes.run(HERE, async { reply.await.unwrap() });
        let other = async {
            let thread = handshakes.run(HERE, async {
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
            let abandoned = handshakes.run(HERE, async move {
                pending::<()>().await;
                drop(held);
            });
            let other = handshakes.run(THERE, ready(()));
            tokio::select! {
                biased;
                _ = abandoned => unreachable!(),
                _ = other => {}
            }
        }
        assert!(dropped.await.is_err());
        assert!(handshakes.queue.lock().unfinished.is_empty());

        let broken = handshakes.run(HERE, async { panic!("a bug") });
        assert_eq!(broken.await, None::<()>);
        assert_eq!(handshakes.run(HERE, ready(7)).await, Some(7));
        let counted = metrics.panics.counts().map(|(_, count)| count);
        assert_eq!(counted.sum::<u64>(), 1);
    }

    #[tokio::test]
    async fn the_end_drops_what_is_unfinished() {
        let handshakes = Handshakes::start(&Metrics::default()).unwrap();
        let queue = Arc::clone(&handshakes.queue);
        let (held, dropped) = oneshot::channel::<()>();
        queue.add(
            HERE,
            Box::pin(async move {
                pending::<()>().await;
                drop(held);
            }),
        );
        drop(handshakes);
        assert!(dropped.await.is_err());
        queue.add(HERE, Box::pin(pending()));
        assert!(queue.lock().unfinished.is_empty());
    }
}
