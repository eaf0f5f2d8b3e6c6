//! Samples of players' cubes, applied to a room's world.

use cubesync_protocol::datagram::{Sample, Uplink};
use cubesync_protocol::motion::Codec;
use cubesync_protocol::{
    ClientMessage, Colour, CubeId, CubeKind, CubePose, Message, ServerMessage,
};
use cubesync_relay::room::speed::SpeedRule;
use cubesync_relay::room::world::World;

use crate::input::Input;

const HZ: u8 = 30;
/// Quanta per second, and what may be covered at once.
const TOP_SPEED: u32 = 20_480;
const PLAYERS: usize = 3;
const COLOUR: Colour = Colour {
    red: 1,
    green: 2,
    blue: 3,
};

/// Checks that cubes stay in the world and below the top speed, and that only their authorities move them.
pub fn check(bytes: &[u8]) {
    play(bytes, false);
}

/// Checks the same when players send datagrams as well.
pub(crate) fn check_with_datagrams(bytes: &[u8]) {
    play(bytes, true);
}

fn play(bytes: &[u8], has_datagrams: bool) {
    let mut input = Input(bytes);
    let mut world = World::new(HZ, Some(TOP_SPEED));
    let mut players = Vec::new();
    for name in ["a", "b", "c"] {
        let joined = world.join(name, COLOUR, SpeedRule::TopSpeed, None);
        players.push(joined.expect("there is room"));
    }
    let mut tick = 1;
    world.tick(tick);
    while !input.is_empty() {
        let [operation, argument] = input.array();
        let player = &mut players[usize::from(operation >> 4) % PLAYERS];
        let cube = CubeId(u64::from(argument) % 8);
        if has_datagrams && operation & 8 != 0 {
            let uplink = match operation % 2 {
                0 => Uplink::decode(input.short_bytes()).ok(),
                _ => Some(any_uplink(tick, &mut input)),
            };
            if uplink.is_some_and(|uplink| world.datagram(*player, &uplink).is_err()) {
                world.leave(*player);
            }
            check_truth(&world);
            continue;
        }
        match operation % 8 {
            0 => {
                let payload = input.short_bytes();
                if let Ok(ClientMessage::Sample {
                    tick,
                    placed,
                    residuals,
                }) = ClientMessage::decode(payload)
                {
                    // The room ends who cannot be understood.
                    if world.sample(*player, tick, &placed, &residuals).is_err() {
                        world.leave(*player);
                    }
                }
            }
            1 => {
                let at = tick
                    .saturating_add(u64::from(argument % 16))
                    .saturating_sub(4);
                let placed: Vec<_> = (0..argument / 16 % 4)
                    .map(|_| CubePose {
                        cube: CubeId(u64::from(input.byte()) % 8),
                        pose: match argument / 64 {
                            0 => input.any_pose(),
                            _ => input.near_pose(),
                        },
                    })
                    .collect();
                let residuals = input.short_bytes();
                if world.sample(*player, at, &placed, residuals).is_err() {
                    world.leave(*player);
                }
            }
            2 => drop(world.take(*player, cube)),
            3 => world.release(*player, cube),
            4 => world.ghost(*player),
            5 => drop(world.resume(*player, SpeedRule::TopSpeed)),
            6 if world.cube(*player).is_none() => {
                let pose = input.any_pose();
                let joined = world.join("d", COLOUR, SpeedRule::TopSpeed, Some(pose));
                *player = joined.expect("there is room");
            }
            7 if argument >= 224 => world.restart(*player, u32::from(argument % 4)),
            _ => {
                let before: Vec<_> = world.cubes().collect();
                let ticks = u64::from(argument % 8) + 1;
                tick += ticks;
                world.tick(tick);
                for cube in &before {
                    let Some(after) = world.pose(cube.cube) else {
                        continue;
                    };
                    // A second's way at once is the most there ever is, and what has come to it since.
                    let most = u64::from(TOP_SPEED) * (u64::from(HZ) + ticks) / u64::from(HZ);
                    let moved = cube.pose.position.distance(after.position);
                    assert!(moved <= most, "{moved} quanta in {ticks} ticks");
                    if cube.kind == CubeKind::Ghost {
                        assert_eq!(cube.pose, after, "a ghost stands");
                    }
                    if cube.kind == (CubeKind::Free { holder: None }) {
                        assert_eq!(cube.pose, after, "nobody moves what nobody holds");
                    }
                }
                for (player, told) in world.corrections() {
                    assert!(world.cube(player).is_some());
                    let ServerMessage::Correction { corrected, .. } = told else {
                        panic!("{told:?}");
                    };
                    assert_eq!(world.pose(corrected.cube), Some(corrected.pose));
                }
            }
        }
        check_truth(&world);
    }
}

/// Returns a datagram that a client could send, with ticks relative to the room's.
fn any_uplink(tick: u64, input: &mut Input<'_>) -> Uplink {
    let [releases, base, count] = input.array();
    let near = |step: u8| tick.saturating_add(u64::from(step % 16)).saturating_sub(8);
    let samples = (0..count % 5).map(|_| {
        let [step, placed] = input.array();
        let placed = (0..placed % 3).map(|_| CubePose {
            cube: CubeId(u64::from(input.byte()) % 8),
            pose: input.near_pose(),
        });
        Sample {
            tick: near(step),
            placed: placed.collect(),
            residuals: input.short_bytes().to_vec().into(),
        }
    });
    Uplink {
        samples: samples.collect(),
        releases: u32::from(releases % 4),
        base: if base == 0 { 0 } else { near(base) },
        number: 0,
        lost: 0,
    }
}

fn check_truth(world: &World) {
    for cube in world.cubes() {
        assert!(cube.pose.position.is_in_bounds());
        if let Some(motion) = world.motion(cube.cube) {
            assert!(motion.pose(&Codec::LIVE).position.is_in_bounds());
        }
        if let CubeKind::Free {
            holder: Some(holder),
        } = cube.kind
        {
            let holder = world.cube(holder).expect("a holder is there");
            assert_eq!(holder.kind, CubeKind::Player);
            assert!(world.viewpoints(holder.cube).count() >= 2);
        }
    }
}
