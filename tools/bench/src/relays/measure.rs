//! One measurement of a server and its clients.

use std::iter::Sum;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use cubesync_harness::players;
use cubesync_harness::usage::machine_cpu;
use cubesync_protocol::quantize::QUANTA_PER_METRE;
use hdrhistogram::Histogram;

use crate::bus::{Bus, Counters};
use crate::dialect::Dialect;
use crate::generator;
use crate::motions::Motion;
use crate::ours::{self, Ours};
use crate::peers::floor::Floor;
use crate::peers::mqtt::Mqtt;
use crate::peers::naive::Naive;
use crate::peers::nats::Nats;
use crate::peers::redis::Redis;
use crate::peers::websocket::WebSocket;
use crate::peers::{Framing, Relay};
use crate::process::Server;
use crate::progress::{Outcome, Progress, Timeline};
use crate::room::Room;
use crate::row::{Details, Row};
use crate::samples::Samples;
use crate::systems::{self, Setup, System};
use crate::workload::Workload;

/// The time from the last join to the first sample, in which the load of joining ends.
const SETTLE: Duration = Duration::from_millis(500);
/// The time from the first sample to the measurement.
const WARM_UP: Duration = Duration::from_millis(1_000);
/// The time after the measurement in which the heartbeat for the last ticks without a frame arrives.
const GRACE: Duration = Duration::from_millis(1_300);
/// How often the measuring thread checks whether it should stop.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A generator thread that uses more than this share of a core is a bottleneck.
const BUSY: f64 = 0.9;
/// Samples that are later than this part of a tick distort the load.
const LATE: f64 = 0.2;

/// Whether Ctrl-C was pressed.
pub(crate) static STOP: AtomicBool = AtomicBool::new(false);

/// Returns whether Ctrl-C was pressed.
pub(crate) fn is_stopped() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// The setting of a measurement.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    /// The system.
    pub(crate) system: System,
    /// The motion of its clients.
    pub(crate) motion: Motion,
    /// The length of the measurement, after a second's warm-up.
    pub(crate) duration: Duration,
    /// Number of threads of the load generator.
    pub(crate) threads: usize,
    /// Distance of the clients' homes, in metres.
    pub(crate) spacing_m: f32,
    /// Number of clients that join and never read, besides the measured ones.
    pub(crate) deaf_clients: usize,
    /// The setup of the server.
    pub(crate) setup: Setup,
}

/// Measures once. Server and clients have ended when it returns, whatever happened.
pub(crate) fn measure(setting: &Setting) -> Result<Row> {
    let server = systems::start(setting.system, &setting.setup)?;
    let before = server.memory_bytes()?;
    let deaf = (0..setting.deaf_clients).map(|number| ours::join_deaf(number, server.address));
    let _deaf = deaf.collect::<Result<Vec<_>>>()?;
    let workload = Arc::new(setting.workload());
    let run = Run::new(std::slice::from_ref(&server), &workload, setting, before);
    match setting.system {
        System::Ours => run.with_ours(),
        System::Floor => {
            let Setup {
                tick_bytes,
                tick_updates,
                ..
            } = setting.setup;
            run.with(|| Floor::new(Arc::clone(&workload), tick_bytes, tick_updates))
        }
        System::Naive => run.with_relay(|| Naive),
        System::Websocket => run.with_relay(WebSocket::default),
        System::Nats => run.with_relay(Nats::default),
        System::Redis => run.with_relay(Redis::default),
        System::Mosquitto => run.with_relay(Mqtt::default),
    }
}

/// Measures servers of cubesync that run already, and the bus between them. The clients are spread over
/// the servers by turns.
pub(crate) fn measure_cluster(
    setting: &Setting,
    servers: &[Server],
    bus: Option<&Bus>,
) -> Result<Row> {
    let mut workload = setting.workload();
    workload.servers = servers.len();
    let workload = Arc::new(workload);
    let mut run = Run::new(servers, &workload, setting, 0);
    run.bus = bus;
    run.with_ours()
}

struct Run<'run> {
    servers: &'run [Server],
    bus: Option<&'run Bus>,
    workload: &'run Arc<Workload>,
    setting: &'run Setting,
    progress: Progress,
    /// The server's memory before the first client joined, in bytes.
    memory_before: u64,
}

/// The resources that the servers used during the measurement.
struct Usage {
    cpu: Duration,
    bus: Option<Counters>,
    /// The share of the samples that came after their tick had begun, where the server has ticks.
    late_samples: Option<f64>,
    /// The CPU time of everything on this machine.
    machine_cpu: Duration,
    wall: Duration,
    /// Resident bytes, second by second.
    memory: Vec<u64>,
}

impl Setting {
    fn workload(&self) -> Workload {
        let Setup { clients, hz, .. } = self.setup;
        let length = WARM_UP + self.duration + GRACE + Duration::from_secs(1);
        Workload::new(self.motion, clients, hz, length, self.spacing_m)
    }
}

