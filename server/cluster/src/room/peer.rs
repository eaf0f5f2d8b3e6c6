//! Another server of a room: what it told of its cubes, and whether it is still there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use cubesync_protocol::limits::MAX_CUBES_PER_ROOM;
use cubesync_protocol::motion::{Codec, MotionState};
use cubesync_protocol::replica::CellStream;
use cubesync_protocol::{CellId, Colour, CubeId, CubeInfo, CubeKind, Event, Snapshot, clean_name};

use super::IDLE_BEAT;
use super::lateness::Lateness;
use super::message::{Inventory, Told, Word};

/// Who says nothing for so long is not there: four beats of a room in which nothing happens.
pub(super) const LOST_AFTER: Duration = Duration::from_secs(1);

/// Its cubes stop earlier, after this part of that: as long as a player's whose samples do not come.
const STOPPED_PART: u32 = 2;

/// What comes so long after a goodbye was on its way before.
const AFTER_GOODBYE: Duration = Duration::from_secs(1);

/// A question that got no answer is asked again after this time.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Ticks whose news come after them, at most: those of a bus that carries side by side.
const MAX_INCOMPLETE: usize = 8;

/// Words that wait for their tick, at most: a second's of a server with many cells. Without a
/// bound, a server whose clock is ahead could fill the memory.
const MAX_INBOX: usize = 16_384;

/// How a cube has changed by a peer's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Touch {
    Moved,
    /// It has left the room.
    Left,
}

/// Another server, in one room.
#[derive(Debug)]
pub(super) struct Peer {
    heard_at: Instant,
    /// Since when it is not there.
    lost_since: Option<Instant>,
    /// Its tick at which its cubes were stopped, since it has said nothing.
    stopped_at: Option<u64>,
    /// When it said goodbye.
    left_at: Option<Instant>,
    /// Up to and with this tick, it has told everything.
    tick: u64,
    /// Ticks of which news are still to come, and of which cells.
    incomplete: VecDeque<(u64, BTreeSet<CellId>)>,
    /// The tick of the newest news that came, by cell.
    came: BTreeMap<CellId, u64>,
    inventory: Option<(u64, Inventory)>,
    /// The cells in which it has cubes, as far as it has said.
    listed: BTreeSet<CellId>,
    is_steady: bool,
    lateness: Lateness,
    /// The newest version of its roster that is known.
    pub(super) roster: Option<u64>,
    cells: BTreeMap<CellId, PeerCell>,
    cubes: BTreeMap<CubeId, Shown>,
    /// Cells of which something was lost.
    unknown: BTreeSet<CellId>,
    asked_at: Option<Instant>,
    inbox: VecDeque<(u64, Word)>,
}

/// A cell in which the peer may have cubes.
#[derive(Debug)]
struct PeerCell {
    stream: CellStream,
    /// The tick of the newest news that the stream has taken in.
    news: u64,
}

#[derive(Debug)]
struct Shown {
    cell: CellId,
    kind: CubeKind,
    name: String,
    colour: Colour,
    /// The tick of the word that says so: others about it may come later and be older.
    since: u64,
    /// When it came into the room, if it came into this cell.
    joined: Option<u64>,
}

/// A cube as its peer told it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sighting<'a> {
    pub(super) kind: CubeKind,
    pub(super) motion: MotionState,
    /// The tick here of the motion.
    pub(super) tick: u64,
    pub(super) name: &'a str,
    colour: Colour,
    joined: Option<u64>,
}

