//! A room as a state machine: proptest chooses what players do, a model says what must come of
//! it, and a case that fails is shrunk to the few steps that matter.

use proptest::prelude::*;

use super::*;

/// Metres per second, where there is a top speed.
const TOP_SPEED: u32 = 40 * METRE as u32;
/// Number of ticks for which a ghost stays: a second, and the tick in which it is over.
const GHOST_TICKS: u64 = HZ as u64 + 1;
/// Number of ticks for which a player is awaited whose server is gone: three seconds, and the tick in which
/// they are over.
const ABSENT_TICKS: u64 = 3 * HZ as u64 + 1;
/// Largest number of cubes that a client samples without the right to move them. Its set
/// has eight places, and two are for its own cubes.
const MOST_STOLEN: usize = 6;

/// An action of a player, or a wait. Numbers of players and tokens count modulo the number there is.
#[derive(Debug, Clone)]
enum Step {
    Enter,
    /// A player comes with a token that was given out at some time.
    Return(usize),
    /// A player comes with a token that was never given out.
    Forge,
    /// A connection is lost.
    Lose(usize),
    Leave(usize),
    /// A player asks for a free cube, or lets go of it.
    Take(usize, u64),
    Release(usize, u64),
    /// From now on a player moves by so many quanta in each tick.
    Walk(usize, i16, i16),
    /// A player moves to a place, in metres, within one tick.
    Jump(usize, i16, i16),
    /// A player's client samples a cube that it may not move.
    Steal(usize, usize),
    /// A player's client sends a second sample of the same tick.
    Repeat(usize),
    /// A player reads nothing for so many ticks.
    Sleep(usize, u8),
    /// Another server owns the room from now on. The players of these bits were at one that is gone.
    TakeOver(u8),
    Ticks(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = || 0usize..8;
    // Below the top speed even across.
    let walk = || -700i16..=700;
    let place = || -256i16..=256;
    let step = prop_oneof![
        4 => Just(Step::Enter),
        3 => (0usize..20).prop_map(Step::Return),
        1 => Just(Step::Forge),
        3 => who().prop_map(Step::Lose),
        2 => who().prop_map(Step::Leave),
        3 => (who(), 0u64..4).prop_map(|(who, cube)| Step::Take(who, cube)),
        2 => (who(), 0u64..4).prop_map(|(who, cube)| Step::Release(who, cube)),
        4 => (who(), walk(), walk()).prop_map(|(who, x, y)| Step::Walk(who, x, y)),
        2 => (who(), place(), place()).prop_map(|(who, x, y)| Step::Jump(who, x, y)),
        2 => (who(), who()).prop_map(|(who, whose)| Step::Steal(who, whose)),
        1 => who().prop_map(Step::Repeat),
        1 => (who(), 1u8..100).prop_map(|(who, ticks)| Step::Sleep(who, ticks)),
        1 => any::<u8>().prop_map(Step::TakeOver),
        12 => (1u8..30).prop_map(Step::Ticks),
    ];
    prop::collection::vec(step, 1..60)
}

/// A room, its players, and what must be true of them.
struct Machine {
    test: TestRoom,
    has_top_speed: bool,
    /// The kind of each player's cube. Besides these only the free cubes are in the room.
    kinds: BTreeMap<CubeId, Kind>,
    /// The number of free cubes. More than one are loose: what happens near them moves them.
    free: u64,
    /// The holders of free cubes.
    holders: BTreeMap<CubeId, CubeId>,
    /// All tokens that were ever given out.
    tokens: Vec<ResumeToken>,
    /// The valid token of each player and ghost.
    good: BTreeMap<CubeId, ResumeToken>,
    ids: u64,
    /// The cubes that were in the room at some time since the last tick.
    there: BTreeSet<CubeId>,
    /// The cubes that each player's client has sampled although it may not move them.
    stolen: BTreeMap<CubeId, BTreeSet<CubeId>>,
    /// The players whose client has sampled another cube in this tick, and not their own.
    unheard: BTreeSet<CubeId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Player,
    /// A player whose server is gone since a tick.
    Absent(u64),
    /// A ghost since a tick, which stands at a pose.
    Ghost(u64, Pose),
}

impl Machine {
    /// With a view distance everybody may jump anywhere; without one there is a top speed.
    fn new(view_distance_m: Option<u32>, free: u64) -> Self {
        let mut test = match free {
            1 => TestRoom::new(view_distance_m, 0),
            _ => TestRoom::with_field(view_distance_m, 0, free as i32),
        };
        let has_top_speed = view_distance_m.is_none();
        if has_top_speed {
            let mut world = World::new(HZ, Some(TOP_SPEED));
            if let Some(field) = &test.room.connections.settings.field {
                world.scatter(&field.cubes);
            }
            world.tick(0);
            test.room.world = world;
            test.room.connections.settings.top_speed = Some(TOP_SPEED);
        }
        Self {
            test,
            has_top_speed,
            kinds: BTreeMap::new(),
            free,
            holders: BTreeMap::new(),
            tokens: Vec::new(),
            good: BTreeMap::new(),
            ids: free,
            there: BTreeSet::new(),
            stolen: BTreeMap::new(),
            unheard: BTreeSet::new(),
        }
    }

