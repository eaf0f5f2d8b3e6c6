//! Many light clients at once. They understand no more than they must, so that thousands fit.

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

use super::light::{LastWord, Light};
use super::peer::RED;

/// How often a client that does nothing says something.
const PING: Duration = Duration::from_secs(4);
/// Jumps go as far as this from the origin, in quanta.
const JUMP_QUANTA: i32 = 50_000;
/// A connection that is not welcome after this long is given up.
const JOIN_WITHIN: Duration = Duration::from_secs(20);

/// What the clients of a crowd do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Stand there and ping.
    Rest,
    /// Jump anywhere at every tick.
    Jump,
    /// Walk slowly, a sample a tick.
    Walk,
    /// Join, leave, and say no more.
    JoinAndLeave,
}

/// What a crowd is to be.
#[derive(Debug, Clone)]
pub(crate) struct CrowdPlan {
    /// The server's clients' port; the pages' port when `is_websocket`.
    pub(crate) server: SocketAddr,
    /// How many.
    pub(crate) count: usize,
    /// Over how many rooms they are spread; with one it is the lobby.
    pub(crate) rooms: usize,
    /// What they do.
    pub(crate) habit: Habit,
    /// Whether they are in a WebSocket.
    pub(crate) is_websocket: bool,
    /// Whether who is cut off comes back, as a real client does.
    pub(crate) returns: bool,
    /// The time over which they come.
    pub(crate) over: Duration,
}

/// What a crowd has seen.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// In a room at the moment.
    pub(crate) joined: AtomicU64,
    /// Welcomes so far.
    pub(crate) welcomes: AtomicU64,
    /// Bytes received.
    pub(crate) received_bytes: AtomicU64,
    /// Connections that are over.
    pub(crate) ended: AtomicU64,
    /// The last words: the code, and in how many milliseconds to come back.
    closings: Mutex<Vec<LastWord>>,
    should_stop: AtomicBool,
}

impl Tally {
    /// What was said at the ends of connections.
    pub(crate) fn closings(&self) -> Vec<LastWord> {
        self.closings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Many clients, on a thread of their own. Dropping it closes all connections.
#[derive(Debug)]
pub(crate) struct Crowd {
    /// What they have seen so far.
    pub(crate) tally: Arc<Tally>,
    runtime: Option<Runtime>,
}

impl Crowd {
    /// Sends them off; they connect over the plan's time.
    pub(crate) fn send(plan: CrowdPlan) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let tally = Arc::new(Tally::default());
        for number in 0..plan.count {
            let (plan, tally) = (plan.clone(), Arc::clone(&tally));
            runtime.spawn(async move {
                let part = number as f64 / plan.count as f64;
                tokio::time::sleep(plan.over.mul_f64(part)).await;
                live(&plan, number, &tally).await;
            });
        }
        Ok(Self {
            tally,
            runtime: Some(runtime),
        })
    }

    /// The same, and waits until all are in their rooms.
    pub(crate) fn join(plan: CrowdPlan) -> Result<Self> {
        let count = plan.count as u64;
        let within = plan.over + Duration::from_secs(60);
        let crowd = Self::send(plan)?;
        ensure!(
            crowd.is_whole(count, within),
            "only {} of {count} could join",
            crowd.tally.joined.load(Ordering::Relaxed)
        );
        Ok(crowd)
    }

    /// Waits until so many are in their rooms.
    pub(crate) fn is_whole(&self, count: u64, within: Duration) -> bool {
        comes_true(within, || {
            self.tally.joined.load(Ordering::Relaxed) >= count
        })
    }

    /// Lets everybody say that they leave, and waits for it.
    pub(crate) fn leave(self) -> Result<()> {
        self.tally.should_stop.store(true, Ordering::Relaxed);
        let is_empty = || self.tally.joined.load(Ordering::Relaxed) == 0;
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

/// One client from its first connection to its last.
async fn live(plan: &CrowdPlan, number: usize, tally: &Tally) {
    let mut backoff = Backoff::new(number as u64);
    let mut resume = None;
    loop {
        let began = Instant::now();
        let mut retry = None;
        let mut is_joined = false;
        // How it ended is told by what was counted.
        let _ = connect(plan, number, tally, &mut resume, &mut is_joined, &mut retry).await;
        if is_joined {
            tally.joined.fetch_sub(1, Ordering::Relaxed);
        }
        tally.ended.fetch_add(1, Ordering::Relaxed);
        if !plan.returns || tally.should_stop.load(Ordering::Relaxed) {
            return;
        }
        if began.elapsed() >= LASTING {
            backoff.reset();
        }
        let wait = retry.unwrap_or_else(|| backoff.next_wait());
        tokio::time::sleep(wait).await;
    }
}

/// One connection from its beginning to its end.
async fn connect(
    plan: &CrowdPlan,
    number: usize,
    tally: &Tally,
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
        let mut light = Light::connect(plan.server, plan.is_websocket).await?;
        let welcome = light.join(hello).await?;
        anyhow::Ok((light, welcome))
    };
    let (mut light, welcome) = tokio::time::timeout(JOIN_WITHIN, joining).await??;
    *resume = Some(welcome.resume);
    *is_joined = true;
    tally.joined.fetch_add(1, Ordering::Relaxed);
    tally.welcomes.fetch_add(1, Ordering::Relaxed);
    if plan.habit == Habit::JoinAndLeave {
        return light.leave().await;
    }
    let interval = match plan.habit {
        Habit::Rest | Habit::JoinAndLeave => PING,
        Habit::Jump | Habit::Walk => Duration::from_secs(1) / u32::from(welcome.tick_hz),
    };
    let mut timer = tokio::time::interval(interval);
    timer.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut tick, mut walked) = (welcome.tick, 0);
    let mut quiet = Instant::now();
    loop {
        tokio::select! {
            count = light.read() => {
                let count = count?;
                tally.received_bytes.fetch_add(count as u64, Ordering::Relaxed);
                ensure!(count > 0, "closed");
                if let Some((code, retry_after_ms)) = light.last_word()? {
                    *retry = retry_after_ms.map(|ms| Duration::from_millis(ms.into()));
                    let mut closings = tally.closings.lock().unwrap_or_else(PoisonError::into_inner);
                    closings.push((code, retry_after_ms));
                }
            }
            _ = timer.tick() => {
                if tally.should_stop.load(Ordering::Relaxed) {
                    return light.leave().await;
                }
                tick += 1;
                walked += 1;
                let position = match plan.habit {
                    Habit::Jump => Some(random_position()),
                    _ => Some(Position { x: walked % 20_000, ..welcome.pose.position }),
                };
                if let Some(position) = position.filter(|_| plan.habit != Habit::Rest) {
                    light.send(&sample(tick, welcome.cube, position)).await?;
                }
                if plan.habit == Habit::Rest || quiet.elapsed() > PING {
                    quiet = Instant::now();
                    light.send(&ClientMessage::Ping { sent_us: 0 }).await?;
                }
            }
        }
    }
}

/// A sample that puts a cube somewhere.
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