impl Sighting<'_> {
    /// Whether it came into the room less than a second ago.
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

    /// Since when it is not there.
    pub(super) fn lost_since(&self) -> Option<Instant> {
        self.lost_since
    }

    /// Whether what comes from it was on its way when it said goodbye.
    pub(super) fn has_just_left(&self, now: Instant) -> bool {
        self.left_at
            .is_some_and(|at| now.saturating_duration_since(at) < AFTER_GOODBYE)
    }

    /// It says goodbye.
    pub(super) fn leave(&mut self, tick: u64, now: Instant) {
        self.left_at = Some(now);
        self.lose(tick, now);
    }

    /// Whether it said goodbye, or has not been there for so long that all others who fell silent with it
    /// are known to be gone as well: they beat at different times.
    pub(super) fn is_surely_gone(&self, now: Instant) -> bool {
        let has_said_so = self.left_at == self.lost_since;
        let is_gone = |since| has_said_so || now.saturating_duration_since(since) >= 2 * IDLE_BEAT;
        self.lost_since.is_some_and(is_gone)
    }

    /// Something came from it; whether its cubes are to be shown otherwise from now on.
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

    /// Whether it is found to be gone right now.
    pub(super) fn is_overdue(&self, now: Instant, lost_after: Duration) -> bool {
        self.is_live() && now.saturating_duration_since(self.heard_at) >= lost_after
    }

    /// This server has been asleep: the silence was its own.
    pub(super) fn excuse(&mut self, now: Instant) {
        self.heard_at = now;
    }

    /// It has said nothing for so long that its cubes stop at this tick, if they did not before.
    pub(super) fn stop(&mut self, tick: u64, now: Instant, lost_after: Duration) -> bool {
        let silence = now.saturating_duration_since(self.heard_at);
        let stops = self.stopped_at.is_none() && silence >= lost_after / STOPPED_PART;
        if stops {
            self.stopped_at = Some(tick.saturating_sub(self.lateness.delay_ticks));
        }
        stops
    }

    /// It is not there any more.
    pub(super) fn lose(&mut self, tick: u64, now: Instant) {
        self.stop(tick, now, Duration::ZERO);
        self.lost_since = Some(now);
        self.is_steady = false;
        self.inbox.clear();
        self.incomplete.clear();
        self.inventory = None;
        self.lateness = Lateness::default();
    }

    /// The cubes it has told of.
    pub(super) fn cubes(&self) -> impl Iterator<Item = CubeId> {
        self.cubes.keys().copied()
    }

    /// A cube as it told it. Who is lost has ghosts that stand, and holds nothing.
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

    /// Whether a room that has all of its own news of a tick should wait for this one's.
    pub(super) fn is_awaited(&self, tick: u64) -> bool {
        self.is_live() && self.is_steady && self.lateness.is_awaited(self.tick, tick)
    }

    /// The wait for a tick is over.
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

    /// It has told everything of a tick, with news of these cells.
    pub(super) fn beat(
        &mut self,
        tick: u64,
        cells: Vec<CellId>,
        is_steady: bool,
        inventory: Option<Inventory>,
        is_seen: impl Fn(CellId) -> bool,
    ) {
        if let Some(inventory) = &inventory {
            // It tells of changes before, on the same topic.
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

    /// Keeps a word until its tick.
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

    /// Finds the newest tick of which all has come. Of older ones something was lost, perhaps.
    fn complete(&mut self) {
        let is_complete = |(_, cells): &(u64, BTreeSet<CellId>)| cells.is_empty();
        if let Some(last) = self.incomplete.iter().rposition(is_complete) {
            self.tick = self.tick.max(self.incomplete[last].0);
            self.incomplete.drain(..=last);
        }
    }

    /// What it had told up to a tick, once everything up to then should be here.
    pub(super) fn next_inventory(&mut self, tick: u64) -> Option<(u64, Inventory)> {
        let delay_ticks = self.lateness.delay_ticks;
        self.inventory
            .take_if(|(told, _)| *told + delay_ticks < tick)
    }

    /// The next word whose tick has come.
    pub(super) fn next_due(&mut self, tick: u64) -> Option<Word> {
        let (due, _) = self.inbox.front()?;
        if *due + self.lateness.delay_ticks > tick {
            return None;
        }
        self.inbox.pop_front().map(|(_, word)| word)
    }

    /// What to ask it for now, if anything: whether its roster, and which cells.
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

    /// Somebody here sees the cell from now on.
    pub(super) fn look(&mut self, cell: CellId) {
        // Of other cells there is nothing to ask: news come, and the next inventory.
        if self.listed.contains(&cell) {
            self.unknown.insert(cell);
        }
    }

    /// Nobody here sees the cell any more.
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

    /// Takes in news of a cell that somebody here sees.
    pub(super) fn news(
        &mut self,
        since_ticks: u64,
        snapshot: &Snapshot,
        touched: &mut BTreeMap<CubeId, Touch>,
    ) {
        let (cell, tick) = (snapshot.cell, snapshot.tick);
        let known = self.cells.get(&cell);
        if known.is_some_and(|known| known.stream.tick() >= tick) {
            // A keyframe was newer.
            return;
        }
        if since_ticks == 0 {
            // As of the tick before: a stream takes in only what is later.
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

    /// Takes in all of a cell that somebody here sees.
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

    /// Compares what it has told with what came here. `is_seen` are the cells that somebody here
    /// sees.
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

    /// There are none of its cubes in a cell.
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

    /// A cube is in a cell, by a word of a tick. What different cells tell comes in any order, and the
    /// latest tick counts.
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
            // It is shown to players.
            name: clean_name(&info.name).unwrap_or("?").to_owned(),
            colour: info.colour,
            since: tick,
            joined,
        };
        self.cubes.insert(info.cube, shown);
    }
}
