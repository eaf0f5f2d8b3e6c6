//! Many light clients at once, thousands of them if need be.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cubesync_client::reconnect::{Backoff, LASTING};
use cubesync_harness::wait::comes_true;
use cubesync_protocol::{ClientMessage, CubeId, CubePose, Hello, Pose, Position, ResumeToken};
use tokio::runtime::Runtime;
use tokio::time::MissedTickBehavior;

use super::light_client::{Closing, LightClient};
use super::peer::RED;

/// How often a client that rests sends a ping.
const PING: Duration = Duration::from_secs(4);
/// Jumps go as far as this from the origin, in quanta.
const JUMP_QUANTA: i32 = 50_000;
/// A connection without a `Welcome` after this long is given up.
const JOIN_WITHIN: Duration = Duration::from_secs(20);

/// The behaviour of the clients of a crowd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Stand still and ping.
    Rest,
    /// Jump to a random place at every tick.
    Jump,
    /// Walk slowly, with a sample at every tick.
    Walk,
    /// Join and leave.
    JoinAndLeave,
}

/// A plan of how many clients join, where, and what they do.
#[derive(Debug, Clone)]
pub(crate) struct CrowdPlan {
    /// The server's address for clients, or for pages if `is_websocket`.
    pub(crate) server: SocketAddr,
    /// Number of clients.
    pub(crate) count: usize,
    /// Number of rooms over which they are spread. The first one is the lobby.
    pub(crate) rooms: usize,
    /// The behaviour of all of them.
    pub(crate) behaviour: Behaviour,
    /// Whether they connect over a WebSocket.
    pub(crate) is_websocket: bool,
    /// Whether a client that loses its connection comes back, as a real client does.
    pub(crate) returns: bool,
    /// The time over which their connections are spread.
    pub(crate) over: Duration,
}

/// The counts of a crowd.
#[derive(Debug, Default)]
pub(crate) struct CrowdCounts {
    /// Number of clients in a room at the moment.
    pub(crate) joined: AtomicU64,
    /// Number of welcomes so far.
    pub(crate) welcomes: AtomicU64,
    /// Number of bytes received so far.
    pub(crate) received_bytes: AtomicU64,
    /// Number of connections that have ended.
    pub(crate) ended: AtomicU64,
    /// The `Closing` messages received so far.
    closings: Mutex<Vec<Closing>>,
    should_stop: AtomicBool,
}

