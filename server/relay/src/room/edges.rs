//! The edges of a room: other servers that show it to players of their own, as this one, the room's
//! owner, publishes it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cubesync_protocol::cells::{Sight, View};
use cubesync_protocol::{
    CellId, ClientMessage, Colour, CubeId, CubeInfo, CubeKind, Message, Pose, ResumeToken,
    ServerMessage,
};
use serde::{Deserialize, Serialize};

use super::Room;
use super::audience::{Audience, MemberId, Source};
use super::connections::{Admission, Gate};
use super::log::{LogFrame, StreamId};
use super::resumption::TokenDigest;
use super::speed::SpeedRule;
use super::world::RoomFull;
use crate::ending::Ending;
use crate::room_places::Occupants;

/// Time for which a player stays in the room, with all that they hold, until an edge has entered them again.
pub(super) const ABSENT_WITHIN: Duration = Duration::from_secs(3);

/// An edge, from when it attaches until it detaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EdgeId(pub u64);

/// A player who enters at an edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteEntrance {
    /// The player's name, which is clean.
    pub name: String,
    /// The colour of the player's cube.
    pub colour: Colour,
    /// The limit of the player's speed.
    pub rule: SpeedRule,
    /// The tokens of the cube that the player wants back, the newest first.
    pub tokens: Vec<TokenDigest>,
    /// The token with which the player may come back from now on. The edge has drawn it.
    pub next_token: TokenDigest,
    /// The pose of the player's cube, by their client or by the edge.
    pub pose: Option<Pose>,
    /// Whether the player has been connected all the time, and only the room's owner is another one. They
    /// keep what they hold, and their client must answer the `Welcome`.
    pub goes_on: bool,
}

/// What an edge is to do for one of its players.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ForPlayer {
    /// Send a message.
    Message(ServerMessage),
    /// End the connection. The player is no longer in the room.
    Ended(Ending),
}

/// What was encoded for an edge: whole frames with snapshots, keyframes, and cells that are no longer
/// in its view. There are no heartbeats.
#[derive(Debug, Default)]
pub struct EdgeFrames {
    /// The frames of the streams of every tick.
    pub near: Vec<Bytes>,
    /// The frames of the streams for receivers that see a cell from afar.
    pub far: Vec<Bytes>,
    /// The bytes of the keyframes among them, which answer a change of the view.
    pub keyframe_bytes: usize,
}

/// A cube as another server must know it to own the room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CubeState {
    /// What receivers know about it. Its motion is as of the last tick.
    pub info: CubeInfo,
    /// The token with which its player may come back.
    pub token: Option<TokenDigest>,
}

/// The cubes that have changed otherwise than by moving.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RosterChanges {
    /// The id of the newest player's cube.
    pub last_id: u64,
    /// The cubes that are new, or whose kind or token has changed. A ghost, and a free cube that nobody
    /// holds, stays where it is here.
    pub changed: Vec<CubeState>,
    /// The cubes that have left.
    pub removed: Vec<CubeId>,
}

/// All edges of a room, and their players.
#[derive(Debug, Default)]
pub(super) struct Edges {
    edges: BTreeMap<EdgeId, Edge>,
    /// The number of edges that have come so far.
    count: u64,
    members: BTreeMap<MemberId, RemoteMember>,
    outbox: Vec<(EdgeId, MemberId, ForPlayer)>,
    /// The cubes that have changed otherwise than by moving.
    changed: BTreeSet<CubeId>,
}

#[derive(Debug, Default)]
struct Edge {
    view: View,
    /// The view from the next tick on at which views may change.
    next_view: Option<View>,
    frames: EdgeFrames,
}

/// A player at an edge.
#[derive(Debug)]
struct RemoteMember {
    edge: EdgeId,
    cube: CubeId,
    gate: Gate,
}

impl EdgeFrames {
    fn of(&mut self, sight: Sight) -> &mut Vec<Bytes> {
        match sight {
            // Edges make plain streams of those of every tick.
            Sight::Near | Sight::Plain => &mut self.near,
            Sight::Far => &mut self.far,
        }
    }
}

