//! How a room goes on at another server.

use std::collections::BTreeMap;
use std::time::Instant;

use cubesync_protocol::CubeKind;

use super::Room;
use super::answers::Answers;
use super::audience::MemberId;
use super::clock::TickClock;
use super::connections::Connections;
use super::edges::{ABSENT_WITHIN, CubeState, Edges};
use super::loose::LooseCubes;
use super::publisher::Publisher;
use super::resumption::{Resumption, TokenDigest};
use super::world::{RoomFull, World};
use crate::ending::Ending;

/// All that a server needs to become a room's owner.
#[derive(Debug, Clone)]
pub struct RoomState {
    /// The last tick.
    pub tick: u64,
    /// When it began.
    pub began: Instant,
    /// The id of the newest player's cube.
    pub last_id: u64,
    /// Every cube, as of that tick.
    pub cubes: Vec<CubeState>,
}

impl Room {
    /// Returns the room's state as of the last tick.
    pub fn state(&self) -> RoomState {
        let tick = self.clock.tick();
        let cubes = self.world.cubes().map(|cube| cube.cube);
        RoomState {
            tick,
            began: self.clock.begins(tick),
            last_id: self.world.last_id(),
            cubes: cubes.filter_map(|cube| self.cube_state(cube)).collect(),
        }
    }

    /// Stops being the room's owner. The players of this server stay connected, and those of edges are
    /// forgotten.
    pub fn hand_over(self) -> (Connections, RoomState) {
        self.keep();
        let state = self.state();
        let mut connections = self.connections;
        connections.suspend_members();
        (connections, state)
    }

    /// Becomes the owner of a room that another server has owned until now, or that this one goes on with
    /// alone. Cubes and their places stay. The players of this server get another `Welcome`, with the cube
    /// that their token stands for or with a new one. Those of other servers are absent until they are
    /// entered again. The first tick is later than that of the state, and than all that receivers have had.
    pub fn take_over(connections: Connections, state: RoomState, now: Instant) -> Self {
        let settings = &connections.settings;
        let mut clock = TickClock::new(settings.tick_hz, state.tick, state.began);
        let newest = connections.newest_tick();
        let mut tick = clock.advance(now);
        if tick <= newest {
            // The state is that of an owner whose ticks were behind: nobody's room goes back in time.
            tick = newest + 1;
            clock = TickClock::new(settings.tick_hz, tick, now);
        }
        let mut resumption = Resumption::default();
        let mut cubes = Vec::with_capacity(state.cubes.len());
        for CubeState { info, token } in state.cubes {
            if let Some(token) = token {
                resumption.adopt(info.cube, token);
            }
            match info.kind {
                CubeKind::Ghost => resumption.lost(info.cube, now + settings.resume_within),
                CubeKind::Player => resumption.absent(info.cube, now + ABSENT_WITHIN),
                CubeKind::Free { .. } => {}
            }
            cubes.push(info);
        }
        let mut world = World::from_cubes(
            settings.tick_hz,
            settings.top_speed,
            cubes,
            state.last_id,
            (state.tick, tick),
        );
        if let Some(field) = &settings.field {
            world.keep_clear(&field.cubes);
        }
        let answers = Answers::new(settings.tick_hz);
        let loose = LooseCubes::of(settings, &world, &connections.metrics.steps);
        let mut room = Self {
            world,
            publisher: Publisher::new(settings.grid),
            connections,
            players: BTreeMap::new(),
            resumption,
            clock,
            opened: now,
            edges: Edges::default(),
            answers,
            loose,
            ticking: None,
        };
        room.begin_ticking();
        room.connections.restart_observers();
        let members: Vec<_> = room.connections.members().map(|(id, _)| id).collect();
        for id in members {
            if room.go_on(id, now).is_err() {
                room.remove(id, Ending::RoomFull, now);
            }
        }
        let changes = room.world.tick(tick);
        room.publisher.tick(tick, changes, &room.world);
        let source = &mut room.publisher.with(&room.world);
        room.connections.open_streams(source);
        room.count_cubes();
        room
    }

    /// Lets a player of this server go on.
    fn go_on(&mut self, id: MemberId, now: Instant) -> Result<(), RoomFull> {
        let Some(member) = self.connections.member(id) else {
            return Ok(());
        };
        let (rule, colour, token) = (member.rule, member.colour, member.token);
        let (name, earlier) = (member.name.clone(), member.earlier);
        let tokens = [Some(token), earlier].map(|token| Some(TokenDigest::of(&token?)));
        let tokens: Vec<_> = tokens.into_iter().flatten().collect();
        let cube = match self.claim(&tokens, rule, true, now) {
            Some(cube) => cube,
            None => self.join((&name, colour), rule, None)?,
        };
        self.resumption.adopt(cube, TokenDigest::of(&token));
        self.players.insert(cube, id);
        let welcome = self.welcome(cube, token, now);
        self.connections.restart_member(id, welcome, now);
        Ok(())
    }
}
