//! Plays a recording: it gives the recorded bytes to a real session and a real view at the recorded
//! times. Nothing is sent.

use std::time::Duration;

use bytes::BytesMut;
use cubesync_protocol::limits::FRAME_HEADER_BYTES;
use cubesync_protocol::replica::Change;
use cubesync_protocol::{
    Colour, CubeId, CubeInfo, CubeKind, Hello, Message, Replica, ServerMessage, codec,
};
use cubesync_recording::{Cursor, Direction, Entry, Recording};

use crate::client::STALE_AFTER;
use crate::playout::View;
use crate::report::CubeView;
use crate::session::Session;
use crate::session::SessionEvent;

/// Time that is played before a position that was sought, so that the clock and the playout delay
/// are as they were.
const WARM_UP: Duration = Duration::from_secs(5);
/// Playout delay of a server's recording, which is not late: a tick to have a state on each side, and a
/// frame.
const SERVER_DELAY_TICKS: f64 = 1.75;
/// Step of the view while a position is sought, as in a window.
const FRAME: Duration = Duration::from_micros(16_667);

/// A recording at a position in time.
///
/// Every cube is shown as the server sent it, the recording client's own cubes as well.
#[derive(Debug)]
pub struct Replay {
    recording: Recording,
    cursor: Cursor,
    now: Duration,
    session: Option<Session>,
    /// Whether the next welcome is of another connection.
    connects: bool,
    view: View,
}

impl Replay {
    /// Opens a recording at its beginning.
    pub fn new(recording: Recording) -> Self {
        let start = recording.start();
        let mut replay = Self {
            cursor: recording.seek(start),
            recording,
            now: start,
            session: None,
            connects: true,
            view: View::default(),
        };
        replay.advance(start);
        replay
    }

    /// Returns when the recording begins, on the clock of the program that made it.
    pub fn start(&self) -> Duration {
        self.recording.start()
    }

    /// Returns when the recording ends.
    pub fn end(&self) -> Duration {
        self.recording.end()
    }

    /// Returns the current position.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Returns what is damaged in the recording, for a person.
    pub fn damage(&self) -> Option<String> {
        self.recording.damage()
    }

    /// Returns the own cube of the client that recorded. A server has none.
    pub fn own_cube(&self) -> Option<CubeId> {
        let welcome = self.session.as_ref()?.welcome()?;
        (!welcome.name.is_empty()).then_some(welcome.cube)
    }

    /// Returns the server's tick and the fraction of it that has passed.
    pub fn tick(&self) -> Option<f64> {
        let clock = self.session.as_ref()?.clock()?;
        Some(clock.tick_at(self.now))
    }

    /// Returns the tick on the steady clock that the view follows.
    fn view_tick(&self) -> Option<f64> {
        let clock = self.session.as_ref()?.clock()?;
        Some(clock.steady_tick_at(self.now))
    }

    /// Returns the length of a tick.
    pub fn tick_length(&self) -> Duration {
        let welcome = self.session.as_ref().and_then(Session::welcome);
        let tick_hz = welcome.map_or(30, |welcome| welcome.tick_hz);
        Duration::from_secs(1) / u32::from(tick_hz)
    }

    /// Goes on to a later position, at most to the end.
    pub fn advance(&mut self, to: Duration) {
        let to = to.clamp(self.now, self.end().max(self.now));
        while let Some(at) = self.cursor.peek(&self.recording).map(|entry| entry.at)
            && at <= to
        {
            // Frames that were read together are handled together, and so are datagrams.
            let mut before = None;
            while let Some(entry) = self.cursor.next_at(&self.recording, at) {
                if entry.direction == Direction::FromClient {
                    let payload = &entry.frame[FRAME_HEADER_BYTES..];
                    self.connects |= codec::hello_version(payload).is_some();
                    continue;
                }
                let is_datagram = entry.direction == Direction::Datagram;
                if before
                    .replace(is_datagram)
                    .is_some_and(|before| before != is_datagram)
                {
                    self.take_events(at);
                }
                match is_datagram {
                    true => self.receive_datagram(&entry),
                    false => self.receive(&entry),
                }
            }
            self.take_events(at);
        }
        self.now = to;
        if let Some(tick) = self.view_tick() {
            self.view.advance(tick);
        }
    }

