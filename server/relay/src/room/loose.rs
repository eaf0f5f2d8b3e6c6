//! The room's side of its [`mechanics`](crate::mechanics): one step a tick at most, whose outcome counts at the next
//! tick that finds it. A step runs beside the room's task, which never waits for it. While one takes longer than a tick,
//! loose cubes are slower than real ones, but move [evenly](super::glide). Where a runtime has a single thread, as in
//! simulations, steps run in the room's task, so that the same ticks always bring the same motion.

use std::sync::LazyLock;
use std::thread::available_parallelism;

use cubesync_protocol::CubeId;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{Semaphore, oneshot};
use tracing::error;

use super::glide::Glide;
use super::world::World;
use super::{RoomSettings, clock};
use crate::mechanics::{Create, Field, Kept, Mechanics, Pusher, Stepped};
use crate::metrics::StepCounts;

/// Steps of all rooms that may run at once: more would only take the processors from the rooms' tasks. The others
/// wait in order, so that no number of heavy rooms makes threads without end.
static STEPS: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(steps_at_once()));

pub(super) fn steps_at_once() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// The mechanics of a room.
#[derive(Debug)]
pub(super) struct LooseCubes {
    create: Create,
    kept: Option<Kept>,
    tick_hz: u8,
    engine: Engine,
    glide: Glide,
    counts: StepCounts,
    /// Ticks that the step before took too long.
    late_ticks: u32,
    /// The pushers of the newest step.
    pushers: Vec<Pusher>,
    /// Cubes that moved in the newest step, or were let go before it.
    moving: Vec<CubeId>,
    is_asleep: bool,
    /// The tick as of which the room has last noted where they are.
    pub(super) kept_at: u64,
}

/// Time after which mechanics that have failed begin anew.
const AGAIN_AFTER_S: u64 = 1;

/// Where the mechanics are.
#[derive(Debug)]
enum Engine {
    /// They have done all steps.
    Idle(Box<dyn Mechanics>),
    /// They have failed, and begin anew at a tick.
    Failed { again_at: u64 },
    /// A step runs, or they are made, or the outcome has not been taken.
    Busy {
        /// The tick after which it began.
        began: u64,
        /// The ticks since then.
        ticks: u32,
        outcome: oneshot::Receiver<Outcome>,
    },
}

type Outcome = (Box<dyn Mechanics>, Stepped);

impl LooseCubes {
    /// Creates the mechanics of a world, if its room has some.
    pub(super) fn of(settings: &RoomSettings, world: &World, counts: &StepCounts) -> Option<Self> {
        let Field { create, kept, .. } = settings.field.clone()?;
        let (create, tick_hz) = (create?, settings.tick_hz);
        Some(Self {
            tick_hz,
            engine: make(create, tick_hz, world),
            glide: Glide::new(tick_hz),
            counts: counts.clone(),
            create,
            kept,
            late_ticks: 0,
            pushers: Vec::new(),
            moving: Vec::new(),
            is_asleep: true,
            kept_at: world.tick_number(),
        })
    }

    /// Moves the world's loose cubes by the outcome of the newest step, if there is one. Called before the world's
    /// tick.
    pub(super) fn finish(&mut self, world: &mut World) {
        self.take_outcome(world);
        self.glide.tick(world);
    }

    fn take_outcome(&mut self, world: &mut World) {
        let (began, ticks, outcome) = match &mut self.engine {
            Engine::Idle(_) => return,
            Engine::Failed { again_at } => {
                if world.tick_number() >= *again_at {
                    self.engine = make(self.create, self.tick_hz, world);
                    world.drop_all(&std::mem::take(&mut self.moving));
                }
                return;
            }
            Engine::Busy {
                began,
                ticks,
                outcome,
            } => (*began, ticks, outcome),
        };
        *ticks += 1;
        match outcome.try_recv() {
            Err(TryRecvError::Empty) => {
                self.counts.late_ticks.inc();
            }
            Ok((mechanics, Stepped { moved, is_asleep })) => {
                self.glide.begin(began, *ticks, &moved);
                self.late_ticks = *ticks - 1;
                self.engine = Engine::Idle(mechanics);
                self.moving = moved.iter().map(|it| it.cube).collect();
                self.is_asleep = is_asleep;
            }
            // It has panicked.
            Err(TryRecvError::Closed) => {
                error!("the mechanics have failed, and begin anew in a second");
                self.glide = Glide::new(self.tick_hz);
                let again_at = world.tick_number() + AGAIN_AFTER_S * u64::from(self.tick_hz);
                self.engine = Engine::Failed { again_at };
                self.is_asleep = true;
            }
        }
    }

    /// Begins the step to the next tick, unless one runs or nothing would move. Called after the world's tick.
    pub(super) fn begin(&mut self, world: &mut World) {
        if !matches!(self.engine, Engine::Idle(_)) {
            return;
        }
        let mut step = world.next_step();
        step.late_ticks = std::mem::take(&mut self.late_ticks);
        if self.is_asleep && step.released.is_empty() && step.pushers == self.pushers {
            return;
        }
        self.pushers.clone_from(&step.pushers);
        self.moving.extend(step.released.iter().map(|it| it.cube));
        self.is_asleep = false;
        let failed = Engine::Failed { again_at: 0 };
        let Engine::Idle(mut mechanics) = std::mem::replace(&mut self.engine, failed) else {
            return;
        };
        let counts = self.counts.clone();
        self.engine = run(world.tick_number(), move || {
            let began = clock::now();
            let stepped = mechanics.step(&step);
            counts.count(clock::now() - began, stepped.moved.len());
            (mechanics, stepped)
        });
    }

    /// Returns where the room notes how they are.
    pub(super) fn kept(&self) -> Option<&Kept> {
        self.kept.as_ref()
    }

    /// Returns whether no loose cube moves until a player does something.
    pub(super) fn is_at_rest(&self) -> bool {
        self.is_asleep && self.glide.is_over() && matches!(self.engine, Engine::Idle(_))
    }
}

/// Makes the mechanics of a world.
fn make(create: Create, tick_hz: u8, world: &World) -> Engine {
    let cubes = world.loose();
    run(world.tick_number(), move || {
        let still = Stepped {
            moved: Vec::new(),
            is_asleep: true,
        };
        (create(tick_hz, &cubes), still)
    })
}

/// Runs work beside the room's task, in its turn.
fn run(began: u64, work: impl FnOnce() -> Outcome + Send + 'static) -> Engine {
    let (sender, outcome) = oneshot::channel();
    let work = move || {
        // The room may have ended meanwhile.
        let _ = sender.send(work());
    };
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        // Nobody waits for it when the room ends: it is one step at most.
        Ok(RuntimeFlavor::MultiThread) => drop(tokio::spawn(async {
            let turn = STEPS.acquire().await;
            drop(tokio::task::spawn_blocking(move || {
                work();
                drop(turn);
            }));
        })),
        _ => work(),
    }
    Engine::Busy {
        began,
        ticks: 0,
        outcome,
    }
}
