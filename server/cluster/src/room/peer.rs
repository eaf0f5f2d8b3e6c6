//! A peer server of a room: what it sent about its cubes, and whether it is still there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use cubesync_protocol::limits::MAX_CUBES_PER_ROOM;
use cubesync_protocol::motion::{Codec, MotionState};
use cubesync_protocol::replica::CellStream;
use cubesync_protocol::{CellId, Colour, CubeId, CubeInfo, CubeKind, Event, Snapshot, clean_name};

use super::IDLE_BEAT;
use super::lateness::Lateness;
use super::message::{Inventory, Told, Word};

/// The silence after which a peer server counts as lost: four beats of a room in which nothing
/// happens.
pub(super) const LOST_AFTER: Duration = Duration::from_secs(1);

/// The divisor of that time after which its cubes stop: as early as those of a player whose samples
/// do not come.
const STOPPED_PART: u32 = 2;

/// The time after a goodbye in which messages may still arrive that were sent before it.
const AFTER_GOODBYE: Duration = Duration::from_secs(1);

/// The time after which an unanswered request is sent again.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// The maximum number of ticks that wait for their updates, which a bus may deliver late because it
/// carries topics side by side.
const MAX_INCOMPLETE: usize = 8;

/// The maximum number of messages that wait for their tick: those of a server with many cells in a
/// second. Without a bound, a server whose clock is ahead could fill the memory.
const MAX_INBOX: usize = 16_384;

/// A change of a cube by a peer server's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Touch {
    Moved,
    /// The cube has left the room.
    Left,
}

/// Another server, in one room.
#[derive(Debug)]
pub(super) struct Peer {
    heard_at: Instant,
    /// The time since which it is lost.
    lost_since: Option<Instant>,
    /// Its tick at which its cubes were stopped because it was silent.
    stopped_at: Option<u64>,
    /// The time at which it said goodbye.
    left_at: Option<Instant>,
    /// The newest tick for which all of its updates have come.
    tick: u64,
    /// Ticks whose updates are incomplete, and the cells whose updates are still to come.
    incomplete: VecDeque<(u64, BTreeSet<CellId>)>,
    /// The tick of the newest update received, by cell.
    came: BTreeMap<CellId, u64>,
    inventory: Option<(u64, Inventory)>,
    /// The cells in which it has cubes, as far as it has announced them.
    listed: BTreeSet<CellId>,
    is_steady: bool,
    lateness: Lateness,
    /// The newest known version of its roster.
    pub(super) roster: Option<u64>,
    cells: BTreeMap<CellId, PeerCell>,
    cubes: BTreeMap<CubeId, Shown>,
    /// Cells of which some update was lost.
    unknown: BTreeSet<CellId>,
    asked_at: Option<Instant>,
    inbox: VecDeque<(u64, Word)>,
}

/// A cell in which the peer server may have cubes.
#[derive(Debug)]
struct PeerCell {
    stream: CellStream,
    /// The tick of the newest update that the stream has applied.
    news: u64,
}

#[derive(Debug)]
struct Shown {
    cell: CellId,
    kind: CubeKind,
    name: String,
    colour: Colour,
    /// The tick of the message that placed the cube here. Messages about other cells may come later
    /// and be older.
    since: u64,
    /// The tick at which it came into the room, if it did so in this cell.
    joined: Option<u64>,
}

/// A cube as its peer server described it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sighting<'a> {
    pub(super) kind: CubeKind,
    pub(super) motion: MotionState,
    /// The local tick of the motion.
    pub(super) tick: u64,
    pub(super) name: &'a str,
    colour: Colour,
    joined: Option<u64>,
}

impl Sighting<'_> {
    /// Returns whether the cube came into the room less than a second ago.
    pub(super) fn has_just_joined(&self, tick: u64, tick_hz: u8) -> bool {
        let is_recent = |joined| tick.saturating_sub(joined) <= u64::from(tick_hz);
        self.joined.is_some_and(is_recent)
    }

    pub(super) fn info(&self, cube: CubeId) -> CubeInfo {
        CubeInfo {
            cube,
            kind: self.kind,
            name: self.name.to_owned(),
            colour: self.colour,
            motion: self.motion,
        }
    }
}

