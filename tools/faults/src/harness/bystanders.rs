//! Two good clients whose game must not suffer: one moves a cube, the other watches it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cubesync_client::protocol::{Pose, Position};
use cubesync_client::{Client, ClientEvent, ClientOptions, Status};
use cubesync_harness::wait::comes_true;

/// How often the two are polled: the resolution of what they measure.
const POLL: Duration = Duration::from_micros(500);
/// Who has not joined after this long does not.
const JOIN_WITHIN: Duration = Duration::from_secs(40);
/// Measured ticks before the pair counts as playing.
const WARM_UP_TICKS: usize = 30;
/// What is measured is kept for so many ticks.
const KEPT_TICKS: usize = 200_000;

/// From a tick's instant until the watcher knew of it.
#[derive(Debug, Clone, Copy)]
struct Lag {
    known: Instant,
    ms: f64,
}

#[derive(Debug, Default)]
struct Seen {
    lags: Mutex<Vec<Lag>>,
    /// Joins of both together; 2 when neither was ever cut off.
    joins: AtomicU64,
    is_playing: AtomicBool,
    should_stop: AtomicBool,
}

/// How long ticks took to be known.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(crate) struct Lags {
    /// Ticks measured.
    pub(crate) ticks: usize,
    /// Half of them took no longer, in milliseconds.
    pub(crate) p50_ms: f64,
    /// 99 of 100 took no longer, in milliseconds.
    pub(crate) p99_ms: f64,
}

/// The two, on a thread of their own.
#[derive(Debug)]
pub(crate) struct Bystanders {
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

impl Bystanders {
    /// Brings two into the lobby and waits until they play.
    pub(crate) fn join(server: SocketAddr, key: Option<&str>) -> Result<Self> {
        let seen = Arc::new(Seen::default());
        let for_thread = Arc::clone(&seen);
        let key = key.map(str::to_owned);
        let bystanders = Self {
            seen,
            thread: Some(std::thread::spawn(move || {
                play(server, key.as_ref(), &for_thread)
            })),
        };
        ensure!(bystanders.are_back(), "the bystanders cannot join");
        Ok(bystanders)
    }

    /// Waits until both are in the room and the watcher sees the mover move.
    pub(crate) fn are_back(&self) -> bool {
        let count = || self.lags().len();
        let before = count();
        comes_true(JOIN_WITHIN, || {
            self.are_playing() && count() >= before + WARM_UP_TICKS
        })
    }

    /// Whether both are in the room.
    pub(crate) fn are_playing(&self) -> bool {
        self.seen.is_playing.load(Ordering::Relaxed)
    }

    /// How often they have joined, together.
    pub(crate) fn joins(&self) -> u64 {
        self.seen.joins.load(Ordering::Relaxed)
    }

    /// The lags of the ticks that became known between two instants.
    pub(crate) fn between(&self, from: Instant, to: Instant) -> Lags {
        let lags = self.lags();
        let within = lags.iter().filter(|lag| (from..to).contains(&lag.known));
        let mut ms: Vec<f64> = within.map(|lag| lag.ms).collect();
        ms.sort_by(f64::total_cmp);
        let percentile = |percent: usize| {
            let rank = (ms.len() * percent).div_ceil(100).max(1) - 1;
            ms.get(rank).copied().unwrap_or(f64::NAN)
        };
        Lags {
            ticks: ms.len(),
            p50_ms: percentile(50),
            p99_ms: percentile(99),
        }
    }

    /// The lags of the next while.
    pub(crate) fn watch(&self, duration: Duration) -> Lags {
        let from = Instant::now();
        std::thread::sleep(duration);
        self.between(from, Instant::now())
    }

    fn lags(&self) -> std::sync::MutexGuard<'_, Vec<Lag>> {
        self.seen
            .lags
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Bystanders {
    fn drop(&mut self) {
        self.seen.should_stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in it has been reported.
            let _ = thread.join();
        }
    }
}

fn play(server: SocketAddr, key: Option<&String>, seen: &Seen) {
    let options = |name: &str| ClientOptions {
        join_key: key.cloned(),
        ..ClientOptions::new(server.to_string(), name)
    };
    let mut mover = Client::new(options("mover"), 1);
    let mut watcher = Client::new(options("watcher"), 2);
    let start = Instant::now();
    let mut newest_tick = 0;
    while !seen.should_stop.load(Ordering::Relaxed) {
        let now = start.elapsed();
        for client in [&mut mover, &mut watcher] {
            client.poll(now);
            while let Some(event) = client.next_event() {
                if let ClientEvent::Joined(_) | ClientEvent::Rejoined(_) = event {
                    seen.joins.fetch_add(1, Ordering::Relaxed);
                    newest_tick = 0;
                }
            }
        }
        if let (Some(own), Some(tick)) = (mover.own_cube(), mover.tick_at(now)) {
            mover.set_pose(own, restless(tick));
        }
        let is_playing = [&mover, &watcher].map(|client| client.status() == Status::Joined);
        seen.is_playing
            .store(is_playing == [true; 2], Ordering::Relaxed);
        measure(&watcher, start, &mut newest_tick, seen);
        std::thread::sleep(POLL);
    }
    mover.close();
    watcher.close();
}

/// A pose that surprises everybody in every tick.
fn restless(tick: f64) -> Pose {
    const STEP_M: f32 = 0.1;
    let height = if (tick as u64).is_multiple_of(2) {
        0.0
    } else {
        STEP_M
    };
    Pose {
        position: Position::from_metres([2.0, 0.0, 0.5 + height]),
        ..Pose::default()
    }
}

/// Takes in the ticks that the watcher has come to know since the last poll. A tick of which
/// nothing was told by itself was known with the next one.
fn measure(watcher: &Client, start: Instant, newest_tick: &mut u64, seen: &Seen) {
    let Some(hz) = watcher.welcome().map(|welcome| f64::from(welcome.tick_hz)) else {
        return;
    };
    let new: Vec<_> = watcher
        .arrivals()
        .rev()
        .take_while(|arrival| arrival.tick > *newest_tick)
        .collect();
    let known = start + start.elapsed();
    let mut lags = seen.lags.lock().unwrap_or_else(PoisonError::into_inner);
    for arrival in new.into_iter().rev() {
        // Of a join's first tick it is not known when it should have come.
        let since = if *newest_tick == 0 {
            0
        } else {
            arrival.tick - *newest_tick
        };
        for missed in (0..since).rev() {
            let ms = (arrival.lag_ticks + missed as f64) * 1e3 / hz;
            lags.push(Lag { known, ms });
        }
        *newest_tick = arrival.tick;
    }
    if lags.len() > KEPT_TICKS {
        lags.drain(..KEPT_TICKS / 2);
    }
}
