//! A client without a socket, as [`cubesync_client::Client`] ties it together.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cubesync_client::playout::View;
use cubesync_client::session::{Session, SessionEvent};
use cubesync_protocol::replica::Change;
use cubesync_protocol::{CubeId, DatagramRequest, Pose};

use crate::trace::Placed;

/// A client without a socket.
pub(crate) struct Player {
    session: Session,
    view: View,
    /// Whether it asks for a way for datagrams.
    wants_datagrams: bool,
}

impl Player {
    pub(crate) fn new(session: Session, wants_datagrams: bool) -> Self {
        Self {
            session,
            view: View::default(),
            wants_datagrams,
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
        mut incoming: BytesMut,
        own_pose: Option<Pose>,
    ) -> BytesMut {
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
                SessionEvent::Ended { reason, .. } => panic!("the session ended: {reason}"),
                _ => {}
            }
        }
        if let Some(clock) = self.session.clock() {
            self.view.advance(clock.steady_tick_at(now));
        }
        let own = self.session.welcome().map(|welcome| welcome.cube);
        if let (Some(own), Some(pose)) = (own, own_pose) {
            self.session.set_pose(own, pose);
        }
        self.session.send(now);
        self.session.outgoing().split()
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
