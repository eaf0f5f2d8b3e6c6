//! The text of a world file: a line that says what it is, then a line for each loose cube, all as JSON.

use cubesync_protocol::limits::MAX_LOOSE_CUBES;
use cubesync_protocol::quantize::QUANTA_PER_METRE;
use cubesync_protocol::{Pose, Position, Rotation, Width};
use cubesync_relay::mechanics::{FieldCube, KeptCube, Velocity};
use serde::{Deserialize, Serialize};

const VERSION: u32 = 1;

/// Longest file. A line has 14 numbers at most, of a dozen digits each.
pub(super) const MAX_BYTES: usize = (MAX_LOOSE_CUBES + 1) * 512;

/// How far outside the world a number may be that rounding has put there.
const ROUNDING_M: f32 = 1.0 / QUANTA_PER_METRE;

/// The reason why a text is not the world of this server.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("it is longer than {MAX_BYTES} bytes")]
    TooLong,
    #[error("its first line does not say that it is a world file")]
    NoWorld,
    #[error("it has version {0}, and this server knows version {VERSION} only")]
    Version(u32),
    #[error("it has {found} cubes, and this server has {expected} (--cubes)")]
    Count { found: usize, expected: usize },
    #[error("it has {found} lines of cubes, and says that it has {expected}")]
    Cut { found: usize, expected: usize },
    #[error("line {0} is no cube")]
    NoCube(usize),
    #[error("line {0} has a cube outside the world, or a number that is not finite")]
    Outside(usize),
    #[error("line {0} has a cube of another size than this server's")]
    OtherWidth(usize),
}

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    cubesync_world: u32,
    #[serde(default)]
    cubes: usize,
}

/// A cube's line, in metres, radians and seconds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    width: f32,
    position: [f32; 3],
    rotation: [f32; 4],
    /// Missing where the cube is at rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    motion: Option<Motion>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Motion {
    linear: [f32; 3],
    angular: [f32; 3],
}

/// Returns the text of cubes.
pub(super) fn write(cubes: &[KeptCube]) -> serde_json::Result<Vec<u8>> {
    let head = Head {
        cubesync_world: VERSION,
        cubes: cubes.len(),
    };
    let mut text = serde_json::to_vec(&head)?;
    for cube in cubes {
        text.push(b'\n');
        serde_json::to_writer(&mut text, &Line::from(cube))?;
    }
    text.push(b'\n');
    Ok(text)
}

/// Returns the cubes of a text. It must have as many as the room, of the same sizes.
///
/// # Errors
/// [`Unusable`].
pub(super) fn parse(text: &[u8], room: &[FieldCube]) -> Result<Vec<KeptCube>, Unusable> {
    if text.len() > MAX_BYTES {
        return Err(Unusable::TooLong);
    }
    let mut lines = text.split(|byte| *byte == b'\n');
    let head = lines.next().unwrap_or_default();
    let head: Head = serde_json::from_slice(head).map_err(|_| Unusable::NoWorld)?;
    if head.cubesync_world != VERSION {
        return Err(Unusable::Version(head.cubesync_world));
    }
    let (found, expected) = (head.cubes, room.len());
    if found != expected {
        return Err(Unusable::Count { found, expected });
    }
    let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    if lines.len() != expected {
        let found = lines.len();
        return Err(Unusable::Cut { found, expected });
    }
    let cubes = (2..).zip(lines).zip(room);
    cubes
        .map(|((number, line), cube)| parse_cube(number, line, cube.width))
        .collect()
}

fn parse_cube(number: usize, line: &[u8], width: Width) -> Result<KeptCube, Unusable> {
    let line: Line = serde_json::from_slice(line).map_err(|_| Unusable::NoCube(number))?;
    let position = Position::from_metres(line.position);
    // A number that is not finite differs from every other.
    let mut axes = position.to_metres().into_iter().zip(line.position);
    let is_inside = axes.all(|(inside, axis)| (inside - axis).abs() <= ROUNDING_M);
    let motion = line.motion.iter().flat_map(|it| [it.linear, it.angular]);
    let mut others = motion.flatten().chain(line.rotation);
    if !is_inside || !others.all(f32::is_finite) {
        return Err(Unusable::Outside(number));
    }
    if Width::from_metres(line.width) != width {
        return Err(Unusable::OtherWidth(number));
    }
    Ok(KeptCube {
        width,
        pose: Pose {
            position,
            rotation: Rotation::from_quaternion(line.rotation),
        },
        velocity: line.motion.map(|motion| Velocity {
            linear_mps: motion.linear,
            angular_radps: motion.angular,
        }),
    })
}

