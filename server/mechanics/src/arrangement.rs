//! How a room's loose cubes stand when it begins: "the cube" in the middle, and around it walls, pyramids and big
//! cubes that ask to be knocked over.

use cubesync_protocol::limits::MAX_LOOSE_CUBES;
use cubesync_protocol::{Colour, Pose, Position, Rotation, Width};
use cubesync_relay::mechanics::FieldCube;

/// One of so many cubes is a big one.
const BIG_EVERY: usize = 20;
const BIG_METRES: [f32; 3] = [2.0, 1.5, 2.5];
const BRICK_METRES: f32 = 0.625;
/// Space between neighbours, so that none touch before somebody touches them: rounding moves a cube by a millimetre.
const GAP_METRES: f32 = 0.01;
/// Bricks along a wall, and on top of each other.
const WALL: [usize; 2] = [7, 4];
/// Bricks along the edges of a pyramid's base; 30 in all.
const PYRAMID_BASE: usize = 4;
/// Between the middles of neighbouring structures.
const SITE_METRES: f32 = 7.0;

const GOLD: Colour = Colour {
    red: 0xF2,
    green: 0xB1,
    blue: 0x34,
};
const WALL_COLOURS: [Colour; 2] = [
    Colour {
        red: 0xC8,
        green: 0x5A,
        blue: 0x41,
    },
    Colour {
        red: 0xDB,
        green: 0x86,
        blue: 0x5C,
    },
];
const PYRAMID_COLOURS: [Colour; 2] = [
    Colour {
        red: 0x4F,
        green: 0x86,
        blue: 0xB0,
    },
    Colour {
        red: 0x7F,
        green: 0xB2,
        blue: 0xC9,
    },
];
const BIG_COLOUR: Colour = Colour {
    red: 0x8C,
    green: 0x8F,
    blue: 0xA3,
};

/// Returns the loose cubes of a new room, always the same for the same number of them, at most
/// [`MAX_LOOSE_CUBES`].
pub fn arrangement(count: usize) -> Vec<FieldCube> {
    let count = count.min(MAX_LOOSE_CUBES);
    let big = count / BIG_EVERY;
    let mut cubes = vec![cube(1.0, GOLD, [0.0, 0.0, 0.5])];
    let mut sites = (1..).map(site);
    let mut next_site = || sites.next().unwrap_or_default();
    let mut is_wall = true;
    while cubes.len() + big < count {
        let at = next_site();
        let bricks = if is_wall { wall(at) } else { pyramid(at) };
        let left = count - big - cubes.len();
        cubes.extend(bricks.into_iter().take(left));
        is_wall = !is_wall;
    }
    // Three big ones share a place.
    let big: Vec<usize> = (0..big).collect();
    for group in big.chunks(BIG_METRES.len()) {
        let [x, y] = next_site();
        for (&number, place) in group.iter().zip([[-1.6, -1.0], [1.6, -1.0], [0.0, 1.9]]) {
            let metres = BIG_METRES[number % BIG_METRES.len()];
            let at = [x + place[0], y + place[1], metres / 2.0];
            cubes.push(cube(metres, BIG_COLOUR, at));
        }
    }
    cubes.truncate(count);
    cubes
}

/// Returns the bricks of a wall from below, each second row half a brick farther.
fn wall([x, y]: [f32; 2]) -> Vec<FieldCube> {
    let step = BRICK_METRES + GAP_METRES;
    let [length, height] = WALL;
    let mut bricks = Vec::new();
    for row in 0..height {
        for column in 0..length {
            let along = column as f32 - (length - 1) as f32 / 2.0 + (row % 2) as f32 / 2.0;
            let at = [x + along * step, y, row_height(row)];
            bricks.push(cube(BRICK_METRES, WALL_COLOURS[(row + column) % 2], at));
        }
    }
    bricks
}

/// Returns the bricks of a pyramid from below.
fn pyramid([x, y]: [f32; 2]) -> Vec<FieldCube> {
    let step = BRICK_METRES + GAP_METRES;
    let mut bricks = Vec::new();
    for row in 0..PYRAMID_BASE {
        let length = PYRAMID_BASE - row;
        let along = |place: usize| (place as f32 - (length - 1) as f32 / 2.0) * step;
        for place in 0..length * length {
            let at = [
                x + along(place % length),
                y + along(place / length),
                row_height(row),
            ];
            bricks.push(cube(BRICK_METRES, PYRAMID_COLOURS[row % 2], at));
        }
    }
    bricks
}

fn row_height(row: usize) -> f32 {
    BRICK_METRES * (row as f32 + 0.5)
}

/// Returns the middle of a structure: places of a grid around the origin, ring after ring, the first ones in front of
/// and behind it.
fn site(number: usize) -> [f32; 2] {
    let mut left = number;
    let mut ring = 0;
    // Ring n has 8 n places.
    while left > 8 * ring {
        left -= 8 * ring;
        ring += 1;
    }
    let [ring, left] = [ring as i32, left.saturating_sub(1) as i32];
    // Around the square: its corners are the last places of its sides.
    let (side, along) = (left % 4, left / 4);
    let along = match along % 2 {
        0 => -(along / 2),
        _ => along / 2 + 1,
    };
    let [x, y] = match side {
        0 => [along, ring],
        1 => [-along, -ring],
        2 => [ring, -along],
        _ => [-ring, along],
    };
    [x, y].map(|place| place as f32 * SITE_METRES)
}

fn cube(metres: f32, colour: Colour, at: [f32; 3]) -> FieldCube {
    FieldCube {
        width: Width::from_metres(metres),
        colour,
        pose: Pose {
            position: Position::from_metres(at),
            rotation: Rotation::IDENTITY,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cubes_of_a_new_room_are_inside_the_world_and_do_not_overlap() {
        for count in (0..130).chain([500, 900, MAX_LOOSE_CUBES]) {
            let cubes = arrangement(count);
            assert_eq!(cubes.len(), count);
            for (index, cube) in cubes.iter().enumerate() {
                assert!(cube.pose.position.is_in_bounds());
                for other in &cubes[..index] {
                    let away = [0, 1, 2].map(|axis| {
                        let [a, b] = [cube, other].map(|it| it.pose.position.to_metres()[axis]);
                        let touch = (cube.width.to_metres() + other.width.to_metres()) / 2.0;
                        (a - b).abs() >= touch - 1e-3
                    });
                    assert!(away.contains(&true), "{count}: {cube:?} {other:?}");
                }
            }
        }
    }

    #[test]
    fn the_same_number_of_cubes_stands_in_the_same_way() {
        assert_eq!(arrangement(60), arrangement(60));
        assert_eq!(arrangement(MAX_LOOSE_CUBES + 1).len(), MAX_LOOSE_CUBES);
        let big = |cube: &&FieldCube| cube.width > Width::METRE;
        assert_eq!(arrangement(60).iter().filter(big).count(), 3);
    }
}
