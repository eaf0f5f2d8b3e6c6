//! A room as a state machine: proptest chooses what players do, a model says what must come of
//! it, and a case that fails is shrunk to the few steps that matter.

use proptest::prelude::*;

use super::super::world::Ids;
use super::*;

/// Metres per second, where there is a top speed.
const TOP_SPEED: u32 = 40 * METRE as u32;
/// Ghosts stay for a second, and the tick in which that is over.
const GHOST_TICKS: u64 = HZ as u64 + 1;
/// A client's set has eight places; two are for what is its own.
const MOST_STOLEN: usize = 6;

/// What somebody does. Players and tokens are counted modulo how many there are.
#[derive(Debug, Clone)]
enum Step {
    Enter,
    /// Somebody comes with a token that was given out at some time.
    Return(usize),
    /// Somebody comes with a token that never was.
    Forge,
    /// A connection is lost.
    Lose(usize),
    Leave(usize),
    Take(usize),
    Release(usize),
    /// A player goes on by so many quanta in each tick.
    Walk(usize, i16, i16),
    /// A player is somewhere else at once, in metres.
    Jump(usize, i16, i16),
    /// A player says where another one's cube is.
    Steal(usize, usize),
    /// A player says something about a tick that they have told of.
    Repeat(usize),
    /// A player reads nothing for so many ticks.
    Sleep(usize, u8),
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
        3 => who().prop_map(Step::Take),
        2 => who().prop_map(Step::Release),
        4 => (who(), walk(), walk()).prop_map(|(who, x, y)| Step::Walk(who, x, y)),
        2 => (who(), place(), place()).prop_map(|(who, x, y)| Step::Jump(who, x, y)),
        2 => (who(), who()).prop_map(|(who, whose)| Step::Steal(who, whose)),
        1 => who().prop_map(Step::Repeat),
        1 => (who(), 1u8..100).prop_map(|(who, ticks)| Step::Sleep(who, ticks)),
        12 => (1u8..30).prop_map(Step::Ticks),
    ];
    prop::collection::vec(step, 1..60)
}

/// A room, its players, and what must be true of them.
struct Machine {
    test: TestRoom,
    has_top_speed: bool,
    /// What each player's cube is; nobody but players is in the room, and the free cube.
    kinds: BTreeMap<CubeId, Kind>,
    holder: Option<CubeId>,
    /// All tokens that were ever given out.
    tokens: Vec<ResumeToken>,
    /// The one that is good for each player and ghost.
    good: BTreeMap<CubeId, ResumeToken>,
    ids: u64,
    /// Those that were in the room at some time since the last tick.
    there: BTreeSet<CubeId>,
    /// Who tells of cubes that are not theirs.
    stolen: BTreeMap<CubeId, BTreeSet<CubeId>>,
    /// Who has told of another cube in this tick, and not of their own.
    unheard: BTreeSet<CubeId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Player,
    /// Since a tick, standing somewhere.
    Ghost(u64, Pose),
}