    fn player(&self, number: usize) -> Option<CubeId> {
        let players = &self.test.clients;
        players.keys().nth(number % players.len().max(1)).copied()
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Enter => self.enter(None),
            Step::Return(number) => {
                let token = self.tokens.get(number % self.tokens.len().max(1)).copied();
                self.enter(token);
            }
            Step::Forge => self.enter(Some(ResumeToken([0x5A; 16]))),
            Step::TakeOver(gone) => self.take_over(gone),
            Step::Lose(number) => self.gone(number, Ending::Lost),
            Step::Leave(number) => self.gone(number, Ending::Left),
            Step::Ticks(ticks) => {
                for _ in 0..ticks {
                    self.tick();
                }
            }
            _ => {}
        }
        let (Step::Take(number, _)
        | Step::Release(number, _)
        | Step::Walk(number, ..)
        | Step::Jump(number, ..)
        | Step::Steal(number, _)
        | Step::Repeat(number)
        | Step::Sleep(number, _)) = *step
        else {
            return;
        };
        let Some(player) = self.player(number) else {
            return;
        };
        let is_counted = !matches!(step, Step::Walk(..) | Step::Sleep(..));
        if is_counted && !self.is_heard(player) {
            return;
        }
        match *step {
            Step::Take(_, number) => {
                let cube = CubeId(number % self.free);
                // The client has sampled the cube already. Those samples would count once it holds the cube.
                let stolen = self.stolen.get(&player);
                if stolen.is_some_and(|of| of.contains(&cube)) {
                    return;
                }
                self.test.say(player, ClientMessage::Take { cube });
                // The first player who asked has it, unless they hold another one.
                if !self.holders.values().any(|holder| *holder == player) {
                    self.holders.entry(cube).or_insert(player);
                }
            }
            Step::Release(_, number) => {
                let cube = CubeId(number % self.free);
                self.test.say(player, ClientMessage::Release { cube });
                let client = self.test.clients.get_mut(&player);
                client.expect("it is there").writer.release(cube);
                if self.holders.get(&cube) == Some(&player) {
                    self.holders.remove(&cube);
                }
            }
            Step::Walk(_, x, y) => {
                let walk = self.test.walks.get_mut(&player);
                walk.expect("everybody stands somewhere").1 = [x.into(), y.into()];
            }
            Step::Jump(_, x, y) => {
                self.jump(player, [x, y].map(|metres| i32::from(metres) * METRE))
            }
            Step::Steal(_, number) => self.steal(player, number),
            Step::Repeat(_) => self.repeat(player),
            Step::Sleep(_, ticks) => {
                let until = self.test.tick() + u64::from(ticks);
                let client = self.test.clients.get_mut(&player);
                client.expect("it is there").asleep_until = until;
            }
            _ => {}
        }
    }

    fn enter(&mut self, token: Option<ResumeToken>) {
        let owner = self.good.iter().find(|(_, good)| Some(**good) == token);
        let owner = owner.map(|(cube, _)| *cube);
        let before = owner.and_then(|owner| self.test.room.world.pose(owner));
        if let Some(owner) = owner {
            // A connection that still has the cube is replaced.
            self.test.clients.remove(&owner);
            self.holders.retain(|_, holder| *holder != owner);
        }
        let cube = self.test.enter_at(token, None);
        match owner {
            Some(owner) => {
                assert_eq!(cube, owner, "a good token gets its cube back");
                assert_eq!(self.test.room.world.pose(cube), before, "where it was");
            }
            None => {
                assert_eq!(cube, CubeId(self.ids), "a new cube has the next number");
                self.ids += 1;
            }
        }
        self.test.walks.get_mut(&cube).expect("it was made").1 = [0; 2];
        self.stolen.remove(&cube);
        self.kinds.insert(cube, Kind::Player);
        self.there.insert(cube);
        let token = self.test.token(cube);
        self.tokens.push(token);
        self.good.insert(cube, token);
    }

