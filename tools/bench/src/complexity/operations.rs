//! What players do, one by one.

use std::hint::black_box;

use cubesync_protocol::datagram::{self, Uplink};
use cubesync_protocol::quantize::QUANTA_PER_METRE;
use cubesync_protocol::{ClientMessage, CubeId, CubePose, ResumeToken};
use cubesync_relay::Ending;

use super::MORE;
use super::lab::Lab;

/// Growth from the smallest room to the largest one that counts as the logarithm's: that of the numbers is
/// 1.8. A part that grows with their number would grow 50 times.
const LOGARITHMIC: f64 = 4.0;

/// Growth of what is answered by keyframes, of which those that differ from each other's are encoded once a tick.
const KEYFRAMES: f64 = 12.0;

/// Growth with the number of players, which is 50 from the smallest room to the largest one.
const LINEAR: f64 = 60.0;

/// View distance of the room with cells, in quanta.
const VIEW_DISTANCE: u32 = 64 * QUANTA_PER_METRE as u32;

/// Something that a player does.
pub(crate) struct Operation {
    /// What it is.
    pub(crate) name: &'static str,
    /// The growth that is allowed from the smallest room to the largest one.
    pub(crate) allowed_growth: f64,
    /// Whether the whole tick counts, and not what each further operation adds to it.
    pub(crate) is_whole_tick: bool,
    /// Whether the room's floor is divided into cells.
    has_cells: bool,
    /// Prepares as many operations as there can be in a tick.
    prepare: fn(&mut Lab, &mut Prepared),
    /// Does it for the so-manieth time in a tick.
    act: fn(&mut Lab, &mut Prepared, usize),
}

/// What operations need that does not count.
#[derive(Default)]
pub(crate) struct Prepared {
    tokens: Vec<ResumeToken>,
    cubes: Vec<CubeId>,
}

impl Operation {
    const fn new(name: &'static str, act: fn(&mut Lab, &mut Prepared, usize)) -> Self {
        Self {
            name,
            allowed_growth: LOGARITHMIC,
            is_whole_tick: false,
            has_cells: false,
            prepare: |_, _| {},
            act,
        }
    }

    const fn after(self, prepare: fn(&mut Lab, &mut Prepared)) -> Self {
        Self { prepare, ..self }
    }

    const fn with_cells(self) -> Self {
        Self {
            allowed_growth: KEYFRAMES,
            has_cells: true,
            ..self
        }
    }

    /// Returns how often it is done in each of two ticks, by which its cost is known.
    pub(crate) fn counts(&self) -> &[usize] {
        match self.is_whole_tick {
            true => &[1],
            false => &[1, 1 + MORE],
        }
    }

    const fn whole_tick(self) -> Self {
        Self {
            allowed_growth: LINEAR,
            is_whole_tick: true,
            ..self
        }
    }
}