impl<'run> Run<'run> {
    fn new(
        servers: &'run [Server],
        workload: &'run Arc<Workload>,
        setting: &'run Setting,
        memory_before: u64,
    ) -> Self {
        Self {
            servers,
            bus: None,
            memory_before,
            workload,
            setting,
            progress: Progress::default(),
        }
    }

    fn with_ours(self) -> Result<Row> {
        let workload = Arc::clone(self.workload);
        let room = Arc::new(Room::new(&workload));
        let view_distance = self.setting.setup.view_distance_m;
        // `as` saturates.
        let view_distance = view_distance.map(|metres| (metres * QUANTA_PER_METRE) as u32);
        self.with(|| Ours::new(Arc::clone(&workload), Arc::clone(&room), view_distance))
    }

    fn with_relay<F: Framing>(self, framing: impl Fn() -> F + Sync) -> Result<Row> {
        let workload = Arc::clone(self.workload);
        self.with(|| Relay::new(framing(), Arc::clone(&workload)))
    }

    fn with<D: Dialect>(self, dialect: impl Fn() -> D + Sync) -> Result<Row> {
        let (usage, outcomes) = thread::scope(|scope| {
            let handles: Vec<_> = self
                .shares()
                .map(|share| {
                    let (dialect, run) = (&dialect, &self);
                    scope.spawn(move || run.generate(dialect(), share))
                })
                .collect();
            let usage = self.watch(|| handles.iter().any(|handle| handle.is_finished()));
            if usage.is_err() {
                self.progress.stop.store(true, Ordering::Relaxed);
            }
            let outcomes: Vec<_> = handles
                .into_iter()
                .map(|handle| {
                    let joined = handle.join();
                    joined.unwrap_or_else(|_| Err(anyhow!("a generator thread panicked")))
                })
                .collect();
            (usage, outcomes)
        });
        // A generator's error comes first: it is why the measurement failed.
        let outcomes = outcomes.into_iter().collect::<Result<Vec<_>>>()?;
        let usage = usage?;
        self.row(&usage, &outcomes)
    }

    /// Returns the clients of each thread.
    fn shares(&self) -> impl Iterator<Item = Range<usize>> {
        let (clients, threads) = (self.workload.clients, self.setting.threads);
        let threads = threads.clamp(1, clients);
        (0..threads).map(move |n| clients * n / threads..clients * (n + 1) / threads)
    }

    fn generate(&self, dialect: impl Dialect, share: Range<usize>) -> Result<Outcome> {
        let addresses = self.servers.iter().map(|server| server.address);
        let addresses = addresses.collect::<Vec<_>>();
        generator::run(dialect, share, &addresses, self.workload, &self.progress)
    }

    /// Sets the timeline when all clients have joined, and measures the servers.
    fn watch(&self, has_ended: impl Fn() -> bool) -> Result<Usage> {
        while self.progress.joined.load(Ordering::Relaxed) < self.workload.clients {
            self.pause(LOOK_EVERY, &has_ended)?;
        }
        let start_us = self.workload.now_us() + micros(SETTLE);
        let from_us = start_us + micros(WARM_UP);
        let to_us = from_us + micros(self.setting.duration);
        let is_ours = self.setting.system == System::Ours;
        let end_us = to_us + if is_ours { micros(GRACE) } else { 0 };
        let timeline = Timeline {
            owner: self.owner()?,
            start_us,
            window_us: from_us..to_us,
            end_us,
        };
        self.progress
            .timeline
            .set(timeline)
            .map_err(|_| anyhow!("a run has one timeline"))?;

        self.wait_until(self.workload.instant(from_us), &has_ended)?;
        let samples: Option<Samples> = self.sum(Server::samples)?;
        let (cpu, began) = (self.sum(Server::cpu)?, Instant::now());
        let bus = self.bus.map(Bus::counters).transpose()?;
        let all_cpu = machine_cpu()?;
        let mut memory = Vec::new();
        for second_us in (from_us..to_us).step_by(1_000_000) {
            self.wait_until(self.workload.instant(second_us), || false)?;
            memory.push(self.sum(Server::memory_bytes)?);
        }
        self.wait_until(self.workload.instant(to_us), || false)?;
        let cpu = self.sum(Server::cpu)?.saturating_sub(cpu);
        let bus_now = self.bus.map(Bus::counters).transpose()?;
        let samples_now: Option<Samples> = self.sum(Server::samples)?;
        let samples = samples_now.zip(samples);
        Ok(Usage {
            cpu,
            late_samples: samples.and_then(|(now, before)| now.late_since(before)),
            bus: bus_now.zip(bus).map(|(now, before)| now - before),
            machine_cpu: machine_cpu()?.saturating_sub(all_cpu),
            wall: began.elapsed(),
            memory,
        })
    }