    /// Returns whether what a player's client says counts: it has answered the last `Welcome`.
    fn is_heard(&self, player: CubeId) -> bool {
        let player = self.test.room.players[&player];
        self.test.room.connections.admits_datagrams(player)
    }

    fn take_over(&mut self, gone: u8) {
        let tick = self.test.tick();
        for (number, player) in self
            .test
            .clients
            .keys()
            .copied()
            .enumerate()
            .collect::<Vec<_>>()
        {
            if gone >> (number % 8) & 1 == 1 {
                let receiver = ReceiverId::Player(self.test.room.players[&player]);
                self.test.room.connections.end(receiver, Ending::Lost);
                self.test.clients.remove(&player);
                self.kinds.insert(player, Kind::Absent(tick));
            }
        }
        self.test.take_over(0);
        for kind in self.kinds.values_mut() {
            // The new owner knows of no times.
            if let Kind::Ghost(since, _) | Kind::Absent(since) = kind {
                *since = tick;
            }
        }
        self.stolen.clear();
    }

    fn gone(&mut self, number: usize, reason: Ending) {
        let Some(player) = self.player(number) else {
            return;
        };
        self.test.leave(player, reason);
        self.is_gone(player, reason);
    }

    fn is_gone(&mut self, player: CubeId, reason: Ending) {
        self.holders.retain(|_, holder| *holder != player);
        if reason.is_accident() {
            let pose = self.test.room.world.pose(player).expect("a ghost stays");
            let ghost = Kind::Ghost(self.test.tick(), pose);
            self.kinds.insert(player, ghost);
        } else {
            self.kinds.remove(&player);
            self.good.remove(&player);
        }
    }

    /// Sends a player's sample of a cube for the next tick. Returns false if the client has sent one already.
    fn say(&mut self, player: CubeId, cube: CubeId, pose: Pose) -> bool {
        let tick = self.test.tick() + 1;
        if self.test.clients[&player].writer.tick() >= tick {
            return false;
        }
        self.test.say_pose(player, tick, (cube, pose));
        true
    }

    fn jump(&mut self, player: CubeId, [x, y]: [i32; 2]) {
        let (position, step) = self.test.walks.get_mut(&player).expect("it stands");
        let there = Position { x, y, ..*position }.clamped();
        // No farther than a second's way is a step, not a jump.
        let is_step = there.distance(*position) <= 2 * u64::from(TOP_SPEED);
        if self.has_top_speed && is_step {
            return;
        }
        *step = [0; 2];
        if self.has_top_speed {
            let pose = Pose {
                position: there,
                ..Pose::default()
            };
            self.say(player, player, pose);
        } else {
            *position = there;
        }
    }

    /// Lets a player's client sample a cube that it may not move, and which must stay where it is.
    fn steal(&mut self, player: CubeId, number: usize) {
        let free = (0..self.free).map(CubeId);
        let others = self.kinds.keys().copied().chain(free);
        let others: Vec<_> = others.filter(|&other| other != player).collect();
        let victim = others[number % others.len()];
        let stolen = self.stolen.entry(player).or_default();
        let is_held = self.holders.get(&victim) == Some(&player);
        if is_held || (stolen.len() >= MOST_STOLEN && !stolen.contains(&victim)) {
            return;
        }
        stolen.insert(victim);
        if self.say(player, victim, pose_at(77 * METRE)) {
            self.unheard.insert(player);
        }
    }

    /// Lets a client repeat the tick of its last sample, which ends its connection.
    fn repeat(&mut self, player: CubeId) {
        let tick = self.test.clients[&player].writer.tick();
        let sample = |tick| ClientMessage::Sample {
            tick,
            placed: Vec::new(),
            residuals: Bytes::new(),
        };
        self.test.say(player, sample(tick));
        self.test.clients.remove(&player);
        self.is_gone(player, Ending::BadMessage);
    }