/// All operations.
pub(crate) const OPERATIONS: &[Operation] = &[
    Operation::new("join", |lab, _, number| {
        lab.join(&format!("new {number}"), None);
    }),
    Operation::new("join by a name that half of them have", |lab, _, _| {
        lab.join("Anna", None);
    }),
    Operation::new("leave", |lab, _, number| {
        lab.leave(4 * number, Ending::Left);
    }),
    Operation::new("lose the connection", |lab, _, number| {
        lab.leave(4 * number, Ending::Lost);
    }),
    Operation::new("come back", |lab, prepared, _| {
        lab.join("Anna", prepared.tokens.pop());
    })
    .after(|lab, prepared| {
        let lost = (0..=MORE).map(|number| lab.leave(4 * number, Ending::Lost));
        prepared.tokens = lost.collect();
        lab.rest(3);
    }),
    Operation::new(
        "lose the connection and come back, in a tick",
        |lab, _, number| {
            let token = lab.leave(3 * number, Ending::Lost);
            lab.join("Anna", Some(token));
        },
    ),
    Operation::new("join and leave, in a tick", |lab, _, number| {
        lab.join(&format!("short {number}"), None);
        lab.leave(lab.players.len() - 1, Ending::Left);
    }),
    Operation::new("take and release the free cube", |lab, _, number| {
        let cube = CubeId(0);
        lab.say(number, ClientMessage::Take { cube });
        lab.say(number, ClientMessage::Release { cube });
    }),
    Operation::new("take a cube that somebody holds", |lab, _, number| {
        lab.say(number, ClientMessage::Take { cube: CubeId(0) });
    })
    .after(|lab, _| lab.say(99, ClientMessage::Take { cube: CubeId(0) })),
    Operation::new("ping, answered at once", |lab, _, number| {
        lab.say(number, ClientMessage::Ping { sent_us: 7 });
    }),
    Operation::new("ping, for the 2nd time in a tick", |lab, _, _| {
        lab.say(0, ClientMessage::Ping { sent_us: 7 });
    }),
    Operation::new("sample a step", |lab, _, number| {
        let mut pose = lab.pose(number);
        pose.position.x += 100;
        lab.sample(number, pose);
    }),
    Operation::new("sample nothing", |lab, _, _| {
        let tick = lab.early_tick();
        let (placed, residuals) = (Vec::new(), Default::default());
        let sample = ClientMessage::Sample {
            tick,
            placed,
            residuals,
        };
        lab.say(50, sample);
    }),
    Operation::new(
        "place 8 cubes of others (correction)",
        |lab, prepared, number| {
            let number = 20 + number;
            let pose = lab.pose(number);
            let place = |&cube| CubePose { cube, pose };
            let placed = prepared.cubes.iter().map(place).collect();
            let sample = ClientMessage::Sample {
                tick: lab.early_tick(),
                placed,
                residuals: Default::default(),
            };
            lab.say(number, sample);
        },
    )
    .after(|lab, prepared| {
        prepared.cubes = lab.players[80..88]
            .iter()
            .map(|player| player.cube)
            .collect();
    }),
    Operation::new("datagram with 16 empty samples", |lab, _, _| {
        let sample = |_| datagram::Sample {
            tick: lab.early_tick(),
            placed: Vec::new(),
            residuals: Default::default(),
        };
        let uplink = Uplink {
            samples: (0..16).map(sample).collect(),
            ..Uplink::default()
        };
        lab.hear(51, uplink);
    }),
    Operation::new("step into another cell", jump_far)
        .with_cells()
        .after(until_views_change),
    Operation::new("tick: nobody moves", |_, _, _| {}).whole_tick(),
    Operation::new("tick: one moves", |lab, _, _| {
        let mut pose = lab.pose(3);
        pose.position.x += 100;
        lab.sample(3, pose);
    })
    .whole_tick(),
    Operation::new("tick: one joins (keyframe)", |lab, _, _| {
        lab.join("one", None)
    })
    .whole_tick(),
];

/// Goes to one place, from which all who go there see the same cells.
fn jump_far(lab: &mut Lab, _: &mut Prepared, number: usize) {
    let mut pose = lab.pose(number);
    pose.position.x = 2 * VIEW_DISTANCE as i32;
    pose.position.y = 0;
    lab.sample(number, pose);
}

fn until_views_change(lab: &mut Lab, _: &mut Prepared) {
    while !lab.views_change_next() {
        lab.rest(1);
    }
}

/// Runs every operation, once in one tick and then many times in another.
pub(crate) fn run(players: usize) {
    let mut rooms = [None, Some(VIEW_DISTANCE)].map(|distance| Lab::new(players, distance));
    rooms.iter_mut().for_each(|lab| settle(lab, players));
    for operation in OPERATIONS {
        let lab = &mut rooms[usize::from(operation.has_cells)];
        for count in operation.counts() {
            let mut prepared = Prepared::default();
            (operation.prepare)(lab, &mut prepared);
            measured_part(lab, &mut prepared, operation, *count);
            lab.check(operation.name);
            settle(lab, players);
        }
    }
}

/// Does an operation so many times, and ends the tick. Callgrind counts within this function.
#[inline(never)]
fn measured_part(lab: &mut Lab, prepared: &mut Prepared, operation: &Operation, count: usize) {
    for number in 0..count {
        (operation.act)(lab, prepared, number);
    }
    lab.tick();
    black_box(lab);
}

/// Lets everything come to rest, with as many players as there were. All players have just been sent something
/// then, so that the next tick has no heartbeats.
fn settle(lab: &mut Lab, players: usize) {
    lab.fill(players);
    lab.rest(40);
    let (number, cube) = (99, CubeId(0));
    lab.say(number, ClientMessage::Take { cube });
    lab.say(number, ClientMessage::Release { cube });
    lab.rest(3);
}
