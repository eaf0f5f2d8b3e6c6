//! Turns a session's events into changes of the picture and into the client's own events.

use std::time::Duration;

use cubesync_protocol::replica::Change;
use cubesync_protocol::{CubeId, CubePose, Welcome};

use super::Client;
use super::arrivals::Arrivals;
use super::reconciliation::Reconciliation;
use super::rejoin::pose_to_keep;
use crate::playout::View;
use crate::report::{ClientEvent, Status};
use crate::session::Session;
use crate::session::SessionEvent;
use crate::socket::neighbour;

impl Client {
    /// Handles all events of the session.
    pub(super) fn take_events(&mut self, now: Duration) {
        while let Some(event) = self.session.as_mut().and_then(Session::next_event) {
            match event {
                SessionEvent::Joined(welcome) => self.joined(welcome, now),
                SessionEvent::Continued { welcome, before } => self.continued(welcome, before),
                SessionEvent::Changed(change) => self.changed(now, change),
                SessionEvent::Corrected(corrected) => {
                    self.correct(corrected, now);
                    self.events.push_back(ClientEvent::Corrected(corrected));
                }
                SessionEvent::Refused { cube, holder } => {
                    self.give_back(cube, now);
                    let refused = ClientEvent::Refused { cube, holder };
                    self.events.push_back(refused);
                }
                SessionEvent::Datagrams(answer) => self.datagrams_answered(&answer),
                SessionEvent::Ended { reason, retry } => self.disconnect(now, reason, retry),
            }
        }
        self.blend_from_previous(now);
    }

    fn joined(&mut self, welcome: Welcome, now: Duration) {
        let previous = self.previous.take();
        if let Some(previous) = &previous {
            self.remember(previous, now);
        }
        let kept_pose = pose_to_keep(previous.as_ref(), &welcome, now);
        self.view = View::new(welcome.tick_hz);
        self.view.set_display(self.display);
        self.view
            .gain(welcome.cube, kept_pose.unwrap_or(welcome.pose));
        self.reconciliation = Reconciliation::default();
        self.arrivals = Arrivals::default();
        self.status = Status::Joined;
        self.trouble = None;
        self.keep_for_return(&welcome);
        self.prepare_datagrams();
        let event = match (kept_pose, &mut self.session) {
            (Some(pose), Some(session)) => {
                session.set_pose(welcome.cube, pose);
                ClientEvent::Rejoined(welcome)
            }
            _ => ClientEvent::Joined(welcome),
        };
        self.events.push_back(event);
    }

    /// Goes on with the room at another server. An application only notices if its own cube has another id.
    fn continued(&mut self, welcome: Welcome, before: CubeId) {
        self.keep_for_return(&welcome);
        self.view.go_on(welcome.tick);
        let Some(session) = &mut self.session else {
            return;
        };
        if let Some(cube) = self.reconciliation.asked() {
            session.take(cube);
        }
        if welcome.cube != before {
            self.view.lose(before);
            let pose = session.own_pose().unwrap_or(welcome.pose);
            self.view.gain(welcome.cube, pose);
            self.events.push_back(ClientEvent::Rejoined(welcome));
        }
    }

    /// Keeps what a welcome says about coming back after a lost connection.
    fn keep_for_return(&mut self, welcome: &Welcome) {
        self.options.resume = Some(welcome.resume);
        let given = &self.options.server;
        let others = welcome.servers.iter();
        let others = others.map(|address| neighbour(address, given)).collect();
        self.servers.joined(others);
    }

    fn changed(&mut self, now: Duration, change: Change) {
        let own = self.own_cube();
        let event = match change {
            Change::Moved {
                tick,
                known_until,
                states,
            } => {
                // Datagrams leave this out, and the stream may bring it late. It says nothing about the
                // time at which others arrive.
                let session = self.session.as_ref();
                let is_left_out = session.is_some_and(|session| session.datagrams_work(now))
                    && !states.is_empty()
                    && states.iter().all(|(cube, _)| Some(*cube) == own);
                if is_left_out {
                    return;
                }
                let clock = self.session.as_ref().and_then(Session::clock);
                let ticks = clock.map(|clock| (clock.tick_at(now), clock.steady_tick_at(now)));
                if let (Some((clock_tick, steady_tick)), Some(delay_ticks)) =
                    (ticks, self.playout_delay_ticks(now))
                {
                    self.view.moved(steady_tick, tick, known_until, &states);
                    let tick_hz = self.welcome().map_or(0, |welcome| welcome.tick_hz);
                    self.arrivals
                        .arrived(tick, clock_tick, delay_ticks, tick_hz);
                }
                return;
            }
            Change::Joined(info) if Some(info.cube) == own => return,
            Change::Joined(info) if self.rejoin.was_here(&info, now) => return,
            Change::Joined(info) => ClientEvent::CubeJoined(info),
            Change::Left(info) => {
                self.view.remove(info.cube);
                self.reconciliation.forget(info.cube);
                ClientEvent::CubeLeft(info)
            }
            Change::Appeared(info) => match info.holder().filter(|&by| Some(by) == own) {
                Some(by) => self.taken(info.cube, by, now),
                None => return,
            },
            Change::Disappeared(info) if Some(info.cube) == own => return,
            Change::Disappeared(info) => {
                let was_held = self.view.is_controlled(info.cube);
                self.view.remove(info.cube);
                self.reconciliation.forget(info.cube);
                if !was_held {
                    return;
                }
                ClientEvent::CubeFreed { cube: info.cube }
            }
            Change::Taken { cube, by } => self.taken(cube, by, now),
            Change::Freed { cube } => {
                self.view.lose(cube);
                ClientEvent::CubeFreed { cube }
            }
        };
        self.events.push_back(event);
    }

    fn taken(&mut self, cube: CubeId, by: CubeId, now: Duration) -> ClientEvent {
        self.view.lose(cube);
        if Some(by) == self.own_cube() {
            let from = self.server_pose(cube).unwrap_or_default();
            let shown = self.reconciliation.granted(cube, from, now);
            self.view.gain(cube, shown);
        } else {
            self.give_back(cube, now);
        }
        ClientEvent::CubeTaken { cube, by }
    }

    /// Moves a cube of this client to where the server put it.
    fn correct(&mut self, corrected: CubePose, now: Duration) {
        let CubePose { cube, pose } = corrected;
        let shown_m = self.place_m(cube, now);
        self.view.set_pose(cube, pose);
        if let Some(shown_m) = shown_m {
            let to_m = pose.position.to_metres();
            self.reconciliation.corrected(cube, shown_m, to_m, now);
        }
    }

    /// Blends a cube that was asked for back to where it is, because somebody else got it.
    fn give_back(&mut self, cube: CubeId, now: Duration) {
        if let Some(shown) = self.reconciliation.refused(cube)
            && let Some(to_m) = self.place_m(cube, now)
        {
            let shown_m = shown.position.to_metres();
            self.reconciliation.go_back(cube, shown_m, to_m, now);
        }
    }
}