impl Peer {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            heard_at: now,
            lost_since: None,
            stopped_at: None,
            left_at: None,
            tick: 0,
            incomplete: VecDeque::new(),
            came: BTreeMap::new(),
            inventory: None,
            listed: BTreeSet::new(),
            is_steady: false,
            lateness: Lateness::default(),
            roster: None,
            cells: BTreeMap::new(),
            cubes: BTreeMap::new(),
            unknown: BTreeSet::new(),
            asked_at: None,
            inbox: VecDeque::new(),
        }
    }

    pub(super) fn is_live(&self) -> bool {
        self.lost_since.is_none()
    }

    /// Returns the time since which the peer server is lost.
    pub(super) fn lost_since(&self) -> Option<Instant> {
        self.lost_since
    }

    /// Returns whether it said goodbye so recently that its messages may have been sent before
    /// that.
    pub(super) fn has_just_left(&self, now: Instant) -> bool {
        self.left_at
            .is_some_and(|at| now.saturating_duration_since(at) < AFTER_GOODBYE)
    }

    /// Notes that it said goodbye.
    pub(super) fn leave(&mut self, tick: u64, now: Instant) {
        self.left_at = Some(now);
        self.lose(tick, now);
    }

    /// Returns whether it said goodbye, or has been lost for so long that all servers that fell
    /// silent with it are known to be gone as well: they send their beats at different times.
    pub(super) fn is_surely_gone(&self, now: Instant) -> bool {
        let has_said_so = self.left_at == self.lost_since;
        let is_gone = |since| has_said_so || now.saturating_duration_since(since) >= 2 * IDLE_BEAT;
        self.lost_since.is_some_and(is_gone)
    }

    /// Notes that a message came from it. Returns whether its cubes are shown differently from now
    /// on.
    pub(super) fn heard(&mut self, now: Instant) -> bool {
        self.heard_at = now;
        let was_stopped = self.stopped_at.take().is_some();
        let was_lost = self.lost_since.take().is_some();
        if was_lost {
            self.roster = None;
            self.unknown = self.cells.keys().copied().collect();
            self.asked_at = None;
        }
        was_stopped || was_lost
    }

    /// Returns whether its silence has just become too long.
    pub(super) fn is_overdue(&self, now: Instant, lost_after: Duration) -> bool {
        self.is_live() && now.saturating_duration_since(self.heard_at) >= lost_after
    }

    /// Excuses its silence, because this server itself was asleep.
    pub(super) fn excuse(&mut self, now: Instant) {
        self.heard_at = now;
    }

    /// Stops its cubes at this tick if it has been silent for long enough. Returns whether they
    /// stop now.
    pub(super) fn stop(&mut self, tick: u64, now: Instant, lost_after: Duration) -> bool {
        let silence = now.saturating_duration_since(self.heard_at);
        let stops = self.stopped_at.is_none() && silence >= lost_after / STOPPED_PART;
        if stops {
            self.stopped_at = Some(tick.saturating_sub(self.lateness.delay_ticks));
        }
        stops
    }

    /// Marks it as lost.
    pub(super) fn lose(&mut self, tick: u64, now: Instant) {
        self.stop(tick, now, Duration::ZERO);
        self.lost_since = Some(now);
        self.is_steady = false;
        self.inbox.clear();
        self.incomplete.clear();
        self.inventory = None;
        self.lateness = Lateness::default();
    }

    /// Returns the cubes that it has announced.
    pub(super) fn cubes(&self) -> impl Iterator<Item = CubeId> {
        self.cubes.keys().copied()
    }

    /// Returns a cube as it was described. A lost server's cubes are ghosts that stand still, and
    /// its free cube is held by nobody.
    pub(super) fn sighting(&self, cube: CubeId) -> Option<Sighting<'_>> {
        let shown = self.cubes.get(&cube)?;
        let stream = &self.cells.get(&shown.cell)?.stream;
        let mut motion = *stream.motion().get(cube)?;
        let mut kind = shown.kind;
        if let Some(tick) = self.stopped_at {
            let stopped = motion.advanced(stream.tick(), tick);
            motion = MotionState::at_rest(stopped.pose(&Codec::LIVE));
        }
        if !self.is_live() {
            kind = match kind {
                CubeKind::Player | CubeKind::Ghost => CubeKind::Ghost,
                CubeKind::Free { .. } => CubeKind::Free { holder: None },
            };
        }
        Some(Sighting {
            kind,
            motion,
            tick: stream.tick() + self.lateness.delay_ticks,
            name: &shown.name,
            colour: shown.colour,
            joined: shown.joined,
        })
    }

    /// Returns whether a room that has all of its own updates of a tick should wait for this
    /// server's.
    pub(super) fn is_awaited(&self, tick: u64) -> bool {
        self.is_live() && self.is_steady && self.lateness.is_awaited(self.tick, tick)
    }

    /// Ends the wait for a tick.
    pub(super) fn awaited(
        &mut self,
        tick: u64,
        tick_hz: u64,
        touched: &mut BTreeMap<CubeId, Touch>,
    ) {
        if self.is_live() && self.is_steady && self.lateness.awaited(self.tick, tick, tick_hz) {
            for &cube in self.cubes.keys() {
                touched.entry(cube).or_insert(Touch::Moved);
            }
        }
    }

    /// Takes in a beat: it has sent everything of a tick, with updates of these cells.
    pub(super) fn beat(
        &mut self,
        tick: u64,
        cells: Vec<CellId>,
        is_steady: bool,
        inventory: Option<Inventory>,
        is_seen: impl Fn(CellId) -> bool,
    ) {
        if let Some(inventory) = &inventory {
            // Roster changes are sent before the inventory, on the same topic.
            if self.roster != Some(inventory.roster) {
                self.roster = None;
            }
            self.listed = inventory.cells.iter().map(|(cell, _)| *cell).collect();
        }
        self.listed.extend(&cells);
        let has_come = |cell: &CellId| self.came.get(cell).is_some_and(|came| *came >= tick);
        let awaited = cells.into_iter();
        let awaited = awaited.filter(|cell| is_seen(*cell) && !has_come(cell));
        let awaited = awaited.collect();
        self.is_steady = is_steady;
        self.inventory = inventory.map(|new| (tick, new)).or(self.inventory.take());
        self.incomplete.push_back((tick, awaited));
        if self.incomplete.len() > MAX_INCOMPLETE {
            self.incomplete.pop_front();
        }
        self.complete();
    }

    /// Keeps a message until its tick.
    pub(super) fn receive(&mut self, tick: u64, word: Word) {
        if let Word::News { snapshot, .. } = &word {
            self.came.insert(snapshot.cell, tick);
            for (awaited, cells) in &mut self.incomplete {
                if *awaited <= tick {
                    cells.remove(&snapshot.cell);
                }
            }
            self.complete();
        }
        if self.inbox.len() < MAX_INBOX {
            self.inbox.push_back((tick, word));
        }
    }

    /// Finds the newest tick whose updates have all come. Updates of older ticks may have been
    /// lost.
    fn complete(&mut self) {
        let is_complete = |(_, cells): &(u64, BTreeSet<CellId>)| cells.is_empty();
        if let Some(last) = self.incomplete.iter().rposition(is_complete) {
            self.tick = self.tick.max(self.incomplete[last].0);
            self.incomplete.drain(..=last);
        }
    }

    /// Returns the inventory of a tick, once everything up to that tick should have arrived.
    pub(super) fn next_inventory(&mut self, tick: u64) -> Option<(u64, Inventory)> {
        let delay_ticks = self.lateness.delay_ticks;
        self.inventory
            .take_if(|(told, _)| *told + delay_ticks < tick)
    }

    /// Returns the next message whose tick has come.
    pub(super) fn next_due(&mut self, tick: u64) -> Option<Word> {
        let (due, _) = self.inbox.front()?;
        if *due + self.lateness.delay_ticks > tick {
            return None;
        }
        self.inbox.pop_front().map(|(_, word)| word)
    }

    /// Returns the request to send now, if any: whether to ask for the roster, and for which cells.
    pub(super) fn question(&mut self, now: Instant) -> Option<(bool, Vec<CellId>)> {
        let is_time = self
            .asked_at
            .is_none_or(|at| now.saturating_duration_since(at) >= ASK_AGAIN);
        if !self.is_live() || !is_time || (self.roster.is_some() && self.unknown.is_empty()) {
            return None;
        }
        self.asked_at = Some(now);
        Some((
            self.roster.is_none(),
            self.unknown.iter().copied().collect(),
        ))
    }

    /// Notes that somebody here sees the cell from now on.
    pub(super) fn look(&mut self, cell: CellId) {
        // There is nothing to ask about other cells: updates will come, and the next inventory.
        if self.listed.contains(&cell) {
            self.unknown.insert(cell);
        }
    }

    /// Notes that nobody here sees the cell any more.
    pub(super) fn look_away(&mut self, cell: CellId, touched: &mut BTreeMap<CubeId, Touch>) {
        self.unknown.remove(&cell);
        self.came.remove(&cell);
        self.forget(cell, touched);
    }

    fn forget(&mut self, cell: CellId, touched: &mut BTreeMap<CubeId, Touch>) {
        self.cells.remove(&cell);
        self.cubes.retain(|&cube, shown| {
            let stays = shown.cell != cell;
            if !stays {
                touched.entry(cube).or_insert(Touch::Moved);
            }
            stays
        });
    }

    /// Applies an update of a cell that somebody here sees.
    pub(super) fn news(
        &mut self,
        since_ticks: u64,
        snapshot: &Snapshot,
        touched: &mut BTreeMap<CubeId, Touch>,
    ) {
        let (cell, tick) = (snapshot.cell, snapshot.tick);
        let known = self.cells.get(&cell);
        if known.is_some_and(|known| known.stream.tick() >= tick) {
            // A newer keyframe has been applied already.
            return;
        }
        if since_ticks == 0 {
            // The tick is the one before, since a stream applies only what is later.
            self.empty(cell, tick.saturating_sub(1), touched);
            self.unknown.remove(&cell);
        } else if self.unknown.contains(&cell)
            || known.and_then(|known| known.news.checked_add(since_ticks)) != Some(tick)
        {
            self.unknown.insert(cell);
            return;
        }
        let Some(known) = self.cells.get_mut(&cell) else {
            return;
        };
        known.news = tick;
        let touch = |cube| _ = touched.entry(cube).or_insert(Touch::Moved);
        let is_sound = known.stream.take_in(snapshot, touch).is_ok();
        for event in &snapshot.events {
            self.happened((cell, tick), event, touched);
        }
        if !is_sound {
            self.unknown.insert(cell);
        }
    }

    /// Applies the whole content of a cell that somebody here sees.
    pub(super) fn keyframe(&mut self, told: Told, touched: &mut BTreeMap<CubeId, Touch>) {
        let Told { news, keyframe } = told;
        let (cell, tick) = (keyframe.cell, keyframe.tick);
        let known = self.cells.get(&cell);
        let is_old = known.is_some_and(|known| tick < known.stream.tick());
        if is_old && !self.unknown.contains(&cell) {
            return;
        }
        self.forget(cell, touched);
        self.unknown.remove(&cell);
        let stream = CellStream::from(&keyframe);
        self.cells.insert(cell, PeerCell { stream, news });
        for info in &keyframe.cubes {
            touched.entry(info.cube).or_insert(Touch::Moved);
            self.place((cell, tick), info, None);
        }
    }

    /// Compares its inventory with what arrived here. `is_seen` returns whether somebody here sees a
    /// cell.
    pub(super) fn check(
        &mut self,
        inventory: &Inventory,
        tick: u64,
        is_seen: impl Fn(CellId) -> bool,
        touched: &mut BTreeMap<CubeId, Touch>,
    ) {
        for &(cell, news) in inventory.cells.iter().filter(|(cell, _)| is_seen(*cell)) {
            let known = self.cells.get(&cell);
            if known.is_none_or(|known| known.news < news) {
                self.unknown.insert(cell);
            }
        }
        let listed: BTreeSet<_> = inventory.cells.iter().map(|(cell, _)| *cell).collect();
        let gone = self
            .cells
            .iter()
            .filter(|(cell, known)| !listed.contains(cell) && known.stream.tick() < tick);
        for cell in gone.map(|(cell, _)| *cell).collect::<Vec<_>>() {
            self.empty(cell, tick, touched);
        }
        self.unknown.retain(|cell| listed.contains(cell));
    }

    /// Notes that it has no cubes in a cell.
    fn empty(&mut self, cell: CellId, tick: u64, touched: &mut BTreeMap<CubeId, Touch>) {
        self.forget(cell, touched);
        let stream = CellStream::new(1, tick);
        self.cells.insert(cell, PeerCell { stream, news: 0 });
    }

    fn happened(
        &mut self,
        (cell, tick): (CellId, u64),
        event: &Event,
        touched: &mut BTreeMap<CubeId, Touch>,
    ) {
        let cube = event.cube();
        let touch = match event {
            Event::Left { .. } => Touch::Left,
            _ => Touch::Moved,
        };
        let noted = touched.entry(cube).or_insert(touch);
        *noted = touch.max(*noted);
        let known = self.cubes.get_mut(&cube);
        match (event, known) {
            (Event::Joined(info), _) => self.place((cell, tick), info, Some(tick)),
            (Event::Entered(info), _) => self.place((cell, tick), info, None),
            // It may have entered another cell before.
            (Event::Left { .. } | Event::Exited { .. }, Some(known)) if known.cell == cell => {
                self.cubes.remove(&cube);
            }
            (Event::Taken { by, .. }, Some(known)) => {
                known.kind = CubeKind::Free { holder: Some(*by) };
            }
            (Event::Freed { .. }, Some(known)) => known.kind = CubeKind::Free { holder: None },
            (Event::Ghost { .. }, Some(known)) => known.kind = CubeKind::Ghost,
            (Event::Returned { .. }, Some(known)) => known.kind = CubeKind::Player,
            _ => {}
        }
    }

    /// Places a cube in a cell, according to a message of a tick. Messages about different cells
    /// come in any order, so the latest tick counts.
    fn place(&mut self, (cell, tick): (CellId, u64), info: &CubeInfo, joined: Option<u64>) {
        let known = self.cubes.get(&info.cube);
        let is_old = known.is_some_and(|known| known.cell != cell && known.since > tick);
        let has_no_place = known.is_none() && self.cubes.len() >= MAX_CUBES_PER_ROOM;
        if is_old || has_no_place {
            return;
        }
        let shown = Shown {
            cell,
            kind: info.kind,
            // The name is shown to players, so it is cleaned first.
            name: clean_name(&info.name).unwrap_or("?").to_owned(),
            colour: info.colour,
            since: tick,
            joined,
        };
        self.cubes.insert(info.cube, shown);
    }
}