impl CrowdCounts {
    /// Returns the `Closing` messages received so far.
    pub(crate) fn closings(&self) -> Vec<Closing> {
        self.closings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Many clients, on a thread of their own. Dropping it closes all connections.
#[derive(Debug)]
pub(crate) struct Crowd {
    /// The counts so far.
    pub(crate) counts: Arc<CrowdCounts>,
    runtime: Option<Runtime>,
}

impl Crowd {
    /// Starts the clients, which connect over the plan's time.
    pub(crate) fn start(plan: CrowdPlan) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let counts = Arc::new(CrowdCounts::default());
        for number in 0..plan.count {
            let (plan, counts) = (plan.clone(), Arc::clone(&counts));
            runtime.spawn(async move {
                let part = number as f64 / plan.count as f64;
                tokio::time::sleep(plan.over.mul_f64(part)).await;
                live(&plan, number, &counts).await;
            });
        }
        Ok(Self {
            counts,
            runtime: Some(runtime),
        })
    }

    /// Starts the clients and waits until all are in their rooms.
    pub(crate) fn join(plan: CrowdPlan) -> Result<Self> {
        let count = plan.count as u64;
        let within = plan.over + Duration::from_secs(60);
        let crowd = Self::start(plan)?;
        ensure!(
            crowd.is_whole(count, within),
            "only {} of {count} could join",
            crowd.counts.joined.load(Ordering::Relaxed)
        );
        Ok(crowd)
    }

    /// Returns whether `count` clients are in their rooms before the time is over.
    pub(crate) fn is_whole(&self, count: u64, within: Duration) -> bool {
        comes_true(within, || {
            self.counts.joined.load(Ordering::Relaxed) >= count
        })
    }

    /// Lets all clients leave, and waits until they have.
    pub(crate) fn leave(self) -> Result<()> {
        self.counts.should_stop.store(true, Ordering::Relaxed);
        let is_empty = || self.counts.joined.load(Ordering::Relaxed) == 0;
        ensure!(comes_true(PING + PING, is_empty), "some do not leave");
        Ok(())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Runs one client from its first connection to its last.
async fn live(plan: &CrowdPlan, number: usize, counts: &CrowdCounts) {
    let mut backoff = Backoff::new(number as u64);
    let mut resume = None;
    loop {
        let began = Instant::now();
        let mut retry = None;
        let mut is_joined = false;
        // How it ended was counted.
        let _ = connect(
            plan,
            number,
            counts,
            &mut resume,
            &mut is_joined,
            &mut retry,
        )
        .await;
        if is_joined {
            counts.joined.fetch_sub(1, Ordering::Relaxed);
        }
        counts.ended.fetch_add(1, Ordering::Relaxed);
        if !plan.returns || counts.should_stop.load(Ordering::Relaxed) {
            return;
        }
        if began.elapsed() >= LASTING {
            backoff.reset();
        }
        let wait = retry.unwrap_or_else(|| backoff.next_wait());
        tokio::time::sleep(wait).await;
    }
}

/// Runs one connection from its beginning to its end.
async fn connect(
    plan: &CrowdPlan,
    number: usize,
    counts: &CrowdCounts,
    resume: &mut Option<ResumeToken>,
    is_joined: &mut bool,
    retry: &mut Option<Duration>,
) -> Result<()> {
    let room = match number % plan.rooms {
        0 => "lobby".to_owned(),
        room => format!("room {room}"),
    };
    let hello = Hello {
        resume: *resume,
        ..Hello::new(room, format!("crowd {number}"), RED)
    };
    let joining = async {
        let mut client = LightClient::connect(plan.server, plan.is_websocket).await?;
        let welcome = client.join(hello).await?;
        anyhow::Ok((client, welcome))
    };
    let (mut client, welcome) = tokio::time::timeout(JOIN_WITHIN, joining).await??;
    *resume = Some(welcome.resume);
    *is_joined = true;
    counts.joined.fetch_add(1, Ordering::Relaxed);
    counts.welcomes.fetch_add(1, Ordering::Relaxed);
    let interval = match plan.behaviour {
        Behaviour::JoinAndLeave => return client.leave().await,
        Behaviour::Rest => PING,
        Behaviour::Jump | Behaviour::Walk => Duration::from_secs(1) / u32::from(welcome.tick_hz),
    };
    let mut timer = tokio::time::interval(interval);
    timer.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut tick, mut walked) = (welcome.tick, 0);
    let mut quiet = Instant::now();
    loop {
        tokio::select! {
            count = client.read() => {
                let count = count?;
                counts.received_bytes.fetch_add(count as u64, Ordering::Relaxed);
                ensure!(count > 0, "closed");
                if let Some((code, retry_after_ms)) = client.closing()? {
                    *retry = retry_after_ms.map(|ms| Duration::from_millis(ms.into()));
                    let mut closings = counts.closings.lock().unwrap_or_else(PoisonError::into_inner);
                    closings.push((code, retry_after_ms));
                }
            }
            _ = timer.tick() => {
                if counts.should_stop.load(Ordering::Relaxed) {
                    return client.leave().await;
                }
                tick += 1;
                walked += 1;
                let position = match plan.behaviour {
                    Behaviour::Jump => Some(random_position()),
                    _ => Some(Position { x: walked % 20_000, ..welcome.pose.position }),
                };
                if let Some(position) = position.filter(|_| plan.behaviour != Behaviour::Rest) {
                    client.send(&sample(tick, welcome.cube, position)).await?;
                }
                if plan.behaviour == Behaviour::Rest || quiet.elapsed() > PING {
                    quiet = Instant::now();
                    client.send(&ClientMessage::Ping { sent_us: 0 }).await?;
                }
            }
        }
    }
}

/// Returns a sample that puts a cube at `position`.
pub(crate) fn sample(tick: u64, cube: CubeId, position: Position) -> ClientMessage {
    let pose = Pose {
        position,
        ..Pose::default()
    };
    ClientMessage::Sample {
        tick,
        placed: vec![CubePose { cube, pose }],
        residuals: Default::default(),
    }
}

fn random_position() -> Position {
    let along = || fastrand::i32(-JUMP_QUANTA..JUMP_QUANTA);
    Position {
        x: along(),
        y: along(),
        z: 256,
    }
}
