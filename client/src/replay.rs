//! Plays a recording: the real session and the real view get the recorded bytes at the recorded
//! times. Nothing is sent anywhere.

use std::time::Duration;

use bytes::BytesMut;
use cubesync_protocol::limits::FRAME_HEADER_BYTES;
use cubesync_protocol::{Colour, CubeId, CubeInfo, CubeKind, Hello, Message, ServerMessage};
use cubesync_recording::{Cursor, Direction, Entry, Recording};

use crate::client::STALE_AFTER;
use crate::report::CubeView;
use crate::session::Session;
use crate::session_event::SessionEvent;
use crate::view::View;
use crate::world::WorldChange;

/// A place is played from this long before it, so that the clock and the playout delay are what
/// they were.
const WARM_UP: Duration = Duration::from_secs(2);
/// How finely the view follows while a place is looked for: as in a window.
const FRAME: Duration = Duration::from_micros(16_667);

/// A recording at a moment.
///
/// Every cube is shown as the server told of it, the recording client's own ones as well.
#[derive(Debug)]
pub struct Replay {
    recording: Recording,
    cursor: Cursor,
    now: Duration,
    session: Option<Session>,
    view: View,
}

impl Replay {
    /// At the beginning.
    pub fn new(recording: Recording) -> Self {
        let start = recording.start();
        let mut replay = Self {
            cursor: recording.seek(start),
            recording,
            now: start,
            session: None,
            view: View::default(),
        };
        replay.advance(start);
        replay
    }

    /// When the recording begins, on the clock of whoever made it.
    pub fn start(&self) -> Duration {
        self.recording.start()
    }

    /// When it ends.
    pub fn end(&self) -> Duration {
        self.recording.end()
    }

    /// The moment that is shown.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// What is wrong with the recording, in words.
    pub fn damage(&self) -> Option<String> {
        self.recording.damage()
    }

    /// The cube of the client that recorded; a server has none.
    pub fn own_cube(&self) -> Option<CubeId> {
        let welcome = self.session.as_ref()?.welcome()?;
        (!welcome.name.is_empty()).then_some(welcome.cube)
    }

    /// The server's tick, and the part of it that has passed.
    pub fn tick(&self) -> Option<f64> {
        let clock = self.session.as_ref()?.clock()?;
        Some(clock.tick_at(self.now))
    }

    /// How long a tick lasts.
    pub fn tick_length(&self) -> Duration {
        let welcome = self.session.as_ref().and_then(Session::welcome);
        let tick_hz = welcome.map_or(30, |welcome| welcome.tick_hz);
        Duration::from_secs(1) / u32::from(tick_hz)
    }

    /// Goes on to a later moment, at most to the end.
    pub fn advance(&mut self, to: Duration) {
        let to = to.clamp(self.now, self.end().max(self.now));
        while let Some(entry) = self.cursor.peek(&self.recording)
            && entry.at <= to
        {
            let entry = self.cursor.next(&self.recording);
            let entry = entry.expect("it was there a moment ago");
            if entry.direction != Direction::FromClient {
                self.hear(&entry);
            }
        }
        self.now = to;
        if let Some(tick) = self.tick() {
            self.view.advance(tick);
        }
    }

    /// Goes to any moment.
    pub fn seek(&mut self, to: Duration) {
        let to = to.clamp(self.start(), self.end());
        let from = to.saturating_sub(WARM_UP).max(self.start());
        self.cursor = self.recording.seek(from);
        self.session = None;
        self.view = View::default();
        let first = self.cursor.peek(&self.recording);
        self.now = first.map_or(to, |first| first.at);
        while self.now < to {
            self.advance((self.now + FRAME).min(to));
        }
        self.advance(to);
    }

    /// Every cube as it is to be drawn, by rising id.
    pub fn cubes(&self) -> Vec<CubeView<'_>> {
        let Some((session, tick)) = self.session.as_ref().zip(self.tick()) else {
            return Vec::new();
        };
        let own = self.own_cube();
        let silent = self.now.saturating_sub(session.heard());
        let is_silent = !session.is_joined() || silent >= STALE_AFTER;
        let view = |info: &'_ CubeInfo| self.view.pose_at(info, tick);
        let cubes = session.world().into_iter().flat_map(|world| world.cubes());
        cubes
            .map(|info| {
                let drawn = view(info);
                CubeView {
                    cube: info.cube,
                    kind: info.kind,
                    name: &info.name,
                    colour: info.colour,
                    position: drawn.position,
                    rotation: drawn.rotation,
                    own: Some(info.cube) == own,
                    stale: is_silent || info.kind == CubeKind::Ghost,
                }
            })
            .collect()
    }

    fn hear(&mut self, entry: &Entry) {
        match ServerMessage::decode(&entry.frame[FRAME_HEADER_BYTES..]) {
            Ok(ServerMessage::Welcome(_)) => {
                // It says hello to nobody.
                let nobody = Hello::new("", "", Colour::from([0; 3]));
                self.session = Some(Session::new(nobody, entry.at));
            }
            Ok(ServerMessage::Pong { sent_us, .. }) => {
                // The ping was sent before the place that is played from.
                let session = self.session.as_ref();
                let began = session.map_or(Duration::ZERO, Session::started);
                if Duration::from_micros(sent_us) <= began {
                    return;
                }
            }
            _ => {}
        }
        let Some(session) = &mut self.session else {
            return;
        };
        session.receive(entry.at, &mut BytesMut::from(&entry.frame[..]));
        while let Some(event) = session.next_event() {
            let clock_tick = session.clock().map(|clock| clock.tick_at(entry.at));
            match event {
                SessionEvent::Joined(welcome) => self.view = View::new(welcome.tick_hz),
                SessionEvent::World(WorldChange::Moved {
                    tick,
                    known_until,
                    states,
                }) => {
                    let clock_tick = clock_tick.unwrap_or(tick as f64);
                    self.view.moved(clock_tick, tick, known_until, &states);
                }
                SessionEvent::World(WorldChange::Left(info) | WorldChange::Disappeared(info)) => {
                    self.view.remove(info.cube);
                }
                // What happened is seen; a session that is over stands still.
                _ => {}
            }
        }
    }
}