    /// Returns the number of the server that owns the clients' room.
    fn owner(&self) -> Result<usize> {
        let pages = self.servers.iter().filter_map(|server| server.pages);
        let pages: Vec<_> = pages.collect();
        if pages.len() < 2 {
            return Ok(0);
        }
        Ok(players::owner(&pages, ours::ROOM)?.0)
    }

    fn sum<T: Sum>(&self, of: impl Fn(&Server) -> Result<T>) -> Result<T> {
        self.servers.iter().map(of).sum()
    }

    fn wait_until(&self, instant: Instant, has_ended: impl Fn() -> bool) -> Result<()> {
        loop {
            let left = instant.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.pause(left.min(LOOK_EVERY), &has_ended)?;
        }
    }

    fn pause(&self, time: Duration, has_ended: impl Fn() -> bool) -> Result<()> {
        if is_stopped() {
            bail!("stopped");
        }
        if has_ended() {
            bail!("the load generator ended early");
        }
        thread::sleep(time);
        Ok(())
    }

    fn row(&self, usage: &Usage, outcomes: &[Outcome]) -> Result<Row> {
        let (first, others) = outcomes.split_first().context("a run has a thread")?;
        let mut tally = crate::tally::Tally::new();
        tally.merge(&first.tally);
        let mut lateness_us = first.lateness_us.clone();
        for other in others {
            tally.merge(&other.tally);
            lateness_us += &other.lateness_us;
        }
        let busiest = outcomes
            .iter()
            .map(|outcome| outcome.cpu_share)
            .fold(0.0, f64::max);
        let cores = |cpu: Duration| cpu.as_secs_f64() / usage.wall.as_secs_f64();
        let (server_cores, machine_cores) = (cores(usage.cpu), cores(usage.machine_cpu));
        let generator_cores: f64 = outcomes.iter().map(|outcome| outcome.cpu_share).sum();
        let late_ms = lateness_us.value_at_quantile(0.99) as f64 / 1_000.0;
        let tick_ms = self.workload.period().as_secs_f64() * 1_000.0;

        let (n, hz) = (self.workload.clients, self.workload.hz);
        let seconds = self.setting.duration.as_secs_f64();
        let score = tally.score;
        let client_ticks = n as f64 * f64::from(hz) * seconds;
        let expected = match self.setting.setup.view_distance_m {
            None => n as f64 * client_ticks,
            Some(_) if self.setting.system == System::Ours => score.expected as f64,
            Some(_) => self.setting.setup.tick_updates as f64 * client_ticks,
        };
        let delivered = score.delivered as f64;
        let right = match self.setting.system {
            System::Ours => Some(score.right()),
            System::Floor => None,
            // A relay passes whole poses on: each is right until the next one is sampled.
            _ => {
                let period_us = micros(self.workload.period());
                Some(tally.latency_us[0].count_between(0, period_us))
            }
        };
        let per_delivery = |value: f64| (score.delivered > 0).then_some(value / delivered);
        let quantile_ms = |latency: &Histogram<u64>, quantile| {
            (!latency.is_empty()).then(|| latency.value_at_quantile(quantile) as f64 / 1_000.0)
        };
        let [latency, once, twice] = &tally.latency_us;
        Ok(Row {
            system: self.setting.system.name(),
            n,
            hz,
            motion: self.setting.motion.name(),
            delivered_per_s: delivered / seconds,
            fraction: delivered / expected,
            right: right.map(|right| right as f64 / expected),
            late_samples: usage.late_samples,
            cpu_s_per_million: per_delivery(usage.cpu.as_secs_f64() * 1e6),
            bytes_per_delivery: per_delivery(tally.bytes as f64),
            p50_ms: quantile_ms(latency, 0.5),
            p99_ms: quantile_ms(latency, 0.99),
            max_ms: quantile_ms(latency, 1.0),
            rss_mb: self.sum(Server::peak_memory_bytes)? as f64 / 1e6,
            generator_saturated: busiest > BUSY || late_ms > LATE * tick_ms,
            details: Details {
                seconds,
                bytes_per_tick: tally.bytes as f64 / client_ticks,
                updates_per_tick: expected / client_ticks,
                server_cores,
                generator_cores,
                other_cores: (machine_cores - server_cores - generator_cores).max(0.0),
                late_ms,
                unsent: outcomes.iter().map(|outcome| outcome.unsent).sum(),
                lost: outcomes.iter().map(|outcome| outcome.lost).sum(),
                loss: outcomes.iter().find_map(|outcome| outcome.loss.clone()),
                memory_before: self.memory_before,
                memory: usage.memory.clone(),
                score,
                findings: tally.findings,
                across_ms: [once, twice]
                    .map(|latency| quantile_ms(latency, 0.5).zip(quantile_ms(latency, 0.99))),
                owner: self
                    .progress
                    .timeline
                    .get()
                    .map_or(0, |timeline| timeline.owner),
                bus: usage.bus.clone(),
            },
        })
    }
}

fn micros(duration: Duration) -> u64 {
    duration.as_micros() as u64
}