impl Edges {
    /// Returns whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.edges.is_empty()
    }

    /// Returns whether there are players at edges.
    pub(super) fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    /// Notes that cubes have changed otherwise than by moving.
    pub(super) fn note(&mut self, cubes: impl IntoIterator<Item = CubeId>) {
        if !self.edges.is_empty() {
            self.changed.extend(cubes);
        }
    }

    /// Judges a message of a player at an edge; `None`: there is no such player.
    pub(super) fn admit(
        &mut self,
        id: MemberId,
        message: &ClientMessage,
    ) -> Option<(CubeId, Admission)> {
        let member = self.members.get_mut(&id)?;
        Some((member.cube, member.gate.admit(message)))
    }

    /// Returns a player's cube, if their datagrams count.
    pub(super) fn admit_datagram(&self, id: MemberId) -> Option<CubeId> {
        let member = self.members.get(&id)?;
        member.gate.is_open().then_some(member.cube)
    }

    /// Sends a message to a player at an edge.
    pub(super) fn send(&mut self, id: MemberId, message: &ServerMessage) {
        if let Some(member) = self.members.get(&id) {
            let message = ForPlayer::Message(message.clone());
            self.outbox.push((member.edge, id, message));
        }
    }

    /// Removes a player, and returns their cube.
    pub(super) fn remove(&mut self, id: MemberId) -> Option<CubeId> {
        self.members.remove(&id).map(|member| member.cube)
    }

    /// Removes a player whom the room has ended, and returns their cube.
    pub(super) fn dismiss(&mut self, id: MemberId, reason: Ending) -> Option<CubeId> {
        let member = self.members.remove(&id)?;
        self.outbox
            .push((member.edge, id, ForPlayer::Ended(reason)));
        Some(member.cube)
    }

    /// Keeps the frames of a tick for the edges that see their streams, and changes the edges' views.
    pub(super) fn serve(
        &mut self,
        tick: u64,
        frames: &[(StreamId, LogFrame)],
        audience: &mut Audience,
        source: &mut impl Source,
    ) {
        let may_change_views = audience.may_change_views(tick);
        for edge in self.edges.values_mut() {
            for (stream, frame) in frames {
                let seen = stream.parts();
                if edge.view.binary_search(&seen).is_ok() {
                    edge.frames.of(seen.1).push(frame.bytes.clone());
                }
            }
            if may_change_views && let Some(view) = edge.next_view.take() {
                edge.change_view(view, audience, source);
            }
        }
    }
}

impl Edge {
    fn change_view(&mut self, view: View, audience: &mut Audience, source: &mut impl Source) {
        let before = std::mem::replace(&mut self.view, view);
        audience.enter(&self.view, source);
        audience.leave(&before, source);
        for sight in [Sight::Near, Sight::Far] {
            let is_gone =
                |seen: &&(CellId, Sight)| seen.1 == sight && self.view.binary_search(seen).is_err();
            let cells: Vec<_> = before
                .iter()
                .filter(is_gone)
                .map(|(cell, _)| *cell)
                .collect();
            if !cells.is_empty() {
                let frame = ServerMessage::OutOfSight { cells }.to_frame();
                self.frames.of(sight).push(frame);
            }
        }
        for &(cell, sight) in &self.view {
            if before.binary_search(&(cell, sight)).is_err() {
                let keyframe = source.keyframe(cell, sight);
                self.frames.keyframe_bytes += keyframe.len();
                self.frames.of(sight).push(keyframe);
            }
        }
    }
}

impl Room {
    /// Lets another server show the room. It sees nothing until it has a [view](Self::set_edge_view).
    pub fn attach_edge(&mut self) -> EdgeId {
        self.edges.count += 1;
        let id = EdgeId(self.edges.count);
        self.edges.edges.insert(id, Edge::default());
        id
    }

    /// Sets the streams that an edge gets from the next tick on at which views may change. Both sights of
    /// a cell may be among them.
    pub fn set_edge_view(&mut self, id: EdgeId, mut view: Vec<(CellId, Sight)>) {
        let cells = self.connections.settings.grid.cells();
        view.retain(|(cell, _)| usize::from(cell.0) < cells);
        view.sort_unstable();
        view.dedup();
        if let Some(edge) = self.edges.edges.get_mut(&id) {
            edge.next_view = Some(view);
        }
    }

    /// Takes what was encoded for an edge since the last call.
    pub fn take_edge_frames(&mut self, id: EdgeId) -> EdgeFrames {
        let edge = self.edges.edges.get_mut(&id);
        edge.map_or_else(EdgeFrames::default, |edge| std::mem::take(&mut edge.frames))
    }

    /// Takes what edges are to do for their players, in order.
    pub fn take_outbox(&mut self) -> Vec<(EdgeId, MemberId, ForPlayer)> {
        std::mem::take(&mut self.edges.outbox)
    }

