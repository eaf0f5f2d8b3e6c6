//! A client without a socket, as [`cubesync_client::Client`] ties it together.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cubesync_client::playout::View;
use cubesync_client::session::{Session, SessionEvent};
use cubesync_protocol::interpolation::DrawnPose;
use cubesync_protocol::replica::Change;
use cubesync_protocol::{CubeId, CubeInfo, CubeKind, DatagramRequest, Pose, Welcome};

use crate::trace::Placed;

/// A client without a socket.
pub(crate) struct Player {
    session: Session,
    view: View,
    /// Whether it asks for a way for datagrams.
    wants_datagrams: bool,
    /// Whether what it moves pushes loose cubes at once.
    pub(crate) touches: bool,
    /// The free cube that it holds.
    held: Option<CubeId>,
}

/// A cube as it is shown, and as it would be without contacts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loose {
    pub(crate) cube: CubeId,
    pub(crate) width_m: f32,
    pub(crate) shown: DrawnPose,
    pub(crate) published: DrawnPose,
}

impl Player {
    pub(crate) fn new(session: Session, wants_datagrams: bool) -> Self {
        Self {
            session,
            view: View::default(),
            wants_datagrams,
            touches: false,
            held: None,
        }
    }

    /// Handles a received datagram, before the frame.
    pub(crate) fn receive_datagram(&mut self, now: Duration, datagram: &[u8]) {
        self.session.receive_datagram(now, datagram);
    }

    /// Returns the datagram to send after a frame.
    pub(crate) fn next_datagram(&mut self) -> Option<Bytes> {
        self.session.next_datagram()
    }

    /// Handles received messages, and sends what is due and the own cube's pose. Returns the bytes to
    /// send.
    pub(crate) fn frame(
        &mut self,
        now: Duration,
        incoming: BytesMut,
        own_pose: Option<Pose>,
    ) -> BytesMut {
        self.receive(now, incoming);
        let own = self.session.welcome().map(|welcome| welcome.cube);
        if let (Some(own), Some(pose)) = (own, own_pose) {
            self.put(own, pose);
        }
        self.send(now)
    }

    /// Handles received messages.
    pub(crate) fn receive(&mut self, now: Duration, mut incoming: BytesMut) {
        self.session.receive(now, &mut incoming);
        self.session.poll(now);
        while let Some(event) = self.session.next_event() {
            match event {
                SessionEvent::Joined(welcome) => {
                    self.view = View::new(welcome.tick_hz);
                    self.view.gain(welcome.cube, welcome.pose);
                    if self.wants_datagrams {
                        self.session.open_datagrams(DatagramRequest::Udp);
                    }
                }
                SessionEvent::Changed(Change::Moved {
                    tick,
                    known_until,
                    states,
                }) => {
                    if let Some(clock) = self.session.clock() {
                        let clock_tick = clock.steady_tick_at(now);
                        self.view.moved(clock_tick, tick, known_until, &states);
                    }
                }
                SessionEvent::Changed(Change::Taken { cube, by })
                    if self.welcome().is_some_and(|welcome| welcome.cube == by) =>
                {
                    let pose = self
                        .session
                        .replica()
                        .and_then(|replica| replica.pose(cube));
                    self.view.gain(cube, pose.unwrap_or_default());
                    self.held = Some(cube);
                }
                SessionEvent::Ended { reason, .. } => panic!("the session ended: {reason}"),
                _ => {}
            }
        }
        if let Some(clock) = self.session.clock() {
            self.view.advance(clock.steady_tick_at(now));
        }
    }

    /// Puts a cube somewhere that it moves.
    pub(crate) fn put(&mut self, cube: CubeId, pose: Pose) {
        self.session.set_pose(cube, pose);
        self.view.set_pose(cube, pose);
    }

    /// Lets what it moves push loose cubes, and returns the bytes to send.
    pub(crate) fn send(&mut self, now: Duration) -> BytesMut {
        if let (Some(clock), Some(replica)) = (self.session.clock(), self.session.replica())
            && self.touches
        {
            let clock_tick = clock.steady_tick_at(now);
            self.view.touch(clock_tick, |cube| replica.cube(cube));
        }
        self.session.send(now);
        self.session.outgoing().split()
    }

    /// Returns the server's welcome.
    pub(crate) fn welcome(&self) -> Option<&Welcome> {
        self.session.welcome()
    }

    /// Asks for a free cube.
    pub(crate) fn take(&mut self, cube: CubeId) {
        self.session.take(cube);
    }

    /// Returns the free cube that it holds.
    pub(crate) fn held(&self) -> Option<CubeId> {
        self.held
    }

    /// Returns the free cubes that nobody holds.
    pub(crate) fn loose(&self, now: Duration) -> Vec<Loose> {
        self.shown(now, |info| info.kind == CubeKind::Free { holder: None })
    }

    /// Returns the cubes that it moves.
    pub(crate) fn pushers(&self, now: Duration) -> Vec<Loose> {
        self.shown(now, |info| self.view.is_controlled(info.cube))
    }

    fn shown(&self, now: Duration, is_wanted: impl Fn(&CubeInfo) -> bool) -> Vec<Loose> {
        let (Some(replica), Some(clock)) = (self.session.replica(), self.session.clock()) else {
            return Vec::new();
        };
        let clock_tick = clock.steady_tick_at(now);
        let cubes = replica.cubes().filter(|info| is_wanted(info));
        let loose = cubes.map(|info| Loose {
            cube: info.cube,
            width_m: info.width.to_metres(),
            shown: self.view.pose_at(info, clock_tick),
            published: self.view.published_at(info, clock_tick),
        });
        loose.collect()
    }

    /// Returns the tick by the client's clock, and its lead in seconds.
    pub(crate) fn clock(&self, now: Duration) -> Option<(f64, f64)> {
        let clock_tick = self.session.clock()?.tick_at(now);
        Some((clock_tick, self.session.statistics().lead.as_secs_f64()))
    }

    /// Returns the pose in which a cube is drawn, and the tick that it is meant to be of.
    pub(crate) fn draw(&self, now: Duration, cube: CubeId) -> Option<(f64, Placed)> {
        let info = self.session.replica()?.cube(cube)?;
        let clock_tick = self.session.clock()?.steady_tick_at(now);
        let drawn = self.view.pose_at(info, clock_tick);
        let shown_tick = clock_tick - self.view.delay_ticks();
        let placed = Placed {
            position: drawn.position.map(f64::from),
            rotation: drawn.rotation.map(f64::from),
        };
        Some((shown_tick, placed))
    }

    /// Computes the poses of all cubes and returns their number.
    pub(crate) fn draw_all(&self, now: Duration) -> usize {
        let (Some(replica), Some(clock)) = (self.session.replica(), self.session.clock()) else {
            return 0;
        };
        let clock_tick = clock.steady_tick_at(now);
        let drawn = replica
            .cubes()
            .map(|info| self.view.pose_at(info, clock_tick));
        drawn.map(std::hint::black_box).count()
    }
}
