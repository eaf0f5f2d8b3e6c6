//! Two well-behaved clients that no fault may disturb: one moves its cube, the other watches it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cubesync_client::protocol::{Pose, Position};
use cubesync_client::{Client, ClientEvent, ClientOptions, Status};
use cubesync_harness::wait::comes_true;

/// How often the two are polled: the resolution of their measurements.
const POLL: Duration = Duration::from_micros(500);
/// A poll that comes later than this after the one before counts as an absence of the two.
const LATE: Duration = Duration::from_millis(5);
/// A client that has not joined after this long does not join any more.
const JOIN_WITHIN: Duration = Duration::from_secs(40);
/// Number of measured ticks from which on the two count as playing.
const WARM_UP_TICKS: usize = 30;
/// Largest number of measured ticks that are kept.
const KEPT_TICKS: usize = 200_000;

/// The time from a tick until the watcher had received it.
#[derive(Debug, Clone, Copy)]
struct Lag {
    received: Instant,
    ms: f64,
}

/// A time in which the two were not polled, because the machine did something else.
#[derive(Debug, Clone, Copy)]
struct Absence {
    from: Instant,
    to: Instant,
}

impl Absence {
    /// Returns the part of the absence that lies between two instants.
    fn within(&self, from: Instant, to: Instant) -> Duration {
        self.to
            .min(to)
            .saturating_duration_since(self.from.max(from))
    }
}

/// The measurements of the two, shared with their thread.
#[derive(Debug, Default)]
struct Record {
    lags: Mutex<Vec<Lag>>,
    /// When the watcher received something new of the mover.
    updates: Mutex<Vec<Instant>>,
    absences: Mutex<Vec<Absence>>,
    /// Number of bytes that the watcher has received.
    received_bytes: AtomicU64,
    /// Number of joins of both together; 2 if neither has ever lost its connection.
    joins: AtomicU64,
    is_playing: AtomicBool,
    should_stop: AtomicBool,
}

/// Statistics of how long ticks took to arrive.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(crate) struct Lags {
    /// Number of ticks measured.
    pub(crate) ticks: usize,
    /// The median, in milliseconds.
    pub(crate) p50_ms: f64,
    /// The 99th percentile, in milliseconds.
    pub(crate) p99_ms: f64,
}

/// How evenly the mover's updates reached the watcher.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(crate) struct Flow {
    /// The number of updates a second.
    pub(crate) updates_per_s: f64,
    /// The longest time without one, in milliseconds, less the time in which the two themselves were not
    /// polled.
    pub(crate) longest_gap_ms: f64,
    /// The longest time in which the two were not polled, in milliseconds.
    pub(crate) longest_absence_ms: f64,
}

/// The two clients, on a thread of their own.
#[derive(Debug)]
pub(crate) struct Bystanders {
    record: Arc<Record>,
    thread: Option<JoinHandle<()>>,
}

impl Bystanders {
    /// Lets two clients join the lobby and waits until they play.
    pub(crate) fn join(server: SocketAddr, key: Option<&str>) -> Result<Self> {
        let options = ClientOptions {
            join_key: key.map(str::to_owned),
            ..ClientOptions::new(server.to_string(), "")
        };
        Self::join_after(options, || Ok(()))
    }