impl Machine {
    /// With a view distance everybody may jump anywhere; without one there is a top speed.
    fn new(view_distance_m: Option<u32>) -> Self {
        let mut test = TestRoom::new(view_distance_m, 0);
        let has_top_speed = view_distance_m.is_none();
        if has_top_speed {
            let mut world = World::new(HZ, Some(TOP_SPEED), Ids::counted());
            world.tick(0);
            test.room.world = world;
        }
        Self {
            test,
            has_top_speed,
            kinds: BTreeMap::new(),
            holder: None,
            tokens: Vec::new(),
            good: BTreeMap::new(),
            ids: 1,
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
            Step::Lose(number) => self.gone(number, Ending::Lost),
            Step::Leave(number) => self.gone(number, Ending::Left),
            Step::Ticks(ticks) => {
                for _ in 0..ticks {
                    self.tick();
                }
            }
            _ => {}
        }
        let (Step::Take(number)
        | Step::Release(number)
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
        match *step {
            // What they have said of it would count, should they have it at that tick.
            Step::Take(_)
                if self
                    .stolen
                    .get(&player)
                    .is_some_and(|of| of.contains(&FREE)) => {}
            Step::Take(_) => {
                self.test.say(player, ClientMessage::Take { cube: FREE });
                // Who was first has it.
                self.holder.get_or_insert(player);
            }
            Step::Release(_) => {
                self.test.say(player, ClientMessage::Release { cube: FREE });
                let client = self.test.clients.get_mut(&player);
                client.expect("it is there").writer.release(FREE);
                self.holder.take_if(|holder| *holder == player);
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
            self.holder.take_if(|holder| *holder == owner);
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
        let token = self.test.room.resumption.issue(cube);
        self.tokens.push(token);
        self.good.insert(cube, token);
    }

    fn gone(&mut self, number: usize, reason: Ending) {
        let Some(player) = self.player(number) else {
            return;
        };
        self.test.leave(player, reason);
        self.is_gone(player, reason);
    }

    fn is_gone(&mut self, player: CubeId, reason: Ending) {
        self.holder.take_if(|holder| *holder == player);
        if reason.is_accident() {
            let pose = self.test.room.world.pose(player).expect("a ghost stays");
            let ghost = Kind::Ghost(self.test.tick(), pose);
            self.kinds.insert(player, ghost);
        } else {
            self.kinds.remove(&player);
            self.good.remove(&player);
        }
    }

    /// What a player says at the next tick, once; whether it was said.
    fn say(&mut self, player: CubeId, cube: CubeId, pose: Pose) -> bool {
        let tick = self.test.tick() + 1;
        let client = self.test.clients.get_mut(&player).expect("it is there");
        if client.writer.tick() >= tick {
            return false;
        }
        let (placed, residuals) = client.writer.sample(tick, cube, pose);
        let sample = ClientMessage::Sample {
            tick,
            placed,
            residuals: residuals.into(),
        };
        self.test.say(player, sample);
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

    /// Whatever is said of a cube that is not one's own, it stays where it is.
    fn steal(&mut self, player: CubeId, number: usize) {
        let others = self.kinds.keys().copied().chain([FREE]);
        let others: Vec<_> = others.filter(|&other| other != player).collect();
        let victim = others[number % others.len()];
        let stolen = self.stolen.entry(player).or_default();
        let is_held = self.holder == Some(player) && victim == FREE;
        if is_held || (stolen.len() >= MOST_STOLEN && !stolen.contains(&victim)) {
            return;
        }
        stolen.insert(victim);
        if self.say(player, victim, pose_at(77 * METRE)) {
            self.unheard.insert(player);
        }
    }

    /// Nothing that this client says can be understood any more.
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

    /// Everybody says where they are, then all of it must be so.
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
            // Who jumped or stole has had their word.
            if self.say(player, player, pose) {
                self.test.walks.insert(player, (pose.position, step));
            }
        }
        let free = self.test.room.world.pose(FREE);
        self.test.end_tick(&self.there);
        self.there = self.test.cubes();
        let tick = self.test.tick();
        let over =
            |kind: &Kind| matches!(kind, Kind::Ghost(since, _) if since + GHOST_TICKS <= tick);
        self.kinds.retain(|_, kind| !over(kind));
        self.good.retain(|cube, _| self.kinds.contains_key(cube));
        assert_eq!(self.test.room.world.pose(FREE), free, "nobody has moved it");
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
            assert!(
                names.insert(cube.name.clone()),
                "{} is there twice",
                cube.name
            );
            let expected = match self.kinds.get(&cube.cube) {
                Some(Kind::Player) => CubeKind::Player,
                Some(Kind::Ghost(..)) => CubeKind::Ghost,
                None => CubeKind::Free {
                    holder: self.holder,
                },
            };
            assert_eq!(cube.kind, expected, "{}", cube.cube);
        }
        let cubes = [FREE].into_iter().chain(self.kinds.keys().copied());
        assert!(self.test.cubes().into_iter().eq(cubes), "{:?}", self.kinds);
        let members = self.test.room.members.keys();
        assert!(members.eq(self.test.clients.keys()));
    }
}

fn run(view_distance_m: Option<u32>, steps: &[Step]) {
    let mut machine = Machine::new(view_distance_m);
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
        run(Some(100), &[Step::Enter, Step::Ticks(4), Step::Enter, jump]);
    }
}

proptest! {
    /// Who is there, who holds what, whose token is good, and who stands where.
    #[test]
    fn a_room_does_what_its_model_says(steps in steps()) {
        run(None, &steps);
    }

    /// With cells, what everybody sees is besides what they must: see [`TestRoom::end_tick`].
    #[test]
    fn with_cells_every_client_sees_its_surroundings(
        view_distance_m in prop_oneof![Just(16u32), Just(40), Just(100)],
        steps in steps(),
    ) {
        run(Some(view_distance_m), &steps);
    }
}