    /// Sends a sample of each player's cube, ends the tick, and checks that each cube is where its sample
    /// says.
    fn tick(&mut self) {
        let players: Vec<_> = self.test.clients.keys().copied().collect();
        for player in players {
            let (mut position, step) = self.test.walks[&player];
            position.x += step[0];
            position.y += step[1];
            let pose = Pose {
                position: position.clamped(),
                ..Pose::default()
            };
            if !self.is_heard(player) {
                self.unheard.insert(player);
            }
            // A client that jumped or stole has already sent its sample of this tick.
            if self.say(player, player, pose) {
                self.test.walks.insert(player, (pose.position, step));
            }
        }
        let free = self.test.room.world.pose(FREE);
        self.test.end_tick(&self.there);
        self.there = self.test.cubes();
        let tick = self.test.tick();
        for (cube, kind) in &mut self.kinds {
            if let Kind::Absent(since) = kind
                && *since + ABSENT_TICKS <= tick
            {
                let pose = self.test.room.world.pose(*cube);
                *kind = Kind::Ghost(tick - 1, pose.expect("a ghost stays"));
                self.holders.retain(|_, holder| holder != cube);
            }
        }
        let over =
            |kind: &Kind| matches!(kind, Kind::Ghost(since, _) if since + GHOST_TICKS <= tick);
        self.kinds.retain(|_, kind| !over(kind));
        self.good.retain(|cube, _| self.kinds.contains_key(cube));
        let is_loose = self.free > 1;
        let after = self.test.room.world.pose(FREE);
        assert!(is_loose || after == free, "nobody has moved it");
        self.check_poses();
        // These have gone on as predicted. Their next pose may be refused, so they count from here.
        for player in std::mem::take(&mut self.unheard) {
            if let (Some(pose), Some(walk)) = (
                self.test.room.world.pose(player),
                self.test.walks.get_mut(&player),
            ) {
                walk.0 = pose.position;
            }
        }
    }

    fn check_poses(&self) {
        for (cube, kind) in &self.kinds {
            let pose = self.test.room.world.pose(*cube);
            let pose = pose.unwrap_or_else(|| panic!("{cube} is in the room"));
            match kind {
                Kind::Ghost(_, stood) => assert_eq!(pose, *stood, "a ghost stands"),
                Kind::Absent(_) => {}
                Kind::Player if self.unheard.contains(cube) => {}
                Kind::Player => {
                    let off = pose.position.distance(self.test.walks[cube].0);
                    assert!(off <= 3, "{cube} is {off} quanta off");
                }
            }
        }
    }

    fn check(&self) {
        let world = &self.test.room.world;
        let mut names = BTreeSet::new();
        for cube in world.cubes() {
            let is_new = cube.name.is_empty() || names.insert(cube.name.clone());
            assert!(is_new, "{} is there twice", cube.name);
            let expected = match self.kinds.get(&cube.cube) {
                Some(Kind::Player | Kind::Absent(_)) => CubeKind::Player,
                Some(Kind::Ghost(..)) => CubeKind::Ghost,
                None => CubeKind::Free {
                    holder: self.holders.get(&cube.cube).copied(),
                },
            };
            assert_eq!(cube.kind, expected, "{}", cube.cube);
        }
        let free = (0..self.free).map(CubeId);
        let cubes = free.chain(self.kinds.keys().copied());
        assert!(self.test.cubes().into_iter().eq(cubes), "{:?}", self.kinds);
        let members = self.test.room.players.keys();
        assert!(members.eq(self.test.clients.keys()));
    }
}

fn run(view_distance_m: Option<u32>, free: u64, steps: &[Step]) {
    let mut machine = Machine::new(view_distance_m, free);
    for step in steps {
        machine.take(step);
        machine.check();
    }
    for _ in 0..3 * FAR {
        machine.tick();
    }
}

#[test]
fn a_player_who_jumps_in_the_tick_of_joining_is_seen_at_the_new_pose() {
    for metres in [-57, 57] {
        let jump = Step::Jump(1, 0, metres);
        run(
            Some(100),
            1,
            &[Step::Enter, Step::Ticks(4), Step::Enter, jump],
        );
    }
}

proptest! {
    /// Compares players, holders, tokens and poses with the model.
    #[test]
    fn a_room_does_what_its_model_says(
        free in prop_oneof![Just(1u64), Just(4)],
        steps in steps(),
    ) {
        run(None, free, &steps);
    }

    /// Checks in [`TestRoom::end_tick`] that each client sees the cells around its cubes.
    #[test]
    fn with_cells_every_client_sees_its_surroundings(
        view_distance_m in prop_oneof![Just(16u32), Just(40), Just(100)],
        free in prop_oneof![Just(1u64), Just(4)],
        steps in steps(),
    ) {
        run(Some(view_distance_m), free, &steps);
    }
}
