//! What a player sees of the loose cubes that they push: the real client, room and mechanics in simulated
//! time, through a simulated network.

mod measure;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use anyhow::ensure;
use cubesync_client::{Controller, Input};
use cubesync_protocol::{CubeId, Pose, Position, Rotation};
use cubesync_relay::mechanics::Field;

use self::measure::Measure;
use crate::network::Network;
use crate::play::FRAME_S;
use crate::player::Loose;
use crate::score::percentile;
use crate::whole_way::{Seat, Server, Transport, simulate};

const SECONDS: f64 = 60.0;
/// The seeds on which the client's constants were chosen, and those whose figures count.
const TUNING_SEEDS: RangeInclusive<u64> = 1..=5;
const SCORED_SEEDS: RangeInclusive<u64> = 101..=108;
const CUBES: usize = 60;
/// Time in which a player reaches a cube, or tries another one.
const PATIENCE_S: f64 = 6.0;
/// How long a player goes on pushing, goes back afterwards, and stands.
const PUSH_S: std::ops::Range<f64> = 0.1..1.2;
const BACK_S: f64 = 0.3;
const STAND_S: f64 = 1.2;
/// A player goes to one of so many nearest cubes.
const CHOICE: usize = 8;

/// What a player does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Play {
    /// Walks into cubes, pushes them, and stops.
    Walk,
    /// Runs into them.
    Run,
    /// Carries a cube, and pushes others with it.
    Carry,
}