    /// Ends an edge. Its players stay for a moment, until they are entered again.
    pub fn detach_edge(&mut self, id: EdgeId, now: Instant) {
        let Some(edge) = self.edges.edges.remove(&id) else {
            return;
        };
        let source = &mut self.publisher.with(&self.world);
        self.connections.audience.leave(&edge.view, source);
        self.edges.outbox.retain(|(of, ..)| *of != id);
        let members = self.edges.members.iter();
        let members = members.filter(|(_, member)| member.edge == id);
        for id in members.map(|(id, _)| *id).collect::<Vec<_>>() {
            if let Some(cube) = self.edges.remove(id) {
                self.players.remove(&cube);
                self.resumption.absent(cube, now + ABSENT_WITHIN);
            }
        }
        if self.edges.is_empty() {
            self.edges.changed.clear();
        }
        self.connections.note_empty(now);
    }

    /// Lets a player of an edge come in. The `Welcome` goes to the [outbox](Self::take_outbox); the edge
    /// puts the player's token into it.
    ///
    /// # Errors
    /// [`Ending::RoomFull`], when no ghost can make place either, or when the edge has detached;
    /// [`Ending::Replaced`] for a player who seems to go on but has come back by another connection;
    /// [`Ending::Panicked`], when the room's place has gone to another room.
    pub fn enter_remote(
        &mut self,
        edge: EdgeId,
        entrance: RemoteEntrance,
        now: Instant,
    ) -> Result<MemberId, Ending> {
        if !self.edges.edges.contains_key(&edge) {
            return Err(Ending::RoomFull);
        }
        if !self.connections.note_occupants(Occupants::Players) {
            return Err(Ending::Panicked);
        }
        let (rule, goes_on) = (entrance.rule, entrance.goes_on);
        let known = self.claim(&entrance.tokens, rule, goes_on, now);
        if let (Some(cube), Some(pose), true) = (known, entrance.pose, goes_on) {
            self.world.put(cube, pose);
        }
        let looks = (&*entrance.name, entrance.colour);
        let cube = match known {
            Some(cube) => cube,
            None if goes_on && self.resumption.has_replaced(&entrance.tokens) => {
                return Err(Ending::Replaced);
            }
            None => {
                let may_choose = goes_on || self.may_choose(rule, !entrance.tokens.is_empty(), now);
                let joined = self.join(looks, rule, entrance.pose.filter(|_| may_choose));
                joined.map_err(|RoomFull| Ending::RoomFull)?
            }
        };
        self.resumption.adopt(cube, entrance.next_token);
        self.edges.note([cube]);
        let id = self.connections.next_id();
        let mut gate = Gate::default();
        if goes_on {
            gate.restart(rule);
        }
        let member = RemoteMember { edge, cube, gate };
        self.edges.members.insert(id, member);
        self.players.insert(cube, id);
        // The edge names the other servers as well.
        let servers = Vec::new();
        let welcome = self.welcome_of(cube, ResumeToken([0; 16]), servers, now);
        self.edges.send(id, &ServerMessage::Welcome(welcome));
        Ok(id)
    }

    /// Returns the cube of a player at an edge.
    pub fn remote_cube(&self, id: MemberId) -> Option<CubeId> {
        self.edges.members.get(&id).map(|member| member.cube)
    }

    /// Removes a player who has left their edge. After an accident their cube stays as a ghost.
    pub fn leave(&mut self, id: MemberId, reason: Ending, now: Instant) {
        match self.edges.remove(id) {
            Some(cube) => self.gone(cube, reason, now),
            None => self.remove(id, reason, now),
        }
    }

    /// Takes the cubes that have changed otherwise than by moving, since the last call or since the first edge
    /// has attached.
    pub fn roster_changes(&mut self) -> RosterChanges {
        let mut changes = RosterChanges {
            last_id: self.world.last_id(),
            ..RosterChanges::default()
        };
        for cube in std::mem::take(&mut self.edges.changed) {
            match self.cube_state(cube) {
                Some(state) => changes.changed.push(state),
                None => changes.removed.push(cube),
            }
        }
        changes
    }

    /// Returns what another server must know about a cube. Of a loose one that moves, only receivers know how.
    pub(super) fn cube_state(&self, cube: CubeId) -> Option<CubeState> {
        let mut info = self.world.state(cube)?;
        let predicted = self.publisher.predicted(cube);
        if info.kind == (CubeKind::Free { holder: None })
            && let Some(motion) = predicted.filter(|motion| !motion.is_still())
        {
            info.motion = *motion;
        }
        Some(CubeState {
            info,
            token: self.resumption.token(cube),
        })
    }

    /// Handles the players whose server has not entered them again in time as those of lost connections.
    pub(super) fn give_up_absent(&mut self, now: Instant) {
        for cube in self.resumption.given_up(now) {
            self.resumption.returned(cube);
            self.gone(cube, Ending::Lost, now);
        }
    }
}