    /// Lets two clients join with these options on a thread that first calls `prepare`, and waits until they
    /// play.
    pub(crate) fn join_after(
        options: ClientOptions,
        prepare: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Result<Self> {
        let record = Arc::new(Record::default());
        let for_thread = Arc::clone(&record);
        let thread = std::thread::spawn(move || match prepare() {
            Ok(()) => play(&options, &for_thread),
            Err(error) => eprintln!("the bystanders cannot play: {error:#}"),
        });
        let bystanders = Self {
            record,
            thread: Some(thread),
        };
        ensure!(bystanders.are_back(), "the bystanders cannot join");
        Ok(bystanders)
    }

    /// Returns whether both are in the room again, and the watcher sees the mover move, before the time
    /// for joining is over.
    pub(crate) fn are_back(&self) -> bool {
        let count = || self.lags().len();
        let before = count();
        comes_true(JOIN_WITHIN, || {
            self.are_playing() && count() >= before + WARM_UP_TICKS
        })
    }

    /// Returns whether both are in the room.
    pub(crate) fn are_playing(&self) -> bool {
        self.record.is_playing.load(Ordering::Relaxed)
    }

    /// Returns the number of joins of both together.
    pub(crate) fn joins(&self) -> u64 {
        self.record.joins.load(Ordering::Relaxed)
    }

    /// Returns the lags of the ticks that arrived between two instants.
    pub(crate) fn between(&self, from: Instant, to: Instant) -> Lags {
        let lags = self.lags();
        let within = lags.iter().filter(|lag| (from..to).contains(&lag.received));
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

    /// Returns how evenly updates came between two instants.
    pub(crate) fn flow(&self, from: Instant, to: Instant) -> Flow {
        let updates = self
            .record
            .updates
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let within = updates.iter().copied().filter(|at| (from..to).contains(at));
        let mut ends: Vec<Instant> = within.collect();
        let updates_per_s = ends.len() as f64 / (to - from).as_secs_f64();
        ends.insert(0, from);
        ends.push(to);
        let absences = self
            .record
            .absences
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let absent = |from, to| absences.iter().map(move |absence| absence.within(from, to));
        let gaps = ends.windows(2).map(|two| {
            let own: Duration = absent(two[0], two[1]).sum();
            (two[1] - two[0]).saturating_sub(own)
        });
        let ms = |time: Option<Duration>| time.unwrap_or_default().as_secs_f64() * 1e3;
        Flow {
            updates_per_s,
            longest_gap_ms: ms(gaps.max()),
            longest_absence_ms: ms(absent(from, to).max()),
        }
    }

    /// Returns the number of bytes that the watcher has received.
    pub(crate) fn received_bytes(&self) -> u64 {
        self.record.received_bytes.load(Ordering::Relaxed)
    }

    /// Measures for `duration` and returns the lags.
    pub(crate) fn watch(&self, duration: Duration) -> Lags {
        let from = Instant::now();
        std::thread::sleep(duration);
        self.between(from, Instant::now())
    }

    fn lags(&self) -> std::sync::MutexGuard<'_, Vec<Lag>> {
        self.record
            .lags
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Bystanders {
    fn drop(&mut self) {
        self.record.should_stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in it has been reported.
            let _ = thread.join();
        }
    }
}

fn play(options: &ClientOptions, record: &Record) {
    let options = |name: &str| ClientOptions {
        name: name.to_owned(),
        ..options.clone()
    };
    let mut mover = Client::new(options("mover"), 1);
    let mut watcher = Client::new(options("watcher"), 2);
    let start = Instant::now();
    let (mut newest_tick, mut polled, mut height) = (0, start, 0.0);
    while !record.should_stop.load(Ordering::Relaxed) {
        let now = start.elapsed();
        let before = std::mem::replace(&mut polled, start + now);
        if polled - before > LATE {
            let absence = Absence {
                from: before,
                to: polled,
            };
            push(&record.absences, absence);
        }
        for client in [&mut mover, &mut watcher] {
            client.poll(now);
            while let Some(event) = client.next_event() {
                if let ClientEvent::Joined(_) | ClientEvent::Rejoined(_) = event {
                    record.joins.fetch_add(1, Ordering::Relaxed);
                    newest_tick = 0;
                }
            }
        }
        if let (Some(own), Some(tick)) = (mover.own_cube(), mover.tick_at(now)) {
            mover.set_pose(own, restless(tick));
        }
        mover.send(now);
        let is_playing = [&mover, &watcher].map(|client| client.status() == Status::Joined);
        record
            .is_playing
            .store(is_playing == [true; 2], Ordering::Relaxed);
        measure(&watcher, start, &mut newest_tick, record);
        let seen = mover.own_cube().and_then(|cube| watcher.server_pose(cube));
        if let Some(seen) = seen.map(|pose| pose.position.to_metres()[2])
            && is_new(seen, height)
        {
            height = seen;
            push(&record.updates, polled);
        }
        let received_bytes = watcher.statistics().bytes_in;
        record
            .received_bytes
            .store(received_bytes, Ordering::Relaxed);
        std::thread::sleep(POLL);
    }
    mover.close();
    watcher.close();
}

/// The heights between which the mover jumps: none is where a cube would be that went on as before.
const HEIGHTS_M: [f32; 3] = [0.5, 0.7, 0.55];
/// Heights that differ by less are one.
const SAME_M: f32 = 0.02;

/// Returns a pose that no prediction meets: it jumps at every tick.
fn restless(tick: f64) -> Pose {
    let height = HEIGHTS_M[(tick as usize) % HEIGHTS_M.len()];
    Pose {
        position: Position::from_metres([2.0, 0.0, height]),
        ..Pose::default()
    }
}

/// Returns whether the mover must have sent something for the watcher to see it at `height`, in metres, after
/// it was seen at `before`.
fn is_new(height: f32, before: f32) -> bool {
    let is_at = |other: f32| (height - other).abs() < SAME_M;
    HEIGHTS_M.into_iter().any(is_at) && !is_at(before)
}

/// Records the ticks that the watcher has received since the last poll. A tick without a message of its
/// own counts as received with the next one.
fn measure(watcher: &Client, start: Instant, newest_tick: &mut u64, record: &Record) {
    let Some(hz) = watcher.welcome().map(|welcome| f64::from(welcome.tick_hz)) else {
        return;
    };
    let new: Vec<_> = watcher
        .arrivals()
        .rev()
        .take_while(|arrival| arrival.tick > *newest_tick)
        .collect();
    let received = start + start.elapsed();
    let mut lags = record.lags.lock().unwrap_or_else(PoisonError::into_inner);
    for arrival in new.into_iter().rev() {
        // The first tick after a join has no time at which it was due.
        let since = if *newest_tick == 0 {
            0
        } else {
            arrival.tick - *newest_tick
        };
        for missed in (0..since).rev() {
            let ms = (arrival.lag_ticks + missed as f64) * 1e3 / hz;
            lags.push(Lag { received, ms });
        }
        *newest_tick = arrival.tick;
    }
    shorten(&mut lags);
}

fn push<T>(all: &Mutex<Vec<T>>, one: T) {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    all.push(one);
    shorten(&mut all);
}

/// Drops the older half of what is too much to keep.
fn shorten<T>(all: &mut Vec<T>) {
    if all.len() > KEPT_TICKS {
        all.drain(..KEPT_TICKS / 2);
    }
}
