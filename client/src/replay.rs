//! Plays a recording: the real session and the real view get the recorded bytes at the recorded
//! times. Nothing is sent anywhere.

use std::time::Duration;

use bytes::BytesMut;
use cubesync_protocol::limits::FRAME_HEADER_BYTES;
use cubesync_protocol::replica::Change;
use cubesync_protocol::{
    Colour, CubeId, CubeInfo, CubeKind, Hello, Message, Replica, ServerMessage,
};
use cubesync_recording::{Cursor, Direction, Entry, Recording};

use crate::client::STALE_AFTER;
use crate::playout::View;
use crate::report::CubeView;
use crate::session::Session;
use crate::session::SessionEvent;

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
        while let Some(at) = self.cursor.peek(&self.recording).map(|entry| entry.at)
            && at <= to
        {
            // What was read in one go is looked at in one go.
            while let Some(entry) = self.cursor.next_at(&self.recording, at) {
                if entry.direction != Direction::FromClient {
                    self.hear(&entry);
                }
            }
            self.take_events(at);
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
        // Between two chunks may be years.
        self.advance(from);
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
        let silent = self.now.saturating_sub(session.last_received());
        let is_silent = !session.is_joined() || silent >= STALE_AFTER;
        let view = |info: &'_ CubeInfo| self.view.pose_at(info, tick);
        let cubes = session.replica().into_iter().flat_map(Replica::cubes);
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
                if Duration::from_micros(sent_us) < began {
                    return;
                }
            }
            _ => {}
        }
        let Some(session) = &mut self.session else {
            return;
        };
        session.receive(entry.at, &mut BytesMut::from(&entry.frame[..]));
    }

    fn take_events(&mut self, at: Duration) {
        let Some(session) = &mut self.session else {
            return;
        };
        while let Some(event) = session.next_event() {
            let clock_tick = session.clock().map(|clock| clock.tick_at(at));
            match event {
                SessionEvent::Joined(welcome) => self.view = View::new(welcome.tick_hz),
                SessionEvent::Changed(Change::Moved {
                    tick,
                    known_until,
                    states,
                }) => {
                    let clock_tick = clock_tick.unwrap_or(tick as f64);
                    self.view.moved(clock_tick, tick, known_until, &states);
                }
                SessionEvent::Changed(Change::Left(info) | Change::Disappeared(info)) => {
                    self.view.remove(info.cube);
                }
                // What happened is seen; a session that is over stands still.
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use cubesync_recording::Encoder;
    use cubesync_recording::chunk::FILE_HEADER;

    use super::*;

    /// Three bots, seen by the server.
    const LOBBY: &[u8] = include_bytes!("../../recording/tests/data/lobby.rec");
    /// The same behind 60 ± 20 ms and 2 % loss, seen by a player.
    const CLIENT: &[u8] = include_bytes!("../../recording/tests/data/client.rec");

    fn replay(file: &[u8]) -> Replay {
        Replay::new(Recording::read(file).unwrap())
    }

    fn positions(replay: &Replay) -> Vec<(CubeId, [f32; 3])> {
        let cubes = replay.cubes();
        cubes
            .iter()
            .map(|view| (view.cube, view.position))
            .collect()
    }

    /// The longest way between two places of the same cube.
    fn apart_m(before: &[(CubeId, [f32; 3])], after: &[(CubeId, [f32; 3])]) -> f32 {
        let both = before.iter().filter_map(|(cube, from)| {
            let (_, to) = after.iter().find(|(other, _)| other == cube)?;
            Some((to[0] - from[0]).hypot(to[1] - from[1]))
        });
        both.fold(0.0, f32::max)
    }

    #[test]
    fn a_recorded_game_plays_to_its_end_and_no_cube_jumps() {
        // People run at 11 m/s; behind a bad network cubes catch up.
        for (file, bound_m) in [(LOBBY, 0.4), (CLIENT, 2.0)] {
            let mut replay = replay(file);
            let mut before = positions(&replay);
            let (mut most, mut way_m) = (0, 0.0);
            while replay.now() < replay.end() {
                replay.advance(replay.now() + FRAME);
                let after = positions(&replay);
                let longest_m = apart_m(&before, &after);
                assert!(longest_m < bound_m, "{longest_m} m at {:?}", replay.now());
                way_m += longest_m;
                most = after.len().max(most);
                before = after;
            }
            assert_eq!(most, 5);
            assert!(way_m > 20.0, "{way_m}");
        }
    }

    #[test]
    fn a_place_that_was_sought_looks_as_it_does_when_everything_before_was_played() {
        for (file, bound_m) in [(LOBBY, 0.01), (CLIENT, 0.4)] {
            let (mut played, mut sought) = (replay(file), replay(file));
            let mut worst_m = 0.0;
            while played.now() < played.end() {
                for _ in 0..40 {
                    played.advance(played.now() + FRAME);
                }
                sought.seek(played.now());
                assert_eq!(sought.now(), played.now());
                let apart_m = apart_m(&positions(&played), &positions(&sought));
                assert_eq!(played.cubes().len(), sought.cubes().len());
                worst_m = apart_m.max(worst_m);
            }
            assert!(worst_m < bound_m, "{worst_m}");
        }
    }

    #[test]
    fn a_client_s_recording_knows_whose_it_is_and_a_server_s_is_nobody_s() {
        let mut client = replay(CLIENT);
        client.seek(client.end());
        let own = client.own_cube().unwrap();
        let cubes = client.cubes();
        let view = cubes.iter().find(|view| view.own).unwrap();
        assert_eq!((view.cube, view.name), (own, "Anna"));
        let mut server = replay(LOBBY);
        server.seek(server.end());
        assert_eq!(server.own_cube(), None);
    }

    /// Frame by frame it would take half a minute for each year.
    #[test]
    fn a_place_after_years_of_silence_is_found_at_once() {
        let century = Duration::from_secs(100 * 365 * 24 * 3600);
        let mut encoder = Encoder::default();
        let mut file = FILE_HEADER.to_vec();
        for at in [Duration::ZERO, century] {
            let said = ServerMessage::Heartbeat { tick: 1 }.to_frame();
            let payload = &said[FRAME_HEADER_BYTES..];
            file.extend(
                encoder
                    .record(at, Direction::FromServer, payload)
                    .unwrap_or_default(),
            );
        }
        file.extend(encoder.finish().unwrap());
        let mut replay = replay(&file);
        replay.seek(century - Duration::from_secs(1));
        assert_eq!(replay.now(), century - Duration::from_secs(1));
    }
}
