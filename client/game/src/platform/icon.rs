//! The window's icon: the free cube, seen from a corner.

use macroquad::math::{Vec2, vec2};
use macroquad::miniquad::conf::Icon;

/// Colours of the cube's top, left and right side, in sRGB.
const SIDES: [[u8; 3]; 3] = [[255, 214, 110], [214, 140, 30], [245, 176, 58]];
/// Number of samples per pixel in each direction, for smooth edges.
const SAMPLES: usize = 4;

/// Draws the icon in the three sizes that window systems ask for.
pub(crate) fn icon() -> Icon {
    Icon {
        small: draw::<16, { 16 * 16 * 4 }>(),
        medium: draw::<32, { 32 * 32 * 4 }>(),
        big: draw::<64, { 64 * 64 * 4 }>(),
    }
}

/// Draws the icon as rows of RGBA from the top.
fn draw<const SIDE: usize, const BYTES: usize>() -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    for (index, pixel) in bytes.chunks_exact_mut(4).enumerate() {
        let (x, y) = (index % SIDE * SAMPLES, index / SIDE * SAMPLES);
        let mut sum = [0; 3];
        let mut hits = 0;
        for sample in 0..SAMPLES * SAMPLES {
            let point = vec2((x + sample % SAMPLES) as f32, (y + sample / SAMPLES) as f32);
            if let Some(side) = side_at((point + 0.5) / (SIDE * SAMPLES) as f32) {
                hits += 1;
                sum = std::array::from_fn(|part| sum[part] + u32::from(SIDES[side][part]));
            }
        }
        if hits > 0 {
            let colour = sum.map(|part| (part / hits) as u8);
            pixel[..3].copy_from_slice(&colour);
            pixel[3] = (hits * 255 / (SAMPLES * SAMPLES) as u32) as u8;
        }
    }
    bytes
}

/// Returns the side of the cube that covers a point of the unit square. The three sides are rhombi
/// around the square's middle.
fn side_at(point: Vec2) -> Option<usize> {
    const REACH: f32 = 0.47;
    let p = (point - 0.5) / REACH;
    // Edges from the middle: down, to the upper left and to the upper right.
    let edges = [vec2(0.0, 1.0), vec2(-0.866, -0.5), vec2(0.866, -0.5)];
    let rhombi = [(1, 2), (0, 1), (2, 0)];
    rhombi.iter().position(|&(a, b)| {
        let (a, b) = (edges[a], edges[b]);
        let area = a.perp_dot(b);
        let (along_a, along_b) = (p.perp_dot(b) / area, a.perp_dot(p) / area);
        (0.0..=1.0).contains(&along_a) && (0.0..=1.0).contains(&along_b)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cube_shows_three_sides_and_the_corners_stay_empty() {
        assert_eq!(side_at(vec2(0.5, 0.2)), Some(0));
        assert_eq!(side_at(vec2(0.3, 0.6)), Some(1));
        assert_eq!(side_at(vec2(0.7, 0.6)), Some(2));
        assert_eq!(side_at(vec2(0.02, 0.02)), None);
    }
}
