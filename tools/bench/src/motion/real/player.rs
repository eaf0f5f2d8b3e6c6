//! The players: a walker, a viewer who watches it, and a witness.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use cubesync_client::{Client, ClientEvent};
use cubesync_protocol::CubeId;

use crate::trace::{Placed, Trace};

/// A part in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Moves its cube along the trace.
    Walker,
    /// Watches the walker's cube.
    Viewer,
    /// Watches it over a perfect wire, so that its error is what the walker's wire causes.
    Witness,
}

impl Role {
    pub(super) const ALL: [Self; 3] = [Self::Walker, Self::Viewer, Self::Witness];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Walker => "walker",
            Self::Viewer => "viewer",
            Self::Witness => "witness",
        }
    }

    /// Returns the number of frames per second. They differ from each other and from multiples of the
    /// ticks, so that frames and ticks meet at every phase.
    fn frame_hz(self) -> f64 {
        match self {
            Self::Walker => 60.13,
            Self::Viewer => 59.94,
            Self::Witness => 60.41,
        }
    }
}

/// What the players of a run share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) epoch: Instant,
    pub(super) is_over: AtomicBool,
    pub(super) joined: AtomicUsize,
    /// The walker's cube, and the place where it joined, in metres.
    pub(super) walker: OnceLock<(CubeId, [f64; 3])>,
    /// The walk and the time of its beginning.
    pub(super) walk: OnceLock<(Walk, Duration)>,
    /// What should not happen in a run.
    pub(super) trouble: Mutex<Vec<String>>,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            is_over: AtomicBool::new(false),
            joined: AtomicUsize::new(0),
            walker: OnceLock::new(),
            walk: OnceLock::new(),
            trouble: Mutex::default(),
        }
    }
}

/// The true motion of the walker's cube.
#[derive(Debug)]
pub(super) struct Walk {
    trace: Trace,
    home: [f64; 3],
}

impl Walk {
    /// Returns a walk along the trace that begins at the walker's home.
    pub(super) fn new(trace: Trace, home: [f64; 3]) -> Self {
        Self { trace, home }
    }

    /// Returns the pose at a time since the beginning of the walk.
    pub(super) fn at(&self, time_s: f64) -> Placed {
        let mut placed = self.trace.at(time_s);
        // The height is the trace's own: it begins on the floor.
        placed.position[0] += self.home[0];
        placed.position[1] += self.home[1];
        placed
    }
}

/// What a player knew and showed in a frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    /// The time since the beginning of the walk.
    pub(super) time_s: f64,
    /// Where the walker's cube was shown, in metres.
    pub(super) shown: Option<[f64; 3]>,
    /// The server's tick by the player's clock.
    pub(super) clock_tick: f64,
    pub(super) playout_delay_s: f64,
    pub(super) lead_s: f64,
    pub(super) late_samples: u64,
    pub(super) snapshots_by_datagram: u64,
    pub(super) snapshots_by_stream: u64,
}

/// Plays a role until the run is over, and returns the frames since the beginning of the walk.
pub(super) fn play(role: Role, mut client: Client, shared: &Shared) -> Vec<Frame> {
    let mut frames = Vec::new();
    let period = Duration::from_secs_f64(1.0 / role.frame_hz());
    let mut due = shared.epoch.elapsed();
    while !shared.is_over.load(Ordering::Relaxed) {
        let now = shared.epoch.elapsed();
        frames.extend(frame(role, &mut client, now, shared));
        // A frame that took too long costs the next ones, as on a screen.
        while due <= shared.epoch.elapsed() {
            due += period;
        }
        thread::sleep(due.saturating_sub(shared.epoch.elapsed()));
    }
    client.close();
    frames
}

/// Does what a game does in a frame.
fn frame(role: Role, client: &mut Client, now: Duration, shared: &Shared) -> Option<Frame> {
    client.poll(now);
    while let Some(event) = client.next_event() {
        match event {
            ClientEvent::Joined(welcome) => {
                if role == Role::Walker {
                    let home = welcome.pose.position.to_metres().map(f64::from);
                    // It is set already if the walker comes back, which is trouble.
                    let _ = shared.walker.set((welcome.cube, home));
                }
                shared.joined.fetch_add(1, Ordering::Relaxed);
            }
            ClientEvent::Rejoined(_)
            | ClientEvent::Corrected(_)
            | ClientEvent::Disconnected { .. } => {
                let text = format!("{:.1} s: {}: {event:?}", now.as_secs_f64(), role.name());
                let mut trouble = shared.trouble.lock().expect("no player panicked with it");
                trouble.push(text);
            }
            _ => {}
        }
    }
    let (walk, start) = shared.walk.get()?;
    let time_s = now.as_secs_f64() - start.as_secs_f64();
    if let (Role::Walker, Some(own)) = (role, client.own_cube()) {
        client.set_pose(own, walk.at(time_s).pose());
    }
    client.send(now);
    let &(cube, _) = shared.walker.get()?;
    let views = client.cubes(now);
    let view = views.iter().find(|view| view.cube == cube);
    let statistics = client.statistics();
    Some(Frame {
        time_s,
        shown: view.map(|view| view.position.map(f64::from)),
        clock_tick: client.tick_at(now)?,
        playout_delay_s: statistics.playout_delay.as_secs_f64(),
        lead_s: statistics.lead.as_secs_f64(),
        late_samples: statistics.late_samples,
        snapshots_by_datagram: statistics.snapshots_by_datagram,
        snapshots_by_stream: statistics.snapshots_by_stream,
    })
}