type Figure = (&'static str, fn(&Measure) -> f64);

/// What a player should see at most.
const GOALS: [(Figure, f64); 3] = [(OVERLAP, 5.0), (JUMP, 5.0), (AGREE, 300.0)];

const OVERLAP: Figure = ("overlap p99 cm", |it| {
    percentile(&it.overlaps_m, 0.99) * 100.0
});
const JUMP: Figure = ("largest jump cm", |it| it.jump_m * 100.0);
const AGREE: Figure = ("agree max ms", |it| percentile(&it.agreed_s, 1.0) * 1e3);

const FIGURES: [Figure; 8] = [
    OVERLAP,
    ("overlap max cm", |it| {
        percentile(&it.overlaps_m, 1.0) * 100.0
    }),
    JUMP,
    ("agree p50 ms", |it| percentile(&it.agreed_s, 0.5) * 1e3),
    AGREE,
    ("contacts", |it| it.agreed_s.len() as f64),
    ("off p50 cm", |it| percentile(&it.off_m, 0.5) * 100.0),
    ("off p99 cm", |it| percentile(&it.off_m, 0.99) * 100.0),
];

/// Plays everything and prints a table: each figure's median, and its range, over the seeds.
pub(crate) fn run(is_tuning: bool) {
    let seeds = if is_tuning {
        TUNING_SEEDS
    } else {
        SCORED_SEEDS
    };
    let line = |names: [&str; 3], figures: [String; FIGURES.len()]| {
        let [network, play, contact] = names;
        let figures = figures.map(|figure| format!("{figure:>19}")).join(" | ");
        println!("{network:14} | {play:5} | {contact:9} | {figures}");
    };
    line(
        ["network", "play", "contact"],
        FIGURES.map(|(heading, _)| heading.into()),
    );
    for (network, play) in cases() {
        for (touches, contact) in [(false, "published"), (true, "at once")] {
            let measures: Vec<_> = seeds
                .clone()
                .map(|seed| simulate(player(network, play, touches, seed)))
                .collect();
            let figures = FIGURES.map(|(_, of)| {
                let figures: Vec<_> = measures.iter().map(of).collect();
                let [least, median, most] = [0.0, 0.5, 1.0].map(|part| percentile(&figures, part));
                format!("{median:.1} ({least:.1}–{most:.1})")
            });
            let play = format!("{play:?}").to_lowercase();
            line([network.name, &play, contact], figures);
        }
    }
}

/// Fails unless the first scored seed reaches every goal.
pub(crate) fn check() -> anyhow::Result<()> {
    for (network, play) in cases() {
        let measure = simulate(player(network, play, true, *SCORED_SEEDS.start()));
        for ((name, figure), goal) in GOALS {
            let figure = figure(&measure);
            let network = network.name;
            ensure!(
                figure <= goal,
                "{network}, {play:?}: {name} is {figure:.1}, above {goal}"
            );
        }
    }
    println!("what a player pushes looks as it should");
    Ok(())
}

fn cases() -> impl Iterator<Item = (&'static Network, Play)> {
    let plays = [Play::Walk, Play::Run, Play::Carry];
    let networks = Network::ALL[..3].iter();
    networks.flat_map(move |network| plays.map(|play| (network, play)))
}

/// Lets a player push cubes for a minute.
async fn player(network: &Network, play: Play, touches: bool, seed: u64) -> Measure {
    let field = Field {
        cubes: cubesync_mechanics::arrangement(CUBES).into(),
        create: Some(cubesync_mechanics::create),
        kept: None,
    };
    let mut server = Server::new(Transport::Datagrams, SECONDS, Some(field));
    let mut seat = Seat::new(&mut server, network, FRAME_S, [seed, !seed]).await;
    seat.player.touches = touches;
    let mut person = Person::new(play, seed);
    let mut measure = Measure::default();
    loop {
        let next_s = seat.next_arrival_s().min(seat.next_frame_s());
        let now_s = next_s.min(server.next_tick_s());
        if now_s >= SECONDS {
            return measure;
        }
        server.go_to(now_s).await;
        seat.pass_on(now_s).await;
        server.work(now_s);
        seat.send_down(now_s);
        if seat.next_frame_s() <= now_s {
            let now = seat.begin_frame(now_s);
            let loose = seat.player.loose(now);
            person.step(&mut seat, &loose, measure.is_touching, now_s);
            seat.end_frame(now_s, now);
            let pushers = seat.player.pushers(now);
            measure.add(now_s, &pushers, &seat.player.loose(now));
        }
    }
}

/// A person at the keyboard.
struct Person {
    play: Play,
    random: fastrand::Rng,
    controller: Option<Controller>,
    has_taken: bool,
    does: Doing,
    until_s: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Doing {
    Stands,
    GoesTo(CubeId),
    Pushes([f32; 2]),
    GoesBack([f32; 2]),
}

impl Person {
    fn new(play: Play, seed: u64) -> Self {
        Self {
            play,
            random: fastrand::Rng::with_seed(seed),
            controller: None,
            has_taken: false,
            does: Doing::Stands,
            until_s: 1.0,
        }
    }

    fn step(&mut self, seat: &mut Seat, loose: &[Loose], is_touching: bool, now_s: f64) {
        let Some(welcome) = seat.player.welcome() else {
            return;
        };
        let own = welcome.cube;
        let start = welcome.pose;
        let mut controller = self
            .controller
            .take()
            .unwrap_or_else(|| Controller::new(start));
        let held = seat.player.held();
        let direction = self.decide(&controller, loose, is_touching, now_s);
        if self.play == Play::Carry
            && !self.has_taken
            && now_s > 1.0
            && let Some(nearest) = nearest(&controller, loose).first()
        {
            self.has_taken = true;
            let from = Pose {
                position: Position::from_metres(nearest.shown.position),
                rotation: Rotation::from_quaternion(nearest.shown.rotation),
            };
            controller.pick_up(from, nearest.width_m);
            seat.player.take(nearest.cube);
        }
        let input = Input {
            direction,
            fast: self.play == Play::Run,
            ..Input::default()
        };
        controller.step(input, FRAME_S as f32);
        seat.player.put(own, controller.pose());
        if let Some(held) = held {
            seat.player.put(held, controller.carry_pose());
        }
        self.controller = Some(controller);
    }

    /// Returns where to go.
    fn decide(
        &mut self,
        controller: &Controller,
        loose: &[Loose],
        is_touching: bool,
        now_s: f64,
    ) -> [f32; 2] {
        let at = controller.position();
        let by_id: BTreeMap<_, _> = loose.iter().map(|it| (it.cube, it)).collect();
        match self.does {
            Doing::Stands if now_s >= self.until_s => {
                let near = nearest(controller, loose);
                let choice = near.len().min(CHOICE);
                if choice > 0 {
                    self.does = Doing::GoesTo(near[self.random.usize(..choice)].cube);
                    self.until_s = now_s + PATIENCE_S;
                }
            }
            Doing::GoesTo(cube) => {
                let Some(target) = by_id.get(&cube).filter(|_| now_s < self.until_s) else {
                    self.does = Doing::Stands;
                    return [0.0; 2];
                };
                let way = [0, 1].map(|axis| target.shown.position[axis] - at[axis]);
                let length = way[0].hypot(way[1]);
                let direction = way.map(|part| part / length.max(1e-3));
                if is_touching {
                    self.does = Doing::Pushes(direction);
                    let [least, most] = [PUSH_S.start, PUSH_S.end];
                    self.until_s = now_s + least + (most - least) * self.random.f64();
                }
                return direction;
            }
            Doing::Pushes(direction) | Doing::GoesBack(direction) if now_s < self.until_s => {
                return direction;
            }
            Doing::Pushes(direction) => {
                self.does = Doing::GoesBack(direction.map(|part| -part));
                self.until_s = now_s + BACK_S;
            }
            Doing::GoesBack(_) => {
                self.does = Doing::Stands;
                self.until_s = now_s + STAND_S;
            }
            Doing::Stands => {}
        }
        [0.0; 2]
    }
}

/// Returns loose cubes, the nearest first.
fn nearest<'a>(controller: &Controller, loose: &'a [Loose]) -> Vec<&'a Loose> {
    let at = controller.position();
    let away = |it: &Loose| (it.shown.position[0] - at[0]).hypot(it.shown.position[1] - at[1]);
    let mut near: Vec<_> = loose.iter().collect();
    near.sort_by(|a, b| away(a).total_cmp(&away(b)));
    near
}