    /// Goes to any position.
    pub fn seek(&mut self, to: Duration) {
        let to = to.clamp(self.start(), self.end());
        let from = to.saturating_sub(WARM_UP).max(self.start());
        self.cursor = self.recording.seek(from);
        self.session = None;
        self.connects = true;
        self.view = View::default();
        let first = self.cursor.peek(&self.recording);
        self.now = first.map_or(to, |first| first.at);
        // There may be years between two chunks, so this first step is not split into frames.
        self.advance(from);
        while self.now < to {
            self.advance((self.now + FRAME).min(to));
        }
        self.advance(to);
    }

    /// Returns every cube as it is to be drawn, by rising id.
    pub fn cubes(&self) -> Vec<CubeView<'_>> {
        let Some((session, tick)) = self.session.as_ref().zip(self.view_tick()) else {
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
                    width_m: info.width.to_metres(),
                    position: drawn.position,
                    rotation: drawn.rotation,
                    own: Some(info.cube) == own,
                    stale: is_silent || info.kind == CubeKind::Ghost,
                }
            })
            .collect()
    }

    fn receive(&mut self, entry: &Entry) {
        match ServerMessage::decode(&entry.frame[FRAME_HEADER_BYTES..]) {
            Ok(ServerMessage::Welcome(welcome)) if self.is_first(welcome.tick) => {
                // A session begins with a hello, which is not sent here.
                let unsent = Hello::new("", "", Colour::from([0; 3]));
                self.session = Some(Session::new(unsent, entry.at));
                self.connects = false;
            }
            Ok(ServerMessage::Pong { sent_us, .. }) => {
                // The ping may have been sent before the position that is played from.
                let session = self.session.as_ref();
                let began = session.map_or(Duration::ZERO, Session::started);
                if Duration::from_micros(sent_us) < began {
                    return;
                }
            }
            // This session has not asked.
            Ok(ServerMessage::Datagrams(_)) => return,
            _ => {}
        }
        let Some(session) = &mut self.session else {
            return;
        };
        session.receive(entry.at, &mut BytesMut::from(&entry.frame[..]));
    }

    /// Whether a welcome of this tick begins a session; by any other the room goes on at another server.
    fn is_first(&self, tick: u64) -> bool {
        let joined = self.session.as_ref().filter(|session| session.is_joined());
        let goes_on = joined
            .and_then(Session::replica)
            .is_some_and(|replica| replica.tick() < tick);
        self.connects || !goes_on
    }

    fn receive_datagram(&mut self, entry: &Entry) {
        if let Some(session) = &mut self.session {
            session.receive_datagram(entry.at, &entry.frame[FRAME_HEADER_BYTES..]);
        }
    }

    fn take_events(&mut self, at: Duration) {
        let Some(session) = &mut self.session else {
            return;
        };
        while let Some(event) = session.next_event() {
            let clock_tick = session.clock().map(|clock| clock.steady_tick_at(at));
            match event {
                SessionEvent::Joined(welcome) => {
                    self.view = if welcome.name.is_empty() {
                        View::with_delay(welcome.tick_hz, SERVER_DELAY_TICKS)
                    } else {
                        View::new(welcome.tick_hz)
                    };
                }
                SessionEvent::Continued { welcome, .. } => self.view.go_on(welcome.tick),
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
                // Other changes need no action, since the replica has them. Cubes of a session that
                // has ended stand still.
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use cubesync_protocol::limits::PROTOCOL_VERSION;
    use cubesync_protocol::motion::MotionState;
    use cubesync_protocol::{CellId, ClientMessage, Keyframe, Pose, ResumeToken, Welcome};
    use cubesync_recording::Encoder;
    use cubesync_recording::chunk::FILE_HEADER;

    use super::*;

    /// A server's recording of three bots.
    const LOBBY: &[u8] = include_bytes!("../../recording/tests/data/lobby.rec");
    /// A player's recording behind 60 ± 20 ms and 2 % loss.
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

    /// Returns the longest distance between two places of the same cube.
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
    fn a_sought_position_looks_as_it_does_when_everything_before_it_was_played() {
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
    fn a_clients_recording_has_an_own_cube_and_a_servers_has_none() {
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

    #[test]
    fn a_recorded_room_goes_on_at_another_server_and_begins_anew_on_another_connection() {
        let welcome = |tick| {
            ServerMessage::Welcome(Welcome {
                version: PROTOCOL_VERSION,
                room: "lobby".into(),
                name: "Anna".into(),
                cube: CubeId(1),
                pose: Pose::default(),
                tick_hz: 30,
                tick,
                since_tick_us: 0,
                max_speed: 0,
                physics: false,
                resume: ResumeToken([0; 16]),
                servers: Vec::new(),
            })
        };
        let keyframe = |cell, tick, cube| {
            ServerMessage::Keyframe(Keyframe {
                cell: CellId(cell),
                interval_ticks: 1,
                tick,
                cubes: vec![CubeInfo {
                    cube: CubeId(cube),
                    kind: CubeKind::Player,
                    name: "Anna".into(),
                    colour: Colour::from([1, 2, 3]),
                    width: Default::default(),
                    motion: MotionState::at_rest(Pose::default()),
                }],
            })
        };
        let hello = ClientMessage::Hello(Hello::new("lobby", "Anna", Colour::from([1, 2, 3])));
        let mut encoder = Encoder::default();
        let mut file = FILE_HEADER.to_vec();
        let mut said = |at_ms, direction, frame: Bytes| {
            let at = Duration::from_millis(at_ms);
            let chunk = encoder.record(at, direction, &frame[FRAME_HEADER_BYTES..]);
            assert_eq!(chunk, None);
        };
        for (at_ms, message) in [
            (0, welcome(100)),
            (0, keyframe(0, 100, 1)),
            (0, keyframe(1, 100, 2)),
            // A cell without a keyframe of the other server goes out of sight.
            (1_000, welcome(200)),
            (
                1_001,
                ServerMessage::OutOfSight {
                    cells: vec![CellId(1)],
                },
            ),
            (1_002, keyframe(0, 201, 1)),
            (1_003, ServerMessage::Heartbeat { tick: 210 }),
        ] {
            said(at_ms, Direction::FromServer, message.to_frame());
        }
        said(2_000, Direction::FromClient, hello.to_frame());
        for message in [welcome(300), keyframe(7, 300, 1)] {
            said(2_001, Direction::FromServer, message.to_frame());
        }
        file.extend(encoder.finish().unwrap());
        let mut replay = replay(&file);
        for (at_ms, cubes) in [(500, 2), (1_000, 2), (1_500, 1), (2_100, 1)] {
            replay.advance(Duration::from_millis(at_ms));
            assert_eq!(replay.cubes().len(), cubes, "after {at_ms} ms");
            let session = replay.session.as_ref().unwrap();
            assert!(session.is_joined(), "after {at_ms} ms");
        }
        let streams = replay.session.as_ref().and_then(Session::replica).unwrap();
        assert_eq!(streams.streams().count(), 1);
    }

    /// Step by step, each year would take half a minute.
    #[test]
    fn a_position_after_years_of_silence_is_found_at_once() {
        let century = Duration::from_secs(100 * 365 * 24 * 3600);
        let mut encoder = Encoder::default();
        let mut file = FILE_HEADER.to_vec();
        for at in [Duration::ZERO, century] {
            let frame = ServerMessage::Heartbeat { tick: 1 }.to_frame();
            let payload = &frame[FRAME_HEADER_BYTES..];
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