impl From<&KeptCube> for Line {
    fn from(cube: &KeptCube) -> Self {
        Self {
            width: cube.width.to_metres(),
            position: cube.pose.position.to_metres(),
            rotation: cube.pose.rotation.to_quaternion(),
            motion: cube.velocity.map(|velocity| Motion {
                linear: velocity.linear_mps,
                angular: velocity.angular_radps,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use cubesync_protocol::Colour;
    use cubesync_protocol::limits::{MAX_HEIGHT_QUANTA, MAX_HORIZONTAL_QUANTA};
    use proptest::prelude::*;

    use super::*;

    const COLOUR: Colour = Colour {
        red: 1,
        green: 2,
        blue: 3,
    };

    fn room(cubes: &[KeptCube]) -> Vec<FieldCube> {
        let cube = |kept: &KeptCube| FieldCube {
            width: kept.width,
            colour: COLOUR,
            pose: Pose::default(),
        };
        cubes.iter().map(cube).collect()
    }

    fn cubes() -> Vec<KeptCube> {
        let mut cubes = vec![
            KeptCube {
                width: Width::METRE,
                pose: Pose::default(),
                velocity: None,
            };
            3
        ];
        cubes[1].pose.position = Position {
            x: MAX_HORIZONTAL_QUANTA,
            y: -MAX_HORIZONTAL_QUANTA,
            z: MAX_HEIGHT_QUANTA,
        };
        cubes[2].velocity = Some(Velocity {
            linear_mps: [0.0, -1.5, 3.0],
            angular_radps: [0.25, 0.0, 0.0],
        });
        cubes
    }

    #[test]
    fn a_world_is_a_text_that_people_can_read() {
        let cubes = cubes();
        let text = String::from_utf8(write(&cubes).unwrap()).unwrap();
        let expected = [
            r#"{"cubesync_world":1,"cubes":3}"#,
            r#"{"width":1.0,"position":[0.0,0.0,0.0],"rotation":[0.0,0.0,0.0,1.0]}"#,
            r#"{"width":1.0,"position":[256.0,-256.0,32.0],"rotation":[0.0,0.0,0.0,1.0]}"#,
            r#"{"width":1.0,"position":[0.0,0.0,0.0],"rotation":[0.0,0.0,0.0,1.0],"motion":{"linear":[0.0,-1.5,3.0],"angular":[0.25,0.0,0.0]}}"#,
            "",
        ];
        assert_eq!(text, expected.join("\n"));
        assert_eq!(parse(text.as_bytes(), &room(&cubes)), Ok(cubes));
    }

    #[test]
    fn a_text_that_is_not_this_servers_world_is_named() {
        let cubes = cubes();
        let good = String::from_utf8(write(&cubes).unwrap()).unwrap();
        let check = |text: &str, error| {
            assert_eq!(parse(text.as_bytes(), &room(&cubes)), Err(error), "{text}");
        };
        check("", Unusable::NoWorld);
        check("a letter to mother", Unusable::NoWorld);
        check(
            &good.replace("_world\":1", "_world\":2"),
            Unusable::Version(2),
        );
        check(r#"{"cubesync_world":7}"#, Unusable::Version(7));
        let (found, expected) = (2, 3);
        check(
            &good.replace("cubes\":3", "cubes\":2"),
            Unusable::Count { found, expected },
        );
        let (head, last) = good.trim_end().rsplit_once('\n').unwrap();
        check(head, Unusable::Cut { found, expected });
        let cut = &last[..last.len() / 2];
        check(&format!("{head}\n{cut}"), Unusable::NoCube(4));
        check(&good.replace("-1.5", "1e39"), Unusable::Outside(4));
        check(&good.replace("-1.5", "1e400"), Unusable::NoCube(4));
        check(&good.replace("-1.5", "NaN"), Unusable::NoCube(4));
        check(&good.replace("256.0,-", "256.1,-"), Unusable::Outside(3));
        check(&good.replace("32.0", "-0.5"), Unusable::Outside(3));
        check(&good.replacen("1.0,", "2.0,", 1), Unusable::OtherWidth(2));
        check(&good.replacen("width", "breadth", 1), Unusable::NoCube(2));
        check(&" ".repeat(MAX_BYTES + 1), Unusable::TooLong);
    }

    #[test]
    fn the_largest_world_can_be_read_again() {
        let wildest = KeptCube {
            width: Width::METRE,
            pose: Pose {
                position: Position {
                    x: -130_559,
                    y: -130_559,
                    z: 16_383,
                },
                rotation: Rotation::from_quaternion([-0.61, -0.33, -0.47, 0.123]),
            },
            velocity: Some(Velocity {
                linear_mps: [-1.234_567_8e-38; 3],
                angular_radps: [-1.234_567_8e-38; 3],
            }),
        };
        let cubes = vec![wildest; MAX_LOOSE_CUBES];
        let text = write(&cubes).unwrap();
        assert_eq!(parse(&text, &room(&cubes)), Ok(cubes));
    }

    proptest! {
        #[test]
        fn whatever_a_file_has_is_a_world_or_an_error(at in 0usize..400, byte: u8, text: Vec<u8>) {
            let cubes = cubes();
            let mut damaged = write(&cubes).unwrap();
            let at = at % damaged.len();
            damaged[at] = byte;
            for text in [damaged, text] {
                for cube in parse(&text, &room(&cubes)).into_iter().flatten() {
                    prop_assert!(cube.pose.position.is_in_bounds());
                    let velocity = cube.velocity.unwrap_or_default();
                    let numbers = [velocity.linear_mps, velocity.angular_radps];
                    prop_assert!(numbers.into_iter().flatten().all(f32::is_finite));
                }
            }
        }
    }
}
